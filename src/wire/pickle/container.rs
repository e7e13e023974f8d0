//! Containers while a pickle fills them, and the measure of what they hold.

use std::collections::HashMap;
use std::sync::Arc;

use super::PickleError;
use crate::limits::{
    PICKLE_BYTES_MAX, PICKLE_DEPTH_MAX, PICKLE_MEMO_MAX, PICKLE_VALUES_MAX, SNAPSHOT_DEPTH_MAX,
};
use crate::wire::python_eq::DictKey;
use crate::wire::value::{Str, Value};

/// From this many pairs on, a dict finds its keys through an index.
const INDEXED_FROM: usize = 8;

/// What one pickle may hold, and may cost to read (S10).
#[derive(Debug, Clone, Copy)]
pub struct PickleCaps {
    /// Values pushed, or held with shared parts written out.
    values: usize,
    /// Bytes of text and `bytes`, likewise.
    bytes: usize,
    /// Containers within containers.
    depth: usize,
    /// Slots of the memo.
    memo: usize,
}

impl PickleCaps {
    /// Of a message, and of the command in an entry.
    pub const MESSAGE: Self = Self {
        values: PICKLE_VALUES_MAX,
        bytes: PICKLE_BYTES_MAX,
        depth: PICKLE_DEPTH_MAX,
        memo: PICKLE_MEMO_MAX,
    };

    /// Of a snapshot that a peer sends.
    pub const SNAPSHOT: Self = Self {
        depth: SNAPSHOT_DEPTH_MAX,
        ..Self::MESSAGE
    };

    /// The same with another cap on the values.
    pub const fn with_values(self, values: usize) -> Self {
        Self { values, ..self }
    }

    /// Of what [`encode`](super::encode()) wrote in `len` bytes: it shares nothing
    /// and uses no memo, so that each of them is one value or one byte of text at
    /// most, looked at a few times.
    pub const fn of_own(len: usize) -> Self {
        const LOOKS: usize = 4;
        Self {
            values: len.saturating_mul(LOOKS),
            bytes: len.saturating_mul(LOOKS),
            depth: SNAPSHOT_DEPTH_MAX,
            memo: 0,
        }
    }
}

/// What a value holds with all shared parts written out: a pickle of a hundred
/// bytes can otherwise stand for 2^60 values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    values: u32,
    bytes: u32,
    depth: u8,
}

impl Size {
    /// Of a number, or of a container that is still empty.
    pub(super) const ONE: Self = Self {
        values: 1,
        bytes: 0,
        depth: 1,
    };

    /// Of a text or a `bytes`.
    pub(super) fn of_bytes(len: usize) -> Result<Self, PickleError> {
        let bytes = u32::try_from(len).map_err(|_| PickleError::Limit("bytes"))?;
        Ok(Self { bytes, ..Self::ONE })
    }

    /// Adds one more item to a container.
    pub(super) fn absorb(&mut self, item: Self, caps: &PickleCaps) -> Result<(), PickleError> {
        self.values = self.values.saturating_add(item.values);
        self.bytes = self.bytes.saturating_add(item.bytes);
        self.depth = self.depth.max(item.depth.saturating_add(1));
        let over = |got: u32, max: usize| usize::try_from(got).map_or(true, |got| got > max);
        if usize::from(self.depth) > caps.depth {
            Err(PickleError::Limit("depth"))
        } else if over(self.values, caps.values) {
            Err(PickleError::Limit("values"))
        } else if over(self.bytes, caps.bytes) {
            Err(PickleError::Limit("bytes"))
        } else {
            Ok(())
        }
    }
}

/// What one pickle has spent on values pushed and on bytes made or hashed,
/// counted again each time: opcodes that repeat costly work on a shared value
/// would otherwise take hours.
pub(super) struct Budget {
    pub(super) caps: PickleCaps,
    values: usize,
    bytes: usize,
}

impl Budget {
    pub(super) const fn new(caps: PickleCaps) -> Self {
        Self {
            caps,
            values: 0,
            bytes: 0,
        }
    }

    /// Counts one value pushed.
    pub(super) fn push(&mut self) -> Result<(), PickleError> {
        self.spend(Size::ONE)
    }

    /// Counts work over all that `size` measures.
    pub(super) fn spend(&mut self, size: Size) -> Result<(), PickleError> {
        let count = |more: u32| usize::try_from(more).unwrap_or(usize::MAX);
        self.values = self.values.saturating_add(count(size.values));
        self.bytes = self.bytes.saturating_add(count(size.bytes));
        if self.values > self.caps.values {
            Err(PickleError::Limit("values"))
        } else if self.bytes > self.caps.bytes {
            Err(PickleError::Limit("bytes"))
        } else {
            Ok(())
        }
    }

    /// Whether the memo may have a slot at this place.
    pub(super) const fn has_memo(&self, at: usize) -> bool {
        at < self.caps.memo
    }
}

/// A container that opcodes may still change. Once another container takes it
/// in, it is frozen: a change from then on would mean recursion.
pub(super) enum Container {
    List(Vec<Value>),
    Dict(Pairs),
    Set(Pairs),
    /// An object of a node class, before BUILD gave it its `_id`.
    Node(Option<Str>),
    Frozen(Value),
}

impl Container {
    /// The finished value.
    pub(super) fn freeze(&mut self) -> Result<Value, PickleError> {
        let value = match self {
            Self::Frozen(value) => return Ok(value.clone()),
            // An empty `Arc` of its own would be an allocation per heartbeat.
            Self::List(items) if items.is_empty() => Value::List(Arc::default()),
            Self::List(items) => Value::List(items.drain(..).collect()),
            Self::Dict(pairs) => pairs.finish().0,
            Self::Set(pairs) => Value::Set(pairs.pairs.drain(..).map(|(k, _)| k).collect()),
            Self::Node(id) => Value::Node(id.take().ok_or(PickleError::Type)?),
        };
        *self = Self::Frozen(value.clone());
        Ok(value)
    }
}

/// The pairs of a dict in order of insertion, or the items of a set (with
/// `None` as their values).
#[derive(Default)]
pub(super) struct Pairs {
    pub(super) pairs: Vec<(Value, Value)>,
    index: Option<HashMap<DictKey, usize>>,
}

impl Pairs {
    /// Python's `d[key] = value`: an equal key keeps its place and its first
    /// form and takes the new value.
    pub(super) fn insert(&mut self, key: Value, value: Value) -> Result<(), PickleError> {
        if !DictKey::is_hashable(&key) {
            return Err(PickleError::Unhashable);
        }
        let key = DictKey(key);
        let found = match &self.index {
            Some(index) => index.get(&key).copied(),
            None => self
                .pairs
                .iter()
                .position(|(k, _)| DictKey(k.clone()) == key),
        };
        if let Some(slot) = found.and_then(|at| self.pairs.get_mut(at)) {
            slot.1 = value;
            return Ok(());
        }
        if self.index.is_none() && self.pairs.len() >= INDEXED_FROM {
            let keys = self.pairs.iter().map(|(k, _)| DictKey(k.clone()));
            self.index = Some(keys.zip(0..).collect());
        }
        if let Some(index) = &mut self.index {
            index.insert(key.clone(), self.pairs.len());
        }
        self.pairs.push((key.0, value));
        Ok(())
    }

    /// The dict, and the emptied buffer for the next one.
    pub(super) fn finish(&mut self) -> (Value, Vec<(Value, Value)>) {
        let mut pairs = std::mem::take(&mut self.pairs);
        self.index = None;
        (Value::Dict(pairs.drain(..).collect()), pairs)
    }
}
