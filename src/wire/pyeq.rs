//! Python's `==` between values. The state machine's verdicts hang on it
//! (`prevValue`, `prevIndex`, `created`), so it must agree with every Python
//! peer: `1 == 1.0 == True`, exact at any width; `NaN` equals nothing; dicts and
//! sets ignore order; a tuple is no list, a `str` no `bytes`.
//!
//! Python's containers compare elements by identity before equality, so that
//! `[x] == [x]` holds for a NaN `x`. Two commands never share an object (each is
//! unpickled for itself), hence identity plays no part here.
//!
//! Cost is linear in the operands (times their depth), also for hostile ones:
//! nothing is compared pair by pair in the square, and no level is walked twice.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::value::Value;

impl Value {
    /// Python's `self == other` for objects that are not identical.
    pub fn py_eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Str(a), Self::Str(b)) | (Self::Node(a), Self::Node(b)) => a == b,
            (Self::None, Self::None) => true,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Tuple(a), Self::Tuple(b)) | (Self::List(a), Self::List(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.py_eq(b))
            }
            (Self::Dict(a), Self::Dict(b)) => dicts_equal(a, b),
            (Self::Set(a), Self::Set(b)) => sets_equal(a, b),
            _ => match (Number::of(self), Number::of(other)) {
                (Some(a), Some(b)) => a == b,
                _ => false,
            },
        }
    }
}

/// A number reduced to what Python compares: integral values by their digits,
/// whatever their type.
#[derive(PartialEq)]
enum Number<'a> {
    /// Integral and within 64 bits.
    Small(i64),
    /// Integral and wider: minimal two's complement, little-endian.
    Wide(std::borrow::Cow<'a, [u8]>),
    /// A fraction, an infinity or NaN.
    Other(f64),
}

impl<'a> Number<'a> {
    fn of(value: &'a Value) -> Option<Self> {
        Some(match value {
            Value::Bool(b) => Self::Small(i64::from(*b)),
            Value::Int(i) => Self::Small(*i),
            Value::BigInt(digits) => Self::Wide(digits.as_ref().into()),
            Value::Float(f) => Self::of_float(*f),
            _ => return None,
        })
    }

    fn of_float(f: f64) -> Self {
        if f == 0.0 {
            return Self::Small(0);
        }
        let bits = f.to_bits();
        let exponent = (bits >> 52) & 0x7ff;
        // A float is mantissa * 2^(exponent - 1075); subnormals are fractions.
        if exponent == 0 || exponent == 0x7ff {
            return Self::Other(f);
        }
        let mantissa = i128::from(bits & ((1 << 52) - 1) | (1 << 52));
        let signed = if f < 0.0 { -mantissa } else { mantissa };
        if exponent < 1075 {
            let down = 1075 - exponent;
            if down > 52 || mantissa.trailing_zeros() < u32::try_from(down).unwrap_or(u32::MAX) {
                return Self::Other(f);
            }
            return i64::try_from(signed >> down).map_or(Self::Other(f), Self::Small);
        }
        let up = exponent - 1075;
        if up <= 11
            && let Ok(small) = i64::try_from(signed << up)
        {
            return Self::Small(small);
        }
        let (zeros, shift) = (usize::try_from(up / 8).unwrap_or(0), up % 8);
        let mut digits = vec![0; zeros];
        digits.extend((signed << shift).to_le_bytes());
        let sign = if signed < 0 { 0xff } else { 0x00 };
        while let [.., below, top] = digits.as_slice()
            && *top == sign
            && (below ^ sign) & 0x80 == 0
        {
            digits.pop();
        }
        Self::Wide(digits.into())
    }
}

fn dicts_equal(a: &[(Value, Value)], b: &[(Value, Value)]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut index = None;
    a.iter().enumerate().all(|(i, (key, value))| {
        // Almost always the same writer wrote both, in the same order.
        let at_same_place = b.get(i).filter(|(other, _)| match (key, other) {
            (Value::Str(key), Value::Str(other)) => key == other,
            _ => false,
        });
        let found = at_same_place.or_else(|| {
            let index = index.get_or_insert_with(|| Index::new(b.iter().map(|(key, _)| key)));
            b.get(index.find(key)?)
        });
        found.is_some_and(|(_, other)| value.py_eq(other))
    })
}

fn sets_equal(a: &[Value], b: &[Value]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let index = Index::new(b.iter());
    a.iter().all(|item| index.find(item).is_some())
}

/// Finds a key among many by Python's equality.
struct Index<'a> {
    /// Keyed at random, so that no peer can choose keys that collide.
    hasher: RandomState,
    places: HashMap<u64, Vec<(usize, &'a Value)>>,
}

impl<'a> Index<'a> {
    fn new(keys: impl Iterator<Item = &'a Value>) -> Self {
        let hasher = RandomState::new();
        let mut places: HashMap<u64, Vec<_>> = HashMap::new();
        for (place, key) in keys.enumerate() {
            let bucket = places.entry(hash(&hasher, key)).or_default();
            bucket.push((place, key));
        }
        Self { hasher, places }
    }

    fn find(&self, key: &Value) -> Option<usize> {
        // NaN equals nothing, yet any number of them share one bucket.
        if matches!(key, Value::Float(f) if f.is_nan()) {
            return None;
        }
        let bucket = self.places.get(&hash(&self.hasher, key))?;
        let found = bucket.iter().find(|(_, other)| key.py_eq(other));
        found.map(|(place, _)| *place)
    }
}

/// Equal values have equal hashes; distinct ones almost never.
fn hash(keyed: &RandomState, value: &Value) -> u64 {
    let mut hasher = keyed.build_hasher();
    match value {
        Value::None => 0u8.hash(&mut hasher),
        Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_) => {
            match Number::of(value) {
                Some(Number::Small(i)) => (1u8, i).hash(&mut hasher),
                Some(Number::Wide(digits)) => (2u8, digits).hash(&mut hasher),
                Some(Number::Other(f)) => (3u8, f.to_bits()).hash(&mut hasher),
                None => {}
            }
        }
        Value::Str(s) => (4u8, s).hash(&mut hasher),
        Value::Bytes(b) => (5u8, b).hash(&mut hasher),
        Value::Node(id) => (6u8, id).hash(&mut hasher),
        Value::Tuple(items) | Value::List(items) => {
            (7u8, items.len()).hash(&mut hasher);
            hasher.write_u8(u8::from(matches!(value, Value::List(_))));
            for item in items.iter() {
                hasher.write_u64(hash(keyed, item));
            }
        }
        // Order-free: a sum.
        Value::Set(items) => {
            let sum = |sum: u64, item| sum.wrapping_add(hash(keyed, item));
            (8u8, items.iter().fold(0, sum)).hash(&mut hasher);
        }
        Value::Dict(pairs) => {
            let sum = |sum: u64, (key, value): &(Value, Value)| {
                sum.wrapping_add(keyed.hash_one((hash(keyed, key), hash(keyed, value))))
            };
            (9u8, pairs.iter().fold(0, sum)).hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn str(text: &str) -> Value {
        Value::Str(text.into())
    }

    fn dict(pairs: &[(Value, Value)]) -> Value {
        Value::Dict(pairs.into())
    }

    /// A Python int from its two's complement, as the decoder would store it.
    fn big(digits: &[u8]) -> Value {
        Value::BigInt(digits.into())
    }

    #[test]
    fn numbers_compare_across_types_exactly() {
        let one = [Value::Int(1), Value::Float(1.0), Value::Bool(true)];
        for a in &one {
            for b in &one {
                assert!(a.py_eq(b), "{a:?} {b:?}");
            }
        }
        assert!(Value::Float(-0.0).py_eq(&Value::Bool(false)));
        assert!(!Value::Int(1).py_eq(&str("1")));
        assert!(!Value::Int(0).py_eq(&Value::None));
        // 2^53 + 1 is no float; 2^53 is.
        assert!(Value::Int(1 << 53).py_eq(&Value::Float(9007199254740992.0)));
        assert!(!Value::Int((1 << 53) + 1).py_eq(&Value::Float(9007199254740992.0)));
        assert!(Value::Int(i64::MIN).py_eq(&Value::Float(-9223372036854775808.0)));
        assert!(!Value::Int(i64::MAX).py_eq(&Value::Float(9223372036854775808.0)));
        assert!(!Value::Float(1.5).py_eq(&Value::Int(1)));
        assert!(!Value::Float(5e-324).py_eq(&Value::Int(0)));
        assert!(!Value::Float(f64::NAN).py_eq(&Value::Float(f64::NAN)));
        assert!(Value::Float(f64::INFINITY).py_eq(&Value::Float(f64::INFINITY)));
    }

    #[test]
    fn wide_integers_compare_with_floats() {
        let two_63 = big(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0]);
        assert!(two_63.py_eq(&Value::Float(9223372036854775808.0)));
        assert!(!two_63.py_eq(&Value::Float(-9223372036854775808.0)));
        let minus_2_71 = big(&[0, 0, 0, 0, 0, 0, 0, 0, 0x80]);
        assert!(minus_2_71.py_eq(&Value::Float(-(2f64.powi(71)))));
        let two_1000 = big(&[&[0u8; 125][..], &[1]].concat());
        assert!(two_1000.py_eq(&Value::Float(2f64.powi(1000))));
        let odd = big(&[&[1u8][..], &[0; 124], &[1]].concat());
        assert!(!odd.py_eq(&Value::Float(2f64.powi(1000))));
        assert!(!two_1000.py_eq(&Value::Float(f64::INFINITY)));
    }

    #[test]
    fn containers_ignore_order_where_python_does() {
        let ab = dict(&[
            (str("a"), Value::Int(1)),
            (Value::Int(2), Value::List([].into())),
        ]);
        let ba = dict(&[
            (Value::Float(2.0), Value::List([].into())),
            (str("a"), Value::Bool(true)),
        ]);
        assert!(ab.py_eq(&ba) && ba.py_eq(&ab));
        assert!(!ab.py_eq(&dict(&[(str("a"), Value::Int(1))])));
        let items: std::sync::Arc<[Value]> = [Value::Int(1), str("x")].into();
        let swapped: std::sync::Arc<[Value]> = [str("x"), Value::Float(1.0)].into();
        assert!(!Value::Tuple(items.clone()).py_eq(&Value::List(items.clone())));
        assert!(!Value::List(items.clone()).py_eq(&Value::List(swapped.clone())));
        assert!(Value::Set(items).py_eq(&Value::Set(swapped)));
        assert!(!str("a").py_eq(&Value::Bytes(b"a"[..].into())));
    }

    /// S9: comparing hostile dicts takes neither square nor exponential time.
    #[test]
    fn hostile_comparisons_end() {
        let reversed = |pairs: &[(Value, Value)]| {
            let mut pairs = pairs.to_vec();
            pairs.reverse();
            dict(&pairs)
        };
        let many: Vec<_> = (0..200_000).map(|i| (Value::Int(i), Value::None)).collect();
        assert!(dict(&many).py_eq(&reversed(&many)));
        let nans = vec![(Value::Float(f64::NAN), Value::None); 200_000];
        assert!(!dict(&nans).py_eq(&reversed(&nans)));
        let (mut a, mut b) = (Value::None, Value::None);
        for _ in 0..crate::config::limits::PICKLE_DEPTH_MAX {
            a = dict(&[(str("x"), a.clone()), (str("y"), Value::Int(1))]);
            b = reversed(&[(str("x"), b.clone()), (str("y"), Value::Int(1))]);
        }
        assert!(a.py_eq(&b));
        let (mut a, mut b) = (Value::None, Value::None);
        for _ in 0..crate::config::limits::PICKLE_DEPTH_MAX {
            a = Value::Set([a, str("x")].into());
            b = Value::Set([str("x"), b].into());
        }
        assert!(a.py_eq(&b));
    }
}
