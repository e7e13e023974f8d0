//! PySyncObj's bytes: frames, encryption, pickles, messages, commands,
//! snapshots and the files of a Python node. No I/O, no clock, nothing spawned:
//! bytes come in, values go out. "spec" in these files is PySyncObj's protocol
//! as Patroni speaks it.

pub mod address;
pub mod ids;
pub mod message;
pub mod secret;
pub mod value;

pub use address::Address;
pub use ids::{Entry, EntryId, LogIndex, Term};
pub use secret::Secret;
pub use value::Value;
