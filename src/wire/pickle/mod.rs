//! Pickles as data: a bounded decoder for what PySyncObj writes and a minimal
//! encoder for what it reads (spec 4).
//!
//! Python's own unpickler runs code on behalf of whoever wrote the pickle. This
//! one builds [`Value`]s and nothing else: no import, no call, only the few
//! names of spec 4.1 that stand for data. It never panics,
//! never recurses on input and holds no more than the caps of
//! [`limits`](crate::limits) allow, shared parts written out (S9, S10).

mod build;
mod container;
mod decode;
mod encode;
mod error;
mod input;
#[cfg(test)]
mod tests;

pub use container::PickleCaps;
pub use decode::Decoder;
pub use encode::{Encode, PickleWriter};
pub use error::PickleError;

use super::Value;

/// Decodes the pickle at the head of `bytes`; what follows its end is ignored,
/// as Python does.
///
/// # Errors
/// What makes the bytes no pickle of plain data within the caps.
pub fn decode(bytes: &[u8]) -> Result<Value, PickleError> {
    Decoder::new().decode(bytes)
}

/// Decodes as [`decode()`] does, within other caps.
///
/// # Errors
/// As [`decode()`].
pub fn decode_within(bytes: &[u8], caps: PickleCaps) -> Result<Value, PickleError> {
    Decoder::new().decode_within(bytes, caps)
}

/// Appends `value` to `out` as a pickle of protocol 2.
pub fn encode<T: Encode + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let mut writer = PickleWriter::start(out);
    value.encode(&mut writer);
    writer.stop();
}
