//! Drives the worker's rounds by hand on the simulated disk, and keeps the book
//! against which every recovery is held: each state that was ever asked for, and
//! how far the acknowledgements went.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_channel::oneshot;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::disk::worker::{Job, Op, OpenClusters, SharedBoard, round, take};
use crate::disk::{
    Arrival, Checkpoint, Condition, DiskError, HardState, Recovered, Standing, StoredEntry,
};
use crate::ids::{Entry, EntryId, LogIndex, Term};

use crate::disk::simulated::SimulatedDisk;

pub(super) const DIR: &str = "/data/demo";

/// What an opening must bring back.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Image {
    pub hard: Option<HardState>,
    pub checkpoint: Option<Checkpoint>,
    pub entries: Vec<StoredEntry>,
}

impl Image {
    pub(super) fn of(recovered: &Recovered) -> Self {
        Self {
            hard: recovered.hard_state.clone(),
            checkpoint: recovered.checkpoint.clone(),
            entries: recovered.entries.clone(),
        }
    }

    pub(super) fn last(&self) -> u64 {
        let covered = self.checkpoint.as_ref().map_or(0, |c| c.last.1.index.get());
        let last = self.entries.last().map_or(0, |e| e.entry.id.index.get());
        covered.max(last)
    }
}

type Waiting = oneshot::Receiver<Result<(), DiskError>>;

/// One member over several lives.
pub(super) struct Rig {
    pub sim: SimulatedDisk,
    members: OpenClusters,
    life: u64,
    /// Every state asked for since the last opening, that opening's first.
    book: Vec<Image>,
    /// How far in the book acknowledgements went.
    acknowledged: usize,
    /// Commit index on record for sure, and the greatest ever noted.
    commit_sure: u64,
    commit_noted: u64,
    waiting: Vec<(usize, u64, Waiting)>,
    pub condition: Condition,
}

pub(super) fn index(n: u64) -> LogIndex {
    LogIndex::new(n).unwrap()
}

pub(super) fn entry(n: u64, term: u64, command: &[u8]) -> StoredEntry {
    let id = EntryId {
        index: index(n),
        term: Term::new(term).unwrap(),
    };
    StoredEntry {
        epoch: 7,
        entry: Entry {
            id,
            command: command.into(),
        },
    }
}

pub(super) fn vote(term: u64, port: u16) -> HardState {
    HardState {
        epoch: 1,
        term: Term::new(term).unwrap(),
        voted_for: Some(format!("10.0.0.1:{port}").parse().unwrap()),
        committed: false,
        standing: Standing::Voter,
        diverged: None,
        arrival: Arrival::default(),
    }
}

impl Rig {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sim: SimulatedDisk::new(seed),
            members: OpenClusters::new(),
            life: 0,
            book: vec![Image::default()],
            acknowledged: 0,
            commit_sure: 0,
            commit_noted: 0,
            waiting: Vec::new(),
            condition: Condition::Fresh,
        }
    }

    /// Opens, and holds what is recovered against the book. `Ok(Err)` is a disk
    /// that could not be opened, `Err` a broken promise.
    pub(super) fn open(&mut self) -> Result<Result<(), DiskError>, String> {
        self.members.clear();
        self.life += 1;
        let (done, mut opened) = oneshot::channel();
        let job = Job::Open {
            id: self.life,
            dir: PathBuf::from(DIR),
            storage: self.sim.storage(),
            readable: |_| Ok(()),
            shared: Arc::new(SharedBoard::default()),
            done,
        };
        take(&mut self.members, job);
        let recovered = match opened.try_recv().unwrap().unwrap() {
            Ok(recovered) => recovered,
            Err(error) => return Ok(Err(error)),
        };
        self.condition = recovered.condition.clone();
        let image = Image::of(&recovered);
        match recovered.condition {
            Condition::Damaged { what, .. } => return Err(format!("damaged: {what}")),
            Condition::SetAside { folder } => {
                return Err(format!("set aside: {}", folder.display()));
            }
            _ => {}
        }
        let expected = self.book.get(self.acknowledged..).unwrap();
        if !expected.contains(&image) {
            return Err(format!(
                "recovered {image:?}\nacknowledged {:?}",
                expected[0]
            ));
        }
        let commit = recovered.commit.map_or(0, LogIndex::get);
        if commit < self.commit_sure || commit > self.commit_noted {
            return Err(format!(
                "commit {commit}, sure {}, noted {}",
                self.commit_sure, self.commit_noted
            ));
        }
        self.book = vec![image];
        self.acknowledged = 0;
        self.waiting.clear();
        (self.commit_sure, self.commit_noted) = (commit, commit);
        Ok(Ok(()))
    }

    /// The latest state asked for.
    pub(super) fn latest(&self) -> &Image {
        self.book.last().unwrap()
    }

    fn ask(&mut self, op: Op, image: Image) {
        let (done, completion) = oneshot::channel();
        let awaited = !matches!(op, Op::Truncate { .. } | Op::Commit { .. });
        let commit = match &op {
            Op::Append { entries, .. } if entries.is_empty() => 0,
            Op::Append { .. } | Op::Segment { .. } => self.commit_noted,
            _ => 0,
        };
        self.book.push(image);
        if awaited {
            let place = self.book.len() - 1;
            self.waiting.push((place, commit, completion));
        }
        let id = self.life;
        take(&mut self.members, Job::Op { id, op, done });
    }

    pub(super) fn append(&mut self, entries: Vec<StoredEntry>, commit: u64) {
        let mut image = self.latest().clone();
        image.entries.extend(entries.clone());
        self.commit_noted = self.commit_noted.max(commit.min(image.last()));
        let commit = index(commit.max(1));
        self.ask(Op::Append { entries, commit }, image);
    }

    pub(super) fn truncate(&mut self, after: u64) {
        let mut image = self.latest().clone();
        image.entries.retain(|e| e.entry.id.index <= index(after));
        self.ask(
            Op::Truncate {
                index: index(after),
            },
            image,
        );
    }

    pub(super) fn save(&mut self, state: HardState) {
        let mut image = self.latest().clone();
        image.hard = Some(state.clone());
        self.ask(Op::Hard { state }, image);
    }

    pub(super) fn note_commit(&mut self, commit: u64) {
        let image = self.latest().clone();
        self.commit_noted = self.commit_noted.max(commit.min(image.last()));
        let commit = index(commit);
        self.ask(Op::Commit { commit }, image);
    }

    pub(super) fn begin_segment(
        &mut self,
        checkpoint: Checkpoint,
        tail: Vec<StoredEntry>,
        commit: u64,
        replaces: bool,
    ) {
        let mut image = self.latest().clone();
        image.checkpoint = Some(checkpoint.clone());
        image.entries = tail.clone();
        self.commit_noted = self.commit_noted.max(commit);
        let commit = index(commit);
        self.ask(
            Op::Segment {
                checkpoint,
                tail,
                commit,
                replaces,
            },
            image,
        );
    }

    pub(super) fn close(&mut self) {
        let image = self.latest().clone();
        self.ask(Op::Close, image);
    }

    /// Runs rounds until all is done; false if the disk failed.
    pub(super) fn settle(&mut self) -> bool {
        while round(&mut self.members) {}
        self.collect()
    }

    /// Runs one round.
    pub(super) fn one_round(&mut self) -> bool {
        round(&mut self.members);
        self.collect()
    }

    fn collect(&mut self) -> bool {
        let mut healthy = true;
        let waiting = std::mem::take(&mut self.waiting);
        for (place, commit, mut completion) in waiting {
            match completion.try_recv() {
                Ok(Some(Ok(()))) => {
                    // E7: one that completes covers all before it.
                    self.acknowledged = self.acknowledged.max(place);
                    self.commit_sure = self.commit_sure.max(commit);
                }
                Ok(None) => self.waiting.push((place, commit, completion)),
                Ok(Some(Err(_))) | Err(_) => healthy = false,
            }
        }
        healthy
    }

    /// How many of the operations since the opening are acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Every state asked for since the opening.
    pub(super) fn book(&self) -> &[Image] {
        &self.book
    }

    /// Calls to the storage so far.
    pub(super) fn calls(&self) -> u64 {
        self.sim.world().calls
    }

    /// The process is gone.
    pub(super) fn forget(&mut self) {
        self.members.clear();
    }

    /// The next opening must know this commit index.
    pub(super) fn expect_commit(&mut self, commit: u64) {
        self.commit_sure = commit;
    }

    pub(super) fn wants_checkpoint(&self) -> bool {
        self.members[&self.life].shared().wants_checkpoint()
    }

    pub(super) fn failure(&self) -> Option<&DiskError> {
        self.members.get(&self.life)?.failure()
    }

    /// Asks for something that an engine could ask for.
    pub(super) fn something(&mut self, rng: &mut SmallRng) {
        let last = self.latest().last();
        let commit = self.commit_noted;
        let some_commit = rng.random_range(commit..=last.max(commit)).max(1);
        match rng.random_range(0..12) {
            0..=5 => {
                let sizes = [0, 3, 200, 200, 1000, 5000];
                let count = rng.random_range(1..4);
                let entries = (1..=count).map(|n| {
                    let size = sizes[rng.random_range(0..sizes.len())];
                    entry(last + n, rng.random_range(0..9), &vec![rng.random(); size])
                });
                let entries = entries.collect();
                self.append(entries, some_commit);
            }
            6 | 7 => {
                let floor = commit.max(self.covered());
                if floor < last {
                    self.truncate(rng.random_range(floor.max(1)..=last));
                }
            }
            8 | 9 => {
                let term = self.latest().hard.as_ref().map_or(0, |h| h.term.get());
                let mut state = vote(term + rng.random_range(0..3), rng.random_range(1..4));
                state.arrival.saw_data = rng.random_bool(0.5);
                self.save(state);
            }
            10 if last > 0 => self.note_commit(some_commit),
            _ if last > 1 => self.some_checkpoint(rng, some_commit),
            _ => {}
        }
        if self.wants_checkpoint() && rng.random_bool(0.5) && last > 1 {
            self.some_checkpoint(rng, self.commit_noted.max(1));
        }
    }

    fn covered(&self) -> u64 {
        let checkpoint = self.latest().checkpoint.as_ref();
        checkpoint.map_or(0, |c| c.last.1.index.get())
    }

    fn some_checkpoint(&mut self, rng: &mut SmallRng, commit: u64) {
        let body: Vec<u8> = vec![rng.random(); rng.random_range(0..6000)];
        if rng.random_bool(0.3) {
            let last = self.latest().last() + rng.random_range(1..9);
            let id = entry(last, 5, &[]).entry.id;
            let tail = (1..rng.random_range(1..4)).map(|n| entry(last + n, 5, b"t"));
            let checkpoint = Checkpoint {
                last: (2, id),
                body: body.into(),
            };
            let tail = tail.collect();
            self.begin_segment(checkpoint, tail, last, true);
            return;
        }
        let covered = rng.random_range(self.covered().max(1)..=self.latest().last());
        let covered = covered.min(commit).max(self.covered()).max(1);
        let checkpoint = Checkpoint {
            last: (2, entry(covered, 5, &[]).entry.id),
            body: body.into(),
        };
        let entries = self.latest().entries.iter();
        // The tail may overlap the checkpoint.
        let overlap = rng.random_range(0..3);
        let first = covered.saturating_sub(overlap);
        let tail = entries.filter(|e| e.entry.id.index.get() > first).cloned();
        let tail: Vec<_> = tail.collect();
        self.begin_segment(checkpoint, tail, commit.max(covered), false);
    }

    pub(super) fn folder() -> &'static Path {
        Path::new(DIR)
    }
}
