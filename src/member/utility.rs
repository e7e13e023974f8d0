//! Requests of operators and of other nodes: `members`, `status`, `add`,
//! `remove`, `transfer` (spec 3.8), answered in Python's own words.

use std::net::SocketAddr;
use std::rc::Rc;

use super::Member;
use crate::address::Address;
use crate::limits;
use crate::links::leader::Peer;
use crate::raft::engine::Role;
use crate::wire::command;
use crate::wire::message::Message;
use crate::wire::utility::{
    MemberStatus, MemberTarget, MembersReply, NodeState, PartnerStatus, StatusReply,
    UtilityRequest, set_version_reply,
};

/// A reply of ours.
pub enum Reply {
    /// To `members`.
    Members(MembersReply),
    /// To `status`.
    Status(Box<StatusReply>),
    /// To everything else.
    Text(String),
}

/// The version that we show: peers take one of 0.3.16 or later for a node that
/// keeps its term and understands `timeout_now`, which this one does.
const VERSION: &str = concat!("pg-witness ", env!("CARGO_PKG_VERSION"));

impl Member {
    /// Serves one request.
    pub(super) async fn on_utility(
        self: &Rc<Self>,
        request: UtilityRequest,
        from: SocketAddr,
    ) -> Reply {
        let done = match &request {
            UtilityRequest::Members => return Reply::Members(self.members()),
            UtilityRequest::Status => return Reply::Status(Box::new(self.status())),
            UtilityRequest::SetVersion(version) => return Reply::Text(set_version_reply(*version)),
            UtilityRequest::Add(target) => match target {
                MemberTarget::Address(address) => self.change_members(true, address, from).await,
                // Every patronictl asks to add None (spec 3.8).
                other => return Reply::Text(other.complaint().unwrap_or_default().into()),
            },
            UtilityRequest::Remove(MemberTarget::Address(address)) => {
                *address != self.me && self.change_members(false, address, from).await
            }
            UtilityRequest::Transfer(target) => self.transfer_to(target.as_ref()).is_some(),
            UtilityRequest::Remove(_) | UtilityRequest::Unknown => false,
        };
        Reply::Text(request.outcome(done))
    }

    async fn change_members(
        self: &Rc<Self>,
        add: bool,
        address: &Address,
        from: SocketAddr,
    ) -> bool {
        if self.is_member(address) == add {
            return true;
        }
        let what = if add { "add" } else { "remove" };
        let who = match self.member_at(from.ip()) {
            Some(member) => format!("from the host of member {member}"),
            None => "from no member's host".into(),
        };
        if let Some(times) = self.counts.tallies.count_of_member("membership") {
            log::warn!(
                "{}: {from} asks to {what} {address}, {who}{times}",
                self.name
            );
        }
        self.execute(
            command::membership(add, address),
            limits::MEMBERSHIP_TIME_MAX,
        )
        .await
    }

    fn transfer_to(&self, target: Option<&Address>) -> Option<()> {
        let leadership = self.leadership.borrow();
        let leadership = leadership.as_ref()?;
        let last = self.replica.borrow().log.last().index;
        let holds_all = |address: &Address| {
            leadership.leader.matched(&Peer::Member(address.clone())) == Some(last)
        };
        let members = self.replica.borrow().log.members().clone();
        let chosen = members.into_iter().find(|address| {
            let named = target.is_none_or(|target| target == address);
            named && *address != self.me && holds_all(address)
        })?;
        self.connection(&chosen)?.send(&Message::TimeoutNow {
            term: leadership.term,
        });
        Some(())
    }

    pub(super) fn members(&self) -> MembersReply {
        let leader = self.known_leader();
        let replica = self.replica.borrow();
        let others = replica
            .log
            .members()
            .iter()
            .filter(|address| **address != self.me);
        // Ourselves last, as Python does.
        let all = others
            .chain(std::iter::once(&self.me))
            .map(|address| MemberStatus {
                address: address.clone(),
                leader: leader.as_ref() == Some(address),
                connected: *address == self.me || self.connection(address).is_some(),
            });
        MembersReply(all.collect())
    }

    fn status(&self) -> StatusReply {
        let leader = self.known_leader();
        let replica = self.replica.borrow();
        let log = &replica.log;
        let leadership = self.leadership.borrow();
        let state = match self.role() {
            Role::Leader if leadership.is_some() => NodeState::Leader,
            Role::Candidate => NodeState::Candidate,
            _ => NodeState::Follower,
        };
        let partners: Vec<PartnerStatus> = log
            .members()
            .iter()
            .filter(|address| **address != self.me)
            .map(|address| {
                let matched = leadership.as_ref().map(|leadership| {
                    let peer = Peer::Member(address.clone());
                    leadership.leader.matched(&peer).map_or(0, |m| m.get())
                });
                PartnerStatus {
                    address: address.clone(),
                    connected: self.connection(address).is_some(),
                    next: matched.map(|m| m.saturating_add(1)),
                    matched,
                }
            })
            .collect();
        let connected = partners.iter().filter(|partner| partner.connected).count();
        StatusReply {
            version: VERSION.into(),
            this: Some(self.me.clone()),
            state,
            has_quorum: connected.saturating_add(1) > log.members().len() / 2,
            partners,
            readonly: self
                .sockets
                .read_only
                .borrow()
                .keys()
                .map(|id| (id.0.to_string(), true))
                .collect(),
            log_len: u64::try_from(log.len()).unwrap_or(u64::MAX),
            last_applied: replica.applied.get(),
            commit_idx: log.commit().get(),
            // While the engine is rebuilt too: a term of 0 would look like a past
            // that was forgotten (S13).
            raft_term: self
                .engine()
                .map_or(replica.vote.term.term, |engine| engine.plain_term()),
            leader_commit_idx: leader.is_some().then(|| log.commit().get()),
            leader,
            uptime_s: self.started.elapsed().as_secs(),
            self_code_version: 0,
            enabled_code_version: 0,
        }
    }
}
