//! Who is connected: we dial the members whose address is smaller than ours,
//! the others dial us (spec 1.2). One live connection a member.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Member;
use super::assembly::Assembly;
use super::inbound::{self, Pending};
use super::utility::Reply;
use crate::config::limits;
use crate::links::connection::{Closed, Connection};
use crate::links::leader::{ConnId, Peer};
use crate::links::resolve;
use crate::raft::runtime;
use crate::reactor::{TcpListener, TcpStream, Timer};
use crate::wire::message::{Hello, Message};
use crate::wire::{Address, Key, Session, SessionError, Term, Value};

/// What is known of one member's connection.
#[derive(Default)]
pub struct Link {
    /// The live connection.
    pub connection: Option<Rc<Connection>>,
    /// The greatest term it has shown.
    pub seen: Term,
    /// The term in which it gave us its last vote.
    pub granted: Term,
    /// On this connection nothing older than this term's vote can come (H9 b).
    pub fenced: Option<(ConnId, Term)>,
    /// Appends of an earlier leadership of ours may still be answered on the
    /// connection (H9 c).
    pub unanswered: bool,
    /// What it sends in pieces.
    pub assembly: Assembly,
    /// Answers that wait for the disk.
    pub answers: Option<smol::channel::Sender<Pending>>,
    /// How many.
    pub answers_waiting: Rc<Cell<usize>>,
    dialling: Option<smol::Task<()>>,
    reported_down: bool,
}

impl Member {
    /// Takes connections until it is dropped.
    pub(super) async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => self.clone().admit_stranger(stream, from),
                Err(error) => {
                    // Out of descriptors, most likely: let some be closed.
                    log::warn!("{}: cannot accept a connection: {error}", self.name);
                    Timer::after(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit_stranger(self: Rc<Self>, stream: TcpStream, from: SocketAddr) {
        let allowed = &self.config.allow_from;
        if !allowed.is_empty() && !allowed.iter().any(|network| network.contains(from.ip())) {
            let count = self.refused_connections.get().saturating_add(1);
            self.refused_connections.set(count);
            if count.is_power_of_two() {
                log::warn!(
                    "{}: {} is in no network of allow_from; {count} connections refused so far",
                    self.name,
                    from.ip()
                );
            }
            return;
        }
        if self.strangers.get() >= limits::STRANGERS_MAX {
            let count = self.refused_connections.get().saturating_add(1);
            self.refused_connections.set(count);
            if count.is_power_of_two() {
                log::warn!(
                    "{}: too many connections at once, {count} refused so far",
                    self.name
                );
            }
            return;
        }
        self.strangers.set(self.strangers.get().saturating_add(1));
        let member = self.clone();
        runtime::spawn(async move { member.serve_stranger(stream, from).await }).detach();
    }

    async fn serve_stranger(self: Rc<Self>, stream: TcpStream, from: SocketAddr) {
        let session = Session::accept(&self.keys.borrow(), rand::random());
        let connection = Connection::new(stream, session);
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
        let identity = greeting.identity.borrow_mut().take();
        match identity {
            None => {
                self.strangers.set(self.strangers.get().saturating_sub(1));
                if let Closed::Unreadable(error) = &closed {
                    self.report_unreadable(from, error);
                }
            }
            Some(Identity::Member(address)) => self.disconnected(&address, &connection, &closed),
            Some(Identity::Guest) => {
                self.guests.borrow_mut().remove(&connection.id);
                self.lead_without(&Peer::ReadOnly(connection.id.0), &connection);
            }
        }
    }

    fn report_unreadable(&self, from: SocketAddr, error: &SessionError) {
        let count = self.unreadable.get().saturating_add(1);
        self.unreadable.set(count);
        if count.is_power_of_two() {
            log::warn!(
                "{}: {from} sent what cannot be read: {error}; is its password ours? \
                 ({count} so far)",
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
            Some(Identity::Member(address)) => self.on_link(&address, connection, value).await,
            Some(Identity::Guest) => self.on_guest(connection, value).await,
            None => match Hello::decode(value) {
                Ok(Hello::Utility(request)) => {
                    greeting.utility.set(true);
                    let (member, connection) = (self.clone(), connection.clone());
                    runtime::spawn(async move {
                        match member.on_utility(request).await {
                            Reply::Members(reply) => connection.send(&reply),
                            Reply::Status(reply) => connection.send(&*reply),
                            Reply::Text(reply) => connection.send(&Value::str(&reply)),
                        }
                    })
                    .detach();
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
                    log::info!(
                        "{}: {from} says it is {address}, which is no member",
                        self.name
                    );
                    connection.close();
                    return;
                }
                *greeting.identity.borrow_mut() = Some(Identity::Member(address.clone()));
                self.strangers.set(self.strangers.get().saturating_sub(1));
                self.connected(&address, connection);
            }
            Hello::ReadOnly => {
                if self.guests.borrow().len() >= limits::READ_ONLY_MAX {
                    connection.close();
                    return;
                }
                *greeting.identity.borrow_mut() = Some(Identity::Guest);
                self.strangers.set(self.strangers.get().saturating_sub(1));
                self.guests
                    .borrow_mut()
                    .insert(connection.id, connection.clone());
                self.lead_peer(Peer::ReadOnly(connection.id.0), connection);
            }
            Hello::Utility(_) => {}
        }
    }

    /// Whether the address is a member's, now or in a moment: the `add` of a
    /// node that has just been added may still be on its way to us.
    async fn await_member(&self, address: &Address) -> bool {
        let found = async {
            loop {
                let changed = self.changed.listen();
                if self.is_member(address) {
                    return true;
                }
                changed.await;
            }
        };
        let limit = async {
            Timer::after(limits::PARKED_HELLO_TIME).await;
            false
        };
        smol::future::or(found, limit).await
    }

    async fn on_link(self: &Rc<Self>, peer: &Address, connection: &Rc<Connection>, value: &Value) {
        match Message::decode(value) {
            Ok(message) => self.on_message(peer, connection, message).await,
            Err(error) => {
                log::warn!(
                    "{}: {peer} sent a message that makes no sense: {error}",
                    self.name
                );
                connection.close();
            }
        }
    }

    async fn on_guest(self: &Rc<Self>, connection: &Rc<Connection>, value: &Value) {
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

    /// A member's connection is up; it replaces an older one.
    fn connected(self: &Rc<Self>, peer: &Address, connection: &Rc<Connection>) {
        let old = {
            let mut links = self.links.borrow_mut();
            let link = links.entry(peer.clone()).or_default();
            let old = link.connection.replace(connection.clone());
            let (answers, waiting, task) = inbound::start_answers(self, peer, connection);
            task.detach();
            link.answers = Some(answers);
            link.answers_waiting = waiting;
            link.assembly = Assembly::default();
            link.unanswered = false;
            link.granted = Term::ZERO;
            link.fenced = None;
            link.reported_down = false;
            old
        };
        if let Some(old) = old {
            old.close();
        }
        log::info!("{}: {peer} connected", self.name);
        self.peerage.forget(peer);
        self.verify_peers();
        if self.may_teach(peer) {
            self.lead_peer(Peer::Member(peer.clone()), connection);
        } else {
            self.peerage.teach_later(peer);
        }
        self.notify();
    }

    fn disconnected(&self, peer: &Address, connection: &Rc<Connection>, why: &Closed) {
        self.lead_without(&Peer::Member(peer.clone()), connection);
        let mut links = self.links.borrow_mut();
        let Some(link) = links.get_mut(peer) else {
            return;
        };
        if link
            .connection
            .as_ref()
            .is_some_and(|live| live.id == connection.id)
        {
            link.connection = None;
            link.answers = None;
            drop(links);
            log::info!("{}: {peer} disconnected: {why}", self.name);
        }
        self.notify();
    }

    /// Ends every connection, and dials no more: this member's life is over.
    pub(super) fn hang_up(&self) {
        let links = std::mem::take(&mut *self.links.borrow_mut());
        for connection in links.into_values().filter_map(|link| link.connection) {
            connection.close();
        }
        let guests = std::mem::take(&mut *self.guests.borrow_mut());
        for connection in guests.into_values() {
            connection.close();
        }
    }

    /// Starts to dial the members that are ours to dial, and drops the links
    /// of those that are members no more.
    pub(super) fn sync_links(self: &Rc<Self>) {
        let members = self.replica.borrow().log.members().clone();
        let mut links = self.links.borrow_mut();
        for address in members.iter().filter(|address| **address != self.me) {
            let link = links.entry(address.clone()).or_default();
            // H: a peer that is dialled against the order never recovers
            // (spec 1.6).
            if *address < self.me && link.dialling.is_none() {
                let dial = self.clone().dial(address.clone());
                link.dialling = Some(runtime::spawn(dial));
            }
        }
        let mut gone = Vec::new();
        links.retain(|address, link| {
            let keep = members.contains(address);
            if !keep {
                gone.extend(link.connection.take().map(|c| (address.clone(), c)));
            }
            keep
        });
        drop(links);
        for (address, connection) in gone {
            connection.close();
            if let Some(leadership) = self.leadership.borrow_mut().as_mut() {
                leadership.leader.removed(&Peer::Member(address));
            }
        }
    }

    /// Keeps a connection to a member with a smaller address: again at once
    /// when it is lost, and with a pause when it cannot be made.
    async fn dial(self: Rc<Self>, peer: Address) {
        let pause = self
            .config
            .timing
            .connection_retry_time
            .min(limits::REDIAL_PAUSE_MAX);
        let mut refused = 0;
        loop {
            let began = Instant::now();
            match resolve::connect(&peer).await {
                Ok(stream) => {
                    // While a password is being changed the peer may have the old one.
                    let key = self.keys.borrow().iter().cycle().nth(refused).cloned();
                    if self.serve_dialled(&peer, stream, key).await {
                        refused = 0;
                    } else {
                        refused = (refused + 1) % limits::PASSWORDS_MAX;
                    }
                }
                Err(error) => self.report_unreachable(&peer, &error),
            }
            // A peer that refuses us at once is not to be hammered.
            let next = began + pause;
            if next > Instant::now() {
                Timer::at(next).await;
            }
        }
    }

    fn report_unreachable(&self, peer: &Address, error: &io::Error) {
        let mut links = self.links.borrow_mut();
        if let Some(link) = links.get_mut(peer)
            && !std::mem::replace(&mut link.reported_down, true)
        {
            log::info!(
                "{}: {peer} cannot be reached: {error}; trying on",
                self.name
            );
        }
    }

    /// Serves a connection that we made; whether the peer understood us.
    async fn serve_dialled(
        self: &Rc<Self>,
        peer: &Address,
        stream: TcpStream,
        key: Option<Arc<Key>>,
    ) -> bool {
        let hello = Hello::Member(self.me.clone());
        let session = Session::dial(hello, key, rand::random());
        let connection = Connection::new(stream, session);
        let announced = Cell::new(false);
        let announce = || {
            if connection.is_up() && !announced.replace(true) {
                self.connected(peer, &connection);
            }
        };
        announce();
        let connection = &connection;
        let serve = connection.serve_with(&announce, |value| {
            let (member, connection) = (self.clone(), connection.clone());
            let peer = peer.clone();
            async move { member.on_link(&peer, &connection, &value).await }
        });
        let late = async {
            Timer::after(limits::HELLO_TIME_MAX).await;
            if !announced.get() {
                connection.close();
            }
            std::future::pending::<Closed>().await
        };
        let closed = smol::future::or(serve, late).await;
        if announced.get() {
            self.disconnected(peer, connection, &closed);
        } else {
            let why = match &closed {
                Closed::Unreadable(error) => {
                    format!("it sent what cannot be read: {error}; is its password ours?")
                }
                _ => "it closed the connection; is its password ours?".into(),
            };
            self.report_unreachable(peer, &io::Error::other(why));
        }
        announced.get()
    }
}

/// Who is at the other end of an accepted connection.
#[derive(Clone)]
enum Identity {
    Member(Address),
    Guest,
}

#[derive(Default)]
struct Greeting {
    identity: std::cell::RefCell<Option<Identity>>,
    utility: Cell<bool>,
}
