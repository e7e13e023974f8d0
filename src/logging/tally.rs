//! Lines that somebody else can cause, as often as they like: they are counted,
//! and said the first, second, fourth, eighth ... time (S16). Pure.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::limits::{TALLY_MEMBER_LINES, TALLY_QUIET};
use crate::reactor::Instant;

/// The count of one kind of line.
#[derive(Debug, Default)]
pub struct Tally {
    count: u64,
    last: Option<Instant>,
}

impl Tally {
    /// Counts one more. What to add to the line, or none if it is not to be said:
    /// the first `free` are, then those at powers of two. After `quiet` without one
    /// the count begins anew: then it is news again.
    pub fn count(&mut self, now: Instant, quiet: Duration, free: u64) -> Option<Times> {
        let since = self.last.replace(now);
        if since.is_none_or(|last| now.saturating_duration_since(last) >= quiet) {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        let said = self.count <= free || self.count.is_power_of_two();
        said.then_some(Times(self.count))
    }
}

/// How often something has happened, as the end of a line: nothing the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times(u64);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            count => write!(f, " ({count} times)"),
        }
    }
}

/// A tally for each kind of line. Kinds are named in the code, so their number is
/// bounded.
#[derive(Debug, Default)]
pub struct Tallies(RefCell<BTreeMap<&'static str, Tally>>);

impl Tallies {
    /// Counts one more line that anybody can cause, as [`Tally::count`] does.
    pub fn count(&self, kind: &'static str) -> Option<Times> {
        self.count_with(kind, 1)
    }

    /// The same of a line that members cause: they do now and then, so the first
    /// [`TALLY_MEMBER_LINES`] are said.
    pub fn count_of_member(&self, kind: &'static str) -> Option<Times> {
        self.count_with(kind, TALLY_MEMBER_LINES)
    }

    fn count_with(&self, kind: &'static str, free: u64) -> Option<Times> {
        let mut tallies = self.0.borrow_mut();
        let tally = tallies.entry(kind).or_default();
        tally.count(Instant::now(), TALLY_QUIET, free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(60);

    #[test]
    fn a_flood_is_said_at_powers_of_two() {
        // S16
        let (start, mut tally) = (Instant::now(), Tally::default());
        let said: Vec<String> = (0..1_000_000)
            .filter_map(|_| tally.count(start, QUIET, 1))
            .map(|times| times.to_string())
            .collect();
        assert_eq!(said.len(), 20);
        assert_eq!(said[..3], ["", " (2 times)", " (4 times)"]);
        assert_eq!(said[19], " (524288 times)");
    }

    #[test]
    fn what_comes_again_after_a_quiet_time_is_news() {
        let (mut now, mut tally) = (Instant::now(), Tally::default());
        for _ in 0..2 {
            assert_eq!(tally.count(now, QUIET, 1), Some(Times(1)));
            assert_eq!(tally.count(now, QUIET, 1), Some(Times(2)));
            assert_eq!(tally.count(now, QUIET, 1), None);
            // Each one is heard of: the time runs from the last.
            now += QUIET / 2;
            assert_eq!(tally.count(now, QUIET, 1), Some(Times(4)));
            now += QUIET;
        }
    }

    #[test]
    fn the_first_lines_are_free_where_that_is_said() {
        let (now, mut tally) = (Instant::now(), Tally::default());
        let said = (0..1_000).filter(|_| tally.count(now, QUIET, 20).is_some());
        // 1 to 20, then 32, 64, 128, 256 and 512.
        assert_eq!(said.count(), 25);
    }

    #[test]
    fn kinds_do_not_hide_each_other() {
        let tallies = Tallies::default();
        for _ in 0..7 {
            tallies.count("one");
        }
        assert_eq!(tallies.count("other"), Some(Times(1)));
        assert_eq!(tallies.count("one"), Some(Times(8)));
    }
}
