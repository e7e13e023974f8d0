//! Whether a leader that we do not follow holds what is committed here: what ends a
//! divergence (S2) and being orphaned by itself (S15). A pure decision, as in
//! `follower`.
//!
//! Entries are compared whole, with their commands: index and term name an entry
//! to Raft, and logs that differ have failed by just that. What a leader has sent
//! before we looked it does not send again unless it is asked: the question is a
//! reset, which only rewinds and promises nothing (S7).

use super::follower::{Divergence, LocalLog, is_same};
use crate::ids::{Entry, EntryId, LogIndex, Term};

/// What a leader has shown on one connection, in one term: it never rewrites its
/// log in its term, so that one look at it is enough.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reconciliation {
    term: Term,
    /// Up to here it holds what we hold.
    upto: Option<LogIndex>,
    asked: bool,
}

/// What follows from a message of a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It has shown all that is committed here.
    Agrees,
    /// It has another entry in the place of a committed one.
    Contradicts(Divergence),
    /// It has at least as many entries: it is to be asked for those from here on.
    Ask(LogIndex),
    /// It does not hold all, or has not shown it yet.
    Nothing,
}

impl Reconciliation {
    /// Compares what a leader of `term` sends, entries behind `prev` or none, with
    /// what is committed here from `from` on.
    pub fn observe(
        &mut self,
        log: &impl LocalLog,
        from: LogIndex,
        term: Term,
        prev: Option<EntryId>,
        entries: &[Entry],
    ) -> Finding {
        if self.term != term {
            *self = Self {
                term,
                ..Self::default()
            };
        }
        let next = self.upto.map_or(from, LogIndex::next).max(from);
        if entries.first().is_some_and(|entry| entry.id.index <= next)
            && let Some(divergence) = self.compare(log, entries)
        {
            return Finding::Contradicts(divergence);
        }
        let commit = log.commit();
        if self.upto >= Some(commit) {
            return Finding::Agrees;
        }
        let last = entries.last().map(|entry| entry.id).or(prev);
        if last.is_some_and(|last| last.index >= commit) && !self.asked {
            self.asked = true;
            return Finding::Ask(from);
        }
        Finding::Nothing
    }

    /// The same for the last two entries that a snapshot covers; two, for a NO_OP of
    /// a term that came twice is the same in both. The entries behind it follow
    /// unasked.
    pub fn observe_snapshot(
        &mut self,
        log: &impl LocalLog,
        term: Term,
        entries: [&Entry; 2],
    ) -> Finding {
        let [prev, last] = entries;
        if last.id.index > log.commit() {
            return Finding::Nothing;
        }
        self.observe(log, prev.id.index, term, None, &entries.map(Clone::clone))
    }

    /// Compares entries with those that are committed and retained here. The first
    /// that differs, if one does.
    fn compare(&mut self, log: &impl LocalLog, entries: &[Entry]) -> Option<Divergence> {
        let commit = log.commit();
        for entry in entries.iter().filter(|entry| entry.id.index <= commit) {
            let index = entry.id.index;
            let Some(ours) = log.term_at(index) else {
                continue;
            };
            if !is_same(log, ours, entry) {
                let ours = EntryId {
                    index,
                    term: ours.term,
                };
                let theirs = entry.id;
                return Some(Divergence { ours, theirs });
            }
            self.upto = self.upto.max(Some(index));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::epoch::{EpochId, EpochTerm};

    /// Entries from 2 on, the last of which is not committed.
    struct Log(Vec<Entry>);

    impl LocalLog for Log {
        fn first(&self) -> LogIndex {
            LogIndex::FIRST
        }

        fn last(&self) -> EpochId {
            let id = self.0.last().unwrap().id;
            EpochId {
                index: id.index,
                term: self.term_at(id.index).unwrap(),
            }
        }

        fn term_at(&self, index: LogIndex) -> Option<EpochTerm> {
            let found = self.0.iter().find(|entry| entry.id.index == index);
            found.map(|entry| EpochTerm {
                epoch: 0,
                term: entry.id.term,
            })
        }

        fn command_at(&self, index: LogIndex) -> Option<&[u8]> {
            let found = self.0.iter().find(|entry| entry.id.index == index);
            found.map(|entry| &*entry.command)
        }

        fn commit(&self) -> LogIndex {
            self.last().index.prev().unwrap()
        }
    }

    fn entry(index: u64, term: u64, command: &[u8]) -> Entry {
        Entry {
            id: EntryId {
                index: LogIndex::new(index).unwrap(),
                term: Term::new(term).unwrap(),
            },
            command: command.into(),
        }
    }

    fn at(index: u64) -> LogIndex {
        LogIndex::new(index).unwrap()
    }

    /// Entries 2 to 6 of term 3, of which 5 are committed.
    fn ours() -> (Log, Vec<Entry>) {
        let entries: Vec<_> = (2..=6).map(|i| entry(i, 3, &i.to_le_bytes())).collect();
        (Log(entries.clone()), entries)
    }

    const TERM: Term = Term::ZERO;

    #[test]
    fn a_leader_that_holds_all_is_asked_once_and_agrees() {
        let (log, entries) = ours();
        let mut seen = Reconciliation::default();
        let heartbeat = entry(9, 8, b"").id;
        let mut observe = |prev, entries: &[Entry]| seen.observe(&log, at(3), TERM, prev, entries);
        assert_eq!(observe(Some(heartbeat), &[]), Finding::Ask(at(3)));
        assert_eq!(observe(Some(heartbeat), &[]), Finding::Nothing);
        assert_eq!(
            observe(Some(entries[0].id), &entries[1..3]),
            Finding::Nothing
        );
        // A gap proves nothing; what closes it does.
        let beyond = [entries[4].clone(), entry(7, 8, b"x")];
        assert_eq!(observe(Some(entries[3].id), &beyond), Finding::Nothing);
        assert_eq!(
            observe(Some(entries[2].id), &entries[3..4]),
            Finding::Agrees
        );
    }

    #[test]
    fn names_are_not_enough() {
        let (log, entries) = ours();
        let mut seen = Reconciliation::default();
        // A heartbeat at our very last entry.
        let same = Some(entries[3].id);
        assert_eq!(
            seen.observe(&log, at(3), TERM, same, &[]),
            Finding::Ask(at(3))
        );
        let other = [entries[1].clone(), entry(4, 3, b"another")];
        let named = Divergence {
            ours: entries[2].id,
            theirs: entries[2].id,
        };
        let found = seen.observe(&log, at(3), TERM, Some(entries[0].id), &other);
        assert_eq!(found, Finding::Contradicts(named));
    }

    #[test]
    fn a_leader_with_fewer_entries_is_not_asked() {
        let (log, entries) = ours();
        let mut seen = Reconciliation::default();
        let short = Some(entry(4, 9, b"").id);
        assert_eq!(
            seen.observe(&log, at(3), TERM, short, &[]),
            Finding::Nothing
        );
        // What one term has shown counts for no other.
        let of_one = seen.observe(&log, at(3), TERM, None, &entries[1..3]);
        assert_eq!(of_one, Finding::Nothing);
        let later = TERM.next();
        let found = seen.observe(&log, at(3), later, Some(entries[2].id), &entries[3..4]);
        assert_eq!(found, Finding::Ask(at(3)));
    }

    #[test]
    fn a_snapshot_shows_its_two_last_entries() {
        let (log, entries) = ours();
        let mut seen = Reconciliation::default();
        let within = [&entries[1], &entries[2]];
        assert_eq!(seen.observe_snapshot(&log, TERM, within), Finding::Nothing);
        let behind = Some(entries[2].id);
        assert_eq!(
            seen.observe(&log, at(2), TERM, behind, &entries[3..4]),
            Finding::Agrees
        );
        // One that ends beyond our log can be of any history.
        let mut seen = Reconciliation::default();
        let (prev, last) = (entry(8, 3, b"x"), entry(9, 3, b"y"));
        let beyond = seen.observe_snapshot(&log, TERM, [&prev, &last]);
        assert_eq!(beyond, Finding::Nothing);
        let (prev, last) = (entry(4, 3, b"x"), entry(5, 3, b"y"));
        let other = seen.observe_snapshot(&log, TERM, [&prev, &last]);
        assert!(matches!(other, Finding::Contradicts(_)), "{other:?}");
    }
}
