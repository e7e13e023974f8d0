//! The hardware watchdog: fed while the witness shows progress, or while there is
//! none to show any. A machine whose engine alone stands still is reset.
//!
//! No `ioctl`, which would be `unsafe`: the time after which the hardware acts is
//! given to its driver when that is loaded.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, Instant};

/// The device.
const DEVICE: &str = "/dev/watchdog";

/// How often a witness that makes progress says so, at the least; what it is told
/// as `WATCHDOG_USEC`.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// How long a witness may take to start: passwords become keys, logs are read.
pub const START_TIME_MAX: Duration = Duration::from_secs(180);

/// Whether to feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FeedPolicy {
    /// There is no witness to watch: its configuration is refused, or it has
    /// ended and is started again. A reset would not help.
    #[default]
    Unwatched,
    /// It is starting since then.
    Starting(Instant),
    /// It said then that every engine makes progress.
    Progress(Instant),
}

impl FeedPolicy {
    /// Whether the hardware is to be fed now.
    pub fn feeds(self, now: Instant) -> bool {
        let within = |since: Instant, limit| now.saturating_duration_since(since) < limit;
        match self {
            Self::Unwatched => true,
            Self::Starting(since) => within(since, START_TIME_MAX),
            Self::Progress(since) => within(since, PATIENCE),
        }
    }
}

/// The hardware, once it counts.
pub struct Watchdog(File);

impl Watchdog {
    /// Starts it, if there is one and it is not switched off (`PG_WITNESS_WATCHDOG=off`
    /// on the kernel's command line, for emulators that cannot bear it).
    pub fn open() -> Option<Self> {
        if std::env::var_os("PG_WITNESS_WATCHDOG").is_some_and(|word| word == "off") {
            return None;
        }
        let device = OpenOptions::new().write(true).open(DEVICE).ok()?;
        let about = |what: &str| {
            let text = std::fs::read_to_string(format!("/sys/class/watchdog/watchdog0/{what}"));
            text.unwrap_or_default().trim().to_owned()
        };
        log::info!(
            "watchdog: {}, acts after {} s",
            about("identity"),
            about("timeout")
        );
        Some(Self(device))
    }

    /// Once more.
    pub fn feed(&mut self) {
        // What cannot be fed resets us, as it should.
        let _ = self.0.write_all(b"\0");
    }

    /// Tells it that we end in good order (the "magic close"); a driver that does
    /// not know it goes on counting, and catches a power-off that hangs.
    pub fn disarm(mut self) {
        let _ = self.0.write_all(b"V");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fed_while_there_is_progress_or_none_to_be_made() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let week = 7 * 86_400;
        for (policy, seconds, feeds) in [
            (FeedPolicy::Unwatched, week, true),
            (FeedPolicy::Starting(start), 170, true),
            (FeedPolicy::Starting(start), 180, false),
            (FeedPolicy::Progress(start), 3, true),
            (FeedPolicy::Progress(start), 4, false),
            (FeedPolicy::Progress(start), week, false),
        ] {
            assert_eq!(policy.feeds(after(seconds)), feeds, "{policy:?} {seconds}");
        }
    }
}
