//! openraft made at home: the consensus engine on our runtime, behind a door
//! that speaks PySyncObj's terms and indices.
//!
//! openraft decides votes, commits, truncations and the order in which state
//! becomes durable. It is not let near the wire: its replication would make a
//! Python follower truncate what it acknowledged (H8), so [`network`] only
//! waits for what `links` reports. "E3" is a rule of [`openraft_rules`].

pub mod checkpoint;
pub mod engine;
pub mod log;
pub mod machine;
pub mod network;
/// [ARCHITECTURE.md]: crate::architecture
/// [PROTOCOL.md]: crate::wire::protocol
#[cfg(doc)]
#[doc = include_str!("OPENRAFT.md")]
pub mod openraft_rules {}
pub mod proposal;
pub mod proposals;
pub mod replica;
pub mod runtime;
#[cfg(feature = "test-hooks")]
pub mod standstill;
pub mod store;
pub mod types;
