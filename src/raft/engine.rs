//! The door of openraft: what the member says to it, in this house's terms.
//!
//! An engine lives until its storage fails, it leads without a majority, or it
//! is reset; then the next one is built from disk (S14). openraft has no clean
//! step-down and stops for good on any storage error.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::entry::RaftEntry;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use openraft::storage::Snapshot;
use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use openraft_rt::AsyncRuntime as _;

use super::checkpoint::CheckpointState;
use super::log::members_after;
use super::machine::StateMachine;
use super::network::{Network, Peers};
use super::replica::Shared;
use super::runtime::SmolRuntime;
use super::store::LogStore;
use super::types::{
    Members, Payload, RaftLogEntry, SnapshotMeta, StoredMembership, TypeConfig, Vote, log_id,
    membership,
};
use crate::address::Address;
use crate::ids::Term;
use crate::limits;
use crate::links::epoch::{EpochId, EpochTerm};
use crate::links::follower::{EngineAppend, EngineInstall, EngineVote};

/// openraft gave up; its engine must be replaced.
#[derive(Debug, Clone)]
pub struct Stopped(String);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the engine stopped: {}", self.0)
    }
}

impl std::error::Error for Stopped {}

fn stopped(error: impl fmt::Display) -> Stopped {
    Stopped(error.to_string())
}

/// What we are in the group, as openraft sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Following a leader, or waiting for one.
    Follower,
    /// Asking for votes.
    Candidate,
    /// Leading.
    Leader,
    /// Not, or no longer, a voter of the group.
    Outsider,
}

/// One run of openraft.
pub struct Engine {
    raft: Raft<TypeConfig, StateMachine>,
    replica: Shared,
    peers: Rc<dyn Peers>,
    alive: Rc<Cell<bool>>,
    #[cfg(feature = "test-hooks")]
    standstill: super::standstill::Standstill,
}

/// How long `shutdown` may take (E7).
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

fn config(name: &str) -> Config {
    Config {
        cluster_name: name.into(),
        // E5: ticks cost as much as all else together. The member's
        // timers start elections and heartbeats; these only bound what openraft waits
        // for, and how long its quorum's word holds (PySyncObj's 30 s).
        enable_tick: false,
        heartbeat_interval: 3_000,
        election_timeout_min: 29_000,
        election_timeout_max: 30_000,
        install_snapshot_timeout: 60_000,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: limits::LOG_ENTRIES_KEPT,
        replication_lag_threshold: u64::MAX / 2,
        allow_log_reversion: Some(true),
        // S1: a restored leader could reuse an (index, term) already announced.
        enable_leader_restore: Some(false),
        // Never on the wire; the member's own guard stands for it.
        enable_pre_vote: Some(false),
        api_channel_size: Some(limits::ENGINE_REQUESTS_MAX),
        api_batch_capacity: 64,
        // E7: fewer can deadlock the core while a vote is being saved.
        notification_channel_size: Some(4_096),
        state_machine_channel_size: Some(64),
        max_append_entries: Some(128),
        max_payload_entries: 128,
        log_stage_capacity: Some(64),
        ..Config::default()
    }
}

impl Engine {
    /// Starts openraft on what the replica holds.
    pub async fn start(
        replica: Shared,
        name: Rc<str>,
        peers: Rc<dyn Peers>,
    ) -> Result<Self, Stopped> {
        let alive = Rc::new(Cell::new(true));
        let me = replica.borrow().me.clone();
        let config = config(&name).validate().map_err(stopped)?;
        let network = Network {
            peers: peers.clone(),
            alive: alive.clone(),
        };
        let machine = StateMachine {
            replica: replica.clone(),
            name,
        };
        let store = LogStore(replica.clone());
        let raft = Raft::new(me, Arc::new(config), network, store, machine);
        #[cfg(feature = "test-hooks")]
        let standstill = super::standstill::Standstill::default();
        #[cfg(feature = "test-hooks")]
        let raft = standstill.over(raft);
        let raft = raft.await.map_err(stopped)?;
        Ok(Self {
            #[cfg(feature = "test-hooks")]
            standstill,
            raft,
            replica,
            peers,
            alive,
        })
    }

    /// Ends it. Its clients find nobody from this moment on (E8).
    pub async fn stop(&self) {
        self.alive.set(false);
        self.peers.wake();
        if SmolRuntime::timeout(SHUTDOWN_LIMIT, self.raft.shutdown())
            .await
            .is_err()
        {
            log::warn!(
                "an engine did not shut down in {} s",
                SHUTDOWN_LIMIT.as_secs()
            );
        }
    }

    /// Whether openraft still runs.
    pub fn running(&self) -> Result<(), Stopped> {
        self.raft
            .metrics()
            .borrow_watched()
            .running_state
            .clone()
            .map_err(stopped)
    }

    /// Resolves when openraft's task has looked at this question: the proof that
    /// it does not stand still.
    pub async fn answer(&self) -> Result<(), Stopped> {
        self.raft.with_raft_state(|_| ()).await.map_err(stopped)
    }

    /// Leaves openraft's tasks where they are, for good.
    #[cfg(feature = "test-hooks")]
    pub fn stand_still(&self) {
        self.standstill.begin();
    }

    /// Our role.
    pub fn role(&self) -> Role {
        match self.raft.server_metrics().borrow_watched().state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Follower => Role::Follower,
            ServerState::Learner | ServerState::Shutdown => Role::Outsider,
        }
    }

    /// The term of our vote, saved or about to be.
    pub fn term(&self) -> EpochTerm {
        self.raft
            .server_metrics()
            .borrow_watched()
            .vote
            .leader_id
            .term
    }

    /// The voters as openraft counts them.
    pub async fn members(&self) -> Result<Members, Stopped> {
        let effective = |state: &openraft::RaftState<TypeConfig>| {
            state
                .membership_state
                .effective()
                .membership()
                .voter_ids()
                .collect()
        };
        self.raft.with_raft_state(effective).await.map_err(stopped)
    }

    /// Resolves when role or vote changed after this call, or the engine
    /// stopped.
    pub fn changes(&self) -> impl Future<Output = ()> + use<> {
        let mut metrics = self.raft.server_metrics();
        metrics.borrow_and_update();
        async move {
            let _ = metrics.changed().await;
        }
    }

    fn entries(&self, append: EngineAppend) -> Vec<RaftLogEntry> {
        let replica = self.replica.borrow();
        let mut members = replica.log.members_at(append.prev.index).clone();
        append
            .entries
            .into_iter()
            .map(|(epoch, entry)| {
                let changed = members_after(&members, &entry.command);
                if let Some(changed) = &changed {
                    members.clone_from(changed);
                }
                let term = EpochTerm {
                    epoch,
                    term: entry.id.term,
                };
                let id = log_id(EpochId {
                    term,
                    index: entry.id.index,
                });
                let payload = Payload {
                    command: entry.command,
                    members: changed,
                    origin: None,
                };
                RaftLogEntry::new(id, payload)
            })
            .collect()
    }

    /// Takes a leader's append. Resolves when all of it is durable: whether it
    /// was accepted.
    pub fn append(
        &self,
        leader: &Address,
        append: EngineAppend,
    ) -> impl Future<Output = Result<bool, Stopped>> + 'static + use<> {
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(append.leader, leader.clone()),
            prev_log_id: Some(log_id(append.prev)),
            leader_commit: append.commit.map(log_id),
            entries: self.entries(append),
        };
        let raft = self.raft.clone();
        async move {
            match raft.append_entries(request).await.map_err(stopped)? {
                AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => {
                    Ok(true)
                }
                AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => Ok(false),
            }
        }
    }

    /// Takes a leader's snapshot. Resolves when it is installed and durable:
    /// whether it was accepted.
    pub async fn install(
        &self,
        leader: &Address,
        install: EngineInstall,
        state: CheckpointState,
    ) -> Result<bool, Stopped> {
        let last = log_id(install.last);
        let members = membership(state.members.clone());
        let meta = SnapshotMeta {
            last_log_id: Some(last),
            last_membership: StoredMembership::new(Some(last), members),
        };
        let snapshot = Snapshot {
            meta,
            snapshot: Some(Rc::new(state)),
        };
        let vote = Vote::new_committed(install.leader, leader.clone());
        let response = self
            .raft
            .install_full_snapshot(vote.clone(), snapshot)
            .await;
        Ok(response.map_err(stopped)?.vote <= vote)
    }

    /// Takes a vote request. Resolves when the vote, if it was given, is
    /// durable.
    pub async fn vote(&self, candidate: &Address, vote: EngineVote) -> Result<bool, Stopped> {
        let candidate = Vote::new(vote.candidate, candidate.clone());
        let mut request = VoteRequest::new(candidate, Some(log_id(vote.last)));
        // PySyncObj knows no lease: a candidate with a good log is voted for.
        request.leadership_transfer = true;
        Ok(self.raft.vote(request).await.map_err(stopped)?.vote_granted)
    }

    /// Starts an election.
    pub async fn campaign(&self) -> Result<(), Stopped> {
        self.raft.trigger().elect(false).await.map_err(stopped)
    }

    /// Renews the word of the quorum, without which openraft refuses to write.
    pub async fn renew_lease(&self) -> Result<(), Stopped> {
        self.raft.trigger().heartbeat().await.map_err(stopped)
    }

    /// Hands a command to the leader's log; its origin hears what became of it.
    pub async fn propose(&self, payload: Payload) -> Result<(), Stopped> {
        self.raft
            .client_write_ff(payload, None)
            .await
            .map_err(stopped)
    }

    /// Forgets the log that is applied, but for what slow peers may need.
    pub async fn compact(&self) -> Result<(), Stopped> {
        self.raft.trigger().snapshot().await.map_err(stopped)
    }

    /// The plain term of our vote.
    pub fn plain_term(&self) -> Term {
        self.term().term
    }
}
