//! PySyncObj's bytes: frames, encryption, pickles, messages, commands,
//! snapshots and the files of a Python node. No I/O, no clock, nothing spawned:
//! bytes come in, values go out. "spec 3.8" is a section of [`protocol`], "H8" a
//! hazard there.

pub mod command;
pub mod error;
pub mod frame;
pub mod message;
pub mod pickle;
/// [ARCHITECTURE.md]: crate::architecture
#[cfg(doc)]
#[doc = include_str!("PROTOCOL.md")]
pub mod protocol {}
pub mod fernet;
pub(crate) mod python_eq;
pub mod python_files;
pub mod session;
pub mod snapshot;
pub mod utility;
pub mod value;

pub use command::Command;
pub use error::MessageError;
pub use fernet::Key;
pub use message::Message;
pub use session::{Codec, Keys, Session, SessionError};
pub use snapshot::Snapshot;
pub use value::Value;
