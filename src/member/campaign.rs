//! Campaigns: when the election deadline has passed, whether to stand at all.
//!
//! A witness must never unseat a leader that everybody else hears, and PySyncObj
//! knows neither a pre-vote nor stickiness (spec 3.1): a member whose line to the
//! leader alone is cut would raise the term, win with the other's vote, and the
//! old leader, of whom PySyncObj asks only now and then whether anybody still
//! listens, would keep its writers waiting for half a minute. So whoever we are
//! linked to is asked first, by the `status` that every node answers.

use std::rc::Rc;
use std::time::Duration;

use super::{Member, Trouble};
use crate::address::Address;
use crate::ids::EntryId;
use crate::limits;
use crate::links::follower;
use crate::links::utility_client::ask_status;
use crate::raft::engine::{Engine, Stopped};
use crate::reactor::{self, Instant, Timer};
use crate::wire::utility::StatusReply;

/// When to look again at a deadline that has passed while the clock was held.
const HELD_AGAIN: Duration = Duration::from_millis(20);

/// A leader that another hears and we do not.
#[derive(Debug, Clone)]
pub struct Elsewhere {
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
    fn is_respected(&self) -> bool {
        self.since.elapsed() < limits::ELSEWHERE_PATIENCE
    }
}

impl Member {
    pub(super) async fn campaign_when_due(self: Rc<Self>) {
        loop {
            let changed = self.changed.listen();
            // The time for an election begins when the word is out: a disk that
            // takes longer would have us stand again before anybody was asked.
            if self.replica.borrow().vote_pending.is_some() {
                changed.await;
                self.clock.restart();
                continue;
            }
            if self.clock.is_due() {
                self.campaign().await;
                continue;
            }
            let deadline = self.clock.deadline().max(Instant::now() + HELD_AGAIN);
            let timer = async {
                Timer::at(deadline).await;
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
        let urged = self.clock.take_urge();
        self.clock.restart();
        if !self.may_campaign() {
            return;
        }
        if !urged {
            let deadline = self.clock.deadline();
            let led = self.is_led_elsewhere().await;
            // Meanwhile a leader may have been heard of, or a vote given.
            if led || self.clock.deadline() != deadline || !self.may_campaign() {
                return;
            }
        }
        let Some(engine) = self.engine() else { return };
        // Without enough voters this repeats every second, possibly for hours (S16).
        if let Some(times) = self.tallies.count_of_member("campaign") {
            let name = &self.name;
            log::info!("{name}: no leader is heard of; asking for votes{times}");
        }
        *self.reported_leader.borrow_mut() = None;
        let campaign = async {
            self.catch_up_with_terms(&engine).await?;
            engine.campaign().await
        };
        if let Err(error) = campaign.await {
            self.report(Trouble::Stopped(error.to_string()));
        }
    }

    /// Whether a campaign could be won, and should.
    pub(super) fn may_campaign(&self) -> bool {
        if !self.may_vote() || self.leadership.borrow().is_some() {
            return false;
        }
        let replica = self.replica.borrow();
        let members = replica.log.members();
        let others = members.iter().filter(|a| **a != self.me).count();
        let up: Vec<&Address> = members
            .iter()
            .filter(|a| **a != self.me && self.connection(a).is_some())
            .collect();
        // S12: with no link to anybody the term is not raised.
        // Nor with links to those only who do not take us for a member:
        // nobody tells a node that it was removed.
        let reachable = up.iter().filter(|a| !self.peerage.disowns(a)).count();
        let enough = reachable.saturating_add(1) > others.saturating_add(1) / 2;
        let heard = up.iter().all(|a| self.peerage.is_verified(a));
        // Nor to teach a past that everybody else may have left.
        // A cluster of one has nobody to teach.
        let remembered = others == 0 || up.iter().any(|a| self.may_teach(a));
        // S7 c: one that was just added waits until that is committed.
        self.is_member_as_committed() && members.contains(&self.me) && heard && enough && remembered
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
                let status = ask_status(&peer, &keys, limits::CANVASS_TIME_MAX)
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
            }
            match status.and_then(|status| self.hears_another_leader(&peer, &status)) {
                Some(true) => return true,
                Some(false) => named = true,
                None => {}
            }
        }
        if !named {
            self.elsewhere.take();
        }
        false
    }

    /// Whether the leader that the peer names is respected; none if it names none.
    fn hears_another_leader(&self, peer: &Address, status: &StatusReply) -> Option<bool> {
        let ours = self.replica.borrow().vote.term.term;
        let leader = status.leader.as_ref()?;
        // One of an earlier term, or one beside whom we have followed another in the
        // same, could not lead us: a later term must come.
        let ignored = self.peerage.is_ignored(leader, self.recent());
        if *leader == self.me || status.raft_term < ours || ignored {
            return None;
        }
        let now = Instant::now();
        let mut elsewhere = self.elsewhere.borrow_mut();
        let known = elsewhere.get_or_insert_with(|| {
            let says = match peer == leader {
                true => format!("{peer} leads, but what it sends does not arrive here"),
                false => format!("{peer} follows {leader}, which is unreachable from here"),
            };
            log::info!("{}: {says}; not starting an election", self.name);
            Elsewhere {
                leader: leader.clone(),
                commit: status.commit_idx,
                since: now,
                said: now,
            }
        });
        // Another leader is no news of itself: two that are named in turn shall not
        // be respected for ever.
        known.leader.clone_from(leader);
        known.said = now;
        if status.commit_idx > known.commit {
            known.commit = status.commit_idx;
            known.since = now;
        }
        Some(known.is_respected())
    }

    /// The leader that others hear and we do not, by what they said lately.
    pub(super) fn leader_elsewhere(&self) -> Option<Address> {
        let elsewhere = self.elsewhere.borrow();
        elsewhere
            .as_ref()
            .filter(|known| known.is_respected() && known.said.elapsed() <= self.recent())
            .map(|known| known.leader.clone())
    }

    /// From one canvass to the end of the next, at most.
    fn recent(&self) -> Duration {
        let canvass = limits::CANVASS_TIME_MAX;
        self.clock.longest().saturating_add(canvass)
    }

    /// Adopts the greatest term that a peer has shown. PySyncObj does so at
    /// every request (spec 3.1); openraft does not, if the candidate's log is
    /// shorter than ours, and would campaign in terms that are over for the
    /// peers. To openraft it is a vote for that candidate, which is not sent.
    async fn catch_up_with_terms(&self, engine: &Engine) -> Result<(), Stopped> {
        let seen = {
            let links = self.links.borrow();
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
            let last = replica.log.last();
            let last = EntryId {
                index: last.index,
                term: last.term.term,
            };
            follower::vote_request(&replica.log, &replica.vote, term, last)
        };
        if let Some(request) = request {
            self.voted.set(self.voted.get().max(term));
            engine.vote(&peer, request).await?;
        }
        Ok(())
    }
}
