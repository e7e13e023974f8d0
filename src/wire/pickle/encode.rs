//! The minimal encoder of spec 4.2: protocol 2, no memo, shapes that every
//! Python peer accepts.

use crate::wire::value::{Str, Value};

/// What can be written as one Python value.
pub trait Encode {
    /// Writes exactly one value.
    fn encode(&self, writer: &mut PickleWriter<'_>);
}

/// Writes the opcodes of one pickle to the end of a buffer. Containers are
/// bracketed: [`mark`](Self::mark), items, then what they become.
pub struct PickleWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> PickleWriter<'a> {
    /// Begins a pickle of protocol 2.
    pub fn start(out: &'a mut Vec<u8>) -> Self {
        out.extend_from_slice(b"\x80\x02");
        Self { out }
    }

    /// Ends the pickle.
    pub fn stop(self) {
        self.out.push(b'.');
    }

    /// `None`.
    pub fn none(&mut self) {
        self.out.push(b'N');
    }

    /// `True` or `False`.
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { 0x88 } else { 0x89 });
    }

    /// An `int`.
    pub fn int(&mut self, value: i64) {
        if let Ok(small) = u8::try_from(value) {
            self.op(b'K', &[small]);
        } else if let Ok(small) = u16::try_from(value) {
            self.op(b'M', &small.to_le_bytes());
        } else if let Ok(small) = i32::try_from(value) {
            self.op(b'J', &small.to_le_bytes());
        } else {
            self.long(&value.to_le_bytes());
        }
    }

    /// An `int` that is never negative.
    pub fn uint(&mut self, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.int(value),
            Err(_) => self.long(&u128::from(value).to_le_bytes()),
        }
    }

    /// An `int` as two's complement, little-endian.
    pub fn long(&mut self, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(len) => self.op(0x8a, &[len]),
            // Wider than 2^31 bytes cannot be built: the decoder's cap is 256.
            Err(_) => self.op(0x8b, &u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes()),
        }
        self.out.extend_from_slice(bytes);
    }

    /// A `float`, bit for bit.
    pub fn float(&mut self, value: f64) {
        self.op(b'G', &value.to_be_bytes());
    }

    /// A `str`.
    pub fn str(&mut self, text: &str) {
        self.text(text.as_bytes());
    }

    /// A `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.sized(Some(b'C'), b'B', 0x8e, bytes);
    }

    /// Begins a container's items.
    pub fn mark(&mut self) {
        self.out.push(b'(');
    }

    /// Makes a `tuple` of the items since the mark.
    pub fn tuple(&mut self) {
        self.out.push(b't');
    }

    /// Makes a `tuple` of the last two values, which need no mark.
    pub fn pair(&mut self) {
        self.out.push(0x86);
    }

    /// Begins a `list`; ended by [`end_list`](Self::end_list).
    pub fn list(&mut self) {
        self.out.extend_from_slice(b"](");
    }

    /// Ends a `list`.
    pub fn end_list(&mut self) {
        self.out.push(b'e');
    }

    /// Begins a `dict` of alternating keys and values; ended by
    /// [`end_dict`](Self::end_dict).
    pub fn dict(&mut self) {
        self.out.extend_from_slice(b"}(");
    }

    /// Ends a `dict`.
    pub fn end_dict(&mut self) {
        self.out.push(b'u');
    }

    /// A `pysyncobj.node.TCPNode`, by its constructor. Only snapshots need it
    /// (spec 7.3).
    pub fn node(&mut self, address: &[u8]) {
        self.out.extend_from_slice(b"cpysyncobj.node\nTCPNode\n");
        self.text(address);
        self.out.extend_from_slice(b"\x85R");
    }

    /// Writes a value of any kind.
    pub fn value(&mut self, value: &(impl Encode + ?Sized)) {
        value.encode(self);
    }

    fn text(&mut self, text: &[u8]) {
        self.sized(None, b'X', 0x8d, text);
    }

    /// A counted string under its opcodes for a u8, u32 and u64 count.
    fn sized(&mut self, short: Option<u8>, long: u8, huge: u8, bytes: &[u8]) {
        match (short, u8::try_from(bytes.len()), u32::try_from(bytes.len())) {
            (Some(op), Ok(len), _) => self.op(op, &[len]),
            (_, _, Ok(len)) => self.op(long, &len.to_le_bytes()),
            _ => self.op(huge, &(bytes.len() as u64).to_le_bytes()),
        }
        self.out.extend_from_slice(bytes);
    }

    fn op(&mut self, op: u8, argument: &[u8]) {
        self.out.push(op);
        self.out.extend_from_slice(argument);
    }
}

impl Encode for str {
    fn encode(&self, writer: &mut PickleWriter<'_>) {
        writer.str(self);
    }
}

impl Encode for Str {
    fn encode(&self, writer: &mut PickleWriter<'_>) {
        writer.text(self.as_bytes());
    }
}

impl Encode for Value {
    /// Recursion is as deep as the value: the decoder's cap for what came from
    /// outside.
    fn encode(&self, writer: &mut PickleWriter<'_>) {
        match self {
            Self::None => writer.none(),
            Self::Bool(b) => writer.bool(*b),
            Self::Int(i) => writer.int(*i),
            Self::BigInt(bytes) => writer.long(bytes),
            Self::Float(f) => writer.float(*f),
            Self::Str(s) => s.encode(writer),
            Self::Bytes(b) => writer.bytes(b),
            Self::Tuple(items) => {
                writer.mark();
                items.iter().for_each(|item| item.encode(writer));
                writer.tuple();
            }
            Self::List(items) => {
                writer.list();
                items.iter().for_each(|item| item.encode(writer));
                writer.end_list();
            }
            Self::Dict(pairs) => {
                writer.dict();
                for (key, value) in pairs.iter() {
                    key.encode(writer);
                    value.encode(writer);
                }
                writer.end_dict();
            }
            Self::Set(items) => {
                writer.out.extend_from_slice(b"c__builtin__\nset\n");
                writer.list();
                items.iter().for_each(|item| item.encode(writer));
                writer.end_list();
                writer.out.extend_from_slice(b"\x85R");
            }
            Self::Node(id) => writer.node(id.as_bytes()),
        }
    }
}
