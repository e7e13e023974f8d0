//! What one peer lacks of what is committed here.

use std::time::Duration;

use crate::reactor::Instant;

/// What a peer has shown that lacks something of what is committed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lack {
    /// When it first did so.
    pub(super) since: Instant,
    /// The end of its log, as far as it shows it.
    pub(super) end: u64,
    /// What was committed here at that moment.
    pub(super) committed: u64,
}

impl Lack {
    /// Whether that is most of it. A member that was away for a while, or whose
    /// last writes a power cut took (H14), is behind: it needs what we hold.
    pub(super) const fn is_most(&self) -> bool {
        self.end < self.committed / 2
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}
