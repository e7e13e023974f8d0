//! What the tables of the tests are made of.

use crate::address::Address;
use crate::ids::Term;
use crate::wire::utility::{NodeState, PartnerStatus, StatusReply};

/// A node's address by its name.
pub fn address(name: &str) -> Address {
    format!("{name}:2222").parse().unwrap()
}

/// Those of several, as `A B C`.
pub fn addresses(names: &str) -> Vec<Address> {
    names.split_whitespace().map(address).collect()
}

/// The `status` of a follower that lists `partners`.
pub fn status(
    this: &str,
    partners: &str,
    log_len: u64,
    last_applied: u64,
    commit_idx: u64,
) -> StatusReply {
    let partner = |address| PartnerStatus {
        address,
        connected: true,
        next: None,
        matched: None,
    };
    StatusReply {
        version: "0.3.17".into(),
        this: Some(address(this)),
        state: NodeState::Follower,
        leader: None,
        has_quorum: true,
        partners: addresses(partners).into_iter().map(partner).collect(),
        readonly: Vec::new(),
        log_len,
        last_applied,
        commit_idx,
        raft_term: Term::ZERO,
        leader_commit_idx: None,
        uptime_s: 0,
        self_code_version: 0,
        enabled_code_version: 0,
    }
}
