//! Who is on the other side, and over which connection.

use std::fmt;

use crate::address::Address;

/// A receiver of our appends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// A member of the group, by its advertised address.
    Member(Address),
    /// A reader that never votes and is never counted (spec 3.9), by a number
    /// that is the caller's: a new one for every hello.
    ReadOnly(u64),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(address) => address.fmt(f),
            Self::ReadOnly(number) => write!(f, "reader {number}"),
        }
    }
}

/// One connection of this process's life; never used twice, so that a reply is
/// never counted for another connection's append (H9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// What may still come back on a connection when a leadership begins on it
/// (H9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Nothing stale: no append of an earlier leadership is unanswered on it,
    /// or the peer gave its vote for this term on it, after which it can send
    /// no older reply (H9 b).
    Clean,
    /// A reply to an earlier leadership may still come and could not be told
    /// from one to this: the connection is closed before the first append (H9
    /// c).
    Dirty,
}
