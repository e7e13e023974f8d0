//! The bytes on the medium: segment headers, frames with their records, and, in
//! `hard_state`, the slots of the hard state. Encoding and decoding alone, no I/O.
//!
//! All numbers are little-endian. Every file begins with a preamble that stays
//! the same in every version: magic, format version, CRC-32C of both.
//!
//! A **frame** is one batch of records under one CRC: it is there as a whole or
//! not at all, so its end is the batch's end marker. The CRC is seeded with the
//! segment's random nonce: what a recycled segment still holds of its former
//! life, or what a peer puts into a command, is no frame.

mod hard_state;

use std::sync::Arc;

use crc::{CRC_32_ISCSI, Crc, Digest};

use crate::ids::{Entry, EntryId, LogIndex, Term};
use crate::limits::DISK_FRAME_BYTES_MAX;

pub(super) use self::hard_state::HardSlot;
use super::{Checkpoint, StoredEntry};

/// The latest format that this version reads, and what is written where format 1
/// cannot say it: so an older version can still open all that it understands.
pub(super) const FORMAT: u32 = 2;
/// The first format: a hard state without fields behind the vote.
const FORMAT_FIRST: u32 = 1;
/// The unit of writing: a page of the machine and of most media.
pub(super) const BLOCK: usize = 4096;
/// Frames begin at multiples of this.
const ALIGN: usize = 8;
/// What fills a frame up to the next of them.
const PADDING: [u8; ALIGN - 1] = [0; ALIGN - 1];
/// Bytes of a frame before its records.
pub(super) const FRAME_HEADER: usize = 40;
/// Commands of at least this size are written from where they are, not copied.
const SHARE_BYTES_MIN: usize = 16 << 10;

const PREAMBLE: usize = 16;
const SEGMENT_MAGIC: &[u8; 8] = b"pgwitLOG";
const FRAME_MAGIC: &[u8; 4] = b"pgwF";
const KIND_ENTRY: u8 = 1;
const KIND_TRUNCATE: u8 = 2;
const KIND_CHECKPOINT: u8 = 3;

static CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What stands where a header is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read<T> {
    /// Nothing was ever written there.
    Blank,
    /// Something that is none of ours, or no longer.
    Bad,
    /// A later version's, with its number.
    Newer(u32),
    /// What we wrote.
    Valid(T),
}

/// A segment's first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Counts the segments of this cluster; the larger is the later.
    pub generation: u64,
    /// Seeds the CRC of the segment's frames.
    pub nonce: u64,
    /// The sequence number of its opening frame.
    pub first_seq: u64,
    /// False once a later segment is durable.
    pub live: bool,
}

impl SegmentHeader {
    /// The header of a segment in which nothing counts.
    pub(super) const VOID: Self = Self {
        generation: 0,
        nonce: 0,
        first_seq: 0,
        live: false,
    };

    /// Whether it is [`SegmentHeader::VOID`].
    pub(super) fn is_void(&self) -> bool {
        *self == Self::VOID
    }

    /// The block. All that matters is in its first sector, which a medium writes
    /// whole or not at all.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(BLOCK);
        body.extend(u32::from(self.live).to_le_bytes());
        body.extend(self.generation.to_le_bytes());
        body.extend(self.nonce.to_le_bytes());
        body.extend(self.first_seq.to_le_bytes());
        sealed(SEGMENT_MAGIC, FORMAT_FIRST, &body)
    }

    /// Reads a segment's first block; what a short file lacks counts as zeros.
    pub(super) fn decode(bytes: &[u8]) -> Read<Self> {
        unseal(SEGMENT_MAGIC, bytes, |r| {
            Some(Self {
                live: r.u32()? == 1,
                generation: r.u64()?,
                nonce: r.u64()?,
                first_seq: r.u64()?,
            })
        })
    }
}

/// A block: preamble, CRC of the body, length of the body, body, zeros.
fn sealed(magic: &[u8; 8], format: u32, body: &[u8]) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK);
    block.extend(magic);
    block.extend(format.to_le_bytes());
    block.extend(CRC32C.checksum(&block).to_le_bytes());
    block.extend(CRC32C.checksum(body).to_le_bytes());
    block.extend(size(body.len()).to_le_bytes());
    block.extend(body);
    debug_assert!(block.len() <= 512, "headers fit one sector");
    block.resize(BLOCK, 0);
    block
}

fn unseal<T>(
    magic: &[u8; 8],
    bytes: &[u8],
    body: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Read<T> {
    let block = bytes.get(..BLOCK).unwrap_or(bytes);
    if block.iter().all(|b| *b == 0) {
        return Read::Blank;
    }
    let mut r = Reader(block);
    let opened = (|| {
        let preamble = block.get(..PREAMBLE - 4)?;
        let ours = r.take(8)? == magic;
        let format = r.u32()?;
        (ours && r.u32()? == CRC32C.checksum(preamble)).then_some(format)
    })();
    match opened {
        Some(FORMAT_FIRST..=FORMAT) => {}
        Some(newer) if newer > FORMAT => return Read::Newer(newer),
        _ => return Read::Bad,
    }
    let parsed = (|| {
        let crc = r.u32()?;
        let sealed = r.sized()?;
        (crc == CRC32C.checksum(sealed)).then(|| body(&mut Reader(sealed)))?
    })();
    parsed.map_or(Read::Bad, Read::Valid)
}

/// A length as the medium keeps it. Lengths are capped long before they are cut.
fn size(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// The numbers in a frame's header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// Counts the frames of this cluster, across segments. A frame is written
    /// only after its predecessor is durable: if it is there and the predecessor
    /// is not, the medium lost what was acknowledged.
    pub seq: u64,
    /// The commit index as known then; 0 if unknown.
    pub commit: u64,
    /// The last durable save of the hard state, likewise.
    pub hard_seq: u64,
}

/// Records on their way into a frame. Large commands are shared, not copied.
#[derive(Default)]
pub(super) struct FrameBuilder {
    pieces: Vec<Piece>,
    len: usize,
}

enum Piece {
    Own(Vec<u8>),
    Shared(Arc<[u8]>),
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl FrameBuilder {
    /// Length of the frame that these records make.
    pub(super) fn frame_len(&self) -> usize {
        FRAME_HEADER
            .saturating_add(self.len)
            .next_multiple_of(ALIGN)
    }

    /// True if there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry.
    pub(super) fn entry(&mut self, stored: &StoredEntry) {
        let Entry { id, command } = &stored.entry;
        self.record(KIND_ENTRY, stored.epoch, *id, command);
    }

    /// Adds a checkpoint: what came before it counts no longer.
    pub(super) fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        let (epoch, id) = checkpoint.last;
        self.record(KIND_CHECKPOINT, epoch, id, &checkpoint.body);
    }

    /// Adds a truncation: entries beyond `index` count no longer.
    pub(super) fn truncate_after(&mut self, index: LogIndex) {
        self.push(&[KIND_TRUNCATE]);
        self.push(&index.get().to_le_bytes());
    }

    fn record(&mut self, kind: u8, epoch: u32, id: EntryId, body: &Arc<[u8]>) {
        self.push(&[kind]);
        self.push(&epoch.to_le_bytes());
        self.push(&id.index.get().to_le_bytes());
        self.push(&id.term.get().to_le_bytes());
        self.push(&size(body.len()).to_le_bytes());
        if body.len() >= SHARE_BYTES_MIN {
            self.len = self.len.saturating_add(body.len());
            self.pieces.push(Piece::Shared(Arc::clone(body)));
        } else {
            self.push(body);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len());
        if let Some(Piece::Own(last)) = self.pieces.last_mut() {
            last.extend(bytes);
        } else {
            self.pieces.push(Piece::Own(bytes.to_vec()));
        }
    }

    /// The finished frame in pieces, a multiple of eight bytes long in all.
    pub(super) fn finish(self, head: FrameHead, nonce: u64) -> FramePieces {
        let mut numbers = heapless::Vec::<u8, { FRAME_HEADER - 8 }>::new();
        numbers.extend(head.seq.to_le_bytes());
        numbers.extend(head.commit.to_le_bytes());
        numbers.extend(head.hard_seq.to_le_bytes());
        numbers.extend(size(self.len).to_le_bytes());
        numbers.extend([0; 4]);
        let mut crc = seeded(nonce);
        crc.update(&numbers);
        for piece in &self.pieces {
            crc.update(piece.as_ref());
        }
        let mut header = heapless::Vec::new();
        header.extend(*FRAME_MAGIC);
        header.extend(crc.finalize().to_le_bytes());
        header.extend(numbers);
        let len = FRAME_HEADER.saturating_add(self.len);
        let padding = len.next_multiple_of(ALIGN).saturating_sub(len);
        FramePieces {
            header,
            records: self.pieces,
            padding: PADDING.get(..padding).unwrap_or_default(),
        }
    }
}

/// A frame ready to be written.
pub(super) struct FramePieces {
    header: heapless::Vec<u8, FRAME_HEADER>,
    records: Vec<Piece>,
    padding: &'static [u8],
}

impl FramePieces {
    /// Its bytes in order.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.header.as_slice())
            .chain(self.records.iter().map(AsRef::as_ref))
            .chain(std::iter::once(self.padding))
    }
}

fn seeded(nonce: u64) -> Digest<'static, u32> {
    let mut crc = CRC32C.digest();
    crc.update(&nonce.to_le_bytes());
    crc
}

/// Where a frame that ends the log so far at `offset` puts its successor of
/// `len` bytes: behind it, but what fits one block does not straddle two, so that
/// a small commit writes one block.
pub(super) fn place(offset: u64, len: usize) -> u64 {
    let block = BLOCK as u64;
    let used = offset % block;
    if len <= BLOCK && used.saturating_add(len as u64) > block {
        offset.next_multiple_of(block)
    } else {
        offset
    }
}

/// A frame as read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    /// Its numbers.
    pub head: FrameHead,
    /// Its records, encoded.
    pub records: &'a [u8],
    /// Where its successor begins.
    pub end: usize,
}

/// The frame at `offset`, if a whole one is there.
pub(super) fn frame_at(segment: &[u8], offset: usize, nonce: u64) -> Option<Frame<'_>> {
    let bytes = segment.get(offset..)?;
    let mut r = Reader(bytes);
    if r.take(4)? != FRAME_MAGIC {
        return None;
    }
    let crc = r.u32()?;
    let (head, len) = frame_numbers(&mut r)?;
    let records = r.take(len)?;
    let mut sum = seeded(nonce);
    sum.update(bytes.get(8..FRAME_HEADER)?);
    sum.update(records);
    let end = FRAME_HEADER.checked_add(len)?.next_multiple_of(ALIGN);
    (sum.finalize() == crc).then_some(Frame {
        head,
        records,
        end: offset.checked_add(end)?,
    })
}

/// The sequence number and length that a frame at `offset` claims, unchecked:
/// tells a torn frame from nothing.
pub(super) fn frame_claim(segment: &[u8], offset: usize) -> Option<(u64, usize)> {
    let mut r = Reader(segment.get(offset..)?);
    if r.take(4)? != FRAME_MAGIC {
        return None;
    }
    r.u32()?;
    let (head, len) = frame_numbers(&mut r)?;
    Some((head.seq, FRAME_HEADER.checked_add(len)?))
}

fn frame_numbers(r: &mut Reader<'_>) -> Option<(FrameHead, usize)> {
    let seq = r.u64()?;
    let commit = r.u64()?;
    let hard_seq = r.u64()?;
    let len = usize::try_from(r.u32()?).ok()?;
    r.u32()?; // reserved
    let head = FrameHead {
        seq,
        commit,
        hard_seq,
    };
    (len <= DISK_FRAME_BYTES_MAX).then_some((head, len))
}

/// The first offset at or after `from` where a whole frame stands, and its
/// numbers. For telling a torn tail from damage: rare, and linear, for only
/// bytes that begin like a frame are looked at.
pub(super) fn find_frame(segment: &[u8], from: usize, nonce: u64) -> Option<Frame<'_>> {
    let mut offset = from.next_multiple_of(ALIGN);
    while let Some(magic) = segment.get(offset..offset.checked_add(4)?) {
        if magic == FRAME_MAGIC
            && let Some(frame) = frame_at(segment, offset, nonce)
        {
            return Some(frame);
        }
        offset = offset.checked_add(ALIGN)?;
    }
    None
}

/// A record as read.
#[derive(Debug)]
pub(super) enum Record {
    /// An entry at the log's end.
    Entry(StoredEntry),
    /// Entries beyond this index count no longer.
    TruncateAfter(LogIndex),
    /// The state as of an entry; what came before counts no longer.
    Checkpoint(Checkpoint),
}

/// Decodes a frame's records; none if they make no sense (then the CRC lied).
pub(super) fn records(bytes: &[u8]) -> Option<Vec<Record>> {
    let mut r = Reader(bytes);
    let mut found = Vec::new();
    while !r.0.is_empty() {
        found.push(match r.u8()? {
            KIND_TRUNCATE => Record::TruncateAfter(LogIndex::new(r.u64()?)?),
            kind @ (KIND_ENTRY | KIND_CHECKPOINT) => {
                let epoch = r.u32()?;
                let id = r.entry_id()?;
                let body: Arc<[u8]> = r.sized()?.into();
                if kind == KIND_ENTRY {
                    let entry = Entry { id, command: body };
                    Record::Entry(StoredEntry { epoch, entry })
                } else {
                    let last = (epoch, id);
                    Record::Checkpoint(Checkpoint { last, body })
                }
            }
            _ => return None,
        });
    }
    Some(found)
}

/// Takes numbers off the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn entry_id(&mut self) -> Option<EntryId> {
        Some(EntryId {
            index: LogIndex::new(self.u64()?)?,
            term: Term::new(self.u64()?)?,
        })
    }

    /// Bytes behind their length.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.take(len)
    }
}
