//! Whether our word counts.
//!
//! S7: a witness that may have lost what it once promised stores what it is
//! sent, but gives no vote, does not campaign and acknowledges nothing until an
//! entry that the current leader made meanwhile is committed without its help.
//! S13: peers up to 0.3.15 may have begun a new past while we were away; each
//! is asked for its `status` before it is voted for or acknowledged.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::peerage::Told;
use super::{Member, Trouble};
use crate::bugs::{Bug, planted};
use crate::config::Bootstrap;
use crate::config::limits;
use crate::disk::Standing;
use crate::links::utility_client::ask;
use crate::raft::runtime;
use crate::reactor::Timer;
use crate::wire::message::Message;
use crate::wire::utility::{Request, StatusReply};
use crate::wire::{Address, LogIndex, Term, command};

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

/// How long an amnesic witness has been listening to a leader (S7).
///
/// A commit proves that a majority is there without us only if no promise of
/// ours that we have forgotten can be in it, nor an old answer that a leader
/// which was paused finds in its sockets. Both concern entries that were in its
/// log when we began to listen.
#[derive(Debug)]
pub struct Attendance {
    leader: Address,
    term: Term,
    /// The end of its log when it first was seen whole; none before.
    since: Option<LogIndex>,
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
        let members = self.replica.borrow().log.members().clone();
        for peer in members.into_iter().filter(|peer| *peer != self.me) {
            let ask = self.peerage.update(&peer, |known| {
                let wanted = !known.verified
                    || known.lacks.is_some()
                    || self.standing() == Standing::Estranged
                    || self.standing() == Standing::Amnesic;
                let paused = known.pause.is_some_and(|until| until > Instant::now());
                wanted && !paused && !std::mem::replace(&mut known.asking, true)
            });
            if ask {
                let member = self.clone();
                runtime::spawn(async move { member.verify(peer).await }).detach();
            }
        }
    }

    async fn verify(self: Rc<Self>, peer: Address) {
        let keys = self.keys.borrow().clone();
        let reply = ask(&peer, &keys, Request::Status, limits::STATUS_TIME_MAX).await;
        let answer = reply.and_then(|reply| StatusReply::decode(&reply).ok());
        match answer {
            Some(status) => self.on_status(&peer, &status),
            None => {
                let tries = self.peerage.update(&peer, |known| {
                    known.unanswered = known.unanswered.saturating_add(1);
                    known.unanswered
                });
                // It is not there, or cannot be asked. If it is connected all
                // the same, it is heard after some attempts.
                let heard = tries >= ASK_ATTEMPTS && self.connection(&peer).is_some();
                let news = heard
                    && self
                        .peerage
                        .update(&peer, |known| !std::mem::replace(&mut known.verified, true));
                if news {
                    log::warn!(
                        "{}: {peer} does not tell its status; trusting it",
                        self.name
                    );
                    self.notify();
                }
            }
        }
        self.peerage.update(&peer, |known| {
            known.asking = false;
            known.pause = Some(Instant::now() + ASK_PAUSE);
        });
    }

    fn on_status(&self, peer: &Address, status: &StatusReply) {
        let established = status.leader.is_some();
        let other = status.leader.clone().map(|address| OtherLeader {
            address,
            term: status.raft_term,
            commit: status.commit_idx,
        });
        if let Some(other) = other.filter(|other| self.is_stale(other)) {
            let peer = peer.clone();
            self.report(Trouble::StalePast { peer, other });
            return;
        }
        let new = status.commit_idx == LogIndex::FIRST.get() && status.log_len == 1;
        let version = pysyncobj(&status.version);
        let forgets_terms = version.is_some_and(|version| version < KEEPS_ITS_TERM);
        let restarted = !self.peerage.is_verified(peer);
        let disowns = established && !status.partners.iter().any(|p| p.address == self.me);
        self.peerage.update(peer, |known| {
            known.verified = true;
            known.new = new;
            known.disowns = disowns;
            known.takes_leadership = version.is_some_and(|version| version >= KEEPS_ITS_TERM);
            known.forgets_terms = forgets_terms;
            known.told = Some(Told::of(status));
        });
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
        self.consider_new();
        self.notify();
    }

    /// S13: whether our log is from before this leader began.
    pub(super) fn is_stale(&self, other: &OtherLeader) -> bool {
        let replica = self.replica.borrow();
        let log = &replica.log;
        let earlier = other.term < log.last().term.term;
        replica.standing == Standing::Voter
            && (earlier || self.is_of_our_term(other))
            && other.commit > log.commit().get()
            && !planted(Bug::StaleLogKept)
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

    /// S13, once more: a leader of a term that is over for us, among peers that
    /// forget their terms. Is it one of the past, of which our log knows all
    /// that it committed, or one after it, whose commits our log would erase?
    pub(super) fn consider_stale(&self, other: OtherLeader) {
        if !self.peerage.forgets_terms(&other.address) || !self.is_stale(&other) {
            return;
        }
        // What a leader of the past committed has no later term than its own.
        let commit = LogIndex::new(other.commit);
        let known = commit.and_then(|commit| self.replica.borrow().log.id_at(commit));
        if self.is_of_our_term(&other) || known.is_none_or(|ours| ours.term.term > other.term) {
            let peer = other.address.clone();
            self.report(Trouble::StalePast { peer, other });
        }
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

    /// S7: provably new is a cluster of which every partner holds nothing.
    fn consider_new(&self) {
        let replica = self.replica.borrow();
        let untouched = replica.log.last().index == LogIndex::FIRST;
        let members = replica.log.members();
        let partners = members.iter().filter(|address| **address != self.me);
        let all_new = {
            let known = self.peerage.0.borrow();
            partners.clone().count() > 0
                && partners
                    .clone()
                    .all(|p| known.get(p).is_some_and(|k| k.verified && k.new))
        };
        let amnesic = replica.standing == Standing::Amnesic;
        drop(replica);
        if amnesic && untouched && all_new {
            self.become_voter("every member is new");
        }
    }

    /// Listens to a leader while our word does not count. `end`: where its log
    /// ends, if its message shows that: one without entries that fits.
    pub(super) fn attend(&self, leader: &Address, term: Term, end: Option<LogIndex>) {
        if self.standing() != Standing::Amnesic {
            return;
        }
        let mut attendance = self.attendance.borrow_mut();
        let attendance = match &mut *attendance {
            Some(known) if known.leader == *leader && known.term == term => known,
            other => other.insert(Attendance {
                leader: leader.clone(),
                term,
                since: None,
            }),
        };
        if attendance.since.is_some() || end.is_none() {
            return;
        }
        attendance.since = end;
        // An idle cluster would commit nothing for long; this changes nothing
        // and proves as much as any write.
        if let Some(connection) = self.connection(leader) {
            connection.send(&Message::ApplyCommand {
                command: command::noop(),
                request_id: None,
            });
        }
    }

    /// S7: our word counts when an entry of the leader's own term, younger than
    /// our listening, is committed without it; that leader then is our vote of
    /// that term.
    pub(super) fn consider_voice(&self, leader: &Address) {
        let replica = self.replica.borrow();
        if replica.standing != Standing::Amnesic {
            return;
        }
        let vote = &replica.vote;
        let follows = vote.committed && vote.node == *leader;
        let commit = replica.log.commit();
        let committed = replica.log.id_at(commit);
        let of_its_term = committed.is_some_and(|id| id.term.term == vote.term.term);
        let attended = self.attendance.borrow().as_ref().is_some_and(|attendance| {
            attendance.leader == *leader
                && attendance.term == vote.term.term
                && attendance.since.is_some_and(|since| commit > since)
        });
        drop(replica);
        if follows && of_its_term && attended {
            self.become_voter("an entry of the leader's own term was committed without us");
        }
    }

    /// Changes how we stand, durably: after all votes that are under way.
    pub(super) fn stand(&self, standing: Standing) {
        self.replica.borrow_mut().standing = standing;
        self.save_hard_state();
    }

    /// Makes our word count from now on, durably.
    pub(super) fn become_voter(&self, why: &str) {
        // Should the disk fail, the next start is amnesic again, which is safe.
        self.stand(Standing::Voter);
        log::info!("{}: this witness is a voter now: {why}", self.name);
        self.clock.restart();
        self.notify();
    }

    /// The standing of a member that starts with an empty disk.
    pub(super) fn first_standing(&self) -> Option<&'static str> {
        if self.config.bootstrap == Bootstrap::New {
            return Some("the configuration says that the cluster is new");
        }
        None
    }
}
