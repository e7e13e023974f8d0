//! One file of the log: reserved space that frames fill from the front, block by
//! block, overwritten in place so that the file system has no metadata to write.

use std::io;

use super::format::{BLOCK, FrameBuilder, FrameHead, SegmentHeader, place};
use super::storage::File;

/// Bytes handed to the file system at once, a multiple of [`BLOCK`].
const CHUNK: usize = 64 * BLOCK;

/// A segment open for writing.
pub(super) struct Segment {
    file: Box<dyn File>,
    /// Bytes reserved.
    capacity: u64,
    /// Seeds the frames' CRC.
    nonce: u64,
    /// Where the last frame ends.
    end: u64,
    /// The last block as far as frames fill it: shorter than a block.
    tail: Vec<u8>,
}

impl Segment {
    /// Takes a file whose frames are of no interest.
    pub(super) fn new(file: Box<dyn File>) -> io::Result<Self> {
        let capacity = file.len()?;
        Ok(Self {
            file,
            capacity,
            nonce: 0,
            end: BLOCK as u64,
            tail: Vec::new(),
        })
    }

    /// Begins its life anew, without a frame; [`Segment::write_header`] makes it
    /// count.
    pub(super) fn restart(&mut self, nonce: u64) {
        self.nonce = nonce;
        self.end = BLOCK as u64;
        self.tail.clear();
    }

    /// Writes the first block.
    pub(super) fn write_header(&self, header: &SegmentHeader) -> io::Result<u64> {
        let block = header.encode();
        self.file.write_at(0, &block)?;
        Ok(block.len() as u64)
    }

    /// Where the block ends in which a frame of this length would end.
    pub(super) fn end_with(&self, frame_len: usize) -> u64 {
        place(self.end, frame_len)
            .saturating_add(frame_len as u64)
            .next_multiple_of(BLOCK as u64)
    }

    /// Writes a frame behind the last, whole blocks at a time. Returns the bytes
    /// written. Durable only after [`Segment::file`]'s sync.
    pub(super) fn write_frame(
        &mut self,
        records: FrameBuilder,
        head: FrameHead,
    ) -> io::Result<u64> {
        let len = records.frame_len();
        let start = place(self.end, len);
        let block = BLOCK as u64;
        let mut at = start - start % block;
        // What the block already holds is written again, the same bytes: a torn
        // write of any mixture of sectors leaves them as they are.
        let mut buffer = if start == self.end {
            std::mem::take(&mut self.tail)
        } else {
            Vec::new()
        };
        let first = at;
        for mut slice in records.finish(head, self.nonce).slices() {
            while !slice.is_empty() {
                let room = CHUNK.saturating_sub(buffer.len());
                let (now, later) = slice.split_at(room.min(slice.len()));
                buffer.extend_from_slice(now);
                slice = later;
                if buffer.len() == CHUNK {
                    self.file.write_at(at, &buffer)?;
                    at = at.saturating_add(CHUNK as u64);
                    buffer.clear();
                }
            }
        }
        let whole = buffer.len() - buffer.len() % BLOCK;
        let rest = buffer.get(whole..).unwrap_or_default().to_vec();
        buffer.resize(buffer.len().next_multiple_of(BLOCK), 0);
        if !buffer.is_empty() {
            self.file.write_at(at, &buffer)?;
            at = at.saturating_add(buffer.len() as u64);
        }
        self.tail = rest;
        self.end = start.saturating_add(len as u64);
        self.capacity = self.capacity.max(at);
        Ok(at.saturating_sub(first))
    }

    /// Reserves space up to `capacity` by writing zeros. Returns the bytes
    /// written.
    pub(super) fn reserve(&mut self, capacity: u64) -> io::Result<u64> {
        let zeros = [0; CHUNK];
        let from = self.capacity;
        while self.capacity < capacity {
            let left = usize::try_from(capacity - self.capacity).unwrap_or(CHUNK);
            let some = zeros.get(..left).unwrap_or(&zeros);
            self.file.write_at(self.capacity, some)?;
            self.capacity = self.capacity.saturating_add(some.len() as u64);
        }
        Ok(self.capacity.saturating_sub(from))
    }

    /// The file, to sync it.
    pub(super) fn file(&self) -> &dyn File {
        self.file.as_ref()
    }

    /// Bytes reserved.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> u64 {
        self.end
    }
}
