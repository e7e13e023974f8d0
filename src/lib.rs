//! pg-witness: the third vote of a two-node PostgreSQL cluster run by Patroni.
//!
//! The rooms, from the door to the cellar (a room uses only those below it):
//!
//! * [`config`]: file, environment and flags become one validated `Config`;
//!   [`config::limits`] holds every cap in one place.
//! * [`disk`]: what must survive a power cut: hard state, log, checkpoints.
//! * [`kv`]: Patroni's `KVStoreTTL` as a pure state machine.
//! * [`links`]: connections to peers and the translation of what is said there.
//! * [`wire`]: PySyncObj's bytes, without I/O.

pub mod config;
pub mod disk;
pub mod kv;
pub mod links;
pub mod wire;
