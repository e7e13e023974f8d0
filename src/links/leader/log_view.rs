//! What the leader's side must know of the log.

use crate::ids::{EntryId, LogIndex, Term};

/// The leader's own log. It only grows at the end and is only compacted at the
/// beginning while a leadership lasts.
pub trait LogView {
    /// The newest entry, fsynced or not (S1 allows to send ahead).
    fn last(&self) -> EntryId;
    /// The term of an entry that is in the log, or of the last one before it if
    /// that is still known. None means: only a snapshot can tell.
    fn term_at(&self, index: LogIndex) -> Option<Term>;
    /// Bytes of the command at `index`, 0 if there is none.
    fn command_len(&self, index: LogIndex) -> usize;
    /// The commit index.
    fn commit(&self) -> LogIndex;
}
