//! The times of a cluster: PySyncObj's own, and those Patroni lends to its name
//! cache (spec 8.1, 8.2). All in seconds where they are written.

use std::time::Duration;

use super::error::{ConfigError, Located, Place};
use crate::limits::SECONDS_MAX;

/// The times of one cluster, checked against one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From one heartbeat of a leader to the next.
    pub append_entries_period: Duration,
    /// Shortest time without a leader before an election.
    pub min_timeout: Duration,
    /// Longest time without a leader before an election.
    pub max_timeout: Duration,
    /// Silence after which a peer counts as gone.
    pub connection_timeout: Duration,
    /// From one attempt to reach a peer to the next.
    pub connection_retry_time: Duration,
    /// Time without a majority after which a leader steps down.
    pub leader_fallback_timeout: Duration,
    /// How long a resolved name is kept (Patroni's `ttl`).
    pub ttl: Duration,
    /// How long a failed resolution is kept (Patroni's `loop_wait`).
    pub loop_wait: Duration,
    /// How long one question round to the partners may take at the start.
    pub retry_timeout: Duration,
}

/// The keys in the order of [`Timing`]'s fields.
pub const KEYS: [&str; 9] = [
    "append_entries_period",
    "min_timeout",
    "max_timeout",
    "connection_timeout",
    "connection_retry_time",
    "leader_fallback_timeout",
    "ttl",
    "loop_wait",
    "retry_timeout",
];

/// How many of [`KEYS`] are PySyncObj's: those have a variable of the
/// environment too.
pub const OF_PYSYNCOBJ: usize = 6;

/// What was written of [`KEYS`], in their order.
pub type Written = [Option<Located<f64>>; 9];

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            append_entries_period: ms(100),
            min_timeout: ms(400),
            max_timeout: ms(1_400),
            connection_timeout: ms(3_500),
            connection_retry_time: ms(5_000),
            leader_fallback_timeout: ms(30_000),
            ttl: ms(30_000),
            loop_wait: ms(10_000),
            retry_timeout: ms(10_000),
        }
    }
}

impl Timing {
    /// What was written over the defaults. `cluster` is where a collision of
    /// two times is told.
    pub fn new(written: Written, cluster: &Place) -> Result<Self, ConfigError> {
        let mut timing = Self::default();
        let fields = [
            &mut timing.append_entries_period,
            &mut timing.min_timeout,
            &mut timing.max_timeout,
            &mut timing.connection_timeout,
            &mut timing.connection_retry_time,
            &mut timing.leader_fallback_timeout,
            &mut timing.ttl,
            &mut timing.loop_wait,
            &mut timing.retry_timeout,
        ];
        for (position, (field, said)) in fields.into_iter().zip(written).enumerate() {
            let Some(said) = said else { continue };
            // Zero is "not set" to Patroni, in these three (`or 30`).
            if position >= OF_PYSYNCOBJ && said.value == 0.0 {
                continue;
            }
            *field = duration(&said)?;
        }
        timing.check(cluster)?;
        Ok(timing)
    }

    /// PySyncObj's own rules (spec 8.2).
    fn check(&self, cluster: &Place) -> Result<(), ConfigError> {
        let rules = [
            (
                !self.append_entries_period.is_zero(),
                "append_entries_period",
                self.append_entries_period,
                "must be more than 0",
                None,
            ),
            (
                self.min_timeout > self.append_entries_period * 3,
                "min_timeout",
                self.min_timeout,
                "must be more than three times append_entries_period",
                Some(self.append_entries_period),
            ),
            (
                self.max_timeout > self.min_timeout,
                "max_timeout",
                self.max_timeout,
                "must be more than min_timeout",
                Some(self.min_timeout),
            ),
            (
                self.connection_timeout >= self.max_timeout,
                "connection_timeout",
                self.connection_timeout,
                "must be at least max_timeout",
                Some(self.max_timeout),
            ),
            (
                self.leader_fallback_timeout > self.append_entries_period,
                "leader_fallback_timeout",
                self.leader_fallback_timeout,
                "must be more than append_entries_period",
                Some(self.append_entries_period),
            ),
        ];
        for (holds, key, value, rule, other) in rules {
            if !holds {
                let other = other.map_or(String::new(), |other| {
                    format!(" ({} s)", other.as_secs_f64())
                });
                return Err(ConfigError::Invalid {
                    place: cluster.key(key),
                    value: None,
                    why: format!("{} s {rule}{other}", value.as_secs_f64()),
                });
            }
        }
        Ok(())
    }
}

fn duration(said: &Located<f64>) -> Result<Duration, ConfigError> {
    if (0.0..=SECONDS_MAX).contains(&said.value)
        && let Ok(duration) = Duration::try_from_secs_f64(said.value)
    {
        return Ok(duration);
    }
    Err(ConfigError::Invalid {
        place: said.place.clone(),
        value: None,
        why: format!(
            "{} is no time; give seconds from 0 to {SECONDS_MAX}",
            said.value
        ),
    })
}
