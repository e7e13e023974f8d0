//! Members whose `add` is still on its way to us.
//!
//! While we were off, or cut off, the group may have taken a node in. That node may
//! lead by now, or stand for election with the longest log of all: then the entry
//! that adds it can only come from itself, and where its group needs our vote, or a
//! majority without us is lost, it never comes to whoever first looks at the list
//! of members. Raft does not look there (dissertation, 4.1): a member gives its
//! vote, and follows, whether or not it knows who asks, for a vote is counted by
//! the list of the one who asks, and each member has one vote a term.
//!
//! But not everybody who asks is of our group: an address may have been of another
//! cluster, or a node removed without its knowledge. So a node that we do not know
//! is heard only while no leader is, only if it tells at its own address that its
//! group is ours and itself, and one at a time. Whatever else holds for a member
//! holds for it: its `status` is compared with our log (S13), and a vote is given
//! only to a log that is not behind ours. Few are asked at once: a hello may name any
//! address, and would have us dial it (S16). It is nobody whom we would ask for a vote,
//! teach, or count, before its `add` has come; if another leads it must wait for
//! that like everybody else.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::Member;
use crate::config::limits;
use crate::links::utility_client::ask_status;
use crate::raft::runtime;
use crate::raft::types::Members;
use crate::reactor::Timer;
use crate::wire::Address;
use crate::wire::utility::StatusReply;

/// How often it is considered whether whoever waits is to be heard.
const CONSIDERED_EVERY: Duration = Duration::from_millis(500);

/// Whether the node that says so is of a group that is ours, grown: it lists us and
/// all that we list, one of whom at least is neither of us two.
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
    /// Whether what this node says as a member is heard.
    pub(super) fn hears(&self, address: &Address) -> bool {
        self.is_member(address) || self.is_newcomer(address)
    }

    pub(super) fn is_newcomer(&self, address: &Address) -> bool {
        self.newcomer.borrow().as_ref() == Some(address)
    }

    /// Whom we would hear now, though we do not know it.
    fn may_hear_newcomer(&self) -> bool {
        let current = self.newcomer.borrow().clone();
        let taken = current.is_some_and(|current| self.connection(&current).is_some());
        !taken && self.has_voice() && !self.is_withdrawn() && self.known_leader().is_none()
    }

    /// Resolves when a node that we do not know is to be heard as a member.
    pub(super) async fn newcomer_heard(self: &Rc<Self>, address: &Address) {
        while !self.consider_newcomer(address).await {
            Timer::after(CONSIDERED_EVERY).await;
        }
    }

    /// Asks a node that we do not know for its group; whether it is to be heard.
    async fn consider_newcomer(self: &Rc<Self>, address: &Address) -> bool {
        if !self.may_hear_newcomer() {
            return false;
        }
        let Some(_question) = self.newcomer_questions.try_acquire() else {
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
        if let Some(times) = self.tallies.count("newcomer") {
            log::warn!(
                "{}: {address} is of this group, but the entry that adds it has not come here; \
                 hearing it, for no leader is heard{times}",
                self.name
            );
        }
        *self.newcomer.borrow_mut() = Some(address.clone());
        self.sync_links();
        true
    }

    /// Looks for a node that we do not know, and that is ours to dial, where a member
    /// shows whom it lists.
    pub(super) fn seek_newcomer(self: &Rc<Self>, status: &StatusReply) {
        let listed = status.partners.iter().map(|partner| &partner.address);
        let unknown = listed.filter(|a| **a < self.me && !self.hears(a));
        for address in unknown.take(limits::PARTNERS_MAX) {
            let (member, address) = (self.clone(), address.clone());
            runtime::spawn(async move {
                member.consider_newcomer(&address).await;
            })
            .detach();
        }
    }

    /// Ends it when the `add` has come, or another leads.
    pub(super) fn review_newcomer(self: &Rc<Self>) {
        let Some(newcomer) = self.newcomer.borrow().clone() else {
            return;
        };
        let led = self.known_leader().is_some_and(|leader| leader != newcomer);
        if self.is_member(&newcomer) || led {
            self.newcomer.take();
            self.sync_links();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Term;
    use crate::wire::utility::{PartnerStatus, State};

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
            state: State::Candidate,
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
