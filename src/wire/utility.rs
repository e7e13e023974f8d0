//! Utility requests and their replies (spec 3.8): how operators, starting
//! members and `syncobj_admin` talk to a node.

use std::fmt::{self, Write as _};

use super::error::MessageError;
use super::pickle::{Encode, PickleWriter};
use super::value::Value;
use crate::address::Address;
use crate::ids::Term;
use crate::limits::ENTRIES_MAX;

/// A request as it came; never refused, so that every list gets an answer (a
/// Python node dies of an unknown one, H2).
#[derive(Debug, Clone, PartialEq)]
pub enum UtilityRequest {
    /// Who is in the cluster. Only Patroni's nodes serve it.
    Members,
    /// How the node is.
    Status,
    /// Add a member.
    Add(MemberTarget),
    /// Remove a member.
    Remove(MemberTarget),
    /// Enable a version of the replicated code; Patroni knows only 0.
    SetVersion(i64),
    /// Hand leadership over, to the named member or the best one
    /// (>= 0.3.16).
    Transfer(Option<Address>),
    /// Anything else.
    Unknown,
}

/// The member that a request is about.
#[derive(Debug, Clone, PartialEq)]
pub enum MemberTarget {
    /// As it should be.
    Address(Address),
    /// What every `patronictl` run sends: `['add', None]`.
    None,
    /// A text that is no address, or no text at all: its text.
    Odd(String),
}

impl MemberTarget {
    fn from_value(value: Option<&Value>) -> Self {
        match value {
            Some(Value::None) => Self::None,
            Some(Value::Str(text)) => {
                let text = text.as_str().unwrap_or("?");
                match text.parse() {
                    Ok(address) => Self::Address(address),
                    Err(_) => Self::Odd(text.chars().take(300).collect()),
                }
            }
            _ => Self::Odd("?".into()),
        }
    }

    /// The address, if it is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Address(address) => Some(address),
            Self::None | Self::Odd(_) => None,
        }
    }

    /// Python's answer to `add` of what is no address.
    pub fn complaint(&self) -> Option<&'static str> {
        match self {
            Self::Address(_) => None,
            Self::None => Some("'NoneType' object has no attribute 'rsplit'"),
            Self::Odd(_) => Some("not enough values to unpack (expected 2, got 1)"),
        }
    }
}

impl fmt::Display for MemberTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::None => f.write_str("None"),
            Self::Odd(text) => f.write_str(text),
        }
    }
}

impl UtilityRequest {
    /// Reads a request that follows another on the same connection.
    ///
    /// # Errors
    /// When it is no list.
    pub fn decode(value: &Value) -> Result<Self, MessageError> {
        match value {
            Value::List(items) => Ok(Self::from_items(items)),
            _ => Err(MessageError::NotHello),
        }
    }

    pub(super) fn from_items(items: &[Value]) -> Self {
        let word = items.first().and_then(Value::as_str);
        let argument = items.get(1);
        match word {
            Some("members") => Self::Members,
            Some("status") => Self::Status,
            Some("add") => Self::Add(MemberTarget::from_value(argument)),
            Some("remove") => Self::Remove(MemberTarget::from_value(argument)),
            Some("set_version") => match argument.and_then(Value::as_int) {
                Some(version) => Self::SetVersion(version),
                None => Self::Unknown,
            },
            Some("transfer") => match argument.and_then(Value::as_str) {
                Some("") => Self::Transfer(None),
                Some(text) => match text.parse() {
                    Ok(address) => Self::Transfer(Some(address)),
                    Err(_) => Self::Unknown,
                },
                None => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }

    /// The reply of a request that was carried out, or not: `SUCCESS ADD
    /// host:port`, `FAIL TRANSFER ` (with its trailing space).
    pub fn outcome(&self, success: bool) -> String {
        let mut text = String::from(if success { "SUCCESS" } else { "FAIL" });
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Members => write!(text, " MEMBERS"),
            Self::Status => write!(text, " STATUS"),
            Self::Add(target) => write!(text, " ADD {target}"),
            Self::Remove(target) => write!(text, " REMOVE {target}"),
            Self::SetVersion(version) => write!(text, " SET_VERSION {version}"),
            Self::Transfer(Some(address)) => write!(text, " TRANSFER {address}"),
            Self::Transfer(None) => write!(text, " TRANSFER "),
            Self::Unknown => write!(text, " UNKNOWN"),
        };
        text
    }
}

/// The answer to `set_version`, of which only version 0 can succeed.
pub fn set_version_reply(version: i64) -> String {
    if version == 0 {
        return UtilityRequest::SetVersion(0).outcome(true);
    }
    format!("wrong version, current version is 0, requested version is {version}")
}

impl Encode for UtilityRequest {
    fn encode(&self, w: &mut PickleWriter<'_>) {
        w.list();
        match self {
            Self::Members => w.str("members"),
            Self::Status => w.str("status"),
            Self::Add(target) => write_target(w, "add", target),
            Self::Remove(target) => write_target(w, "remove", target),
            Self::SetVersion(version) => {
                w.str("set_version");
                w.int(*version);
            }
            Self::Transfer(to) => {
                w.str("transfer");
                w.str(to.as_ref().map_or("", Address::as_str));
            }
            // Never made by us: it would kill a Python node (H2). `status` is
            // what every node answers.
            Self::Unknown => w.str("status"),
        }
        w.end_list();
    }
}

fn write_target(w: &mut PickleWriter<'_>, word: &str, target: &MemberTarget) {
    w.str(word);
    match target {
        MemberTarget::Address(address) => w.str(address.as_str()),
        MemberTarget::None => w.none(),
        MemberTarget::Odd(text) => w.str(text),
    }
}

/// One line of the reply to `members`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// The member.
    pub address: Address,
    /// Whether the answering node takes it for the leader.
    pub leader: bool,
    /// Whether the answering node is connected to it; always so for itself.
    pub connected: bool,
}

/// The reply to `members`: the answering node stands last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersReply(pub Vec<MemberStatus>);

impl MembersReply {
    /// The node that answered.
    pub fn this(&self) -> Option<&MemberStatus> {
        self.0.last()
    }

    /// Reads a peer's reply.
    ///
    /// # Errors
    /// When it is no list of members; the peer may have answered with a text.
    pub fn decode(value: &Value) -> Result<Self, MessageError> {
        const MALFORMED: MessageError = MessageError::Field("members");
        let items = value.as_seq().ok_or(MALFORMED)?;
        if items.len() > ENTRIES_MAX {
            return Err(MessageError::TooManyEntries);
        }
        let member = |item: &Value| {
            Ok(MemberStatus {
                address: address(item.get("addr")).ok_or(MALFORMED)?,
                leader: item.get("leader").is_some_and(Value::truthy),
                connected: item.get("status").is_some_and(Value::truthy),
            })
        };
        items.iter().map(member).collect::<Result<_, _>>().map(Self)
    }
}

impl Encode for MembersReply {
    fn encode(&self, w: &mut PickleWriter<'_>) {
        w.list();
        for member in &self.0 {
            w.dict();
            w.str("addr");
            w.str(member.address.as_str());
            w.str("leader");
            w.bool(member.leader);
            w.str("status");
            w.int(connection(member.connected));
            w.end_dict();
        }
        w.end_list();
    }
}

/// What a node is, as `status` counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// 0
    Follower,
    /// 1
    Candidate,
    /// 2
    Leader,
}

/// A partner in a `status` reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartnerStatus {
    /// The partner.
    pub address: Address,
    /// Whether the answering node is connected to it.
    pub connected: bool,
    /// The next index to send to it, at a leader.
    pub next: Option<u64>,
    /// The last index that it holds for sure, at a leader.
    pub matched: Option<u64>,
}

/// How the version of a node begins that is a witness.
pub const WITNESS: &str = "pg-witness";

/// The reply to `status`. Decoding a peer's needs `raft_term`, `commit_idx`
/// and `log_len`, and takes the rest as far as it is there. A field for each key of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusReply {
    /// The version of pysyncobj that the node runs, or claims.
    pub version: String,
    /// The node itself; none for a read-only one.
    pub this: Option<Address>,
    /// What it is.
    pub state: NodeState,
    /// Whom it takes for the leader.
    pub leader: Option<Address>,
    /// Whether it is connected to a majority (>= 0.3.11).
    pub has_quorum: bool,
    /// The other members.
    pub partners: Vec<PartnerStatus>,
    /// Read-only clients: id and whether connected.
    pub readonly: Vec<(String, bool)>,
    /// Entries in the log, the compacted ones not counted.
    pub log_len: u64,
    /// Index of the last entry applied.
    pub last_applied: u64,
    /// Commit index.
    pub commit_idx: u64,
    /// Current term.
    pub raft_term: Term,
    /// The leader's commit index, as far as known.
    pub leader_commit_idx: Option<u64>,
    /// Seconds since the node's start.
    pub uptime_s: u64,
    /// Version of the replicated code that the node has.
    pub self_code_version: i64,
    /// Version of the replicated code that is enabled.
    pub enabled_code_version: i64,
}

const PARTNER: &str = "partner_node_status_server_";
const READONLY: &str = "readonly_node_status_server_";
const NEXT: &str = "next_node_idx_server_";
const MATCH: &str = "match_idx_server_";

impl StatusReply {
    /// Whether the node says that it is a witness.
    pub fn is_of_witness(&self) -> bool {
        self.version.starts_with(WITNESS)
    }

    /// Reads a peer's reply.
    ///
    /// # Errors
    /// When it is no dict, or lacks what we need.
    pub fn decode(value: &Value) -> Result<Self, MessageError> {
        let Value::Dict(pairs) = value else {
            return Err(MessageError::NotMessage);
        };
        let need = |name| count(value.get(name)).ok_or(MessageError::Field(name));
        let term = Term::new(need("raft_term")?).ok_or(MessageError::Field("raft_term"))?;
        let code = |name| value.get(name).and_then(Value::as_int).unwrap_or(0);
        let mut partners = Vec::new();
        let mut readonly = Vec::new();
        for (key, status) in pairs.iter() {
            let Some(key) = key.as_str() else { continue };
            if let Some(Ok(address)) = key.strip_prefix(PARTNER).map(str::parse::<Address>) {
                let of = |prefix: &str| count(value.get(&format!("{prefix}{address}")));
                partners.push(PartnerStatus {
                    connected: status.truthy(),
                    next: of(NEXT),
                    matched: of(MATCH),
                    address,
                });
            } else if let Some(id) = key.strip_prefix(READONLY) {
                readonly.push((id.to_owned(), status.truthy()));
            }
            // Looking up a partner's indices takes a pass over the dict each.
            if partners.len() + readonly.len() > PARTNERS_MAX {
                return Err(MessageError::TooManyEntries);
            }
        }
        Ok(Self {
            version: text(value.get("version")).unwrap_or_default().to_owned(),
            this: address(value.get("self")),
            state: match code("state") {
                1 => NodeState::Candidate,
                2 => NodeState::Leader,
                _ => NodeState::Follower,
            },
            leader: address(value.get("leader")),
            has_quorum: value.get("has_quorum").is_some_and(Value::truthy),
            partners,
            readonly,
            log_len: need("log_len")?,
            last_applied: count(value.get("last_applied")).unwrap_or(0),
            commit_idx: need("commit_idx")?,
            raft_term: term,
            leader_commit_idx: count(value.get("leader_commit_idx")),
            uptime_s: count(value.get("uptime")).unwrap_or(0),
            self_code_version: code("self_code_version"),
            enabled_code_version: code("enabled_code_version"),
        })
    }
}

/// Most partners and clients of a `status` reply.
const PARTNERS_MAX: usize = 64;

impl Encode for StatusReply {
    /// Addresses are plain text: who reads a status only prints it (spec 3.8).
    fn encode(&self, w: &mut PickleWriter<'_>) {
        let entry = |w: &mut PickleWriter<'_>, name: &str, number: u64| {
            w.str(name);
            w.uint(number);
        };
        let len = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        w.dict();
        w.str("version");
        w.str(&self.version);
        w.str("revision");
        w.str("deprecated");
        w.str("self");
        write_address(w, self.this.as_ref());
        w.str("state");
        w.int(match self.state {
            NodeState::Follower => 0,
            NodeState::Candidate => 1,
            NodeState::Leader => 2,
        });
        w.str("leader");
        write_address(w, self.leader.as_ref());
        w.str("has_quorum");
        w.bool(self.has_quorum);
        entry(w, "partner_nodes_count", len(self.partners.len()));
        for partner in &self.partners {
            w.str(&format!("{PARTNER}{}", partner.address));
            w.int(connection(partner.connected));
        }
        entry(w, "readonly_nodes_count", len(self.readonly.len()));
        for (id, connected) in &self.readonly {
            w.str(&format!("{READONLY}{id}"));
            w.int(connection(*connected));
        }
        entry(w, "log_len", self.log_len);
        entry(w, "last_applied", self.last_applied);
        entry(w, "commit_idx", self.commit_idx);
        entry(w, "raft_term", self.raft_term.get());
        let next = self.partners.iter().filter_map(|p| Some((p, p.next?)));
        entry(w, "next_node_idx_count", len(next.clone().count()));
        for (partner, index) in next {
            entry(w, &format!("{NEXT}{}", partner.address), index);
        }
        let matched = self.partners.iter().filter_map(|p| Some((p, p.matched?)));
        entry(w, "match_idx_count", len(matched.clone().count()));
        for (partner, index) in matched {
            entry(w, &format!("{MATCH}{}", partner.address), index);
        }
        w.str("leader_commit_idx");
        match self.leader_commit_idx {
            Some(index) => w.uint(index),
            None => w.none(),
        }
        entry(w, "uptime", self.uptime_s);
        w.str("self_code_version");
        w.int(self.self_code_version);
        w.str("enabled_code_version");
        w.int(self.enabled_code_version);
        w.end_dict();
    }
}

fn write_address(w: &mut PickleWriter<'_>, address: Option<&Address>) {
    match address {
        Some(address) => w.str(address.as_str()),
        None => w.none(),
    }
}

/// PySyncObj's 2 for connected and 0 for not.
fn connection(connected: bool) -> i64 {
    if connected { 2 } else { 0 }
}

fn count(value: Option<&Value>) -> Option<u64> {
    value?.as_int().and_then(|count| u64::try_from(count).ok())
}

fn text(value: Option<&Value>) -> Option<&str> {
    match value? {
        Value::Node(id) => id.as_str(),
        other => other.as_str(),
    }
}

fn address(value: Option<&Value>) -> Option<Address> {
    text(value)?.parse().ok()
}
