//! Feeds [`Eligibility`] with what happens and carries out what it decides (S7).
//! Which proof counts is decided there alone.

use super::{Member, RebuildReason};
use crate::address::Address;
use crate::disk::Standing;
use crate::election::beginning::{self, OwnState};
use crate::election::eligibility::{Answer, Durable, Eligibility, Proof};
use crate::ids::{LogIndex, Term};
use crate::links::utility_client::NoReply;
use crate::raft::log::Log;
use crate::raft::types::Members;
use crate::reactor::Instant;
use crate::wire::command;
use crate::wire::message::Message;
use crate::wire::utility::StatusReply;

use super::error::StartError;

/// A change of what an engine stands on: made while none runs.
#[derive(Debug, Clone)]
pub(super) enum Foundation {
    /// The log is still empty, and its members are these.
    Members(Members),
    /// We found the cluster: a voter, whose vote of this term is spent.
    Voter(Term),
}

impl Member {
    /// What our own state says of us.
    pub(super) fn own_state(&self) -> OwnState {
        let replica = self.replica.borrow();
        OwnState {
            standing: replica.standing,
            arrival: replica.arrival,
            empty: replica.log.last().index == LogIndex::FIRST,
        }
    }

    pub(super) fn is_recovering(&self) -> bool {
        self.own_state().is_recovering()
    }

    /// Judges anew from what is on disk. `lost`: state was set aside in this
    /// folder, so that this is no first deployment.
    pub(super) fn begin_recovery(&self, lost: bool) {
        let founding = beginning::founding(self.config.bootstrap, lost);
        let own = self.own_state();
        let eligibility = {
            let replica = self.replica.borrow();
            let configured = self.config.partner_addrs.iter();
            Eligibility::new(
                &self.me,
                configured.chain(replica.log.members()).cloned(),
                founding,
                own,
            )
        };
        let alone = eligibility.alone();
        *self.elector.eligibility.borrow_mut() = eligibility;
        if let Some(proof) = alone {
            self.become_voter(&proof);
        }
    }

    /// Writes down the members with which an empty log begins.
    pub(super) async fn found(&self, members: Members) -> Result<(), StartError> {
        self.replica.borrow_mut().log = Log::initial(members);
        self.save_initial().await?;
        log::info!(
            "{}: no state in {}: no vote until the cluster has proven to be new, or that it does not need this witness's word",
            self.name,
            self.config.data_dir.display()
        );
        Ok(())
    }

    async fn save_initial(&self) -> Result<(), StartError> {
        let written = {
            let replica = self.replica.borrow();
            let (checkpoint, tail) = replica.checkpoint();
            replica.disk.install(checkpoint, tail, LogIndex::FIRST)
        };
        Ok(written.await?)
    }

    /// Makes a change that waits for the engine to be stopped. Should the disk
    /// fail, the next opening finds us recovering still, which is safe.
    pub(super) async fn lay_foundation(&self) {
        let Some(foundation) = self.machinery.foundation.take() else {
            return;
        };
        let laid = match foundation {
            Foundation::Members(members) => self.set_initial_members(members).await,
            Foundation::Voter(term) => self.spend_vote(term).await,
        };
        if let Err(error) = laid {
            log::error!("{}: {error}", self.name);
        }
    }

    pub(super) async fn set_initial_members(&self, members: Members) -> Result<(), StartError> {
        if !self.own_state().takes_members() {
            return Ok(());
        }
        self.replica.borrow_mut().log = Log::initial(members);
        self.save_initial().await?;
        // The reading after the members: alone it would speak of a set that is not
        // written down.
        self.save_arrival();
        Ok(())
    }

    async fn spend_vote(&self, term: Term) -> Result<(), StartError> {
        self.machinery
            .voted
            .set(self.machinery.voted.get().max(term));
        let saved = {
            let mut replica = self.replica.borrow_mut();
            replica.vote = beginning::spent_vote(&replica.vote, term, &self.me);
            replica.standing = Standing::Voter;
            replica.arrival = Default::default();
            replica.disk.save_hard_state(replica.hard_state())
        };
        Ok(saved.await?)
    }

    /// A member was asked for its `status` at `asked`.
    pub(super) fn note_status(
        &self,
        peer: &Address,
        asked: Instant,
        reply: Result<&StatusReply, &NoReply>,
    ) {
        if !self.is_recovering() {
            return;
        }
        let now = Instant::now();
        let proof = {
            let mut eligibility = self.elector.eligibility.borrow_mut();
            eligibility.on_status(peer, asked, now, Answer::of(reply))
        };
        self.conclude(proof);
    }

    /// A leader answered `members`: whether that was the reading that counts.
    pub(super) fn note_members(&self, leads: bool, listed: bool, end: LogIndex) -> bool {
        let mut eligibility = self.elector.eligibility.borrow_mut();
        eligibility.on_members(leads, listed, end)
    }

    /// A leader was heard of while our word does not count. `end`: where its log
    /// ends, if its message shows that: one without entries that fits.
    pub(super) fn note_append(&self, leader: &Address, term: Term, end: Option<LogIndex>) {
        let first = self
            .elector
            .eligibility
            .borrow_mut()
            .on_append(leader, term, end);
        // An idle cluster would commit nothing for long; this changes nothing
        // and proves as much as any write.
        if first && let Some(connection) = self.connection(leader) {
            connection.send(&Message::ApplyCommand {
                command: command::noop(),
                request_id: None,
            });
        }
    }

    /// What the leader sent is durable here: is it a proof?
    pub(super) fn consider_voice(&self, leader: &Address) {
        if !self.is_recovering() {
            return;
        }
        let proof = {
            let replica = self.replica.borrow();
            let log = &replica.log;
            let durable = Durable {
                last: log.last().index,
                vote: &replica.vote,
                commit: log.commit(),
                commit_term: log.id_at(log.commit()).map(|id| id.term.term),
            };
            let mut eligibility = self.elector.eligibility.borrow_mut();
            eligibility.on_durable(leader, durable, log.additions(&self.me))
        };
        self.conclude(proof);
    }

    fn conclude(&self, proof: Option<Proof>) {
        match proof {
            Some(proof) => self.become_voter(&proof),
            None => {
                let arrival = self.elector.eligibility.borrow().arrival();
                if self.replica.borrow().arrival != arrival
                    && self.machinery.foundation.borrow().is_none()
                {
                    self.save_arrival();
                }
            }
        }
    }

    /// Keeps what was shown, for the next start.
    fn save_arrival(&self) {
        let arrival = self.elector.eligibility.borrow().arrival();
        self.replica.borrow_mut().arrival = arrival;
        self.stand(self.standing());
    }

    /// Makes our word count from now on, durably.
    fn become_voter(&self, proof: &Proof) {
        self.elector.eligibility.borrow_mut().become_voter();
        match proof {
            Proof::NewCluster { refused, .. } if !refused.is_empty() => log::warn!(
                "{}: this witness is a voter now: {proof}. If it replaces one that was lost, bootstrap should be join",
                self.name
            ),
            _ => log::info!("{}: this witness is a voter now: {proof}", self.name),
        }
        if let Proof::NewCluster { term, .. } = proof {
            *self.machinery.foundation.borrow_mut() = Some(Foundation::Voter(*term));
            self.report(RebuildReason::NewFoundation);
            return;
        }
        // Should the disk fail, the next start is recovering again, which is safe.
        self.replica.borrow_mut().arrival = Default::default();
        self.stand(Standing::Voter);
        self.restart_timer();
        self.notify();
    }

    /// Whether we joined by an `add` that is not committed yet: no campaign (S7 c).
    pub(super) fn is_member_as_committed(&self) -> bool {
        let replica = self.replica.borrow();
        let log = &replica.log;
        log.members_at(log.commit()).contains(&self.me)
    }
}
