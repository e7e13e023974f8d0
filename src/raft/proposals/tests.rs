use super::*;
use crate::disk::StoredEntry;
use crate::ids::{Entry, EntryId, Term};
use crate::reactor::Instant;
use crate::wire::{Value, command};

/// A leader's log and store, and what is under way.
struct Bench {
    log: Log,
    store: Store,
    applied: LogIndex,
    me: Address,
    proposals: Proposals,
}

fn address(n: u8) -> Address {
    format!("10.0.0.{n}:5010").parse().unwrap()
}

fn str(text: &str) -> crate::wire::value::Str {
    text.into()
}

fn set(key: &str) -> Vec<u8> {
    let date = Value::Float(1.0);
    let value = Value::dict([("created", date.clone()), ("updated", date)]);
    command::set(&str(key), &value, &[]).to_vec()
}

fn delete(key: &str) -> Vec<u8> {
    command::delete(&str(key), &[]).to_vec()
}

fn add(n: u8) -> Vec<u8> {
    command::membership(true, &address(n)).to_vec()
}

impl Bench {
    /// We lead, and our NO_OP is committed and applied.
    fn new() -> Self {
        let log = Log::initial([address(1), address(2)].into());
        let (store, applied) = (Store::new(Instant::now()), LogIndex::FIRST);
        let held = Held {
            log: &log,
            store: &store,
            applied,
        };
        Self {
            proposals: Proposals::new(held),
            me: address(1),
            log,
            store,
            applied,
        }
    }

    fn admit(&mut self, command: &[u8]) -> Result<Admitted, ApplyError> {
        let held = Held {
            log: &self.log,
            store: &self.store,
            applied: self.applied,
        };
        self.proposals.admit(held, &self.me, command)
    }

    /// The engine appends what was admitted.
    fn append(&mut self, admitted: &Admitted, command: &[u8]) {
        let id = EntryId {
            index: self.log.last().index.next(),
            term: Term::ZERO,
        };
        let entry = Entry {
            id,
            command: command.into(),
        };
        assert!(self.log.push(StoredEntry { epoch: 0, entry }));
        self.proposals.settle(admitted.index, true);
    }

    fn apply(&mut self) {
        let last = self.log.last().index;
        self.log.commit_to(last);
        while self.applied < last {
            self.applied = self.applied.next();
            let command = &self.log.get(self.applied).unwrap().entry.command;
            if let Some(Ok(call)) = call_of(command) {
                self.store.apply(self.applied, &call, Instant::now());
            }
        }
    }
}

#[test]
fn a_refused_change_of_the_members_bars_no_other() {
    // H17
    let mut bench = Bench::new();
    let first = bench.admit(&add(3)).unwrap();
    assert_eq!(bench.admit(&add(4)), Err(ApplyError::RequestDenied));
    bench.proposals.settle(first.index, false);
    let second = bench.admit(&add(4)).unwrap();
    assert_eq!(second.index, first.index);
    bench.append(&second, &add(4));
    assert_eq!(bench.admit(&add(5)), Err(ApplyError::RequestDenied));
    bench.apply();
    assert!(bench.admit(&add(5)).is_ok());
}

#[test]
fn a_refused_write_is_nothing_to_judge_others_by() {
    // S6, H1: with the key refused, its deletion is poison.
    let mut bench = Bench::new();
    let refused = bench.admit(&set("x")).unwrap();
    bench.proposals.settle(refused.index, false);
    assert_eq!(bench.admit(&delete("x")), Err(ApplyError::RequestDenied));
}

#[test]
fn behind_a_refusal_all_wait_until_the_rest_is_settled() {
    let mut bench = Bench::new();
    let (x, y) = (
        bench.admit(&set("x")).unwrap(),
        bench.admit(&set("y")).unwrap(),
    );
    bench.proposals.settle(x.index, false);
    assert_eq!(bench.admit(&delete("x")), Err(ApplyError::QueueFull));
    bench.append(&y, &set("y"));
    // Its entry stands where the refused one would have stood.
    let next = bench.admit(&delete("y")).unwrap();
    assert_eq!(next.index, y.index);
    assert_eq!(bench.admit(&delete("x")), Err(ApplyError::RequestDenied));
}

#[test]
fn what_is_appended_counts_before_it_is_applied() {
    // S6, H1
    let mut bench = Bench::new();
    let written = bench.admit(&set("x")).unwrap();
    assert!(bench.admit(&delete("x")).is_ok());
    assert_eq!(bench.admit(&delete("x")), Err(ApplyError::RequestDenied));
    bench.append(&written, &set("x"));
    bench.apply();
}

#[test]
fn the_copy_of_the_store_does_not_grow_without_end() {
    // S10
    let mut bench = Bench::new();
    let large = "x".repeat(limits::TAIL_BYTES_MAX);
    for _ in 0..3 {
        let admitted = bench.admit(&set(&large)).unwrap();
        bench.append(&admitted, &set(&large));
        bench.apply();
        assert!(bench.proposals.tail_bytes < 2 * limits::TAIL_BYTES_MAX);
    }
}

#[test]
fn only_so_many_wait_for_the_first_commit() {
    // S10
    let mut bench = Bench::new();
    for _ in 0..limits::PROPOSALS_WAITING_MAX {
        assert_eq!(bench.proposals.wait(10), Ok(()));
    }
    assert_eq!(bench.proposals.wait(10), Err(ApplyError::QueueFull));
    bench.proposals.end_wait(10);
    let rest = limits::PROPOSALS_WAITING_BYTES_MAX - 10 * (limits::PROPOSALS_WAITING_MAX - 1);
    assert_eq!(bench.proposals.wait(rest + 1), Err(ApplyError::QueueFull));
    assert_eq!(bench.proposals.wait(rest), Ok(()));
}
