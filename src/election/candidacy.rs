//! Whether to stand for election: whether a campaign could be won, and should.

/// What is known of another member.
#[derive(Debug, Clone, Copy)]
pub struct Other {
    /// There is a connection to it.
    pub connected: bool,
    /// It has shown that our log is no stale past (S13).
    pub verified: bool,
    /// It does not take us for a member.
    pub disowns: bool,
    /// It may be given what we hold.
    pub may_be_taught: bool,
}

/// What we are.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Nothing withholds our vote.
    pub votes: bool,
    /// We lead.
    pub leads: bool,
    /// Our log lists us.
    pub is_member: bool,
    /// It does so as far as it is committed (S7 c).
    pub is_member_as_committed: bool,
}

/// What speaks against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// Our vote is withheld.
    NoVote,
    /// We lead already.
    Leads,
    /// We are no member, or were added and that is not committed.
    NoMember,
    /// With too few connected no campaign is won, and the term is not raised (S12). One
    /// that disowns us counts for nothing.
    NoMajority,
    /// A connected member has not shown its status yet.
    Unverified,
    /// All that could be reached may have left the past that we would teach them.
    NobodyRemembers,
}

/// What speaks against standing for election; `others`: all other members.
pub fn objection(ours: Candidate, others: &[Other]) -> Option<Objection> {
    if !ours.votes {
        return Some(Objection::NoVote);
    }
    if ours.leads {
        return Some(Objection::Leads);
    }
    if !(ours.is_member && ours.is_member_as_committed) {
        return Some(Objection::NoMember);
    }
    let connected: Vec<&Other> = others.iter().filter(|other| other.connected).collect();
    let reachable = connected.iter().filter(|other| !other.disowns).count();
    let members = others.len().saturating_add(1);
    if reachable.saturating_add(1) <= members / 2 {
        return Some(Objection::NoMajority);
    }
    if !connected.iter().all(|other| other.verified) {
        return Some(Objection::Unverified);
    }
    // A group of one has nobody to teach.
    let remembered = others.is_empty() || connected.iter().any(|other| other.may_be_taught);
    (!remembered).then_some(Objection::NobodyRemembers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: Candidate = Candidate {
        votes: true,
        leads: false,
        is_member: true,
        is_member_as_committed: true,
    };

    /// One letter for each other member: `+` all is well, `-` not connected, `?` not
    /// verified, `x` disowns us, `0` may not be taught.
    fn others(text: &str) -> Vec<Other> {
        let other = |letter| Other {
            connected: letter != '-',
            verified: letter != '?',
            disowns: letter == 'x',
            may_be_taught: letter != '0',
        };
        text.chars().map(other).collect()
    }

    #[test]
    fn a_campaign_needs_a_majority_that_is_known() {
        use Objection::{NoMajority, NobodyRemembers, Unverified};
        for (text, wanted) in [
            ("", None),
            ("+", None),
            ("-", Some(NoMajority)),
            ("x", Some(NoMajority)),
            ("++", None),
            ("+-", None),
            ("--", Some(NoMajority)),
            ("+x", None),
            ("x-", Some(NoMajority)),
            ("xx", Some(NoMajority)),
            ("+?", Some(Unverified)),
            ("?-", Some(Unverified)),
            ("+0", None),
            ("0-", Some(NobodyRemembers)),
            ("00", Some(NobodyRemembers)),
            ("+--", Some(NoMajority)),
            ("++-", None),
            ("++--", None),
            ("+---", Some(NoMajority)),
        ] {
            assert_eq!(objection(MEMBER, &others(text)), wanted, "{text:?}");
        }
    }

    #[test]
    fn who_may_not_vote_or_is_no_member_does_not_stand() {
        use Objection::{Leads, NoMember, NoVote};
        for (ours, wanted) in [
            (MEMBER, None),
            (
                Candidate {
                    votes: false,
                    ..MEMBER
                },
                Some(NoVote),
            ),
            (
                Candidate {
                    leads: true,
                    ..MEMBER
                },
                Some(Leads),
            ),
            (
                Candidate {
                    is_member: false,
                    ..MEMBER
                },
                Some(NoMember),
            ),
            (
                Candidate {
                    is_member_as_committed: false,
                    ..MEMBER
                },
                Some(NoMember),
            ),
        ] {
            assert_eq!(objection(ours, &others("++")), wanted, "{ours:?}");
        }
    }
}
