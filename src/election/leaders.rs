//! Who leads, by what was heard.

use std::time::Duration;

use crate::address::Address;
use crate::ids::Term;
use crate::reactor::Instant;

/// A leader that was heard.
#[derive(Debug, Clone)]
struct Heard {
    leader: Address,
    term: Term,
    at: Instant,
}

/// The leader that was heard last, and the one that was named last.
#[derive(Debug, Default)]
pub struct Leaders {
    heard: Option<Heard>,
    /// Whom the log named last as leader, and since when; none without one.
    named: Option<(Address, Instant)>,
}

impl Leaders {
    /// A leader was heard of. Whether it is to be named: it is another than before, or
    /// there was none.
    pub fn hear(&mut self, leader: &Address, term: Term, now: Instant) -> bool {
        self.note(leader, term, now);
        let news = self.named.as_ref().is_none_or(|(named, _)| named != leader);
        if news {
            self.named = Some((leader.clone(), now));
        }
        news
    }

    /// A leader was heard of that we do not follow.
    pub fn note(&mut self, leader: &Address, term: Term, now: Instant) {
        self.heard = Some(Heard {
            leader: leader.clone(),
            term,
            at: now,
        });
    }

    /// We lead from now on.
    pub fn lead(&mut self, me: &Address, now: Instant) {
        self.named = Some((me.clone(), now));
    }

    /// Nobody leads any more that we know of: the next one is named again.
    pub fn lost(&mut self) {
        self.named = None;
    }

    /// The leader as far as we know: one of our `term` or a later one that was heard
    /// within `max_age`.
    pub fn known(&self, term: Term, max_age: Duration, now: Instant) -> Option<&Address> {
        let heard = self.heard.as_ref()?;
        let fresh = now.saturating_duration_since(heard.at) <= max_age;
        (heard.term >= term && fresh).then_some(&heard.leader)
    }

    /// When a leader was heard last, whoever it was.
    pub fn heard_at(&self) -> Option<Instant> {
        self.heard.as_ref().map(|heard| heard.at)
    }

    /// When this one was heard, if it was the last.
    pub fn heard_from(&self, leader: &Address) -> Option<Instant> {
        let heard = self.heard.as_ref()?;
        (heard.leader == *leader).then_some(heard.at)
    }

    /// Since when it leads, by what was named.
    pub fn leads_since(&self, leader: &Address) -> Option<Instant> {
        let (named, since) = self.named.as_ref()?;
        (named == leader).then_some(*since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::testing::address;

    const SECOND: Duration = Duration::from_secs(1);

    fn term(term: u64) -> Term {
        Term::new(term).unwrap()
    }

    #[test]
    fn a_leader_is_known_while_it_is_heard_and_its_term_is_not_over() {
        let (a, start) = (address("A"), Instant::now());
        let mut leaders = Leaders::default();
        assert_eq!(leaders.known(term(0), SECOND, start), None);
        leaders.hear(&a, term(5), start);
        for (our_term, age, known) in [
            (5, SECOND, true),
            (4, SECOND, true),
            (6, SECOND, false),
            (5, SECOND * 2, false),
        ] {
            let found = leaders.known(term(our_term), SECOND, start + age);
            assert_eq!(found.is_some(), known, "term {our_term} after {age:?}");
        }
    }

    #[test]
    fn a_leader_is_named_when_it_is_another() {
        let (a, b, me, now) = (address("A"), address("B"), address("W"), Instant::now());
        let mut leaders = Leaders::default();
        assert!(leaders.hear(&a, term(1), now) && !leaders.hear(&a, term(1), now));
        assert!(leaders.hear(&b, term(2), now + SECOND));
        assert_eq!(leaders.leads_since(&b), Some(now + SECOND));
        assert_eq!(leaders.leads_since(&a), None);
        leaders.lead(&me, now);
        assert!(leaders.hear(&b, term(4), now), "after us");
        leaders.lost();
        assert!(leaders.hear(&b, term(5), now), "after nobody");
        // One that we do not follow is known and not named.
        leaders.note(&a, term(6), now);
        assert_eq!(leaders.heard_from(&a), Some(now));
        assert_eq!(leaders.leads_since(&a), None);
    }
}
