//! The member as a whole, on loopback and on real folders, through its own door:
//! the wire. Beside real members stand scripted peers that say what a PySyncObj
//! node may say, or what nobody should. A test names the rule that it proves.

// A test fails by panicking.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod amnesia;
mod budget;
mod fake;
mod forming;
mod hostile;
mod joining;
mod liveness;
mod memory;
mod newcomers;
mod orphaned;
mod placement;
mod pre_vote;
mod proposals;
mod quorum;
mod quota;
mod rig;
mod storage;
mod terms;
mod withdrawn;
mod words;
