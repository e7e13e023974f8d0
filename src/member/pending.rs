//! Who dials us: connections until they have said who they are, questions of the
//! utility protocol, and read-only clients.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::Member;
use super::utility::Reply;
use crate::address::Address;
use crate::limits::{self, CpuShare};
use crate::links::budget::Class;
use crate::links::budget::cpu::Account;
use crate::links::connection::{Closed, Connection};
use crate::links::leader::Peer;
use crate::reactor::{self, Instant, TcpListener, TcpStream, Timer};
use crate::wire::message::{Hello, Message};
use crate::wire::{Session, SessionError, Value};

/// Who is at the other end of an accepted connection.
#[derive(Clone)]
enum PeerIdentity {
    Member(Address),
    ReadOnly,
}

/// The pace of accepting, with a time for each instead of what it costs.
const ACCEPTING: CpuShare = CpuShare {
    per_mille: 1_000,
    burst: limits::ACCEPT_PERIOD.saturating_mul(limits::ACCEPT_BURST),
    pause_max: limits::ACCEPT_PERIOD,
};

#[derive(Default)]
struct Greeting {
    identity: RefCell<Option<PeerIdentity>>,
    utility: Cell<bool>,
}

impl Member {
    /// Takes connections until it is dropped, and no more of them than it can
    /// serve: the others wait in the kernel's queue.
    pub(super) async fn accept(self: Rc<Self>, listener: TcpListener) {
        let mut pace = Account::new(ACCEPTING, Instant::now());
        loop {
            if let Some(pause) = pace.pause(Instant::now()) {
                Timer::after(pause).await;
            }
            match listener.accept().await {
                Ok((stream, from)) => {
                    pace.charge(Instant::now(), limits::ACCEPT_PERIOD);
                    self.clone().admit_pending(stream, from);
                }
                Err(error) => {
                    // Out of descriptors, most likely: let some be closed.
                    if let Some(times) = self.counts.tallies.count("accept") {
                        let name = &self.name;
                        log::warn!("{name}: cannot accept a connection: {error}{times}");
                    }
                    Timer::after(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit_pending(self: Rc<Self>, stream: TcpStream, from: SocketAddr) {
        let allowed = &self.config.allow_from;
        if !allowed.is_empty() && !allowed.iter().any(|network| network.contains(from.ip())) {
            let why = format_args!("{} is in no network of allow_from", from.ip());
            self.refuse("allow_from", why);
            return;
        }
        let session = Session::accept(&self.keys.borrow(), reactor::draw());
        let connection = Connection::new(stream, session);
        self.make_room();
        self.sockets
            .pending
            .borrow_mut()
            .insert(connection.id, connection.clone());
        let member = self.clone();
        reactor::spawn(async move { member.serve_pending(connection, from).await }).detach();
    }

    /// Shows out who has been a stranger for longest: a crowd that says nothing
    /// must not keep a member out.
    fn make_room(&self) {
        let oldest = {
            let mut pending = self.sockets.pending.borrow_mut();
            (pending.len() >= limits::PENDING_CONNECTIONS_MAX)
                .then(|| pending.pop_first())
                .flatten()
        };
        if let Some((_, oldest)) = oldest {
            oldest.close();
            self.refuse("crowd", format_args!("too many connections at once"));
        }
    }

    /// Counts a refusal, and says it unless others of its kind were just said.
    pub(super) fn refuse(&self, kind: &'static str, why: fmt::Arguments<'_>) {
        let count = self.counts.refused_connections.get().saturating_add(1);
        self.counts.refused_connections.set(count);
        if let Some(times) = self.counts.tallies.count(kind) {
            log::warn!("{}: connection refused: {why}{times}", self.name);
        }
    }

    async fn serve_pending(self: Rc<Self>, connection: Rc<Connection>, from: SocketAddr) {
        let greeting = Rc::new(Greeting::default());
        let serve = connection.serve(|value| {
            let (member, connection, greeting) =
                (self.clone(), connection.clone(), greeting.clone());
            async move { member.on_value(&connection, &greeting, &value, from).await }
        });
        let late = async {
            Timer::after(limits::HELLO_TIME_MAX).await;
            if greeting.identity.borrow().is_none() && !greeting.utility.get() {
                connection.close();
            }
            // A utility connection may stay silent while its request is served.
            Timer::after(limits::UTILITY_TIME_MAX).await;
            if greeting.identity.borrow().is_none() {
                connection.close();
            }
            std::future::pending::<Closed>().await
        };
        let closed = smol::future::or(serve, late).await;
        self.sockets.pending.borrow_mut().remove(&connection.id);
        let identity = greeting.identity.borrow_mut().take();
        match (&closed, &identity) {
            (_, Some(PeerIdentity::Member(_))) => {}
            (Closed::OverBudget, _) => {
                self.refuse("memory", format_args!("{}: {closed}", from.ip()));
            }
            (Closed::Incomplete, _) => {
                self.refuse("incomplete", format_args!("{}: {closed}", from.ip()));
            }
            (Closed::Unreadable(error), _) => self.report_unreadable(from, error),
            _ => {}
        }
        match identity {
            None => {}
            Some(PeerIdentity::Member(address)) => {
                self.disconnected(&address, &connection, &closed)
            }
            Some(PeerIdentity::ReadOnly) => {
                self.sockets.read_only.borrow_mut().remove(&connection.id);
                self.lead_without(&Peer::ReadOnly(connection.id.0), &connection);
            }
        }
    }

    fn report_unreadable(&self, from: SocketAddr, error: &SessionError) {
        self.counts
            .last_unreadable
            .set(Some((from.ip(), Instant::now())));
        let count = self.counts.unreadable.get().saturating_add(1);
        self.counts.unreadable.set(count);
        if let Some(times) = self.counts.tallies.count("unreadable") {
            log::warn!(
                "{}: {from} sent an unreadable message: {error}; password mismatch?{times}",
                self.name,
            );
        }
    }

    async fn on_value(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        greeting: &Greeting,
        value: &Value,
        from: SocketAddr,
    ) {
        let identity = greeting.identity.borrow().clone();
        match identity {
            Some(PeerIdentity::Member(address)) => self.on_link(&address, connection, value).await,
            Some(PeerIdentity::ReadOnly) => self.on_read_only(connection, value).await,
            None => match Hello::decode(value) {
                Ok(Hello::Utility(request)) => {
                    greeting.utility.set(true);
                    // Here and not in a task: one request of a connection at a time.
                    match self.on_utility(request, from).await {
                        Reply::Members(reply) => connection.send(&reply),
                        Reply::Status(reply) => connection.send(&*reply),
                        Reply::Text(reply) => connection.send(&Value::str(&reply)),
                    }
                }
                Ok(hello) => self.greet(connection, greeting, hello, from).await,
                Err(_) => connection.close(),
            },
        }
    }

    async fn greet(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        greeting: &Greeting,
        hello: Hello,
        from: SocketAddr,
    ) {
        match hello {
            Hello::Member(address) => {
                // Whoever says to be us would be heard as our own leader.
                if address == self.me || !self.await_member(&address).await {
                    if let Some(times) = self.counts.tallies.count("no member") {
                        log::info!(
                            "{}: {from} says it is {address}, which is no member{times}",
                            self.name
                        );
                    }
                    connection.close();
                    return;
                }
                // It may have been shown out while it waited.
                if !connection.is_up() {
                    return;
                }
                *greeting.identity.borrow_mut() = Some(PeerIdentity::Member(address.clone()));
                self.sockets.pending.borrow_mut().remove(&connection.id);
                connection.admit(Class::Member, self.account_of(&address));
                self.connected(&address, connection, true);
            }
            Hello::ReadOnly => {
                let oldest = {
                    let mut clients = self.sockets.read_only.borrow_mut();
                    let full = clients.len() >= limits::READ_ONLY_MAX;
                    full.then(|| clients.pop_first()).flatten()
                };
                if let Some((_, oldest)) = oldest {
                    oldest.close();
                    let why = format_args!("too many read-only clients at once");
                    self.refuse("readers", why);
                }
                let class = Class::of_reader(!self.keys.borrow().is_empty());
                connection.admit(class, class.account());
                *greeting.identity.borrow_mut() = Some(PeerIdentity::ReadOnly);
                self.sockets.pending.borrow_mut().remove(&connection.id);
                self.sockets
                    .read_only
                    .borrow_mut()
                    .insert(connection.id, connection.clone());
                self.lead_peer(Peer::ReadOnly(connection.id.0), connection);
            }
            Hello::Utility(_) => {}
        }
    }

    /// Whether the address is a member's, now or in a moment: the `add` of a
    /// node that has just been added may still be on its way to us. If no leader is
    /// heard it may have to come from that very node.
    async fn await_member(self: &Rc<Self>, address: &Address) -> bool {
        let found = async {
            loop {
                let changed = self.changed.listen();
                if self.hears(address) {
                    return true;
                }
                changed.await;
            }
        };
        let newcomer = async {
            self.newcomer_heard(address).await;
            true
        };
        let limit = async {
            Timer::after(limits::PARKED_HELLO_TIME).await;
            false
        };
        smol::future::or(found, smol::future::or(newcomer, limit)).await
    }

    async fn on_read_only(self: &Rc<Self>, connection: &Rc<Connection>, value: &Value) {
        match Message::decode(value) {
            Ok(Message::NextNodeIdx(reply)) => {
                self.on_reply(&Peer::ReadOnly(connection.id.0), connection, &reply);
            }
            Ok(Message::ApplyCommand {
                command,
                request_id,
            }) => {
                self.on_apply_command(connection, command, request_id).await;
            }
            Ok(_) => {}
            Err(_) => connection.close(),
        }
    }
}
