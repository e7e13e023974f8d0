//! When leadership is given back to a data node: the witness only lends itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::address::Address;
use crate::ids::LogIndex;
use crate::reactor::Instant;

/// How long a data node must have been caught up before it is handed leadership.
const AFTER: Duration = Duration::from_secs(60);

/// How long until the next attempt.
const AGAIN: Duration = Duration::from_secs(600);

/// What is known of a follower.
#[derive(Debug, Clone)]
pub struct Follower {
    /// Who it is.
    pub address: Address,
    /// Up to where it holds our log, by its own word.
    pub matched: Option<LogIndex>,
    /// It understands the message.
    pub takes_leadership: bool,
}

/// The attempts of one leadership.
#[derive(Debug, Default)]
pub struct HandOver {
    /// Since when each follower has kept up.
    caught_up: BTreeMap<Address, Instant>,
    /// When it was tried last.
    tried: Option<Instant>,
}

impl HandOver {
    /// Whom to hand leadership to now; `last`: the end of our log.
    pub fn candidate(
        &mut self,
        followers: impl IntoIterator<Item = Follower>,
        last: LogIndex,
        now: Instant,
    ) -> Option<Address> {
        let mut candidate = None;
        for follower in followers {
            let Follower {
                address, matched, ..
            } = follower;
            // One round trip behind is caught up too.
            let close = matched.is_some_and(|m| m.get().saturating_add(1) >= last.get());
            if !(close && follower.takes_leadership) {
                self.caught_up.remove(&address);
                continue;
            }
            let since = *self.caught_up.entry(address.clone()).or_insert(now);
            if matched == Some(last) && now.saturating_duration_since(since) >= AFTER {
                candidate = Some(address);
            }
        }
        let paused = |tried: Instant| now.saturating_duration_since(tried) < AGAIN;
        candidate.filter(|_| !self.tried.is_some_and(paused))
    }

    /// It was asked to take over.
    pub fn tried(&mut self, now: Instant) {
        self.tried = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::testing::address;

    fn index(index: u64) -> LogIndex {
        LogIndex::new(index).unwrap()
    }

    fn follower(name: &str, matched: u64) -> Follower {
        Follower {
            address: address(name),
            matched: LogIndex::new(matched),
            takes_leadership: name != "OLD",
        }
    }

    /// Each row: seconds since the leadership began, how far A is of a log that ends at
    /// 90, and whether it is asked.
    #[test]
    fn who_has_kept_up_for_a_minute_is_asked_now_and_then() {
        let start = Instant::now();
        let mut hand_over = HandOver::default();
        for (second, matched, asked) in [
            (0, 90, false),
            (59, 89, false),
            // It keeps up, and lacks an entry at this moment.
            (60, 89, false),
            (61, 90, true),
            (62, 90, false),
            (660, 90, false),
            (661, 90, true),
            // It falls behind: its time begins anew.
            (1300, 40, false),
            (1301, 90, false),
            (1360, 90, false),
            (1361, 90, true),
        ] {
            let now = start + Duration::from_secs(second);
            let candidate = hand_over.candidate([follower("A", matched)], index(90), now);
            assert_eq!(candidate.is_some(), asked, "{second} s");
            if candidate.is_some() {
                hand_over.tried(now);
            }
        }
    }

    #[test]
    fn only_who_understands_it_is_asked() {
        let start = Instant::now();
        let mut hand_over = HandOver::default();
        let all = || [follower("OLD", 90), follower("B", 90), follower("C", 0)];
        assert_eq!(hand_over.candidate(all(), index(90), start), None);
        let later = hand_over.candidate(all(), index(90), start + AFTER);
        assert_eq!(later, Some(address("B")));
    }
}
