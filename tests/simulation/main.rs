//! Whole members under simulated time: three or four of them, clients that write, and
//! faults from a seed, in minutes of simulated time each second. Most worlds are the real
//! case, two PySyncObj nodes and a witness; some are three witnesses, or a PySyncObj node
//! and two; in `NewWitness` nobody of three PySyncObj nodes lists the witness, which asks
//! to be added. In `ThirdDataNode`, which is asked for by name, a third PySyncObj node is
//! added and removed, and the witness withdraws its vote and offers it again
//! (`vote: auto`). In `BadLines`, asked for by name too, only the witness of four reaches
//! the others, and is elected again and again while answers are on their way (S4).
//!
//! * `cargo test --test simulation`: short worlds of the first seeds, for less than a
//!   minute;
//! * `SIMULATE_SEED=7 cargo test --test simulation replay -- --ignored --nocapture`: the
//!   world of one seed, with its whole log; a failure prints this line with its own seed;
//! * `SIMULATE_HOURS=100 cargo test --release --test simulation for_hours -- --ignored
//!   --nocapture`: worlds of seeds from `SIMULATE_SEED` (or 1) on, until so much
//!   simulated time has passed, and the simulated hours per hour of CPU time;
//! * `PG_WITNESS_BUG=vote-twice cargo test --features deliberate-bugs --test simulation
//!   finds_the_bug -- --ignored --nocapture`: how soon a bug of `src/bugs.rs` is found;
//!   `stale-match` beside `SIMULATE_KIND=BadLines`, for elsewhere nobody leads twice
//!   within the time of an answer;
//! * `SIMULATE_SECONDS=30` beside any of them: how long a world is; by default 600;
//! * `SIMULATE_FAULT=Freeze` beside any of them: no other fault;
//! * `SIMULATE_KIND=TwoDataNodes` beside any of them: no other members.
//!
//! Equal seeds give equal logs, byte for byte, also in debug and release: all time,
//! chance, disk and network come from `reactor::simulated` and
//! `disk::SimulatedDisk`. What differs between two runs of a seed is a defect.
//!
//! `world` draws the faults, `faults` says which, `cast` draws the members, `node` is one
//! as the world sees it: a `witness`, or a `data_node`, which is the model of a PySyncObj
//! node in `pysyncobj`. `client` writes, `oracle` says what must hold, `journal` keeps the
//! log. `promises` holds what each witness has promised against what it finds after a
//! crash.
//!
//! PySyncObj itself loses what it acknowledged, in ways that no witness prevents (H7 to
//! H10, H14, H30 in `src/wire/PROTOCOL.md`). `data_node` sees each of them where it
//! happens and `incidents` keeps them. Where written data is missing or differs, or a key
//! expired too soon, and such an incident came before, the world ends there, and says
//! what was lost by what; last the witnesses are started again, for they keep what they
//! promised (S1, S2). Nothing else is excused. Whatever PySyncObj does, a witness
//!
//! * votes once in a term (S1), as does a PySyncObj node that stores its vote;
//! * keeps what it has committed as long as its state is open (S2);
//! * makes no PySyncObj node cut an entry that the witness holds as its leader (S3), nor
//!   commit by a part of a snapshot (H30), and no message of it raises there (S5, S6);
//! * commits again within ten seconds with either of them (S18). Only while it has no vote
//!   itself (S2, S7, S13) does that hang on the link between the two, and on the kernel's
//!   pauses between attempts to connect (H22).

// A test fails by panicking.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod cast;
mod client;
mod data_node;
mod faults;
mod incidents;
mod journal;
mod node;
mod oracle;
mod promises;
mod pysyncobj;
mod registry;
mod witness;
mod world;

use std::ops::RangeInclusive;
use std::time::Duration;

use cast::Kind;
use faults::Fault;
use pg_witness::reactor::simulated;
use world::{Plan, Report, World};

/// Time that passes in one world, at least: it ends when all is well.
const WORLD_TIME: Duration = Duration::from_secs(600);

/// The same in the part that is bounded: faults come and are healed once.
const SHORT_TIME: Duration = Duration::from_secs(30);

/// The seeds of the bounded part.
const SEEDS: RangeInclusive<u64> = 1..=12;

/// The same for the worlds whose members change: a few changes each.
const THIRD_NODE_SEEDS: RangeInclusive<u64> = 1..=2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The one of `all` that a variable names.
fn named<T: std::fmt::Debug + Copy>(variable: &str, all: &[T]) -> Option<T> {
    let name = std::env::var(variable).ok()?;
    let found = all.iter().find(|one| format!("{one:?}") == name).copied();
    Some(found.unwrap_or_else(|| panic!("{variable} is none of {all:?}")))
}

fn plan(seed: u64) -> Plan {
    let only = named("SIMULATE_FAULT", &Fault::ALL);
    Plan {
        seed,
        time: number("SIMULATE_SECONDS").map_or(WORLD_TIME, Duration::from_secs),
        only,
        kind: named("SIMULATE_KIND", &Kind::ALL),
    }
}

/// Runs a world; fails with the end of its log and how to see all of it.
fn run(plan: Plan, shown: bool) -> Report {
    match try_run(plan, shown) {
        Ok(report) => report,
        Err((failure, _)) => panic!("{failure}"),
    }
}

/// Runs a world on a thread of its own, so that nothing is left of another; why it
/// failed, and after how much of its time.
fn try_run(plan: Plan, shown: bool) -> Result<Report, (String, Duration)> {
    let seed = plan.seed;
    let world = std::thread::spawn(move || {
        journal::begin(shown);
        World::run(plan.clone()).map_err(|violation| {
            let set = ["SIMULATE_FAULT", "SIMULATE_KIND", "PG_WITNESS_BUG"];
            let set = set.map(|name| match std::env::var(name) {
                Ok(value) => format!("{name}={value} "),
                Err(_) => String::new(),
            });
            let failure = format!(
                "{}\n\nseed {seed}: {}\nto see all of it: SIMULATE_SEED={seed} SIMULATE_SECONDS={} \
                 {}cargo test --test simulation replay -- --ignored --nocapture",
                journal::end(),
                violation.what,
                plan.time.as_secs(),
                set.concat(),
            );
            (failure, simulated::passed())
        })
    });
    match world.join() {
        Ok(held) => held,
        Err(_) => Err((format!("seed {seed}: panicked"), Duration::ZERO)),
    }
}

/// The CPU time of this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap(),
        time.tv_nsec.try_into().unwrap(),
    )
}

#[test]
fn the_same_seed_gives_the_same_log() {
    let short = || Plan {
        time: SHORT_TIME,
        kind: Some(Kind::TwoDataNodes),
        ..plan(1)
    };
    let (one, other) = (run(short(), false), run(short(), false));
    assert_eq!(one, other);
    // To be held against that of another build or machine.
    println!("digest of seed 1: {}", one.digest);
}

#[test]
fn worlds_hold() {
    for seed in SEEDS {
        let short = Plan {
            time: SHORT_TIME,
            ..plan(seed)
        };
        println!("seed {seed}: {:?}", run(short, false));
    }
}

/// `vote: auto`: the members change, and the witness with them, whatever happens.
#[test]
fn a_vote_is_withdrawn_and_offered_again() {
    for seed in THIRD_NODE_SEEDS {
        let plan = Plan {
            kind: Some(Kind::ThirdDataNode),
            ..plan(seed)
        };
        println!("seed {seed}: {:?}", run(plan, false));
    }
}

#[test]
#[ignore = "on demand: the world of SIMULATE_SEED with its whole log"]
fn replay() {
    let seed = number("SIMULATE_SEED").expect("SIMULATE_SEED is a number");
    println!("seed {seed}: {:?}", run(plan(seed), true));
}

#[test]
#[ignore = "on demand: SIMULATE_HOURS of simulated time"]
fn for_hours() {
    let hours = number("SIMULATE_HOURS").expect("SIMULATE_HOURS is a number");
    let began = cpu_time();
    let mut seed = number("SIMULATE_SEED").unwrap_or(1);
    let mut total = Total::default();
    while total.passed < Duration::from_secs(hours * 3_600) {
        total.add(seed, &run(plan(seed), false));
        seed += 1;
    }
    println!("{}", total.told(cpu_time() - began));
}

#[test]
#[ignore = "on demand: how soon the bug PG_WITNESS_BUG is found, by the feature deliberate-bugs"]
fn finds_the_bug() {
    let bug = std::env::var("PG_WITNESS_BUG").expect("PG_WITNESS_BUG names a bug");
    let hours = number("SIMULATE_HOURS").unwrap_or(10);
    let mut seed = number("SIMULATE_SEED").unwrap_or(1);
    let mut passed = Duration::ZERO;
    while passed < Duration::from_secs(hours * 3_600) {
        match try_run(plan(seed), false) {
            Ok(report) => passed += report.time,
            Err((failure, after)) => {
                let told = failure.lines().rev().find(|line| line.starts_with("seed "));
                let (passed, told) = ((passed + after).as_secs(), told.unwrap_or(&failure));
                println!("{bug}: found after {passed} simulated seconds: {told}");
                return;
            }
        }
        seed += 1;
    }
    panic!("{bug} was not found in {hours} simulated hours");
}

/// What many worlds came to.
#[derive(Default)]
struct Total {
    worlds: u64,
    passed: Duration,
    faults: u64,
    acknowledged: u64,
    slowest: Duration,
    lost_by_pysyncobj: u64,
}

impl Total {
    fn add(&mut self, seed: u64, report: &Report) {
        self.worlds += 1;
        self.passed += report.time;
        self.faults += report.faults;
        self.acknowledged += report.acknowledged;
        self.slowest = self.slowest.max(report.slowest_recovery);
        if let Some(lost) = &report.lost_by_pysyncobj {
            self.lost_by_pysyncobj += 1;
            println!("seed {seed}: PySyncObj lost: {lost}");
        }
    }

    fn told(&self, cpu: Duration) -> String {
        let hours = self.passed.as_secs_f64() / 3_600.0;
        let speed = self.passed.as_secs_f64() / cpu.as_secs_f64();
        format!(
            "{} worlds, {hours:.1} simulated hours, {speed:.0} of them an hour of CPU time; {} \
             faults, {} acknowledged writes, slowest recovery {:?}, {} worlds ended by a loss of \
             PySyncObj's own",
            self.worlds, self.faults, self.acknowledged, self.slowest, self.lost_by_pysyncobj
        )
    }
}
