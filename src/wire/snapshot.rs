//! Snapshots: the same bytes in a transfer and in a Python node's dump (spec
//! 7.3).
//!
//! Decoding checks all that Python does not (H12): the checksum, the shapes,
//! that the two entries are consecutive. Encoding writes the fixed minimum: a
//! key more would become an attribute of the receiver's object (H26, H27).

use std::fmt;
use std::io::Read as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::message::entry_from_value;
use super::pickle::{self, Encode, PickleCaps, PickleError, PickleWriter};
use super::value::Value;
use crate::address::Address;
use crate::ids::Entry;
use crate::limits::INFLATED_BYTES_MAX;

const DATA: &str = "_KVStoreTTL__data";
const CODE_VERSION: &str = "_SyncObj__enabledCodeVersion";

/// The state after an entry, and what is needed to go on from it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The store: key and stored dict, in the order of the pickle.
    pub data: Vec<(Value, Value)>,
    /// The entry whose effect is the last one included.
    pub last: Entry,
    /// The entry before it: Python's log begins with both.
    pub prev: Entry,
    /// All members, the writer included.
    pub members: Vec<Address>,
}

/// Why bytes are no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotError {
    /// No gzip, or one whose checksum does not match.
    Gzip,
    /// More than the cap when inflated (H28).
    TooLarge,
    /// Its pickle does not decode.
    Pickle(PickleError),
    /// It is not the 4-tuple of spec 7.3; names the part.
    Shape(&'static str),
    /// Its two entries are malformed or not consecutive.
    Entries,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip => f.write_str("snapshot is no intact gzip"),
            Self::TooLarge => f.write_str("snapshot is larger than the limit when inflated"),
            Self::Pickle(error) => write!(f, "snapshot: {error}"),
            Self::Shape(part) => write!(f, "snapshot has a malformed {part}"),
            Self::Entries => f.write_str("snapshot does not hold two consecutive entries"),
        }
    }
}

impl std::error::Error for SnapshotError {}

impl Snapshot {
    /// Reads a snapshot.
    ///
    /// # Errors
    /// What makes it unfit to be installed.
    pub fn decode(gzip: &[u8]) -> Result<Self, SnapshotError> {
        let pickled = inflate(gzip, INFLATED_BYTES_MAX)?;
        let value =
            pickle::decode_within(&pickled, PickleCaps::SNAPSHOT).map_err(SnapshotError::Pickle)?;
        drop(pickled);
        let Value::Tuple(parts) = &value else {
            return Err(SnapshotError::Shape("tuple"));
        };
        let [state, last, prev, members] = &**parts else {
            return Err(SnapshotError::Shape("tuple"));
        };
        let data = state.get(DATA).ok_or(SnapshotError::Shape("state"))?;
        let last = entry_from_value(last).map_err(|_| SnapshotError::Entries)?;
        let prev = entry_from_value(prev).map_err(|_| SnapshotError::Entries)?;
        // H7: the terms may decrease, so only the indices are compared.
        if prev.id.index.next() != last.id.index {
            return Err(SnapshotError::Entries);
        }
        Ok(Self {
            data: decode_data(data)?,
            last,
            prev,
            members: decode_members(members)?,
        })
    }

    /// The bytes of this snapshot.
    pub fn encode(&self) -> Vec<u8> {
        let data = self.data.iter().map(|(key, value)| (key, value));
        encode(data, &self.last, &self.prev, &self.members)
    }
}

fn inflate(gzip: &[u8], max: usize) -> Result<Vec<u8>, SnapshotError> {
    let limit = u64::try_from(max).unwrap_or(u64::MAX);
    let mut inflated = Vec::new();
    let mut decoder = GzDecoder::new(gzip).take(limit.saturating_add(1));
    // The checksum is verified at the end of the member.
    let read = decoder.read_to_end(&mut inflated);
    if inflated.len() > max {
        return Err(SnapshotError::TooLarge);
    }
    read.map_err(|_| SnapshotError::Gzip)?;
    Ok(inflated)
}

fn decode_data(data: &Value) -> Result<Vec<(Value, Value)>, SnapshotError> {
    let Value::Dict(pairs) = data else {
        return Err(SnapshotError::Shape("store"));
    };
    Ok(pairs.to_vec())
}

/// A read-only writer counts itself as `None`.
fn decode_members(members: &Value) -> Result<Vec<Address>, SnapshotError> {
    let (Value::Set(items) | Value::List(items) | Value::Tuple(items)) = members else {
        return Err(SnapshotError::Shape("member set"));
    };
    let mut addresses: Vec<Address> = Vec::new();
    for item in items.iter() {
        let address = match item {
            Value::None => continue,
            Value::Node(id) => id.as_str().and_then(|id| id.parse().ok()),
            _ => None,
        };
        addresses.push(address.ok_or(SnapshotError::Shape("member set"))?);
    }
    Ok(addresses)
}

/// The bytes of a snapshot, from parts that stay where they are. `prev` must be
/// the entry before `last`.
pub fn encode<'a>(
    data: impl Iterator<Item = (&'a Value, &'a Value)>,
    last: &Entry,
    prev: &Entry,
    members: &[Address],
) -> Vec<u8> {
    let mut pickled = Vec::new();
    let mut w = PickleWriter::start(&mut pickled);
    w.mark();
    w.dict();
    w.str(CODE_VERSION);
    w.int(0);
    w.str(DATA);
    w.dict();
    for (key, value) in data {
        key.encode(&mut w);
        value.encode(&mut w);
    }
    w.end_dict();
    w.end_dict();
    last.encode(&mut w);
    prev.encode(&mut w);
    w.list();
    // Objects, not texts: else the receiver adds itself as its own peer.
    members
        .iter()
        .for_each(|member| w.node(member.as_str().as_bytes()));
    w.end_list();
    w.tuple();
    w.stop();
    deflate(&pickled)
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    // Snapshots are rare: the compressor's 300 KB live only here.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(3));
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    // A Vec takes every write.
    written.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: i64) -> Value {
        Value::tuple([Value::bytes(b"\x01"), Value::Int(index), Value::Int(1)])
    }

    fn parts() -> [Value; 4] {
        let store = Value::dict([("/service/a", Value::dict([("value", Value::str("x"))]))]);
        [
            Value::dict([(CODE_VERSION, Value::Int(0)), (DATA, store)]),
            entry(2),
            entry(1),
            Value::list([Value::Node("a:1".into()), Value::None]),
        ]
    }

    fn zipped(parts: &[Value]) -> Vec<u8> {
        let mut pickled = Vec::new();
        pickle::encode(&Value::tuple(parts.iter().cloned()), &mut pickled);
        deflate(&pickled)
    }

    #[test]
    fn a_damaged_or_cut_snapshot_is_refused() {
        // H12
        let intact = zipped(&parts());
        assert_eq!(Snapshot::decode(&intact).unwrap().members.len(), 1);
        let content = format!("{:?}", Snapshot::decode(&intact).unwrap());
        let mut refused = 0;
        for at in 0..intact.len() {
            assert!(Snapshot::decode(&intact[..at]).is_err(), "{at}");
            let mut damaged = intact.clone();
            damaged[at] ^= 0x40;
            // A few bytes carry no content: time and system of the writer.
            match Snapshot::decode(&damaged) {
                Ok(snapshot) => assert_eq!(format!("{snapshot:?}"), content),
                Err(_) => refused += 1,
            }
        }
        assert!(refused >= intact.len() - 10, "{refused}");
    }

    #[test]
    fn shapes_are_checked() {
        let with = |at: usize, value: Value| {
            let mut parts = parts();
            parts[at] = value;
            Snapshot::decode(&zipped(&parts)).unwrap_err()
        };
        assert_eq!(with(0, Value::dict([])), SnapshotError::Shape("state"));
        // What is in the store is the store's to judge; that it is one, ours.
        let odd = Value::dict([(DATA, Value::Int(1))]);
        assert_eq!(with(0, odd), SnapshotError::Shape("store"));
        assert_eq!(with(1, entry(3)), SnapshotError::Entries);
        assert_eq!(with(2, entry(0)), SnapshotError::Entries);
        assert_eq!(with(2, Value::None), SnapshotError::Entries);
        let text = Value::list([Value::str("a:1")]);
        assert_eq!(with(3, text), SnapshotError::Shape("member set"));
        let three = zipped(&parts()[..3]);
        assert_eq!(
            Snapshot::decode(&three).unwrap_err(),
            SnapshotError::Shape("tuple")
        );
    }

    #[test]
    fn bombs_are_refused() {
        // H28
        let bomb = deflate(&vec![0; 1 << 20]);
        assert_eq!(inflate(&bomb, (1 << 20) - 1), Err(SnapshotError::TooLarge));
        assert_eq!(
            inflate(&bomb, 1 << 20).map(|bytes| bytes.len()),
            Ok(1 << 20)
        );
    }

    #[test]
    fn nothing_but_the_two_keys_is_sent() {
        // H26, H27
        let snapshot = Snapshot::decode(&zipped(&parts())).unwrap();
        let pickled = inflate(&snapshot.encode(), 1 << 20).unwrap();
        let Value::Tuple(parts) = pickle::decode(&pickled).unwrap() else {
            panic!("no tuple")
        };
        let Value::Dict(state) = &parts[0] else {
            panic!("no dict")
        };
        let keys: Vec<_> = state.iter().map(|(key, _)| key.as_str().unwrap()).collect();
        assert_eq!(keys, [CODE_VERSION, DATA]);
    }
}
