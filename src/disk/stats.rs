//! What a disk has done since it was opened, for `status` and metrics.

use std::time::{Duration, UNIX_EPOCH};

use crate::reactor;

/// Counters for `status` and metrics, since the opening.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes handed to the file system, reserved zeros included.
    pub bytes_written: u64,
    /// Syncs that completed, a sync of the whole file system counted once per
    /// cluster.
    pub syncs: u64,
    /// How long the last sync took.
    pub sync_last: Duration,
    /// How long the slowest took.
    pub sync_max: Duration,
    /// Groups of log writes made durable by one sync each.
    pub commits: u64,
    /// Bytes of the live segment in use.
    pub segment_bytes: u64,
    /// Of `bytes_written`, those of the day `day`; see [`Stats::today_bytes`].
    day_bytes: u64,
    /// Days since 1970, UTC, of the last write. For the eye only.
    day: u64,
}

impl Stats {
    /// Bytes written since midnight UTC.
    pub fn today_bytes(&self) -> u64 {
        if self.day == today() {
            self.day_bytes
        } else {
            0
        }
    }

    pub(super) fn count_today(&mut self, day: u64, written: u64) {
        if written > 0 && self.day != day {
            (self.day, self.day_bytes) = (day, 0);
        }
        self.day_bytes = self.day_bytes.saturating_add(written);
    }
}

/// Days since 1970, UTC.
pub(super) fn today() -> u64 {
    let now = reactor::wall_clock().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() / 86_400)
}
