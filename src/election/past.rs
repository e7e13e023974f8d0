//! Whether our log is from a past that the group has left (S13).
//!
//! Members up to 0.3.15 begin again at term 0 when they restart (H7). If they did so
//! while we were away, our last term would win every election over what they have
//! committed since. One test, in one place, on answers and appends of the member that
//! was asked alone.

use crate::address::Address;
use crate::ids::Term;

/// A leader that we do not follow, as it or a follower of it shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherLeader {
    /// Who it is.
    pub address: Address,
    /// Its term.
    pub term: Term,
    /// What it has committed.
    pub commit: u64,
}

/// What we hold.
#[derive(Debug, Clone, Copy)]
pub struct HeldLog<'a> {
    /// The commit index.
    pub commit: u64,
    /// The term of our last entry.
    pub last_term: Term,
    /// The term of our entry at the other's commit index, where we have one.
    pub term_at_its_commit: Option<Term>,
    /// Whom we followed last as a leader, or that it was us, and its term.
    pub followed: Option<(&'a Address, Term)>,
    /// A leader is heard, or we lead.
    pub is_led: bool,
}

/// Whether our log is from before this leader began. `forgets`: it, or who showed it,
/// forgets its terms. Only such members can make that so. A leader that was merely
/// paused leads an earlier term too, but our log holds all that it committed.
pub fn is_stale(ours: &HeldLog<'_>, other: &OtherLeader, forgets: bool) -> bool {
    if !forgets || other.commit <= ours.commit {
        return false;
    }
    // What a leader of the past committed has no later term than its own.
    let unknown = ours.term_at_its_commit.is_none_or(|term| term > other.term);
    let earlier = other.term < ours.last_term;
    (earlier && unknown) || is_of_our_term(ours, other)
}

/// Whether it leads the very term of our last entries, in which we led or
/// followed somebody else, who leads no more: the term came twice, and our
/// entries are the other's.
fn is_of_our_term(ours: &HeldLog<'_>, other: &OtherLeader) -> bool {
    let another = ours
        .followed
        .is_some_and(|(leader, term)| *leader != other.address && term == other.term);
    another && ours.last_term == other.term && !ours.is_led
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::testing::address;

    fn term(term: u64) -> Term {
        Term::new(term).unwrap()
    }

    /// We hold entries up to term 5 and have committed 50; A leads, as shown.
    #[test]
    fn only_a_past_that_was_left_is_stale() {
        for (what, forgets, its_term, commit, ours_there, followed, is_led, stale) in [
            ("begun anew", true, 1, 60, None, Some(("B", 5)), false, true),
            (
                "begun anew, in our length",
                true,
                1,
                60,
                Some(5),
                Some(("B", 5)),
                false,
                true,
            ),
            (
                "keeps its terms",
                false,
                1,
                60,
                None,
                Some(("B", 5)),
                false,
                false,
            ),
            (
                "has committed nothing new",
                true,
                1,
                50,
                None,
                Some(("B", 5)),
                false,
                false,
            ),
            (
                "was paused, and is our own past",
                true,
                4,
                60,
                Some(4),
                Some(("B", 5)),
                false,
                false,
            ),
            (
                "leads a later term",
                true,
                6,
                60,
                None,
                Some(("B", 5)),
                false,
                false,
            ),
            (
                "leads our term, in which we followed it",
                true,
                5,
                60,
                None,
                Some(("A", 5)),
                false,
                false,
            ),
            (
                "leads our term, in which we followed another",
                true,
                5,
                60,
                None,
                Some(("B", 5)),
                false,
                true,
            ),
            (
                "and that one leads still",
                true,
                5,
                60,
                None,
                Some(("B", 5)),
                true,
                false,
            ),
            (
                "and we followed nobody in it",
                true,
                5,
                60,
                None,
                None,
                false,
                false,
            ),
            (
                "leads a term of which we have no entry",
                true,
                7,
                60,
                None,
                Some(("B", 7)),
                false,
                false,
            ),
        ] {
            let followed = followed.map(|(leader, of)| (address(leader), term(of)));
            let ours = HeldLog {
                commit: 50,
                last_term: term(5),
                term_at_its_commit: ours_there.map(term),
                followed: followed.as_ref().map(|(leader, of)| (leader, *of)),
                is_led,
            };
            let other = OtherLeader {
                address: address("A"),
                term: term(its_term),
                commit,
            };
            assert_eq!(is_stale(&ours, &other, forgets), stale, "{what}");
        }
    }
}
