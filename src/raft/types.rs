//! openraft's types, chosen so that its log is PySyncObj's log.
//!
//! * openraft's index is PySyncObj's minus one: every log starts with the NO_OP
//!   1 of term 0, which is openraft's entry 0 and carries the first members.
//! * openraft's term is an [`EpochTerm`], for PySyncObj's may decrease (E1).
//! * An entry's payload is the command, byte for byte.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use openraft::entry::RaftPayload;
use openraft::type_config::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft::vote::RaftTerm;
use openraft::{EmptyNode, Membership};

use super::proposal::Responder;
use crate::address::Address;
use crate::ids::LogIndex;
use crate::links::epoch::{EpochId, EpochTerm};

openraft::declare_raft_types!(
    /// What this program tells openraft of itself.
    pub TypeConfig:
        D = Payload,
        R = (),
        NodeId = Address,
        Node = EmptyNode,
        Term = EpochTerm,
        LeaderId = openraft::impls::leader_id_std::LeaderId<EpochTerm, Address>,
        Payload = Payload,
        AsyncRuntime = super::runtime::SmolRuntime,
);

/// (epoch, index, term) of an entry.
pub type LogId = LogIdOf<TypeConfig>;
/// An entry as openraft handles it.
pub type RaftLogEntry = EntryOf<TypeConfig>;
/// A vote: its term, for whom, and whether it is an established leader's.
pub type Vote = VoteOf<TypeConfig>;
/// The members as of a log position.
pub type StoredMembership = StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = SnapshotMetaOf<TypeConfig>;
/// The voters.
pub type Members = BTreeSet<Address>;

impl RaftTerm for EpochTerm {
    fn next(&self) -> Self {
        Self {
            epoch: self.epoch,
            term: self.term.next(),
        }
    }

    fn as_u64(&self) -> Option<u64> {
        Some(self.term.get())
    }
}

/// What a log entry carries.
#[derive(Clone, Default)]
pub struct Payload {
    /// The command as its proposer wrote it.
    pub command: Arc<[u8]>,
    /// The members from this entry on, if it is a membership change that has an
    /// effect.
    pub members: Option<Members>,
    /// Who proposed it here and waits; answered by the log store (S5), stored
    /// nowhere.
    pub origin: Option<Responder>,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_payload(f)
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_payload(f)
    }
}

impl Payload {
    fn fmt_payload(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.command.len())
    }
}

/// The command of a NO_OP (spec 6.1).
pub const NO_OP: &[u8] = b"\x01";

impl RaftPayload for Payload {
    type D = Self;
    type NodeId = Address;
    type Node = EmptyNode;

    fn blank() -> Self {
        Self {
            command: NO_OP.into(),
            members: None,
            origin: None,
        }
    }

    fn with_normal(self, data: Self) -> Self {
        data
    }

    fn with_membership(mut self, membership: Membership<Address, EmptyNode>) -> Self {
        self.members = Some(membership.voter_ids().collect());
        self
    }

    fn get_membership(&self) -> Option<Membership<Address, EmptyNode>> {
        self.members.clone().map(membership)
    }
}

/// Members as openraft holds them: one uniform configuration.
pub fn membership(members: Members) -> Membership<Address, EmptyNode> {
    Membership::new_with_defaults(vec![members], [])
}

/// openraft's index of a log position.
pub fn raft_index(index: LogIndex) -> u64 {
    index.get().saturating_sub(1)
}

/// The log position of openraft's index.
pub fn log_index(index: u64) -> LogIndex {
    LogIndex::new(index.saturating_add(1)).unwrap_or(LogIndex::MAX)
}

/// openraft's name of an entry.
pub fn log_id(id: EpochId) -> LogId {
    LogId::new_term_index(id.term, raft_index(id.index))
}

/// An entry's name from openraft's.
pub fn epoch_id(id: &LogId) -> EpochId {
    EpochId {
        term: id.committed_leader_id().term,
        index: log_index(id.index()),
    }
}
