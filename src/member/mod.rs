//! One cluster's member: what a witness is in one Raft group.
//!
//! It ties the rooms together and decides nothing that they could decide: the
//! engine elects and commits, `election` says whether our word counts and when to
//! stand, `links::follower` and `links::leader` translate, `kv` applies. Here it is
//! said when each is asked:
//!
//! * [`clock`]: when to campaign;
//! * [`campaign`]: whether to;
//! * [`standing`]: what the peers' `status` says (S13);
//! * [`recovery`]: feeds `eligibility` and carries out what it decides (S7);
//! * [`joining`]: how we become a member (S17);
//! * [`concerns`]: what else an operator should know;
//! * [`condition`]: all of it, for whoever looks;
//! * [`estranged`]: whether all others have forgotten what we hold;
//! * [`inbound`]: what peers send;
//! * [`leading`]: what we send while we lead;
//! * [`liveness`]: whether its engine makes progress;
//! * [`newcomers`]: members whose `add` is still on its way to us;
//! * [`nodes`]: the PostgreSQL servers that the store names;
//! * [`partners`]: the configured partners against the group's members;
//! * [`placement`]: where the members stand, and whether to vote there;
//! * [`primaries`]: who is primary of what the store names, and who was;
//! * [`propose`]: commands on their way into the log;
//! * [`quota`]: the size of the key-value store;
//! * [`sockets`]: which members are connected;
//! * [`strangers`]: who dials us, until they have said who they are;
//! * [`offline`]: what an operator does while it is stopped;
//! * [`trouble`]: why the engine must be rebuilt;
//! * [`restore`]: carries out how members that cannot apply the log are restored;
//! * [`utility`]: requests of operators and of other nodes;
//! * [`whereabouts`]: whether `self_addr` still leads here;
//! * [`withdrawn`]: while we take no part, and what ends that;
//! * [`silence`]: why our word does not count, and what to do;
//! * [`run`]: its life, from the disk to the last byte.
//!
//! Everything runs on one thread; a borrow of a cell never spans an await.

pub mod assembly;
pub mod campaign;
pub mod clock;
pub mod concerns;
pub mod condition;
pub mod estranged;
pub mod inbound;
pub mod joining;
pub mod leading;
pub mod liveness;
pub mod newcomers;
pub mod nodes;
pub mod offline;
pub mod partners;
pub mod placement;
pub mod primaries;
pub mod propose;
pub mod quota;
pub mod recovery;
pub mod restore;
pub mod run;
pub mod silence;
pub mod sockets;
pub mod standing;
pub mod strangers;
pub mod trouble;
pub mod utility;
pub mod whereabouts;
pub mod withdrawn;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use event_listener::{Event, EventListener};
use futures_channel::oneshot;
use smol::lock::Semaphore;

use self::clock::ElectionClock;
use self::leading::Leadership;
use self::liveness::Pulse;
use self::recovery::Foundation;
use self::sockets::Link;
pub use self::trouble::Trouble;
use crate::address::Address;
use crate::config::ClusterConfig;
use crate::disk::{Standing, Worker};
use crate::election::Elector;
use crate::ids::{EntryId, Term};
use crate::links::connection::Connection;
use crate::links::leader::{ConnId, Peer};
use crate::logging::tally::Tallies;
use crate::raft::engine::{Engine, Role};
use crate::raft::network::{Peers, Progress};
use crate::raft::replica::Shared;
use crate::reactor::Instant;
use crate::wire::Keys;
use crate::wire::message::{ApplyOutcome, Message};

/// A member of one cluster, running.
pub struct Member {
    /// The cluster's name, for the log.
    pub name: Rc<str>,
    me: Address,
    config: ClusterConfig,
    keys: RefCell<Keys>,
    worker: Worker,
    replica: Shared,
    changed: Rc<Event>,
    /// What openraft waits for: answers, votes, terms of peers.
    peers_changed: Event,
    engine: RefCell<Option<Rc<Engine>>>,
    clock: ElectionClock,
    links: RefCell<BTreeMap<Address, Link>>,
    guests: RefCell<BTreeMap<ConnId, Rc<Connection>>>,
    strangers: RefCell<BTreeMap<ConnId, Rc<Connection>>>,
    leadership: RefCell<Option<Leadership>>,
    /// What it decides by.
    elector: Elector,
    /// When a leader was last told a success, or none was due.
    accepted: Cell<Instant>,
    /// Appends that the engine did not accept.
    refused_appends: Cell<u64>,
    /// What the next engine is to begin with, where that changes.
    foundation: RefCell<Option<Foundation>>,
    /// Our state is of a group to which no configured partner belongs.
    other_group: Cell<bool>,
    /// A node that is heard like a member, before its `add` has come.
    newcomer: RefCell<Option<Address>>,
    /// What limits the questions whether somebody is one.
    newcomer_questions: Semaphore,
    quota: RefCell<quota::Quota>,
    /// Why our state could not be opened again, when that was tried last.
    disk_error: RefCell<Option<Rc<str>>>,
    /// Why the Raft port is not open, as long as it is not.
    listen_error: RefCell<Option<Rc<str>>>,
    /// The greatest term in which a vote of ours has left.
    voted: Cell<Term>,
    /// Commands that we forwarded to the leader, by request id.
    requests: RefCell<BTreeMap<i64, oneshot::Sender<ApplyOutcome>>>,
    next_request: Cell<i64>,
    reports: RefCell<trouble::Reports>,
    trouble: Event,
    started: Instant,
    stopping: Cell<bool>,
    rebuilds: Cell<u64>,
    refused_connections: Cell<u64>,
    unreadable: Cell<u64>,
    /// Who last sent what cannot be read, and when.
    last_unreadable: Cell<Option<(IpAddr, Instant)>>,
    /// Of the lines that others cause (S16).
    tallies: Tallies,
    nodes: RefCell<nodes::Nodes>,
    nodes_changed: Event,
    primaries: RefCell<primaries::Primaries>,
    known_nodes: RefCell<placement::Known>,
    placement: RefCell<Rc<placement::Placement>>,
    pulse: Rc<Pulse>,
}

impl Member {
    fn engine(&self) -> Option<Rc<Engine>> {
        self.engine.borrow().clone()
    }

    fn role(&self) -> Role {
        self.engine().map_or(Role::Follower, |engine| engine.role())
    }

    fn standing(&self) -> Standing {
        self.replica.borrow().standing
    }

    /// Whether our word counts now: we may vote, campaign and acknowledge (E9).
    fn has_voice(&self) -> bool {
        self.evidence().may_acknowledge()
    }

    fn is_member(&self, address: &Address) -> bool {
        self.replica.borrow().log.members().contains(address)
    }

    /// The leader as far as we know: ourselves, or one that we follow and heard
    /// of not too long ago.
    fn known_leader(&self) -> Option<Address> {
        if self.leadership.borrow().is_some() {
            return Some(self.me.clone());
        }
        let term = self.replica.borrow().vote.term.term;
        let leaders = self.elector.leaders.borrow();
        let leader = leaders.known(term, self.config.timing.max_timeout, Instant::now())?;
        (*leader != self.me).then(|| leader.clone())
    }

    fn notify(&self) {
        self.changed.notify(usize::MAX);
    }

    fn report(&self, trouble: Trouble) {
        self.reports.borrow_mut().add(trouble);
        self.trouble.notify(usize::MAX);
    }

    fn connection(&self, peer: &Address) -> Option<Rc<Connection>> {
        let links = self.links.borrow();
        links
            .get(peer)?
            .connection
            .clone()
            .filter(|connection| connection.is_up())
    }

    fn saw_term(&self, peer: &Address, term: Term) {
        let mut links = self.links.borrow_mut();
        let link = links.entry(peer.clone()).or_default();
        if term > link.seen {
            link.seen = term;
            drop(links);
            self.peers_changed.notify(usize::MAX);
        }
    }
}

/// What a simulation compares members by.
#[cfg(feature = "test-hooks")]
impl Member {
    /// Log, vote and store.
    #[must_use]
    pub fn replica_for_tests(&self) -> Shared {
        self.replica.clone()
    }

    /// Lets go of the engine, which holds this member: what is killed is not stopped,
    /// and nothing of it may stay.
    pub fn abandon_engine(&self) {
        self.engine.take();
    }

    /// The term in which it leads now.
    #[must_use]
    pub fn leads(&self) -> Option<Term> {
        self.leadership
            .borrow()
            .as_ref()
            .map(|leadership| leadership.term)
    }
}

impl Peers for Member {
    fn seen_term(&self, peer: &Address) -> Term {
        self.links
            .borrow()
            .get(peer)
            .map_or(Term::ZERO, |link| link.seen)
    }

    fn request_vote(&self, peer: &Address, term: Term, last: EntryId) {
        if let Some(connection) = self.connection(peer) {
            connection.send(&Message::RequestVote { term, last });
        }
    }

    fn granted(&self, peer: &Address, term: Term) -> bool {
        self.links
            .borrow()
            .get(peer)
            .is_some_and(|link| link.granted == term)
    }

    fn progress(&self, peer: &Address, term: Term) -> Progress {
        let leadership = self.leadership.borrow();
        let Some(leadership) = leadership.as_ref().filter(|l| l.term == term) else {
            return Progress::default();
        };
        let peer = Peer::Member(peer.clone());
        let matched = leadership.leader.matched(&peer);
        let log = &self.replica.borrow().log;
        Progress {
            // Below our base it is a lower bound all the same.
            matched: matched.and_then(|index| log.id_at(index.max(log.first()))),
            answered: leadership.leader.answered_sent_at(&peer),
            reverted: leadership.reverted.contains(&peer),
        }
    }

    fn listen(&self) -> EventListener {
        self.peers_changed.listen()
    }

    fn wake(&self) {
        self.peers_changed.notify(usize::MAX);
    }
}
