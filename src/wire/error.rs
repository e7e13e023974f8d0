//! Why a value is no message, no hello and no reply of PySyncObj's.

use std::fmt;

use super::pickle::PickleError;

/// Why a value is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageError {
    /// The first message is neither a text nor a list.
    NotHello,
    /// A Raft message must be a dict with a `type`.
    NotMessage,
    /// A field is missing or not of its type or range.
    Field(&'static str),
    /// An entry is no `(bytes, index, term)`, or does not follow its
    /// predecessor.
    Entry,
    /// More entries than a message may carry (S10).
    TooManyEntries,
    /// The pickle of an entry in fragments does not decode.
    Pickle(PickleError),
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHello => f.write_str("first message is neither text nor list"),
            Self::NotMessage => f.write_str("message is no dict with a type"),
            Self::Field(name) => write!(f, "message field {name} is missing or out of range"),
            Self::Entry => f.write_str("message holds entries that are malformed or not in order"),
            Self::TooManyEntries => f.write_str("message holds too many entries"),
            Self::Pickle(error) => write!(f, "entry in fragments: {error}"),
        }
    }
}

impl std::error::Error for MessageError {}
