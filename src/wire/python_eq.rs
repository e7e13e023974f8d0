//! Python's `==` and its notion of a dict key, over [`Value`]s.
//!
//! Patroni's conditions (`prevValue`, `prevIndex`, expiry) compare stored values
//! with proposed ones by this equality, so every member must agree on it.
//! Recursion is bounded by the depth that the decoder allows, and the work by
//! the count of values that it allows.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use super::Value;

/// From this many items on, dicts and sets are compared through an index.
const INDEXED_FROM: usize = 8;

impl Value {
    /// Python's `==`: `1 == 1.0 == True`, exact between wide integers and
    /// floats, NaN unlike itself, dicts and sets without order, a tuple unlike
    /// a list, a `str` unlike a `bytes`.
    pub fn py_eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Str(a), Self::Str(b)) | (Self::Node(a), Self::Node(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Tuple(a), Self::Tuple(b)) | (Self::List(a), Self::List(b)) => items_eq(a, b),
            (Self::Dict(a), Self::Dict(b)) => dicts_eq(a, b),
            (Self::Set(a), Self::Set(b)) => sets_eq(a, b),
            _ => numbers_eq(self, other).unwrap_or(false),
        }
    }
}

fn items_eq(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.py_eq(b))
}

fn dicts_eq(a: &[(Value, Value)], b: &[(Value, Value)]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // Both sides were mostly written by the same code, hence in the same order.
    let in_order = a.iter().zip(b).all(|((a, _), (b, _))| a.py_eq(b));
    if in_order {
        return a.iter().zip(b).all(|((_, a), (_, b))| a.py_eq(b));
    }
    if a.len() < INDEXED_FROM {
        return a.iter().all(|(key, value)| {
            let found = b.iter().find(|(other, _)| key.py_eq(other));
            found.is_some_and(|(_, other)| value.py_eq(other))
        });
    }
    let index: HashMap<DictKey, &Value> = b.iter().map(|(k, v)| (DictKey(k.clone()), v)).collect();
    a.iter().all(|(key, value)| {
        let found = index.get(&DictKey(key.clone()));
        found.is_some_and(|other| value.py_eq(other))
    })
}

fn sets_eq(a: &[Value], b: &[Value]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if a.len() < INDEXED_FROM {
        return a.iter().all(|item| b.iter().any(|other| item.py_eq(other)));
    }
    let index: HashMap<DictKey, ()> = b.iter().map(|item| (DictKey(item.clone()), ())).collect();
    a.iter()
        .all(|item| index.contains_key(&DictKey(item.clone())))
}

/// `==` of two numbers; none if either is no number.
fn numbers_eq(a: &Value, b: &Value) -> Option<bool> {
    if let (Value::Float(a), Value::Float(b)) = (a, b) {
        return Some(a == b);
    }
    // An int equals a float only if the float is that very integer.
    let (a, b) = (whole(a)?, whole(b)?);
    Some(match (&a, &b) {
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::BigInt(a), Value::BigInt(b)) => a == b,
        _ => false,
    })
}

/// A number as the `int` it equals; a float that equals none stays a float.
fn whole(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(b) => Some(Value::Int(i64::from(*b))),
        Value::Int(i) => Some(Value::Int(*i)),
        Value::BigInt(bytes) => Some(Value::int_from_le(bytes)),
        Value::Float(f) => Some(whole_float(*f).unwrap_or(Value::Float(*f))),
        _ => None,
    }
}

/// The `int` that a float equals exactly, if there is one.
fn whole_float(float: f64) -> Option<Value> {
    const FRACTION_BITS: u64 = 52;
    let bits = float.to_bits();
    let exponent = (bits >> FRACTION_BITS) & 0x7ff;
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    match (exponent, fraction) {
        (0, 0) => return Some(Value::Int(0)),
        (0 | 0x7ff, _) => return None,
        _ => {}
    }
    let mantissa = fraction | (1 << FRACTION_BITS);
    // The value is mantissa * 2^(exponent - 1075).
    let magnitude = if let Some(left) = exponent.checked_sub(1075) {
        shifted_left(mantissa, left)?
    } else {
        let right = 1075 - exponent;
        let odd = right > FRACTION_BITS || mantissa & ((1 << right) - 1) != 0;
        if odd {
            return None;
        }
        (mantissa >> right).to_le_bytes().to_vec()
    };
    Some(signed(magnitude, float.is_sign_negative()))
}

/// `mantissa << left`, little-endian. A float's `left` is at most 971.
fn shifted_left(mantissa: u64, left: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(left / 8).ok()?];
    let wide = u128::from(mantissa) << (left % 8);
    bytes.extend_from_slice(&wide.to_le_bytes());
    Some(bytes)
}

/// The `int` of a magnitude (little-endian) and a sign.
pub(super) fn signed(mut magnitude: Vec<u8>, negative: bool) -> Value {
    magnitude.push(0);
    if negative {
        let mut carry = true;
        for byte in &mut magnitude {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    Value::int_from_le(&magnitude)
}

/// A value as a dict key or a set's item. Two NaN of the same bits count as one
/// key (Python goes by identity, which a pickle need not preserve).
#[derive(Debug, Clone)]
pub(crate) struct DictKey(pub Value);

impl DictKey {
    /// Whether Python could hash the value.
    pub(crate) fn is_hashable(value: &Value) -> bool {
        match value {
            Value::List(_) | Value::Dict(_) | Value::Set(_) => false,
            Value::Tuple(items) => items.iter().all(Self::is_hashable),
            _ => true,
        }
    }

    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Float(a), Value::Float(b)) => a == b || a.to_bits() == b.to_bits(),
            (Value::Tuple(a), Value::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| Self::same(a, b))
            }
            _ => a.py_eq(b),
        }
    }

    fn digest<H: Hasher>(value: &Value, state: &mut H) {
        match value {
            Value::None => 0u8.hash(state),
            Value::Str(s) => (1u8, s).hash(state),
            Value::Bytes(b) => (2u8, b).hash(state),
            Value::Node(id) => (3u8, id).hash(state),
            Value::Tuple(items) => {
                (4u8, items.len()).hash(state);
                items.iter().for_each(|item| Self::digest(item, state));
            }
            Value::List(items) | Value::Set(items) => (5u8, items.len()).hash(state),
            Value::Dict(pairs) => (6u8, pairs.len()).hash(state),
            Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_) => {
                match whole(value) {
                    Some(Value::Int(i)) => (7u8, i).hash(state),
                    Some(Value::BigInt(bytes)) => (8u8, bytes).hash(state),
                    Some(Value::Float(f)) => (9u8, f.to_bits()).hash(state),
                    _ => {}
                }
            }
        }
    }
}

impl PartialEq for DictKey {
    fn eq(&self, other: &Self) -> bool {
        Self::same(&self.0, &other.0)
    }
}

impl Eq for DictKey {}

impl Hash for DictKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Self::digest(&self.0, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(f: f64) -> Value {
        Value::Float(f)
    }

    fn big(hex: &[u8]) -> Value {
        Value::int_from_le(hex)
    }

    #[test]
    fn numbers_compare_by_value_across_types() {
        // Spec 6.4: equality is Python's.
        assert!(Value::Int(1).py_eq(&float(1.0)));
        assert!(Value::Bool(true).py_eq(&Value::Int(1)));
        assert!(Value::Bool(false).py_eq(&float(-0.0)));
        assert!(!Value::Int(1).py_eq(&Value::str("1")));
        assert!(!Value::Int(0).py_eq(&Value::None));
        assert!(!float(f64::NAN).py_eq(&float(f64::NAN)));
        assert!(!float(0.5).py_eq(&Value::Int(0)));
        // 2^53 + 1 has no float; 2^53 has.
        assert!(!Value::Int((1 << 53) + 1).py_eq(&float(9_007_199_254_740_992.0)));
        assert!(Value::Int(1 << 53).py_eq(&float(9_007_199_254_740_992.0)));
        assert!(Value::Int(i64::MIN).py_eq(&float(-9_223_372_036_854_775_808.0)));
        assert!(!Value::Int(i64::MAX).py_eq(&float(9_223_372_036_854_775_808.0)));
        assert!(big(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0]).py_eq(&float(9_223_372_036_854_775_808.0)));
        assert!(!big(&[1, 0, 0, 0, 0, 0, 0, 0x80, 0]).py_eq(&float(9_223_372_036_854_775_808.0)));
        assert!(!Value::Int(i64::MAX).py_eq(&float(f64::INFINITY)));
    }

    #[test]
    fn wide_integers_are_kept_minimal() {
        assert!(matches!(Value::int_from_le(&[]), Value::Int(0)));
        assert!(matches!(Value::int_from_le(&[0xff; 30]), Value::Int(-1)));
        assert!(matches!(Value::int_from_le(&[0x80, 0]), Value::Int(128)));
        assert!(matches!(Value::int_from_le(&[0x80]), Value::Int(-128)));
        let wide = [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
        assert!(matches!(Value::int_from_le(&wide), Value::BigInt(b) if b.len() == 9));
    }

    #[test]
    fn containers_compare_as_python_does() {
        let one = || Value::Int(1);
        assert!(!Value::tuple([one()]).py_eq(&Value::list([one()])));
        assert!(Value::list([one()]).py_eq(&Value::list([float(1.0)])));
        let ab = Value::dict([("a", one()), ("b", Value::None)]);
        let ba = Value::dict([("b", Value::None), ("a", float(1.0))]);
        assert!(ab.py_eq(&ba));
        assert!(!ab.py_eq(&Value::dict([("a", one())])));
        assert!(!ab.py_eq(&Value::dict([("a", one()), ("c", Value::None)])));
        assert!(!Value::Node("a:1".into()).py_eq(&Value::str("a:1")));
    }

    #[test]
    fn large_dicts_compare_without_order() {
        let pairs = |mut keys: Vec<i64>, turn: usize| {
            keys.rotate_left(turn);
            let pairs = keys.into_iter().map(|k| (Value::Int(k), Value::Int(-k)));
            Value::Dict(pairs.collect())
        };
        let keys: Vec<i64> = (0..1000).collect();
        assert!(pairs(keys.clone(), 0).py_eq(&pairs(keys.clone(), 400)));
        let mut other = keys.clone();
        other[999] = 5000;
        assert!(!pairs(keys, 1).py_eq(&pairs(other, 0)));
    }
}
