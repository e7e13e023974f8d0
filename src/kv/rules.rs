//! What a call does to the state (spec 6.4): Patroni's `_set`, `_delete` and
//! `_expire` as of 3.0.3, raise for raise. Deterministic, and without effect:
//! a decision is carried out by the caller.

use super::call::{Call, Kwargs, Method};
use super::poison::Poison;
use super::table::{Row, RowNumber, Table};
use crate::ids::LogIndex;
use crate::wire::value::Value;

/// What a call does.
#[derive(Debug)]
pub(super) struct Decision<'a> {
    /// What the method returns (Patroni >= 3.0.3).
    pub result: Value,
    /// What changes.
    pub effect: Effect<'a>,
    /// The harm done to others although the method itself does not raise.
    pub harm: Option<Poison>,
}

/// What changes.
#[derive(Debug)]
pub(super) enum Effect<'a> {
    /// Nothing.
    Nothing,
    /// The key gets this value.
    Put(&'a Value, Value),
    /// The rows at these places go, in ascending order: deleted.
    Delete(Vec<RowNumber>),
    /// The row at this place goes: expired.
    Expire(RowNumber),
}

impl Decision<'_> {
    fn plain(result: Value) -> Self {
        Self {
            result,
            effect: Effect::Nothing,
            harm: None,
        }
    }
}

/// Decides on `call` as entry `index`.
pub(super) fn decide<'a, T>(
    table: &Table<T>,
    index: LogIndex,
    call: &'a Call,
) -> Result<Decision<'a>, Poison> {
    match call.method()? {
        Method::Set => set(table, index, call),
        Method::Delete => delete(table, call),
        Method::Expire => expire(table, call),
    }
}

/// `_set(self, key, value, **kwargs)`.
fn set<'a, T>(table: &Table<T>, index: LogIndex, call: &'a Call) -> Result<Decision<'a>, Poison> {
    let bound = call.bind(["key", "value"], 2)?;
    let [Some(key), Some(value)] = bound.params else {
        return Err(Poison::Arguments);
    };
    let old = look_up(table, key)?.map(|(_, row)| &row.stored);
    let harm = ambiguous(&bound.rest);
    if !check(old, &bound.rest)? {
        return Ok(Decision {
            harm,
            ..Decision::plain(Value::Bool(false))
        });
    }
    let Value::Dict(pairs) = value else {
        return Err(Poison::Value);
    };
    let mut pairs = pairs.to_vec();
    if let Some(old) = old.filter(|old| old.truthy()) {
        let was = old.get("created").ok_or(Poison::Stored)?;
        let created = value.get("created").ok_or(Poison::Value)?;
        if !was.py_eq(created) {
            let updated = value.get("updated").ok_or(Poison::Value)?;
            assign(&mut pairs, "created", updated.clone());
        }
    }
    let index = i64::try_from(index.get()).map_err(|_| Poison::Value)?;
    assign(&mut pairs, "index", Value::Int(index));
    let stored = Value::Dict(pairs.into());
    Ok(Decision {
        harm: harm.or_else(|| aftermath(key, &stored)),
        result: stored.clone(),
        effect: Effect::Put(key, stored),
    })
}

/// `_delete(self, key, recursive=False, **kwargs)`.
fn delete<'a, T>(table: &Table<T>, call: &'a Call) -> Result<Decision<'a>, Poison> {
    let bound = call.bind(["key", "recursive"], 1)?;
    let [Some(key), recursive] = bound.params else {
        return Err(Poison::Arguments);
    };
    let mut places = Vec::new();
    let mut harm = None;
    if recursive.is_some_and(Value::truthy) {
        for (place, row) in table.rows() {
            if starts_with(&row.key, key)? {
                places.push(place);
            }
        }
    } else {
        let found = look_up(table, key)?;
        harm = ambiguous(&bound.rest);
        if !check(found.map(|(_, row)| &row.stored), &bound.rest)? {
            return Ok(Decision {
                harm,
                ..Decision::plain(Value::Bool(false))
            });
        }
        places.push(found.ok_or(Poison::MissingKey)?.0);
    }
    Ok(Decision {
        result: Value::Bool(true),
        effect: Effect::Delete(places),
        harm,
    })
}

/// `_expire(self, key, value, callback=None)`.
fn expire<'a, T>(table: &Table<T>, call: &'a Call) -> Result<Decision<'a>, Poison> {
    let bound = call.bind(["key", "value", "callback"], 2)?;
    let [Some(key), Some(value), _] = bound.params else {
        return Err(Poison::Arguments);
    };
    if !bound.rest.is_empty() {
        return Err(Poison::Arguments);
    }
    let mut decision = Decision::plain(Value::None);
    if let Some((place, row)) = look_up(table, key)?
        && row.stored.truthy()
    {
        if !matches!(row.stored, Value::Dict(_)) {
            return Err(Poison::Stored);
        }
        if !matches!(value, Value::Dict(_)) {
            return Err(Poison::Value);
        }
        if same_writing(&row.stored, value) {
            decision.effect = Effect::Expire(place);
        }
    }
    Ok(decision)
}

/// `__values_match`: whether two dicts are the same writing of a key, whatever
/// their index.
pub(super) fn same_writing(old: &Value, new: &Value) -> bool {
    ["created", "updated", "expire", "value"]
        .into_iter()
        .all(|name| match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) => old.py_eq(new),
            (None, None) => true,
            (Some(one), None) | (None, Some(one)) => matches!(one, Value::None),
        })
}

/// `__check_requirements(old_value, **kwargs)`.
fn check(old: Option<&Value>, kwargs: &Kwargs<'_>) -> Result<bool, Poison> {
    if kwargs.get("old_value").is_some() {
        return Err(Poison::Arguments);
    }
    let old = old.filter(|old| old.truthy());
    let holds = |name, wanted: &Value| match old {
        Some(old) => Ok(old.get(name).ok_or(Poison::Stored)?.py_eq(wanted)),
        None => Ok(false),
    };
    if let Some(wanted) = kwargs.get("prevExist")
        && wanted.truthy() != old.is_some()
    {
        return Ok(false);
    }
    if let Some(wanted) = kwargs.get("prevValue")
        && !holds("value", wanted)?
    {
        return Ok(false);
    }
    match kwargs.get("prevIndex") {
        None | Some(Value::None) => Ok(true),
        Some(wanted) => holds("index", wanted),
    }
}

/// Whether Patroni 3.0.2 reads the conditions otherwise than 3.0.3.
fn ambiguous(kwargs: &Kwargs<'_>) -> Option<Poison> {
    let index = kwargs.get("prevIndex")?;
    let told_apart = !matches!(index, Value::None) && !index.truthy();
    told_apart.then_some(Poison::AmbiguousIndex)
}

/// What goes wrong at Python nodes once `stored` stands under `key`.
fn aftermath(key: &Value, stored: &Value) -> Option<Poison> {
    if !matches!(key, Value::Str(_)) {
        return Some(Poison::KeyNotText);
    }
    // A data node's `Raft._on_set` begins: `key == value['created'] ==
    // value['updated']`.
    let Some(created) = stored.get("created") else {
        return Some(Poison::Callback);
    };
    if key.py_eq(created) && stored.get("updated").is_none() {
        return Some(Poison::Callback);
    }
    match stored.get("expire") {
        None | Some(Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_)) => None,
        Some(_) => Some(Poison::ExpireNotNumber),
    }
}

/// `k.startswith(prefix)`, which takes a tuple of prefixes too.
fn starts_with(key: &Value, prefix: &Value) -> Result<bool, Poison> {
    let one = |prefix: &Value| match (key, prefix) {
        (Value::Str(key), Value::Str(prefix)) => Ok(key.as_bytes().starts_with(prefix.as_bytes())),
        (Value::Bytes(key), Value::Bytes(prefix)) => Ok(key.starts_with(prefix)),
        _ => Err(Poison::Prefix),
    };
    match (key, prefix) {
        (Value::Str(_) | Value::Bytes(_), Value::Tuple(prefixes)) => {
            for prefix in prefixes.iter() {
                if one(prefix)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => one(prefix),
    }
}

/// `data.get(key)`, which hashes the key.
fn look_up<'t, T>(
    table: &'t Table<T>,
    key: &Value,
) -> Result<Option<(RowNumber, &'t Row<T>)>, Poison> {
    if !key.py_hashable() {
        return Err(Poison::UnhashableKey);
    }
    let found = table.find(key);
    Ok(found.and_then(|place| Some((place, table.at(place)?))))
}

/// `dict[name] = value`.
fn assign(pairs: &mut Vec<(Value, Value)>, name: &str, value: Value) {
    let mut slots = pairs.iter_mut();
    let named = |key: &Value| matches!(key, Value::Str(s) if s.as_bytes() == name.as_bytes());
    match slots.find(|(key, _)| named(key)) {
        Some((_, slot)) => *slot = value,
        None => pairs.push((Value::Str(name.into()), value)),
    }
}
