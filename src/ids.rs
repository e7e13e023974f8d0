//! The numbers of Raft, as types that cannot be mistaken for one another, and the
//! log entry that they name.

use std::fmt;
use std::sync::Arc;

/// A Raft term as PySyncObj counts it: 0 before the first election.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(u64);

impl Term {
    /// The term of every node's first entry.
    pub const ZERO: Self = Self(0);

    /// A term from its number. Refuses what Python's journal could not hold as
    /// a signed number.
    pub const fn new(term: u64) -> Option<Self> {
        if term <= i64::MAX as u64 {
            Some(Self(term))
        } else {
            None
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in PySyncObj's log. The first entry of every log is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(u64);

impl LogIndex {
    /// The first entry: the NO_OP of term 0 with which every node starts.
    pub const FIRST: Self = Self(1);

    /// The greatest index there can be.
    pub const MAX: Self = Self(i64::MAX as u64 - 1);

    /// An index from its number, which must be at least 1.
    pub const fn new(index: u64) -> Option<Self> {
        if index >= 1 && index < i64::MAX as u64 {
            Some(Self(index))
        } else {
            None
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The index before this one; none before the first.
    pub const fn prev(self) -> Option<Self> {
        Self::new(self.0.saturating_sub(1))
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What identifies an entry: two logs that agree on it agree on all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryId {
    /// Position in the log.
    pub index: LogIndex,
    /// Term of the leader that created the entry.
    pub term: Term,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of term {}", self.index, self.term)
    }
}

/// One log entry; on the wire the tuple `(command, index, term)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands and who created it.
    pub id: EntryId,
    /// The command, byte for byte as its proposer wrote it (H29).
    pub command: Arc<[u8]>,
}
