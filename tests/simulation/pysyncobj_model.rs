//! The model of a PySyncObj node against the real one: conversations drawn from
//! seeds go to both, and after every event their messages, connections, state and
//! files must agree. Needs the interpreters of tests/setup.
//!
//! A failure names its seed; PG_WITNESS_SEED repeats it, PG_WITNESS_CASES sets how
//! many conversations each version has.

// The helpers of a test may fail as loudly as the test.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod conversation;
mod pysyncobj;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use conversation::partner::converse;
use conversation::real::Real;
use pysyncobj::Version;

/// How many conversations each version has, unless told otherwise.
const CONVERSATIONS: u64 = 100;

/// What must happen in the conversations of a version: a test of what never
/// happens proves nothing.
const SEEN: [&str; 16] = [
    "close ",
    "dial ",
    "done ",
    "dump",
    "raised KeyError",
    "raised TypeError",
    "send append_entries",
    "send apply_command",
    "send apply_command_response",
    "send next_node_idx",
    "send other",
    "send request_vote",
    "send response_vote",
    "state 0",
    "state 1",
    "state 2",
];

fn agrees(version: Version) {
    let number = |name| std::env::var(name).ok().map(|v| v.parse().unwrap());
    let seeds = match number("PG_WITNESS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PG_WITNESS_CASES").unwrap_or(CONVERSATIONS),
    };
    let whole = seeds.end - seeds.start >= CONVERSATIONS;
    let mut real = Real::start(version);
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for seed in seeds {
        let told = catch_unwind(AssertUnwindSafe(|| converse(version, &mut real, seed)));
        match told {
            Ok(told) => told.into_iter().for_each(|(what, count)| {
                *seen.entry(what).or_default() += count;
            }),
            Err(difference) => {
                eprintln!("PG_WITNESS_SEED={seed}, pysyncobj {}", version.text());
                resume_unwind(difference);
            }
        }
    }
    println!("pysyncobj {}: {seen:#?}", version.text());
    for what in SEEN {
        let count = seen.get(what).copied().unwrap_or(0);
        assert!(!whole || count > 0, "{what} never happened");
    }
}

#[test]
fn agrees_with_0_3_11() {
    agrees(Version::V0_3_11);
}

#[test]
fn agrees_with_0_3_14() {
    agrees(Version::V0_3_14);
}

#[test]
fn agrees_with_0_3_16() {
    agrees(Version::V0_3_16);
}

#[test]
fn agrees_with_0_3_17() {
    agrees(Version::V0_3_17);
}
