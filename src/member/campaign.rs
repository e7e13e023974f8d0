//! Campaigns: when the election deadline has passed, what speaks against standing
//! (`election::candidacy`), and what the others say of a leader (`election::pre_vote`).

use std::rc::Rc;
use std::time::Duration;

use super::{Member, RebuildReason};
use crate::address::Address;
use crate::election::candidacy::{self, Candidate, Objection, Other};
use crate::election::peers::PeerRecord;
use crate::election::pre_vote;
use crate::limits;
use crate::links::follower;
use crate::links::utility_client::ask_status;
use crate::raft::engine::{Engine, Stopped};
use crate::reactor::{self, Instant, Timer};
use crate::wire::utility::StatusReply;

impl Member {
    pub(super) async fn campaign_when_due(self: Rc<Self>) {
        loop {
            let changed = self.changed.listen();
            // The time for an election begins when the word is out: a disk that
            // takes longer would have us stand again before anybody was asked.
            let pending = self.replica.borrow().vote_pending.clone();
            if let Some(vote) = pending {
                changed.await;
                if vote.node == self.me {
                    self.restart_timer();
                }
                continue;
            }
            let now = Instant::now();
            if self.elector.timer.borrow().is_due(now) {
                self.campaign().await;
                continue;
            }
            let again = self.elector.timer.borrow().look_again(now);
            let timer = async {
                Timer::at(again).await;
            };
            if self.leadership.borrow().is_some() {
                changed.await;
            } else {
                smol::future::or(changed, timer).await;
            }
        }
    }

    /// Campaigns, unless something speaks against it.
    async fn campaign(self: &Rc<Self>) {
        let urged = self.elector.timer.borrow_mut().take_urge();
        self.restart_timer();
        if !self.may_campaign() {
            return;
        }
        if !urged {
            let deadline = self.deadline();
            let led = self.is_led_elsewhere().await;
            // Meanwhile a leader may have been heard of, or a vote given.
            if led || self.deadline() != deadline || !self.may_campaign() {
                return;
            }
        }
        let Some(engine) = self.engine() else { return };
        // Without enough voters this repeats every second, possibly for hours (S16).
        if let Some(times) = self.counts.tallies.count_of_member("campaign") {
            let name = &self.name;
            match urged {
                true => log::info!("{name}: starting an election without waiting{times}"),
                false => log::info!("{name}: no leader heard; starting an election{times}"),
            }
        }
        self.elector.leaders.borrow_mut().lost();
        let campaign = async {
            self.catch_up_with_terms(&engine).await?;
            engine.campaign().await
        };
        if let Err(error) = campaign.await {
            self.report(RebuildReason::Stopped(error.to_string()));
        }
    }

    /// Whether a campaign could be won, and should.
    pub(super) fn may_campaign(&self) -> bool {
        self.objection().is_none()
    }

    /// What speaks against standing for election.
    fn objection(&self) -> Option<Objection> {
        let others = self.others();
        let peers = self.elector.peers.borrow();
        let known = others.iter().map(|peer| {
            let record = peers.get(peer);
            Other {
                connected: self.connection(peer).is_some(),
                verified: record.is_some_and(PeerRecord::is_verified),
                disowns: record.is_some_and(PeerRecord::disowns),
                may_be_taught: self.may_teach(peer),
            }
        });
        let ours = Candidate {
            votes: self.may_vote(),
            leads: self.leadership.borrow().is_some(),
            is_member: self.is_member(&self.me) && !self.reads_only(),
            is_member_as_committed: self.is_member_as_committed(),
        };
        candidacy::objection(ours, &known.collect::<Vec<_>>())
    }

    /// Asks who is linked to us whether they follow a leader. One that does is
    /// enough: whether the leader has a majority shows in what it commits.
    async fn is_led_elsewhere(self: &Rc<Self>) -> bool {
        let members = self.replica.borrow().log.members().clone();
        let (answers, said) = smol::channel::unbounded();
        for peer in members {
            if peer == self.me || self.connection(&peer).is_none() {
                continue;
            }
            let (answers, keys) = (answers.clone(), self.keys.borrow().clone());
            reactor::spawn(async move {
                let status = ask_status(&peer, &keys, limits::PRE_VOTE_TIME_MAX)
                    .await
                    .ok();
                // Nobody listens any more once one has said yes.
                let _ = answers.send((peer, status)).await;
            })
            .detach();
        }
        drop(answers);
        let mut named = false;
        while let Ok((peer, status)) = said.recv().await {
            if let Some(status) = &status {
                self.seek_newcomer(status);
                self.renew_silent_link(&peer, status);
            }
            let Some(status) = status else { continue };
            named |= self.hear_of_leader(&peer, &status);
            if named && self.elector.pre_vote.borrow().is_respected(Instant::now()) {
                return true;
            }
        }
        if !named {
            self.elector.pre_vote.borrow_mut().end();
        }
        false
    }

    /// Whether the peer names a leader that we do not hear.
    fn hear_of_leader(&self, peer: &Address, status: &StatusReply) -> bool {
        let (now, recent) = (Instant::now(), self.recent());
        let ours = self.replica.borrow().vote.term.term;
        let peers = self.elector.peers.borrow();
        let ignored = |leader: &Address| peers.is_ignored(leader, recent, now);
        let Some(leader) = pre_vote::leader_named(status, &self.me, ours, ignored) else {
            return false;
        };
        let mut pre_vote = self.elector.pre_vote.borrow_mut();
        if pre_vote.hear(leader, status.commit_idx, now) {
            let says = match peer == leader {
                true => format!("{peer} leads, but what it sends does not arrive here"),
                false => format!("{peer} follows {leader}, which is unreachable from here"),
            };
            log::info!("{}: {says}; not starting an election", self.name);
        }
        true
    }

    /// The leader that others hear and we do not, by what they said lately.
    pub(super) fn leader_elsewhere(&self) -> Option<Address> {
        let pre_vote = self.elector.pre_vote.borrow();
        pre_vote.leader(self.recent(), Instant::now()).cloned()
    }

    /// From one pre-vote to the end of the next, at most.
    fn recent(&self) -> Duration {
        let pre_vote = limits::PRE_VOTE_TIME_MAX;
        let longest = self.elector.timer.borrow().longest();
        longest.saturating_add(pre_vote)
    }

    /// Adopts the greatest term that a peer has shown. PySyncObj does so at
    /// every request (spec 3.1); openraft does not, if the candidate's log is
    /// shorter than ours, and would campaign in terms that are over for the
    /// peers. To openraft it is a vote for that candidate, which is not sent.
    async fn catch_up_with_terms(&self, engine: &Engine) -> Result<(), Stopped> {
        let seen = {
            let links = self.sockets.links.borrow();
            links
                .iter()
                .map(|(peer, link)| (link.seen, peer.clone()))
                .max()
        };
        let Some((term, peer)) = seen else {
            return Ok(());
        };
        let request = {
            let replica = self.replica.borrow();
            let last = replica.log.last().entry_id();
            follower::vote_request(&replica.log, &replica.vote, term, last)
        };
        if let Some(request) = request {
            self.machinery
                .voted
                .set(self.machinery.voted.get().max(term));
            engine.vote(&peer, request).await?;
        }
        Ok(())
    }
}
