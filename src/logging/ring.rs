//! The last events, kept in memory; one that repeats itself is kept once, with a
//! count, so that it does not push out the others (S16). Pure.

use std::time::SystemTime;

use heapless::Vec as Bounded;
use log::Level;
use serde::Serialize;

use super::utc::utc;
use crate::limits::{EVENT_CHARS_MAX, EVENTS_MAX};
use crate::text::escaped;

/// One line of the log, kept for the page, a bundle or a console.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event {
    /// Counts from 1 since the start; one that happens again gets a new number.
    pub number: u64,
    /// When, the last time, by our wall clock, RFC 3339.
    pub time: String,
    /// `INFO`, `WARN` or `ERROR`.
    pub level: &'static str,
    /// What, bounded, with harmful characters escaped.
    pub text: String,
    /// How often it was logged, word for word, while it was kept.
    pub times: u64,
}

/// The last events, oldest first.
pub(super) struct Ring {
    last: u64,
    kept: Bounded<KeptEvent, EVENTS_MAX>,
    /// The number, in PID 1's own count, of its last event that was taken in.
    last_of_board: u64,
}

/// An event as it is kept; see [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEvent {
    /// Counts from 1 since the start of the process that it comes from.
    pub number: u64,
    /// By the wall clock.
    pub time: SystemTime,
    /// At least `INFO`.
    pub level: Level,
    /// What, bounded and without control characters.
    pub text: Box<str>,
    /// How often.
    pub times: u64,
}

impl Ring {
    pub(super) const fn new() -> Self {
        Self {
            last: 0,
            kept: Bounded::new(),
            last_of_board: 0,
        }
    }

    /// Keeps one more; if it is kept already, once more.
    pub(super) fn keep(&mut self, time: SystemTime, level: Level, message: &str) {
        let text: String = escaped(message).chars().take(EVENT_CHARS_MAX).collect();
        let before = self.remove(level, &text);
        self.push(KeptEvent {
            number: 0,
            time,
            level,
            text: text.into(),
            times: before.map_or(1, |kept| kept.times.saturating_add(1)),
        });
    }

    /// Takes in those of PID 1's events that are new, with their own time and count.
    pub(super) fn take_in(&mut self, board: Vec<KeptEvent>) {
        for event in board {
            if event.number > self.last_of_board {
                self.last_of_board = event.number;
                self.remove(event.level, &event.text);
                self.push(event);
            }
        }
    }

    fn remove(&mut self, level: Level, text: &str) -> Option<KeptEvent> {
        let same = |kept: &KeptEvent| kept.level == level && *kept.text == *text;
        let at = self.kept.iter().position(same)?;
        Some(self.kept.remove(at))
    }

    /// As the newest, with a number of ours.
    fn push(&mut self, event: KeptEvent) {
        self.last = self.last.saturating_add(1);
        if self.kept.is_full() {
            self.kept.remove(0);
        }
        let number = self.last;
        // There is room: the oldest has just made it.
        let _ = self.kept.push(KeptEvent { number, ..event });
    }

    /// The last `count` as they are kept.
    pub(super) fn newest(&self, count: usize) -> Vec<KeptEvent> {
        let older = self.kept.len().saturating_sub(count);
        self.kept.iter().skip(older).cloned().collect()
    }

    /// Those after number `after` that are still kept.
    pub(super) fn after(&self, after: u64) -> Vec<Event> {
        let newer = self.kept.iter().filter(|kept| kept.number > after);
        newer
            .map(|kept| Event {
                number: kept.number,
                time: utc(kept.time),
                level: kept.level.as_str(),
                text: kept.text.to_string(),
                times: kept.times,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn said(ring: &Ring) -> Vec<(String, u64)> {
        let events = ring.after(0).into_iter();
        events.map(|event| (event.text, event.times)).collect()
    }

    #[test]
    fn the_last_hundred_events_are_kept_and_no_more() {
        let mut ring = Ring::new();
        for number in 0..EVENTS_MAX * 2 {
            let text = format!("event {number}\u{1b}[2J{}", "x".repeat(9_999));
            ring.keep(UNIX_EPOCH, Level::Info, &text);
        }
        let all = ring.after(0);
        assert_eq!(all.len(), EVENTS_MAX);
        let last = all.last().unwrap();
        let begin = format!("event {}\\u{{1b}}[2J", EVENTS_MAX * 2 - 1);
        assert!(last.text.starts_with(&begin));
        assert_eq!(last.text.chars().count(), EVENT_CHARS_MAX);
        assert_eq!(ring.after(last.number - 3).len(), 3);
        assert_eq!(ring.after(last.number).len(), 0);
    }

    #[test]
    fn events_of_pid_1_are_taken_in_once_with_their_own_time_and_count() {
        let event = |number: u64, text: &str, times: u64| KeptEvent {
            number,
            time: UNIX_EPOCH,
            level: Level::Warn,
            text: text.into(),
            times,
        };
        let mut ring = Ring::new();
        ring.keep(crate::reactor::wall_clock(), Level::Warn, "ours");
        ring.take_in(vec![event(7, "no link", 1), event(8, "no lease", 1)]);
        ring.take_in(vec![event(8, "no lease", 1), event(11, "no link", 3)]);
        let expected = [("ours", 1), ("no lease", 1), ("no link", 3)];
        assert_eq!(
            said(&ring),
            expected.map(|(text, times)| (text.into(), times))
        );
        assert_eq!(ring.after(0)[2].time, "1970-01-01T00:00:00.000Z");
        assert_eq!(ring.after(0)[2].number, 4);
        assert_eq!(ring.newest(1).len(), 1);
    }

    #[test]
    fn what_repeats_itself_does_not_push_out_the_others() {
        // S16
        let mut ring = Ring::new();
        ring.keep(UNIX_EPOCH, Level::Info, "elected");
        for _ in 0..EVENTS_MAX * 2 {
            ring.keep(UNIX_EPOCH, Level::Info, "up");
            ring.keep(UNIX_EPOCH, Level::Info, "down");
        }
        ring.keep(UNIX_EPOCH, Level::Warn, "down");
        let times = u64::try_from(EVENTS_MAX * 2).unwrap();
        let [elected, up] = [("elected".into(), 1), ("up".into(), times)];
        let [down, warned] = [("down".into(), times), ("down".into(), 1)];
        assert_eq!(said(&ring), [elected, up, down, warned]);
        // Whoever looks on sees it again, with its new count.
        let last = ring.after(0).last().unwrap().number;
        ring.keep(UNIX_EPOCH, Level::Info, "up");
        let news = ring.after(last);
        assert_eq!((news.len(), news[0].times), (1, times + 1));
    }
}
