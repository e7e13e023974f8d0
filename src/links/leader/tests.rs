//! What the leader's side must never do, shown on sequences written by hand
//! (`sequences`), on random ones against a model of Python's follower
//! (`simulation`), and the model itself against real conversations
//! (`conversations`).

mod conversations;
mod follower;
mod sequences;
mod simulation;

use std::time::Duration;

use super::{LeadershipTiming, LogView};
use crate::ids::{EntryId, LogIndex, Term};

pub(super) const TIMING: LeadershipTiming = LeadershipTiming {
    heartbeat: Duration::from_millis(100),
    reply_timeout: Duration::from_secs(3),
};

pub(super) fn idx(index: u64) -> LogIndex {
    LogIndex::new(index).unwrap()
}

pub(super) fn id(index: u64, term: u64) -> EntryId {
    EntryId {
        index: idx(index),
        term: Term::new(term).unwrap(),
    }
}

/// An entry of a model: what it is, and how much of a batch it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub index: u64,
    pub term: u64,
    pub len: usize,
}

/// The entry that every log begins with (spec 5.1).
pub(super) const FIRST: Entry = Entry {
    index: 1,
    term: 0,
    len: 1,
};

/// The leader's log: all that ever was in it, and what compaction left.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub all: Vec<Entry>,
    pub first: u64,
    pub commit: u64,
}

impl Log {
    /// The log with entries 1.. of these terms.
    pub(super) fn of_terms(terms: &[u64]) -> Self {
        let mut log = Self {
            all: Vec::new(),
            first: 1,
            commit: 1,
        };
        for &term in terms {
            log.push(term, FIRST.len);
        }
        log
    }

    pub(super) fn push(&mut self, term: u64, len: usize) {
        self.all.push(Entry {
            index: self.end() + 1,
            term,
            len,
        });
    }

    pub(super) fn end(&self) -> u64 {
        self.all.len() as u64
    }

    pub(super) fn at(&self, index: u64) -> Option<Entry> {
        self.all
            .get(usize::try_from(index).unwrap().checked_sub(1)?)
            .copied()
    }
}

impl LogView for Log {
    fn last(&self) -> EntryId {
        let last = self.all.last().unwrap();
        id(last.index, last.term)
    }

    fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index.get() < self.first {
            return None;
        }
        Term::new(self.at(index.get())?.term)
    }

    fn command_len(&self, index: LogIndex) -> usize {
        self.at(index.get()).map_or(0, |entry| entry.len)
    }

    fn commit(&self) -> LogIndex {
        idx(self.commit)
    }
}
