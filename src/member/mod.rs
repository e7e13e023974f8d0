//! One cluster's member: what a witness is in one Raft group.
//!
//! It ties the rooms together and decides nothing that they could decide: the
//! engine elects and commits, `election` says whether our word counts and when to
//! stand, `links::follower` and `links::leader` translate, `kv` applies. Here it is
//! said when each is asked:
//!
//! * `timer`: the election timer, its instants and what it draws;
//! * [`campaign`]: standing for election when that is due;
//! * [`standing`]: what the peers' `status` says (S13);
//! * [`recovery`]: feeds `eligibility` and carries out what it decides (S7);
//! * [`joining`]: how we become a member (S17);
//! * `auto_vote`: whether we are to be one, where the number of data nodes says so;
//! * [`concerns`]: what else an operator should know;
//! * [`condition`]: all of it, for whoever looks;
//! * [`orphaned`]: whether all others have forgotten what we hold;
//! * [`inbound`]: what peers send; `voting`: of votes; `answers`: what they are told;
//! * `housekeeping`: what is looked at every half second;
//! * `rebuild`: the engine anew from the disk (S14);
//! * [`leading`]: what we send while we lead;
//! * [`liveness`]: whether its engine makes progress;
//! * [`newcomers`]: members whose `add` is still on its way to us;
//! * [`nodes`]: the PostgreSQL servers that the store names;
//! * `parts`: what it is made of;
//! * [`partners`]: the configured partners against the group's members;
//! * [`placement`]: where the members stand, and whether to vote there;
//! * [`primaries`]: who is primary of what the store names, and who was;
//! * [`propose`]: commands on their way into the log;
//! * [`quota`]: the size of the key-value store;
//! * [`sockets`]: which members are connected; [`peer_link`]: what is kept of each;
//! * [`pending`]: who dials us, until they have said who they are;
//! * [`offline`]: what an operator does while it is stopped;
//! * [`rebuild_reason`]: why the engine must be rebuilt;
//! * [`restore`]: carries out how members that cannot apply the log are restored;
//! * [`utility`]: requests of operators and of other nodes;
//! * [`self_addr`]: whether `self_addr` still leads here;
//! * [`withdrawn`]: while we take no part, and what ends that;
//! * [`silence`]: why our word does not count, and what to do;
//! * [`run`]: its life, from the disk to the last byte.
//!
//! Everything runs on one thread; a borrow of a cell never spans an await.

mod answers;
pub mod assembly;
mod auto_vote;
pub mod campaign;
pub mod concerns;
pub mod condition;
pub mod error;
mod housekeeping;
pub mod inbound;
pub mod joining;
pub mod leading;
pub mod liveness;
pub mod newcomers;
pub mod nodes;
pub mod offline;
pub mod orphaned;
pub mod partners;
mod parts;
pub mod peer_link;
pub mod pending;
pub mod placement;
pub mod primaries;
pub mod propose;
pub mod quota;
mod rebuild;
pub mod rebuild_reason;
pub mod recovery;
pub mod restore;
pub mod run;
pub mod self_addr;
pub mod silence;
pub mod sockets;
pub mod standing;
mod timer;
pub mod utility;
mod voting;
pub mod withdrawn;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use event_listener::{Event, EventListener};

use self::leading::Leadership;
use self::liveness::Pulse;
use self::parts::{Counts, Forwarded, Machinery, Newcomers, Servers, Sockets};
pub use self::rebuild_reason::RebuildReason;
use crate::address::Address;
use crate::config::ClusterConfig;
use crate::disk::{Standing, Worker};
use crate::election::Elector;
use crate::ids::{EntryId, Term};
use crate::links::connection::Connection;
use crate::links::leader::Peer;
use crate::raft::engine::{Engine, Role};
use crate::raft::network::{PeerProgress, Peers};
use crate::raft::replica::Shared;
use crate::reactor::Instant;
use crate::wire::Keys;
use crate::wire::message::Message;

/// A member of one cluster, running.
///
/// It has more fields than a type should, because it is the one place where everything
/// of a cluster meets: who it is, the engine's side, what decides, and one part for each
/// duty (`parts`).
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
    /// What it decides by.
    elector: Elector,
    sockets: Sockets,
    machinery: Machinery,
    leadership: RefCell<Option<Leadership>>,
    newcomers: Newcomers,
    forwarded: Forwarded,
    servers: Servers,
    quota: RefCell<quota::Quota>,
    /// Our state is of a group to which no configured partner belongs.
    other_group: Cell<bool>,
    /// When a leader was last told a success, or none was due.
    accepted: Cell<Instant>,
    started: Instant,
    counts: Counts,
    pulse: Rc<Pulse>,
}

impl Member {
    fn engine(&self) -> Option<Rc<Engine>> {
        self.machinery.engine.borrow().clone()
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

    fn report(&self, trouble: RebuildReason) {
        self.machinery.reports.borrow_mut().add(trouble);
        self.machinery.reported.notify(usize::MAX);
    }

    fn connection(&self, peer: &Address) -> Option<Rc<Connection>> {
        let links = self.sockets.links.borrow();
        links
            .get(peer)?
            .connection
            .clone()
            .filter(|connection| connection.is_up())
    }

    fn saw_term(&self, peer: &Address, term: Term) {
        let mut links = self.sockets.links.borrow_mut();
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
        self.machinery.engine.take();
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
        self.sockets
            .links
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
        self.sockets
            .links
            .borrow()
            .get(peer)
            .is_some_and(|link| link.exchange.granted == term)
    }

    fn progress(&self, peer: &Address, term: Term) -> PeerProgress {
        let leadership = self.leadership.borrow();
        let Some(leadership) = leadership.as_ref().filter(|l| l.term == term) else {
            return PeerProgress::default();
        };
        let peer = Peer::Member(peer.clone());
        let matched = leadership.leader.matched(&peer);
        let log = &self.replica.borrow().log;
        PeerProgress {
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
