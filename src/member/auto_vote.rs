//! `vote: auto`, carried out as `election::auto_vote` decides: looks at the group now and
//! then, and asks its leader to remove us or to add us.
//!
//! Outside the group the witness reads: it dials every member and says to be read-only,
//! as patronictl does (spec 3.9), and the leader streams to it. So its log and store stay
//! those of the group, its status shows who is primary, and once it is added again it
//! lacks next to nothing. Polling `status` would show the Raft group and nothing of
//! PostgreSQL, of which the store alone tells. What it answers there never counts.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::joining::Closer;
use super::{Member, RebuildReason};
use crate::address::Address;
use crate::config::VotePolicy;
use crate::election::auto_vote::{Group, Obstacle, Settled, WithdrawalStep};
use crate::election::joining;
use crate::limits;
use crate::links::utility_client::{ask, ask_status};
use crate::raft::types::Members;
use crate::reactor::{Instant, Timer};
use crate::status::words;
use crate::wire::utility::{MemberTarget, MembersReply, StatusReply, UtilityRequest};

/// From one look at the group to the next while something is awaited.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// The same while nothing is.
const REST_PAUSE: Duration = Duration::from_secs(10);

impl Member {
    fn has_auto_vote(&self) -> bool {
        self.config.placement.vote == VotePolicy::Auto
    }

    /// Whether we only read: the group does not count us.
    pub(super) fn reads_only(&self) -> bool {
        self.sockets.reading.get()
    }

    /// The number of data members, if we have left the group because it wants no vote of
    /// ours.
    pub(super) fn withdrawn_beside(&self) -> Option<usize> {
        if !self.has_auto_vote() {
            return None;
        }
        let log = {
            let replica = self.replica.borrow();
            let members = replica.log.members();
            let listed = members.contains(&self.me);
            (listed, members.len().saturating_sub(usize::from(listed)))
        };
        self.elector.auto_vote.borrow().withdrawn(log)
    }

    /// Looks at the group for ever, and does what follows.
    pub(super) async fn follow_rule(self: Rc<Self>) {
        loop {
            if !self.is_of_other_group() {
                self.look_at_group().await;
            }
            let rests = self.elector.auto_vote.borrow().is_at_rest();
            Timer::after(if rests { REST_PAUSE } else { LOOK_PAUSE }).await;
        }
    }

    async fn look_at_group(self: &Rc<Self>) {
        let found = match self.leadership.borrow().is_some() {
            true => Some((self.me.clone(), self.members())),
            false => None,
        };
        let found = match found {
            None => self.find_leader(limits::STATUS_TIME_MAX).await,
            found => found,
        };
        let before = self.elector.auto_vote.borrow().obstacle().cloned();
        match found {
            Some((leader, reply)) => self.look_closer(&leader, &reply).await,
            None => {
                let listed = self.reads_only() && self.is_listed_by_somebody().await;
                self.elector.auto_vote.borrow_mut().on_no_leader(listed);
            }
        }
        self.report_obstacle(before.as_ref());
        self.sync_reading();
    }

    async fn look_closer(self: &Rc<Self>, leader: &Address, reply: &MembersReply) {
        self.read_members(leader, reply).await;
        let members: Members = reply.0.iter().map(|m| m.address.clone()).collect();
        if members.contains(&self.me) {
            let group = self.group(leader, members, &[]);
            let ask_all = {
                let mut auto = self.elector.auto_vote.borrow_mut();
                auto.on_listed(&group, &self.me)
            };
            if ask_all {
                let settled = self.look_if_settled(reply, &group).await;
                let step = {
                    let after = self.config.placement.vote_withdraws_after;
                    let mut auto = self.elector.auto_vote.borrow_mut();
                    auto.on_settled(settled, &self.me, after, Instant::now())
                };
                self.take_step(step, leader, None).await;
            }
            return;
        }
        let Some(closer) = self.look(leader, reply).await else {
            return;
        };
        let group = self.group(leader, members, &closer.statuses);
        let step = {
            let mut auto = self.elector.auto_vote.borrow_mut();
            auto.on_unlisted(&group, &self.me, closer.look.commits)
        };
        self.take_step(step, leader, Some(closer)).await;
    }

    async fn take_step(
        self: &Rc<Self>,
        step: WithdrawalStep,
        leader: &Address,
        closer: Option<Closer>,
    ) {
        match step {
            WithdrawalStep::Wait => {}
            WithdrawalStep::AskAdd => {
                if let Some(closer) = closer {
                    self.ask_to_be_added(leader, &closer.look).await;
                }
            }
            WithdrawalStep::StepDown => {
                log::info!(
                    "{}: no vote of this witness is wanted, and no data node takes leadership over; it stops leading",
                    self.name
                );
                self.report(RebuildReason::VoteWithheld);
            }
            WithdrawalStep::AskRemoval => {
                let data = self.elector.auto_vote.borrow().unwanted();
                log::info!(
                    "{}: no vote of this witness is wanted beside {} data nodes; asking {leader} to remove it",
                    self.name,
                    data.unwrap_or_default()
                );
                let keys = self.keys.borrow().clone();
                let request = UtilityRequest::Remove(MemberTarget::Address(self.me.clone()));
                ask(leader, &keys, request, limits::MEMBERSHIP_TIME_MAX).await;
            }
        }
    }

    /// The group as the leader lists it; `statuses`: what members told just now.
    fn group(&self, leader: &Address, members: Members, statuses: &[StatusReply]) -> Group {
        let peers = self.elector.peers.borrow();
        let told = |member: &Address| {
            let now = statuses.iter().find(|s| s.this.as_ref() == Some(member));
            now.map_or_else(|| peers.is_witness(member), StatusReply::is_of_witness)
        };
        let witnesses = members.iter().filter(|member| told(member));
        Group {
            leader: leader.clone(),
            witnesses: witnesses.cloned().collect(),
            members,
        }
    }

    /// All that must stay the same until we are removed, or what speaks against that.
    async fn look_if_settled(
        &self,
        reply: &MembersReply,
        group: &Group,
    ) -> Result<Settled, Obstacle> {
        let leader = &group.leader;
        {
            let log = &self.replica.borrow().log;
            let committed = log.members_at(log.commit());
            if *log.members() != group.members || *committed != group.members {
                return Err(Obstacle::Changing);
            }
        }
        let others = group.members.iter().filter(|member| **member != self.me);
        let links = others.map(|member| match self.connection(member) {
            Some(connection) => Ok((member.clone(), connection.id.0)),
            None => Err(Obstacle::NotConnected(member.clone())),
        });
        let links: BTreeMap<Address, u64> = links.collect::<Result<_, _>>()?;
        let closer = match *leader == self.me {
            true => self.look_as_leader(reply).await,
            false => self.look(leader, reply).await,
        };
        let closer = closer.ok_or(Obstacle::NoLeader)?;
        if let Some(obstacle) = joining::obstacle(&closer.look, &self.me, true) {
            return Err(Obstacle::Group(obstacle));
        }
        let astray = closer
            .statuses
            .iter()
            .find(|s| s.leader.as_ref() != Some(leader));
        if let Some(member) = astray.and_then(|status| status.this.clone()) {
            return Err(Obstacle::NotFollowing(member));
        }
        Ok(Settled {
            led: (leader.clone(), closer.term),
            links,
            members: group.members.clone(),
        })
    }

    /// Whether a member lists us: while nobody leads it may need our vote.
    async fn is_listed_by_somebody(&self) -> bool {
        let keys = self.keys.borrow().clone();
        for member in self.others() {
            let status = ask_status(&member, &keys, limits::STATUS_TIME_MAX).await;
            let lists = |s: &StatusReply| s.partners.iter().any(|p| p.address == self.me);
            if status.as_ref().is_ok_and(lists) {
                return true;
            }
        }
        false
    }

    /// We ask to be added.
    pub(super) fn enters(self: &Rc<Self>) {
        self.elector.auto_vote.borrow_mut().enters();
        self.sync_reading();
    }

    /// Our log's members have changed.
    pub(super) fn on_members_changed(self: &Rc<Self>, before: &Members, now: &Members) {
        if now.contains(&self.me) && !before.contains(&self.me) {
            self.enters();
        }
    }

    /// Makes all connections anew where we begin or cease to be a reader.
    fn sync_reading(self: &Rc<Self>) {
        let reads = self.elector.auto_vote.borrow().is_outside();
        if self.sockets.reading.replace(reads) == reads {
            return;
        }
        if let Some(times) = self.counts.tallies.count_of_member("reading") {
            let name = &self.name;
            match reads {
                true => log::info!(
                    "{name}: the Raft group does not count this witness; it goes on reading{times}"
                ),
                false => log::info!("{name}: connecting as a member of the Raft group{times}"),
            }
        }
        let links = self.sockets.links.borrow();
        let connections: Vec<_> = links
            .values()
            .filter_map(|l| l.connection.clone())
            .collect();
        drop(links);
        for connection in connections {
            connection.close();
        }
        self.sync_links();
        self.notify();
    }

    /// Says why the vote is not withdrawn, where that is news.
    fn report_obstacle(&self, before: Option<&Obstacle>) {
        let auto = self.elector.auto_vote.borrow();
        let Some(obstacle) = auto.obstacle().filter(|now| Some(*now) != before) else {
            return;
        };
        if let Some(times) = self.counts.tallies.count_of_member("not withdrawn") {
            log::warn!(
                "{}: no vote of this witness is wanted, and it is not withdrawn yet: {obstacle}. {}{times}",
                self.name,
                obstacle.remedy(&self.config.commands)
            );
        }
    }

    /// What is to be known of a vote that is not wanted: beside how many data nodes, and
    /// when it is withdrawn or what speaks against that.
    pub(super) fn unwanted_vote(&self) -> Option<String> {
        let auto = self.elector.auto_vote.borrow();
        let data = auto.unwanted().filter(|_| self.has_auto_vote())?;
        let after = self.config.placement.vote_withdraws_after;
        let then = match (auto.obstacle(), auto.remaining(after, Instant::now())) {
            (Some(obstacle), _) => format!("not withdrawn yet: {obstacle}"),
            (None, Some(left)) => {
                let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                format!("withdrawn in {}", words::seconds(ms))
            }
            (None, None) => "to be withdrawn".into(),
        };
        Some(format!("{data} data nodes; {then}"))
    }
}
