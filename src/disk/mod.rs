//! What must survive a power cut: the durable state of one member of one
//! cluster. It knows nothing of the engine: entries and checkpoints are opaque.
//!
//! A folder per cluster, so that one cluster's damage is its own:
//!
//! * `log-a`, `log-b`: two segments of reserved space. One is live: it opens with
//!   a checkpoint of the state and the entries behind it, and grows by one frame
//!   per commit, overwriting zeros in place. Full, it is followed by the other,
//!   which opens with the next checkpoint; the reserve is what lets a full disk
//!   still be checkpointed.
//! * `hard-state`: term and vote, in two slots written in turn.
//! * `lock`: held while a process uses the folder.
//! * `damaged-<n>`, `stale-...`: state that was set aside, never deleted here.
//!
//! Other files, a Python controller's among them, are never touched.
//!
//! **Torn writes.** The last block of the log is rewritten in place as it fills,
//! with acknowledged frames in it. That is safe if a power cut leaves any mixture
//! of old and new 512-byte sectors: the bytes of the acknowledged frames are the
//! same in both, so every mixture holds them. Headers and hard-state slots fit
//! one sector: they are the old or the new.
//!
//! **A torn tail or damage?** A frame is written only after its predecessor is
//! durable, and the hard state and the log each note how far the other had come.
//! So a missing frame that nothing later vouches for was never acknowledged: it
//! is cut. One that something vouches for was lost by the medium: the files are
//! set aside and the caller begins amnesic (S7).
//!
//! **Failure.** A failed write or sync ends this [`Disk`]: every later completion
//! reports it. The owner drops it and opens anew (S14). Each opening copies what
//! it reads into the other segment and syncs that, so nothing is ever believed
//! durable because it was found in the page cache, and no failed sync is
//! repeated on the same data.
//!
//! **Unreadable sectors** are damage where something is kept in them, and nothing
//! where nothing is.
//!
//! Files: `state` (what is kept), `format` (bytes), `storage` (system calls), `folder`
//! (names, lock, setting aside), `image` (a file as read), `segment` (one file of the
//! log), `recover` (reading), `cluster` (one cluster's state on the medium), `worker`
//! (the thread that serves all clusters), `stats` (what it has done).

mod cluster;
mod error;
#[cfg(feature = "test-hooks")]
mod faults;
mod folder;
mod format;
mod image;
#[cfg(feature = "test-hooks")]
mod inline;
mod recover;
mod segment;
#[cfg(feature = "test-hooks")]
mod simulated;
mod state;
mod stats;
mod storage;
#[cfg(test)]
mod tests;
mod worker;

use std::cell::Cell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_channel::oneshot;

use crate::ids::LogIndex;

pub use error::DiskError;
#[cfg(feature = "test-hooks")]
pub use faults::Faults;
#[cfg(feature = "test-hooks")]
pub use simulated::{Backup, SimulatedDisk};
pub use state::{
    Arrival, Checkpoint, Condition, Diverged, HardState, ReadableBy, Reading, Recovered, Standing,
    StoredEntry,
};
pub use stats::Stats;
pub use worker::Worker;

use storage::{RealStorage, Storage};
use worker::{Job, Op, SharedBoard};

/// The outcome of a write: resolves when it, and all before it on the same
/// [`Disk`], is durable, or with what failed. It may be dropped; the write is
/// made all the same.
#[derive(Debug)]
pub struct Completion(oneshot::Receiver<Result<(), DiskError>>);

impl Future for Completion {
    type Output = Result<(), DiskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|sent| sent.unwrap_or(Err(DiskError::Stopped)))
    }
}

/// One cluster's durable state. Its methods return at once; the worker does the
/// I/O in the order of the calls. Dropped without [`Disk::close`] it still writes
/// what was asked for, then releases the folder.
#[derive(Debug)]
pub struct Disk {
    id: u64,
    worker: Worker,
    shared: Arc<SharedBoard>,
    closed: Cell<bool>,
}

impl Disk {
    /// Opens a cluster's folder, creating it if need be, and reads what is there.
    /// Waits for the disk: before the executor runs; from it, use
    /// [`Disk::open_async`].
    ///
    /// # Errors
    /// The folder is in use, not writable, full, or a newer version's. Damage is
    /// no error but a [`Condition`].
    pub fn open(dir: &Path, worker: &Worker) -> Result<(Self, Recovered), DiskError> {
        futures_lite::future::block_on(Self::open_async(dir, worker))
    }

    /// As [`Disk::open`], without blocking. It comes after all that earlier
    /// `Disk`s were asked to do: one dropped just before has released the folder.
    ///
    /// # Errors
    /// As [`Disk::open`].
    pub fn open_async(
        dir: &Path,
        worker: &Worker,
    ) -> impl Future<Output = Result<(Self, Recovered), DiskError>> + 'static {
        Self::open_readable(dir, worker, |_| Ok(()))
    }

    /// As [`Disk::open_async`]. Where `readable` says what it cannot read of the
    /// state, that state is damaged.
    ///
    /// # Errors
    /// As [`Disk::open`].
    pub fn open_readable(
        dir: &Path,
        worker: &Worker,
        readable: ReadableBy,
    ) -> impl Future<Output = Result<(Self, Recovered), DiskError>> + 'static {
        Self::open_on(dir, worker, worker.storage(), readable)
    }

    fn open_on(
        dir: &Path,
        worker: &Worker,
        storage: Arc<dyn Storage>,
        readable: ReadableBy,
    ) -> impl Future<Output = Result<(Self, Recovered), DiskError>> + 'static {
        let (done, opened) = oneshot::channel();
        let shared = Arc::new(SharedBoard::default());
        let id = worker.next_id();
        worker.send(Job::Open {
            id,
            dir: dir.to_path_buf(),
            storage,
            readable,
            shared: Arc::clone(&shared),
            done,
        });
        let disk = Self {
            id,
            worker: worker.clone(),
            shared,
            closed: Cell::new(false),
        };
        async move {
            let recovered = opened.await.unwrap_or(Err(DiskError::Stopped))?;
            Ok((disk, recovered))
        }
    }

    /// Appends entries, which must follow the log's last, and notes the commit
    /// index.
    pub fn append(&self, entries: Vec<StoredEntry>, commit: LogIndex) -> Completion {
        self.send(Op::Append { entries, commit })
    }

    /// Removes the entries beyond `index`. Written with the next operation that
    /// completes, before it; if it is refused (a committed entry, S2) that
    /// completion says so.
    pub fn truncate_after(&self, index: LogIndex) {
        drop(self.send(Op::Truncate { index }));
    }

    /// Saves term, vote and standing (S1). All earlier writes are durable before
    /// it (E7).
    pub fn save_hard_state(&self, state: HardState) -> Completion {
        self.send(Op::Hard { state })
    }

    /// Replaces the whole log by a snapshot that a leader sent, and the entries
    /// to be kept behind it.
    pub fn install(
        &self,
        checkpoint: Checkpoint,
        tail: Vec<StoredEntry>,
        commit: LogIndex,
    ) -> Completion {
        self.begin_segment(checkpoint, tail, commit, true)
    }

    /// Whether the live segment is past its threshold and no checkpoint is under
    /// way: time to call [`Disk::checkpoint`].
    pub fn wants_checkpoint(&self) -> bool {
        self.shared.wants_checkpoint()
    }

    /// Begins the next segment with a checkpoint and the entries to be kept. The
    /// tail must end where the log ends, so that nothing is lost by it.
    pub fn checkpoint(
        &self,
        checkpoint: Checkpoint,
        tail: Vec<StoredEntry>,
        commit: LogIndex,
    ) -> Completion {
        self.begin_segment(checkpoint, tail, commit, false)
    }

    fn begin_segment(
        &self,
        checkpoint: Checkpoint,
        tail: Vec<StoredEntry>,
        commit: LogIndex,
        replaces: bool,
    ) -> Completion {
        self.send(Op::Segment {
            checkpoint,
            tail,
            commit,
            replaces,
        })
    }

    /// Notes the commit index. It is written with the next record, or by
    /// [`Disk::close`]: nothing is written while nothing is appended.
    pub fn note_commit(&self, commit: LogIndex) {
        drop(self.send(Op::Commit { commit }));
    }

    /// Writes what is still to be written and releases the folder.
    pub fn close(&self) -> Completion {
        self.closed.set(true);
        self.send(Op::Close)
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    fn send(&self, op: Op) -> Completion {
        let (done, completion) = oneshot::channel();
        self.worker.queue(self.id, &self.shared, op, done);
        Completion(completion)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !self.closed.get() {
            self.worker.send(Job::Release { id: self.id });
        }
    }
}

/// Moves a cluster's state into a folder `name` inside `dir` (`name-2` and so on
/// if that exists) and returns that folder; nothing is deleted. A name that
/// begins with neither `stale-` nor `damaged-` gets `stale-` in front: by those
/// a later opening knows that state was set aside (S7).
///
/// # Errors
/// The folder is in use (close the [`Disk`] first), or cannot be written.
pub fn set_aside(dir: &Path, name: &str) -> Result<PathBuf, DiskError> {
    set_aside_on(&RealStorage, dir, name)
}

/// As [`set_aside`], on the disk that a worker serves.
///
/// # Errors
/// As [`set_aside`].
pub fn set_aside_of(worker: &Worker, dir: &Path, name: &str) -> Result<PathBuf, DiskError> {
    set_aside_on(worker.storage().as_ref(), dir, name)
}

fn set_aside_on(storage: &dyn Storage, dir: &Path, name: &str) -> Result<PathBuf, DiskError> {
    let _lock = folder::take_lock(storage, dir)?;
    folder::set_aside(storage, dir, name)
}
