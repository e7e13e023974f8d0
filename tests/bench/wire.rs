//! What a heartbeat costs on the wire, and what compression would.
//!
//! `cargo bench --bench wire` prints nanoseconds and allocations for a round
//! (empty append there, `next_node_idx` back, both encoded and decoded), and
//! the comparison of zlib levels that `src/wire/frame.rs` cites.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

use std::alloc::System;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use flate2::{Compress, Compression, FlushCompress};
use pg_witness::ids::{Entry, EntryId, LogIndex, Term};
use pg_witness::wire::frame::{Inflater, store};
use pg_witness::wire::message::{Append, AppendBody, Hello, NextNodeIdx, SnapshotChunk};
use pg_witness::wire::{Codec, Key, Message, Session, Value, command, pickle};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: u32 = 20_000;

fn main() {
    println!("heartbeat round (append + reply, both ends)");
    heartbeat("plain", None);
    heartbeat("encrypted", Some(Arc::new(Key::from_bytes([7; 32]))));
    println!("\nzlib: bytes and time per message, ours against level 3, both reused");
    levels("heartbeat", &pickled(&append(Vec::new())));
    levels("entry of 1 KB", &pickled(&append(vec![entry()])));
    levels("snapshot chunk of 64 KiB", &pickled(&chunk()));
    memory();
}

/// Mean time and allocations of `round`.
fn measure(mut round: impl FnMut()) -> (f64, f64) {
    (0..100).for_each(|_| round());
    let region = Region::new(ALLOCATOR);
    let start = Instant::now();
    (0..ROUNDS).for_each(|_| round());
    let time_ns = start.elapsed().as_nanos() as f64 / f64::from(ROUNDS);
    let change = region.change();
    let allocations = change.allocations + change.reallocations;
    (time_ns, allocations as f64 / f64::from(ROUNDS))
}

fn heartbeat(name: &str, key: Option<Arc<Key>>) {
    let mut codec = Codec::new();
    let keys: Vec<_> = key.clone().into_iter().collect();
    let hello = Hello::Member("10.0.0.9:5010".parse().unwrap());
    let mut leader = Session::dial(hello, key, [1; 32]);
    let mut follower = Session::accept(&keys, [2; 32]);
    let (mut there, mut back) = (Vec::new(), Vec::new());
    leader.start(&mut codec, 0, &mut there).unwrap();
    while !follower.is_up() {
        follower.feed(&there);
        there.clear();
        follower.next(&mut codec, 0, &mut back).unwrap();
        leader.feed(&back);
        back.clear();
        leader.next(&mut codec, 0, &mut there).unwrap();
    }
    let append = append(Vec::new());
    let reply = Message::NextNodeIdx(NextNodeIdx {
        next: 1001,
        reset: false,
        success: true,
    });
    let mut wire = Vec::new();
    let (encode_ns, encode_allocations) = measure(|| {
        wire.clear();
        leader.send(&mut codec, &append, 1, &mut wire).unwrap();
        follower.send(&mut codec, &reply, 1, &mut wire).unwrap();
    });
    let (round_ns, round_allocations) = measure(|| {
        pass(&mut codec, &mut leader, &mut follower, &append, &mut wire);
        pass(&mut codec, &mut follower, &mut leader, &reply, &mut wire);
    });
    println!(
        "  {name:7} round {round_ns:6.0} ns, {round_allocations:.1} allocations; \
         of it encoding {encode_ns:6.0} ns, {encode_allocations:.1} allocations; {} bytes",
        wire_bytes(&mut codec, &mut leader, &mut follower, &append, &reply),
    );
}

/// Sends a message, receives it at the other end and takes its meaning.
fn pass(
    codec: &mut Codec,
    from: &mut Session,
    to: &mut Session,
    message: &Message,
    wire: &mut Vec<u8>,
) {
    wire.clear();
    from.send(codec, message, 1, wire).unwrap();
    to.feed(wire);
    wire.clear();
    let value = to.next(codec, 1, wire).unwrap().unwrap();
    black_box(Message::decode(&value).unwrap());
}

fn wire_bytes(
    codec: &mut Codec,
    leader: &mut Session,
    follower: &mut Session,
    append: &Message,
    reply: &Message,
) -> usize {
    let mut wire = Vec::new();
    leader.send(codec, append, 1, &mut wire).unwrap();
    follower.send(codec, reply, 1, &mut wire).unwrap();
    wire.len()
}

fn append(entries: Vec<Entry>) -> Message {
    let term = Term::new(7).unwrap();
    let index = LogIndex::new(1000).unwrap();
    Message::AppendEntries(Append {
        term,
        commit: index,
        body: AppendBody::Entries {
            prev: Some(EntryId { index, term }),
            entries,
        },
    })
}

/// What a Patroni member writes every ten seconds.
fn entry() -> Entry {
    let value = concat!(
        r#"{"conn_url":"postgres://10.0.0.1:5432/postgres","api_url":"http://10.0.0.1:8008/patroni","#,
        r#""state":"running","role":"primary","version":"4.1.5","xlog_location":67109184,"timeline":1}"#
    );
    let value = Value::dict([
        ("value", Value::str(&value.repeat(4))),
        ("updated", Value::Float(1_700_000_000.25)),
        ("created", Value::Float(1_700_000_000.25)),
        ("expire", Value::Float(1_700_000_030.25)),
    ]);
    Entry {
        id: EntryId {
            index: LogIndex::new(1001).unwrap(),
            term: Term::new(7).unwrap(),
        },
        command: command::set(&"/service/demo/members/pg1".into(), &value, &[]),
    }
}

/// A chunk of a snapshot: gzip, so without redundancy.
fn chunk() -> Message {
    let mut state = 1u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    let data: Arc<[u8]> = (0..65_536).map(|_| byte()).collect();
    Message::AppendEntries(Append {
        term: Term::ZERO,
        commit: LogIndex::FIRST,
        body: AppendBody::Snapshot(Some(SnapshotChunk {
            data,
            first: true,
            last: false,
        })),
    })
}

fn pickled(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    pickle::encode(message, &mut out);
    out
}

fn levels(name: &str, bytes: &[u8]) {
    let mut stored = Vec::new();
    let (store_ns, _) = measure(|| {
        stored.clear();
        store(bytes, &mut stored);
    });
    let mut compress = Compress::new(Compression::new(3), true);
    let mut small = Vec::with_capacity(bytes.len() + 1024);
    let (compress_ns, _) = measure(|| {
        small.clear();
        compress.reset();
        let done = compress.compress_vec(bytes, &mut small, FlushCompress::Finish);
        done.unwrap();
    });
    let mut inflater = Inflater::default();
    let mut back = Vec::new();
    let mut inflate_ns =
        |zlib: &[u8]| measure(|| inflater.inflate(zlib, 1 << 20, &mut back).unwrap()).0;
    println!(
        "  {name:25} pickle {:5} B | stored {:5} B, {store_ns:6.0} ns, read {:6.0} ns | \
         level 3 {:5} B, {compress_ns:7.0} ns, read {:6.0} ns",
        bytes.len(),
        stored.len(),
        inflate_ns(&stored),
        small.len(),
        inflate_ns(&small),
    );
}

/// What the shared parts hold on to.
fn memory() {
    let region = Region::new(ALLOCATOR);
    let compress = Compress::new(Compression::new(3), true);
    let compressor = region.change().bytes_allocated;
    drop(black_box(compress));
    let region = Region::new(ALLOCATOR);
    let codec = Codec::new();
    let shared = region.change().bytes_allocated;
    drop(black_box(codec));
    let region = Region::new(ALLOCATOR);
    let session = Session::accept(&[], [0; 32]);
    let own = region.change().bytes_allocated + size_of_val(&session);
    println!(
        "\nmemory: codec {shared} B for all links, {own} B a link; a compressor {compressor} B"
    );
}
