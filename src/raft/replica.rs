//! What this member holds of its cluster: log, vote, key-value store, and the
//! disk beneath them. Everything else in this room borrows it for a moment; no
//! borrow is held over an await.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use event_listener::{Event, EventListener};
use futures_channel::oneshot;

use super::checkpoint::{self, CheckpointError, CheckpointState};
use super::log::{Log, id_of};
use super::proposals::Held;
use super::types::{LogId, Members, StoredMembership, log_id, membership};
use crate::address::Address;
use crate::bugs::{Bug, planted};
use crate::disk::{
    Arrival, Disk, DiskError, Diverged, HardState, Recovered, Standing, StoredEntry, Worker,
};
use crate::ids::{EntryId, LogIndex, Term};
use crate::kv::{Applied, Change, Poison, Store, call_of};
use crate::limits::LEADERS_FREED_MAX;
use crate::links::epoch::EpochTerm;
use crate::links::follower::{EngineAppend, VoteView};
use crate::reactor::Instant;
use crate::wire::Value;
use crate::wire::snapshot::Snapshot;

/// The replica as openraft's parts and the member share it.
pub type Shared = Rc<RefCell<Replica>>;

/// Whether the entry that a proposer waits for was applied as it was appended.
pub type AppliedRx = oneshot::Receiver<bool>;

/// One member's copy of the cluster's state: log, vote, store and the disk that keeps them.
/// They change together, so openraft's parts and the member hold them in one cell.
pub struct Replica {
    /// Our advertised address.
    pub me: Address,
    /// The log, with members and commit index.
    pub log: Log,
    /// The vote as it is durable.
    pub vote: VoteView,
    /// The vote that is on its way to the disk, if another.
    pub vote_pending: Option<VoteView>,
    /// Whether our word counts (S7).
    pub standing: Standing,
    /// What contradicted our committed entries, if anything does (S2).
    pub diverged: Option<Diverged>,
    /// What we were shown before our word counted.
    pub arrival: Arrival,
    /// The key-value store, as of `applied`.
    pub store: Store,
    /// The last entry applied.
    pub applied: LogIndex,
    /// What openraft regards as no longer in the log.
    pub purged: Option<LogId>,
    /// What must survive.
    pub disk: Disk,
    /// Writes that are not durable yet.
    pub writes_pending: usize,
    /// Counted since the start, for `status`.
    pub counters: Counters,
    /// Leader keys of Patroni's that are free since somebody looked: the path of
    /// each scope, and how.
    pub leaders_freed: Vec<(Rc<str>, Freed)>,
    /// Where the log ended when it was read from disk: what is applied up to here
    /// is replayed, and is no news.
    replayed_to: LogIndex,
    waiters: BTreeMap<LogIndex, (Term, oneshot::Sender<bool>)>,
    changed: Rc<Event>,
}

/// How a leader key became free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freed {
    /// Its holder did not refresh it in time.
    Expired,
    /// It was deleted, as its holder does when it steps down.
    Released,
}

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Entries that Python could not have applied (H1, H6).
    pub poison: u64,
    /// Keys expired.
    pub expired: u64,
}

impl Replica {
    /// What the disk gave back, or the log of a new cluster of `members`.
    pub fn new(
        me: Address,
        members: Members,
        disk: Disk,
        recovered: Recovered,
        changed: Rc<Event>,
        now: Instant,
    ) -> Result<Self, CheckpointError> {
        let (state, mut log) = history(&recovered, members)?;
        let applied = log.commit();
        log.commit_to(recovered.commit.unwrap_or(LogIndex::FIRST));
        let replayed_to = log.last().index;
        let last = state.as_ref().map(|state| id_of(&state.last));
        let purged = last.filter(|last| last.index > LogIndex::FIRST).map(log_id);
        let store = state.map_or_else(|| Store::new(now), |state| Store::load(state.data, now));
        let vote = recovered.hard_state.as_ref().map_or_else(
            || VoteView {
                term: EpochTerm::default(),
                node: me.clone(),
                committed: false,
            },
            |hard| vote_of(hard, &me),
        );
        let hard = recovered.hard_state;
        let diverged = hard.as_ref().and_then(|hard| hard.diverged);
        let diverged = diverged.filter(|_| !planted(Bug::DivergedForgotten));
        let arrival = hard.as_ref().map(|hard| hard.arrival).unwrap_or_default();
        let standing = hard.map_or(Standing::Recovering, |hard| hard.standing);
        Ok(Self {
            me,
            log,
            vote,
            vote_pending: None,
            standing,
            diverged,
            arrival,
            store,
            applied,
            purged,
            disk,
            writes_pending: 0,
            counters: Counters::default(),
            leaders_freed: Vec::new(),
            replayed_to,
            waiters: BTreeMap::new(),
            changed,
        })
    }

    /// Vote, standing and divergence as the disk is to keep them: the newest of
    /// each, for they share a block, and none may undo another.
    pub fn hard_state(&self) -> HardState {
        let vote = self.vote_pending.as_ref().unwrap_or(&self.vote);
        HardState {
            epoch: vote.term.epoch,
            term: vote.term.term,
            voted_for: (vote.term.term > Term::ZERO).then(|| vote.node.clone()),
            committed: vote.committed,
            standing: self.standing,
            diverged: self.diverged,
            arrival: self.arrival,
        }
    }

    /// The first entry that a leader must show to prove that it holds what is
    /// committed here: the one that was contradicted, or all that are retained.
    pub fn compared_from(&self) -> LogIndex {
        let contradicted = self.diverged.map(|diverged| diverged.ours.index);
        let first = contradicted.unwrap_or_else(|| self.log.first().next());
        first.min(self.log.commit())
    }

    /// Resolves when anything here changed after this call.
    pub fn listen(&self) -> EventListener {
        self.changed.listen()
    }

    /// Wakes all that listen.
    pub fn notify(&self) {
        self.changed.notify(usize::MAX);
    }

    /// Resolves when the entry at `id` is applied: whether it is that entry.
    pub fn await_applied(&mut self, id: EntryId) -> AppliedRx {
        let (sender, receiver) = oneshot::channel();
        if id.index <= self.applied {
            let same = self
                .log
                .id_at(id.index)
                .is_some_and(|at| at.term.term == id.term);
            let _ = sender.send(same);
        } else {
            self.waiters.insert(id.index, (id.term, sender));
        }
        receiver
    }

    /// Applies the entry behind the last one applied; others are left alone.
    /// Returns what it did, unless it is replayed after a start: that was counted
    /// and told when it happened.
    pub fn apply(&mut self, index: LogIndex, now: Instant) -> Option<Applied> {
        if index != self.applied.next() {
            return None;
        }
        let entry = self.log.get(index)?;
        let term = entry.entry.id.term;
        let replayed = index <= self.replayed_to;
        self.store.replaying(replayed);
        let applied = match call_of(&entry.entry.command) {
            Some(Ok(call)) => self.store.apply(index, &call, now),
            Some(Err(poison)) => nothing(Some(poison)),
            None => nothing(None),
        };
        self.applied = index;
        if let Some((expected, waiter)) = self.waiters.remove(&index) {
            let _ = waiter.send(expected == term);
        }
        if replayed {
            return None;
        }
        self.note_freed(&applied.change);
        let expired = matches!(applied.change, Change::Expired(_));
        let counters = &mut self.counters;
        counters.poison += u64::from(applied.poison.is_some());
        counters.expired += u64::from(expired);
        Some(applied)
    }

    fn note_freed(&mut self, change: &Change) {
        let (keys, how) = match change {
            Change::Expired(key) => (std::slice::from_ref(key), Freed::Expired),
            Change::Deleted(keys) => (&**keys, Freed::Released),
            _ => return,
        };
        for path in keys.iter().filter_map(|key| leader_path(key.as_str()?)) {
            if self.leaders_freed.len() < LEADERS_FREED_MAX {
                self.leaders_freed.push((path.into(), how));
            }
        }
    }

    /// Whether what was committed before the start is not all applied yet.
    pub fn is_replaying(&self) -> bool {
        self.applied < self.replayed_to.min(self.log.commit())
    }

    /// The members as of what is applied, and where they were set.
    pub fn stored_membership(&self) -> StoredMembership {
        let mut at = self.applied;
        while self.log.members_from(at).is_none() {
            match at.prev() {
                Some(prev) if prev >= self.log.first() => at = prev,
                _ => break,
            }
        }
        let members = self.log.members_at(self.applied).clone();
        StoredMembership::new(self.log.id_at(at).map(log_id), membership(members))
    }

    /// The live state as a checkpoint, and the entries behind it.
    pub fn checkpoint(&self) -> (crate::disk::Checkpoint, Vec<StoredEntry>) {
        let tail = self.log.from(self.applied.next()).cloned().collect();
        (
            checkpoint::encode(&self.log, self.applied, &self.store),
            tail,
        )
    }

    /// The state as a Python peer takes it, and the last entry it covers; none
    /// before the second entry is applied (spec 7.3).
    pub fn snapshot(&self) -> Option<(Snapshot, EntryId)> {
        let last = self.log.get(self.applied)?.entry.clone();
        let prev = self.log.get(self.applied.prev()?)?.entry.clone();
        let id = last.id;
        let data = self
            .store
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let members = self.log.members_at(self.applied).iter().cloned().collect();
        Some((
            Snapshot {
                data,
                last,
                prev,
                members,
            },
            id,
        ))
    }

    /// Where the log must be cut before the engine is given `append` (none: a
    /// snapshot that replaces it), if the engine cannot be trusted to do so.
    ///
    /// E10: openraft knows at most one uncommitted change of the members, and
    /// takes the one before for committed. When a leader undoes both, it asserts
    /// or keeps members that never were. Then the log is cut here, and the
    /// engine built anew from it.
    pub fn cut_before(&self, append: Option<&EngineAppend>) -> Option<LogIndex> {
        if self.log.pending_changes() < 2 {
            return None;
        }
        let Some(append) = append else {
            return Some(self.log.commit());
        };
        let rewritten = append.entries.iter().find(|(epoch, entry)| {
            let term = EpochTerm {
                epoch: *epoch,
                term: entry.id.term,
            };
            self.log
                .id_at(entry.id.index)
                .is_some_and(|ours| ours.term != term)
        });
        rewritten.and_then(|(_, entry)| entry.id.index.prev())
    }

    /// Cuts the log behind `index`, here and on disk. The engine must be stopped,
    /// or know of it.
    pub fn cut(&mut self, index: LogIndex) {
        self.log.truncate_after(index);
        let last = self.log.last().index;
        self.replayed_to = self.replayed_to.min(last);
        self.disk.truncate_after(last);
    }

    /// Log and store, for whoever judges proposals.
    pub fn held(&self) -> Held<'_> {
        Held {
            log: &self.log,
            store: &self.store,
            applied: self.applied,
        }
    }

    /// Replaces log and store by a leader's snapshot.
    pub fn install(&mut self, state: CheckpointState, now: Instant) {
        self.log = state.log();
        self.applied = self.log.commit();
        self.purged = self.log.id_at(self.applied).map(log_id);
        self.store = Store::load(state.data, now);
        let applied = self.applied;
        self.replayed_to = self.replayed_to.min(applied);
        self.waiters = self.waiters.split_off(&applied.next());
    }
}

/// The path of the scope whose leader key this is (spec 6.3).
pub fn leader_path(key: &str) -> Option<&str> {
    let path = key.strip_suffix("/leader")?;
    // A member may be called leader.
    (!path.ends_with("/optime") && !path.ends_with("/members")).then_some(path)
}

/// Opens a cluster's folder. What no replica can be built from is damage as any
/// other (S15).
///
/// # Errors
/// As [`Disk::open`].
pub fn open(
    dir: &Path,
    worker: &Worker,
) -> impl Future<Output = Result<(Disk, Recovered), DiskError>> + 'static {
    Disk::open_readable(dir, worker, |recovered| {
        let history = history(recovered, Members::new());
        history.map(drop).map_err(|error| error.to_string())
    })
}

/// The state of the checkpoint, if there is one, and the log: committed as far as
/// the checkpoint goes. `members`: of a log without one.
fn history(
    recovered: &Recovered,
    members: Members,
) -> Result<(Option<CheckpointState>, Log), CheckpointError> {
    let saved = recovered.checkpoint.as_ref();
    let state = saved
        .map(|saved| checkpoint::decode(&saved.body))
        .transpose()?;
    let mut log = state
        .as_ref()
        .map_or_else(|| Log::initial(members), CheckpointState::log);
    let behind = log.last().index;
    for stored in &recovered.entries {
        if stored.entry.id.index > behind && !log.push(stored.clone()) {
            return Err(CheckpointError);
        }
    }
    Ok((state, log))
}

fn nothing(poison: Option<Poison>) -> Applied {
    Applied {
        result: Value::None,
        change: Change::Nothing,
        poison,
    }
}

fn vote_of(hard: &HardState, me: &Address) -> VoteView {
    VoteView {
        term: EpochTerm {
            epoch: hard.epoch,
            term: hard.term,
        },
        node: hard.voted_for.clone().unwrap_or_else(|| me.clone()),
        committed: hard.committed,
    }
}
