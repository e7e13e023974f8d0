//! Pickles as data: a bounded decoder for what PySyncObj writes and a minimal
//! encoder for what it reads (spec 4).
//!
//! Python's own unpickler runs code on behalf of whoever wrote the pickle. This
//! one builds [`Value`]s and nothing else: no import, no call, only the few
//! names of spec 4.1 that stand for data. It never panics,
//! never recurses on input and holds no more than the caps of
//! [`limits`](crate::limits) allow, shared parts written out (S9, S10).

mod build;
mod container;
mod decode;
mod encode;
mod input;
#[cfg(test)]
mod tests;

use std::fmt;

pub use container::PickleCaps;
pub use decode::Decoder;
pub use encode::{Encode, Writer};

use super::Value;

/// Decodes the pickle at the head of `bytes`; what follows its end is ignored,
/// as Python does.
///
/// # Errors
/// What makes the bytes no pickle of plain data within the caps.
pub fn decode(bytes: &[u8]) -> Result<Value, PickleError> {
    Decoder::new().decode(bytes)
}

/// Decodes as [`decode()`] does, within other caps.
///
/// # Errors
/// As [`decode()`].
pub fn decode_within(bytes: &[u8], caps: PickleCaps) -> Result<Value, PickleError> {
    Decoder::new().decode_within(bytes, caps)
}

/// Appends `value` to `out` as a pickle of protocol 2.
pub fn encode<T: Encode + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let mut writer = Writer::start(out);
    value.encode(&mut writer);
    writer.stop();
}

/// Why bytes are no pickle that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickleError {
    /// The bytes end before the pickle does.
    Truncated,
    /// An opcode outside the list of spec 4.1.
    Opcode(u8),
    /// A protocol newer than 5.
    Protocol(u8),
    /// A class or function that is not known to be plain data.
    Global,
    /// The stack does not hold what the opcode needs.
    Stack,
    /// A memo slot that was never filled, or is out of range.
    Memo,
    /// An opcode applied to a value of another type.
    Type,
    /// Text that is neither UTF-8 nor lone surrogates.
    Text,
    /// A number that does not parse.
    Number,
    /// A dict key or set item that Python could not hash.
    Unhashable,
    /// A container that changes after another one holds it: recursion.
    Recursive,
    /// More than a cap allows: of values, bytes, depth or memo (S10).
    Limit(&'static str),
}

impl fmt::Display for PickleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("pickle ends early"),
            Self::Opcode(op) => write!(f, "pickle opcode {op:#04x} is not accepted"),
            Self::Protocol(p) => write!(f, "pickle protocol {p} is not known"),
            Self::Global => f.write_str("pickle names a class or function that is not plain data"),
            Self::Stack => f.write_str("pickle takes from an empty stack"),
            Self::Memo => f.write_str("pickle refers to a memo slot that is not filled"),
            Self::Type => f.write_str("pickle applies an opcode to a value of another type"),
            Self::Text => f.write_str("pickle holds text that is not UTF-8"),
            Self::Number => f.write_str("pickle holds a number that does not parse"),
            Self::Unhashable => f.write_str("pickle uses an unhashable value as a key"),
            Self::Recursive => f.write_str("pickle holds a container that contains itself"),
            Self::Limit(what) => write!(f, "pickle exceeds the limit of {what}"),
        }
    }
}

impl std::error::Error for PickleError {}
