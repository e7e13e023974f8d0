//! What the peers say of themselves when they are asked for their `status`, and
//! what follows from it. Only the answer of the member that was asked counts.
//!
//! S13: peers up to 0.3.15 may have begun a new past while we were away; each
//! is asked before it is voted for or acknowledged.

use std::rc::Rc;

use super::{Member, RebuildReason};
use crate::address::Address;
use crate::bugs::{Bug, planted};
use crate::disk::Standing;
use crate::election::past::{self, OtherLeader};
use crate::election::peers::Told;
use crate::ids::LogIndex;
use crate::limits;
use crate::links::utility_client::{NoReply, ask_status};
use crate::reactor::{self, Instant, Timer};
use crate::status::shown;
use crate::wire::utility::StatusReply;

/// What a status tells for whoever looks.
pub(super) fn told(status: &StatusReply) -> Told {
    Told {
        version: shown(&status.version).into(),
        commit: status.commit_idx,
        term: status.raft_term,
        at: Instant::now(),
    }
}

impl Member {
    /// Asks every member that has not shown its `status` yet, once each at a
    /// time.
    pub(super) fn verify_peers(self: &Rc<Self>) {
        let mut peers = self.replica.borrow().log.members().clone();
        if self.is_recovering() {
            // S7 b: every configured member is to show what it holds.
            peers.extend(self.config.partner_addrs.iter().cloned());
        }
        peers.extend(self.newcomers.newcomer.borrow().iter().cloned());
        // Who would not stand for election asks here whether somebody leads.
        let idle = !self.may_vote() && self.known_leader().is_none();
        let wanted = self.standing() == Standing::Orphaned || self.is_recovering() || idle;
        for peer in peers.into_iter().filter(|peer| *peer != self.me) {
            let now = Instant::now();
            let ask = self
                .elector
                .peers
                .borrow_mut()
                .begin_question(&peer, wanted, now);
            if ask {
                let member = self.clone();
                reactor::spawn(async move { member.verify(peer).await }).detach();
            }
        }
    }

    async fn verify(self: Rc<Self>, peer: Address) {
        let keys = self.keys.borrow().clone();
        let asked = Instant::now();
        let answer = ask_status(&peer, &keys, limits::STATUS_TIME_MAX).await;
        self.note_responder(&peer, answer.as_ref().err());
        self.note_status(&peer, asked, answer.as_ref());
        match &answer {
            Ok(status) => self.on_status(&peer, status),
            Err(error) => self.on_no_status(&peer, error),
        }
        self.elector
            .peers
            .borrow_mut()
            .end_question(&peer, Instant::now());
    }

    /// The peer is not there, or cannot be asked. If it has connected to us all the same,
    /// it is heard after some attempts: it may be reachable only from its side. Not where
    /// we dial: the connection leads where the question went, is closed if another answers
    /// there, and is dialled again when somebody does if nobody did ([`Self::on_status`]).
    fn on_no_status(&self, peer: &Address, error: &NoReply) {
        let Some(connection) = self.connection(peer) else {
            return;
        };
        if self.dials(peer) {
            if matches!(error, NoReply::AnotherNode(_)) {
                connection.close();
            } else {
                self.elector.peers.borrow_mut().dialled_in_silence(peer);
            }
            return;
        }
        let trusted = self.elector.peers.borrow_mut().no_answer(peer);
        if trusted {
            log::warn!(
                "{}: {peer} does not tell its status; trusting it",
                self.name
            );
            self.notify();
        }
    }

    /// Says when another node answers than the one that was asked. A name that
    /// leads here and there in turn is said less and less often.
    pub(super) fn note_responder(&self, asked: &Address, error: Option<&NoReply>) {
        let other = match error {
            None => None,
            Some(NoReply::AnotherNode(other)) => Some(other.clone()),
            // Nobody answered: it may be the same as before.
            Some(_) => return,
        };
        let who = match &other {
            Some(Some(other)) if *other == self.me => "this witness itself".into(),
            Some(Some(other)) => other.to_string(),
            _ => "a node without an address".into(),
        };
        let news = self.elector.peers.borrow_mut().answered_by(asked, other);
        if let Some(count) = news.filter(|count| count.is_power_of_two()) {
            log::error!(
                "{}: {asked} is answered by {who}: what it says does not count. Check where that address leads from here, and self_addr there ({count} so far)",
                self.name
            );
        }
    }

    /// Closes the link that we made to a leader which sends nothing there, so that the
    /// next one is used: PySyncObj sends on the connection that was made last, also where
    /// that has ended since, and does not close the one before.
    pub(super) fn renew_silent_link(&self, peer: &Address, status: &StatusReply) {
        let leads = status.leader.as_ref() == Some(peer) && self.dials(peer);
        let Some(connection) = self.connection(peer).filter(|_| leads) else {
            return;
        };
        if connection.received_nothing_for() < limits::LEADER_SILENCE_MAX {
            return;
        }
        if let Some(times) = self.counts.tallies.count_of_member("silent link") {
            log::info!(
                "{}: closing the link to {peer}: it leads, and sends nothing there{times}",
                self.name
            );
        }
        connection.close();
    }

    fn on_status(&self, peer: &Address, status: &StatusReply) {
        self.renew_silent_link(peer, status);
        let doubtful = self.dials(peer) && self.elector.peers.borrow().is_doubtful(peer);
        if let Some(connection) = self.connection(peer).filter(|_| doubtful) {
            // S3: the address may lead elsewhere by now, and another would be led twice.
            if let Some(times) = self.counts.tallies.count_of_member("dialled in silence") {
                let name = &self.name;
                log::info!("{name}: dialling {peer} again: nobody answered there before{times}");
            }
            connection.close();
            return;
        }
        let commit = self.replica.borrow().log.commit().get();
        let (restarted, forgets_terms) = {
            let mut peers = self.elector.peers.borrow_mut();
            let restarted = !peers.is_verified(peer);
            peers.answered(peer, status, told(status), &self.me);
            peers.note_applying(peer, status, commit);
            (restarted, peers.forgets_terms(peer))
        };
        let other = status.leader.clone().map(|address| OtherLeader {
            address,
            term: status.raft_term,
            commit: status.commit_idx,
        });
        if other.is_some_and(|other| self.consider_stale(peer, other)) {
            return;
        }
        self.elector.peers.borrow_mut().verified(peer);
        // Once: who lacks something is asked again and again.
        if restarted
            && forgets_terms
            && status.raft_term < self.replica.borrow().log.last().term.term
        {
            // It has restarted, and our last term would win over what it
            // commits from now on: it shall have found its leader first (S13).
            let now = Instant::now();
            let mut timer = self.elector.timer.borrow_mut();
            timer.defer(limits::FORGETFUL_PEER_TIME, now);
        }
        self.note_lack(peer, status);
        self.notify();
    }

    /// Whether our log is from before this leader began, as `peer` shows it, which
    /// follows it or is it (S13).
    pub(super) fn is_stale(&self, peer: &Address, other: &OtherLeader) -> bool {
        let replica = self.replica.borrow();
        if replica.standing != Standing::Voter || planted(Bug::StaleLogKept) {
            return false;
        }
        let (log, vote) = (&replica.log, &replica.vote);
        let at_commit = LogIndex::new(other.commit).and_then(|commit| log.id_at(commit));
        let ours = past::HeldLog {
            commit: log.commit().get(),
            last_term: log.last().term.term,
            term_at_its_commit: at_commit.map(|id| id.term.term),
            followed: vote.committed.then_some((&vote.node, vote.term.term)),
            is_led: self.known_leader().is_some(),
        };
        let peers = self.elector.peers.borrow();
        let forgets = peers.forgets_terms(peer) || peers.forgets_terms(&other.address);
        past::is_stale(&ours, other, forgets)
    }

    /// Gives way to that leader if our log is stale; whether it is.
    pub(super) fn consider_stale(&self, peer: &Address, other: OtherLeader) -> bool {
        let stale = self.is_stale(peer, &other);
        if stale {
            let peer = peer.clone();
            self.report(RebuildReason::StalePast { peer, other });
        }
        stale
    }

    /// Resolves when the peer has shown its status, or has had time enough: a
    /// vote asked for on a new link should not be lost to that question.
    pub(super) async fn acquainted(&self, peer: &Address) {
        let known = async {
            loop {
                let changed = self.changed.listen();
                if self.elector.peers.borrow().is_verified(peer) {
                    return;
                }
                changed.await;
            }
        };
        smol::future::or(known, async {
            Timer::after(limits::ACQUAINTANCE_TIME).await;
        })
        .await;
    }

    /// Changes how we stand, durably: after all votes that are under way.
    pub(super) fn stand(&self, standing: Standing) {
        self.replica.borrow_mut().standing = standing;
        self.save_hard_state();
    }
}
