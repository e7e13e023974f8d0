//! A snapshot on its way to one peer (spec 3.5): asked of the engine, sent in
//! chunks as the connection takes them, closed by the mandatory empty chunk.
//! It never holds the bytes, only says which are next.

use std::ops::Range;
use std::time::Duration;

use crate::ids::LogIndex;
use crate::limits::{SNAPSHOT_CHUNK_BYTES, SNAPSHOT_WINDOW_BYTES};
use crate::reactor::Instant;

/// The first pause after a snapshot that the peer did not load; doubled with
/// every further one.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest pause between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(32);

/// Where the transfer stands.
#[derive(Debug)]
pub(super) enum Transfer {
    /// Not to be asked for before this instant.
    Wanted { not_before: Instant },
    /// The engine is preparing it.
    Preparing,
    /// Chunks are going out.
    Sending(Sending),
    /// All is sent; its reply is awaited.
    Sent,
}

/// A transfer in progress.
#[derive(Debug)]
pub(super) struct Sending {
    len: u64,
    end: LogIndex,
    offset: u64,
    window: u64,
    finished: bool,
    /// When the connection last took a chunk.
    pub(super) moved_at: Instant,
}

/// One chunk, as Python's `(data, isFirst, isLast)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) data: Range<u64>,
    pub(super) first: bool,
    pub(super) last: bool,
}

impl Transfer {
    /// After `failures` snapshots that the peer did not load.
    pub(super) fn wanted(failures: u32, now: Instant) -> Self {
        let pause = match failures {
            0 => Duration::ZERO,
            n => RETRY_MIN.saturating_mul(1 << (n - 1).min(5)).min(RETRY_MAX),
        };
        Self::Wanted {
            not_before: now + pause,
        }
    }
}

impl Sending {
    /// A snapshot of `len` bytes whose newest entry is `end`.
    pub(super) fn new(len: u64, end: LogIndex, now: Instant) -> Self {
        Self {
            len,
            end,
            offset: 0,
            window: SNAPSHOT_WINDOW_BYTES as u64,
            finished: false,
            moved_at: now,
        }
    }

    /// The connection takes `window` bytes now.
    pub(super) fn writable(&mut self, window: usize) {
        self.window = window.min(SNAPSHOT_WINDOW_BYTES) as u64;
    }

    /// The newest entry of the snapshot.
    pub(super) fn end(&self) -> LogIndex {
        self.end
    }

    /// The next chunk, if the window has room for it.
    pub(super) fn next_chunk(&mut self, now: Instant) -> Option<Chunk> {
        if self.finished {
            return None;
        }
        let start = self.offset;
        let size = (self.len - start).min(SNAPSHOT_CHUNK_BYTES as u64);
        if size > self.window {
            return None;
        }
        self.window -= size;
        self.offset += size;
        // Only an empty chunk ends a transfer; an empty file is nothing else.
        self.finished = size == 0;
        self.moved_at = now;
        Some(Chunk {
            data: start..self.offset,
            first: start == 0,
            last: self.finished,
        })
    }
}
