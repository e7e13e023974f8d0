//! Reading what an earlier life left: which segment counts, what it holds, and
//! whether what is missing was ever acknowledged. Writes nothing.

use std::path::Path;

use crate::ids::LogIndex;
use crate::limits::DISK_SEGMENT_BYTES_MAX;

use super::folder::{HARD_STATE, SEGMENTS};
use super::format::{
    BLOCK, FORMAT, Frame, HardSlot, Read, Record, SegmentHeader, find_frame, frame_at, frame_claim,
    records,
};
use super::image::Image;
use super::storage::Storage;
use super::{Checkpoint, DiskError, StoredEntry};

/// What the files hold.
pub(super) struct Found {
    /// The state, or what is lost of it; neither if nothing was ever saved.
    pub state: Result<Option<RecoveredState>, String>,
    /// The greatest generation in any header.
    pub generation: u64,
    /// The last save of the hard state; 0 if none.
    pub hard_seq: u64,
    /// Which of [`SEGMENTS`] has something in its first block.
    pub used: [bool; 2],
}

/// A state as read.
pub(super) struct RecoveredState {
    /// The last save of the hard state.
    pub hard: HardSlot,
    /// Which of [`SEGMENTS`] counts.
    pub slot: usize,
    /// Its header.
    pub header: SegmentHeader,
    /// The log that it holds.
    pub log: SegmentLog,
}

/// What a segment's frames add up to.
#[derive(Default)]
pub(super) struct SegmentLog {
    pub checkpoint: Option<Checkpoint>,
    pub entries: Vec<StoredEntry>,
    /// The greatest commit index noted; 0 if none.
    pub commit: u64,
    /// The greatest save of the hard state noted.
    hard_seq: u64,
    /// The last frame.
    pub last_seq: u64,
    /// Bytes of a frame that was being written.
    pub torn_bytes: u64,
}

/// Reads a folder's state.
pub(super) fn recover(storage: &dyn Storage, dir: &Path) -> Result<Found, DiskError> {
    let hard = read_hard_state(storage, dir)?;
    let mut headers = Vec::new();
    for name in SEGMENTS {
        let path = dir.join(name);
        let image = Image::read(storage, &path, BLOCK)?;
        let header = image.block(0).map_or(Read::Bad, SegmentHeader::decode);
        if let Read::Newer(found) = header {
            return Err(newer(&path, found));
        }
        headers.push(header);
    }
    let blank = headers.iter().all(|header| match header {
        Read::Blank => true,
        Read::Valid(header) => header.is_void(),
        Read::Bad | Read::Newer(_) => false,
    });
    let used = [0, 1].map(|slot| headers.get(slot) != Some(&Read::Blank));
    let known: Vec<(usize, SegmentHeader)> = headers
        .into_iter()
        .enumerate()
        .filter_map(|(slot, read)| match read {
            Read::Valid(header) if !header.is_void() => Some((slot, header)),
            _ => None,
        })
        .collect();
    let generations = known.iter().map(|(_, header)| header.generation);
    Ok(Found {
        generation: generations.max().unwrap_or(0),
        hard_seq: hard.latest.as_ref().map_or(0, |slot| slot.seq),
        state: choose(storage, dir, hard, &known, blank)?,
        used,
    })
}

/// Finds the segment that counts and reads it.
fn choose(
    storage: &dyn Storage,
    dir: &Path,
    hard: HardRead,
    known: &[(usize, SegmentHeader)],
    blank: bool,
) -> Result<Result<Option<RecoveredState>, String>, DiskError> {
    if hard.unreadable {
        // A slot fits one sector, which is the old or the new: an unreadable one
        // may be the last vote. Rather amnesic than a second vote (S1).
        return Ok(Err("hard-state: a slot is unreadable".into()));
    }
    let saved = hard
        .latest
        .as_ref()
        .is_some_and(|slot| slot.state.is_some());
    if !saved && blank {
        return Ok(Ok(None));
    }
    let live = known.iter().filter(|(_, header)| header.live);
    // Of two, the earlier: until its release is durable nothing is acknowledged in
    // the later, which may even stand in the page cache alone.
    let Some((slot, header)) = live.min_by_key(|(_, header)| header.generation) else {
        return Ok(Err("neither log-a nor log-b holds the current log".into()));
    };
    let released = |later: bool| {
        known
            .iter()
            .any(|(_, other)| !other.live && (!later || other.generation > header.generation))
    };
    let name = SEGMENTS.get(*slot).copied().unwrap_or_default();
    if released(true) {
        return Ok(Err(format!("{name} is older than the other segment")));
    }
    let log = match scan(&read_segment(storage, &dir.join(name))?, header) {
        Scan::Log(log) => log,
        Scan::Damaged(what) => return Ok(Err(format!("{name}: {what}"))),
        // The very first, cut off while it was being created.
        Scan::Unopened if !saved && !released(false) => return Ok(Ok(None)),
        Scan::Unopened => return Ok(Err(format!("{name}: its opening is unreadable"))),
    };
    let Some(hard) = hard.latest.filter(|_| hard.whole) else {
        return Ok(Err("hard-state: a slot is missing".into()));
    };
    if let Some(what) = contradiction(&log, &hard) {
        return Ok(Err(what));
    }
    let nothing = !saved && log.last().is_none();
    Ok(Ok((!nothing).then_some(RecoveredState {
        hard,
        slot: *slot,
        header: *header,
        log,
    })))
}

fn read_segment(storage: &dyn Storage, path: &Path) -> Result<Image, DiskError> {
    let max = usize::try_from(DISK_SEGMENT_BYTES_MAX).unwrap_or(usize::MAX);
    let image = Image::read(storage, path, max.saturating_add(1))?;
    if image.bytes.len() > max {
        return Err(DiskError::TooLarge {
            what: "a log segment",
            bytes: image.bytes.len() as u64,
            max: DISK_SEGMENT_BYTES_MAX,
        });
    }
    Ok(image)
}

/// What hard state and log say of one another: each notes how far the other had
/// come, so that loss at the very end of either shows.
fn contradiction(log: &SegmentLog, hard: &HardSlot) -> Option<String> {
    if hard.seq < log.hard_seq {
        return Some(format!(
            "hard-state: save {} is missing, the last is {}",
            log.hard_seq, hard.seq
        ));
    }
    (log.last_seq < hard.log_seq).then(|| {
        format!(
            "log: frame {} is missing, the last is {}",
            hard.log_seq, log.last_seq
        )
    })
}

/// The hard state's file.
struct HardRead {
    /// The later of its slots.
    latest: Option<HardSlot>,
    /// Both slots are there: so it is from before the first segment on.
    whole: bool,
    /// A slot holds what we did not write.
    unreadable: bool,
}

fn read_hard_state(storage: &dyn Storage, dir: &Path) -> Result<HardRead, DiskError> {
    let path = dir.join(HARD_STATE);
    let image = Image::read(storage, &path, 2 * BLOCK)?;
    let mut slots = Vec::new();
    let mut unreadable = false;
    for number in [0, 1] {
        match image.block(number).map_or(Read::Bad, HardSlot::decode) {
            Read::Newer(found) => return Err(newer(&path, found)),
            Read::Blank => {}
            Read::Bad => unreadable = true,
            Read::Valid(slot) => slots.push(slot),
        }
    }
    let whole = slots.len() == 2;
    Ok(HardRead {
        latest: slots.into_iter().max_by_key(|slot| slot.seq),
        whole,
        unreadable,
    })
}

fn newer(path: &Path, found: u32) -> DiskError {
    DiskError::NewerFormat {
        path: path.to_path_buf(),
        found,
        known: FORMAT,
    }
}

enum Scan {
    /// The opening frame is not there, nor any other.
    Unopened,
    Damaged(String),
    Log(SegmentLog),
}

/// Reads a segment's frames up to the first that is not there, and makes sure
/// that none follows it.
fn scan(image: &Image, header: &SegmentHeader) -> Scan {
    let segment = image.bytes.as_slice();
    let mut log = SegmentLog::default();
    let mut offset = BLOCK;
    let mut expected = header.first_seq;
    while let Some(frame) = next_frame(segment, offset, header.nonce, expected) {
        if let Err(what) = log.apply(&frame) {
            return Scan::Damaged(what);
        }
        offset = frame.end;
        expected = expected.saturating_add(1);
    }
    let next = places(offset).map(|at| reach(segment, at, expected)).max();
    if image.is_lost(&(offset..next.unwrap_or(offset))) {
        return Scan::Damaged(format!(
            "the medium does not give back byte {offset} and what follows, where frame \
             {expected} may be"
        ));
    }
    // A frame is written only after its predecessor is durable. What cannot be
    // read behind it was never in use, or two faults would have to meet.
    if let Some(later) = find_frame(segment, offset, header.nonce) {
        return Scan::Damaged(format!(
            "frame {expected} at byte {offset} is unreadable, frame {} is there",
            later.head.seq
        ));
    }
    if expected == header.first_seq {
        return Scan::Unopened;
    }
    let torn = places(offset).find_map(|at| {
        let (seq, len) = frame_claim(segment, at)?;
        (seq == expected).then(|| len.min(segment.len().saturating_sub(at)))
    });
    log.torn_bytes = torn.unwrap_or(0) as u64;
    Scan::Log(log)
}

/// Where a frame can begin whose predecessor ends at `offset`.
fn places(offset: usize) -> impl Iterator<Item = usize> {
    [offset, offset.next_multiple_of(BLOCK)].into_iter()
}

/// Where the frame ends that begins at `at`, if it is `expected`; else that block.
fn reach(segment: &[u8], at: usize, expected: u64) -> usize {
    let claimed = frame_claim(segment, at).filter(|(seq, _)| *seq == expected);
    let block = at.saturating_add(1).next_multiple_of(BLOCK);
    claimed.map_or(block, |(_, len)| at.saturating_add(len).max(block))
}

fn next_frame(segment: &[u8], offset: usize, nonce: u64, expected: u64) -> Option<Frame<'_>> {
    places(offset)
        .filter_map(|at| frame_at(segment, at, nonce))
        .find(|frame| frame.head.seq == expected)
}

impl SegmentLog {
    fn apply(&mut self, frame: &Frame<'_>) -> Result<(), String> {
        let seq = frame.head.seq;
        let records =
            records(frame.records).ok_or_else(|| format!("frame {seq} holds what is no record"))?;
        for record in records {
            match record {
                Record::Checkpoint(checkpoint) => {
                    self.entries.clear();
                    self.checkpoint = Some(checkpoint);
                }
                Record::TruncateAfter(index) => {
                    while self
                        .entries
                        .last()
                        .is_some_and(|e| e.entry.id.index > index)
                    {
                        self.entries.pop();
                    }
                }
                Record::Entry(stored) => {
                    let index = stored.entry.id.index;
                    if !self.may_follow(index) {
                        return Err(format!("frame {seq}: entry {index} leaves a gap"));
                    }
                    self.entries.push(stored);
                }
            }
        }
        self.commit = self.commit.max(frame.head.commit);
        self.hard_seq = self.hard_seq.max(frame.head.hard_seq);
        self.last_seq = seq;
        Ok(())
    }

    fn may_follow(&self, index: LogIndex) -> bool {
        match (self.entries.last(), &self.checkpoint) {
            (Some(last), _) => last.entry.id.index.next() == index,
            (None, Some(checkpoint)) => index <= checkpoint.last.1.index.next(),
            (None, None) => true,
        }
    }

    /// The last index in it.
    pub(super) fn last(&self) -> Option<LogIndex> {
        let entry = self.entries.last().map(|e| e.entry.id.index);
        let covered = self.checkpoint.as_ref().map(|c| c.last.1.index);
        entry.max(covered)
    }
}
