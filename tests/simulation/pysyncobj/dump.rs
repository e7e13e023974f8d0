//! `Serializer`: dumps, and snapshots in transfer (spec 3.5, 5.9, 7.3).

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use pg_witness::address::Address;
use pg_witness::wire::Value;
use pg_witness::wire::pickle::{self, PickleCaps};

use super::{Entry, NodeId};

/// A dump in the making: the child process writes it while the parent goes on.
#[derive(Debug)]
struct Child {
    /// Index of the earlier of its two entries.
    id: i64,
    done_at_s: f64,
}

/// What `checkSerializing` finds.
pub(super) enum Progress {
    Idle,
    Writing,
    Done(i64),
}

/// A transfer to one peer.
#[derive(Debug)]
struct Transmission {
    /// The file that was opened, whatever became of its name since (H12).
    file: Arc<[u8]>,
    offset: usize,
}

/// One message's part of a snapshot.
pub(super) struct Chunk {
    pub data: Arc<[u8]>,
    pub first: bool,
    pub last: bool,
}

/// The dump file and what goes on with it.
#[derive(Debug)]
pub(super) struct Serializer {
    pub file: Option<Arc<[u8]>>,
    chunk_bytes: usize,
    child: Option<Child>,
    transmissions: BTreeMap<NodeId, Transmission>,
    incoming: Option<Vec<u8>>,
}

impl Serializer {
    pub fn new(file: Option<Arc<[u8]>>, chunk_bytes: usize) -> Self {
        Self {
            file,
            chunk_bytes,
            child: None,
            transmissions: BTreeMap::new(),
            incoming: None,
        }
    }

    /// Begins a dump. The file is there at once, the parent learns of it at
    /// `done_at_s`: in between lies H14 (a).
    pub fn begin(&mut self, dump: &Dump, done_at_s: f64) {
        if self.child.is_none() {
            self.file = Some(dump.encode().into());
            let id = dump.prev.index;
            self.child = Some(Child { id, done_at_s });
        }
    }

    pub fn check(&mut self, now_s: f64) -> Progress {
        match &self.child {
            None => Progress::Idle,
            Some(child) if now_s < child.done_at_s => Progress::Writing,
            Some(child) => {
                let id = child.id;
                self.child = None;
                self.transmissions.clear();
                Progress::Done(id)
            }
        }
    }

    /// The next part for a peer; none while a dump is written or if there is no
    /// file.
    pub fn next_chunk(&mut self, to: &NodeId) -> Option<Chunk> {
        if self.child.is_some() {
            return None;
        }
        if !self.transmissions.contains_key(to) {
            let file = self.file.clone()?;
            let begun = Transmission { file, offset: 0 };
            self.transmissions.insert(to.clone(), begun);
        }
        let transmission = self.transmissions.get_mut(to)?;
        let rest = transmission
            .file
            .get(transmission.offset..)
            .unwrap_or_default();
        let data = rest.get(..self.chunk_bytes).unwrap_or(rest);
        let chunk = Chunk {
            data: data.into(),
            first: transmission.offset == 0,
            last: data.is_empty(),
        };
        transmission.offset += data.len();
        if chunk.last {
            self.transmissions.remove(to);
        }
        Some(chunk)
    }

    pub fn cancel(&mut self, to: &NodeId) {
        self.transmissions.remove(to);
    }

    /// Takes a part from the leader; whether the file is complete now.
    pub fn receive(&mut self, data: &[u8], first: bool, last: bool) -> bool {
        if first {
            self.incoming = Some(Vec::new());
        }
        let Some(incoming) = &mut self.incoming else {
            return false;
        };
        incoming.extend_from_slice(data);
        if !last {
            return false;
        }
        self.file = self.incoming.take().map(Arc::from);
        true
    }
}

/// What a dump holds.
#[derive(Debug)]
pub(super) struct Dump {
    /// Attributes of the object beside the two that follow.
    pub attributes: Vec<(Value, Value)>,
    /// None if the dump does not name it, as the store then stays.
    pub data: Option<Vec<(Value, Value)>>,
    pub code_version: i64,
    pub last: Entry,
    pub prev: Entry,
    pub members: Vec<Address>,
}

const CODE_VERSION: &str = "_SyncObj__enabledCodeVersion";
const DATA: &str = "_KVStoreTTL__data";
/// The most that a dump may inflate to.
const INFLATED_MAX: u64 = 256 << 20;

impl Dump {
    fn encode(&self) -> Vec<u8> {
        let mut state = vec![(Value::str(CODE_VERSION), Value::Int(self.code_version))];
        if let Some(data) = &self.data {
            state.push((Value::str(DATA), Value::Dict(data.clone().into())));
        }
        state.extend(self.attributes.iter().cloned());
        let members = self.members.iter();
        let members = members.map(|member| Value::Node(member.as_str().into()));
        let dump = Value::tuple([
            Value::Dict(state.into()),
            self.last.to_value(),
            self.prev.to_value(),
            Value::Set(members.collect()),
        ]);
        let mut pickled = Vec::new();
        pickle::encode(&dump, &mut pickled);
        let mut zipped = GzEncoder::new(Vec::new(), Compression::new(3));
        let written = zipped.write_all(&pickled).and_then(|()| zipped.finish());
        // A Vec takes every write.
        written.unwrap_or_default()
    }

    /// None where Python's loader raises: it then leaves all as it was.
    pub fn decode(file: &[u8]) -> Option<Self> {
        let mut pickled = Vec::new();
        GzDecoder::new(file)
            .take(INFLATED_MAX)
            .read_to_end(&mut pickled)
            .ok()?;
        let value = pickle::decode_within(&pickled, PickleCaps::SNAPSHOT).ok()?;
        let [Value::Dict(state), last, prev, members] = value.as_seq()? else {
            return None;
        };
        let mut dump = Self {
            attributes: Vec::new(),
            data: None,
            code_version: 0,
            last: Entry::from_value(last)?,
            prev: Entry::from_value(prev)?,
            members: read_members(members)?,
        };
        for (name, value) in state.iter() {
            match (name.as_str(), value) {
                (Some(DATA), Value::Dict(data)) => dump.data = Some(data.to_vec()),
                (Some(CODE_VERSION), value) => dump.code_version = value.as_int()?,
                _ => dump.attributes.push((name.clone(), value.clone())),
            }
        }
        Some(dump)
    }
}

fn read_members(members: &Value) -> Option<Vec<Address>> {
    let (Value::Set(items) | Value::List(items) | Value::Tuple(items)) = members else {
        return None;
    };
    let address = |item: &Value| match item {
        Value::Node(id) => id.as_str()?.parse().ok(),
        _ => None,
    };
    items.iter().map(address).collect()
}
