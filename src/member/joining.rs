//! How a witness becomes a member (S17): it asks to be added, and never makes a
//! group worse by that.
//!
//! A member that nobody answers for counts in every majority. So a witness asks
//! only while every member answers and the leader commits, and if somebody does
//! not answer it says which member the group expects and what can be done. The
//! decision is `obstacle`; all else here asks and reports.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::Member;
use super::recovery::Foundation;
use crate::address::Address;
use crate::config::{Commands, VotePolicy};
use crate::ids::LogIndex;
use crate::limits;
use crate::links::utility_client::{NoReply, ask, ask_log_end, ask_members, ask_status};
use crate::reactor::Timer;
use crate::reason::Remedy;
use crate::wire::utility::{MembersReply, Request, State, Target};

use super::Trouble;

/// From one look at the group to the next.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// How often a leader is asked whether it has committed what it held.
const COMMIT_LOOKS: u32 = 10;

/// From one of these questions to the next.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// What a look at the group has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    /// Who leads, and says so itself.
    leader: Address,
    /// The members as the leader lists them.
    members: Vec<Address>,
    /// A member that did not answer, and who did in its place.
    silent: Option<(Address, Option<Address>)>,
    /// What the leader's log held at first is committed.
    commits: bool,
}

/// Why we do not ask to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Obstacle {
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
fn obstacle(look: &Look, me: &Address, acknowledges: bool) -> Option<Obstacle> {
    let leader = look.leader.clone();
    if let Some((member, other)) = &look.silent {
        return Some(Obstacle::Silent {
            member: member.clone(),
            ourselves: other.as_ref() == Some(me),
            other: other.clone(),
            leader,
        });
    }
    if !look.commits {
        return Some(Obstacle::NotCommitting { leader });
    }
    // A majority of all with us; only one member cannot reach it by itself.
    let with_us = look.members.len().saturating_add(1);
    let needs_us = look.members.len() < with_us / 2 + 1;
    (needs_us && !acknowledges).then_some(Obstacle::NeedsUs { leader })
}

impl fmt::Display for Obstacle {
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

impl Obstacle {
    /// What ends it.
    pub(super) fn remedy(&self, commands: &Commands) -> Remedy {
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

impl Member {
    /// Gets into the group: looks at it and asks to be added until we are in
    /// (H20). A witness that was removed while it ran does not ask, nor one that
    /// never votes: the majority would be reckoned with it.
    pub(super) async fn join(self: Rc<Self>) {
        let never = self.config.placement.vote == VotePolicy::Never;
        while !never && !self.config.partner_addrs.is_empty() && self.leadership.borrow().is_none()
        {
            let found = match self.is_of_other_group() {
                true => None,
                false => self.find_leader(limits::STATUS_TIME_MAX).await,
            };
            if let Some((leader, reply)) = found {
                self.read_members(&leader, &reply).await;
                if self.is_in(&reply) {
                    self.unlisted.set(false);
                    if self.is_member_as_committed() {
                        self.note_obstacle(None);
                        return;
                    }
                } else if self.followed.get() {
                    // H16: removed meanwhile, of which a group tells nobody.
                    self.note_obstacle(None);
                    return;
                } else {
                    self.unlisted.set(true);
                    self.ask_to_be_added(&leader, &reply).await;
                }
            }
            Timer::after(LOOK_PAUSE).await;
        }
    }

    fn is_in(&self, reply: &MembersReply) -> bool {
        reply.0.iter().any(|member| member.address == self.me)
    }

    /// The member that says itself that it leads, and whom it lists. Asks our log's
    /// members and whom they name as leader; the configured partners only as long
    /// as our log is empty, for they may be of another group.
    pub(super) async fn find_leader(&self, limit: Duration) -> Option<(Address, MembersReply)> {
        let keys = self.keys.borrow().clone();
        let known = self.replica.borrow().log.members().clone();
        let mut queue: VecDeque<Address> = known.into_iter().collect();
        if self.holds_nothing() {
            queue.extend(self.config.partner_addrs.iter().cloned());
        }
        let mut asked = BTreeSet::from([self.me.clone()]);
        while let Some(node) = queue.pop_front() {
            if asked.len() > limits::PARTNERS_MAX || !asked.insert(node.clone()) {
                continue;
            }
            let reply = ask_members(&node, &keys, limit).await;
            self.note_responder(&node, reply.as_ref().err());
            let Ok(reply) = reply else { continue };
            if reply.this().is_some_and(|this| this.leader) {
                return Some((node, reply));
            }
            let named = reply.0.iter().find(|member| member.leader);
            if let Some(named) = named {
                queue.push_front(named.address.clone());
            }
        }
        None
    }

    /// Takes the first answer of a leader for the members with which we begin
    /// (S7 c), if our log is still empty.
    pub(super) async fn read_members(&self, leader: &Address, reply: &MembersReply) {
        let unread = self.replica.borrow().arrival.reading.is_none();
        if !(self.is_recovering() && self.holds_nothing() && unread) {
            return;
        }
        let listed = self.is_in(reply);
        let end = if listed {
            LogIndex::FIRST
        } else {
            let keys = self.keys.borrow().clone();
            // Asked after the answer: it can only lie beyond the end as it was.
            match ask_log_end(leader, &keys, limits::STATUS_TIME_MAX).await {
                Ok((_, end)) => end,
                Err(_) => return,
            }
        };
        if !self.note_members(true, listed, end) {
            return;
        }
        self.unlisted.set(!listed);
        let members = reply.0.iter().map(|member| member.address.clone());
        *self.foundation.borrow_mut() = Some(Foundation::Members(members.collect()));
        if self.engine.borrow().is_some() {
            self.report(Trouble::NewFoundation);
        } else {
            self.lay_foundation().await;
        }
    }

    async fn ask_to_be_added(self: &Rc<Self>, leader: &Address, reply: &MembersReply) {
        let Some(look) = self.look(leader, reply).await else {
            return;
        };
        let acknowledges = !self.is_recovering() || self.is_unlisted();
        let obstacle = obstacle(&look, &self.me, acknowledges);
        let clear = obstacle.is_none();
        self.note_obstacle(obstacle);
        if !clear || self.foundation.borrow().is_some() {
            return;
        }
        log::info!("{}: asking {leader} to add us", self.name);
        // The leader may wait for our acknowledgement, and we are the one to dial.
        self.unlisted.set(false);
        let keys = self.keys.borrow().clone();
        let request = Request::Add(Target::Address(self.me.clone()));
        ask(leader, &keys, request, limits::MEMBERSHIP_TIME_MAX).await;
    }

    /// Asks every member how it is, and the leader whether it commits.
    async fn look(&self, leader: &Address, reply: &MembersReply) -> Option<Look> {
        let keys = self.keys.borrow().clone();
        let members: Vec<Address> = reply.0.iter().map(|m| m.address.clone()).collect();
        let (term, end) = ask_log_end(leader, &keys, limits::STATUS_TIME_MAX)
            .await
            .ok()?;
        let mut look = Look {
            leader: leader.clone(),
            members: members.clone(),
            silent: None,
            commits: false,
        };
        for member in members.iter().filter(|member| *member != leader) {
            let status = ask_status(member, &keys, limits::STATUS_TIME_MAX).await;
            self.note_responder(member, status.as_ref().err());
            if let Err(error) = status {
                let other = match error {
                    NoReply::AnotherNode(other) => other,
                    _ => None,
                };
                look.silent = Some((member.clone(), other));
                return Some(look);
            }
        }
        for _ in 0..COMMIT_LOOKS {
            let status = ask_status(leader, &keys, limits::STATUS_TIME_MAX)
                .await
                .ok()?;
            if status.state != State::Leader || status.raft_term != term {
                return None;
            }
            look.commits = status.commit_idx >= end.get();
            if look.commits {
                break;
            }
            Timer::after(COMMIT_PAUSE).await;
        }
        Some(look)
    }

    /// Keeps why we do not ask, and says what is new.
    fn note_obstacle(&self, obstacle: Option<Obstacle>) {
        if *self.obstacle.borrow() == obstacle {
            return;
        }
        if let Some(obstacle) = &obstacle {
            log::error!(
                "{}: not asking to be added: {obstacle}. {}",
                self.name,
                obstacle.remedy(&self.config.commands)
            );
        }
        *self.obstacle.borrow_mut() = obstacle;
    }

    /// Whether we may dial members: those who never listed us would only hang up.
    /// One that was removed while it runs may be added again.
    pub(super) fn may_dial(&self) -> bool {
        self.is_member(&self.me) || !self.unlisted.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> Address {
        format!("{name}:2222").parse().unwrap()
    }

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
}
