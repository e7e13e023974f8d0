//! Patroni's `KVStoreTTL` above the log (spec 6.4, 6.5).
//!
//! Written on its own and not with the crate's `kv`: that is what the stores of
//! all members are compared with, and a fault in it must not be on both sides.
//! Calls are taken as Patroni makes them; what else Python would raise on is
//! told apart by `kv`'s own tests.

use pg_witness::wire::Value;

use super::{Raised, Version};

/// The state, in Python's order of insertion.
pub(super) type Data = Vec<(Value, Value)>;

/// `__data` and `__limb`.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub data: Data,
    limb: Data,
}

/// An `_expire` to propose.
pub(super) struct Expiry {
    pub key: Value,
    pub value: Value,
}

impl Store {
    /// Applies the call of a REGULAR command as entry `index`; what the method
    /// returns.
    pub fn apply(&mut self, version: Version, index: i64, call: &Value) -> Result<Value, Raised> {
        let (function, args, kwargs) = match call {
            Value::Tuple(parts) => match &**parts {
                [function, args] => (function, args.as_seq(), None),
                [function, args, kwargs] => (function, args.as_seq(), Some(kwargs)),
                _ => return Err(Raised("ValueError")),
            },
            function => (function, Some(&[][..]), None),
        };
        let args = args.ok_or(Raised("TypeError"))?;
        let kwarg = |name| kwargs.and_then(|kwargs| kwargs.get(name));
        match (function.as_int(), args) {
            (Some(0), [key, rest @ ..]) => {
                let recursive = rest.first().or_else(|| kwarg("recursive"));
                if recursive.is_some_and(Value::truthy) {
                    return self.delete_prefix(key);
                }
                if !check(version, find(&self.data, key), &kwarg) {
                    return Ok(Value::Bool(false));
                }
                // H1
                remove(&mut self.data, key).ok_or(Raised("KeyError"))?;
                Ok(Value::Bool(true))
            }
            (Some(1), [key, value]) => {
                if find(&self.data, key).is_some_and(|old| same_writing(old, value)) {
                    remove(&mut self.data, key);
                }
                Ok(Value::None)
            }
            (Some(2), [key, value]) => self.set(version, index, key, value, &kwarg),
            (Some(0..=2), _) => Err(Raised("TypeError")),
            _ => Err(Raised("KeyError")),
        }
    }

    fn set<'a>(
        &mut self,
        version: Version,
        index: i64,
        key: &Value,
        value: &Value,
        kwarg: &dyn Fn(&'static str) -> Option<&'a Value>,
    ) -> Result<Value, Raised> {
        let old = find(&self.data, key);
        if !check(version, old, kwarg) {
            return Ok(Value::Bool(false));
        }
        let Value::Dict(pairs) = value else {
            return Err(Raised("TypeError"));
        };
        let mut pairs = pairs.to_vec();
        if let Some(old) = old {
            // H6
            let created = old.get("created").ok_or(Raised("KeyError"))?;
            let proposed = value.get("created").ok_or(Raised("KeyError"))?;
            if !created.py_eq(proposed) {
                let updated = value.get("updated").ok_or(Raised("KeyError"))?;
                put(&mut pairs, Value::str("created"), updated.clone());
            }
        }
        put(&mut pairs, Value::str("index"), Value::Int(index));
        let stored = Value::Dict(pairs.into());
        put(&mut self.data, key.clone(), stored.clone());
        Ok(if version.has_strict_index() {
            stored
        } else {
            Value::Bool(true)
        })
    }

    fn delete_prefix(&mut self, prefix: &Value) -> Result<Value, Raised> {
        let prefix = prefix.as_str().ok_or(Raised("TypeError"))?;
        self.data
            .retain(|(key, _)| !key.as_str().is_some_and(|key| key.starts_with(prefix)));
        Ok(Value::Bool(true))
    }

    /// The keys over their time by `wall_s` whose expiry is not on its way, now
    /// marked as such; and the pair that was looked at last, which each of their
    /// callbacks takes for its own (spec 6.5).
    pub fn expire(&mut self, wall_s: f64) -> (Vec<Expiry>, Option<Expiry>) {
        let mut due = Vec::new();
        for (key, value) in &self.data {
            let over = matches!(value.get("expire"), Some(Value::Float(at)) if *at <= wall_s);
            let marked = find(&self.limb, key).is_some_and(|limb| same_writing(limb, value));
            if over && !marked {
                put(&mut self.limb, key.clone(), value.clone());
                due.push(Expiry {
                    key: key.clone(),
                    value: value.clone(),
                });
            }
        }
        let last = self.data.last().map(|(key, value)| Expiry {
            key: key.clone(),
            value: value.clone(),
        });
        (due, last)
    }

    /// The callback of an expiry, with the pair that it takes for its own.
    pub fn expiry_done(&mut self, of: &Expiry) {
        if find(&self.limb, &of.key).is_some_and(|limb| same_writing(limb, &of.value)) {
            remove(&mut self.limb, &of.key);
        }
    }

    /// No leader any more.
    pub fn forget_expiries(&mut self) {
        self.limb.clear();
    }

    pub fn limb(&self) -> &Data {
        &self.limb
    }
}

/// `__check_requirements`.
fn check<'a>(
    version: Version,
    old: Option<&Value>,
    kwarg: &dyn Fn(&'static str) -> Option<&'a Value>,
) -> bool {
    let equals = |name, wanted: &Value| {
        let stored = old.and_then(|old| old.get(name));
        stored.is_some_and(|stored| stored.py_eq(wanted))
    };
    let exists = kwarg("prevExist").is_none_or(|wanted| wanted.truthy() == old.is_some());
    let value = kwarg("prevValue").is_none_or(|wanted| equals("value", wanted));
    let index = match kwarg("prevIndex") {
        None | Some(Value::None) => true,
        Some(wanted) if !version.has_strict_index() && !wanted.truthy() => true,
        Some(wanted) => equals("index", wanted),
    };
    exists && value && index
}

/// `__values_match`.
fn same_writing(old: &Value, new: &Value) -> bool {
    let read = |value: &Value, name| value.get(name).cloned().unwrap_or(Value::None);
    ["created", "updated", "expire", "value"]
        .into_iter()
        .all(|name| read(old, name).py_eq(&read(new, name)))
}

fn find<'a>(data: &'a Data, key: &Value) -> Option<&'a Value> {
    let mut pairs = data.iter();
    pairs
        .find(|(other, _)| other.py_eq(key))
        .map(|(_, value)| value)
}

fn remove(data: &mut Data, key: &Value) -> Option<Value> {
    let place = data.iter().position(|(other, _)| other.py_eq(key))?;
    Some(data.remove(place).1)
}

/// `data[key] = value`: an old key keeps its place.
fn put(data: &mut Data, key: Value, value: Value) {
    match data.iter_mut().find(|(other, _)| other.py_eq(&key)) {
        Some((_, slot)) => *slot = value,
        None => data.push((key, value)),
    }
}
