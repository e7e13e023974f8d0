//! The one thread that writes and syncs for all clusters, so that nothing blocks
//! the executor.
//!
//! It works in rounds. A round takes from each cluster's queue what may share one
//! sync of the log, then what may share one save of the hard state: an append
//! that was asked for after a vote waits for the next round, so that the order on
//! the medium is the order of the calls. What is asked for while a round syncs is
//! the next round: group commit. When many clusters wait, one sync of the file
//! system serves them all.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use futures_channel::oneshot;

use crate::bugs::{Bug, planted};
use crate::ids::LogIndex;
use crate::limits::{DISK_QUEUE_BYTES_MAX, DISK_ROUND_BYTES};
use crate::reactor::Instant;

use super::cluster::Cluster;
use super::stats::{Stats, today};
use super::storage::{File, RealStorage, Storage};
use super::{Checkpoint, DiskError, HardState, ReadableBy, Recovered, StoredEntry};

/// From how many waiting clusters of one file system on its sync replaces their
/// own. A `syncfs` also writes what others left dirty, and the inodes' times,
/// which `fdatasync` spares; with fewer clusters it is the slower of the two.
const SHARED_SYNC_MIN: usize = 8;

/// What a file's bookkeeping counts for, in bytes, in the queue's cap.
const OP_BYTES: usize = 128;

/// Handle of the disk thread. Clones share it; it ends when the last handle and
/// the last [`super::Disk`] are gone.
#[derive(Debug, Clone)]
pub struct Worker {
    jobs: Jobs,
    next_id: Arc<AtomicU64>,
    storage: Arc<dyn Storage>,
}

/// The way to whoever does the jobs.
#[derive(Debug, Clone)]
pub(super) enum Jobs {
    /// The disk thread.
    Thread(Sender<Job>),
    /// A task under simulated time.
    #[cfg(feature = "test-hooks")]
    Task(smol::channel::Sender<Job>),
}

type Done = oneshot::Sender<Result<(), DiskError>>;
type Opened = oneshot::Sender<Result<Recovered, DiskError>>;

/// What the thread is told.
pub(super) enum Job {
    /// Open a folder.
    Open {
        id: u64,
        dir: PathBuf,
        storage: Arc<dyn Storage>,
        readable: ReadableBy,
        shared: Arc<SharedBoard>,
        done: Opened,
    },
    /// Do something for an open cluster.
    Op { id: u64, op: Op, done: Done },
    /// Finish what was asked for and release the folder.
    Release { id: u64 },
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

/// One operation of a cluster.
pub(super) enum Op {
    Append {
        entries: Vec<StoredEntry>,
        commit: LogIndex,
    },
    Truncate {
        index: LogIndex,
    },
    Commit {
        commit: LogIndex,
    },
    Hard {
        state: HardState,
    },
    Segment {
        checkpoint: Checkpoint,
        tail: Vec<StoredEntry>,
        commit: LogIndex,
        replaces: bool,
    },
    Close,
}

impl Op {
    /// What it holds in memory, roughly, in bytes.
    fn bytes(&self) -> usize {
        let entries = |list: &[StoredEntry]| {
            list.iter()
                .map(|e| e.entry.command.len().saturating_add(OP_BYTES))
                .fold(0, usize::saturating_add)
        };
        OP_BYTES.saturating_add(match self {
            Self::Append { entries: list, .. } => entries(list),
            Self::Segment {
                checkpoint, tail, ..
            } => entries(tail).saturating_add(checkpoint.body.len()),
            _ => 0,
        })
    }
}

/// What a [`super::Disk`] and the thread both see.
#[derive(Debug, Default)]
pub(super) struct SharedBoard(Mutex<Board>);

#[derive(Debug, Default)]
struct Board {
    stats: Stats,
    past_threshold: bool,
    /// Segments asked for and not yet begun.
    segments_asked: usize,
    queued_bytes: usize,
}

impl SharedBoard {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> Stats {
        self.board().stats
    }

    pub(super) fn wants_checkpoint(&self) -> bool {
        let board = self.board();
        board.past_threshold && board.segments_asked == 0
    }
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread for us.
    pub fn start() -> io::Result<Self> {
        Self::start_on(Arc::new(RealStorage))
    }

    /// As [`Worker::start`], on a disk that does wrong what a test wants.
    ///
    /// # Errors
    /// As [`Worker::start`].
    #[cfg(feature = "test-hooks")]
    pub fn start_with(faults: super::Faults) -> io::Result<Self> {
        Self::start_on(Arc::new(faults))
    }

    fn start_on(storage: Arc<dyn Storage>) -> io::Result<Self> {
        let (jobs, inbox) = channel();
        thread::Builder::new()
            .name("disk".into())
            .spawn(move || run(&inbox))?;
        Ok(Self::served_by(Jobs::Thread(jobs), storage))
    }

    pub(super) fn served_by(jobs: Jobs, storage: Arc<dyn Storage>) -> Self {
        Self {
            jobs,
            next_id: Arc::new(AtomicU64::new(0)),
            storage,
        }
    }

    /// Where its clusters live.
    pub(super) fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Gives out the id of the cluster that is opened next.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Queues a job. If the thread is gone the job's sender drops, which its
    /// receiver reads as [`DiskError::Stopped`].
    pub(super) fn send(&self, job: Job) {
        match &self.jobs {
            Jobs::Thread(thread) => drop(thread.send(job)),
            #[cfg(feature = "test-hooks")]
            Jobs::Task(task) => drop(task.try_send(job)),
        }
    }

    /// Queues an operation, unless the cluster's queue is at its cap.
    pub(super) fn queue(&self, id: u64, shared: &SharedBoard, op: Op, done: Done) {
        let bytes = op.bytes();
        let queued = {
            let mut board = shared.board();
            let queued = board.queued_bytes.saturating_add(bytes);
            if queued <= DISK_QUEUE_BYTES_MAX {
                board.queued_bytes = queued;
                board.segments_asked += usize::from(matches!(op, Op::Segment { .. }));
            }
            queued
        };
        if queued > DISK_QUEUE_BYTES_MAX {
            drop(done.send(Err(DiskError::TooLarge {
                what: "a disk queue",
                bytes: queued as u64,
                max: DISK_QUEUE_BYTES_MAX as u64,
            })));
        } else {
            self.send(Job::Op { id, op, done });
        }
    }
}

/// The thread: takes all jobs there are, then runs a round, until no handle is
/// left.
fn run(inbox: &Receiver<Job>) {
    let mut members = BTreeMap::new();
    while let Ok(job) = inbox.recv() {
        take(&mut members, job);
        loop {
            for job in inbox.try_iter() {
                take(&mut members, job);
            }
            if !round(&mut members) {
                break;
            }
        }
    }
}

pub(super) type OpenClusters = BTreeMap<u64, OpenCluster>;

pub(super) fn take(members: &mut OpenClusters, job: Job) {
    match job {
        Job::Open {
            id,
            dir,
            storage,
            readable,
            shared,
            done,
        } => {
            // What was asked for before comes before: a folder just released is free.
            while round(members) {}
            let opened = Cluster::open(storage, &dir, readable).map(|(cluster, recovered)| {
                let member = OpenCluster::new(cluster, shared);
                members.insert(id, member);
                recovered
            });
            drop(done.send(opened));
        }
        Job::Op { id, op, done } => {
            if let Some(member) = members.get_mut(&id) {
                member.queue.push_back((op, done));
            }
        }
        Job::Release { id } => {
            if let Some(member) = members.get_mut(&id) {
                member.queue.push_back((Op::Close, oneshot::channel().0));
            }
        }
    }
}

/// One round for all clusters that have something to do. False if none has.
pub(super) fn round(members: &mut OpenClusters) -> bool {
    if !write(members, ClusterFile::Log) {
        return false;
    }
    sync(members, ClusterFile::Log);
    write(members, ClusterFile::Hard);
    sync(members, ClusterFile::Hard);
    release(members);
    true
}

/// Which file of a cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ClusterFile {
    Log,
    Hard,
}

/// Writes what may share one sync of this file. False if no cluster has anything to
/// do.
pub(super) fn write(members: &mut OpenClusters, part: ClusterFile) -> bool {
    let mut busy = false;
    for member in members
        .values_mut()
        .filter(|member| !member.queue.is_empty())
    {
        busy = true;
        match part {
            ClusterFile::Log => member.take_log(),
            ClusterFile::Hard => member.take_hard_state(),
        }
    }
    busy
}

/// Whether any cluster waits for a sync.
#[cfg(feature = "test-hooks")]
pub(super) fn is_dirty(members: &OpenClusters) -> bool {
    members.values().any(|member| member.dirty.is_some())
}

/// Syncs what was written, and completes what that made durable.
pub(super) fn sync(members: &mut OpenClusters, part: ClusterFile) {
    let mut dirty: Vec<&mut OpenCluster> = members
        .values_mut()
        .filter(|member| member.dirty == Some(part))
        .collect();
    let files: Vec<&dyn File> = dirty.iter().map(|m| m.file(part)).collect();
    let outcomes = sync_files(&files);
    for (member, outcome) in dirty.iter_mut().zip(outcomes) {
        member.synced(part, outcome);
    }
}

/// Closes the clusters that are to be closed.
pub(super) fn release(members: &mut OpenClusters) {
    let closed = members.extract_if(.., |_, member| member.closing.is_some());
    for (_, member) in closed {
        member.close();
    }
}

/// Syncs files: many of one file system by one call, the others one by one.
pub(super) fn sync_files(files: &[&dyn File]) -> Vec<io::Result<Duration>> {
    let mut on: BTreeMap<u64, (usize, Option<Duration>)> = BTreeMap::new();
    for file in files {
        if let Some(file_system) = file.file_system() {
            on.entry(file_system).or_default().0 += 1;
        }
    }
    for file in files {
        let entry = file.file_system().and_then(|id| on.get_mut(&id));
        if let Some((waiting, shared)) = entry
            && *waiting >= SHARED_SYNC_MIN
        {
            *waiting = 0;
            let begun = Instant::now();
            // If it fails each file says for itself whether its writes were lost.
            *shared = file.sync_file_system().ok().map(|()| begun.elapsed());
        }
    }
    let sync = |file: &&dyn File| {
        let shared = file.file_system().and_then(|id| on.get(&id)?.1);
        if let Some(elapsed) = shared {
            return Ok(elapsed);
        }
        let begun = Instant::now();
        file.sync().map(|()| begun.elapsed())
    };
    files.iter().map(sync).collect()
}

/// One open cluster and what it is asked to do.
pub(super) struct OpenCluster {
    cluster: Cluster,
    shared: Arc<SharedBoard>,
    queue: VecDeque<(Op, Done)>,
    /// Completed by the next sync.
    waiting: Vec<Done>,
    /// What the next sync is for.
    dirty: Option<ClusterFile>,
    /// The first failure; nothing is written after it (S14).
    failed: Option<DiskError>,
    /// Set by the last operation; completed when the folder is released.
    closing: Option<Done>,
}

impl OpenCluster {
    fn new(cluster: Cluster, shared: Arc<SharedBoard>) -> Self {
        let mut member = Self {
            cluster,
            shared,
            queue: VecDeque::new(),
            waiting: Vec::new(),
            dirty: None,
            failed: None,
            closing: None,
        };
        member.publish();
        member
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &SharedBoard {
        &self.shared
    }

    #[cfg(test)]
    pub(super) fn failure(&self) -> Option<&DiskError> {
        self.failed.as_ref()
    }

    /// Takes the next operation off the queue.
    fn pop(&mut self) -> Option<(Op, Done)> {
        let (op, done) = self.queue.pop_front()?;
        let mut board = self.shared.board();
        board.queued_bytes = board.queued_bytes.saturating_sub(op.bytes());
        if matches!(op, Op::Segment { .. }) {
            board.segments_asked = board.segments_asked.saturating_sub(1);
        }
        Some((op, done))
    }

    /// Stages operations of the log up to the next of another kind, and writes
    /// them if somebody waits for them.
    fn take_log(&mut self) {
        let outcome = match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.write_log(),
        };
        if let Err(error) = outcome {
            self.fail(error);
        }
        self.publish();
    }

    fn write_log(&mut self) -> Result<(), DiskError> {
        let mut awaited = false;
        while self.cluster.staged_len() < DISK_ROUND_BYTES && self.closing.is_none() {
            match self.queue.front() {
                Some((Op::Hard { .. } | Op::Segment { .. }, _)) | None => break,
                Some(_) => {}
            }
            let Some((op, done)) = self.pop() else { break };
            match op {
                Op::Append { entries, commit } => {
                    awaited = true;
                    self.waiting.push(done);
                    self.cluster.append(&entries, commit)?;
                }
                // Nobody waits for these: they go with what comes next.
                Op::Truncate { index } => self.cluster.truncate_after(index)?,
                Op::Commit { commit } => self.cluster.note_commit(commit),
                Op::Close => self.closing = Some(done),
                Op::Hard { .. } | Op::Segment { .. } => {}
            }
        }
        let ordered = matches!(
            self.queue.front(),
            Some((Op::Hard { .. } | Op::Segment { .. }, _))
        );
        let closing = self.closing.is_some();
        if (awaited || ordered || closing) && self.cluster.write_log(closing)? {
            if planted(Bug::AcknowledgeBeforeFsync) {
                self.complete();
            }
            self.dirty = Some(ClusterFile::Log);
            return Ok(());
        }
        self.complete();
        self.begin_segment()
    }

    /// Begins a segment, if that is what comes next.
    fn begin_segment(&mut self) -> Result<(), DiskError> {
        if !matches!(self.queue.front(), Some((Op::Segment { .. }, _))) {
            return Ok(());
        }
        let Some((op, done)) = self.pop() else {
            return Ok(());
        };
        self.waiting.push(done);
        if let Op::Segment {
            checkpoint,
            tail,
            commit,
            replaces,
        } = op
        {
            self.cluster
                .checkpoint(&checkpoint, &tail, commit, replaces)?;
        }
        self.complete();
        Ok(())
    }

    /// Writes the last of the hard states that come next; the others are
    /// superseded before anybody was told of them.
    fn take_hard_state(&mut self) {
        let mut last = None;
        while self.failed.is_none()
            && matches!(self.queue.front(), Some((Op::Hard { .. }, _)))
            && let Some((Op::Hard { state }, done)) = self.pop()
        {
            self.waiting.push(done);
            last = Some(state);
        }
        let Some(state) = last else { return };
        match self.cluster.write_hard_state(&state) {
            Ok(()) => self.dirty = Some(ClusterFile::Hard),
            Err(error) => self.fail(error),
        }
    }

    fn file(&self, part: ClusterFile) -> &dyn File {
        match part {
            ClusterFile::Log => self.cluster.log_file().0,
            ClusterFile::Hard => self.cluster.hard_file().0,
        }
    }

    /// Learns what came of a sync.
    fn synced(&mut self, part: ClusterFile, outcome: io::Result<Duration>) {
        self.dirty = None;
        match outcome {
            Ok(elapsed) => {
                match part {
                    ClusterFile::Log => self.cluster.log_synced(),
                    ClusterFile::Hard => self.cluster.hard_synced(),
                }
                let mut board = self.shared.board();
                board.stats.syncs += 1;
                board.stats.commits += u64::from(part == ClusterFile::Log);
                board.stats.sync_last = elapsed;
                board.stats.sync_max = board.stats.sync_max.max(elapsed);
                drop(board);
                self.publish();
                self.complete();
            }
            Err(error) => {
                let path = match part {
                    ClusterFile::Log => self.cluster.log_file().1.to_path_buf(),
                    ClusterFile::Hard => self.cluster.hard_file().1,
                };
                self.fail(DiskError::io(&path, "sync", &error));
            }
        }
    }

    fn complete(&mut self) {
        for done in self.waiting.drain(..) {
            drop(done.send(Ok(())));
        }
    }

    /// Refuses all that waits, now and from now on.
    fn fail(&mut self, error: DiskError) {
        while let Some((op, done)) = self.pop() {
            match op {
                Op::Close => self.closing = Some(done),
                _ => self.waiting.push(done),
            }
        }
        for done in self.waiting.drain(..) {
            drop(done.send(Err(error.clone())));
        }
        self.dirty = None;
        self.failed.get_or_insert(error);
    }

    /// Shows the counters to the other side.
    fn publish(&mut self) {
        let written = self.cluster.take_written();
        let mut board = self.shared.board();
        board.stats.bytes_written = board.stats.bytes_written.saturating_add(written);
        board.stats.count_today(today(), written);
        board.stats.segment_bytes = self.cluster.segment_used();
        board.past_threshold = self.cluster.wants_checkpoint();
    }

    /// Releases the folder, then completes the close.
    fn close(self) {
        let Self {
            cluster,
            closing,
            failed,
            ..
        } = self;
        drop(cluster);
        if let Some(done) = closing {
            drop(done.send(failed.map_or(Ok(()), Err)));
        }
    }
}
