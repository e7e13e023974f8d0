//! Commands to ask about: what Patroni proposes (spec 6.3), spoilt copies of
//! that, and noise.

use pg_witness::kv::Store;
use pg_witness::wire::Value;

/// SplitMix64: the same seed, the same commands, on every machine.
pub struct Dice(pub u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// True once in `n`.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

pub fn str(text: &str) -> Value {
    Value::Str(text.into())
}

fn tuple(items: Vec<Value>) -> Value {
    Value::Tuple(items.into())
}

fn dict(pairs: Vec<(Value, Value)>) -> Value {
    let mut distinct: Vec<(Value, Value)> = Vec::new();
    for (key, value) in pairs {
        if !distinct.iter().any(|(other, _)| other.py_eq(&key)) {
            distinct.push((key, value));
        }
    }
    Value::Dict(distinct.into())
}

const KEYS: [&str; 8] = [
    "leader",
    "members/a",
    "members/b",
    "status",
    "config",
    "sync",
    "initialize",
    "failover",
];

fn key(dice: &mut Dice) -> Value {
    str(&format!("/service/batman/{}", dice.pick(&KEYS)))
}

/// Few instants, so that equal ones meet; ints and bools among the floats.
fn instant(dice: &mut Dice) -> Value {
    match dice.below(8) {
        0 => Value::Int(1),
        1 => Value::Bool(true),
        2 => Value::Float(1.0),
        n => Value::Float(1.7e9 + f64::from(u32::try_from(n).unwrap())),
    }
}

fn written(dice: &mut Dice, store: &Store, key: &Value) -> Value {
    let updated = instant(dice);
    let known = key.as_str().and_then(|key| store.get(key)?.get("created"));
    let created = match known {
        Some(created) if !dice.one_in(3) => created.clone(),
        _ => updated.clone(),
    };
    let mut pairs = vec![
        (str("value"), str(dice.pick(&["a", "b", "{}"]))),
        (str("updated"), updated.clone()),
        (str("created"), created),
    ];
    if dice.one_in(2) {
        let expire = match updated {
            Value::Float(updated) => Value::Float(updated + 30.0),
            _ => Value::Int(31),
        };
        pairs.push((str("expire"), expire));
    }
    dict(pairs)
}

type Parts = (Value, Vec<Value>, Vec<(Value, Value)>);

/// A command that some Patroni would propose in some state.
fn proper(dice: &mut Dice, store: &Store) -> Parts {
    let key = key(dice);
    let stored = key.as_str().and_then(|key| store.get(key)).cloned();
    let index = match stored.as_ref().and_then(|stored| stored.get("index")) {
        Some(index) if !dice.one_in(3) => index.clone(),
        _ => dice.pick(&[Value::None, Value::Int(5)]),
    };
    let name = str(dice.pick(&["a", "b"]));
    let truth = Value::Bool(dice.one_in(2));
    match dice.below(10) {
        0..=4 => {
            let conditions = [
                vec![],
                vec![("prevExist", truth)],
                vec![("prevValue", name)],
                vec![("prevIndex", index)],
            ];
            let value = written(dice, store, &key);
            let kwargs = dice.pick(&conditions);
            (Value::Int(2), vec![key, value], named(kwargs))
        }
        5..=7 => {
            let prefix = dice.pick(&["/service/batman/", "/service/batman/members"]);
            let (key, kwargs) = match dice.below(8) {
                0 => (str(prefix), vec![("recursive", Value::Bool(true))]),
                1..=3 => (key, vec![("prevValue", name)]),
                4..=5 => (key, vec![("prevIndex", index)]),
                _ => (key, vec![]),
            };
            let mut all = vec![("recursive", Value::Bool(false))];
            all.retain(|_| kwargs.iter().all(|(name, _)| *name != "recursive"));
            all.extend(kwargs);
            (Value::Int(0), vec![key], named(all))
        }
        _ => {
            let value = stored.filter(|_| !dice.one_in(3));
            let value = value.unwrap_or_else(|| written(dice, store, &key));
            (Value::Int(1), vec![key, value], vec![])
        }
    }
}

fn named(kwargs: Vec<(&str, Value)>) -> Vec<(Value, Value)> {
    kwargs.into_iter().map(|(k, v)| (str(k), v)).collect()
}

/// Any value: of odd types, of equal but different numbers, nested.
fn odd(dice: &mut Dice, depth: usize) -> Value {
    let scalars = [
        Value::None,
        Value::Bool(true),
        Value::Bool(false),
        Value::Int(0),
        Value::Int(1),
        Value::Int(2),
        Value::Int(5),
        Value::Int(i64::MIN),
        Value::Int((1 << 53) + 1),
        Value::BigInt([0, 0, 0, 0, 0, 0, 0, 0x80, 0][..].into()),
        Value::BigInt([0, 0, 0, 0, 0, 0, 0, 0, 0x80][..].into()),
        Value::Float(0.0),
        Value::Float(-0.0),
        Value::Float(1.0),
        Value::Float(2.0),
        Value::Float(9_223_372_036_854_775_808.0),
        Value::Float(9_007_199_254_740_992.0),
        Value::Float(f64::NAN),
        Value::Float(f64::INFINITY),
        str(""),
        str("a"),
        str("ab"),
        str("/service/batman/leader"),
        str("/service/batman/"),
        str("\u{e9}\u{1f418}"),
        Value::Bytes(b""[..].into()),
        Value::Bytes(b"a"[..].into()),
        Value::Bytes(b"ab"[..].into()),
        Value::Node("127.0.0.1:1".into()),
        Value::Node("127.0.0.1:2".into()),
    ];
    if depth == 0 || dice.one_in(2) {
        return dice.pick(&scalars);
    }
    let count = dice.below(4);
    let items: Vec<_> = (0..count).map(|_| odd(dice, depth - 1)).collect();
    match dice.below(4) {
        0 => tuple(items),
        1 => Value::List(items.into()),
        // More than one item has no order that two processes agree on.
        2 => Value::Set(items.into_iter().filter(key_like).take(1).collect()),
        _ => {
            let keys = items.into_iter().filter(key_like).collect::<Vec<_>>();
            let pair = |key| (key, odd(dice, depth - 1));
            dict(keys.into_iter().map(pair).collect())
        }
    }
}

/// Whether a value is surely hashable.
fn key_like(value: &Value) -> bool {
    !matches!(
        value,
        Value::Tuple(_) | Value::List(_) | Value::Dict(_) | Value::Set(_)
    )
}

const NAMES: [&str; 17] = [
    "key",
    "value",
    "recursive",
    "callback",
    "prevExist",
    "prevValue",
    "prevIndex",
    "self",
    "old_value",
    "_doApply",
    "sync",
    "timeout",
    "ttl",
    "funcID",
    "",
    "prevIndex",
    "prevExist",
];

/// Spoils a command in one place.
fn spoil(dice: &mut Dice, (function, args, kwargs): &mut Parts) {
    match dice.below(14) {
        0 => *function = odd(dice, 1),
        1 => drop(args.pop()),
        2 => args.push(odd(dice, 1)),
        3 => {
            let place = dice.below(args.len() + 1);
            args.truncate(place);
            args.push(odd(dice, 2));
        }
        4 => {
            if let Some(last) = args.pop() {
                kwargs.push((str(dice.pick(&["value", "key"])), last));
            }
        }
        5 if !args.is_empty() => args[0] = odd(dice, 2),
        6 => kwargs.push((odd(dice, 1), odd(dice, 1))),
        7 | 8 => kwargs.push((str(dice.pick(&NAMES)), odd(dice, 2))),
        9 if !kwargs.is_empty() => {
            let place = dice.below(kwargs.len());
            kwargs[place].1 = odd(dice, 2);
        }
        10 => kwargs.clear(),
        _ => spoil_value(dice, args),
    }
}

/// Spoils the value to set or expire in one place.
fn spoil_value(dice: &mut Dice, args: &mut [Value]) {
    let [key, Value::Dict(pairs), ..] = args else {
        return;
    };
    let mut changed = pairs.to_vec();
    let place = dice.below(changed.len().max(1));
    match dice.below(7) {
        0 if !changed.is_empty() => drop(changed.remove(place)),
        1 if !changed.is_empty() => changed[place].1 = odd(dice, 2),
        2 => changed.push((str("extra"), odd(dice, 2))),
        3 => changed.push((str("index"), odd(dice, 1))),
        4 => changed.reverse(),
        5 => {
            let new = (str("created"), key.clone());
            changed.retain(|(name, _)| !name.py_eq(&new.0));
            changed.push(new);
            if dice.one_in(2) {
                changed.retain(|(name, _)| !name.py_eq(&str("updated")));
                changed.push((str("updated"), key.clone()));
            }
        }
        _ => changed.clear(),
    }
    args[1] = dict(changed);
}

/// A command as the object that its pickle holds.
pub fn command(dice: &mut Dice, store: &Store) -> Value {
    if dice.one_in(40) {
        return odd(dice, 3);
    }
    let mut parts = proper(dice, store);
    for _ in 0..[0, 0, 1, 1, 2, 4][dice.below(6)] {
        spoil(dice, &mut parts);
    }
    let (function, args, kwargs) = parts;
    let args = match dice.below(30) {
        0 => odd(dice, 2),
        1 => Value::List(args.into()),
        _ => tuple(args),
    };
    let hashable = kwargs.iter().all(|(key, _)| key_like(key));
    let kwargs = match dice.below(30) {
        0 => odd(dice, 2),
        1 => pairs(Value::List, kwargs),
        _ if !hashable => pairs(Value::Tuple, kwargs),
        _ if kwargs.is_empty() && !dice.one_in(5) => return tuple(vec![function, args]),
        _ => dict(kwargs),
    };
    tuple(vec![function, args, kwargs])
}

/// What `dict.update` takes as well: a sequence of pairs, also of equal keys.
fn pairs(of: fn(std::sync::Arc<[Value]>) -> Value, kwargs: Vec<(Value, Value)>) -> Value {
    let pair = |(key, value)| tuple(vec![key, value]);
    of(kwargs.into_iter().map(pair).collect())
}

/// A state that no sequence of commands leads to, but a snapshot may hold.
pub fn strange_state(dice: &mut Dice) -> Vec<(Value, Value)> {
    let count = dice.below(5);
    let mut pairs: Vec<_> = (0..count).map(|_| (key(dice), odd(dice, 2))).collect();
    if dice.one_in(4) {
        pairs.push((
            dice.pick(&[Value::Int(5), Value::Bytes(b"a"[..].into())])
                .clone(),
            odd(dice, 1),
        ));
    }
    // A leader key that is no dict breaks every later callback of a data node,
    // whatever the command; no entry can make one.
    let leader = str("/service/batman/leader");
    pairs.retain(|(key, value)| !key.py_eq(&leader) || matches!(value, Value::Dict(_)));
    match dict(pairs) {
        Value::Dict(pairs) => pairs.to_vec(),
        _ => Vec::new(),
    }
}
