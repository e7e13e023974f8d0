//! pg-witness: the third vote of a two-node PostgreSQL cluster run by Patroni.
//!
//! The rooms, from the door to the cellar (a room uses only those below it):
//!
//! * `appliance`, in the program on a card: being PID 1 on a board;
//! * [`cli`]: one file a command; [`logging`]: where their words go;
//! * [`http`]: the status, the page and the metrics, served;
//! * [`status`]: what is known, as one model, and whether a failover would work;
//! * [`probe`]: whether PostgreSQL accepts connections, asked without a password;
//! * [`member`]: one cluster's member: it ties the rooms below together;
//! * [`raft`]: openraft made at home: votes, commit, order of durability;
//! * [`links`]: connections to peers, and the pure translation of what they say;
//! * [`disk`]: what must survive a power cut: hard state, log, checkpoints;
//! * [`config`]: file, environment and flags become one validated `Config`;
//! * [`kv`]: Patroni's `KVStoreTTL` as a pure state machine;
//! * [`machine`]: what PID 1 of a board has to say, for whoever shows it;
//! * [`reason`]: why this witness does not vote, in words and with the remedy;
//! * [`wire`]: PySyncObj's bytes, without I/O;
//! * [`reactor`]: the one thread's tasks, sockets, timers, clock and chance;
//! * below all of them, one file each: [`address`], [`ids`] and [`secret`], the
//!   values that every room names; [`limits`], every cap in one place; [`text`],
//!   somebody else's text made harmless.
//!
//! [`bugs`]: what the tests plant in these rooms to see whether they notice.
//!
//! How a write and a vote pass through them, and the safety rules that the code
//! cites as "S7": [`architecture`]. The hazards "H8" and the sections "spec 3.8":
//! [`wire::protocol`]. The rules of the engine, "E3": [`raft::openraft_rules`].

// What runs in a member asks `reactor` for time, chance and names (.clippy.toml).
#![deny(clippy::disallowed_methods)]

/// [PROTOCOL.md]: crate::wire::protocol
/// [OPENRAFT.md]: crate::raft::openraft_rules
#[cfg(doc)]
#[doc = include_str!("ARCHITECTURE.md")]
pub mod architecture {}

pub mod address;
#[cfg(feature = "appliance")]
#[allow(
    clippy::disallowed_methods,
    reason = "the board's own processes are no member"
)]
pub mod appliance;
pub mod bugs;
pub mod cli;
pub mod config;
pub mod disk;
pub mod election;
pub mod http;
pub mod ids;
pub mod kv;
pub mod limits;
pub mod links;
pub mod logging;
pub mod machine;
pub mod member;
pub mod probe;
pub mod raft;
pub mod reactor;
pub mod reason;
pub mod secret;
pub mod status;
pub mod text;
pub mod wire;
