//! The log as this process holds it: entries with their epochs and the members
//! that follow from them.
//!
//! Never empty: the first entry that is retained is the base whose term every
//! append must match (spec 5.1). What of it is durable is the disk's matter.

use std::collections::VecDeque;
use std::sync::Arc;

use super::types::{Members, NO_OP};
use crate::address::Address;
use crate::disk::StoredEntry;
use crate::ids::{Entry, EntryId, LogIndex, Term};
use crate::links::epoch::{EpochId, EpochTerm};
use crate::links::follower::LocalLog;
use crate::wire::command::Command;

/// Contiguous entries, from the base on.
#[derive(Debug, Clone)]
pub struct Log {
    base: StoredEntry,
    /// What follows the base.
    rest: VecDeque<StoredEntry>,
    /// Each position from which a set of members is in force; the first is
    /// that of the base.
    members: Vec<(LogIndex, Members)>,
    /// Everything up to here is committed.
    commit: LogIndex,
}

impl Log {
    /// The log with which every node of a new cluster starts (spec 5.1).
    pub fn initial(members: Members) -> Self {
        let id = EntryId {
            index: LogIndex::FIRST,
            term: Term::ZERO,
        };
        let base = StoredEntry {
            epoch: 0,
            entry: Entry {
                id,
                command: Arc::from(NO_OP),
            },
        };
        Self::starting_at(base, members)
    }

    /// A log of one committed entry.
    pub fn starting_at(base: StoredEntry, members: Members) -> Self {
        let index = base.entry.id.index;
        Self {
            base,
            rest: VecDeque::new(),
            members: vec![(index, members)],
            commit: index,
        }
    }

    /// The first entry retained.
    pub fn first(&self) -> LogIndex {
        self.base.entry.id.index
    }

    /// The last entry.
    pub fn last(&self) -> EpochId {
        id_of(self.rest.back().unwrap_or(&self.base))
    }

    /// How many entries are retained.
    pub fn len(&self) -> usize {
        self.rest.len().saturating_add(1)
    }

    /// Always false: see the head of this file.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// An entry.
    pub fn get(&self, index: LogIndex) -> Option<&StoredEntry> {
        let offset = index.get().checked_sub(self.first().get())?;
        match offset.checked_sub(1) {
            None => Some(&self.base),
            Some(offset) => self.rest.get(usize::try_from(offset).ok()?),
        }
    }

    /// An entry's identity.
    pub fn id_at(&self, index: LogIndex) -> Option<EpochId> {
        self.get(index).map(id_of)
    }

    /// The entries from `first` on.
    pub fn from(&self, first: LogIndex) -> impl Iterator<Item = &StoredEntry> + Clone {
        let skip = first.get().saturating_sub(self.first().get());
        std::iter::once(&self.base)
            .chain(self.rest.iter())
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
    }

    /// Appends behind the last entry. Returns whether the entry stands where it
    /// should; one that does not is refused.
    pub fn push(&mut self, entry: StoredEntry) -> bool {
        let index = entry.entry.id.index;
        if index != self.last().index.next() {
            return false;
        }
        if let Some(members) = members_after(self.members(), &entry.entry.command) {
            self.members.push((index, members));
        }
        self.rest.push_back(entry);
        true
    }

    /// Drops everything behind `index`, which must not lie before the base or
    /// what is committed.
    pub fn truncate_after(&mut self, index: LogIndex) {
        let index = index.max(self.commit);
        let keep = index.get().saturating_sub(self.first().get());
        self.rest
            .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        let base = self.first();
        self.members.retain(|(at, _)| *at <= index || *at == base);
    }

    /// Makes `index` the base: what lies before it is forgotten. Ignored beyond
    /// what is committed.
    pub fn compact(&mut self, index: LogIndex) {
        let index = index.min(self.commit);
        while self.first() < index {
            let Some(next) = self.rest.pop_front() else {
                return;
            };
            self.base = next;
        }
        let first = self.first();
        while self.members.get(1).is_some_and(|(at, _)| *at <= first) {
            self.members.remove(0);
        }
        if let Some((at, _)) = self.members.first_mut() {
            *at = first;
        }
    }

    /// Everything up to `index` is committed now; never goes back, nor beyond
    /// the last entry.
    pub fn commit_to(&mut self, index: LogIndex) {
        self.commit = index.min(self.last().index).max(self.commit);
    }

    /// What is committed.
    pub fn commit(&self) -> LogIndex {
        self.commit
    }

    /// The members as of the end of the log, committed or not (H15).
    pub fn members(&self) -> &Members {
        static NONE: Members = Members::new();
        self.members.last().map_or(&NONE, |(_, members)| members)
    }

    /// The members as of `index`.
    pub fn members_at(&self, index: LogIndex) -> &Members {
        let at = self.members.iter().rev().find(|(at, _)| *at <= index);
        at.or(self.members.first())
            .map_or_else(|| self.members(), |(_, members)| members)
    }

    /// The members that the entry at `index` brought into force.
    pub fn members_from(&self, index: LogIndex) -> Option<&Members> {
        let base = self.first();
        let found = self
            .members
            .iter()
            .find(|(at, _)| *at == index && index != base);
        found.map(|(_, members)| members)
    }

    /// The retained entries that added this member, in order.
    pub fn additions(&self, member: &Address) -> impl Iterator<Item = LogIndex> {
        let pairs = self.members.windows(2).filter_map(|pair| match pair {
            [(_, before), (at, after)] => Some((*at, before, after)),
            _ => None,
        });
        pairs
            .filter(move |(_, before, after)| !before.contains(member) && after.contains(member))
            .map(|(at, ..)| at)
    }

    /// How many changes of the members are not committed yet (H17, E10).
    pub fn pending_changes(&self) -> usize {
        self.members
            .iter()
            .filter(|(at, _)| *at > self.commit)
            .count()
    }
}

impl LocalLog for Log {
    fn first(&self) -> LogIndex {
        self.first()
    }

    fn last(&self) -> EpochId {
        self.last()
    }

    fn term_at(&self, index: LogIndex) -> Option<EpochTerm> {
        self.id_at(index).map(|id| id.term)
    }

    fn command_at(&self, index: LogIndex) -> Option<&[u8]> {
        self.get(index).map(|stored| &*stored.entry.command)
    }

    fn commit(&self) -> LogIndex {
        self.commit
    }
}

/// A stored entry's identity.
pub fn id_of(stored: &StoredEntry) -> EpochId {
    let EntryId { index, term } = stored.entry.id;
    EpochId {
        term: EpochTerm {
            epoch: stored.epoch,
            term,
        },
        index,
    }
}

/// The members after a command: none if it changes nothing.
pub fn members_after(members: &Members, command: &[u8]) -> Option<Members> {
    if !Command::is_membership(command) {
        return None;
    }
    let Command::Membership { add, address } = Command::parse(command) else {
        return None;
    };
    let address: &Address = &address;
    if add == members.contains(address) {
        return None;
    }
    let mut members = members.clone();
    if add {
        members.insert(address.clone());
    } else {
        members.remove(address);
    }
    Some(members)
}
