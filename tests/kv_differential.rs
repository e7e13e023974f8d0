//! The key-value store against the real thing: tens of thousands of commands,
//! proper, spoilt and senseless, applied by us and by Patroni's own code under
//! PySyncObj's own dispatcher; results, raises and whole states must agree after
//! every one (spec 6; S6, H1, H6). Needs the interpreters of tests/setup.
//!
//! A failure names its seed; PG_WITNESS_SEED repeats it, PG_WITNESS_CASES sets
//! how many sequences are tried.

// The helpers of a test may fail as loudly as the test.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "kv/commands.rs"]
mod commands;
#[path = "kv/oracle.rs"]
mod oracle;

use std::collections::BTreeMap;

use commands::Dice;
use oracle::{Oracle, encode, encode_dict};
use pg_witness::ids::LogIndex;
use pg_witness::kv::{Applied, Call, Change, Poison, SpeculativeStore, Store};
use pg_witness::reactor::Instant;
use pg_witness::wire::{Snapshot, Value};

const COMMANDS_PER_CASE: u64 = 40;

/// How the versions of Patroni differ.
#[derive(Clone, Copy, PartialEq)]
enum Rules {
    /// Up to 3.0.2: a false `prevIndex` is no condition, `_set` returns True.
    Old,
    /// Since 3.0.3.
    New,
}

/// A dump of Python's is our state, and ours is Python's, through the loaders
/// and writers of both (spec 7.3).
#[test]
fn snapshots_are_exchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (theirs, ours) = (path("theirs"), path("ours"));
    let now = Instant::now();
    for patroni in ["3.0.2", "3.3.7", "4.1.5"] {
        let mut oracle = Oracle::start(patroni);
        let mut keys = 0;
        for seed in 0..100 {
            let dice = &mut Dice(seed);
            let mut store = Store::new(now);
            for index in 2..30 {
                if let Ok(call) = Call::from_command(&commands::command(dice, &store)) {
                    store.apply(LogIndex::new(index).unwrap(), &call, now);
                }
            }
            let state = encode_dict(store.iter());
            oracle.ask(&[format!("load {state}"), format!("dump {theirs} 30")]);
            let mut snapshot = Snapshot::decode(&std::fs::read(&theirs).unwrap()).unwrap();
            let loaded = Store::load(snapshot.data, now);
            assert_eq!(
                encode_dict(loaded.iter()),
                state,
                "from {patroni}, seed {seed}"
            );
            assert_eq!(
                (snapshot.last.id.index.get(), snapshot.members.len()),
                (30, 3)
            );

            snapshot.data = store.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            std::fs::write(&ours, snapshot.encode()).unwrap();
            let answers = oracle.ask(&["load d0;".into(), format!("restore {ours}")]);
            assert_eq!(
                answers[1],
                format!("30 {state}"),
                "to {patroni}, seed {seed}"
            );
            keys += store.len();
        }
        assert!(keys >= 100, "{keys} keys only");
    }
}

/// What we made of a command.
struct Ours {
    question: String,
    answer: String,
    poison: Option<Poison>,
}

#[test]
fn agrees_with_patroni_3_0_2() {
    run("3.0.2", Rules::Old);
}

#[test]
fn agrees_with_patroni_3_3_7() {
    run("3.3.7", Rules::New);
}

#[test]
fn agrees_with_patroni_4_1_5() {
    run("4.1.5", Rules::New);
}

fn run(patroni: &str, rules: Rules) {
    let number = |name| std::env::var(name).ok().map(|v| v.parse().unwrap());
    let mut oracle = Oracle::start(patroni);
    let mut seen = BTreeMap::new();
    let seeds = match number("PG_WITNESS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PG_WITNESS_CASES").unwrap_or(1000),
    };
    let whole = seeds.end - seeds.start >= 1000;
    for seed in seeds {
        case(&mut oracle, rules, seed, &mut seen);
    }
    println!("patroni {patroni}: {seen:#?}");
    // A test of what never happens proves nothing.
    for kind in [
        "raise AttributeError",
        "raise KeyError",
        "raise TypeError",
        "raise ValueError",
        "repropose",
        "callback",
        "readers",
        "set",
        "deleted",
        "expired",
        "refused",
    ] {
        let count = seen.get(kind).copied().unwrap_or(0);
        assert!(!whole || count >= 50, "{kind} happened {count} times only");
    }
}

/// One sequence of commands, from an empty or a strange state.
fn case(oracle: &mut Oracle, rules: Rules, seed: u64, seen: &mut BTreeMap<String, u32>) {
    let dice = &mut Dice(seed.wrapping_mul(0x1234_5678_9abc_def1));
    let now = Instant::now();
    let start = match seed % 4 {
        0 => commands::strange_state(dice),
        _ => Vec::new(),
    };
    let mut store = Store::load(start, now);
    let mut tail = SpeculativeStore::of(&store);
    let mut questions = vec![format!("load {}", encode_dict(store.iter()))];
    let mut ours = Vec::new();
    for index in 2..2 + COMMANDS_PER_CASE {
        let command = commands::command(dice, &store);
        let step = step(&mut store, &mut tail, rules, index, &command, seen);
        questions.push(step.question.clone());
        ours.push(step);
    }
    let answers = oracle.ask(&questions);
    for (ours, theirs) in ours.iter().zip(&answers[1..]) {
        compare(ours, theirs, seen).unwrap_or_else(|difference| {
            panic!(
                "PG_WITNESS_SEED={seed}: {difference}\n{}\nours:   {}\ntheirs: {theirs}\npoison: {:?}",
                ours.question, ours.answer, ours.poison
            )
        });
    }
}

fn step(
    store: &mut Store,
    tail: &mut SpeculativeStore,
    rules: Rules,
    index: u64,
    command: &Value,
    seen: &mut BTreeMap<String, u32>,
) -> Ours {
    let question = format!("call {index} {}", encode(command));
    let index = LogIndex::new(index).unwrap();
    let applied = match Call::from_command(command) {
        Ok(mut call) => {
            if rules == Rules::Old {
                forget_false_index(&mut call);
            }
            let foreseen = (
                store.would_raise(index, &call),
                tail.would_raise(index, &call),
            );
            let applied = store.apply(index, &call, Instant::now());
            tail.append(index, &call);
            assert_eq!(foreseen, (applied.poison, applied.poison), "{question}");
            applied
        }
        Err(poison) => Applied {
            result: Value::Bool(false),
            change: Change::Nothing,
            poison: Some(poison),
        },
    };
    let kind = match (&applied.change, &applied.result) {
        (Change::Set(_), _) => "set",
        (Change::Deleted(_), _) => "deleted",
        (Change::Expired(_), _) => "expired",
        (Change::Nothing, Value::Bool(false)) if applied.poison.is_none() => "refused",
        (Change::Nothing, _) => "nothing",
    };
    *seen.entry(kind.into()).or_default() += 1;
    let result = match applied.result {
        Value::Dict(_) if rules == Rules::Old => Value::Bool(true),
        result => result,
    };
    Ours {
        question,
        answer: format!("{} {}", encode(&result), encode_dict(store.iter())),
        poison: applied.poison,
    }
}

/// Makes a `prevIndex` that is false the None that Patroni 3.0.2 takes it for.
fn forget_false_index(call: &mut Call) {
    for (name, value) in &mut call.kwargs {
        if name.as_str() == Some("prevIndex") && !value.truthy() {
            *value = Value::None;
        }
    }
}

/// Whether our doing is theirs. `theirs` is described in kv_oracle.py.
fn compare(ours: &Ours, theirs: &str, seen: &mut BTreeMap<String, u32>) -> Result<(), String> {
    let words: Vec<_> = theirs.split(' ').collect();
    let [kind, what, harm @ .., state] = words.as_slice() else {
        return Err("no answer".into());
    };
    let (our_result, our_state) = ours.answer.split_once(' ').unwrap();
    if our_state != *state {
        return Err("the states differ".into());
    }
    let raised = *kind == "raise";
    let reproposed = harm.contains(&"repropose");
    if raised {
        *seen.entry(format!("raise {what}")).or_default() += 1;
    }
    for harm in harm {
        *seen.entry((*harm).to_owned()).or_default() += 1;
    }
    if !raised && !reproposed && our_result != *what {
        return Err("the results differ".into());
    }
    let harmful = raised || !harm.is_empty();
    match ours.poison {
        None if harmful => Err("harm is taken for harmless".into()),
        // What this version takes for harmless divides it from the others.
        Some(Poison::AmbiguousIndex) if !raised => Ok(()),
        Some(poison) if !harmful => Err(format!("{poison} is harmless")),
        Some(poison) if !raised && !reproposed => {
            let stored = [
                Poison::Callback,
                Poison::KeyNotText,
                Poison::ExpireNotNumber,
            ];
            let fits = stored.contains(&poison);
            fits.then_some(()).ok_or(format!("{poison} does not raise"))
        }
        _ => Ok(()),
    }
}
