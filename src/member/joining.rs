//! Gets into the group, as `election::joining` decides (S17): looks at it, and asks to
//! be added.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::Member;
use super::recovery::Foundation;
use crate::address::Address;
use crate::bugs::{Bug, planted};
use crate::config::VotePolicy;
use crate::election::joining::{JoinObstacle, Look, Next, obstacle};
use crate::ids::{LogIndex, Term};
use crate::limits;
use crate::links::utility_client::{NoReply, ask, ask_log_end, ask_members, ask_status};
use crate::reactor::Timer;
use crate::wire::utility::{MemberTarget, MembersReply, NodeState, StatusReply, UtilityRequest};

use super::RebuildReason;

/// From one look at the group to the next.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// How often a leader is asked whether it has committed what it held.
const COMMIT_LOOKS: u32 = 10;

/// From one of these questions to the next.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

/// A look at the group for which every member was asked.
pub(super) struct Closer {
    pub(super) look: Look,
    /// The leader's term.
    pub(super) term: Term,
    /// What the other members told, until one did not answer.
    pub(super) statuses: Vec<StatusReply>,
}

impl Closer {
    fn new(look: Look, term: Term) -> Self {
        let statuses = Vec::new();
        Self {
            look,
            term,
            statuses,
        }
    }
}

impl Member {
    /// Gets into the group: looks at it and asks to be added until we are in
    /// (H20). A witness that was removed while it ran does not ask, nor one that
    /// never votes: the majority would be reckoned with it.
    /// With `vote: auto` it does so whenever its vote is wanted.
    pub(super) async fn join(self: Rc<Self>) {
        if self.config.partner_addrs.is_empty() {
            return;
        }
        match self.config.placement.vote {
            VotePolicy::Always => self.join_once().await,
            VotePolicy::Auto => self.follow_rule().await,
            VotePolicy::Never => {}
        }
    }

    async fn join_once(self: Rc<Self>) {
        while self.leadership.borrow().is_none() {
            let found = match self.is_of_other_group() {
                true => None,
                false => self.find_leader(limits::STATUS_TIME_MAX).await,
            };
            if let Some((leader, reply)) = found {
                self.read_members(&leader, &reply).await;
                let (listed, committed) = (self.is_in(&reply), self.is_member_as_committed());
                let next = self
                    .elector
                    .joining
                    .borrow_mut()
                    .on_members(listed, committed);
                match next {
                    Next::End => {
                        self.note_obstacle(None);
                        return;
                    }
                    Next::Wait => {}
                    Next::Ask => {
                        if let Some(closer) = self.look(&leader, &reply).await {
                            self.ask_to_be_added(&leader, &closer.look).await;
                        }
                    }
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
        if self.own_state().empty {
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
        if !self.own_state().has_yet_to_begin() {
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
        self.elector.joining.borrow_mut().on_first_members(listed);
        let members = reply.0.iter().map(|member| member.address.clone());
        *self.machinery.foundation.borrow_mut() = Some(Foundation::Members(members.collect()));
        if self.machinery.engine.borrow().is_some() {
            self.report(RebuildReason::NewFoundation);
        } else {
            self.lay_foundation().await;
        }
    }

    /// Asks to be added, if what the look has shown does not speak against it.
    pub(super) async fn ask_to_be_added(self: &Rc<Self>, leader: &Address, look: &Look) {
        let acknowledges = !self.is_recovering() || self.elector.eligibility.borrow().is_unlisted();
        let obstacle = obstacle(look, &self.me, acknowledges);
        let clear = obstacle.is_none();
        self.note_obstacle(obstacle);
        if !clear || self.machinery.foundation.borrow().is_some() {
            return;
        }
        log::info!("{}: asking {leader} to add us", self.name);
        self.elector.joining.borrow_mut().asks();
        self.enters();
        let keys = self.keys.borrow().clone();
        let request = UtilityRequest::Add(MemberTarget::Address(self.me.clone()));
        ask(leader, &keys, request, limits::MEMBERSHIP_TIME_MAX).await;
    }

    /// Asks the leader whether it commits, and every member how it is.
    pub(super) async fn look(&self, leader: &Address, reply: &MembersReply) -> Option<Closer> {
        let keys = self.keys.borrow().clone();
        let (term, end) = ask_log_end(leader, &keys, limits::STATUS_TIME_MAX)
            .await
            .ok()?;
        let mut commits = false;
        for _ in 0..COMMIT_LOOKS {
            let status = ask_status(leader, &keys, limits::STATUS_TIME_MAX)
                .await
                .ok()?;
            if status.state != NodeState::Leader || status.raft_term != term {
                return None;
            }
            commits = status.commit_idx >= end.get();
            if commits {
                break;
            }
            Timer::after(COMMIT_PAUSE).await;
        }
        let members = reply.0.iter().map(|member| member.address.clone());
        let look = Look {
            leader: leader.clone(),
            members: members.collect(),
            silent: None,
            commits,
        };
        Some(self.ask_others(Closer::new(look, term)).await)
    }

    /// The same while we lead ourselves.
    pub(super) async fn look_as_leader(&self, reply: &MembersReply) -> Option<Closer> {
        let term = self.leadership.borrow().as_ref()?.term;
        let end = self.replica.borrow().log.last().index;
        let members = reply.0.iter().map(|member| member.address.clone());
        let look = Look {
            leader: self.me.clone(),
            members: members.collect(),
            silent: None,
            commits: false,
        };
        let mut closer = self.ask_others(Closer::new(look, term)).await;
        closer.look.commits = self.replica.borrow().log.commit() >= end;
        Some(closer)
    }

    /// Asks all members but the leader how they are, until one does not answer.
    async fn ask_others(&self, mut closer: Closer) -> Closer {
        let keys = self.keys.borrow().clone();
        let (members, leader) = (closer.look.members.clone(), closer.look.leader.clone());
        let others = members.iter();
        for member in others.filter(|member| **member != leader && **member != self.me) {
            let status = ask_status(member, &keys, limits::STATUS_TIME_MAX).await;
            self.note_responder(member, status.as_ref().err());
            match status {
                Ok(status) => closer.statuses.push(status),
                Err(error) => {
                    let other = match error {
                        NoReply::AnotherNode(other) => other,
                        _ => None,
                    };
                    if planted(Bug::JoinsWithoutAll) {
                        continue;
                    }
                    closer.look.silent = Some((member.clone(), other));
                    break;
                }
            }
        }
        closer
    }

    /// Keeps why we do not ask, and says what is new.
    fn note_obstacle(&self, obstacle: Option<JoinObstacle>) {
        let mut joining = self.elector.joining.borrow_mut();
        if joining.note_obstacle(obstacle)
            && let Some(obstacle) = joining.obstacle()
        {
            log::error!(
                "{}: not asking to be added: {obstacle}. {}",
                self.name,
                obstacle.remedy(&self.config.commands)
            );
        }
    }

    /// Whether we may dial members: those who never listed us would only hang up.
    /// One that was removed while it runs may be added again, and a reader is let in.
    pub(super) fn may_dial(&self) -> bool {
        let unlisted = self.elector.joining.borrow().is_unlisted();
        self.is_member(&self.me) || self.reads_only() || !unlisted
    }
}
