//! The messages of spec 3, as types that cannot be half-filled.
//!
//! Decoding is tolerant where Python is (unknown types and extra keys are
//! ignored) and refuses what would make an impossible message: entries that are
//! not consecutive, terms and indices out of range.

use std::sync::Arc;

use super::error::MessageError;
use super::pickle;
use super::utility;
use super::value::Value;
use crate::address::Address;
use crate::ids::{Entry, EntryId, LogIndex, Term};
use crate::limits::ENTRIES_MAX;

mod encode;

pub use encode::AppendEntries;

/// What a dialling read-only client says first.
const READ_ONLY: &str = "readonly";

/// The first message of a connection (spec 1.3).
#[derive(Debug, Clone, PartialEq)]
pub enum Hello {
    /// A member, by its advertised address.
    Member(Address),
    /// A client that follows the log without a vote: `patronictl`.
    ReadOnly,
    /// A request; more may follow on the same connection.
    Utility(utility::UtilityRequest),
}

impl Hello {
    /// Reads the first message of a connection.
    ///
    /// # Errors
    /// When it is neither text nor a list; Python closes such a connection.
    pub fn decode(value: &Value) -> Result<Self, MessageError> {
        match value {
            Value::Str(text) => match text.as_str() {
                Some(READ_ONLY) => Ok(Self::ReadOnly),
                Some(text) => match text.parse() {
                    Ok(address) => Ok(Self::Member(address)),
                    Err(_) => Err(MessageError::Field("address")),
                },
                None => Err(MessageError::Field("address")),
            },
            Value::List(items) => Ok(Self::Utility(utility::UtilityRequest::from_items(items))),
            _ => Err(MessageError::NotHello),
        }
    }
}

/// A Raft message between members, or between a member and a read-only client.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A candidate asks for a vote.
    RequestVote {
        /// The candidate's term.
        term: Term,
        /// The last entry of its log.
        last: EntryId,
    },
    /// A granted vote; there is no refusal.
    ResponseVote {
        /// The term of the request.
        term: Term,
    },
    /// From the leader: entries, part of a large one, part of a snapshot, or a
    /// heartbeat.
    AppendEntries(Append),
    /// The reply to an append.
    NextNodeIdx(NextNodeIdx),
    /// A command for the leader to append.
    ApplyCommand {
        /// The command with its kind byte, verbatim (H29).
        command: Arc<[u8]>,
        /// The requester's counter; without it no response is wanted.
        request_id: Option<i64>,
    },
    /// What became of a command.
    ApplyCommandResponse {
        /// The counter of the request.
        request_id: i64,
        /// Where it was appended, or why not.
        outcome: ApplyOutcome,
    },
    /// The leader asks the receiver to campaign at once (>= 0.3.16).
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
    /// Ours: a type that Python ignores, but that keeps its read timer from
    /// running out on silent links (H11).
    Keepalive,
    /// Any other type: to be ignored, as all versions do.
    Unknown,
}

/// An `append_entries`.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The leader's term.
    pub term: Term,
    /// The leader's commit index; at least 1, as entry 1 is committed from the
    /// start. Ours is not sent with a snapshot (H30).
    pub commit: LogIndex,
    /// What it carries.
    pub body: AppendBody,
}

/// What an `append_entries` carries.
#[derive(Debug, Clone, PartialEq)]
pub enum AppendBody {
    /// Consecutive entries behind `prev`; none for a heartbeat.
    Entries {
        /// The entry before them; none when the leader does not know it (H21).
        prev: Option<EntryId>,
        /// The entries, in order.
        entries: Vec<Entry>,
    },
    /// Part of the pickle of one large entry (spec 3.4).
    Fragment {
        /// The entry before it; as for `Entries`.
        prev: Option<EntryId>,
        /// Which part.
        part: FragmentPart,
        /// Its bytes.
        data: Arc<[u8]>,
    },
    /// Part of a snapshot (spec 3.5); none while the leader is writing one:
    /// a heartbeat that wants no reply.
    Snapshot(Option<SnapshotChunk>),
}

/// The place of a fragment in its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FragmentPart {
    /// Begins anew.
    Start,
    /// Goes on.
    Process,
    /// Should be the last; may come early and more than once (H4).
    Finish,
}

/// A piece of a snapshot's bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotChunk {
    /// The bytes; usually empty in the last chunk.
    pub data: Arc<[u8]>,
    /// Whether it begins a snapshot.
    pub first: bool,
    /// Whether it ends one.
    pub last: bool,
}

/// A `next_node_idx`. It names neither term nor request (H9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextNodeIdx {
    /// The index that the follower wants next, as sent: not yet judged.
    pub next: i64,
    /// Whether the leader is to go back to `next`.
    pub reset: bool,
    /// Whether the append was accepted.
    pub success: bool,
}

/// The leader's answer to an `apply_command`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// Appended there; not yet replicated.
    Appended(EntryId),
    /// Not appended.
    Refused(ApplyError),
}

/// PySyncObj's `FAIL_REASON` (spec 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyError {
    /// 1: too many commands wait.
    QueueFull,
    /// 2: no leader is known.
    MissingLeader,
    /// 3: another entry took its place.
    Discarded,
    /// 4: the receiver does not lead.
    NotLeader,
    /// 5: the leader changed meanwhile.
    LeaderChanged,
    /// 6: the leader will not append it.
    RequestDenied,
    /// 7, and any code that is not known: it may or may not be applied.
    UnknownOutcome,
}

impl ApplyError {
    /// The code on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::QueueFull => 1,
            Self::MissingLeader => 2,
            Self::Discarded => 3,
            Self::NotLeader => 4,
            Self::LeaderChanged => 5,
            Self::RequestDenied => 6,
            Self::UnknownOutcome => 7,
        }
    }

    fn from_code(code: i64) -> Self {
        match code {
            1 => Self::QueueFull,
            2 => Self::MissingLeader,
            3 => Self::Discarded,
            4 => Self::NotLeader,
            5 => Self::LeaderChanged,
            6 => Self::RequestDenied,
            _ => Self::UnknownOutcome,
        }
    }
}

impl Message {
    /// Reads a message that follows the hello.
    ///
    /// # Errors
    /// What is missing or out of range. A message of an unknown type is none.
    pub fn decode(value: &Value) -> Result<Self, MessageError> {
        let kind = value.get("type").ok_or(MessageError::NotMessage)?;
        Ok(match kind.as_str().unwrap_or_default() {
            "append_entries" => Self::AppendEntries(decode_append(value)?),
            "next_node_idx" => Self::NextNodeIdx(NextNodeIdx {
                next: int(value, "next_node_idx")?,
                reset: field(value, "reset")?.truthy(),
                success: field(value, "success")?.truthy(),
            }),
            "request_vote" => Self::RequestVote {
                term: term(value, "term")?,
                last: id(value, "last_log_index", "last_log_term")?,
            },
            "response_vote" => Self::ResponseVote {
                term: term(value, "term")?,
            },
            "apply_command" => Self::ApplyCommand {
                command: bytes(value, "command")?,
                request_id: match value.get("request_id") {
                    None | Some(Value::None) => None,
                    Some(id) => Some(id.as_int().ok_or(MessageError::Field("request_id"))?),
                },
            },
            "apply_command_response" => Self::ApplyCommandResponse {
                request_id: int(value, "request_id")?,
                outcome: match value.get("error") {
                    None | Some(Value::None) => {
                        ApplyOutcome::Appended(id(value, "log_idx", "log_term")?)
                    }
                    Some(code) => {
                        let code = code.as_int().ok_or(MessageError::Field("error"))?;
                        ApplyOutcome::Refused(ApplyError::from_code(code))
                    }
                },
            },
            "timeout_now" => Self::TimeoutNow {
                term: term(value, "term")?,
            },
            "keepalive" => Self::Keepalive,
            _ => Self::Unknown,
        })
    }
}

fn decode_append(value: &Value) -> Result<Append, MessageError> {
    let commit = int(value, "commit_index")?.max(1);
    Ok(Append {
        term: term(value, "term")?,
        commit: log_index(commit).ok_or(MessageError::Field("commit_index"))?,
        body: decode_body(value)?,
    })
}

/// Python decides by the presence of `prevLogIdx`, then of `transmission`.
fn decode_body(value: &Value) -> Result<AppendBody, MessageError> {
    if value.get("prevLogIdx").is_none() {
        let chunk = match value.get("serialized") {
            // `False` is a read error at the leader, and fatal to a Python
            // receiver (H2).
            None | Some(Value::None | Value::Bool(false)) => None,
            Some(chunk) => Some(decode_chunk(chunk)?),
        };
        return Ok(AppendBody::Snapshot(chunk));
    }
    let prev = decode_prev(value)?;
    match value.get("transmission") {
        None | Some(Value::None) => Ok(AppendBody::Entries {
            prev,
            entries: decode_entries(prev, field(value, "entries")?)?,
        }),
        Some(word) => Ok(AppendBody::Fragment {
            prev,
            part: match word.as_str() {
                Some("start") => FragmentPart::Start,
                Some("process") => FragmentPart::Process,
                Some("finish") => FragmentPart::Finish,
                _ => return Err(MessageError::Field("transmission")),
            },
            data: bytes(value, "data")?,
        }),
    }
}

/// An index below the first entry says as little as none at all.
fn decode_prev(value: &Value) -> Result<Option<EntryId>, MessageError> {
    match field(value, "prevLogIdx")? {
        Value::None => Ok(None),
        index if index.as_int().is_some_and(|index| index < 1) => Ok(None),
        _ => id(value, "prevLogIdx", "prevLogTerm").map(Some),
    }
}

fn decode_chunk(chunk: &Value) -> Result<SnapshotChunk, MessageError> {
    match chunk.as_seq() {
        Some([Value::Bytes(data), first, last]) => Ok(SnapshotChunk {
            data: data.clone(),
            first: first.truthy(),
            last: last.truthy(),
        }),
        _ => Err(MessageError::Field("serialized")),
    }
}

fn decode_entries(prev: Option<EntryId>, list: &Value) -> Result<Vec<Entry>, MessageError> {
    let list = list.as_seq().ok_or(MessageError::Field("entries"))?;
    if list.len() > ENTRIES_MAX {
        return Err(MessageError::TooManyEntries);
    }
    let mut expected = prev.map(|prev| prev.index.next());
    let mut entries = Vec::with_capacity(list.len());
    for item in list {
        let entry = entry_from_value(item)?;
        if expected.is_some_and(|expected| expected != entry.id.index) {
            return Err(MessageError::Entry);
        }
        expected = Some(entry.id.index.next());
        entries.push(entry);
    }
    Ok(entries)
}

/// The entry of a `(command, index, term)`, in a message or a snapshot.
///
/// # Errors
/// When it is not of that shape.
pub fn entry_from_value(value: &Value) -> Result<Entry, MessageError> {
    let Some([Value::Bytes(command), index, term]) = value.as_seq() else {
        return Err(MessageError::Entry);
    };
    let index = index.as_int().and_then(log_index);
    let term = term.as_int().and_then(raft_term);
    let (Some(index), Some(term)) = (index, term) else {
        return Err(MessageError::Entry);
    };
    Ok(Entry {
        id: EntryId { index, term },
        command: command.clone(),
    })
}

/// The entry whose pickle came in fragments.
///
/// # Errors
/// [`pickle::PickleError::Truncated`] inside means that a `finish` came early and
/// more follows (H4).
pub fn decode_entry(pickle: &[u8]) -> Result<Entry, MessageError> {
    entry_from_value(&pickle::decode(pickle).map_err(MessageError::Pickle)?)
}

fn field<'a>(value: &'a Value, name: &'static str) -> Result<&'a Value, MessageError> {
    value.get(name).ok_or(MessageError::Field(name))
}

fn int(value: &Value, name: &'static str) -> Result<i64, MessageError> {
    let int = field(value, name)?.as_int();
    int.ok_or(MessageError::Field(name))
}

fn bytes(value: &Value, name: &'static str) -> Result<Arc<[u8]>, MessageError> {
    let bytes = field(value, name)?.as_bytes();
    bytes.cloned().ok_or(MessageError::Field(name))
}

fn term(value: &Value, name: &'static str) -> Result<Term, MessageError> {
    raft_term(int(value, name)?).ok_or(MessageError::Field(name))
}

fn id(value: &Value, index: &'static str, of: &'static str) -> Result<EntryId, MessageError> {
    Ok(EntryId {
        index: log_index(int(value, index)?).ok_or(MessageError::Field(index))?,
        term: term(value, of)?,
    })
}

fn log_index(index: i64) -> Option<LogIndex> {
    u64::try_from(index).ok().and_then(LogIndex::new)
}

fn raft_term(term: i64) -> Option<Term> {
    u64::try_from(term).ok().and_then(Term::new)
}

#[cfg(test)]
mod tests;
