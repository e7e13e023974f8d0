//! What time it is: the machine's clocks, or those of a simulation.

use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::{Duration, SystemTime};

/// An instant of the monotonic clock, as [`std::time::Instant`] but for where
/// [`Instant::now`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(std::time::Instant);

impl Instant {
    /// The current instant.
    #[inline]
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "this is what is to be called instead"
    )]
    pub fn now() -> Self {
        #[cfg(feature = "test-hooks")]
        if let Some(now) = super::simulated::clock::time() {
            return Self(now);
        }
        Self(std::time::Instant::now())
    }

    /// How long ago it was; nothing if it is to come.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Self::now().saturating_duration_since(*self)
    }

    /// The time from `earlier` to here; nothing if it is later.
    #[must_use]
    pub fn duration_since(&self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }

    /// The time from `earlier` to here; nothing if it is later.
    #[must_use]
    pub fn saturating_duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// This long after it, if the clock reaches so far.
    #[must_use]
    pub fn checked_add(&self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Self)
    }

    /// This long before it, if the clock reaches so far.
    #[must_use]
    pub fn checked_sub(&self, time: Duration) -> Option<Self> {
        self.0.checked_sub(time).map(Self)
    }

    #[cfg(feature = "test-hooks")]
    pub(super) const fn machine(self) -> std::time::Instant {
        self.0
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, time: Duration) {
        self.0 += time;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0 - time)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, time: Duration) {
        self.0 -= time;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

/// The time of day. For the eye only, and for what Patroni wrote with its own:
/// nothing that a member decides hangs on it (S8).
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "this is what is to be called instead"
)]
pub fn wall_clock() -> SystemTime {
    #[cfg(feature = "test-hooks")]
    if let Some(time) = super::simulated::clock::wall_clock() {
        return time;
    }
    SystemTime::now()
}
