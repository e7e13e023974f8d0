//! Members whose `add` has not reached us yet.
//!
//! While we were off, or cut off, the group may have added a node. That node may lead
//! by now, or be a candidate with the longest log. Then only that node can send us the
//! entry that adds it; if we ignored it until then, and its group needs our vote, no
//! leader would ever be elected. Raft does not ask for this: a server grants its vote
//! and accepts entries without consulting its own configuration (dissertation, 4.1),
//! because votes are counted by the candidate's configuration and each server has one
//! vote a term.
//!
//! An unknown node need not belong to our group, though: its address may be another
//! cluster's, or it was removed and does not know. So it is accepted only while no
//! leader is heard, only if it shows at its own address a configuration that contains
//! ours, and one at a time. Few nodes are asked at once: a hello may name any address,
//! and we would dial it (S16). What holds for a member holds for it too: its `status`
//! is compared with our log (S13), and it gets a vote only if its log is not behind
//! ours. Until its `add` arrives we neither ask it for votes, nor send it entries, nor
//! count it; if another node leads, it has to wait for its `add`.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::Member;
use crate::address::Address;
use crate::limits;
use crate::links::utility_client::ask_status;
use crate::raft::types::Members;
use crate::reactor::{self, Timer};
use crate::wire::utility::StatusReply;

/// How often a waiting node is considered.
const CONSIDERED_EVERY: Duration = Duration::from_millis(500);

/// Whether the node's group is ours with members added: it lists us and everyone that
/// we list, at least one of whom is neither of us two.
fn is_of_ours_grown(status: &StatusReply, me: &Address, members: &Members) -> bool {
    let Some(this) = &status.this else {
        return false;
    };
    let listed: BTreeSet<&Address> = status.partners.iter().map(|p| &p.address).collect();
    members.len() > 1
        && members.contains(me)
        && !members.contains(this)
        && members.iter().all(|member| listed.contains(member))
}

impl Member {
    /// Whether this node is treated as a member.
    pub(super) fn hears(&self, address: &Address) -> bool {
        self.is_member(address) || self.is_newcomer(address)
    }

    pub(super) fn is_newcomer(&self, address: &Address) -> bool {
        self.newcomers.newcomer.borrow().as_ref() == Some(address)
    }

    /// Whether an unknown node may be accepted now.
    fn may_hear_newcomer(&self) -> bool {
        let current = self.newcomers.newcomer.borrow().clone();
        let taken = current.is_some_and(|current| self.connection(&current).is_some());
        !taken && self.has_voice() && !self.is_withdrawn() && self.known_leader().is_none()
    }

    /// Resolves when an unknown node is accepted.
    pub(super) async fn newcomer_heard(self: &Rc<Self>, address: &Address) {
        while !self.consider_newcomer(address).await {
            Timer::after(CONSIDERED_EVERY).await;
        }
    }

    /// Asks an unknown node for its group. Whether it is accepted.
    async fn consider_newcomer(self: &Rc<Self>, address: &Address) -> bool {
        if !self.may_hear_newcomer() {
            return false;
        }
        let Some(_question) = self.newcomers.questions.try_acquire() else {
            return false;
        };
        let keys = self.keys.borrow().clone();
        let Ok(status) = ask_status(address, &keys, limits::STATUS_TIME_MAX).await else {
            return false;
        };
        let grown = {
            let replica = self.replica.borrow();
            is_of_ours_grown(&status, &self.me, replica.log.members())
        };
        if !grown || !self.may_hear_newcomer() {
            return false;
        }
        if let Some(times) = self.counts.tallies.count("newcomer") {
            let name = &self.name;
            log::warn!(
                "{name}: no leader is heard; accepting a member whose add has not arrived: {address}{times}"
            );
        }
        *self.newcomers.newcomer.borrow_mut() = Some(address.clone());
        self.sync_links();
        true
    }

    /// Considers the unknown nodes that a member lists in its `status` and that are
    /// ours to dial.
    pub(super) fn seek_newcomer(self: &Rc<Self>, status: &StatusReply) {
        let listed = status.partners.iter().map(|partner| &partner.address);
        let unknown = listed.filter(|a| **a < self.me && !self.hears(a));
        for address in unknown.take(limits::PARTNERS_MAX) {
            let (member, address) = (self.clone(), address.clone());
            reactor::spawn(async move {
                member.consider_newcomer(&address).await;
            })
            .detach();
        }
    }

    /// Ends the exception when the `add` has arrived, or another node leads.
    pub(super) fn review_newcomer(self: &Rc<Self>) {
        let Some(newcomer) = self.newcomers.newcomer.borrow().clone() else {
            return;
        };
        let led = self.known_leader().is_some_and(|leader| leader != newcomer);
        if self.is_member(&newcomer) || led {
            self.newcomers.newcomer.take();
            self.sync_links();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;
    use crate::wire::utility::{NodeState, PartnerStatus};

    fn address(name: &str) -> Address {
        format!("{name}:2222").parse().unwrap()
    }

    fn of(this: Option<&str>, partners: &str) -> StatusReply {
        let partner = |name: &str| PartnerStatus {
            address: address(name),
            connected: true,
            next: None,
            matched: None,
        };
        StatusReply {
            version: "0.3.17".into(),
            this: this.map(address),
            state: NodeState::Candidate,
            leader: None,
            has_quorum: true,
            partners: partners.split_whitespace().map(partner).collect(),
            readonly: Vec::new(),
            log_len: 9,
            last_applied: 9,
            commit_idx: 9,
            raft_term: Term::ZERO,
            leader_commit_idx: None,
            uptime_s: 1,
            self_code_version: 0,
            enabled_code_version: 0,
        }
    }

    #[test]
    fn only_our_own_group_grown_is_heard() {
        for (members, this, partners, heard) in [
            ("A B W", Some("C"), "A B W", true),
            // Another was added as well.
            ("A B W", Some("C"), "A B D W", true),
            // A group that does not know us, or not all of us.
            ("A B W", Some("C"), "A B", false),
            ("A B W", Some("C"), "A W", false),
            ("A B W", Some("C"), "X Y W", false),
            ("A B W", Some("C"), "", false),
            ("A B W", None, "A B W", false),
            // No newcomer.
            ("A B W", Some("A"), "A B W", false),
            // We are no member any more, or the only one.
            ("A B", Some("C"), "A B W", false),
            ("W", Some("C"), "W", false),
        ] {
            let listed: Members = members.split(' ').map(address).collect();
            let found = is_of_ours_grown(&of(this, partners), &address("W"), &listed);
            assert_eq!(found, heard, "{members}: {this:?} lists {partners}");
        }
    }
}
