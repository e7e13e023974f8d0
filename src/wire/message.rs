//! The messages of the Raft protocol (spec 3).

/// A follower's answer to an append or to the last chunk of a snapshot (spec
/// 3.6). It names neither term nor request (H9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextNodeIdx {
    /// The index that the follower wants next.
    pub next: i64,
    /// The append did not fit: go back to `next`.
    pub reset: bool,
    /// The append was taken: everything below `next` is held.
    pub success: bool,
}
