//! The state machine as the disk and a snapshot carry it.
//!
//! The body of a checkpoint is a pickle of our own: the tuple `(members, data,
//! entries)` where `entries` holds the last entry it covers and the one before,
//! each `(command, index, term, epoch)`. Both are kept as they came, for a
//! Python peer's snapshot must carry them (spec 7.3).

use std::fmt;
use std::sync::Arc;

use super::log::Log;
use super::types::Members;
use crate::disk::{Checkpoint, StoredEntry};
use crate::ids::{Entry, EntryId, LogIndex, Term};
use crate::kv::Store;
use crate::wire::pickle::PickleCaps;
use crate::wire::snapshot::Snapshot;
use crate::wire::{Value, pickle};

/// A checkpoint's content.
#[derive(Debug, Clone)]
pub struct CheckpointState {
    /// The members as of the last entry.
    pub members: Members,
    /// Key and stored dict, in order.
    pub data: Vec<(Value, Value)>,
    /// The entry before the last; none if the last is the first of all.
    pub prev: Option<StoredEntry>,
    /// The last entry covered.
    pub last: StoredEntry,
}

impl CheckpointState {
    /// The log that begins with what is kept of the old one.
    pub fn log(&self) -> Log {
        let base = self.prev.clone().unwrap_or_else(|| self.last.clone());
        let mut log = Log::starting_at(base, self.members.clone());
        if self.prev.is_some() {
            log.push(self.last.clone());
        }
        log.commit_to(self.last.entry.id.index);
        log
    }
}

impl CheckpointState {
    /// The state that a Python node's snapshot carries. `epoch`: of its last
    /// entry; the one before it can only be as high.
    pub fn of_snapshot(snapshot: Snapshot, epoch: u32) -> Self {
        let Snapshot {
            data,
            last,
            prev,
            members,
        } = snapshot;
        // The last entry's epoch rose if its term is lower than its
        // predecessor's (E1).
        let before = epoch.saturating_sub(u32::from(last.id.term < prev.id.term));
        Self {
            members: members.into_iter().collect(),
            data,
            prev: Some(StoredEntry {
                epoch: before,
                entry: prev,
            }),
            last: StoredEntry { epoch, entry: last },
        }
    }
}

/// A checkpoint that cannot be read although its checksum holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointError;

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the checkpoint on disk does not hold what a checkpoint holds")
    }
}

impl std::error::Error for CheckpointError {}

/// The state as of `applied`.
pub fn encode(log: &Log, applied: LogIndex, store: &Store) -> Checkpoint {
    let members = log
        .members_at(applied)
        .iter()
        .map(|m| Value::str(m.as_str()))
        .collect();
    let data = store.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let last = log.get(applied);
    let prev = applied.prev().and_then(|index| log.get(index));
    let entries = prev.into_iter().chain(last).map(entry_value).collect();
    let body = Value::Tuple(
        [
            Value::List(members),
            Value::Dict(data),
            Value::List(entries),
        ]
        .into(),
    );
    let mut bytes = Vec::new();
    pickle::encode(&body, &mut bytes);
    let epoch = last.map_or(0, |e| e.epoch);
    let id = last.map_or(
        EntryId {
            index: LogIndex::FIRST,
            term: Term::ZERO,
        },
        |e| e.entry.id,
    );
    Checkpoint {
        last: (epoch, id),
        body: bytes.into(),
    }
}

fn entry_value(stored: &StoredEntry) -> Value {
    let Entry { id, command } = &stored.entry;
    let items = [
        Value::Bytes(command.clone()),
        Value::Int(id.index.get().cast_signed()),
        Value::Int(id.term.get().cast_signed()),
        Value::Int(i64::from(stored.epoch)),
    ];
    Value::Tuple(items.into())
}

/// Reads a checkpoint's body.
pub fn decode(body: &[u8]) -> Result<CheckpointState, CheckpointError> {
    // S15: a peer's caps are not for what we wrote ourselves.
    let value =
        pickle::decode_within(body, PickleCaps::of_own(body.len())).map_err(|_| CheckpointError)?;
    state_of(&value).ok_or(CheckpointError)
}

fn state_of(value: &Value) -> Option<CheckpointState> {
    let [members, data, entries] = value.as_seq()? else {
        return None;
    };
    let members = members
        .as_seq()?
        .iter()
        .map(|m| m.as_str()?.parse().ok())
        .collect::<Option<_>>()?;
    let Value::Dict(data) = data else { return None };
    let data = data.to_vec();
    let entries: Vec<StoredEntry> = entries
        .as_seq()?
        .iter()
        .map(stored_entry)
        .collect::<Option<_>>()?;
    let (prev, last) = match <[StoredEntry; 2]>::try_from(entries) {
        Ok([prev, last]) if prev.entry.id.index.next() == last.entry.id.index => (Some(prev), last),
        Ok(_) => return None,
        Err(entries) => (
            None,
            <[StoredEntry; 1]>::try_from(entries)
                .ok()
                .map(|[last]| last)?,
        ),
    };
    Some(CheckpointState {
        members,
        data,
        prev,
        last,
    })
}

fn stored_entry(value: &Value) -> Option<StoredEntry> {
    let [command, index, term, epoch] = value.as_seq()? else {
        return None;
    };
    let id = EntryId {
        index: LogIndex::new(u64::try_from(index.as_int()?).ok()?)?,
        term: Term::new(u64::try_from(term.as_int()?).ok()?)?,
    };
    let command: Arc<[u8]> = command.as_bytes()?.clone();
    Some(StoredEntry {
        epoch: u32::try_from(epoch.as_int()?).ok()?,
        entry: Entry { id, command },
    })
}

#[cfg(test)]
mod tests;
