//! What a node said, for people and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::config::shown;
use crate::wire::utility::{MembersReply, NodeState, StatusReply};

/// A reply to be shown.
pub(super) enum ShownReply {
    Status(Box<StatusReply>),
    Members(MembersReply),
    Outcome {
        success: bool,
        /// What the node said, with our explanation.
        why: String,
    },
}

/// Most bytes of JSON: a status has at most some hundred members and clients.
const JSON_BYTES_MAX: usize = 256 << 10;

/// `raft status --json`: a field for each key of it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct StatusJson<'a> {
    node: Option<&'a str>,
    version: String,
    state: &'static str,
    leader: Option<&'a str>,
    has_quorum: bool,
    term: u64,
    commit_index: u64,
    last_applied: u64,
    leader_commit_index: Option<u64>,
    log_entries: u64,
    uptime_s: u64,
    members: Vec<PartnerJson<'a>>,
    read_only_clients: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PartnerJson<'a> {
    address: &'a str,
    connected: bool,
    next_index: Option<u64>,
    match_index: Option<u64>,
}

#[derive(Serialize)]
struct MembersJson<'a> {
    members: Vec<MemberJson<'a>>,
}

#[derive(Serialize)]
struct MemberJson<'a> {
    address: &'a str,
    leader: bool,
    connected: bool,
}

#[derive(Serialize)]
struct OutcomeJson<'a> {
    success: bool,
    reply: &'a str,
}

impl ShownReply {
    /// One object and a line end.
    pub(super) fn json(&self) -> String {
        match self {
            Self::Status(status) => object(&StatusJson::from(&**status)),
            Self::Members(members) => object(&MembersJson::from(members)),
            Self::Outcome { success, why } => object(&OutcomeJson {
                success: *success,
                reply: why,
            }),
        }
    }

    /// As a person reads it. A failure is left to who reports it.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Status(status) => write_status(status, &mut text),
            Self::Members(members) => write_members(members, &mut text),
            Self::Outcome { success: true, why } => writeln!(text, "{why}"),
            Self::Outcome { success: false, .. } => Ok(()),
        };
        text
    }
}

fn object(value: &impl Serialize) -> String {
    let mut buffer = vec![0; JSON_BYTES_MAX];
    let written = serde_json_core::to_slice(value, &mut buffer).unwrap_or(0);
    buffer.truncate(written);
    let mut text = String::from_utf8(buffer).unwrap_or_default();
    text.push('\n');
    text
}

impl<'a> From<&'a StatusReply> for StatusJson<'a> {
    fn from(status: &'a StatusReply) -> Self {
        let partner = |partner: &'a crate::wire::utility::PartnerStatus| PartnerJson {
            address: partner.address.as_str(),
            connected: partner.connected,
            next_index: partner.next,
            match_index: partner.matched,
        };
        Self {
            node: status.this.as_ref().map(|address| address.as_str()),
            version: shown(&status.version),
            state: state(status.state),
            leader: status.leader.as_ref().map(|address| address.as_str()),
            has_quorum: status.has_quorum,
            term: status.raft_term.get(),
            commit_index: status.commit_idx,
            last_applied: status.last_applied,
            leader_commit_index: status.leader_commit_idx,
            log_entries: status.log_len,
            uptime_s: status.uptime_s,
            members: status.partners.iter().map(partner).collect(),
            read_only_clients: status.readonly.len(),
        }
    }
}

impl<'a> From<&'a MembersReply> for MembersJson<'a> {
    fn from(reply: &'a MembersReply) -> Self {
        let member = |member: &'a crate::wire::utility::MemberStatus| MemberJson {
            address: member.address.as_str(),
            leader: member.leader,
            connected: member.connected,
        };
        Self {
            members: reply.0.iter().map(member).collect(),
        }
    }
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Follower => "follower",
        NodeState::Candidate => "candidate",
        NodeState::Leader => "leader",
    }
}

fn write_status(status: &StatusReply, text: &mut String) -> std::fmt::Result {
    let node = status.this.as_ref().map_or("(none)", |node| node.as_str());
    let version = match status.version.as_str() {
        ours if ours.starts_with("pg-witness") => shown(ours),
        theirs => format!("pysyncobj {}", shown(theirs)),
    };
    let leader = match (&status.leader, status.state) {
        (_, NodeState::Leader) => String::new(),
        (Some(leader), _) => format!(" of {leader}"),
        (None, _) => ", no leader known".into(),
    };
    let quorum = if status.has_quorum {
        ""
    } else {
        "; no majority is connected"
    };
    writeln!(
        text,
        "node      {node}  ({version}, up {})",
        span(status.uptime_s)
    )?;
    writeln!(
        text,
        "state     {}{leader}, term {}{quorum}",
        state(status.state),
        status.raft_term
    )?;
    writeln!(
        text,
        "log       commit index {}, applied {}, {} entries kept",
        status.commit_idx, status.last_applied, status.log_len
    )?;
    for (place, partner) in status.partners.iter().enumerate() {
        let title = if place == 0 { "members" } else { "" };
        let link = if partner.connected {
            "connected"
        } else {
            "not connected"
        };
        let matched = match partner.matched {
            Some(matched) => format!(", has {matched}"),
            None => String::new(),
        };
        writeln!(text, "{title:<9} {}  {link}{matched}", partner.address)?;
    }
    if !status.readonly.is_empty() {
        writeln!(text, "clients   {} read-only", status.readonly.len())?;
    }
    Ok(())
}

fn write_members(reply: &MembersReply, text: &mut String) -> std::fmt::Result {
    let lengths = reply.0.iter().map(|member| member.address.as_str().len());
    let width = lengths.max().unwrap_or(0);
    for member in &reply.0 {
        let link = if member.connected {
            "connected"
        } else {
            "not connected"
        };
        let leader = if member.leader { "  leader" } else { "" };
        writeln!(text, "{:<width$}  {link}{leader}", member.address.as_str())?;
    }
    Ok(())
}

/// A time in its two largest units.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}
