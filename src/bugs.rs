//! Deliberate bugs, to prove that the tests see what they are there to see.
//!
//! With the feature `deliberate-bugs` the variable `PG_WITNESS_BUG` plants one
//! of them; without it [`planted`] is a constant and nothing of them is
//! compiled. `tests/bugs` shows those being caught that a single test is for; in
//! `tests/simulation` each can be looked for. Never in a release.

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
    /// `anothers-status`: what another node answers in place of the one that was asked
    /// counts as its word (S7, S13).
    AnothersStatus,
    /// `diverged-forgotten`: that a leader has contradicted what is committed here is
    /// forgotten with the process (S2).
    DivergedForgotten,
    /// `joins-without-all`: it asks to be added while a member does not answer (S17).
    JoinsWithoutAll,
    /// `probes-below`: a reader is sent appends below what it may hold (S3).
    ProbesBelow,
}

#[cfg(feature = "deliberate-bugs")]
impl Bug {
    /// All of them, by the names that [`planted`] knows.
    const ALL: [(&str, Self); 10] = [
        ("acknowledge-before-fsync", Self::AcknowledgeBeforeFsync),
        ("vote-twice", Self::VoteTwice),
        ("stale-match", Self::StaleMatch),
        ("wall-clock-expiry", Self::WallClockExpiry),
        ("amnesic-success", Self::AmnesicSuccess),
        ("stale-log-kept", Self::StaleLogKept),
        ("anothers-status", Self::AnothersStatus),
        ("diverged-forgotten", Self::DivergedForgotten),
        ("joins-without-all", Self::JoinsWithoutAll),
        ("probes-below", Self::ProbesBelow),
    ];
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
    let chosen = PLANTED.get_or_init(|| {
        let name = std::env::var("PG_WITNESS_BUG").ok()?;
        let known = Bug::ALL.iter().find(|(known, _)| *known == name);
        known.map(|(_, bug)| *bug)
    });
    *chosen == Some(bug)
}
