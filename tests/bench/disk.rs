//! What durability costs on this machine: bytes and allocations per commit, sync
//! latency, records per second with group commit, and when one sync of the file system for many
//! clusters pays.
//!
//! `cargo bench --bench disk [FOLDER]`; the folder (default: the temporary one)
//! says which medium is measured.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

use std::alloc::System;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_lite::future::block_on;
use pg_witness::disk::{Disk, StoredEntry, Worker};
use pg_witness::ids::{Entry, EntryId, LogIndex, Term};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn index(n: u64) -> LogIndex {
    LogIndex::new(n).unwrap()
}

/// An entry with 200 bytes of command, as Patroni's are.
fn entry(n: u64) -> Vec<StoredEntry> {
    let id = EntryId {
        index: index(n),
        term: Term::new(1).unwrap(),
    };
    let command = vec![b'x'; 200].into();
    let entry = Entry { id, command };
    vec![StoredEntry { epoch: 0, entry }]
}

/// One cluster, each commit awaited before the next.
fn one_by_one(dir: &Path, worker: &Worker) {
    let (disk, _) = Disk::open(dir, worker).unwrap();
    let entries: Vec<_> = (1..=1000).map(|n| (entry(n), index(n))).collect();
    let mut latencies = Vec::with_capacity(entries.len());
    let before = disk.stats();
    let region = Region::new(ALLOCATOR);
    for (entry, commit) in entries {
        block_on(disk.append(entry, commit)).unwrap();
        latencies.push(disk.stats().sync_last);
    }
    let allocated = region.change();
    let after = disk.stats();
    latencies.sort_unstable();
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100);
    let (median, slow) = (at(50).unwrap(), at(99).unwrap());
    let bytes = after.bytes_written - before.bytes_written;
    let commits = after.commits - before.commits;
    println!(
        "one by one: {} bytes written and {:.1} allocations per commit",
        bytes / commits,
        (allocated.allocations + allocated.reallocations) as f64 / commits as f64
    );
    let slowest = after.sync_max;
    println!("  sync latency: median {median:?}, 99 % {slow:?}, max {slowest:?}");
    block_on(disk.close()).unwrap();
}

/// One cluster, all appends asked for at once.
fn grouped(dir: &Path, worker: &Worker) {
    const RECORDS: u64 = 100_000;
    let (disk, _) = Disk::open(dir, worker).unwrap();
    let before = disk.stats();
    let begun = Instant::now();
    let mut waiting: Vec<_> = (1..=RECORDS)
        .map(|n| disk.append(entry(n), index(n)))
        .collect();
    block_on(waiting.pop().unwrap()).unwrap();
    let elapsed = begun.elapsed();
    let commits = disk.stats().commits - before.commits;
    println!(
        "grouped: {:.0} records/s, {commits} syncs for {RECORDS} records",
        RECORDS as f64 / elapsed.as_secs_f64()
    );
    block_on(disk.close()).unwrap();
}

/// Many clusters, each with one commit at a time.
fn many(dir: &Path, worker: &Worker, clusters: u64) {
    const ROUNDS: u64 = 100;
    let open = |n| Disk::open(&dir.join(format!("{n}")), worker).unwrap().0;
    let disks: Vec<Disk> = (0..clusters).map(open).collect();
    let begun = Instant::now();
    for n in 1..=ROUNDS {
        let appends = disks.iter().map(|disk| disk.append(entry(n), index(n)));
        for append in appends.collect::<Vec<_>>() {
            block_on(append).unwrap();
        }
    }
    let round = begun.elapsed() / u32::try_from(ROUNDS).unwrap();
    println!("{clusters:4} clusters: {round:?} per round of one commit each");
    for disk in disks {
        block_on(disk.close()).unwrap();
    }
}

fn main() {
    let arguments = std::env::args().skip(1).find(|a| !a.starts_with("--"));
    let parent = arguments.map_or_else(std::env::temp_dir, PathBuf::from);
    let root = parent.join(format!("pg-witness-bench-{}", std::process::id()));
    let worker = Worker::start().unwrap();
    one_by_one(&root.join("one"), &worker);
    grouped(&root.join("grouped"), &worker);
    for clusters in [1, 2, 4, 7, 8, 16, 32, 64] {
        many(&root.join(format!("many-{clusters}")), &worker, clusters);
    }
    std::fs::remove_dir_all(&root).unwrap();
}
