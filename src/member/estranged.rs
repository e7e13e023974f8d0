//! Whether all other members have forgotten what we hold: the data nodes were
//! made anew, and nobody thought of the witness.
//!
//! Our longer log would win every election, and put the keys of a cluster that
//! is no more into the one that has just begun. So a witness that finds itself
//! the only one to remember takes no part any more, keeps its state and says
//! so: whether that state is rubbish or the last copy an operator must decide.
//! The new nodes are a majority without it. If one of them shows that it remembers
//! all the same, that is over ([`super::withdrawn`]).
//!
//! One member that has forgotten is no such case: it is taught. So as long as
//! only such a one can be reached, it is not taught at once: the other may come
//! in a moment and have forgotten as well. One that is merely behind remembers.

use super::{Member, Trouble};
use crate::address::Address;
use crate::disk::Standing;
use crate::limits;
use crate::links::leader::Peer;
use crate::reactor::Instant;
use crate::reason::Reason;
use crate::wire::utility::StatusReply;

use super::peerage::Peerage;

/// What a peer has shown that lacks something of what is committed here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lack {
    /// When it first did so.
    since: Instant,
    /// The end of its log, as far as it shows it.
    end: u64,
    /// What was committed here at that moment.
    committed: u64,
}

impl Lack {
    /// Whether that is most of it. A member that was away for a while, or whose
    /// last writes a power cut took (H14), is behind: it needs what we hold.
    const fn is_most(&self) -> bool {
        self.end < self.committed / 2
    }
}

/// Where a peer's log ends at least, by all that its `status` shows. Each number
/// alone can be smaller: a log that was compacted has few entries left, and a node
/// that has lost its `.meta` file in a power cut begins with commit index 1, though
/// what its dump holds is applied. A leader also knows how far its followers are.
fn end_shown(status: &StatusReply) -> u64 {
    let followers = status.partners.iter().filter_map(|partner| partner.matched);
    let own = [status.log_len, status.last_applied, status.commit_idx];
    own.into_iter().chain(followers).max().unwrap_or(0)
}

impl Peerage {
    /// Notes that we lead and that the peer is to be told of it later.
    pub(super) fn teach_later(&self, peer: &Address) {
        self.update(peer, |known| known.to_be_taught = true);
    }

    /// Notes that the peer is told all that we have to say as leader.
    pub(super) fn taught(&self, peer: &Address) {
        self.update(peer, |known| known.to_be_taught = false);
    }

    /// Whether the peer showed that it knows the cluster that we know.
    fn remembers(&self, peer: &Address) -> bool {
        let known = self.0.borrow();
        known
            .get(peer)
            .is_some_and(|known| known.verified && known.lacks.is_none_or(|lack| !lack.is_most()))
    }

    /// Whether the peer showed that it lacks something of what is committed here.
    pub(super) fn lacks_something(&self, peer: &Address) -> bool {
        self.lacks(peer).is_some()
    }

    /// Notes that the peer holds all that is committed here.
    pub(super) fn remembers_again(&self, peer: &Address) {
        self.update(peer, |known| known.lacks = None);
    }

    fn lacks(&self, peer: &Address) -> Option<Lack> {
        self.0.borrow().get(peer).and_then(|known| known.lacks)
    }
}

impl Member {
    /// Compares what a peer shows of its log with what is committed here.
    pub(super) fn note_lack(&self, peer: &Address, status: &StatusReply) {
        let committed = self.replica.borrow().log.commit().get();
        let end = end_shown(status);
        let lacks = end < committed;
        self.peerage.update(peer, |known| {
            let since = known.lacks.map_or_else(Instant::now, |lack| lack.since);
            known.lacks = lacks.then_some(Lack {
                since,
                end,
                committed,
            });
        });
        if lacks && self.is_alone_to_remember() {
            self.estrange();
        }
        self.teach_waiting();
    }

    fn others(&self) -> Vec<Address> {
        let replica = self.replica.borrow();
        let members = replica.log.members().iter();
        members.filter(|a| **a != self.me).cloned().collect()
    }

    /// Of two members the other may just have lost its disk; that all of several
    /// did so at once without somebody's doing is not likely.
    ///
    /// Each may have fallen behind at a time of its own: proof is an entry that
    /// was committed here when the first of them was seen, and that the log of
    /// none of them has reached since.
    fn is_alone_to_remember(&self) -> bool {
        let others = self.others();
        let lacks: Option<Vec<Lack>> = others.iter().map(|p| self.peerage.lacks(p)).collect();
        let Some(lacks) = lacks.filter(|lacks| lacks.len() > 1) else {
            return false;
        };
        if !lacks.iter().all(Lack::is_most) {
            return false;
        }
        let reached = lacks.iter().map(|lack| lack.end).max();
        reached < lacks.iter().map(|lack| lack.committed).min()
    }

    /// Whether the peer may be given what we hold, and be asked to elect us.
    pub(super) fn may_teach(&self, peer: &Address) -> bool {
        let others = self.others();
        let patient = |since: Instant| since.elapsed() < limits::ESTRANGED_PATIENCE;
        others.len() < 2
            || others
                .iter()
                .any(|other| self.connection(other).is_some() && self.peerage.remembers(other))
            || self
                .peerage
                .lacks(peer)
                .is_some_and(|lack| !patient(lack.since))
    }

    /// Leads those that had to wait until more was known.
    pub(super) fn teach_waiting(&self) {
        for peer in self.others() {
            let waits = self.peerage.update(&peer, |known| known.to_be_taught);
            if !waits || !self.may_teach(&peer) {
                continue;
            }
            if let Some(connection) = self.connection(&peer) {
                self.peerage.taught(&peer);
                self.lead_peer(Peer::Member(peer), &connection);
            }
        }
    }

    /// Takes no part from now on, durably.
    fn estrange(&self) {
        // S7: one that is no voter has nothing to withhold, and must not come back as
        // one.
        if self.standing() != Standing::Voter {
            return;
        }
        // Should the disk fail, the next start finds the same again.
        self.stand(Standing::Estranged);
        self.report_estrangement();
        self.report(Trouble::Estranged);
    }

    /// Says what the operator has to decide.
    fn report_estrangement(&self) {
        let committed = self.replica.borrow().log.commit();
        log::error!(
            "{}: ESTRANGED: this witness holds {committed} committed entries, and all other \
             members have forgotten them. It does not vote any more, and keeps them to itself. {}",
            self.name,
            self.remedy(Reason::Estranged)
        );
    }
}
