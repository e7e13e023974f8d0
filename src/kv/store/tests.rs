//! The store and the tail through their doors. That the rules are Python's is
//! shown by `tests/kv_differential.rs`; here is what Python does not have: ages,
//! the guard, order.

use super::*;
use crate::kv::{ProposalError, SpeculativeStore, call_of};
use crate::limits::{
    DISK_FRAME_BYTES_MAX, FRAME_BYTES_MAX, INFLATED_BYTES_MAX, KV_BYTES_MAX, KV_BYTES_QUOTA,
    KV_BYTES_QUOTA_EXPIRING, PICKLE_VALUES_MAX, PROPOSAL_BYTES_MAX,
};
use crate::wire::value::Str;

const TTL: Duration = Duration::from_secs(30);

fn str(text: &str) -> Value {
    Value::Str(text.into())
}

fn dict(pairs: &[(&str, Value)]) -> Value {
    let pair = |(key, value): &(&str, Value)| (str(key), value.clone());
    Value::Dict(pairs.iter().map(pair).collect())
}

/// What Patroni writes (spec 6.3).
fn writing(value: &str, updated: f64, ttl: Option<f64>) -> Value {
    let mut pairs = vec![
        ("value", str(value)),
        ("updated", Value::Float(updated)),
        ("created", Value::Float(updated)),
    ];
    pairs.extend(ttl.map(|ttl| ("expire", Value::Float(updated + ttl))));
    dict(&pairs)
}

fn call(function: i64, args: &[Value], kwargs: &[(&str, Value)]) -> Call {
    Call {
        function: Value::Int(function),
        args: args.to_vec(),
        kwargs: kwargs.iter().map(|(k, v)| (str(k), v.clone())).collect(),
    }
}

fn set(key: &str, value: Value) -> Call {
    call(2, &[str(key), value], &[])
}

fn lock(updated: f64) -> Call {
    set("/s/b/leader", writing("a", updated, Some(30.0)))
}

/// A store, its log index, and an instant that ticks.
struct Bench {
    store: Store,
    index: LogIndex,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let (store, index) = (Store::new(now), LogIndex::FIRST);
        Self { store, index, now }
    }

    fn apply(&mut self, call: &Call) -> Applied {
        self.index = self.index.next();
        self.store.apply(self.index, call, self.now)
    }

    /// Lets time pass as it does while the process runs.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(100));
            self.store.tick(self.now);
        }
    }

    fn due(&self) -> Vec<String> {
        let due = self.store.due(self.now);
        due.map(|writing| self.expiry(writing))
            .map(|call| call.args[0].as_str().unwrap().to_owned())
            .collect()
    }

    fn next_due(&self) -> Option<Instant> {
        self.store.next_due(self.now, |_| false)
    }

    fn keys(&self) -> Vec<&str> {
        let keys = self.store.iter();
        keys.map(|(key, _)| key.as_str().unwrap()).collect()
    }

    /// The expiry of a writing as a call, by way of its command.
    fn expiry(&self, writing: Writing) -> Call {
        let command = self.store.expire_command(writing).unwrap();
        call_of(&command).unwrap().unwrap()
    }

    /// The only one that is due.
    fn only_due(&self) -> Writing {
        let due: Vec<_> = self.store.due(self.now).collect();
        assert_eq!(due.len(), 1);
        due[0]
    }
}

/// S8: the lock expires after its TTL by our clock, not a moment earlier,
/// whatever the writer's clock says; the next due instant says when.
#[test]
fn expires_by_monotonic_age() {
    for writers_clock in [0.0, 1.7e9, 4e9] {
        let mut bench = Bench::new();
        bench.apply(&lock(writers_clock));
        let due = bench.now + TTL;
        assert_eq!(bench.next_due(), Some(due));
        bench.pass(TTL - Duration::from_millis(1));
        assert!(bench.due().is_empty());
        assert_eq!(bench.next_due(), Some(due));
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.due(), ["/s/b/leader"]);
        assert_eq!(bench.next_due(), Some(bench.now));

        let expiry = bench.expiry(bench.only_due());
        let applied = bench.apply(&expiry);
        assert!(
            matches!(applied.change, Change::Expired(key) if key.as_str() == Some("/s/b/leader"))
        );
        assert!(applied.poison.is_none() && bench.store.is_empty());
        assert_eq!(bench.next_due(), None);
    }
}

/// S8: a refresh makes the value young, and the expiry that crossed it void.
#[test]
fn a_refresh_beats_the_expiry_in_flight() {
    let mut bench = Bench::new();
    bench.apply(&lock(100.0));
    bench.pass(TTL);
    let expiry = bench.expiry(bench.only_due());
    let mut refresh = lock(100.0);
    refresh.args[1] = dict(&[
        ("value", str("a")),
        ("updated", Value::Float(110.0)),
        ("created", Value::Float(100.0)),
        ("expire", Value::Float(140.0)),
    ]);
    bench.apply(&refresh);
    assert!(matches!(bench.apply(&expiry).change, Change::Nothing));
    bench.pass(TTL - Duration::from_millis(1));
    assert!(bench.due().is_empty());
}

/// S8: the same writing again (a client's retry) keeps its age.
#[test]
fn an_identical_value_keeps_its_age() {
    let mut bench = Bench::new();
    bench.apply(&lock(100.0));
    bench.pass(TTL / 2);
    assert!(matches!(bench.apply(&lock(100.0)).change, Change::Set(_)));
    bench.pass(TTL / 2);
    assert_eq!(bench.due(), ["/s/b/leader"]);
    let due = bench.only_due();
    bench.apply(&lock(100.0));
    assert_eq!(bench.only_due(), due, "no other writing");
}

/// S8: a loaded state is new, whatever its dates.
#[test]
fn a_restart_starts_the_age_anew() {
    let mut bench = Bench::new();
    bench.apply(&lock(100.0));
    bench.pass(TTL);
    let pairs: Vec<_> = bench
        .store
        .iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    bench.store = Store::load(pairs, bench.now);
    assert!(bench.due().is_empty());
    bench.pass(TTL);
    assert_eq!(bench.due(), ["/s/b/leader"]);
}

/// S8: a stopped process does not expire what it could not hear of.
#[test]
fn a_stall_is_no_age() {
    let mut bench = Bench::new();
    bench.apply(&lock(100.0));
    bench.now += 10 * TTL;
    assert!(bench.due().is_empty());
    bench.store.tick(bench.now);
    bench.pass(TTL - Duration::from_millis(1001));
    assert!(bench.due().is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.due(), ["/s/b/leader"]);
}

/// S8: keys without TTL and nonsense stay.
#[test]
fn nonsense_does_not_expire() {
    let mut bench = Bench::new();
    bench.apply(&set("config", writing("{}", 100.0, None)));
    for (key, ttl) in [
        ("nan", f64::NAN),
        ("inf", f64::INFINITY),
        ("past", -5.0),
        ("zero", 0.0),
    ] {
        bench.apply(&set(key, writing("x", 100.0, Some(ttl))));
    }
    bench.pass(Duration::from_secs(600));
    assert!(bench.due().is_empty());
    assert_eq!(bench.next_due(), None);
}

/// S8: whoever proposes expiries knows one writing from another.
#[test]
fn another_value_is_another_writing() {
    let mut bench = Bench::new();
    bench.apply(&lock(100.0));
    bench.apply(&set("/s/b/members/a", writing("{}", 100.0, Some(30.0))));
    assert_eq!(bench.store.due(bench.now).count(), 0);
    bench.pass(TTL);
    let first: Vec<_> = bench.store.due(bench.now).collect();
    assert_eq!(bench.due(), ["/s/b/leader", "/s/b/members/a"]);
    assert_eq!(
        bench.store.next_due(bench.now, |w| first.contains(&w)),
        None
    );
    // Overwritten, it is due anew; deleted and written again as well.
    bench.apply(&lock(130.0));
    bench.apply(&call(0, &[str("/s/b/members/a")], &[]));
    bench.apply(&set("/s/b/members/a", writing("{}", 100.0, Some(30.0))));
    for old in &first {
        assert!(bench.store.expire_command(*old).is_none(), "stored no more");
    }
    let next = bench.store.next_due(bench.now, |w| first.contains(&w));
    assert_eq!(next, Some(bench.now + TTL));
    bench.pass(TTL);
    let second: Vec<_> = bench.store.due(bench.now).collect();
    assert_eq!(bench.due(), ["/s/b/leader", "/s/b/members/a"]);
    assert!(second.iter().all(|writing| !first.contains(writing)));
}

/// H1: the retried `cancel_initialization` is applied as False, and refused as a
/// proposal already while the first is in flight.
#[test]
fn poison_changes_nothing_and_is_refused() {
    let mut bench = Bench::new();
    bench.apply(&set("/s/b/initialize", writing("1", 100.0, None)));
    let cancel = call(
        0,
        &[str("/s/b/initialize")],
        &[("recursive", Value::Bool(false))],
    );
    let mut tail = SpeculativeStore::of(&bench.store);
    let (first, second) = (bench.index.next(), bench.index.next().next());
    assert_eq!(tail.propose(first, &cancel), Ok(()));
    assert_eq!(bench.store.would_raise(second, &cancel), None);
    assert_eq!(tail.would_raise(second, &cancel), Some(Poison::MissingKey));
    let refused = ProposalError::Poison(Poison::MissingKey);
    assert_eq!(tail.propose(second, &cancel), Err(refused));

    assert!(matches!(&bench.apply(&cancel).change, Change::Deleted(keys) if keys.len() == 1));
    let again = bench.apply(&cancel);
    assert!(matches!(again.result, Value::Bool(false)));
    assert!(matches!(again.change, Change::Nothing));
    assert_eq!(again.poison, Some(Poison::MissingKey));
}

/// S6: a tail taken anew after a truncation does not remember what was cut.
#[test]
fn a_tail_is_rebuilt_from_store_and_entries() {
    let bench = Bench::new();
    let (first, second) = (bench.index.next(), bench.index.next().next());
    let delete = call(0, &[str("k")], &[]);
    let mut tail = SpeculativeStore::of(&bench.store);
    tail.append(first, &set("k", writing("x", 1.0, None)));
    assert_eq!(tail.would_raise(second, &delete), None);
    tail = SpeculativeStore::of(&bench.store);
    tail.append(first, &delete);
    assert_eq!(tail.would_raise(second, &delete), Some(Poison::MissingKey));
}

/// S6: what Python stores and then trips over is kept out of the log, and
/// stored if it is there.
#[test]
fn harm_to_python_nodes_is_refused() {
    let number = call(2, &[Value::Int(5), writing("x", 1.0, None)], &[]);
    let bare = set("k", dict(&[("value", str("x"))]));
    let mut odd = writing("x", 1.0, None);
    if let Value::Dict(pairs) = &odd {
        let expire = [(str("expire"), str("soon"))];
        odd = Value::Dict(pairs.iter().cloned().chain(expire).collect());
    }
    let zero = call(
        2,
        &[str("k"), writing("x", 1.0, None)],
        &[("prevIndex", Value::Int(0))],
    );
    let anew = call(
        2,
        &[str("k"), writing("x", 1.0, None)],
        &[("_doApply", Value::None)],
    );
    for (call, poison, keys) in [
        (number, Poison::KeyNotText, 1),
        (bare, Poison::Callback, 1),
        (set("k", odd), Poison::ExpireNotNumber, 1),
        (zero, Poison::AmbiguousIndex, 0),
        (anew, Poison::Reproposes, 0),
    ] {
        let mut bench = Bench::new();
        let mut tail = SpeculativeStore::of(&bench.store);
        assert_eq!(
            tail.propose(bench.index.next(), &call),
            Err(ProposalError::Poison(poison))
        );
        assert_eq!(bench.apply(&call).poison, Some(poison));
        assert_eq!(bench.store.len(), keys, "{poison}");
    }
}

/// Spec 7.3: the order of a snapshot is that of a Python dict.
#[test]
fn order_is_pythons() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c", "a"] {
        bench.apply(&set(key, writing(key, 1.0, None)));
    }
    assert_eq!(bench.keys(), ["a", "b", "c"]);
    bench.apply(&call(0, &[str("a")], &[]));
    bench.apply(&set("a", writing("a", 1.0, None)));
    assert_eq!(bench.keys(), ["b", "c", "a"]);
}

/// The measure of memory follows every change and returns to nothing.
#[test]
fn bytes_are_measured() {
    let mut bench = Bench::new();
    bench.apply(&set("a", writing(&"x".repeat(10_000), 1.0, None)));
    let big = bench.store.bytes();
    assert!((10_000..11_000).contains(&big), "{big}");
    bench.apply(&set("a", writing("x", 1.0, None)));
    assert!(bench.store.bytes() < 1000);
    bench.apply(&set("b", writing("x", 1.0, None)));
    bench.apply(&call(0, &[str("")], &[("recursive", Value::Int(1))]));
    assert_eq!(bench.store.bytes(), 0);
}

/// H6: a lone surrogate and other non-ASCII characters iterate one by one.
#[test]
fn text_iterates_by_character() {
    let text = Str::from_checked(b"a\xc3\xa9\xed\xa0\x80\xf0\x9f\x90\x98");
    let command = Value::Tuple([Value::Int(2), Value::Str(text)].into());
    let call = Call::from_command(&command).unwrap();
    let widths = call.args.iter().map(|c| match c {
        Value::Str(c) => c.as_bytes().len(),
        _ => 0,
    });
    assert_eq!(widths.collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// S9: a condition on a hostile value takes neither square nor exponential time.
#[test]
fn hostile_conditions_end() {
    let reversed = |pairs: &[(Value, Value)]| Value::Dict(pairs.iter().rev().cloned().collect());
    let ordered = |pairs: &[(Value, Value)]| Value::Dict(pairs.into());
    let many: Vec<_> = (0..100_000).map(|i| (Value::Int(i), Value::None)).collect();
    let (mut one, mut other) = (Value::None, Value::None);
    for _ in 0..crate::limits::PICKLE_DEPTH_MAX {
        one = ordered(&[(str("x"), one), (str("y"), Value::Int(1))]);
        other = reversed(&[(str("x"), other), (str("y"), Value::Int(1))]);
    }
    for (stored, wanted) in [(ordered(&many), reversed(&many)), (one, other)] {
        let mut bench = Bench::new();
        let created = ("created", Value::Int(1));
        bench.apply(&set("k", dict(&[("value", stored), created])));
        let condition = call(0, &[str("k")], &[("prevValue", wanted)]);
        assert!(matches!(bench.apply(&condition).change, Change::Deleted(_)));
    }
}

/// S15: within the quota a snapshot is one that a member takes in, also while it is
/// the leader's quota alone; the most that we hold has a checkpoint of one frame.
#[test]
fn the_quota_keeps_what_is_written_readable() {
    let quota = usize::try_from(KV_BYTES_QUOTA).unwrap();
    let most = usize::try_from(KV_BYTES_MAX).unwrap();
    let rest = 64 << 10;
    assert!(quota + 2 * PROPOSAL_BYTES_MAX + rest <= INFLATED_BYTES_MAX);
    // A container counts twice as it is read, a key thrice.
    assert!(3 * quota / usize::try_from(VALUE_BYTES).unwrap() + 1024 <= PICKLE_VALUES_MAX);
    assert!(most + 2 * FRAME_BYTES_MAX + rest <= DISK_FRAME_BYTES_MAX);
}

/// S15: beyond the quota nothing may grow, and all that lets the store shrink, and
/// the refresh of a leader key, goes on.
#[test]
fn a_quota_is_kept_by_the_leader() {
    let mut bench = Bench::new();
    let mut tail = SpeculativeStore::of(&bench.store);
    let big = "x".repeat(1 << 20);
    let propose = |bench: &mut Bench, tail: &mut SpeculativeStore, call: &Call| {
        let judged = tail.propose(bench.index.next(), call);
        if judged.is_ok() {
            bench.apply(call);
        }
        judged
    };
    let refused = Err(ProposalError::Quota);
    assert_eq!(propose(&mut bench, &mut tail, &lock(100.0)), Ok(()));
    for n in 0..4 {
        let junk = set(&format!("/junk/{n}"), writing(&big, 100.0, None));
        assert_eq!(propose(&mut bench, &mut tail, &junk), Ok(()));
    }
    let one_more = set("/junk/4", writing(&big, 100.0, None));
    assert_eq!(propose(&mut bench, &mut tail, &one_more), refused);
    assert!(bench.store.bytes() <= KV_BYTES_QUOTA);
    // Another leader has let it in.
    bench.apply(&one_more);
    bench.apply(&set("/junk/5", writing(&big, 100.0, None)));
    assert!(bench.store.bytes() > KV_BYTES_QUOTA_EXPIRING);
    let mut tail = SpeculativeStore::of(&bench.store);
    let small = set("/s/b/sync", writing("{}", 100.0, None));
    let larger = set("/s/b/leader", writing("another", 110.0, Some(30.0)));
    for call in [&one_more, &lock(110.0)] {
        assert_eq!(propose(&mut bench, &mut tail, call), Ok(()));
    }
    for call in [&small, &larger] {
        assert_eq!(propose(&mut bench, &mut tail, call), refused);
    }
    bench.pass(TTL);
    let expiry = bench.expiry(bench.only_due());
    let delete = call(0, &[str("/junk/"), Value::Bool(true)], &[]);
    for call in [&expiry, &delete, &small, &larger] {
        assert_eq!(propose(&mut bench, &mut tail, call), Ok(()));
    }
    assert_eq!(bench.keys(), ["/s/b/sync", "/s/b/leader"]);
    assert!(bench.store.bytes() < 4096);
}

/// A store that somebody has filled keeps no standby from the leader key.
#[test]
fn a_leader_key_fits_where_nothing_else_does() {
    let mut bench = Bench::new();
    let name = |n: u64| format!("/junk/{n:06}");
    let propose = |bench: &mut Bench, tail: &mut SpeculativeStore, call: &Call| {
        let judged = tail.propose(bench.index.next(), call);
        judged.map(|()| bench.apply(call)).is_ok()
    };
    let mut tail = SpeculativeStore::of(&bench.store);
    let mut fill = |bench: &mut Bench, size: usize, ttl: Option<f64>, from: u64| {
        let junk = "x".repeat(size);
        let mut next = from;
        while propose(
            bench,
            &mut tail,
            &set(&name(next), writing(&junk, 1.0, ttl)),
        ) {
            next += 1;
        }
        next
    };
    let large = fill(&mut bench, 60 << 10, None, 0);
    let full = fill(&mut bench, 1, None, large);
    assert!(bench.store.bytes() <= KV_BYTES_QUOTA);
    let mut after = SpeculativeStore::of(&bench.store);
    for (ttl, size, wanted) in [
        (None, 1, false),
        (Some(1e9), 1, false),
        (Some(30.0), 8 << 10, false),
        (Some(30.0), 1, true),
    ] {
        let call = set("/s/b/leader", writing(&"x".repeat(size), 1.0, ttl));
        let taken = propose(&mut bench, &mut after, &call);
        assert_eq!(taken, wanted, "{size} bytes for {ttl:?} s");
    }
    // What expires has a quota too.
    let mut tail = after;
    let mut next = full;
    while propose(
        &mut bench,
        &mut tail,
        &set(&name(next), writing("x", 1.0, Some(30.0))),
    ) {
        next += 1;
    }
    assert!(bench.store.bytes() <= KV_BYTES_QUOTA_EXPIRING);
}

/// How long 500 writes take in a store of this many keys, the best of three.
fn time_of_writes(keys: usize) -> Duration {
    let name = |n: usize| format!("/s/b/{n}");
    let mut bench = Bench::new();
    let pairs = (0..keys).map(|n| (str(&name(n)), writing("x", 1.0, Some(30.0))));
    bench.store = Store::load(pairs, bench.now);
    let calls: Vec<_> = (keys - 500..keys)
        .map(|n| set(&name(n), writing("y", 2.0, Some(30.0))))
        .collect();
    let mut time = || {
        let began = Instant::now();
        for call in &calls {
            assert!(matches!(bench.apply(call).change, Change::Set(_)));
            assert!(bench.next_due().is_some());
        }
        began.elapsed()
    };
    (0..3).map(|_| time()).min().unwrap()
}

#[test]
fn a_write_costs_the_same_at_any_size() {
    let (few, many) = (time_of_writes(500), time_of_writes(25_000));
    println!("500 writes at 500 keys {few:?}, at 25,000 {many:?}");
    assert!(many < few * 10, "{many:?} against {few:?}");
}
