//! How a witness becomes a member (S17): it asks to be added, and never makes a
//! group worse by that.
//!
//! A member that nobody answers for counts in every majority. So a witness asks
//! only while every member answers and the leader commits, and if somebody does
//! not answer it says which member the group expects and what can be done.

use std::fmt;

use crate::address::Address;
use crate::config::Commands;
use crate::reason::Remedy;

/// What a look at the group has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Who leads, and says so itself.
    pub leader: Address,
    /// The members as the leader lists them.
    pub members: Vec<Address>,
    /// A member that did not answer, and who did in its place.
    pub silent: Option<(Address, Option<Address>)>,
    /// What the leader's log held at first is committed.
    pub commits: bool,
}

/// Why we do not ask to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinObstacle {
    /// A member does not answer.
    Silent {
        /// Who.
        member: Address,
        /// Who answers in its place.
        other: Option<Address>,
        /// Whether that is this witness.
        ourselves: bool,
        /// Who leads.
        leader: Address,
    },
    /// The leader does not commit.
    NotCommitting {
        /// Who leads.
        leader: Address,
    },
    /// The group could not commit our `add` without our acknowledgement, which we
    /// cannot give.
    NeedsUs {
        /// Who leads.
        leader: Address,
    },
}

/// Why not to ask to be added; none if all is well. `acknowledges`: we would
/// acknowledge our own `add` (S7 c).
pub fn obstacle(look: &Look, me: &Address, acknowledges: bool) -> Option<JoinObstacle> {
    let leader = look.leader.clone();
    if let Some((member, other)) = &look.silent {
        return Some(JoinObstacle::Silent {
            member: member.clone(),
            ourselves: other.as_ref() == Some(me),
            other: other.clone(),
            leader,
        });
    }
    if !look.commits {
        return Some(JoinObstacle::NotCommitting { leader });
    }
    // A majority of all with us; only one member cannot reach it by itself.
    let with_us = look.members.len().saturating_add(1);
    let needs_us = look.members.len() < with_us / 2 + 1;
    (needs_us && !acknowledges).then_some(JoinObstacle::NeedsUs { leader })
}

impl fmt::Display for JoinObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent {
                member,
                ourselves: true,
                ..
            } => write!(f, "the group expects {member}, which leads to this witness"),
            Self::Silent {
                member,
                other: Some(other),
                ..
            } => write!(
                f,
                "the group expects {member}, which is answered by {other}"
            ),
            Self::Silent { member, .. } => {
                write!(f, "the group expects {member}, and nobody answers there")
            }
            Self::NotCommitting { leader } => write!(f, "{leader} leads and does not commit"),
            Self::NeedsUs { leader } => write!(
                f,
                "{leader} could not commit without this witness, which may not acknowledge yet"
            ),
        }
    }
}

impl JoinObstacle {
    /// What ends it.
    pub fn remedy(&self, commands: &Commands) -> Remedy {
        let (advice, step) = match self {
            Self::Silent {
                member,
                ourselves: true,
                ..
            } => (
                format!("Set self_addr to {member} and restart this witness"),
                None,
            ),
            Self::Silent { member, leader, .. } => (
                format!(
                    "If this witness is meant to be {member}, set self_addr to it and restart; if \
                     {member} is down, start it; if it is gone for good, "
                ),
                Some(commands.remove_from(leader.as_str(), member.as_str())),
            ),
            Self::NotCommitting { .. } => ("Bring up the other data nodes".into(), None),
            Self::NeedsUs { .. } => ("To begin anew, ".into(), Some(commands.reset())),
        };
        Remedy::new(&advice, step)
    }
}

/// What to do after a leader has said whom it lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing any more: we are in, or were removed while we ran (H16).
    End,
    /// Look again: we are in, and that is not committed.
    Wait,
    /// Ask to be added, if nothing speaks against it.
    Ask,
}

/// How far we are with getting into the group.
#[derive(Debug, Default)]
pub struct Joining {
    /// The leader did not list us when it was asked last, and we have not asked it
    /// to add us since.
    unlisted: bool,
    /// Whether a leader was followed since the start while our word counted: if its
    /// group does not list us after that, we were removed.
    followed: bool,
    /// Why we do not ask to be added.
    obstacle: Option<JoinObstacle>,
}

impl Joining {
    /// A leader was followed while our word counted.
    pub fn followed(&mut self) {
        self.followed = true;
    }

    /// A leader lists us or not; `committed`: our log lists us as far as it is committed.
    pub fn on_members(&mut self, listed: bool, committed: bool) -> Next {
        self.unlisted = !listed && (self.unlisted || !self.followed);
        match (listed, committed) {
            (true, true) => Next::End,
            (true, false) => Next::Wait,
            (false, _) if self.followed => Next::End,
            (false, _) => Next::Ask,
        }
    }

    /// The first answer of a leader, which may found our own list of members.
    pub fn on_first_members(&mut self, listed: bool) {
        self.unlisted = !listed;
    }

    /// We ask to be added: the leader may wait for our acknowledgement, and we may be
    /// the one to dial.
    pub fn asks(&mut self) {
        self.unlisted = false;
    }

    /// Whether the group does not list us, and we have not asked to be added.
    pub fn is_unlisted(&self) -> bool {
        self.unlisted
    }

    /// Keeps why we do not ask. Whether that is news.
    pub fn note_obstacle(&mut self, obstacle: Option<JoinObstacle>) -> bool {
        let news = self.obstacle != obstacle;
        self.obstacle = obstacle;
        news
    }

    /// Why we do not ask to be added.
    pub fn obstacle(&self) -> Option<&JoinObstacle> {
        self.obstacle.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::testing::address;

    fn look(members: &str, silent: Option<(&str, Option<&str>)>, commits: bool) -> Look {
        Look {
            leader: address("A"),
            members: members.split(' ').map(address).collect(),
            silent: silent.map(|(member, other)| (address(member), other.map(address))),
            commits,
        }
    }

    #[test]
    fn asks_only_where_nothing_can_get_worse() {
        for (look, acknowledges, wanted) in [
            (look("A B", None, true), false, ""),
            (look("A", None, true), true, ""),
            (look("A B C", None, true), false, ""),
            (
                look("A", None, true),
                false,
                "A could not commit without this witness, which may not acknowledge yet",
            ),
            (
                look("A B", None, false),
                true,
                "A leads and does not commit",
            ),
            (
                look("A B V", Some(("V", None)), true),
                true,
                "the group expects V, and nobody answers there",
            ),
            (
                look("A B V", Some(("V", Some("B"))), true),
                true,
                "the group expects V, which is answered by B",
            ),
            (
                look("A B V", Some(("V", Some("W"))), true),
                true,
                "the group expects V, which leads to this witness",
            ),
        ] {
            let found = obstacle(&look, &address("W"), acknowledges);
            let said = found.map(|o| o.to_string().replace(":2222", ""));
            assert_eq!(said.unwrap_or_default(), wanted, "{look:?}");
        }
    }

    #[test]
    fn names_both_remedies() {
        let look = look("A B V", Some(("V", None)), true);
        let found = obstacle(&look, &address("W"), true).unwrap();
        assert_eq!(
            found
                .remedy(&Commands::of_a_test("orders", "W:2222"))
                .to_string(),
            "If this witness is meant to be V:2222, set self_addr to it and restart; if V:2222 is \
             down, start it; if it is gone for good, run: pg-witness raft remove A:2222 V:2222"
        );
    }

    #[test]
    fn who_was_removed_does_not_ask_again() {
        use Next::{Ask, End, Wait};
        for (followed, listed, committed, next, unlisted) in [
            (false, false, false, Ask, true),
            (false, true, false, Wait, false),
            (false, true, true, End, false),
            (true, true, false, Wait, false),
            (true, true, true, End, false),
            (true, false, true, End, false),
            (true, false, false, End, false),
        ] {
            let mut joining = Joining::default();
            if followed {
                joining.followed();
            }
            assert_eq!(joining.on_members(listed, committed), next);
            assert_eq!(joining.is_unlisted(), unlisted);
            joining.asks();
            assert!(!joining.is_unlisted());
        }
    }

    #[test]
    fn an_obstacle_is_news_once() {
        let needs_us = || {
            Some(JoinObstacle::NeedsUs {
                leader: address("A"),
            })
        };
        let mut joining = Joining::default();
        assert!(!joining.note_obstacle(None));
        assert!(joining.note_obstacle(needs_us()) && !joining.note_obstacle(needs_us()));
        assert_eq!(joining.obstacle(), needs_us().as_ref());
        assert!(joining.note_obstacle(None));
    }
}
