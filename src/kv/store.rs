//! The applied state of one cluster, and the expiry of its keys (spec 6.4, 6.5;
//! S6, S8).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::age::{Age, CountedClock, clock_ahead_ms, over_by_wall_clock};
use super::call::Call;
use super::poison::Poison;
use super::rules::{Effect, decide, same_writing};
use super::table::{RowNumber, Table};
use crate::bugs::{Bug, planted};
use crate::ids::LogIndex;
use crate::reactor::Instant;
use crate::wire::command;
use crate::wire::value::Value;

/// Patroni's key-value store: what every replica holds after the same entries,
/// and how old each value is here.
#[derive(Debug, Clone)]
pub struct Store {
    table: Table<Kept>,
    /// The writings that will expire, the next first.
    expiring: BTreeSet<Writing>,
    clock: CountedClock,
    bytes: u64,
    replaying: bool,
    /// See [`Store::servers_mark`].
    servers_mark: Arc<()>,
}

/// What is in every key under which a server tells of itself.
const SERVER_KEY_PART: &str = "/members/";

/// One writing of a key that expires: what is stored now, until it is written anew,
/// deleted or expired. The same value written again is the same writing. Of one store;
/// ordered by when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writing {
    /// The counted time at which it is due. Whoever overwrites a due value is due later.
    due_at: Duration,
    place: RowNumber,
}

/// What is kept beside a stored value.
#[derive(Debug, Clone)]
struct Kept {
    age: Age,
    bytes: u64,
}

/// What an entry did.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What Python's method returns (Patroni >= 3.0.3): the stored dict, a bool
    /// or None; `False` where it raises (spec 11, H1). Nobody but the caller of
    /// the local API ever sees it.
    pub result: Value,
    /// What changed.
    pub change: Change,
    /// Set if the entry harms the Python nodes, most of them for good: to be
    /// counted and told (H1, H6).
    pub poison: Option<Poison>,
}

/// A key and its life.
#[derive(Debug, Clone, Copy)]
pub struct Life<'a> {
    /// The key.
    pub key: &'a Value,
    /// The stored dict.
    pub stored: &'a Value,
    /// Since this writing was applied here, or was loaded.
    pub age: Duration,
    /// Until it is due; none if it never is.
    pub remaining: Option<Duration>,
    /// How far the writer's wall clock is ahead of ours.
    pub clock_ahead_ms: Option<i64>,
}

/// How the state changed.
#[derive(Debug, Clone)]
pub enum Change {
    /// Not at all.
    Nothing,
    /// This key was stored.
    Set(Value),
    /// These keys were deleted.
    Deleted(Vec<Value>),
    /// This key expired.
    Expired(Value),
}

impl Store {
    /// The state before the first entry.
    pub fn new(now: Instant) -> Self {
        Self::load([], now)
    }

    /// The state of a snapshot or checkpoint, in its order. Every value's age
    /// begins now (S8).
    ///
    /// `pairs` are those of one Python dict: hashable keys, each once. Values
    /// are taken as they are, as Python does.
    pub fn load(pairs: impl IntoIterator<Item = (Value, Value)>, now: Instant) -> Self {
        let mut store = Self {
            table: Table::new(),
            expiring: BTreeSet::new(),
            clock: CountedClock::new(now),
            bytes: 0,
            replaying: true,
            servers_mark: Arc::default(),
        };
        for (key, stored) in pairs {
            store.put(&key, stored, now);
        }
        store.replaying = false;
        store
    }

    /// Whether what is applied from now on is replayed from our own log, written
    /// before this start: its age says nothing of when it was written.
    pub fn replaying(&mut self, yes: bool) {
        self.replaying = yes;
    }

    /// Applies committed entry `index`. Calls that Python raises on change
    /// nothing (S6).
    pub fn apply(&mut self, index: LogIndex, call: &Call, now: Instant) -> Applied {
        self.clock.observe(now);
        let decision = match decide(&self.table, index, call) {
            Ok(decision) => decision,
            Err(poison) => {
                return Applied {
                    result: Value::Bool(false),
                    change: Change::Nothing,
                    poison: Some(poison),
                };
            }
        };
        let change = match decision.effect {
            Effect::Nothing => Change::Nothing,
            Effect::Put(key, stored) => {
                self.put(key, stored, now);
                Change::Set(key.clone())
            }
            Effect::Delete(places) => Change::Deleted(self.remove(&places)),
            Effect::Expire(place) => match self.remove(&[place]).pop() {
                Some(key) => Change::Expired(key),
                None => Change::Nothing,
            },
        };
        Applied {
            result: decision.result,
            change,
            poison: decision.harm,
        }
    }

    /// Whether Python would raise on `call`, or it does harm otherwise, applied
    /// to this very state as entry `index`. To judge a proposal use a [`SpeculativeStore`],
    /// which knows the entries that are not applied yet.
    ///
    /// [`SpeculativeStore`]: super::SpeculativeStore
    pub fn would_raise(&self, index: LogIndex, call: &Call) -> Option<Poison> {
        match decide(&self.table, index, call) {
            Ok(decision) => decision.harm,
            Err(poison) => Some(poison),
        }
    }

    fn put(&mut self, key: &Value, stored: Value, now: Instant) {
        self.mark_servers(key);
        let bytes = weight(key) + weight(&stored);
        let found = self.table.find(key);
        let old = found.and_then(|place| Some((place, self.table.at(place)?)));
        // The clients' retries write the same value again; that makes it no
        // younger, and no other writing.
        let age = match old.filter(|(_, old)| same_writing(&old.stored, &stored)) {
            Some((_, old)) => old.beside.age.clone(),
            None => Age::new(&stored, self.clock.at(now), !self.replaying),
        };
        if let Some((place, old)) = old {
            self.bytes -= old.beside.bytes;
            if let Some(old) = writing(place, &old.beside.age) {
                self.expiring.remove(&old);
            }
        }
        self.bytes += bytes;
        let place = self.table.put(key, stored, Kept { age, bytes });
        let row = self.table.at(place);
        let new = row.and_then(|row| writing(place, &row.beside.age));
        self.expiring.extend(new);
    }

    fn remove(&mut self, places: &[RowNumber]) -> Vec<Value> {
        let mut keys = Vec::with_capacity(places.len());
        for place in places {
            let Some(row) = self.table.remove(*place) else {
                continue;
            };
            let Kept { age, bytes } = row.beside;
            self.bytes -= bytes;
            if let Some(old) = writing(*place, &age) {
                self.expiring.remove(&old);
            }
            self.mark_servers(&row.key);
            keys.push(row.key);
        }
        keys
    }

    fn mark_servers(&mut self, changed: &Value) {
        if changed
            .as_str()
            .is_some_and(|key| key.contains(SERVER_KEY_PART))
        {
            self.servers_mark = Arc::default();
        }
    }

    /// Another one, by [`Arc::ptr_eq`], whenever a key of a server
    /// (`/NAMESPACE/SCOPE/members/NAME`) was written or deleted since, or the state
    /// is a loaded one: whoever looks for them need not read all keys again.
    pub fn servers_mark(&self) -> &Arc<()> {
        &self.servers_mark
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let place = self.table.find(&Value::Str(key.into()))?;
        Some(&self.table.at(place)?.stored)
    }

    /// Keys and stored values in Python's order, as a snapshot holds them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Value, &Value)> {
        self.table.rows().map(|(_, row)| (&row.key, &row.stored))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Memory that keys and values take, about, in bytes; their pickle takes no
    /// more. Nothing bounds it here, for a committed entry has to be applied; see
    /// [`KV_BYTES_QUOTA`](crate::limits::KV_BYTES_QUOTA) for what does.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Every key with its value, how long that has been here and how long it
    /// still lives, and how far its writer's clock is ahead of `wall` (ours,
    /// since the epoch) in milliseconds, where that can be told. For the eye
    /// only.
    pub fn lives(&self, now: Instant, wall: Duration) -> impl Iterator<Item = Life<'_>> {
        let counted = self.clock.at(now);
        self.table.rows().map(move |(_, row)| {
            let age = &row.beside.age;
            let so_far = age.so_far(counted);
            let ahead = || clock_ahead_ms(&row.stored, so_far, wall);
            Life {
                key: &row.key,
                stored: &row.stored,
                age: so_far,
                remaining: age.remaining(counted),
                clock_ahead_ms: age.is_true().then(ahead).flatten(),
            }
        })
    }

    /// Counts time. To be called at least every
    /// [`TICK_GAP_MAX`](crate::limits::TICK_GAP_MAX), leading or not:
    /// of a longer gap only that much ages the keys (S8).
    pub fn tick(&mut self, now: Instant) {
        self.clock.observe(now);
    }

    /// The writings whose time is over, the first first. For a leader, after it has
    /// read what waits in its sockets (S8).
    pub fn due(&self, now: Instant) -> impl Iterator<Item = Writing> {
        let counted = self.clock.at(now);
        let upto = if planted(Bug::WallClockExpiry) {
            Duration::MAX
        } else {
            counted
        };
        let expiring = self.expiring.iter().copied();
        expiring
            .take_while(move |writing| writing.due_at <= upto)
            .filter(|writing| {
                let row = self.table.at(writing.place);
                !planted(Bug::WallClockExpiry)
                    || row.is_some_and(|row| over_by_wall_clock(&row.stored))
            })
    }

    /// When the next writing will be due if nothing happens and no tick is late;
    /// not after `now` if one is. `None` if no key will expire. What `done` is true of
    /// is passed over.
    pub fn next_due(&self, now: Instant, done: impl Fn(Writing) -> bool) -> Option<Instant> {
        let counted = self.clock.at(now);
        let next = self.expiring.iter().find(|writing| !done(**writing))?;
        now.checked_add(next.due_at.saturating_sub(counted))
    }

    /// The command that expires what was written, as long as that is stored (spec
    /// 6.5); none if it is stored no more.
    pub fn expire_command(&self, writing: Writing) -> Option<Arc<[u8]>> {
        let row = self.expiring.get(&writing).map(|_| writing.place);
        let row = self.table.at(row?)?;
        Some(command::expire(&row.key, &row.stored))
    }

    /// Keys and values without ages.
    pub(super) fn bare(&self) -> Table<()> {
        self.table.bare()
    }
}

/// The writing at `place`, if it expires.
fn writing(place: RowNumber, age: &Age) -> Option<Writing> {
    let due_at = age.due_at()?;
    Some(Writing { due_at, place })
}

/// What a value takes besides its text or its items, in bytes. No opcodes of ours
/// for one value are longer.
const VALUE_BYTES: u64 = 32;

/// About how many bytes a value takes; what is shared counts each time.
pub(super) fn weight(value: &Value) -> u64 {
    let own = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    VALUE_BYTES
        + match value {
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
            Value::BigInt(bytes) | Value::Bytes(bytes) => own(bytes.len()),
            Value::Str(text) | Value::Node(text) => own(text.as_bytes().len()),
            Value::Tuple(items) | Value::List(items) | Value::Set(items) => {
                items.iter().map(weight).sum()
            }
            Value::Dict(pairs) => pairs.iter().map(|(k, v)| weight(k) + weight(v)).sum(),
        }
}

#[cfg(test)]
mod tests;
