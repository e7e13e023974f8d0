//! The simulated clocks of this thread: they go on only when they are told to.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

/// The time of day at which every simulation begins: 2026-01-01, in seconds since
/// the epoch.
const BEGINNING_S: u64 = 1_767_225_600;

thread_local! {
    /// When the simulation began, and how much of its time has passed.
    static CLOCK: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
    /// By how many seconds the time of day is ahead where it is asked for.
    static AHEAD_S: Cell<i32> = const { Cell::new(0) };
}

/// Simulates the clocks of this thread from now on.
#[allow(
    clippy::disallowed_methods,
    reason = "an instant can be made of another only"
)]
pub fn begin() {
    CLOCK.set(Some((Instant::now(), Duration::ZERO)));
}

/// How much simulated time has passed; nothing where there is none.
#[must_use]
pub fn passed() -> Duration {
    CLOCK.get().map_or(Duration::ZERO, |(_, passed)| passed)
}

/// The time, if it is simulated.
pub fn time() -> Option<Instant> {
    CLOCK.get().map(|(began, passed)| began + passed)
}

/// The time of day, if it is simulated.
pub fn wall_clock() -> Option<SystemTime> {
    let (_, passed) = CLOCK.get()?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(BEGINNING_S) + passed;
    let ahead_s = AHEAD_S.get();
    let seconds = Duration::from_secs(ahead_s.unsigned_abs().into());
    Some(if ahead_s < 0 {
        time - seconds
    } else {
        time + seconds
    })
}

/// Sets the time of day of whatever runs from now on so many seconds ahead, or behind;
/// what it was before.
pub fn set_ahead(ahead_s: i32) -> i32 {
    AHEAD_S.replace(ahead_s)
}

/// Lets time pass until `end`; never back. False where it is not simulated.
pub fn advance(end: Instant) -> bool {
    let Some((began, passed)) = CLOCK.get() else {
        return false;
    };
    let until = end.saturating_duration_since(began);
    CLOCK.set(Some((began, until.max(passed))));
    true
}
