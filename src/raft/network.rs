//! openraft's way to its peers: it asks, `links` has already acted.
//!
//! Replication on the wire is PySyncObj's own and driven by the log (see
//! `links::leader`). What openraft sends through this client is not sent: it
//! waits here until the peer is known to hold what openraft wants it to hold,
//! which is all that the commit rule needs. Vote requests do go out.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use event_listener::EventListener;
use openraft::EmptyNode;
use openraft::anyerror::AnyError;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;

use super::machine::SnapshotData;
use super::types::{TypeConfig, Vote, epoch_id, log_id};
use crate::address::Address;
use crate::ids::{EntryId, LogIndex, Term};
use crate::links::epoch::{EpochId, EpochTerm};
use crate::reactor::{Instant, Timer};

/// What is known of one peer while we lead.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeerProgress {
    /// The last entry it is known to hold.
    pub matched: Option<EpochId>,
    /// When the newest append that it answered was sent.
    pub answered: Option<Instant>,
    /// It lost entries that it had acknowledged (H14).
    pub reverted: bool,
}

/// The links as this room sees them.
pub trait Peers {
    /// The greatest term that was seen from a peer.
    fn seen_term(&self, peer: &Address) -> Term;
    /// Asks for a vote, if the peer is connected.
    fn request_vote(&self, peer: &Address, term: Term, last: EntryId);
    /// Whether the peer gave us its vote of `term`.
    fn granted(&self, peer: &Address, term: Term) -> bool;
    /// What the peer holds, in our leadership of `term`.
    fn progress(&self, peer: &Address, term: Term) -> PeerProgress;
    /// Resolves when one of these answers may have changed.
    fn listen(&self) -> EventListener;
    /// Wakes all that listen.
    fn wake(&self);
}

/// Makes openraft's clients. Those of an engine that was dropped find nobody
/// (E8).
#[derive(Clone)]
pub struct Network {
    /// The links.
    pub peers: Rc<dyn Peers>,
    /// Whether the engine that this belongs to is the current one.
    pub alive: Rc<Cell<bool>>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: Address, _: &EmptyNode) -> PeerClient {
        PeerClient {
            network: self.clone(),
            target,
        }
    }
}

/// openraft's client for one peer.
pub struct PeerClient {
    network: Network,
    target: Address,
}

/// How long a candidate's request waits for its answer. Python answers at once
/// or never.
const VOTE_WAIT: Duration = Duration::from_secs(5);

fn unreachable(why: &'static str) -> Unreachable<TypeConfig> {
    Unreachable::new(&AnyError::error(why))
}

impl PeerClient {
    fn higher(&self, vote: &Vote) -> Option<Vote> {
        let seen = self.network.peers.seen_term(&self.target);
        let EpochTerm { epoch, term } = vote.leader_id.term;
        (seen > term).then(|| Vote::new(EpochTerm { epoch, term: seen }, self.target.clone()))
    }

    /// Waits until `done` says something, the time is up, or the engine is
    /// dropped.
    async fn until<T>(&self, limit: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
        let wait = async {
            loop {
                let changed = self.network.peers.listen();
                if !self.network.alive.get() {
                    return None;
                }
                if let Some(result) = done() {
                    return Some(result);
                }
                changed.await;
            }
        };
        smol::future::or(wait, async {
            Timer::after(limit).await;
            None
        })
        .await
    }

    fn progress(&self, vote: &Vote) -> PeerProgress {
        self.network
            .peers
            .progress(&self.target, vote.leader_id.term.term)
    }
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let asked = Instant::now();
        let prev = request.prev_log_id.as_ref().map(|id| epoch_id(id).index);
        let last = request.entries.last().map(|e| epoch_id(&e.log_id).index);
        let wanted = last.or(prev).unwrap_or(LogIndex::FIRST);
        let result = self
            .until(option.hard_ttl(), || {
                if let Some(vote) = self.higher(&request.vote) {
                    return Some(AppendEntriesResponse::HigherVote(vote));
                }
                let progress = self.progress(&request.vote);
                let matched = progress.matched?.index;
                // openraft cannot take a conflict at no entry at all.
                if progress.reverted && prev.is_some_and(|prev| prev > matched) {
                    return Some(AppendEntriesResponse::Conflict);
                }
                let fresh = last.is_some() || progress.answered.is_some_and(|at| at >= asked);
                (fresh && matched >= wanted).then_some(AppendEntriesResponse::Success)
            })
            .await;
        if let Some(response) = result {
            return Ok(response);
        }
        let matched = self.progress(&request.vote).matched;
        match matched.filter(|m| prev.is_none_or(|prev| m.index >= prev) && m.index < wanted) {
            Some(m) => Ok(AppendEntriesResponse::PartialSuccess(Some(log_id(m)))),
            None => Err(RPCError::Unreachable(unreachable("no answer in time"))),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let Some(last) = request.last_log_id.as_ref().map(epoch_id) else {
            return Err(RPCError::Unreachable(unreachable("our log is empty")));
        };
        let term = request.vote.leader_id.term.term;
        let last = last.entry_id();
        self.network.peers.request_vote(&self.target, term, last);
        let result = self
            .until(VOTE_WAIT, || {
                if self.network.peers.granted(&self.target, term) {
                    return Some(VoteResponse::new(request.vote.clone(), None, true));
                }
                self.higher(&request.vote)
                    .map(|vote| VoteResponse::new(vote, None, false))
            })
            .await;
        result.ok_or_else(|| RPCError::Unreachable(unreachable("no vote in time")))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        _cancel: impl Future<Output = ReplicationClosed> + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let wanted = snapshot
            .meta
            .last_log_id
            .as_ref()
            .map(|id| epoch_id(id).index);
        let result = self
            .until(option.hard_ttl(), || {
                if let Some(vote) = self.higher(&vote) {
                    return Some(SnapshotResponse::new(vote));
                }
                let matched = self.progress(&vote).matched.map(|m| m.index);
                (matched >= wanted).then(|| SnapshotResponse::new(vote.clone()))
            })
            .await;
        result.ok_or_else(|| StreamingError::Unreachable(unreachable("no snapshot in time")))
    }
}
