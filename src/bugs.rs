//! Deliberate bugs, to prove that the tests see what they are there to see.
//!
//! With the feature `deliberate-bugs` the variable `PG_WITNESS_BUG` plants one
//! of them; without it [`planted`] is a constant and nothing of them is
//! compiled. `tests/bugs` shows each being caught. Never in a release.

/// A bug that a witness must not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// `acknowledge-before-fsync`: a write is acknowledged when it is written,
    /// not when it is durable (S1).
    AcknowledgeBeforeFsync,
    /// `vote-twice`: a vote is forgotten with the process (S1, H7).
    VoteTwice,
    /// `stale-match`: a reply to an earlier leadership counts in this one (S4,
    /// H9).
    StaleMatch,
    /// `wall-clock-expiry`: keys expire by the time of day (S8).
    WallClockExpiry,
    /// `amnesic-success`: a witness that may have forgotten acknowledges (S7).
    AmnesicSuccess,
    /// `stale-log-kept`: a log of a past that the cluster has left is kept
    /// (S13).
    StaleLogKept,
}

/// Whether this bug is planted in this process.
#[cfg(not(feature = "deliberate-bugs"))]
pub const fn planted(_: Bug) -> bool {
    false
}

#[cfg(all(feature = "deliberate-bugs", not(debug_assertions)))]
compile_error!("deliberate bugs are for tests, not for a release");

/// Whether this bug is planted in this process.
#[cfg(feature = "deliberate-bugs")]
pub fn planted(bug: Bug) -> bool {
    use std::sync::OnceLock;

    static PLANTED: OnceLock<Option<Bug>> = OnceLock::new();
    let chosen = PLANTED.get_or_init(|| match std::env::var("PG_WITNESS_BUG").ok()?.as_str() {
        "acknowledge-before-fsync" => Some(Bug::AcknowledgeBeforeFsync),
        "vote-twice" => Some(Bug::VoteTwice),
        "stale-match" => Some(Bug::StaleMatch),
        "wall-clock-expiry" => Some(Bug::WallClockExpiry),
        "amnesic-success" => Some(Bug::AmnesicSuccess),
        "stale-log-kept" => Some(Bug::StaleLogKept),
        _ => None,
    });
    *chosen == Some(bug)
}
