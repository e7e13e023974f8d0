//! Terms that never decrease, made from PySyncObj's, which may (H7).
//!
//! Peers up to 0.3.15 forget their term at a restart, so a log may hold the
//! terms 17, 17, 1, 18. The engine asserts that terms do not decrease. It is
//! given (epoch, term) instead, where the epoch rises by one whenever a term is
//! lower than the one before (E1), or names an entry of ours that a leader has
//! another in place of. The epoch is stored with what it belongs to and never
//! leaves this process.

use std::fmt;

use crate::ids::{EntryId, LogIndex, Term};

/// A term as the engine compares it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochTerm {
    /// How often terms decreased, or came twice, in the log up to here.
    pub epoch: u32,
    /// The term on the wire.
    pub term: Term,
}

impl EpochTerm {
    /// The lowest term at or above `self` whose plain term is `term`: that of an
    /// entry of `term` that follows one of `self`.
    #[must_use]
    pub fn succeeded_by(self, term: Term) -> Self {
        let epoch = self.epoch.saturating_add(u32::from(term < self.term));
        Self { epoch, term }
    }
}

impl fmt::Display for EpochTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.epoch > 0 {
            write!(f, "{}+", self.epoch)?;
        }
        self.term.fmt(f)
    }
}

/// An entry's identity as the engine compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochId {
    /// Who created the entry.
    pub term: EpochTerm,
    /// Where it stands.
    pub index: LogIndex,
}

impl EpochId {
    /// The entry as the wire names it, without the epoch.
    pub const fn entry_id(self) -> EntryId {
        EntryId {
            index: self.index,
            term: self.term.term,
        }
    }
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of term {}", self.index, self.term)
    }
}
