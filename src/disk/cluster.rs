//! One cluster's files, open: stages operations into a frame, writes it, begins
//! segments, saves the hard state. Runs on the worker thread and blocks there;
//! when to sync is the worker's decision, so that syncs can be shared.
//!
//! After any error the owner must call nothing but drop: the rule that a failed
//! sync is never repeated rests on it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ids::{LogIndex, Term};
use crate::limits::{DISK_FRAME_BYTES_MAX, DISK_ROUND_BYTES, DISK_SEGMENT_BYTES_MAX};

use super::folder::{
    HARD_STATE, SEGMENTS, at, free_damaged, set_aside, set_aside_before, take_lock,
};
use super::format::{BLOCK, FrameBuilder, FrameHead, HardSlot, SegmentHeader, place};
use super::recover::{Found, RecoveredState, SegmentLog, recover};
use super::segment::Segment;
use super::storage::{File, Storage};
use super::{
    Arrival, Checkpoint, Condition, DiskError, HardState, ReadableBy, Recovered, Standing,
    StoredEntry,
};

/// Largest body of a checkpoint: with its header it is one frame.
const CHECKPOINT_BYTES_MAX: u64 = (DISK_FRAME_BYTES_MAX - (1 << 10)) as u64;

/// A cluster's durable state: two segments and the file of the hard state, and of each how
/// far it is written and how far durable. One value, for one sync settles all of them.
pub(super) struct Cluster {
    dir: PathBuf,
    nonces: Arc<dyn Storage>,
    live: Segment,
    live_path: PathBuf,
    /// None until the first segment is begun.
    live_header: Option<SegmentHeader>,
    spare: Segment,
    spare_path: PathBuf,
    hard: Box<dyn File>,
    /// The last save that is durable.
    hard_seq: u64,
    /// A save written and not yet synced.
    hard_written: Option<u64>,
    generation: u64,
    /// The last frame that is durable.
    synced_seq: u64,
    /// A frame written and not yet synced.
    frame_written: Option<u64>,
    /// What the next frame will hold.
    staged: FrameBuilder,
    /// The last index of the log, staged entries included.
    last: Option<LogIndex>,
    /// The last entry under the checkpoint.
    covered: Option<LogIndex>,
    commit: u64,
    commit_written: u64,
    /// Bytes in use from which on a checkpoint is due.
    threshold: u64,
    segment_bytes: u64,
    /// Bytes written since last asked.
    written: u64,
    _lock: Box<dyn Send>,
}

impl Cluster {
    /// Opens a folder: reads it, sets damage aside, and begins a new segment with
    /// what was read.
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        readable: ReadableBy,
    ) -> Result<(Self, Recovered), DiskError> {
        let lock = take_lock(storage.as_ref(), dir)?;
        let mut found = recover(storage.as_ref(), dir)?;
        let mut damage = None;
        if let Ok(Some(state)) = &found.state
            && let Err(what) = readable(&recovered(Some(state), None))
        {
            found.state = Err(what);
        }
        if let Err(what) = found.state {
            let name = free_damaged(storage.as_ref(), dir)?;
            let set_aside = set_aside(storage.as_ref(), dir, &name)?;
            damage = Some(Condition::Damaged { what, set_aside });
            found = recover(storage.as_ref(), dir)?;
        }
        let earlier = set_aside_before(storage.as_ref(), dir)?;
        let state = found.state.as_ref().ok().and_then(Option::as_ref);
        let mut recovered = recovered(state, earlier.as_deref());
        if let Some(damage) = damage {
            recovered.condition = damage;
        }
        let mut cluster = Self::create(&storage, dir, &found, lock)?;
        cluster.begin(state.map(|s| &s.hard), &recovered)?;
        Ok((cluster, recovered))
    }

    /// Opens the files, creating and reserving what is missing.
    fn create(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        found: &Found,
        lock: Box<dyn Send>,
    ) -> Result<Self, DiskError> {
        let segment_bytes = storage.segment_bytes();
        let state = found.state.as_ref().ok().and_then(Option::as_ref);
        let slot = state.map_or(1, |s| s.slot);
        let [a, b] = SEGMENTS.map(|name| dir.join(name));
        let (live_path, spare_path) = if slot == 0 { (a, b) } else { (b, a) };
        let mut written = 0;
        let mut open = |path: &Path| -> io::Result<Segment> {
            let mut segment = Segment::new(storage.open(path, true)?)?;
            if segment.capacity() < segment_bytes {
                written += segment.reserve(segment_bytes)?;
                segment.file().sync()?;
            }
            Ok(segment)
        };
        // The spare first: on a full disk it is the one that the opening needs.
        let spare = open(&spare_path).map_err(at(&spare_path, "create"))?;
        let live = open(&live_path).map_err(at(&live_path, "create"))?;
        let hard_path = dir.join(HARD_STATE);
        let hard =
            open_hard_state(storage.as_ref(), &hard_path).map_err(at(&hard_path, "create"))?;
        storage.sync_dir(dir).map_err(at(dir, "sync"))?;
        for (other, (name, used)) in SEGMENTS.into_iter().zip(found.used).enumerate() {
            if used && state.is_none_or(|s| s.slot != other) {
                // It may be live on the medium even if the page cache says no.
                let segment = if other == slot { &live } else { &spare };
                let path = dir.join(name);
                written += segment
                    .write_header(&SegmentHeader::VOID)
                    .map_err(at(&path, "write"))?;
                segment.file().sync().map_err(at(&path, "sync"))?;
            }
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            nonces: Arc::clone(storage),
            live,
            live_path,
            live_header: state.map(|s| s.header),
            spare,
            spare_path,
            hard,
            hard_seq: found.hard_seq,
            hard_written: None,
            generation: found.generation,
            synced_seq: state.map_or(0, |s| s.log.last_seq),
            frame_written: None,
            staged: FrameBuilder::default(),
            last: None,
            covered: None,
            commit: 0,
            commit_written: 0,
            threshold: 0,
            segment_bytes,
            written,
            _lock: lock,
        })
    }

    /// Copies what was read: it may stand in the page cache alone, from a write
    /// whose sync failed or never came.
    fn begin(&mut self, hard: Option<&HardSlot>, recovered: &Recovered) -> Result<(), DiskError> {
        match hard {
            // With the old note on the log: the frames read are not durable yet.
            Some(slot) => self.write_hard_slot(slot.state.clone(), slot.log_seq)?,
            // Both slots, before there is a log: one missing later is damage.
            None => {
                self.write_hard_slot(None, 0)?;
                self.hard_synced();
                self.write_hard_slot(None, 0)?;
            }
        }
        self.hard.sync().map_err(at(&self.hard_path(), "sync"))?;
        self.hard_synced();
        let commit = recovered.commit.map_or(0, LogIndex::get);
        let checkpoint = recovered.checkpoint.as_ref();
        self.next_segment(checkpoint, &recovered.entries, commit)
    }

    /// Stages entries for the next frame.
    pub(super) fn append(
        &mut self,
        entries: &[StoredEntry],
        commit: LogIndex,
    ) -> Result<(), DiskError> {
        for stored in entries {
            let index = stored.entry.id.index;
            if self.last.is_some_and(|last| last.next() != index) {
                return Err(DiskError::Order {
                    what: format!(
                        "entry {index} does not follow the log's last, {}",
                        shown(self.last)
                    ),
                });
            }
            self.staged.entry(stored);
            self.last = Some(index);
        }
        self.note_commit(commit);
        let len = self.staged.frame_len() as u64;
        within_cap("an append", len, DISK_FRAME_BYTES_MAX as u64)
    }

    /// Stages a truncation for the next frame.
    pub(super) fn truncate_after(&mut self, index: LogIndex) -> Result<(), DiskError> {
        if index.get() < self.commit || self.covered.is_some_and(|covered| index < covered) {
            // S2, the last guard: what is committed stays.
            return Err(DiskError::Order {
                what: format!(
                    "truncation after {index} would remove committed entries (commit index {}, checkpoint {})",
                    self.commit,
                    shown(self.covered)
                ),
            });
        }
        if self.last.is_some_and(|last| index < last) {
            self.staged.truncate_after(index);
            self.last = Some(index);
        }
        Ok(())
    }

    /// Notes the commit index for the next frame, as far as the log goes.
    pub(super) fn note_commit(&mut self, commit: LogIndex) {
        let last = self.last.map_or(0, LogIndex::get);
        self.commit = self.commit.max(commit.get().min(last));
    }

    /// Length of the frame that is staged, in bytes.
    pub(super) fn staged_len(&self) -> usize {
        self.staged.frame_len()
    }

    /// Writes what is staged as one frame; at a clean close also a commit index
    /// alone. True if there is now something to sync.
    pub(super) fn write_log(&mut self, closing: bool) -> Result<bool, DiskError> {
        let news = closing && self.commit > self.commit_written;
        if self.staged.is_empty() && !news {
            return Ok(false);
        }
        self.make_room()?;
        let staged = std::mem::take(&mut self.staged);
        let head = self.head();
        let written = self
            .live
            .write_frame(staged, head)
            .map_err(at(&self.live_path, "write"))?;
        self.written = self.written.saturating_add(written);
        self.commit_written = head.commit;
        self.frame_written = Some(head.seq);
        Ok(true)
    }

    fn head(&self) -> FrameHead {
        FrameHead {
            seq: self.synced_seq.saturating_add(1),
            commit: self.commit,
            hard_seq: self.hard_seq,
        }
    }

    /// The file that [`Cluster::write_log`] wrote, and its path.
    pub(super) fn log_file(&self) -> (&dyn File, &Path) {
        (self.live.file(), &self.live_path)
    }

    /// The log's file was synced.
    pub(super) fn log_synced(&mut self) {
        if let Some(seq) = self.frame_written.take() {
            self.synced_seq = seq;
        }
    }

    /// Grows the live segment if the staged frame does not fit: the owner was
    /// slow to checkpoint. The spare grows first, so that what the log holds
    /// always fits into it.
    fn make_room(&mut self) -> Result<(), DiskError> {
        let needed = self.live.end_with(self.staged.frame_len());
        if needed <= self.live.capacity() {
            return Ok(());
        }
        let capacity = needed.next_multiple_of(self.segment_bytes);
        if capacity > DISK_SEGMENT_BYTES_MAX {
            return Err(DiskError::TooLarge {
                what: "a log segment",
                bytes: capacity,
                max: DISK_SEGMENT_BYTES_MAX,
            });
        }
        self.reserve_both(capacity)
    }

    fn reserve_both(&mut self, capacity: u64) -> Result<(), DiskError> {
        let both = [
            (&mut self.spare, &self.spare_path),
            (&mut self.live, &self.live_path),
        ];
        for (segment, path) in both {
            if segment.capacity() < capacity {
                let written = segment.reserve(capacity).map_err(at(path, "extend"))?;
                self.written = self.written.saturating_add(written);
                segment.file().sync().map_err(at(path, "sync"))?;
            }
        }
        Ok(())
    }

    /// Writes term and vote. To be synced next.
    pub(super) fn write_hard_state(&mut self, state: &HardState) -> Result<(), DiskError> {
        self.write_hard_slot(Some(state.clone()), self.synced_seq)
    }

    fn write_hard_slot(&mut self, state: Option<HardState>, log_seq: u64) -> Result<(), DiskError> {
        let seq = self.hard_seq.saturating_add(1);
        let slot = HardSlot {
            seq,
            log_seq,
            state,
        };
        let block = slot.encode();
        self.hard
            .write_at((seq % 2) * BLOCK as u64, &block)
            .map_err(at(&self.hard_path(), "write"))?;
        self.written = self.written.saturating_add(block.len() as u64);
        self.hard_written = Some(seq);
        Ok(())
    }

    /// The hard state's file and path.
    pub(super) fn hard_file(&self) -> (&dyn File, PathBuf) {
        (self.hard.as_ref(), self.hard_path())
    }

    fn hard_path(&self) -> PathBuf {
        self.dir.join(HARD_STATE)
    }

    /// The hard state's file was synced.
    pub(super) fn hard_synced(&mut self) {
        if let Some(seq) = self.hard_written.take() {
            self.hard_seq = seq;
        }
    }

    /// Begins the next segment with a checkpoint and the entries to be kept;
    /// durable on return. Unless it `replaces` the log, the tail must end where
    /// the log ends.
    pub(super) fn checkpoint(
        &mut self,
        checkpoint: &Checkpoint,
        tail: &[StoredEntry],
        commit: LogIndex,
        replaces: bool,
    ) -> Result<(), DiskError> {
        let last = last_of(Some(checkpoint), tail)?;
        if !replaces && last != self.last {
            return Err(DiskError::Order {
                what: format!(
                    "the checkpoint's tail ends at {}, the log at {}",
                    shown(last),
                    shown(self.last)
                ),
            });
        }
        let commit = if replaces {
            commit.get()
        } else {
            self.commit.max(commit.get())
        };
        self.next_segment(Some(checkpoint), tail, commit)
    }

    fn next_segment(
        &mut self,
        checkpoint: Option<&Checkpoint>,
        tail: &[StoredEntry],
        commit: u64,
    ) -> Result<(), DiskError> {
        self.last = last_of(checkpoint, tail)?;
        self.covered = checkpoint.map(|c| c.last.1.index);
        self.commit = commit.min(self.last.map_or(0, LogIndex::get));
        let checkpoint_len = checkpoint.map_or(0, |c| c.body.len()) as u64;
        within_cap("a checkpoint", checkpoint_len, CHECKPOINT_BYTES_MAX)?;
        self.staged = FrameBuilder::default();
        self.write_opening(Opening::new(checkpoint, tail))?;
        self.commit_written = self.commit;
        self.reserve_for(checkpoint_len)
    }

    /// Writes the opening into the spare, and only when that is durable releases
    /// the segment before it. Until the release is durable too nothing is
    /// acknowledged in the new one: of two live segments the earlier counts.
    fn write_opening(&mut self, opening: Opening) -> Result<(), DiskError> {
        let head = self.head();
        let header = SegmentHeader {
            generation: self.generation.saturating_add(1),
            nonce: self.nonces.nonce(),
            first_seq: head.seq,
            live: true,
        };
        let spare_path = self.spare_path.clone();
        let failed = |action| at(&spare_path, action);
        self.spare.restart(header.nonce);
        let end = opening.end();
        within_cap("a log segment", end, DISK_SEGMENT_BYTES_MAX)?;
        let mut written = self.spare.reserve(end).map_err(failed("extend"))?;
        let mut last_seq = head.seq;
        for (seq, frame) in (head.seq..).zip(opening.frames) {
            last_seq = seq;
            let head = FrameHead { seq, ..head };
            written += self
                .spare
                .write_frame(frame, head)
                .map_err(failed("write"))?;
        }
        written += self.spare.write_header(&header).map_err(failed("write"))?;
        self.spare.file().sync().map_err(failed("sync"))?;
        if let Some(old) = self.live_header {
            let failed = |action| at(&self.live_path, action);
            let released = SegmentHeader { live: false, ..old };
            written += self.live.write_header(&released).map_err(failed("write"))?;
            self.live.file().sync().map_err(failed("sync"))?;
        }
        self.written = self.written.saturating_add(written);
        self.live_header = Some(header);
        self.generation = header.generation;
        self.synced_seq = last_seq;
        std::mem::swap(&mut self.live, &mut self.spare);
        std::mem::swap(&mut self.live_path, &mut self.spare_path);
        Ok(())
    }

    /// Sets the next checkpoint's threshold, so that the log grows at least by
    /// the checkpoint's size in between (each byte is then rewritten about once),
    /// and reserves the space if it can be had: if not, the threshold comes first.
    fn reserve_for(&mut self, checkpoint_len: u64) -> Result<(), DiskError> {
        let capacity = checkpoint_len
            .saturating_mul(2)
            .saturating_add(self.segment_bytes / 2)
            .next_multiple_of(self.segment_bytes)
            .min(DISK_SEGMENT_BYTES_MAX);
        let room = capacity.saturating_sub(checkpoint_len);
        self.threshold = checkpoint_len.saturating_add(room / 4 * 3);
        match self.reserve_both(capacity) {
            Ok(()) | Err(DiskError::Full { .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Whether a checkpoint is due.
    pub(super) fn wants_checkpoint(&self) -> bool {
        self.live.used() > self.threshold
    }

    /// Bytes of the live segment in use.
    pub(super) fn segment_used(&self) -> u64 {
        self.live.used()
    }

    /// Bytes written since last asked.
    pub(super) fn take_written(&mut self) -> u64 {
        std::mem::take(&mut self.written)
    }
}

fn open_hard_state(storage: &dyn Storage, path: &Path) -> io::Result<Box<dyn File>> {
    let file = storage.open(path, true)?;
    let len = file.len()?;
    let zeros = [0; 2 * BLOCK];
    let missing = zeros.get(usize::try_from(len).unwrap_or(usize::MAX)..);
    if let Some(missing) = missing.filter(|m| !m.is_empty()) {
        file.write_at(len, missing)?;
        file.sync()?;
    }
    Ok(file)
}

/// What the caller gets to see of a state.
fn recovered(state: Option<&RecoveredState>, set_aside: Option<&Path>) -> Recovered {
    let empty = SegmentLog::default();
    let log = state.map_or(&empty, |s| &s.log);
    let saved = state.and_then(|s| s.hard.state.clone());
    // S7: where state was lost, only a saved standing makes a voter again.
    let amnesic = set_aside.map(|_| HardState {
        epoch: 0,
        term: Term::ZERO,
        voted_for: None,
        committed: false,
        standing: Standing::Recovering,
        diverged: None,
        arrival: Arrival::default(),
    });
    let condition = match (state, set_aside) {
        (None, None) => Condition::Fresh,
        (None, Some(folder)) => Condition::SetAside {
            folder: folder.to_path_buf(),
        },
        (Some(_), _) if log.torn_bytes > 0 => Condition::TornTail {
            bytes: log.torn_bytes,
        },
        (Some(_), _) => Condition::Intact,
    };
    let last = log.last().map_or(0, LogIndex::get);
    Recovered {
        hard_state: saved.or(amnesic),
        checkpoint: log.checkpoint.clone(),
        entries: log.entries.clone(),
        commit: LogIndex::new(log.commit.min(last)),
        condition,
        set_aside: set_aside.is_some(),
    }
}

/// The last index of a checkpoint and its tail, which must be one log.
fn last_of(
    checkpoint: Option<&Checkpoint>,
    tail: &[StoredEntry],
) -> Result<Option<LogIndex>, DiskError> {
    let covered = checkpoint.map(|c| c.last.1.index);
    let mut last = None;
    for index in tail.iter().map(|e| e.entry.id.index) {
        let follows = match (last, covered) {
            (Some(last), _) => LogIndex::next(last) == index,
            (None, Some(covered)) => index <= covered.next(),
            (None, None) => true,
        };
        if !follows {
            return Err(DiskError::Order {
                what: format!("entry {index} of a checkpoint's tail leaves a gap"),
            });
        }
        last = Some(index);
    }
    if last.is_some() && last < covered {
        return Err(DiskError::Order {
            what: format!(
                "a checkpoint of {} has a tail that ends at {}",
                shown(covered),
                shown(last)
            ),
        });
    }
    Ok(last.max(covered))
}

/// What opens a segment: a checkpoint and the entries behind it, in as many frames
/// as they take. All of them are durable before the segment counts, so that one
/// that is missing later is damage as anywhere else.
struct Opening {
    frames: Vec<FrameBuilder>,
}

impl Opening {
    fn new(checkpoint: Option<&Checkpoint>, tail: &[StoredEntry]) -> Self {
        let mut frames = Vec::new();
        let mut frame = FrameBuilder::default();
        if let Some(checkpoint) = checkpoint {
            frame.checkpoint(checkpoint);
        }
        for stored in tail {
            if frame.frame_len() >= DISK_ROUND_BYTES {
                frames.push(std::mem::take(&mut frame));
            }
            frame.entry(stored);
        }
        frames.push(frame);
        Self { frames }
    }

    /// Where the block ends in its segment in which the last frame ends.
    fn end(&self) -> u64 {
        let lengths = self.frames.iter().map(FrameBuilder::frame_len);
        let end = lengths.fold(BLOCK as u64, |end, len| {
            place(end, len).saturating_add(len as u64)
        });
        end.next_multiple_of(BLOCK as u64)
    }
}

fn within_cap(what: &'static str, bytes: u64, max: u64) -> Result<(), DiskError> {
    if bytes <= max {
        return Ok(());
    }
    Err(DiskError::TooLarge { what, bytes, max })
}

fn shown(index: Option<LogIndex>) -> String {
    index.map_or_else(|| "none".into(), |i| i.to_string())
}
