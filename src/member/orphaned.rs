//! What follows when all others have forgotten what is committed here
//! ([`crate::election::memory`]): nothing is taught to them, and we take no part. If
//! one of them shows that it remembers all the same, that is over
//! ([`super::withdrawn`]).

use super::{Member, RebuildReason};
use crate::address::Address;
use crate::disk::Standing;
use crate::links::leader::Peer;
use crate::reactor::Instant;
use crate::reason::Reason;
use crate::wire::utility::StatusReply;

impl Member {
    /// Compares what a peer shows of its log with what is committed here.
    pub(super) fn note_lack(&self, peer: &Address, status: &StatusReply) {
        let commit = self.replica.borrow().log.commit().get();
        let now = Instant::now();
        let lacks = self
            .elector
            .peers
            .borrow_mut()
            .compare(peer, status, commit, now);
        if lacks
            && self
                .elector
                .peers
                .borrow()
                .have_all_forgotten(&self.others())
        {
            self.withdraw_as_orphaned();
        }
        self.teach_waiting();
    }

    /// All other members.
    pub(super) fn others(&self) -> Vec<Address> {
        let replica = self.replica.borrow();
        let members = replica.log.members().iter();
        members.filter(|a| **a != self.me).cloned().collect()
    }

    /// Whether the peer may be given what we hold, and be asked to elect us: not before
    /// it is known who it is, for the address that we dial may lead to another member,
    /// which would then be led twice.
    pub(super) fn may_teach(&self, peer: &Address) -> bool {
        if self.dials(peer) && !self.elector.peers.borrow().is_itself(peer) {
            return false;
        }
        let connected = |other: &Address| self.connection(other).is_some();
        let (others, now) = (self.others(), Instant::now());
        self.elector
            .peers
            .borrow()
            .may_teach(peer, &others, connected, now)
    }

    /// Leads those that had to wait until more was known.
    pub(super) fn teach_waiting(&self) {
        for peer in self.others() {
            let waits = self.elector.peers.borrow().is_to_be_taught(&peer);
            if !waits || !self.may_teach(&peer) {
                continue;
            }
            if let Some(connection) = self.connection(&peer) {
                self.elector.peers.borrow_mut().taught(&peer);
                self.lead_peer(Peer::Member(peer), &connection);
            }
        }
    }

    /// Takes no part from now on, durably.
    fn withdraw_as_orphaned(&self) {
        // S7: one that is no voter has nothing to withhold, and must not come back as
        // one.
        if self.standing() != Standing::Voter {
            return;
        }
        // Should the disk fail, the next start finds the same again.
        self.stand(Standing::Orphaned);
        self.report_being_orphaned();
        self.report(RebuildReason::Orphaned);
    }

    /// Says what the operator has to decide.
    fn report_being_orphaned(&self) {
        let committed = self.replica.borrow().log.commit();
        log::error!(
            "{}: ORPHANED: this witness holds {committed} committed entries, and all other members have forgotten them. It no longer votes, and keeps them to itself. {}",
            self.name,
            self.remedy(Reason::Orphaned)
        );
    }
}
