//! When a server is asked again, and what several answers add up to. No clock is
//! read here: instants come in.

use std::time::Duration;

use super::Health;
use crate::reactor::Instant;

/// The times of all probes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// From the beginning of one probe to that of the next.
    pub interval: Duration,
    /// The same, while a failure is being confirmed.
    pub retry_pause: Duration,
    /// Failures in a row that make a server unhealthy, at least 1.
    pub tries: u32,
}

/// From the end of a probe to the beginning of the next at the least: what takes
/// longer than its interval is not to be asked without a break.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// What one server's answers add up to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServerTally {
    /// Failures in a row that count.
    pub tries: u32,
    /// What follows from them.
    pub health: Health,
    /// When the last failure that counts began.
    counted: Option<Instant>,
}

impl ServerTally {
    /// Before the first answer.
    pub const NEW: Self = Self {
        tries: 0,
        health: Health::Unknown,
        counted: None,
    };

    /// Adds the outcome of a probe that began at `began`.
    ///
    /// Who asks out of turn does not make a server unhealthy sooner: of failures
    /// that began within half a retry pause only the first counts.
    pub fn add(&mut self, schedule: &Schedule, accepting: bool, began: Instant) {
        if accepting {
            *self = Self {
                health: Health::Healthy,
                ..Self::NEW
            };
            return;
        }
        let too_soon = self.counted.is_some_and(|counted| {
            began.saturating_duration_since(counted) < schedule.retry_pause / 2
        });
        if !too_soon {
            self.tries = self.tries.saturating_add(1);
            self.counted = Some(began);
        }
        if self.health != Health::Unhealthy {
            self.health = if self.tries >= schedule.tries {
                Health::Unhealthy
            } else {
                Health::Suspect
            };
        }
    }

    /// When to ask again after a probe from `began` to `ended`.
    pub fn next(&self, schedule: &Schedule, began: Instant, ended: Instant) -> Instant {
        let pause = match self.health {
            Health::Suspect => schedule.retry_pause,
            Health::Unknown | Health::Healthy | Health::Unhealthy => schedule.interval,
        };
        later(began, pause).max(later(ended, PAUSE_MIN.min(pause)))
    }
}

fn later(instant: Instant, pause: Duration) -> Instant {
    instant.checked_add(pause).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        interval: Duration::from_secs(10),
        retry_pause: Duration::from_secs(7),
        tries: 3,
    };

    /// Plays outcomes (`+` accepts, `-` fails; each takes `took_s`) on their own
    /// schedule: when each began, in seconds, and the health behind it.
    fn played(outcomes: &str, took_s: u64) -> String {
        let start = Instant::now();
        let (mut tally, mut now, mut told) = (ServerTally::NEW, start, Vec::new());
        for outcome in outcomes.chars() {
            let ended = now + Duration::from_secs(took_s);
            tally.add(&SCHEDULE, outcome == '+', now);
            told.push(format!("{} {:?}", (now - start).as_secs(), tally.health));
            now = tally.next(&SCHEDULE, now, ended);
        }
        told.join(", ")
    }

    #[test]
    fn three_tries_seven_seconds_apart_make_a_server_unhealthy() {
        assert_eq!(
            played("++---+-+", 0),
            "0 Healthy, 10 Healthy, 20 Suspect, 27 Suspect, 34 Unhealthy, 44 Healthy, 54 Suspect, \
             61 Healthy"
        );
        // A silent server takes its five seconds each time.
        assert_eq!(
            played("----", 5),
            "0 Suspect, 7 Suspect, 14 Unhealthy, 24 Unhealthy"
        );
        // Several silent hosts take longer than the interval.
        assert_eq!(played("---", 12), "0 Suspect, 13 Suspect, 26 Unhealthy");
    }

    #[test]
    fn asking_out_of_turn_makes_nothing_unhealthy_sooner() {
        let start = Instant::now();
        let mut tally = ServerTally::NEW;
        for tenth in 0..30 {
            let began = start + Duration::from_millis(tenth * 100);
            tally.add(&SCHEDULE, false, began);
        }
        assert_eq!((tally.tries, tally.health), (1, Health::Suspect));
        tally.add(&SCHEDULE, false, start + Duration::from_secs(7));
        tally.add(&SCHEDULE, false, start + Duration::from_secs(14));
        assert_eq!((tally.tries, tally.health), (3, Health::Unhealthy));
    }

    #[test]
    fn one_try_may_be_all() {
        let mut tally = ServerTally::NEW;
        let once = Schedule {
            tries: 1,
            ..SCHEDULE
        };
        tally.add(&once, false, Instant::now());
        assert_eq!(tally.health, Health::Unhealthy);
    }
}
