//! Round trips and refusals that must hold for any value, not only for the
//! recorded ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::fs;
use std::sync::Arc;

use pg_witness::address::Address;
use pg_witness::ids::{Entry, EntryId, LogIndex, Term};
use pg_witness::wire::message::{
    Append, AppendBody, ApplyOutcome, FragmentPart, Hello, NextNodeIdx, SnapshotChunk, decode_entry,
};
use pg_witness::wire::python_files::{Journal, Meta};
use pg_witness::wire::value::Str;
use pg_witness::wire::{Codec, Command, Key, Message, Session, Snapshot, Value, pickle};
use proptest::collection::vec;
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-300i64..70_000).prop_map(Value::Int),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Value::int_from_le(&bytes)),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        ".{0,20}".prop_map(|text| Value::str(&text)),
        vec(any::<u8>(), 0..300).prop_map(|bytes| Value::bytes(&bytes)),
        "[a-z.]{1,9}:[0-9]{1,4}".prop_map(|id| Value::Node(Str::from(&id[..]))),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::tuple),
            vec(inner.clone(), 0..8).prop_map(Value::list),
            vec((".{0,6}", inner), 0..20).prop_map(|pairs| {
                let mut distinct: Vec<(String, Value)> = Vec::new();
                for (key, value) in pairs {
                    if distinct.iter().all(|(other, _)| *other != key) {
                        distinct.push((key, value));
                    }
                }
                Value::dict(distinct.iter().map(|(k, v)| (&k[..], v.clone())))
            }),
        ]
    })
}

fn id() -> impl Strategy<Value = EntryId> {
    (1..1u64 << 40, 0..1u64 << 40).prop_map(|(index, term)| EntryId {
        index: LogIndex::new(index).unwrap(),
        term: Term::new(term).unwrap(),
    })
}

fn bytes() -> impl Strategy<Value = Arc<[u8]>> {
    vec(any::<u8>(), 0..400).prop_map(Into::into)
}

/// Entries behind `first`; terms may decrease (H7).
fn entries(first: u64, parts: Vec<(Arc<[u8]>, u64)>) -> Vec<Entry> {
    let numbered = parts.into_iter().zip(first..);
    numbered
        .map(|((command, term), index)| Entry {
            id: EntryId {
                index: LogIndex::new(index).unwrap(),
                term: Term::new(term).unwrap(),
            },
            command,
        })
        .collect()
}

fn body() -> impl Strategy<Value = AppendBody> {
    let parts = || vec((bytes(), 0..1u64 << 40), 0..6);
    let part = prop_oneof![
        Just(FragmentPart::Start),
        Just(FragmentPart::Process),
        Just(FragmentPart::Finish)
    ];
    prop_oneof![
        (id(), parts()).prop_map(|(prev, parts)| AppendBody::Entries {
            prev: Some(prev),
            entries: entries(prev.index.get() + 1, parts),
        }),
        (1..100u64, parts()).prop_map(|(first, parts)| AppendBody::Entries {
            prev: None,
            entries: entries(first, parts),
        }),
        (proptest::option::of(id()), part, bytes())
            .prop_map(|(prev, part, data)| AppendBody::Fragment { prev, part, data }),
        Just(AppendBody::Snapshot(None)),
        (bytes(), any::<bool>(), any::<bool>()).prop_map(|(data, first, last)| {
            AppendBody::Snapshot(Some(SnapshotChunk { data, first, last }))
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let term = || (0..1u64 << 62).prop_map(|term| Term::new(term).unwrap());
    prop_oneof![
        (term(), id()).prop_map(|(term, last)| Message::RequestVote { term, last }),
        term().prop_map(|term| Message::ResponseVote { term }),
        (term(), id(), body()).prop_map(|(term, commit, body)| {
            // A snapshot carries no commit index: its receiver must not commit.
            let commit = match body {
                AppendBody::Snapshot(_) => LogIndex::FIRST,
                _ => commit.index,
            };
            Message::AppendEntries(Append { term, commit, body })
        }),
        (any::<i64>(), any::<bool>(), any::<bool>()).prop_map(|(next, reset, success)| {
            Message::NextNodeIdx(NextNodeIdx {
                next,
                reset,
                success,
            })
        }),
        (bytes(), any::<Option<i64>>()).prop_map(|(command, request_id)| {
            Message::ApplyCommand {
                command,
                request_id,
            }
        }),
        (any::<i64>(), id()).prop_map(|(request_id, id)| Message::ApplyCommandResponse {
            request_id,
            outcome: ApplyOutcome::Appended(id),
        }),
        term().prop_map(|term| Message::TimeoutNow { term }),
        Just(Message::Keepalive),
    ]
}

fn address() -> impl Strategy<Value = Address> {
    ("[a-z0-9.:]{1,20}", 1..65_536u32)
        .prop_map(|(host, port)| format!("{host}:{port}").parse().unwrap())
}

fn pickled<T: pickle::Encode + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    pickle::encode(value, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn values_survive_the_pickle(value in value()) {
        let back = pickle::decode(&pickled(&value)).unwrap();
        // By Debug: types and bits count, not only equality.
        prop_assert_eq!(format!("{value:?}"), format!("{back:?}"));
    }

    #[test]
    fn equality_is_symmetric_and_ignores_the_order_of_keys(a in value(), b in value()) {
        prop_assert_eq!(a.py_eq(&b), b.py_eq(&a));
        if let Value::Dict(pairs) = &a {
            let reversed = Value::Dict(pairs.iter().rev().cloned().collect());
            prop_assert_eq!(a.py_eq(&a), reversed.py_eq(&a));
        }
    }

    #[test]
    fn integers_equal_exactly_the_floats_that_they_are(i in any::<i64>(), low in any::<bool>()) {
        let i = if low { i >> 12 } else { i };
        let float = i.to_string().parse::<f64>().unwrap();
        // Python's own way: by exact decimal expansion.
        let exact = format!("{float:.0}") == i.to_string();
        prop_assert_eq!(Value::Int(i).py_eq(&Value::Float(float)), exact);
    }

    #[test]
    fn messages_survive_the_wire_however_it_is_cut(
        messages in vec(message(), 1..5),
        cut in 1..200usize,
        encrypted in any::<bool>(),
    ) {
        let keys = if encrypted { vec![Arc::new(Key::from_bytes([5; 32]))] } else { vec![] };
        let hello = Hello::Member("10.0.0.9:5010".parse().unwrap());
        let mut codec = Codec::new();
        let mut dialler = Session::dial(hello, keys.first().cloned(), [1; 32]);
        let mut acceptor = Session::accept(&keys, [2; 32]);
        let (mut there, mut back) = (Vec::new(), Vec::new());
        dialler.start(&mut codec, 1, &mut there).unwrap();
        while !acceptor.is_up() {
            acceptor.feed(&there);
            there.clear();
            acceptor.next(&mut codec, 1, &mut back).unwrap();
            dialler.feed(&back);
            back.clear();
            dialler.next(&mut codec, 1, &mut there).unwrap();
        }
        for message in &messages {
            dialler.send(&mut codec, message, 1, &mut there).unwrap();
        }
        let mut got = Vec::new();
        for part in there.chunks(cut) {
            acceptor.feed(part);
            while let Some(value) = acceptor.next(&mut codec, 1, &mut back).unwrap() {
                got.push(Message::decode(&value).unwrap());
            }
        }
        prop_assert_eq!(got, messages);
    }

    #[test]
    fn entries_survive_their_pickle(id in id(), command in bytes()) {
        let entry = Entry { id, command };
        prop_assert_eq!(decode_entry(&pickled(&entry)), Ok(entry.clone()));
        // H4: a cut pickle is told from a malformed one.
        let whole = pickled(&entry);
        for cut in 0..whole.len() {
            prop_assert_eq!(
                decode_entry(&whole[..cut]),
                Err(pg_witness::wire::MessageError::Pickle(
                    pickle::PickleError::Truncated
                ))
            );
        }
    }

    #[test]
    fn snapshots_survive(
        data in vec(("[a-z/]{0,12}", vec(("[a-z]{1,6}", scalar()), 0..5)), 0..6),
        index in 1..1u64 << 40,
        commands in (bytes(), bytes()),
        members in vec(address(), 0..4),
    ) {
        let mut distinct: Vec<(Value, Value)> = Vec::new();
        for (key, pairs) in data {
            let key = Value::str(&key);
            let mut value: Vec<(Value, Value)> = Vec::new();
            for (k, v) in pairs {
                let k = Value::str(&k);
                if !value.iter().any(|(other, _)| other.py_eq(&k)) {
                    value.push((k, v));
                }
            }
            if !distinct.iter().any(|(other, _)| other.py_eq(&key)) {
                distinct.push((key, Value::Dict(value.into())));
            }
        }
        // H7: the later entry may have the lower term.
        let both = entries(index, vec![(commands.0, 17), (commands.1, 1)]);
        let snapshot = Snapshot {
            data: distinct,
            prev: both[0].clone(),
            last: both[1].clone(),
            members,
        };
        let back = Snapshot::decode(&snapshot.encode()).unwrap();
        prop_assert_eq!(format!("{snapshot:?}"), format!("{back:?}"));
    }

    #[test]
    fn journals_are_read_up_to_their_end(
        first in 1..1u64 << 40,
        parts in vec((bytes(), 0..99u64), 0..6),
        garbage in vec(any::<u8>(), 0..50),
        damage in any::<prop::sample::Index>(),
    ) {
        let entries = entries(first, parts);
        let mut file = b"PYSYNCOBJ\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x000.3.17\0\0\x01\0\0\0".to_vec();
        let mut records = Vec::new();
        for entry in &entries {
            let length = u32::try_from(16 + entry.command.len()).unwrap().to_le_bytes();
            records.extend_from_slice(&length);
            records.extend_from_slice(&entry.id.index.get().to_le_bytes());
            records.extend_from_slice(&entry.id.term.get().to_le_bytes());
            records.extend_from_slice(&entry.command);
            records.extend_from_slice(&length);
        }
        let end = u32::try_from(40 + records.len()).unwrap();
        file.extend_from_slice(&end.to_le_bytes());
        file.extend_from_slice(&records);
        file.extend_from_slice(&garbage);
        let journal = Journal::decode(&file).unwrap();
        prop_assert_eq!(&journal.entries, &entries);
        prop_assert_eq!(&journal.version[..], "0.3.17");
        // A length that stands twice is either read or refused, never believed.
        let at = 24 + damage.index(file.len() - 24);
        file[at] ^= 0xff;
        if let Ok(other) = Journal::decode(&file) {
            prop_assert!(other.entries.len() <= entries.len() + garbage.len() / 24);
        }
    }

    #[test]
    fn damaged_vectors_never_panic(
        which in any::<prop::sample::Index>(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let vectors = vectors();
        let mut bytes = vectors[which.index(vectors.len())].clone();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(value) = pickle::decode(&bytes) {
            let _ = (Message::decode(&value), Hello::decode(&value));
            let _ = value.py_eq(&value);
            // What decodes, encodes and decodes again to the same.
            let back = pickle::decode(&pickled(&value)).unwrap();
            prop_assert_eq!(format!("{value:?}"), format!("{back:?}"));
        }
        let _ = (Command::parse(&bytes), Snapshot::decode(&bytes), Meta::decode(&bytes));
    }
}

/// All recorded pickles, commands and snapshots.
fn vectors() -> &'static [Vec<u8>] {
    static VECTORS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    VECTORS.get_or_init(|| {
        let mut all = Vec::new();
        for folder in common::versions() {
            let messages = common::json(&folder.join("messages.json"));
            for vector in messages["messages"].as_array().unwrap() {
                all.push(common::hex_field(vector, "pickle_hex"));
            }
            all.push(common::hex_field(
                &common::json(&folder.join("disk.json")),
                "dump_pickle_hex",
            ));
            all.push(fs::read(folder.join("node.dump")).unwrap());
        }
        all
    })
}
