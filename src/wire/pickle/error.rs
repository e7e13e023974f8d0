//! What a decoder refuses.

use std::fmt;

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
