//! The decoder: a stack machine over the opcodes of spec 4.1 that builds data.
//!
//! A container is filled in `open` while opcodes may still change it and frozen
//! when another takes it in. So objects shared through the memo decode to equal
//! values, and recursion shows itself as a change of something frozen.

use super::PickleError as Error;
use super::container::{Budget, Container, Pairs, PickleCaps, Size};
use super::input::{Input, decimal, wide_int};
use crate::limits::KEPT_BUFFER_BYTES_MAX;
use crate::wire::value::{Str, Value};

/// Texts that nearly every pickle of the wire holds: kept once, not allocated
/// for each message.
const COMMON: &[&str] = &[
    "type",
    "term",
    "latin1",
    "append_entries",
    "commit_index",
    "entries",
    "prevLogIdx",
    "prevLogTerm",
    "next_node_idx",
    "reset",
    "success",
    "request_vote",
    "response_vote",
    "last_log_index",
    "last_log_term",
    "apply_command",
    "apply_command_response",
    "command",
    "request_id",
    "log_idx",
    "log_term",
    "serialized",
    "keepalive",
    "value",
    "updated",
    "created",
    "expire",
    "index",
];

/// How far a memo index may run ahead: pickles number their slots in order.
const MEMO_GAP_MAX: usize = 16;

/// A class or function that a pickle may name, and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// `_codecs.encode`: how protocol 2 spells `bytes`.
    Encode,
    /// `bytes`, called without arguments.
    Bytes,
    /// `set` or `frozenset`.
    Set,
    /// `pysyncobj.node.TCPNode` or `Node`.
    Node,
    /// `copy_reg._reconstructor`: how protocols 0 and 1 make an object.
    Reconstructor,
    /// `object`, as an argument of the former.
    Object,
    /// The arguments of the former for a node.
    NewNode,
}

/// All names that are accepted (spec 4.1); nothing is looked up elsewhere.
const GLOBALS: &[(&str, &str, Global)] = &[
    ("_codecs", "encode", Global::Encode),
    ("__builtin__", "bytes", Global::Bytes),
    ("builtins", "bytes", Global::Bytes),
    ("__builtin__", "set", Global::Set),
    ("builtins", "set", Global::Set),
    ("__builtin__", "frozenset", Global::Set),
    ("builtins", "frozenset", Global::Set),
    ("pysyncobj.node", "TCPNode", Global::Node),
    ("pysyncobj.node", "Node", Global::Node),
    ("copy_reg", "_reconstructor", Global::Reconstructor),
    ("copyreg", "_reconstructor", Global::Reconstructor),
    ("__builtin__", "object", Global::Object),
    ("builtins", "object", Global::Object),
];

/// What stands on the stack or in the memo.
#[derive(Clone)]
pub(super) enum Slot {
    Done(Value),
    /// A container, by its place in `open`.
    Open(usize),
    Global(Global),
}

#[derive(Clone)]
pub(super) struct Item {
    pub(super) slot: Slot,
    pub(super) size: Size,
}

/// A decoder whose buffers serve one pickle after another.
pub struct Decoder {
    pub(super) stack: Vec<Item>,
    marks: Vec<usize>,
    memo: Vec<Option<Item>>,
    pub(super) open: Vec<(Container, Size)>,
    common: Vec<Str>,
    pub(super) spare_pairs: Vec<(Value, Value)>,
    pub(super) budget: Budget,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder; it owns little until it is used.
    pub fn new() -> Self {
        Self {
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            open: Vec::new(),
            common: COMMON.iter().map(|text| Str::from(*text)).collect(),
            spare_pairs: Vec::new(),
            budget: Budget::new(PickleCaps::MESSAGE),
        }
    }

    /// Decodes the pickle at the head of `bytes`.
    ///
    /// # Errors
    /// As [`decode`](super::decode()).
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Value, Error> {
        self.decode_within(bytes, PickleCaps::MESSAGE)
    }

    /// As [`Decoder::decode`], within other caps: what the pickle may cost is known
    /// before it is read.
    ///
    /// # Errors
    /// As [`decode`](super::decode()).
    pub fn decode_within(&mut self, bytes: &[u8], caps: PickleCaps) -> Result<Value, Error> {
        self.budget = Budget::new(caps);
        let mut input = Input { bytes };
        let result = self.run(&mut input);
        self.clear();
        result
    }

    fn clear(&mut self) {
        fn tidy<T>(buffer: &mut Vec<T>) {
            buffer.clear();
            buffer.shrink_to(KEPT_BUFFER_BYTES_MAX / 4 / size_of::<T>());
        }
        tidy(&mut self.stack);
        tidy(&mut self.marks);
        tidy(&mut self.memo);
        tidy(&mut self.open);
        tidy(&mut self.spare_pairs);
    }

    fn run(&mut self, input: &mut Input<'_>) -> Result<Value, Error> {
        loop {
            let op = input.byte()?;
            if op == b'.' {
                let item = self.pop()?;
                return Ok(self.freeze(item)?.0);
            }
            if !self.scalar(op, input)? && !self.structure(op, input)? {
                return Err(Error::Opcode(op));
            }
        }
    }

    /// Opcodes that push one plain value; false if `op` is none of them.
    fn scalar(&mut self, op: u8, input: &mut Input<'_>) -> Result<bool, Error> {
        let value = match op {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(i64::from(input.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(input.array()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(input.array()?))),
            0x8a => wide_int(input.counted(1)?)?,
            0x8b => wide_int(input.counted(4)?)?,
            b'G' => Value::Float(f64::from_be_bytes(input.array()?)),
            b'I' => match input.line()? {
                b"00" => Value::Bool(false),
                b"01" => Value::Bool(true),
                digits => decimal(digits)?,
            },
            b'L' => {
                let line = input.line()?;
                decimal(line.strip_suffix(b"L").unwrap_or(line))?
            }
            b'F' => Value::Float(input.text_line()?.parse().map_err(|_| Error::Number)?),
            b'X' => return self.text(input.counted(4)?).map(|()| true),
            0x8c => return self.text(input.counted(1)?).map(|()| true),
            0x8d => return self.text(input.counted(8)?).map(|()| true),
            b'C' => return self.bytes(input.counted(1)?).map(|()| true),
            b'B' => return self.bytes(input.counted(4)?).map(|()| true),
            0x8e => return self.bytes(input.counted(8)?).map(|()| true),
            b'U' => return self.old_string(input.counted(1)?).map(|()| true),
            b'T' => return self.old_string(input.counted(4)?).map(|()| true),
            b')' => Value::Tuple(Default::default()),
            _ => return Ok(false),
        };
        self.push(Slot::Done(value), Size::ONE)?;
        Ok(true)
    }

    /// Opcodes that arrange what was pushed; false if `op` is none of them.
    fn structure(&mut self, op: u8, input: &mut Input<'_>) -> Result<bool, Error> {
        match op {
            0x80 => match input.byte()? {
                0..=5 => {}
                newer => return Err(Error::Protocol(newer)),
            },
            0x95 => drop(input.array::<8>()?),
            b'(' => {
                // Marks count as values: they take memory too.
                self.budget.push()?;
                self.marks.push(self.stack.len());
            }
            b'}' => self.push_open(Container::Dict(Pairs::default()))?,
            b']' => self.push_open(Container::List(Vec::new()))?,
            0x8f => self.push_open(Container::Set(Pairs::default()))?,
            b'u' => self.set_items()?,
            b's' => {
                self.implied_mark(2)?;
                self.set_items()?;
            }
            b'e' => self.append_items()?,
            b'a' => {
                self.implied_mark(1)?;
                self.append_items()?;
            }
            0x90 => self.add_items()?,
            0x91 => {
                let base = self.pop_mark()?;
                let (mut set, mut size) = (Pairs::default(), Size::ONE);
                self.drain_into_set(base, &mut set, &mut size)?;
                let value = Container::Set(set).freeze()?;
                self.push(Slot::Done(value), size)?;
            }
            b't' => {
                let base = self.pop_mark()?;
                self.tuple(base)?;
            }
            0x85..=0x87 => {
                self.implied_mark(usize::from(op - 0x84))?;
                let base = self.pop_mark()?;
                self.tuple(base)?;
            }
            b'q' => self.put(usize::from(input.byte()?))?,
            b'r' => self.put(input.index()?)?,
            0x94 => self.put(self.memo.len())?,
            b'h' => self.get(usize::from(input.byte()?))?,
            b'j' => self.get(input.index()?)?,
            b'0' => self.pop_or_mark()?,
            b'1' => {
                let base = self.pop_mark()?;
                self.stack.truncate(base);
            }
            b'2' => {
                let top = self.top()?.clone();
                self.push(top.slot, top.size)?;
            }
            b'c' => {
                let (module, name) = (input.text_line()?, input.text_line()?);
                self.push_global(module, name)?;
            }
            0x93 => self.stack_global()?,
            b'R' => self.reduce()?,
            0x81 => self.new_object()?,
            b'b' => self.build()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn push(&mut self, slot: Slot, size: Size) -> Result<(), Error> {
        self.budget.push()?;
        self.stack.push(Item { slot, size });
        Ok(())
    }

    pub(super) fn push_open(&mut self, mut container: Container) -> Result<(), Error> {
        if let Container::Dict(pairs) = &mut container {
            pairs.pairs = std::mem::take(&mut self.spare_pairs);
        }
        self.open.push((container, Size::ONE));
        self.push(Slot::Open(self.open.len() - 1), Size::ONE)
    }

    fn text(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let known = self.common.iter().find(|text| text.as_bytes() == bytes);
        let text = match known {
            Some(text) => text.clone(),
            None => Str::from_bytes(bytes).ok_or(Error::Text)?,
        };
        self.push(Slot::Done(Value::Str(text)), Size::of_bytes(bytes.len())?)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let size = Size::of_bytes(bytes.len())?;
        self.push(Slot::Done(Value::bytes(bytes)), size)
    }

    /// A Python 2 string: text if it can be, as PySyncObj's fallback has it.
    fn old_string(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_ascii() {
            self.text(bytes)
        } else {
            self.bytes(bytes)
        }
    }

    /// Where the reach of the opcodes since the last mark begins.
    pub(super) fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Result<Item, Error> {
        if self.stack.len() <= self.fence() {
            return Err(Error::Stack);
        }
        self.stack.pop().ok_or(Error::Stack)
    }

    pub(super) fn top(&self) -> Result<&Item, Error> {
        if self.stack.len() <= self.fence() {
            return Err(Error::Stack);
        }
        self.stack.last().ok_or(Error::Stack)
    }

    pub(super) fn pop_mark(&mut self) -> Result<usize, Error> {
        self.marks.pop().ok_or(Error::Stack)
    }

    /// Sets a mark below the last `count` values, so that the opcodes for one
    /// item and for many share their code.
    fn implied_mark(&mut self, count: usize) -> Result<(), Error> {
        let base = self.stack.len().checked_sub(count).ok_or(Error::Stack)?;
        if base < self.fence() {
            return Err(Error::Stack);
        }
        self.marks.push(base);
        Ok(())
    }

    fn pop_or_mark(&mut self) -> Result<(), Error> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.pop_mark().map(drop)
        } else {
            self.pop().map(drop)
        }
    }

    fn put(&mut self, at: usize) -> Result<(), Error> {
        let item = self.top()?.clone();
        if at > self.memo.len() + MEMO_GAP_MAX {
            return Err(Error::Memo);
        }
        if !self.budget.has_memo(at) {
            return Err(Error::Limit("memo"));
        }
        if at >= self.memo.len() {
            self.memo.resize(at + 1, None);
        }
        if let Some(slot) = self.memo.get_mut(at) {
            *slot = Some(item);
        }
        Ok(())
    }

    fn get(&mut self, at: usize) -> Result<(), Error> {
        let item = self.memo.get(at).and_then(Option::as_ref);
        let item = item.ok_or(Error::Memo)?.clone();
        self.push(item.slot, item.size)
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<(), Error> {
        let known = GLOBALS.iter().find(|(m, n, _)| (*m, *n) == (module, name));
        let (_, _, global) = known.ok_or(Error::Global)?;
        self.push(Slot::Global(*global), Size::ONE)
    }

    fn stack_global(&mut self) -> Result<(), Error> {
        let (name, module) = (self.pop()?, self.pop()?);
        let (Slot::Done(Value::Str(name)), Slot::Done(Value::Str(module))) =
            (name.slot, module.slot)
        else {
            return Err(Error::Type);
        };
        let (Some(module), Some(name)) = (module.as_str(), name.as_str()) else {
            return Err(Error::Global);
        };
        self.push_global(module, name)
    }
}
