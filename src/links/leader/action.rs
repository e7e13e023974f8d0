//! What the leader's side asks of the connections.

use std::fmt;
use std::ops::Range;

use super::{ConnId, Peer};
use crate::ids::{EntryId, LogIndex};

/// One thing to do, in the order of emission. All but [`Action::Close`] and
/// [`Action::SnapshotNeeded`] are one `append_entries` message each, which must
/// reach the connection in that order or not at all (and then the connection
/// is at its end).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A regular append. The peer answers it exactly once.
    Append {
        /// To whom.
        peer: Peer,
        /// Over which connection.
        conn: ConnId,
        /// `prevLogIdx` and `prevLogTerm`.
        prev: EntryId,
        /// The entries to send, from `prev`'s next; empty for a heartbeat.
        entries: Range<LogIndex>,
        /// `commit_index`. The true one even while probing: a Python follower
        /// leaves it alone until `prev` fits, and takes its arrival for
        /// knowledge of how far it must apply before it is ready.
        commit: LogIndex,
    },
    /// The peer needs entries that the log no longer has. Prepare a snapshot,
    /// then call `snapshot_ready` or `snapshot_failed`.
    SnapshotNeeded {
        /// Who needs it.
        peer: Peer,
        /// Over which connection.
        conn: ConnId,
    },
    /// A piece of the snapshot: `serialized = (data, first, last)`, with
    /// `commit_index` 0 (see [`Action::SnapshotIdle`]). Only the last is
    /// answered.
    SnapshotChunk {
        /// To whom.
        peer: Peer,
        /// Over which connection.
        conn: ConnId,
        /// Which bytes of the snapshot; empty in the last chunk.
        data: Range<u64>,
        /// Whether it is the first chunk.
        first: bool,
        /// Whether it is the last chunk.
        last: bool,
    },
    /// A heartbeat while a snapshot is prepared or being loaded: `serialized =
    /// None`, never answered. Its `commit_index` must be 0: on this path a
    /// Python follower commits up to it whatever its log holds, be it another
    /// leader's entries (spec 3.3, step 3); and with 1 an empty one would call
    /// itself ready.
    SnapshotIdle {
        /// To whom.
        peer: Peer,
        /// Over which connection.
        conn: ConnId,
    },
    /// Close the connection, abortively if the system can (unsent bytes must
    /// not arrive beside those of the next one), and let it be made anew.
    /// Asked once; nothing more is sent or counted on it.
    Close {
        /// Whose connection.
        peer: Peer,
        /// Which one.
        conn: ConnId,
        /// Why, for the log.
        reason: CloseReason,
    },
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Replies to an earlier leadership may come on it (H9 c).
    Unfenced,
    /// A newer connection of the same peer took its place.
    Replaced,
    /// No reply within the reply timeout.
    Silent,
    /// A reply that cannot be the answer to the append it should answer (H9).
    OutOfStep,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unfenced => "replies to an earlier leadership may still come",
            Self::Replaced => "the peer connected anew",
            Self::Silent => "the peer does not answer",
            Self::OutOfStep => "an answer that fits no question",
        })
    }
}
