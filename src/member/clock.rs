//! When to campaign: the election deadline, on the monotonic clock alone.
//!
//! A witness is reluctant by choice: its timeout is three times the peers', so
//! that it leads only when nobody else can, and never unseats a healthy leader
//! over a slow link.

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::RngExt as _;

use crate::reactor::{self, Instant};

/// The election clock of one member.
#[derive(Debug)]
pub struct ElectionClock {
    timeout: RangeInclusive<Duration>,
    deadline: Cell<Instant>,
    holds: Cell<usize>,
    urged: Cell<bool>,
    insists: Cell<bool>,
}

impl ElectionClock {
    /// A clock that has just been restarted. `timeout`: what the time without a
    /// leader is drawn from.
    pub fn new(timeout: RangeInclusive<Duration>) -> Self {
        let clock = Self {
            timeout,
            deadline: Cell::new(Instant::now()),
            holds: Cell::new(0),
            urged: Cell::new(false),
            insists: Cell::new(false),
        };
        clock.restart();
        clock
    }

    /// A leader was heard of, a vote given or a campaign begun (spec 5.2): draws
    /// a new deadline.
    pub fn restart(&self) {
        let timeout = reactor::rng().random_range(self.timeout.clone());
        self.deadline.set(Instant::now() + timeout);
        self.urged.set(false);
    }

    /// Lets at least this time pass from now.
    pub fn defer(&self, time: Duration) {
        let until = Instant::now() + time;
        self.deadline.set(self.deadline.get().max(until));
    }

    /// Lets the deadline be now: the leader itself wants us to campaign (spec
    /// 5.7).
    pub fn urge(&self) {
        self.urged.set(true);
        self.deadline.set(Instant::now());
    }

    /// Lets the deadline be now, whatever a leader sends meanwhile.
    pub fn insist(&self) {
        self.insists.set(true);
    }

    /// Whether to campaign without asking whether a leader is there: it was urged since
    /// it was restarted, or insists, and this was not asked since.
    pub fn take_urge(&self) -> bool {
        self.urged.take() | self.insists.take()
    }

    /// The longest time without a leader that may be drawn.
    pub fn longest(&self) -> Duration {
        *self.timeout.end()
    }

    /// When to campaign unless a leader is heard of.
    pub fn deadline(&self) -> Instant {
        match self.insists.get() {
            true => self.deadline.get().min(Instant::now()),
            false => self.deadline.get(),
        }
    }

    /// While what a leader sent waits for the disk, no campaign starts: the
    /// leader lives, and our own log could not grow anyway (E6).
    pub fn hold(&self) -> Hold<'_> {
        self.holds.set(self.holds.get().saturating_add(1));
        Hold(self)
    }

    /// Whether the deadline has passed and nothing holds it.
    pub fn is_due(&self) -> bool {
        self.holds.get() == 0 && self.deadline() <= Instant::now()
    }
}

/// Keeps the clock from running out; a restart comes with its end.
pub struct Hold<'a>(&'a ElectionClock);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.holds.set(self.0.holds.get().saturating_sub(1));
        self.0.restart();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_urge_counts_once_and_not_after_a_leader_was_heard() {
        // Spec 5.7
        let clock = ElectionClock::new(Duration::from_secs(3)..=Duration::from_secs(4));
        assert!(!clock.is_due() && !clock.take_urge());
        clock.urge();
        assert!(clock.is_due() && clock.take_urge() && !clock.take_urge());
        clock.urge();
        clock.restart();
        assert!(!clock.is_due() && !clock.take_urge());
    }

    #[test]
    fn who_insists_campaigns_whatever_a_leader_sends() {
        let clock = ElectionClock::new(Duration::from_secs(3)..=Duration::from_secs(4));
        let hold = clock.hold();
        clock.insist();
        assert!(!clock.is_due(), "not while the disk is awaited (E6)");
        drop(hold);
        clock.restart();
        assert!(clock.is_due() && clock.take_urge());
        assert!(!clock.is_due() && !clock.take_urge(), "once");
    }
}
