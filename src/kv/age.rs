//! How long a value has been ours (S8, H19): monotonic, and counting only time
//! in which we could have heard of a refresh.

use std::time::{Duration, SystemTime};

use crate::limits::TICK_GAP_MAX;
use crate::reactor::{self, Instant};
use crate::wire::value::Value;

/// Time as counted: it follows the monotonic clock, but between two
/// observations it advances by [`TICK_GAP_MAX`] at most.
#[derive(Debug, Clone)]
pub(super) struct CountedClock {
    seen: Instant,
    counted: Duration,
}

impl CountedClock {
    pub fn new(now: Instant) -> Self {
        Self {
            seen: now,
            counted: Duration::ZERO,
        }
    }

    /// Moves on; an instant before the last one counts for nothing.
    pub fn observe(&mut self, now: Instant) {
        self.counted = self.at(now);
        self.seen = self.seen.max(now);
    }

    /// The time counted at `now`.
    pub fn at(&self, now: Instant) -> Duration {
        let gap = now.saturating_duration_since(self.seen).min(TICK_GAP_MAX);
        self.counted.saturating_add(gap)
    }
}

/// The age of one value and what follows from it.
#[derive(Debug, Clone)]
pub(super) struct Age {
    /// Counted time at which this writing of the key was applied here.
    since: Duration,
    /// Whether it was applied when it was written; else its age began when the
    /// state was loaded or replayed, and is less than it is.
    is_true: bool,
    /// How long it lives; `None`: for ever.
    lifetime: Option<Duration>,
}

impl Age {
    /// The age of a value that begins at `since`; see [`Age::is_true`].
    pub fn new(stored: &Value, since: Duration, is_true: bool) -> Self {
        Self {
            since,
            is_true,
            lifetime: lifetime(stored),
        }
    }

    /// How long this writing has been here.
    pub fn so_far(&self, counted: Duration) -> Duration {
        counted.saturating_sub(self.since)
    }

    /// Whether the value was written while we were here, so that its age tells
    /// when that was.
    pub fn is_true(&self) -> bool {
        self.is_true
    }

    /// The counted time at which the value is due, unless it never is.
    pub fn due_at(&self) -> Option<Duration> {
        self.since.checked_add(self.lifetime?)
    }

    /// How long until the value is due, unless it never is.
    pub fn remaining(&self, counted: Duration) -> Option<Duration> {
        let age = counted.saturating_sub(self.since);
        Some(self.lifetime?.saturating_sub(age))
    }
}

/// How long a stored value lives: `expire - updated`, both on its writer's
/// clock, so that this clock cancels out.
///
/// For ever (`None`), unless both are numbers and the difference is positive,
/// finite and fit for a `Duration`. Patroni writes no other TTL; whatever else is found is
/// nonsense, and nonsense must not cost a primary its lock. (A Python leader
/// would expire a TTL of zero or less at once, and a value without `updated` by
/// its wall clock.)
pub(super) fn lifetime(stored: &Value) -> Option<Duration> {
    let (expire, updated) = (stored.get("expire")?, stored.get("updated")?);
    let lifetime = match (expire.as_int(), updated.as_int()) {
        (Some(expire), Some(updated)) => {
            let seconds = i128::from(expire) - i128::from(updated);
            Duration::from_secs(u64::try_from(seconds).ok()?)
        }
        _ => Duration::try_from_secs_f64(as_float(expire)? - as_float(updated)?).ok()?,
    };
    (!lifetime.is_zero()).then_some(lifetime)
}

/// How far the clock of a value's writer is ahead of `wall`, a clock of ours
/// since the epoch, in milliseconds: by `updated`, which is the writer's, and
/// the age.
pub(super) fn clock_ahead_ms(stored: &Value, age: Duration, wall: Duration) -> Option<i64> {
    let written = Duration::try_from_secs_f64(as_float(stored.get("updated")?)?).ok()?;
    let here = wall.checked_sub(age)?;
    let signed = |time: Duration| i64::try_from(time.as_millis()).ok();
    signed(written)?.checked_sub(signed(here)?)
}

/// How a Python leader decides (spec 6.5), and how we must not.
pub(super) fn over_by_wall_clock(stored: &Value) -> bool {
    let now = reactor::wall_clock().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0.0, |now| now.as_secs_f64());
    let expire = stored.get("expire").and_then(as_float);
    expire.is_some_and(|expire| expire < now)
}

fn as_float(value: &Value) -> Option<f64> {
    if let Value::Float(float) = value {
        return Some(*float);
    }
    let int = value.as_int()?;
    let high = i32::try_from(int >> 32).ok()?;
    let low = u32::try_from(int & 0xffff_ffff).ok()?;
    Some(f64::from(high) * 4_294_967_296.0 + f64::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(updated: Value, expire: Value) -> Value {
        let pair = |name: &str, value| (Value::Str(name.into()), value);
        Value::Dict([pair("updated", updated), pair("expire", expire)].into())
    }

    /// S8: only a positive finite difference of two numbers is a lifetime.
    #[test]
    fn nonsense_lives_for_ever() {
        let seconds = |updated, expire| lifetime(&stored(updated, expire));
        let (int, float) = (Value::Int, Value::Float);
        let thirty = Some(Duration::from_secs(30));
        assert_eq!(seconds(int(1_700_000_000), int(1_700_000_030)), thirty);
        assert_eq!(seconds(float(1.5), float(31.5)), thirty);
        assert_eq!(seconds(int(-3), float(27.0)), thirty);
        assert_eq!(
            seconds(Value::Bool(true), int(2)),
            Some(Duration::from_secs(1))
        );
        assert_eq!(
            seconds(int(i64::MIN), int(i64::MAX)),
            Some(Duration::from_secs(u64::MAX))
        );
        for (updated, expire) in [
            (float(10.0), float(10.0)),
            (int(10), int(10)),
            (int(10), int(9)),
            (float(10.0), float(9.0)),
            (float(f64::NAN), float(1.0)),
            (float(1.0), float(f64::NAN)),
            (float(1.0), float(f64::INFINITY)),
            (float(f64::NEG_INFINITY), float(1.0)),
            (float(f64::INFINITY), float(f64::INFINITY)),
            (float(-1e300), float(1e300)),
            (Value::None, int(9)),
            (int(1), Value::Str("9".into())),
            (int(1), Value::BigInt([0u8; 9].into())),
        ] {
            assert_eq!(
                seconds(updated.clone(), expire.clone()),
                None,
                "{updated:?} {expire:?}"
            );
        }
        assert_eq!(lifetime(&Value::None), None);
        assert_eq!(lifetime(&Value::Dict([].into())), None);
    }

    /// S8: a gap counts for a second, a step back for nothing.
    #[test]
    fn stalls_do_not_age() {
        let start = Instant::now();
        let mut clock = CountedClock::new(start);
        clock.observe(start + Duration::from_millis(900));
        assert_eq!(clock.counted, Duration::from_millis(900));
        clock.observe(start + Duration::from_secs(3600));
        assert_eq!(clock.counted, Duration::from_millis(1900));
        clock.observe(start);
        clock.observe(start + Duration::from_secs(3600));
        assert_eq!(clock.counted, Duration::from_millis(1900));
    }
}
