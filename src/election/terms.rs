//! Which term is believed of a peer, and when its request for a vote is left
//! alone because a leader is there. Pure.

use std::time::Duration;

use crate::ids::Term;
use crate::limits::TERM_JUMP_MAX;
use crate::reactor::Instant;

/// The greatest term that a message may name.
///
/// It is bounded by a step from our own term, or from one that a majority of the
/// members without us have shown when they were asked at their own addresses:
/// `shown` holds what each of the others has shown last. So a group whose terms
/// were driven up by somebody is followed still, while one message, from
/// whomever, takes nobody near the end of the terms.
pub fn ceiling(ours: Term, mut shown: Vec<Term>, members: usize) -> u64 {
    shown.sort_unstable_by(|a, b| b.cmp(a));
    let needed = (members / 2 + 1).min(members.saturating_sub(1));
    let vouched = needed
        .checked_sub(1)
        .and_then(|last| shown.get(last))
        .map_or(0, |term| term.get());
    ours.get().max(vouched).saturating_add(TERM_JUMP_MAX)
}

/// Whether a leader counts as there, `heard` being when it last sent an append:
/// nobody else is voted for then (leader stickiness, Raft dissertation 4.2.3).
///
/// Within the least election timeout, less one heartbeat: when a leader dies, a
/// peer may have heard it for the last time a heartbeat before us, and its first
/// campaign shall not be lost. The others keep PySyncObj's rules, by which
/// whoever reaches the leader with a higher term unseats it; so nobody whom the
/// leader can hear waits for us.
pub fn is_led(
    heard: Instant,
    now: Instant,
    min_timeout: Duration,
    append_entries_period: Duration,
) -> bool {
    let window = min_timeout.saturating_sub(append_entries_period);
    now.saturating_duration_since(heard) < window
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(term: u64) -> Term {
        Term::new(term).unwrap()
    }

    fn terms(terms: &[u64]) -> Vec<Term> {
        terms.iter().map(|t| term(*t)).collect()
    }

    #[test]
    fn a_term_is_believed_within_a_step() {
        assert_eq!(ceiling(term(7), vec![], 3), 7 + TERM_JUMP_MAX);
        assert_eq!(ceiling(term(7), terms(&[5, 6]), 3), 7 + TERM_JUMP_MAX);
    }

    #[test]
    fn what_all_others_have_shown_is_believed_whatever_it_is() {
        let far = 1 << 62;
        assert_eq!(ceiling(term(7), terms(&[far, 9]), 3), 9 + TERM_JUMP_MAX);
        assert_eq!(ceiling(term(7), terms(&[far]), 3), 7 + TERM_JUMP_MAX);
        let both = ceiling(term(7), terms(&[far, far + 1]), 3);
        assert_eq!(both, far + TERM_JUMP_MAX);
        // Three of five; the one other of two; nobody of one.
        let three = ceiling(term(7), terms(&[far, 2, far, far]), 5);
        assert_eq!(three, far + TERM_JUMP_MAX);
        let two = ceiling(term(7), terms(&[far, 2, 3, far]), 5);
        assert_eq!(two, 7 + TERM_JUMP_MAX);
        assert_eq!(ceiling(term(7), terms(&[far]), 2), far + TERM_JUMP_MAX);
        assert_eq!(ceiling(term(7), vec![], 1), 7 + TERM_JUMP_MAX);
    }

    #[test]
    fn the_end_of_the_terms_is_no_overflow() {
        let end = u64::MAX >> 1;
        assert!(ceiling(term(end), terms(&[end, end]), 3) > end);
    }

    #[test]
    fn a_leader_is_there_until_a_first_campaign_can_come() {
        let ms = Duration::from_millis;
        let now = Instant::now();
        let led = |ago| is_led(now - ms(ago), now, ms(400), ms(100));
        assert!(led(0) && led(299));
        assert!(!led(300) && !led(5_000));
    }
}
