//! The links: we dial the members whose address is smaller than ours, the others
//! dial us (spec 1.2). One live connection a member.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::Member;
use super::answers;
use super::peer_link::Exchange;
use crate::address::Address;
use crate::limits;
use crate::links::budget::Class;
use crate::links::budget::cpu::Account;
use crate::links::connection::{Closed, Connection};
use crate::links::leader::Peer;
use crate::links::resolve;
use crate::reactor::{self, Instant, TcpStream, Timer};
use crate::wire::message::{Hello, Message};
use crate::wire::{Key, Session, Value};

impl Member {
    pub(super) async fn on_link(
        self: &Rc<Self>,
        peer: &Address,
        connection: &Rc<Connection>,
        value: &Value,
    ) {
        self.prove(peer, connection);
        match Message::decode(value) {
            Ok(message) => self.on_message(peer, connection, message).await,
            Err(error) => {
                if let Some(times) = self.counts.tallies.count("malformed") {
                    let name = &self.name;
                    log::warn!("{name}: malformed message from {peer}: {error}{times}");
                }
                connection.close();
            }
        }
    }

    /// The account of a member, over all its connections.
    pub(super) fn account_of(&self, peer: &Address) -> Rc<RefCell<Account>> {
        let mut links = self.sockets.links.borrow_mut();
        let link = links.entry(peer.clone()).or_default();
        let account = link.account.get_or_insert_with(|| Class::Member.account());
        account.clone()
    }

    /// A member's connection is up; it replaces an older one.
    /// `proven`: it has shown already that it understands us.
    pub(super) fn connected(
        self: &Rc<Self>,
        peer: &Address,
        connection: &Rc<Connection>,
        proven: bool,
    ) {
        let old = {
            let mut links = self.sockets.links.borrow_mut();
            let link = links.entry(peer.clone()).or_default();
            let old = link.connection.replace(connection.clone());
            let (answers, waiting, task) = answers::start_answers(self, peer, connection);
            task.detach();
            link.exchange = Exchange {
                answers: Some(answers),
                answers_waiting: waiting,
                ..Exchange::default()
            };
            old
        };
        if let Some(old) = old {
            old.close();
        }
        if proven {
            self.prove(peer, connection);
        }
        self.elector.peers.borrow_mut().connected_anew(peer);
        self.verify_peers();
        // A newcomer is not led before its `add` has come.
        if !self.is_newcomer(peer) && self.may_teach(peer) {
            self.lead_peer(Peer::Member(peer.clone()), connection);
        } else {
            self.elector.peers.borrow_mut().teach_later(peer);
        }
        self.notify();
    }

    /// The peer understands what we say on this connection.
    fn prove(&self, peer: &Address, connection: &Connection) {
        let mut links = self.sockets.links.borrow_mut();
        let Some(link) = links.get_mut(peer) else {
            return;
        };
        let live = link.connection.as_ref();
        if link.exchange.proven || live.is_none_or(|live| live.id != connection.id) {
            return;
        }
        link.exchange.proven = true;
        link.report.mismatch = None;
        link.report.reported_down = false;
        let (now, quiet) = (Instant::now(), limits::TALLY_QUIET);
        let said = link
            .report
            .tally
            .count(now, quiet, limits::TALLY_MEMBER_LINES);
        link.report.said = said.is_some();
        if let Some(times) = said {
            log::info!("{}: {peer} connected{times}", self.name);
        }
    }

    pub(super) fn disconnected(&self, peer: &Address, connection: &Rc<Connection>, why: &Closed) {
        self.lead_without(&Peer::Member(peer.clone()), connection);
        let mut links = self.sockets.links.borrow_mut();
        let Some(link) = links.get_mut(peer) else {
            return;
        };
        if link
            .connection
            .as_ref()
            .is_some_and(|live| live.id == connection.id)
        {
            link.connection = None;
            link.exchange.answers = None;
            let (proven, said) = (link.exchange.proven, link.report.said);
            drop(links);
            if !proven {
                self.report_mismatch(peer, why);
            } else if said {
                log::info!("{}: {peer} disconnected: {why}", self.name);
            }
        }
        self.notify();
    }

    /// Ends every connection, and dials no more: this member's life is over.
    pub(super) fn hang_up(&self) {
        let links = std::mem::take(&mut *self.sockets.links.borrow_mut());
        for connection in links.into_values().filter_map(|link| link.connection) {
            connection.close();
        }
        let clients = std::mem::take(&mut *self.sockets.read_only.borrow_mut());
        for connection in clients.into_values() {
            connection.close();
        }
    }

    /// Whether a member is ours to dial. A peer that is dialled against the order never
    /// recovers (spec 1.6); as a reader, which is no member, we dial all.
    pub(super) fn dials(&self, peer: &Address) -> bool {
        *peer < self.me || self.reads_only()
    }

    /// Starts to dial the members that are ours to dial, and drops the links of those that
    /// are members no more.
    pub(super) fn sync_links(self: &Rc<Self>) {
        let mut members = self.replica.borrow().log.members().clone();
        members.extend(self.newcomers.newcomer.borrow().iter().cloned());
        let mut links = self.sockets.links.borrow_mut();
        for address in members.iter().filter(|address| **address != self.me) {
            let link = links.entry(address.clone()).or_default();
            if self.dials(address) && link.dialling.is_none() {
                let dial = self.clone().dial(address.clone());
                link.dialling = Some(reactor::spawn(dial));
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

    /// Keeps a connection to a member that is ours to dial: again at once
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
            let elsewhere = self.elector.peers.borrow().leads_elsewhere(&peer);
            // A member that dials us is read from as well.
            let read = self.reads_only() && self.connection(&peer).is_some();
            if read || elsewhere || !self.dials(&peer) || !self.may_dial() {
                Timer::after(pause).await;
                continue;
            }
            match resolve::connect(&peer).await {
                Ok(stream) => {
                    // While a password is being changed the peer may have the old one.
                    let key = self.keys.borrow().iter().cycle().nth(refused).cloned();
                    let hello = match self.reads_only() {
                        true => Hello::ReadOnly,
                        false => Hello::Member(self.me.clone()),
                    };
                    if self.serve_dialled(&peer, stream, hello, key).await {
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
        let mut links = self.sockets.links.borrow_mut();
        if let Some(link) = links.get_mut(peer)
            && !std::mem::replace(&mut link.report.reported_down, true)
        {
            log::info!("{}: {peer} cannot be reached: {error}; retrying", self.name);
        }
    }

    /// What may be wrong where a peer ends each connection before it says anything:
    /// PySyncObj does so, without a word, with whom it does not understand or know.
    fn report_mismatch(&self, peer: &Address, why: &Closed) {
        let likely = self.closed_at_once(why);
        self.note_mismatch(peer, &likely.to_string());
        self.report_unreachable(peer, &likely);
    }

    fn closed_at_once(&self, why: &Closed) -> io::Error {
        let me = &self.me;
        let likely = match why {
            Closed::Unreadable(error) => {
                format!("it sent an unreadable message: {error}; password mismatch?")
            }
            _ => format!(
                "it closes every connection at once: password mismatch, or {me} is not among its \
                 partner_addrs?"
            ),
        };
        io::Error::other(likely)
    }

    /// Serves a connection that we made; whether the peer understood us.
    async fn serve_dialled(
        self: &Rc<Self>,
        peer: &Address,
        stream: TcpStream,
        hello: Hello,
        key: Option<Arc<Key>>,
    ) -> bool {
        // With a key the peer has shown that it has the same once we may speak.
        let proven = key.is_some();
        let session = Session::dial(hello, key, reactor::draw());
        let connection = Connection::new(stream, session);
        connection.admit(Class::Member, self.account_of(peer));
        let announced = Cell::new(false);
        let announce = || {
            if connection.is_up() && !announced.replace(true) {
                self.connected(peer, &connection, proven);
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
            Timer::after(limits::LINK_PROOF_TIME).await;
            if announced.get() {
                self.prove(peer, connection);
            }
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
            self.report_mismatch(peer, &closed);
        }
        announced.get()
    }
}
