//! Commands: the bytes that a log entry carries (spec 6.1-6.3).
//!
//! Parsing never fails and never replaces the bytes: an entry is stored and
//! forwarded verbatim whatever it means (H29). What Python would choke on is
//! [`Command::Malformed`]: refused as leader, a no-op when applied (H6).

use std::sync::Arc;

use super::pickle::{self, Encode, PickleWriter};
use super::value::{Str, Value};
use crate::address::Address;

/// First byte of a call of a replicated function; its pickle follows.
pub const REGULAR: u8 = 0;
const NO_OP: u8 = 1;
const MEMBERSHIP: u8 = 2;
const VERSION: u8 = 3;

/// Function id of `_delete(key, recursive=False, **kwargs)` (spec 6.2).
pub const DELETE: i64 = 0;
/// Function id of `_expire(key, value)`.
pub const EXPIRE: i64 = 1;
/// Function id of `_set(key, value, **kwargs)`.
pub const SET: i64 = 2;

/// The command that makes the call `object`: `(function, args[, kwargs])`.
pub fn regular(object: &Value) -> Arc<[u8]> {
    let mut command = vec![REGULAR];
    pickle::encode(object, &mut command);
    command.into()
}

/// What a command asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// A call of a replicated function: `(function, args[, kwargs])`, unpickled
    /// and not judged (`kv::Call`).
    Regular(Value),
    /// Nothing: a leader's first entry.
    Noop,
    /// A change of the cluster, in effect from its append on.
    Membership {
        /// Whether to add; else to remove.
        add: bool,
        /// The member.
        address: Address,
    },
    /// Enable a version of the replicated code; a no-op for Patroni.
    Version(i64),
    /// No kind that exists: no effect in Python either.
    Unknown,
    /// Of a known kind, but its body is not of that kind's shape: poison to
    /// Python nodes (H6).
    Malformed,
}

impl Command {
    /// Reads a command.
    pub fn parse(bytes: &[u8]) -> Self {
        let Some((kind, body)) = bytes.split_first() else {
            return Self::Unknown;
        };
        let parsed = match *kind {
            REGULAR => pickle::decode(body).ok().map(Self::Regular),
            NO_OP => Some(Self::Noop),
            MEMBERSHIP => parse_membership(body),
            VERSION => parse_version(body),
            _ => Some(Self::Unknown),
        };
        parsed.unwrap_or(Self::Malformed)
    }

    /// Whether `bytes` are a membership change, without parsing others.
    pub fn is_membership(bytes: &[u8]) -> bool {
        bytes.first() == Some(&MEMBERSHIP)
    }
}

/// `['add' | 'rem', address, ...]`: the third element, a node object, says
/// nothing more.
fn parse_membership(body: &[u8]) -> Option<Command> {
    let value = pickle::decode(body).ok()?;
    let [word, address, ..] = value.as_seq()? else {
        return None;
    };
    let add = match word.as_str()? {
        "add" => true,
        "rem" => false,
        _ => return None,
    };
    let address = address.as_str()?.parse().ok()?;
    Some(Command::Membership { add, address })
}

fn parse_version(body: &[u8]) -> Option<Command> {
    let version = pickle::decode(body).ok()?.as_int()?;
    Some(Command::Version(version))
}

/// The NO_OP with which a leader begins its term, and every log its entry 1.
pub fn noop() -> Arc<[u8]> {
    [NO_OP].into()
}

/// A change of the cluster. The list without a node object is accepted by all
/// versions (spec 4.2).
pub fn membership(add: bool, address: &Address) -> Arc<[u8]> {
    build(MEMBERSHIP, &|w| {
        w.list();
        w.str(if add { "add" } else { "rem" });
        w.str(address.as_str());
        w.end_list();
    })
}

/// `_set(key, value, **kwargs)`; `value` is the dict that Patroni stores.
pub fn set(key: &Str, value: &Value, kwargs: &[(&str, Value)]) -> Arc<[u8]> {
    call(SET, &[&Value::Str(key.clone()), value], kwargs)
}

/// `_delete(key, **kwargs)`.
pub fn delete(key: &Str, kwargs: &[(&str, Value)]) -> Arc<[u8]> {
    call(DELETE, &[&Value::Str(key.clone())], kwargs)
}

/// `_expire(key, value)`: removes `key` if what is stored is still `value`, the
/// full stored dict (spec 6.5).
pub fn expire(key: &Value, value: &Value) -> Arc<[u8]> {
    call(EXPIRE, &[key, value], &[])
}

fn call(function: i64, args: &[&Value], kwargs: &[(&str, Value)]) -> Arc<[u8]> {
    build(REGULAR, &|w| {
        w.mark();
        w.int(function);
        w.mark();
        args.iter().for_each(|arg| arg.encode(w));
        w.tuple();
        if !kwargs.is_empty() {
            w.dict();
            for (name, value) in kwargs {
                w.str(name);
                value.encode(w);
            }
            w.end_dict();
        }
        w.tuple();
    })
}

fn build(kind: u8, body: &dyn Fn(&mut PickleWriter<'_>)) -> Arc<[u8]> {
    let mut bytes = vec![kind];
    let mut writer = PickleWriter::start(&mut bytes);
    body(&mut writer);
    writer.stop();
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_is_told_from_what_python_ignores() {
        // H6, H29
        assert!(matches!(Command::parse(b""), Command::Unknown));
        assert!(matches!(Command::parse(b"\x09junk"), Command::Unknown));
        assert!(matches!(Command::parse(b"\x01"), Command::Noop));
        assert!(matches!(Command::parse(b"\x00junk"), Command::Malformed));
        assert!(matches!(Command::parse(b"\x02]."), Command::Malformed));
        assert!(matches!(Command::parse(b"\x03N."), Command::Malformed));
    }

    #[test]
    fn what_we_build_is_what_we_parse() {
        let address: Address = "10.0.0.3:5010".parse().unwrap();
        for add in [true, false] {
            let parsed = Command::parse(&membership(add, &address));
            assert!(
                matches!(parsed, Command::Membership { add: a, address: b } if a == add && b == address)
            );
        }
        let value = Value::dict([("value", Value::str("pg1")), ("updated", Value::Float(1.5))]);
        let bytes = set(
            &"/service/demo/leader".into(),
            &value,
            &[("prevExist", Value::Bool(false))],
        );
        let Command::Regular(object) = Command::parse(&bytes) else {
            panic!("no call")
        };
        let key = Value::str("/service/demo/leader");
        let call = Value::tuple([
            Value::Int(SET),
            Value::tuple([key, value]),
            Value::dict([("prevExist", Value::Bool(false))]),
        ]);
        assert!(object.py_eq(&call));
        assert!(matches!(Command::parse(&noop()), Command::Noop));
    }
}
