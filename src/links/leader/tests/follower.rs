//! PySyncObj's follower as a model: spec 3.3 and 3.5, truncation and all.

use std::ops::Range;
use std::rc::Rc;

use super::{Entry, FIRST};
use crate::wire::message::NextNodeIdx;

/// Where followers differ (spec 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.3.8 - 0.3.11: acknowledges one less, commit can go back.
    Upto0311,
    /// 0.3.12 - 0.3.15.
    Since0312,
    /// 0.3.16 on: commit is clamped to the log's end.
    Since0316,
}

/// A snapshot: its last two entries stand for all.
#[derive(Debug)]
pub struct Snapshot {
    pub len: u64,
    pub before: Entry,
    pub last: Entry,
}

/// An `append_entries`.
#[derive(Debug, Clone)]
pub enum Message {
    Append {
        term: u64,
        prev: Option<(u64, u64)>,
        entries: Vec<Entry>,
        commit: u64,
    },
    Chunk {
        term: u64,
        snapshot: Rc<Snapshot>,
        data: Range<u64>,
        first: bool,
        last: bool,
    },
    Idle {
        term: u64,
    },
}

impl Message {
    pub fn term(&self) -> u64 {
        match self {
            Self::Append { term, .. } | Self::Chunk { term, .. } | Self::Idle { term } => *term,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Follower {
    pub version: Version,
    pub term: u64,
    pub log: Vec<Entry>,
    pub commit: u64,
    /// Bytes of a snapshot received in order; none without its first chunk.
    transfer: Option<u64>,
    /// The next snapshot will not load (H12).
    pub cannot_load: bool,
}

impl Follower {
    pub fn new(version: Version) -> Self {
        Self {
            version,
            term: 0,
            log: vec![FIRST],
            commit: 1,
            transfer: None,
            cannot_load: false,
        }
    }

    pub fn first(&self) -> u64 {
        self.log[0].index
    }

    pub fn last(&self) -> Entry {
        *self.log.last().unwrap()
    }

    pub fn at(&self, index: u64) -> Option<Entry> {
        let position = index.checked_sub(self.first())?;
        self.log.get(usize::try_from(position).unwrap()).copied()
    }

    fn truncate_after(&mut self, index: u64) {
        self.log.retain(|entry| entry.index <= index);
    }

    /// A crash: the journal lost all after `keep` (H14 c).
    pub fn crash(&mut self, keep: u64) {
        self.truncate_after(keep.max(self.first()));
        self.commit = self.commit.min(self.last().index);
        self.transfer = None;
    }

    /// Drops what its own dump covers (spec 5.9).
    pub fn compact(&mut self) {
        let first = self.commit.saturating_sub(1).max(self.first());
        self.log.retain(|entry| entry.index >= first);
    }

    /// Another leader's work: its whole log.
    pub fn follow(&mut self, log: &[Entry], term: u64) {
        self.log = log.to_vec();
        self.term = term;
        self.transfer = None;
    }

    pub fn receive(&mut self, message: &Message) -> Option<NextNodeIdx> {
        if message.term() < self.term {
            return None;
        }
        self.term = message.term();
        let (reply, leader_commit) = match message {
            Message::Append {
                prev,
                entries,
                commit,
                ..
            } => {
                let (reply, taken) = self.append(*prev, entries);
                if !taken {
                    return Some(reply); // early stop: commit is not touched
                }
                (Some(reply), *commit)
            }
            Message::Chunk {
                snapshot,
                data,
                first,
                last,
                ..
            } => (self.chunk(snapshot, data, *first, *last), 0),
            Message::Idle { .. } => (None, 0),
        };
        self.follow_commit(leader_commit);
        reply
    }

    fn append(&mut self, prev: Option<(u64, u64)>, entries: &[Entry]) -> (NextNodeIdx, bool) {
        let reset = |next: u64| NextNodeIdx {
            next: i64::try_from(next).unwrap(),
            reset: true,
            success: false,
        };
        let Some((index, term, entry)) =
            prev.and_then(|(index, term)| Some((index, term, self.at(index)?)))
        else {
            return (reset(self.last().index + 1), false);
        };
        if entry.term != term {
            return (reset(index), false);
        }
        self.truncate_after(index); // H8
        self.log.extend_from_slice(entries);
        let next = match (entries.last(), self.version) {
            (None, _) => index + 1,
            (Some(last), Version::Upto0311) => last.index,
            (Some(last), _) => last.index + 1,
        };
        (
            NextNodeIdx {
                next: i64::try_from(next).unwrap(),
                reset: false,
                success: true,
            },
            true,
        )
    }

    fn chunk(
        &mut self,
        snapshot: &Snapshot,
        data: &Range<u64>,
        first: bool,
        last: bool,
    ) -> Option<NextNodeIdx> {
        if first {
            self.transfer = Some(0);
        }
        let received = self.transfer?;
        let received = if data.start == received {
            data.end
        } else {
            u64::MAX
        };
        self.transfer = Some(received);
        if !last {
            return None;
        }
        self.transfer = None;
        if received == snapshot.len && !self.cannot_load {
            self.log = vec![snapshot.before, snapshot.last];
        }
        self.cannot_load = false;
        // H12: acknowledged whether loaded or not.
        let next = i64::try_from(self.last().index + 1).unwrap();
        Some(NextNodeIdx {
            next,
            reset: false,
            success: true,
        })
    }

    fn follow_commit(&mut self, leader_commit: u64) {
        let end = self.last().index;
        if self.version >= Version::Since0316 {
            self.commit = self.commit.min(end);
        }
        if self.version == Version::Upto0311 || leader_commit > self.commit {
            self.commit = leader_commit.min(end);
        }
    }
}
