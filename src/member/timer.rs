//! Gives the election timer (`election::election_timer`) the instants and the
//! timeouts by which it decides, and holds it.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::RngExt as _;

use super::Member;
use crate::election::election_timer::ElectionTimer;
use crate::reactor::{self, Instant};

fn timeout(timeouts: RangeInclusive<Duration>) -> Duration {
    reactor::rng().random_range(timeouts)
}

/// A timer that begins now, with its first timeout drawn.
pub(super) fn begin(timeouts: RangeInclusive<Duration>) -> ElectionTimer {
    let drawn = timeout(timeouts.clone());
    ElectionTimer::new(timeouts, drawn, Instant::now())
}

impl Member {
    /// A campaign was begun, or we take part from now on (spec 5.2).
    pub(super) fn restart_timer(&self) {
        self.tell_timer(ElectionTimer::restart);
    }

    /// A leader was heard of.
    pub(super) fn timer_hears(&self) {
        self.tell_timer(ElectionTimer::hear);
    }

    /// Another was given our vote.
    pub(super) fn timer_votes(&self) {
        self.tell_timer(ElectionTimer::vote);
    }

    /// Tells the timer what has happened, with a timeout that was drawn for it.
    fn tell_timer(&self, what: fn(&mut ElectionTimer, Duration, Instant)) {
        let mut timer = self.elector.timer.borrow_mut();
        let drawn = timeout(timer.timeouts());
        what(&mut timer, drawn, Instant::now());
    }

    /// When to campaign unless a leader is heard of.
    pub(super) fn deadline(&self) -> Instant {
        self.elector.timer.borrow().deadline(Instant::now())
    }

    /// Lets no campaign start as long as the guard lives: what a leader sent waits for
    /// the disk (E6).
    pub(super) fn hold_timer(&self) -> Hold<'_> {
        self.elector.timer.borrow_mut().hold();
        Hold(self)
    }
}

/// Holds the timer; a restart comes with its end.
pub(super) struct Hold<'a>(&'a Member);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.tell_timer(ElectionTimer::release);
    }
}
