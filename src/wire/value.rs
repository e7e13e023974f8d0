//! A Python value as data: what a pickle of PySyncObj can hold, and nothing
//! that could run.

use std::sync::Arc;

/// A Python object. Distinctions that Python makes are kept: `1`, `1.0` and
/// `True` are three values (compare with [`Value::py_eq`] for Python's `==`), a
/// dict keeps its order, a float its bits, a `str` its surrogates.
///
/// Clones are cheap: what can be large is shared.
#[derive(Debug, Clone)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An `int` that fits 64 bits.
    Int(i64),
    /// A wider `int`: minimal two's complement, little-endian.
    BigInt(Arc<[u8]>),
    /// A `float`, bit for bit.
    Float(f64),
    /// A `str`.
    Str(Str),
    /// A `bytes`.
    Bytes(Arc<[u8]>),
    /// A `tuple`.
    Tuple(Arc<[Value]>),
    /// A `list`.
    List(Arc<[Value]>),
    /// A `dict` in insertion order, keys unique by Python's equality.
    Dict(Arc<[(Value, Value)]>),
    /// A `set` or `frozenset`, in the order of the pickle.
    Set(Arc<[Value]>),
    /// A `pysyncobj.node.TCPNode` or `Node`: its `_id`.
    Node(Str),
}

/// A Python `str`: UTF-8 in which lone surrogates are allowed (Python's
/// "surrogatepass"), so any `str` survives a round trip.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Str(Arc<[u8]>);

impl Str {
    /// From bytes that were checked to be UTF-8 with surrogates allowed.
    pub(crate) fn from_checked(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, unless it holds a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl Str {
    /// From bytes, unless they are no Python text: UTF-8, in which lone
    /// surrogates may stand in their three-byte form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        is_text(bytes).then(|| Self::from_checked(bytes))
    }
}

/// Whether `bytes` are UTF-8 with lone surrogates allowed.
fn is_text(mut bytes: &[u8]) -> bool {
    loop {
        let Err(error) = std::str::from_utf8(bytes) else {
            return true;
        };
        let rest = bytes.get(error.valid_up_to()..).unwrap_or_default();
        match rest {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, behind @ ..] => bytes = behind,
            _ => return false,
        }
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl std::fmt::Debug for Str {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Value {
    /// Python's truth: `None`, `False`, zeros and empty containers are false.
    pub fn truthy(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(b) => *b,
            Self::Int(i) => *i != 0,
            Self::Float(f) => *f != 0.0,
            Self::Str(s) => !s.as_bytes().is_empty(),
            Self::Bytes(b) => !b.is_empty(),
            Self::Tuple(v) | Self::List(v) | Self::Set(v) => !v.is_empty(),
            Self::Dict(v) => !v.is_empty(),
            Self::BigInt(_) | Self::Node(_) => true,
        }
    }

    /// A `str`.
    pub fn str(text: &str) -> Self {
        Self::Str(text.into())
    }

    /// A `bytes`.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }

    /// A `tuple`.
    pub fn tuple(items: impl IntoIterator<Item = Self>) -> Self {
        Self::Tuple(items.into_iter().collect())
    }

    /// A `list`.
    pub fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(items.into_iter().collect())
    }

    /// A `dict` with `str` keys, which the caller keeps distinct.
    pub fn dict<'a>(pairs: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let pairs = pairs.into_iter().map(|(k, v)| (Self::str(k), v));
        Self::Dict(pairs.collect())
    }

    /// An `int` from two's complement, little-endian, of any width; none of it
    /// means 0, as in a pickle.
    pub fn int_from_le(bytes: &[u8]) -> Self {
        let mut bytes = bytes;
        while let [head @ .., below, top] = bytes {
            let redundant = matches!((top, below >> 7), (0, 0) | (0xff, 1));
            if !redundant {
                break;
            }
            bytes = bytes.get(..=head.len()).unwrap_or_default();
        }
        if bytes.len() > 8 {
            return Self::BigInt(bytes.into());
        }
        let negative = bytes.last().is_some_and(|top| top >> 7 == 1);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self::Int(i64::from_le_bytes(wide))
    }

    /// The value under `key` of a dict.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Self::Dict(pairs) = self else { return None };
        pairs.iter().find_map(|(k, v)| match k {
            Self::Str(s) if s.as_bytes() == key.as_bytes() => Some(v),
            _ => None,
        })
    }

    /// The text of a `str` without surrogates.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(s) = self {
            s.as_str()
        } else {
            None
        }
    }

    /// An `int`, or a `bool` as Python counts it.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            Self::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }

    /// The bytes of a `bytes`.
    pub fn as_bytes(&self) -> Option<&Arc<[u8]>> {
        if let Self::Bytes(b) = self {
            Some(b)
        } else {
            None
        }
    }

    /// Whether Python could use this value as a key of a dict. A `frozenset`
    /// could be one; it is told from a `set` nowhere here, and counts as one.
    pub fn py_hashable(&self) -> bool {
        match self {
            Self::List(_) | Self::Dict(_) | Self::Set(_) => false,
            Self::Tuple(items) => items.iter().all(Self::py_hashable),
            _ => true,
        }
    }

    /// The items of a `tuple` or `list`.
    pub fn as_seq(&self) -> Option<&[Value]> {
        match self {
            Self::Tuple(v) | Self::List(v) => Some(v),
            _ => None,
        }
    }
}
