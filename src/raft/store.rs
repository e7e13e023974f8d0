//! The replica as openraft's log storage: what openraft appends goes into the
//! log at once, to the disk in order, and is reported when it is durable.
//!
//! A storage error ends this engine for good; the member builds the next one
//! from disk (S14).

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::log::id_of;
use super::replica::Shared;
use super::types::{
    LogId, Payload, RaftLogEntry, TypeConfig, Vote, epoch_id, log_id, log_index, raft_index,
};
use crate::bugs::{Bug, planted};
use crate::disk::StoredEntry;
use crate::ids::{Entry, LogIndex};
use crate::links::follower::VoteView;
use crate::reactor;
use crate::wire::message::ApplyOutcome;

/// openraft's handle of the log.
#[derive(Clone)]
pub struct LogStore(pub Shared);

/// A vote as openraft compares it.
pub fn vote_to_raft(vote: &VoteView) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.node.clone())
    } else {
        Vote::new(vote.term, vote.node.clone())
    }
}

fn vote_from_raft(vote: &Vote) -> VoteView {
    VoteView {
        term: vote.leader_id.term,
        node: vote.leader_id.voted_for.clone(),
        committed: vote.committed,
    }
}

fn end_of(bound: Bound<&u64>) -> u64 {
    match bound {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    }
}

fn start_of(bound: Bound<&u64>) -> u64 {
    match bound {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftLogEntry>> {
        let (first, end) = (start_of(range.start_bound()), end_of(range.end_bound()));
        let replica = self.0.borrow();
        let log = &replica.log;
        Ok(log
            .from(log_index(first))
            .take_while(|stored| raft_index(stored.entry.id.index) < end)
            .map(|stored| {
                let id = id_of(stored);
                let initial = id.index == LogIndex::FIRST;
                let members = log
                    .members_from(id.index)
                    .or_else(|| initial.then(|| log.members_at(id.index)))
                    .cloned();
                let command = stored.entry.command.clone();
                RaftLogEntry::new(
                    log_id(id),
                    Payload {
                        command,
                        members,
                        origin: None,
                    },
                )
            })
            .collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let replica = self.0.borrow();
        let given = replica.vote.term != crate::links::epoch::EpochTerm::default();
        Ok(given.then(|| vote_to_raft(&replica.vote)))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let replica = self.0.borrow();
        Ok(LogState {
            last_purged_log_id: replica.purged,
            last_log_id: Some(log_id(replica.log.last())),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = vote_from_raft(vote);
        let saved = {
            let mut replica = self.0.borrow_mut();
            replica.vote_pending = Some(vote.clone());
            let state = replica.hard_state();
            (!planted(Bug::VoteTwice)).then(|| replica.disk.save_hard_state(state))
        };
        if let Some(saved) = saved {
            // E7: done only when all earlier writes are durable too.
            saved.await.map_err(io::Error::other)?;
        }
        let mut replica = self.0.borrow_mut();
        replica.vote = vote;
        replica.vote_pending = None;
        replica.notify();
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mut replica = self.0.borrow_mut();
        if let Some(committed) = committed {
            replica.log.commit_to(epoch_id(&committed).index);
            let commit = replica.log.commit();
            replica.disk.note_commit(commit);
            replica.notify();
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let replica = self.0.borrow();
        Ok(replica.log.id_at(replica.log.commit()).map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftLogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let flushed = {
            let mut replica = self.0.borrow_mut();
            let mut stored = Vec::new();
            for entry in entries {
                let id = epoch_id(&entry.log_id);
                let payload = entry.payload;
                let entry = StoredEntry {
                    epoch: id.term.epoch,
                    entry: Entry {
                        id: id.entry_id(),
                        command: payload.command,
                    },
                };
                if !replica.log.push(entry.clone()) {
                    return Err(io::Error::other("an entry does not follow the last"));
                }
                // S5, H3: the proposer hears of its entry before anybody can
                // be sent it.
                if let Some(origin) = payload.origin {
                    origin.answer(ApplyOutcome::Appended(entry.entry.id));
                }
                stored.push(entry);
            }
            let commit = replica.log.commit();
            let appended = replica.disk.append(stored, commit);
            let flushed = if replica.disk.wants_checkpoint() {
                let (checkpoint, tail) = replica.checkpoint();
                replica.disk.checkpoint(checkpoint, tail, commit)
            } else {
                appended
            };
            replica.writes_pending = replica.writes_pending.saturating_add(1);
            replica.notify();
            flushed
        };
        let shared = self.0.clone();
        reactor::spawn(async move {
            let result = flushed.await.map_err(io::Error::other);
            // After a failure it stays pending for ever: what this log holds is
            // durable no more, and must not be acknowledged until it is read
            // from the disk again (S14, E8).
            if result.is_ok() {
                let mut replica = shared.borrow_mut();
                replica.writes_pending = replica.writes_pending.saturating_sub(1);
                replica.notify();
            }
            callback.io_completed(result);
        })
        .detach();
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let mut replica = self.0.borrow_mut();
        let last = last.map_or(LogIndex::FIRST, |id| epoch_id(&id).index);
        replica.cut(last);
        replica.notify();
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut replica = self.0.borrow_mut();
        let index = epoch_id(&upto).index;
        // The entry before the last one purged is kept too: both belong into a
        // snapshot (spec 7.3).
        if let Some(base) = index.prev() {
            replica.log.compact(base);
        }
        replica.purged = Some(upto);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::reactor::Instant;
    use std::cell::RefCell;
    use std::rc::Rc;

    use event_listener::Event;
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::address::Address;
    use crate::disk::{Disk, Standing, Worker};
    use crate::ids::Term;
    use crate::links::epoch::EpochTerm;
    use crate::raft::replica::Replica;
    use crate::raft::types::Members;

    /// S1: vote and standing share a block. What is said of the one while the
    /// other is on its way must not take that back.
    #[test]
    fn a_vote_on_its_way_survives_a_new_standing() {
        let folder = tempfile::tempdir().unwrap();
        let worker = Worker::start().unwrap();
        let me: Address = "127.0.0.1:2222".parse().unwrap();
        let leader: Address = "127.0.0.1:2223".parse().unwrap();
        let vote = VoteView {
            term: EpochTerm {
                epoch: 1,
                term: Term::new(7).unwrap(),
            },
            node: leader.clone(),
            committed: true,
        };
        let (disk, recovered) = Disk::open(folder.path(), &worker).unwrap();
        let members = Members::from([me.clone(), leader]);
        let replica = Replica::new(
            me,
            members,
            disk,
            recovered,
            Rc::new(Event::new()),
            Instant::now(),
        );
        let replica = Rc::new(RefCell::new(replica.unwrap()));
        block_on(async {
            let mut store = LogStore(replica.clone());
            let vote = vote_to_raft(&vote);
            let mut saved = Box::pin(store.save_vote(&vote));
            let done = poll_once(&mut saved).await;
            let standing = {
                let mut replica = replica.borrow_mut();
                replica.standing = Standing::Voter;
                replica.disk.save_hard_state(replica.hard_state())
            };
            if done.is_none() {
                saved.await.unwrap();
            }
            standing.await.unwrap();
        });
        drop(replica);
        let (_, recovered) = Disk::open(folder.path(), &worker).unwrap();
        let hard_state = recovered.hard_state.unwrap();
        assert_eq!(hard_state.term, vote.term.term);
        assert_eq!(hard_state.voted_for, Some(vote.node));
        assert_eq!(hard_state.standing, Standing::Voter);
    }
}
