//! When to stand for election: the election timer, on the monotonic clock alone.
//!
//! A witness is reluctant by choice: its timeout is three times the peers', so
//! that it leads only when nobody else can, and never unseats a healthy leader
//! over a slow link.
//!
//! Each instant and each timeout that was drawn comes in from outside.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::reactor::Instant;

/// When to look again at a deadline that has passed while the timer was held.
const HELD_AGAIN: Duration = Duration::from_millis(20);

/// How many votes in a row may bring no leader before a vote is no reason to wait any
/// more: where the links are bad one and the same candidate may ask for ever (S18).
const VOTES_IN_VAIN_MAX: u8 = 2;

/// The election timer of one member.
#[derive(Debug)]
pub struct ElectionTimer {
    timeouts: RangeInclusive<Duration>,
    deadline: Instant,
    /// How many hold it.
    holds: usize,
    urged: bool,
    insists: bool,
    /// Votes that were given since a leader was heard of.
    votes_in_vain: u8,
}

impl ElectionTimer {
    /// One that has just been restarted with the timeout `drawn`. `timeouts`: what
    /// the time without a leader is drawn from.
    pub fn new(timeouts: RangeInclusive<Duration>, drawn: Duration, now: Instant) -> Self {
        Self {
            timeouts,
            deadline: now + drawn,
            holds: 0,
            urged: false,
            insists: false,
            votes_in_vain: 0,
        }
    }

    /// What the time without a leader is to be drawn from.
    pub fn timeouts(&self) -> RangeInclusive<Duration> {
        self.timeouts.clone()
    }

    /// The longest time without a leader that may be drawn.
    pub fn longest(&self) -> Duration {
        *self.timeouts.end()
    }

    /// A leader was heard of (spec 5.2): the time begins anew, with another timeout.
    pub fn hear(&mut self, drawn: Duration, now: Instant) {
        self.votes_in_vain = 0;
        self.restart(drawn, now);
    }

    /// A vote was given (spec 5.2): the time begins anew, unless those before brought no
    /// leader either.
    pub fn vote(&mut self, drawn: Duration, now: Instant) {
        if self.votes_in_vain < VOTES_IN_VAIN_MAX {
            self.votes_in_vain += 1;
            self.restart(drawn, now);
        }
    }

    /// A campaign was begun (spec 5.2): the time begins anew.
    pub fn restart(&mut self, drawn: Duration, now: Instant) {
        self.deadline = now + drawn;
        self.urged = false;
    }

    /// Lets at least this time pass from now.
    pub fn defer(&mut self, time: Duration, now: Instant) {
        self.deadline = self.deadline.max(now + time);
    }

    /// Lets the deadline be now: the leader itself wants us to campaign (spec
    /// 5.7).
    pub fn urge(&mut self, now: Instant) {
        self.urged = true;
        self.deadline = now;
    }

    /// Lets the deadline be now, whatever a leader sends meanwhile.
    pub fn insist(&mut self) {
        self.insists = true;
    }

    /// Whether to campaign without asking whether a leader is there: it was urged since
    /// it was restarted, or insists, and this was not asked since.
    pub fn take_urge(&mut self) -> bool {
        std::mem::take(&mut self.urged) | std::mem::take(&mut self.insists)
    }

    /// While what a leader sent waits for the disk, no campaign starts: the
    /// leader lives, and our own log could not grow anyway (E6). Each hold ends with
    /// [`Self::release`].
    pub fn hold(&mut self) {
        self.holds = self.holds.saturating_add(1);
    }

    /// One hold has ended, and with it the leader was heard of.
    pub fn release(&mut self, drawn: Duration, now: Instant) {
        self.holds = self.holds.saturating_sub(1);
        self.hear(drawn, now);
    }

    /// When to campaign unless a leader is heard of.
    pub fn deadline(&self, now: Instant) -> Instant {
        match self.insists {
            true => self.deadline.min(now),
            false => self.deadline,
        }
    }

    /// Whether the deadline has passed and nothing holds it.
    pub fn is_due(&self, now: Instant) -> bool {
        self.holds == 0 && self.deadline(now) <= now
    }

    /// When to look again at one that is not due.
    pub fn look_again(&self, now: Instant) -> Instant {
        self.deadline(now).max(now + HELD_AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What comes of a timer that was begun at 0 with a timeout of 3 s, and to which
    /// `script` happened, steps like `2 restart 3`: seconds since the beginning, what
    /// happens, and the timeout or the time.
    ///
    /// When it is due, in seconds, with `at once` if no leader is asked for then, and
    /// what comes of the restart with which the campaign begins, 3 s again, and of a vote a
    /// second if the last step is `vote on`.
    fn play(script: &str) -> String {
        let start = Instant::now();
        let mut timer = ElectionTimer::new(3 * SECOND..=4 * SECOND, 3 * SECOND, start);
        let (mut at, mut votes_on) = (0, false);
        for step in script.split(',').filter(|step| !step.is_empty()) {
            let words: Vec<&str> = step.split_whitespace().collect();
            at = words[0].parse().unwrap();
            let now = start + at * SECOND;
            let time = || words[2].parse::<u32>().unwrap() * SECOND;
            match words[1] {
                "hear" => timer.hear(time(), now),
                "restart" => timer.restart(time(), now),
                "vote" if words[2] == "on" => votes_on = true,
                "vote" => timer.vote(time(), now),
                "defer" => timer.defer(time(), now),
                "release" => timer.release(time(), now),
                "urge" => timer.urge(now),
                "insist" => timer.insist(),
                "hold" => timer.hold(),
                other => panic!("{other}"),
            }
        }
        let mut campaigns = Vec::new();
        for at in at..30 {
            let now = start + at * SECOND;
            if votes_on {
                timer.vote(3 * SECOND, now);
            }
            if timer.is_due(now) && campaigns.len() < 2 {
                let asks = if timer.take_urge() { " at once" } else { "" };
                campaigns.push(format!("{at}{asks}"));
                timer.restart(3 * SECOND, now);
            }
        }
        campaigns.join(", ")
    }

    #[test]
    fn when_it_is_due() {
        for (script, campaigns) in [
            ("", "3, 6"),
            // A leader is heard.
            ("1 hear 4", "5, 8"),
            ("1 hear 4, 2 hear 3", "5, 8"),
            ("1 hear 4, 4 hear 4", "8, 11"),
            // A vote is given, and the candidate leads.
            ("1 vote 4", "5, 8"),
            ("1 vote 4, 2 hear 4, 4 vote 4, 7 vote 4", "11, 14"),
            // S18: one and the same candidate asks again and again, and leads never.
            ("1 vote 4, 2 vote 4, 3 vote 4", "6, 9"),
            ("1 vote on", "5, 8"),
            ("1 hear 4, 4 hear 4, 5 vote on", "9, 12"),
            // Others are to find their leader first (S13): never sooner than it was.
            ("1 defer 9", "10, 13"),
            ("1 defer 1", "3, 6"),
            ("1 defer 9, 2 hear 3", "5, 8"),
            // Spec 5.7: an urge counts once, and not after a leader was heard.
            ("1 urge", "1 at once, 4"),
            ("1 urge, 1 hear 3", "4, 7"),
            ("1 urge, 1 urge", "1 at once, 4"),
            // Who insists campaigns whatever a leader sends, once.
            ("1 insist", "1 at once, 4"),
            ("1 insist, 2 hear 4", "2 at once, 5"),
            ("1 insist, 1 defer 9", "1 at once, 4"),
            ("1 insist, 1 urge", "1 at once, 4"),
            // E6: not while the disk is awaited, whoever wants it.
            ("1 hold", ""),
            ("1 hold, 1 urge", ""),
            ("1 hold, 1 insist", ""),
            ("1 hold, 9 release 4", "13, 16"),
            ("1 hold, 2 hold, 9 release 4", ""),
            ("1 hold, 2 hold, 9 release 4, 11 release 4", "15, 18"),
            ("1 hold, 1 urge, 9 release 4", "13, 16"),
            ("1 hold, 1 insist, 9 release 4", "9 at once, 12"),
        ] {
            assert_eq!(play(script), campaigns, "{script:?}");
        }
    }

    #[test]
    fn it_is_looked_at_again_when_it_may_be_due() {
        let start = Instant::now();
        let mut timer = ElectionTimer::new(3 * SECOND..=4 * SECOND, 3 * SECOND, start);
        assert_eq!(timer.look_again(start), start + 3 * SECOND);
        timer.hold();
        let late = start + 5 * SECOND;
        assert_eq!(timer.look_again(late), late + HELD_AGAIN, "not in a circle");
    }
}
