//! What the peers say of themselves when they are asked for their `status`, and
//! what follows from it. Only the answer of the member that was asked counts.
//!
//! S13: peers up to 0.3.15 may have begun a new past while we were away; each
//! is asked before it is voted for or acknowledged.

use std::rc::Rc;
use std::time::Duration;

use super::peerage::Told;
use super::{Member, Trouble};
use crate::address::Address;
use crate::bugs::{Bug, planted};
use crate::disk::Standing;
use crate::ids::{LogIndex, Term};
use crate::limits;
use crate::links::utility_client::{NoReply, ask_status};
use crate::reactor::{self, Instant, Timer};
use crate::wire::utility::StatusReply;

/// A leader that we do not follow, as it or a follower of it shows it.
#[derive(Debug, Clone)]
pub struct OtherLeader {
    /// Who it is.
    pub address: Address,
    /// Its term.
    pub term: Term,
    /// What it has committed.
    pub commit: u64,
}

/// The first pysyncobj that keeps its term and understands `timeout_now` (spec
/// 5.7, H7).
const KEEPS_ITS_TERM: [u32; 3] = [0, 3, 16];

/// The version of a pysyncobj node; none of another witness, which would only
/// hand leadership on, and forgets nothing.
fn pysyncobj(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

/// How often a peer that does not answer is asked before it counts as one that
/// cannot: it may be reachable only from its side.
const ASK_ATTEMPTS: u32 = 3;

/// From an answer, or none, to the next question.
const ASK_PAUSE: Duration = Duration::from_secs(1);

impl Member {
    /// Asks every member that has not shown its `status` yet, once each at a
    /// time.
    pub(super) fn verify_peers(self: &Rc<Self>) {
        let mut peers = self.replica.borrow().log.members().clone();
        if self.is_recovering() {
            // S7 b: every configured member is to show what it holds.
            peers.extend(self.config.partner_addrs.iter().cloned());
        }
        peers.extend(self.newcomer.borrow().iter().cloned());
        for peer in peers.into_iter().filter(|peer| *peer != self.me) {
            let ask = self.peerage.update(&peer, |known| {
                let wanted = !known.verified
                    || known.lacks.is_some()
                    || self.unapplied.borrow().is_open(&peer)
                    || self.standing() == Standing::Estranged
                    || self.is_recovering();
                let paused = known.pause.is_some_and(|until| until > Instant::now());
                wanted && !paused && !std::mem::replace(&mut known.asking, true)
            });
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
        self.peerage.update(&peer, |known| {
            known.asking = false;
            known.pause = Some(Instant::now() + ASK_PAUSE);
        });
    }

    /// The peer is not there, or cannot be asked. If it is connected all the same,
    /// it is heard after some attempts. Not where another answers at the address
    /// that we dial: then the connection leads there too.
    fn on_no_status(&self, peer: &Address, error: &NoReply) {
        let another = matches!(error, NoReply::AnotherNode(_)) && *peer < self.me;
        if another || self.connection(peer).is_none() {
            return;
        }
        let news = self.peerage.update(peer, |known| {
            known.unanswered = known.unanswered.saturating_add(1);
            known.unanswered >= ASK_ATTEMPTS && !std::mem::replace(&mut known.verified, true)
        });
        if news {
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
        let news = self.peerage.answered_by(asked, other);
        if let Some(count) = news.filter(|count| count.is_power_of_two()) {
            log::error!(
                "{}: {asked} is answered by {who}: what it says does not count. Check where that \
                 address leads from here, and self_addr there ({count} so far)",
                self.name
            );
        }
    }

    fn on_status(&self, peer: &Address, status: &StatusReply) {
        let established = status.leader.is_some();
        let version = pysyncobj(&status.version);
        let forgets_terms = version.is_some_and(|version| version < KEEPS_ITS_TERM);
        let restarted = !self.peerage.is_verified(peer);
        let disowns = established && !status.partners.iter().any(|p| p.address == self.me);
        self.peerage.update(peer, |known| {
            known.disowns = disowns;
            known.takes_leadership = version.is_some_and(|version| version >= KEEPS_ITS_TERM);
            known.forgets_terms = forgets_terms;
            known.told = Some(Told::of(status));
        });
        self.note_applying(peer, status);
        let other = status.leader.clone().map(|address| OtherLeader {
            address,
            term: status.raft_term,
            commit: status.commit_idx,
        });
        if other.is_some_and(|other| self.consider_stale(peer, other)) {
            return;
        }
        self.peerage.update(peer, |known| known.verified = true);
        // Once: who lacks something is asked again and again.
        if restarted
            && forgets_terms
            && status.raft_term < self.replica.borrow().log.last().term.term
        {
            // It has restarted, and our last term would win over what it
            // commits from now on: it shall have found its leader first (S13).
            self.clock.defer(limits::FORGETFUL_PEER_TIME);
        }
        self.note_lack(peer, status);
        self.notify();
    }

    /// S13, the one test: whether our log is from before this leader began, as
    /// `peer` shows it, which follows it or is it. Only members that forget their
    /// terms can make that so. A leader that was merely paused leads an earlier
    /// term too, but our log holds all that it committed.
    pub(super) fn is_stale(&self, peer: &Address, other: &OtherLeader) -> bool {
        let forgets = [peer, &other.address]
            .into_iter()
            .any(|address| self.peerage.forgets_terms(address));
        let replica = self.replica.borrow();
        let log = &replica.log;
        if !forgets
            || replica.standing != Standing::Voter
            || other.commit <= log.commit().get()
            || planted(Bug::StaleLogKept)
        {
            return false;
        }
        // What a leader of the past committed has no later term than its own.
        let commit = LogIndex::new(other.commit);
        let known = commit.and_then(|commit| log.id_at(commit));
        let unknown = known.is_none_or(|ours| ours.term.term > other.term);
        let earlier = other.term < log.last().term.term;
        (earlier && unknown) || self.is_of_our_term(other)
    }

    /// Whether it leads the very term of our last entries, in which we led or
    /// followed somebody else, who leads no more: the term came twice, and our
    /// entries are the other's.
    fn is_of_our_term(&self, other: &OtherLeader) -> bool {
        let replica = self.replica.borrow();
        let vote = &replica.vote;
        let ours = vote.committed && vote.node != other.address;
        ours && vote.term.term == other.term
            && replica.log.last().term.term == other.term
            && self.known_leader().is_none()
    }

    /// Gives way to that leader if our log is stale; whether it is.
    pub(super) fn consider_stale(&self, peer: &Address, other: OtherLeader) -> bool {
        let stale = self.is_stale(peer, &other);
        if stale {
            let peer = peer.clone();
            self.report(Trouble::StalePast { peer, other });
        }
        stale
    }

    /// Resolves when the peer has shown its status, or has had time enough: a
    /// vote asked for on a new link should not be lost to that question.
    pub(super) async fn acquainted(&self, peer: &Address) {
        let known = async {
            loop {
                let changed = self.changed.listen();
                if self.peerage.is_verified(peer) {
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
