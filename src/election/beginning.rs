//! How a member without memory begins: with which members, what it may found, and which
//! vote is spent when it does (S7).

use std::time::Duration;

use crate::address::Address;
use crate::config::Bootstrap;
use crate::disk::{Arrival, Standing};
use crate::ids::Term;
use crate::limits;
use crate::links::epoch::EpochTerm;
use crate::links::follower::VoteView;

/// When a majority of empty members may found a cluster without the others (b).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Founding {
    /// Never: all members must answer. For a replaced card, and where state was
    /// lost.
    WithAll,
    /// When the host of every other member has refused connections this long.
    WithMajority {
        /// 30 s, or none where the operator says that the cluster is new.
        refused_for: Duration,
    },
}

/// What our own state says of us.
#[derive(Debug, Clone, Copy)]
pub struct OwnState {
    /// Whether its memory can be trusted with a vote.
    pub standing: Standing,
    /// What was shown to us before our word counted.
    pub arrival: Arrival,
    /// The log holds nothing but the entry that every log begins with.
    pub empty: bool,
}

impl OwnState {
    /// Whether our word does not count yet.
    pub fn is_recovering(self) -> bool {
        self.standing == Standing::Recovering
    }

    /// Whether the log may begin with other members: nothing stands on those it has.
    pub fn takes_members(self) -> bool {
        self.is_recovering() && self.empty
    }

    /// Whether the members are the configuration's still: no leader has named others.
    pub fn has_yet_to_begin(self) -> bool {
        self.takes_members() && self.arrival.reading.is_none()
    }
}

/// Who must show that the cluster is new. `lost`: state was set aside in this folder, so
/// that this is no first deployment, whatever the operator says.
pub fn founding(bootstrap: Bootstrap, lost: bool) -> Founding {
    let refused_for = match bootstrap {
        _ if lost => return Founding::WithAll,
        Bootstrap::Join => return Founding::WithAll,
        Bootstrap::New => Duration::ZERO,
        Bootstrap::Unset => limits::FOUNDING_REFUSED_FOR,
    };
    Founding::WithMajority { refused_for }
}

/// Our vote when we found a cluster in which `term` was shown: that of `term` is spent, on
/// ourselves. A vote of that term or a later one stays.
pub fn spent_vote(vote: &VoteView, term: Term, me: &Address) -> VoteView {
    if term <= vote.term.term {
        return vote.clone();
    }
    VoteView {
        term: EpochTerm {
            epoch: vote.term.epoch,
            term,
        },
        node: me.clone(),
        committed: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Reading;
    use crate::election::testing::address;
    use crate::ids::LogIndex;

    #[test]
    fn members_are_taken_while_nothing_stands_on_those_we_have() {
        use Standing::{Orphaned, Recovering, Voter};
        let unlisted = Reading::Unlisted {
            end: LogIndex::FIRST,
        };
        for (standing, empty, reading, takes, has_yet_to_begin) in [
            (Recovering, true, None, true, true),
            (Recovering, true, Some(Reading::Listed), true, false),
            (Recovering, true, Some(unlisted), true, false),
            (Recovering, false, None, false, false),
            (Voter, true, None, false, false),
            (Voter, false, None, false, false),
            (Orphaned, true, None, false, false),
        ] {
            for saw_data in [false, true] {
                let arrival = Arrival { saw_data, reading };
                let state = OwnState {
                    standing,
                    arrival,
                    empty,
                };
                assert_eq!(state.takes_members(), takes, "{state:?}");
                assert_eq!(state.has_yet_to_begin(), has_yet_to_begin, "{state:?}");
            }
        }
    }

    #[test]
    fn who_lost_its_state_or_joins_founds_with_all() {
        use Bootstrap::{Join, New, Unset};
        let refused_for = |seconds| Founding::WithMajority {
            refused_for: Duration::from_secs(seconds),
        };
        for (bootstrap, lost, wanted) in [
            (Unset, false, refused_for(30)),
            (New, false, refused_for(0)),
            (Join, false, Founding::WithAll),
            (Unset, true, Founding::WithAll),
            (New, true, Founding::WithAll),
            (Join, true, Founding::WithAll),
        ] {
            assert_eq!(founding(bootstrap, lost), wanted, "{bootstrap:?} {lost}");
        }
    }

    #[test]
    fn a_vote_is_spent_once() {
        let vote = |node, term, committed| VoteView {
            term: EpochTerm {
                epoch: 2,
                term: Term::new(term).unwrap(),
            },
            node: address(node),
            committed,
        };
        for (before, shown, after) in [
            (vote("W", 0, false), 7, vote("W", 7, false)),
            (vote("A", 6, true), 7, vote("W", 7, false)),
            (vote("A", 7, true), 7, vote("A", 7, true)),
            (vote("A", 7, false), 7, vote("A", 7, false)),
            (vote("A", 8, false), 7, vote("A", 8, false)),
        ] {
            let shown = Term::new(shown).unwrap();
            assert_eq!(spent_vote(&before, shown, &address("W")), after);
        }
    }
}
