//! What the others say when they are asked whether they hear a leader.
//!
//! A witness must never unseat a leader that everybody else hears, and PySyncObj
//! knows neither a pre-vote nor stickiness (spec 3.1): a member whose line to the
//! leader alone is cut would raise the term, win with the other's vote, and the
//! old leader, of whom PySyncObj asks only now and then whether anybody still
//! listens, would keep its writers waiting for half a minute. So before we stand for
//! election whoever is connected is asked for its `status`.

use std::time::Duration;

use crate::address::Address;
use crate::ids::Term;
use crate::limits;
use crate::reactor::Instant;
use crate::wire::utility::StatusReply;

/// The leader by a peer's `status`, where it could lead us too: of our term or a later
/// one, and not one that we do not follow for another reason (`ignored`).
pub fn leader_named<'a>(
    status: &'a StatusReply,
    me: &Address,
    term: Term,
    ignored: impl FnOnce(&Address) -> bool,
) -> Option<&'a Address> {
    let leader = status.leader.as_ref()?;
    let counts = leader != me && status.raft_term >= term && !ignored(leader);
    counts.then_some(leader)
}

/// A leader that another hears and we do not.
#[derive(Debug, Clone)]
struct Elsewhere {
    leader: Address,
    /// The greatest commit index shown by who hears it, and since when.
    commit: u64,
    since: Instant,
    /// When that was said last.
    said: Instant,
}

impl Elsewhere {
    /// Whether it is respected. Not without end: one that commits nothing may
    /// have lost its majority without knowing it.
    fn is_respected(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < limits::ELSEWHERE_PATIENCE
    }
}

/// What is known of a leader elsewhere.
#[derive(Debug, Default)]
pub struct PreVote(Option<Elsewhere>);

impl PreVote {
    /// Somebody hears `leader`, and has committed up to `commit`. Whether that is news.
    pub fn hear(&mut self, leader: &Address, commit: u64, now: Instant) -> bool {
        let news = self.0.is_none();
        let known = self.0.get_or_insert_with(|| Elsewhere {
            leader: leader.clone(),
            commit,
            since: now,
            said: now,
        });
        // Another leader is no news of itself: two that are named in turn shall not
        // be respected for ever.
        known.leader.clone_from(leader);
        known.said = now;
        if commit > known.commit {
            known.commit = commit;
            known.since = now;
        }
        news
    }

    /// Whether the leader that was named is respected: we do not stand.
    pub fn is_respected(&self, now: Instant) -> bool {
        self.0.as_ref().is_some_and(|known| known.is_respected(now))
    }

    /// Nobody names a leader any more, or we hear one.
    pub fn end(&mut self) {
        self.0 = None;
    }

    /// The leader that others hear and we do not, by what they said within `recent`.
    pub fn leader(&self, recent: Duration, now: Instant) -> Option<&Address> {
        let known = self.0.as_ref()?;
        let fresh = now.saturating_duration_since(known.said) <= recent;
        (known.is_respected(now) && fresh).then_some(&known.leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::testing::{address, status};

    fn term(term: u64) -> Term {
        Term::new(term).unwrap()
    }

    #[test]
    fn only_a_leader_that_could_be_ours_is_respected() {
        for (leader, of_term, ignored, named) in [
            (Some("A"), 7, "", Some("A")),
            (Some("A"), 8, "", Some("A")),
            (Some("B"), 7, "", Some("B")),
            (None, 7, "", None),
            // Of an earlier term it could not lead us: a later one must come.
            (Some("A"), 6, "", None),
            // Us, whom it has not noticed to be no leader any more.
            (Some("W"), 7, "", None),
            // Beside whom we have followed another in the same term.
            (Some("A"), 7, "A", None),
        ] {
            let mut status = status("B", "A W", 9, 9, 9);
            status.leader = leader.map(address);
            status.raft_term = term(of_term);
            let ignored = |leader: &Address| !ignored.is_empty() && *leader == address(ignored);
            let found = leader_named(&status, &address("W"), term(7), ignored);
            assert_eq!(found.cloned(), named.map(address));
        }
    }

    #[test]
    fn a_leader_is_respected_as_long_as_it_commits() {
        let (a, b, start) = (address("A"), address("B"), Instant::now());
        let patience = limits::ELSEWHERE_PATIENCE;
        let mut pre_vote = PreVote::default();
        assert!(!pre_vote.is_respected(start));
        assert!(pre_vote.hear(&a, 7, start));
        assert!(pre_vote.is_respected(start));
        // It commits: its time begins anew.
        assert!(!pre_vote.hear(&a, 8, start + patience / 2), "no news");
        assert!(pre_vote.is_respected(start + patience));
        // It does not, nor does another that is named in its place.
        assert!(!pre_vote.hear(&b, 8, start + patience));
        assert!(!pre_vote.is_respected(start + patience / 2 + patience));
        pre_vote.end();
        assert!(pre_vote.hear(&b, 8, start + 2 * patience), "news again");
        assert!(pre_vote.is_respected(start + 2 * patience));
    }

    #[test]
    fn it_is_shown_as_long_as_somebody_named_it_lately() {
        let (a, start, recent) = (address("A"), Instant::now(), Duration::from_secs(3));
        let mut pre_vote = PreVote::default();
        pre_vote.hear(&a, 7, start);
        assert_eq!(pre_vote.leader(recent, start + recent), Some(&a));
        assert_eq!(pre_vote.leader(recent, start + 2 * recent), None);
    }
}
