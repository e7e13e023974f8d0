//! S15: whatever commands can make of a store is read back, from a checkpoint and
//! from the disk.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::disk::{Disk, Worker};
use crate::kv::call_of;
use crate::limits::{KV_BYTES_QUOTA, PICKLE_DEPTH_MAX, PICKLE_VALUES_MAX};
use crate::raft::replica::{self, Replica};
use crate::raft::types::NO_OP;
use crate::reactor::Instant;
use crate::wire::command;
use crate::wire::value::Str;

fn id(index: u64, term: u64) -> EntryId {
    EntryId {
        index: LogIndex::new(index).unwrap(),
        term: Term::new(term).unwrap(),
    }
}

fn stored(id: EntryId, command: Arc<[u8]>) -> StoredEntry {
    StoredEntry {
        epoch: 3,
        entry: Entry { id, command },
    }
}

/// A command that sets `key`, whatever key and value are.
fn set(key: &Value, value: &Value) -> Arc<[u8]> {
    let args = Value::Tuple([key.clone(), value.clone()].into());
    command::regular(&Value::Tuple([Value::Int(command::SET), args].into()))
}

fn member(name: &str) -> crate::address::Address {
    name.parse().unwrap()
}

/// A log of these commands from entry 2 on, all committed, and the store that
/// follows from them.
fn applied(commands: &[Arc<[u8]>]) -> (Log, Store) {
    let now = Instant::now();
    let mut log = Log::initial([member("a:1"), member("b:2")].into());
    let mut store = Store::new(now);
    for command in commands {
        let index = log.last().index.next();
        assert!(log.push(stored(id(index.get(), 7), command.clone())));
        // What is not a command to a peer's decoder changes nothing.
        if let Some(Ok(call)) = call_of(command) {
            store.apply(index, &call, now);
        }
    }
    log.commit_to(log.last().index);
    (log, store)
}

fn shown(pairs: &[(Value, Value)]) -> String {
    format!("{pairs:?}")
}

fn pairs(store: &Store) -> Vec<(Value, Value)> {
    store.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Reads back the checkpoint of what these commands made.
fn is_read_back(commands: &[Arc<[u8]>]) -> Store {
    let (log, store) = applied(commands);
    let last = log.last().index;
    let checkpoint = encode(&log, last, &store);
    let state = decode(&checkpoint.body).unwrap();
    assert!(shown(&state.data) == shown(&pairs(&store)));
    assert_eq!(state.members, *log.members());
    assert_eq!(Some(&state.last), log.get(last));
    assert_eq!(state.prev.as_ref(), last.prev().and_then(|i| log.get(i)));
    store
}

/// Any value that a pickle can hold, `depth` levels of containers at most.
fn any_value(rng: &mut SmallRng, depth: usize) -> Value {
    let kinds = if depth > 0 { 13 } else { 8 };
    let some = |rng: &mut SmallRng| -> Vec<Value> {
        let count = rng.random_range(0..4);
        (0..count).map(|_| any_value(rng, depth - 1)).collect()
    };
    match rng.random_range(0..kinds) {
        0 => Value::None,
        1 => Value::Bool(rng.random()),
        2 => Value::Int(rng.random::<i64>() >> rng.random_range(0..64)),
        3 => Value::int_from_le(&rng.random::<[u8; 32]>()[..rng.random_range(0..33)]),
        4 => Value::Float(f64::from_bits(rng.random())),
        5 => Value::Str(Str::from_bytes(&[0xed, 0xa0, 0x80, b'x']).unwrap()),
        6 => Value::bytes(&vec![rng.random(); rng.random_range(0..300)]),
        7 => Value::Node(Str::from("a:1")),
        8 => Value::tuple(some(rng)),
        9 => Value::list(some(rng)),
        10 => Value::Set([Value::Int(rng.random()), Value::Str(Str::from("s"))].into()),
        _ => {
            let items = some(rng).into_iter().enumerate();
            Value::Dict(
                items
                    .map(|(n, v)| (Value::str(&n.to_string()), v))
                    .collect(),
            )
        }
    }
}

/// What `_set` stores: any dict.
fn any_dict(rng: &mut SmallRng, depth: usize) -> Value {
    let names = ["value", "updated", "created", "expire", "x", "y"];
    let pairs = names[..rng.random_range(0..=names.len())].iter();
    Value::dict(pairs.map(|name| (*name, any_value(rng, depth - 1))))
}

#[test]
fn whatever_commands_make_is_read_back() {
    let mut keys = 0;
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let commands = (0..rng.random_range(1..20)).map(|n| {
            let key = match rng.random_range(0..4) {
                // Python's dict takes any hashable key.
                0 => Value::tuple([Value::Int(n), Value::bytes(b"k"), Value::None]),
                _ => Value::str(&format!("/service/{}", rng.random_range(0..9))),
            };
            set(&key, &any_dict(&mut rng, 8))
        });
        let commands: Vec<_> = commands.collect();
        keys += is_read_back(&commands).len();
    }
    assert!(keys > 1000, "{keys}");
}

#[test]
fn the_deepest_value_is_read_back_and_sent() {
    // Call, arguments and the dict are three of the levels.
    let deepest = PICKLE_DEPTH_MAX - 4;
    let nested = (0..deepest).fold(Value::None, |inner, _| Value::list([inner]));
    let command = set(&Value::str("k"), &Value::dict([("value", nested.clone())]));
    let store = is_read_back(std::slice::from_ref(&command));
    assert_eq!(store.len(), 1);
    let one_more = Value::dict([("value", Value::list([nested]))]);
    assert!(is_read_back(&[set(&Value::str("k"), &one_more)]).is_empty());
    let snapshot = Snapshot {
        data: pairs(&store),
        last: stored(id(2, 7), command).entry,
        prev: stored(id(1, 0), NO_OP.into()).entry,
        members: Vec::new(),
    };
    let sent = Snapshot::decode(&snapshot.encode()).unwrap();
    assert_eq!(shown(&sent.data), shown(&snapshot.data));
}

/// Four small commands, and twenty megabytes of keys: beyond what a peer may send
/// at once, and yet it was sent piece by piece.
#[test]
fn what_no_peer_may_send_at_once_is_read_back() {
    let fields = (0..80_000).map(|n| (Value::str(&n.to_string()), Value::Int(1)));
    let wide = Value::Dict(fields.collect());
    let wide: Vec<_> = (0..4).map(|n| set(&Value::Int(n), &wide)).collect();
    let long = Value::dict([("value", Value::str(&"x".repeat(60_000)))]);
    let long = (0..400).map(|n| set(&Value::str(&format!("/service/{n}")), &long));
    let commands: Vec<_> = wide.into_iter().chain(long).collect();
    let store = is_read_back(&commands);
    assert!(store.len() == 404 && store.bytes() > KV_BYTES_QUOTA);
    let fields = store.iter().take(4).map(|(_, value)| match value {
        Value::Dict(pairs) => 2 * pairs.len(),
        _ => 0,
    });
    assert!(fields.sum::<usize>() > PICKLE_VALUES_MAX);
}

/// The pickle of a value is no longer than the value counts: what bounds the store
/// bounds its checkpoint.
#[test]
fn a_checkpoint_is_no_longer_than_its_store_counts() {
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let key = Value::str("k");
        let value = any_dict(&mut rng, 8);
        let (_, store) = applied(&[set(&key, &value)]);
        let mut pickled = Vec::new();
        for (key, value) in store.iter() {
            pickle::encode(key, &mut pickled);
            pickle::encode(value, &mut pickled);
        }
        assert!(pickled.len() as u64 <= store.bytes(), "seed {seed}");
    }
}

#[test]
fn a_replica_starts_from_it() {
    let fields = (0..80_000).map(|n| (Value::str(&n.to_string()), Value::Int(1)));
    let wide = Value::Dict(fields.collect());
    let commands: Vec<_> = (0..4).map(|n| set(&Value::Int(n), &wide)).collect();
    let (log, store) = applied(&commands);
    let last = log.last().index;
    let folder = tempfile::tempdir().unwrap();
    let worker = Worker::start().unwrap();
    let (disk, _) = Disk::open(folder.path(), &worker).unwrap();
    let saved = disk.install(encode(&log, last, &store), Vec::new(), last);
    futures_lite::future::block_on(saved).unwrap();
    drop(disk);
    let opened = replica::open(folder.path(), &worker);
    let (disk, recovered) = futures_lite::future::block_on(opened).unwrap();
    assert_eq!(recovered.condition, crate::disk::Condition::Intact);
    let changed = std::rc::Rc::new(event_listener::Event::new());
    let replica = Replica::new(
        member("a:1"),
        Members::new(),
        disk,
        recovered,
        changed,
        Instant::now(),
    );
    let replica = replica.unwrap();
    assert!(shown(&pairs(&replica.store)) == shown(&pairs(&store)));
    assert_eq!(replica.applied, last);
}
