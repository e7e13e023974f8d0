//! What can be seen of a node: `status`, `members`, and for tests and oracles its
//! state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::wire::Value;

use super::node::{Node, State};
use super::{Entry, NodeId};

impl Node {
    /// `getStatus`.
    pub fn status(&self) -> Value {
        let count = |count: usize| Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
        let shown = |node: &NodeId| Value::Int(if self.connected.contains(node) { 2 } else { 0 });
        let mut status: Vec<(String, Value)> = Vec::new();
        let mut put = |name: &str, value: Value| status.push((name.to_owned(), value));
        put("version", Value::str(self.config.version.text()));
        put("revision", Value::str("deprecated"));
        put("self", Value::Node(self.config.address.as_str().into()));
        put("state", Value::Int(self.state as i64));
        put("leader", node_or_none(self.leader.as_ref()));
        put("has_quorum", Value::Bool(self.has_quorum()));
        put("partner_nodes_count", count(self.members.len()));
        for member in &self.members {
            let node = NodeId::Member(member.clone());
            put(
                &format!("partner_node_status_server_{member}"),
                shown(&node),
            );
        }
        put("readonly_nodes_count", count(self.clients.len()));
        for client in &self.clients {
            put(
                &format!("readonly_node_status_server_{}", client.id()),
                shown(client),
            );
        }
        put("log_len", count(self.journal.log().len()));
        put("last_applied", Value::Int(self.applied));
        put("commit_idx", Value::Int(self.commit));
        put("raft_term", Value::Int(self.term));
        for (name, indices) in [("next_node_idx", &self.next), ("match_idx", &self.matched)] {
            put(&format!("{name}_count"), count(indices.len()));
            for (node, index) in indices {
                put(&format!("{name}_server_{}", node.id()), Value::Int(*index));
            }
        }
        put(
            "leader_commit_idx",
            self.leader_commit.map_or(Value::None, Value::Int),
        );
        put(
            "uptime",
            Value::Int(whole_seconds(self.now_s - self.started_s)),
        );
        put("self_code_version", Value::Int(0));
        put("enabled_code_version", Value::Int(self.code_version));
        let pairs = status
            .into_iter()
            .map(|(name, value)| (Value::str(&name), value));
        Value::Dict(pairs.collect())
    }

    /// `getMembers` of Patroni: this node stands last.
    pub(super) fn member_list(&self) -> Value {
        let line = |address: &Address, leader: bool, connected: bool| {
            Value::dict([
                ("addr", Value::str(address.as_str())),
                ("leader", Value::Bool(leader)),
                ("status", Value::Int(if connected { 2 } else { 0 })),
            ])
        };
        let others = self.members.iter().map(|member| {
            let node = NodeId::Member(member.clone());
            let leads = self.leader.as_ref() == Some(&node);
            line(member, leads, self.connected.contains(&node))
        });
        let this = line(&self.config.address, self.state == State::Leader, true);
        Value::list(others.chain([this]))
    }

    fn has_quorum(&self) -> bool {
        let connected = self.members.iter().filter(|member| {
            let node = NodeId::Member((*member).clone());
            self.connected.contains(&node)
        });
        self.is_majority(connected.count() + 1)
    }

    /// All of the state, by name, as the real one's is read out by
    /// `tests/python/pysyncobj_host.py`; what `status` shows and what it does not.
    pub fn internals(&self) -> Vec<(&'static str, Value)> {
        let float = |seconds: f64| Value::Float(seconds);
        let indices = |of: &BTreeMap<NodeId, i64>| {
            Value::list(
                of.iter()
                    .map(|(node, index)| pair(node.id(), Value::Int(*index))),
            )
        };
        let optional = |number: Option<i64>| number.map_or(Value::None, Value::Int);
        let ids = |nodes: &BTreeSet<NodeId>| Value::list(nodes.iter().map(name));
        let responses = self.last_response_s.iter();
        let waiting = self.awaiting_commit.iter().map(|(index, waiting)| {
            let terms = waiting.iter().map(|(term, _)| Value::Int(*term));
            Value::tuple([Value::Int(*index), Value::list(terms)])
        });
        let links = self.transport.connections().map(|(node, link)| {
            let state = Value::Int(link.state as i64);
            let socket = link.socket.and_then(|socket| i64::try_from(socket.0).ok());
            let (socket, read) = (optional(socket), float(link.last_read_s));
            Value::tuple([name(node), state, socket, read])
        });
        let count = i64::try_from(self.queue.len()).unwrap_or(i64::MAX);
        let votes = i64::try_from(self.votes).unwrap_or(i64::MAX);
        vec![
            ("state", Value::Int(self.state as i64)),
            ("term", Value::Int(self.term)),
            (
                "voted_for",
                self.voted_for.as_deref().map_or(Value::None, Value::str),
            ),
            ("votes", Value::Int(votes)),
            ("leader", self.leader.as_ref().map_or(Value::None, name)),
            ("deadline", float(self.deadline_s)),
            ("transferring", Value::Bool(self.transferring)),
            ("commit", Value::Int(self.commit)),
            ("applied", Value::Int(self.applied)),
            ("leader_commit", optional(self.leader_commit)),
            ("log", Value::list(self.log().iter().map(Entry::to_value))),
            (
                "members",
                Value::list(self.members().map(|member| Value::str(member.as_str()))),
            ),
            ("clients", ids(&self.clients)),
            ("connected", ids(&self.connected)),
            ("connected_to_none", Value::Bool(self.connected_to_none)),
            ("links", Value::list(links)),
            ("next", indices(&self.next)),
            ("match", indices(&self.matched)),
            (
                "responses",
                Value::list(responses.map(|(node, at)| pair(node.id(), float(*at)))),
            ),
            ("noop", optional(self.noop)),
            ("next_append", float(self.next_append_s)),
            ("queue", Value::Int(count)),
            (
                "replies",
                Value::list(self.awaiting_reply.keys().map(|id| Value::Int(*id))),
            ),
            ("commits", Value::list(waiting)),
            (
                "fragments",
                self.fragments.as_deref().map_or(Value::None, Value::bytes),
            ),
            ("data", Value::Dict(self.store.data.clone().into())),
            ("limb", Value::Dict(self.store.limb().clone().into())),
            ("code_version", Value::Int(self.code_version)),
            ("ready", Value::Bool(self.is_ready())),
            ("local_log", Value::Bool(self.has_applied_local_log())),
        ]
    }

    /// Its own address.
    pub fn address(&self) -> &Address {
        &self.config.address
    }

    /// What it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its term.
    pub fn term(&self) -> i64 {
        self.term
    }

    /// Whom it voted for in this term.
    pub fn voted_for(&self) -> Option<&str> {
        self.voted_for.as_deref()
    }

    /// Whom it takes for the leader.
    pub fn leader(&self) -> Option<&NodeId> {
        self.leader.as_ref()
    }

    /// The log from its first entry on that is kept.
    pub fn log(&self) -> &[Entry] {
        self.journal.log()
    }

    /// Commit index.
    pub fn commit(&self) -> i64 {
        self.commit
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> i64 {
        self.applied
    }

    /// The other members, as of the end of its log.
    pub fn members(&self) -> impl Iterator<Item = &Address> {
        self.members.iter()
    }

    /// The nodes that it counts as connected; a member that was removed stays
    /// among them.
    pub fn connected(&self) -> impl Iterator<Item = &NodeId> {
        self.connected.iter()
    }

    /// Keys and stored values, in Python's order.
    pub fn data(&self) -> &[(Value, Value)] {
        &self.store.data
    }
}

fn name(node: &NodeId) -> Value {
    Value::str(&node.id())
}

fn pair(node: String, value: Value) -> Value {
    Value::tuple([Value::str(&node), value])
}

fn node_or_none(node: Option<&NodeId>) -> Value {
    node.map_or(Value::None, |node| Value::Node(node.id().as_str().into()))
}

/// Seconds of uptime, rounded down.
fn whole_seconds(seconds: f64) -> i64 {
    let uptime = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    i64::try_from(uptime.as_secs()).unwrap_or(i64::MAX)
}
