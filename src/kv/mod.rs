//! Patroni's `KVStoreTTL` as a pure state machine (spec 6): committed calls come
//! in, with the instant at which they did; verdicts and expiries go out. No
//! I/O, no clock, nothing spawned.
//!
//! * [`call`]: what a command calls, unpacked as PySyncObj unpacks it.
//! * `poison`: the commands that must not enter the log.
//! * `rules`: what each call does, or why Python would raise.
//! * [`store`]: the applied state, and the age of its keys.
//! * [`speculative`]: the state as of the log's end, against which a leader judges
//!   what it is asked to propose.
//!
//! Nothing reaches [`Store`] that is not a committed entry; a committed entry is
//! never refused, for that would part us from the other replicas.

mod age;
pub mod call;
mod poison;
mod rules;
pub mod speculative;
pub mod store;
mod table;

pub use call::{Call, call_of};
pub use poison::Poison;
pub use speculative::{ProposalError, SpeculativeStore};
pub use store::{Applied, Change, Life, Store, Writing};
