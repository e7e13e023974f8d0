//! The gate of the engine: the real `links::follower` with openraft and a real
//! disk behind it, against a plain reference follower that fits on one page.
//!
//! Random leaders, logs whose terms decrease or come twice (H7), appends,
//! snapshots, votes, membership changes, truncations, elections of our own and
//! restarts from disk; after each step log, commit index and members must be the
//! reference's, what a leader was told to be accepted must be its own log, and
//! nothing may stall or panic (S2, S9, S14, E1-E4, E10).
//!
//! `GATE_OPERATIONS` sets the length (default: what CI affords), `GATE_SEED`
//! repeats a run; the seed is printed when a run fails.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use event_listener::{Event, EventListener};
use pg_witness::address::Address;
use pg_witness::disk::{Disk, Worker};
use pg_witness::ids::{Entry, EntryId, LogIndex, Term};
use pg_witness::links::epoch::EpochTerm;
use pg_witness::links::follower::{self, AppendVerdict, Incoming, Vouched};
use pg_witness::raft::checkpoint::CheckpointState;
use pg_witness::raft::engine::{Engine, Role};
use pg_witness::raft::network::{PeerProgress, Peers};
use pg_witness::raft::replica::{Replica, Shared};
use pg_witness::raft::types::{Members, Payload};
use pg_witness::reactor::{self, Instant};
use pg_witness::wire::command;
use pg_witness::wire::snapshot::Snapshot;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

fn address(n: u64) -> Address {
    format!("10.0.0.{n}:5010").parse().unwrap()
}

fn index(i: usize) -> LogIndex {
    LogIndex::new(u64::try_from(i).unwrap()).unwrap()
}

fn term(t: u64) -> Term {
    Term::new(t).unwrap()
}

/// An entry: its term, and in which leadership of that term it was written. Index
/// and term name an entry only as long as no term comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    term: u64,
    /// 0: a NO_OP, as every leader begins with.
    by: u64,
}

impl Written {
    /// Some entries are changes of the members, which say the same by whomever
    /// they were written.
    fn at(i: usize, term: u64, by: u64) -> Self {
        let by = if kind(i, term) < 2 && by != 0 { 1 } else { by };
        Self { term, by }
    }
}

fn kind(i: usize, t: u64) -> usize {
    (i * 7 + usize::try_from(t).unwrap()) % 11
}

fn entry(i: usize, written: Written) -> Entry {
    let Written { term: t, by } = written;
    let spare = address(10 + (t + u64::try_from(i).unwrap()) % 3);
    let command: Arc<[u8]> = match kind(i, t) {
        _ if by == 0 => Arc::from(&b"\x01"[..]),
        0 => command::membership(true, &spare),
        1 => command::membership(false, &spare),
        // No call that could be read, so nothing is changed by it.
        _ => [&[command::REGULAR], &by.to_le_bytes()[..]].concat().into(),
    };
    Entry {
        id: EntryId {
            index: index(i),
            term: term(t),
        },
        command,
    }
}

/// Peers that grant every vote and hold whatever we hold.
struct Generous {
    replica: Rc<Cell<Option<Shared>>>,
    changed: Rc<Event>,
}

impl Generous {
    fn replica(&self) -> Option<Shared> {
        let replica = self.replica.take();
        self.replica.set(replica.clone());
        replica
    }
}

impl Peers for Generous {
    fn seen_term(&self, _: &Address) -> Term {
        Term::ZERO
    }
    fn request_vote(&self, _: &Address, _: Term, _: EntryId) {}
    fn granted(&self, _: &Address, _: Term) -> bool {
        true
    }
    fn progress(&self, _: &Address, _: Term) -> PeerProgress {
        let matched = self.replica().map(|r| r.borrow().log.last());
        PeerProgress {
            matched,
            answered: Some(Instant::now()),
            reverted: false,
        }
    }
    fn listen(&self) -> EventListener {
        self.changed.listen()
    }
    fn wake(&self) {
        self.changed.notify(usize::MAX);
    }
}

/// What stands behind the follower under test.
struct Subject {
    dir: tempfile::TempDir,
    worker: Rc<Worker>,
    replica: Shared,
    engine: Engine,
    changed: Rc<Event>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Ignored,
    Reset,
    Diverged,
    Accepted,
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = async {
        pg_witness::reactor::Timer::after(Duration::from_secs(20)).await;
        panic!("stalled: {what}");
    };
    smol::future::or(future, limit).await
}

async fn open(dir: &std::path::Path, worker: &Worker, changed: &Rc<Event>) -> (Shared, Engine) {
    let members: Members = [1, 2, 3].map(address).into();
    let (disk, recovered) = Disk::open(dir, worker).unwrap();
    let fresh = recovered.checkpoint.is_none();
    let replica = Replica::new(
        address(1),
        members,
        disk,
        recovered,
        changed.clone(),
        Instant::now(),
    )
    .unwrap();
    let replica: Shared = Rc::new(replica.into());
    if fresh {
        let written = {
            let replica = replica.borrow();
            let (checkpoint, tail) = replica.checkpoint();
            replica.disk.install(checkpoint, tail, LogIndex::FIRST)
        };
        written.await.unwrap();
    }
    let peers = Generous {
        replica: Rc::new(Cell::new(Some(replica.clone()))),
        changed: changed.clone(),
    };
    let engine = Engine::start(replica.clone(), "gate".into(), Rc::new(peers))
        .await
        .unwrap();
    (replica, engine)
}

impl Subject {
    async fn new(worker: Rc<Worker>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let changed = Rc::new(Event::new());
        let (replica, engine) = open(dir.path(), &worker, &changed).await;
        Self {
            dir,
            worker,
            replica,
            engine,
            changed,
        }
    }

    async fn restart(&mut self) {
        self.engine.stop().await;
        let closed = self.replica.borrow().disk.close();
        closed.await.unwrap();
        let (replica, engine) = open(self.dir.path(), &self.worker, &self.changed).await;
        self.replica = replica;
        self.engine = engine;
    }

    fn vote_term(&self) -> u64 {
        self.replica.borrow().vote.term.term.get()
    }

    async fn carry_out(
        &mut self,
        from: &Address,
        verdict: AppendVerdict,
        state: Option<CheckpointState>,
    ) -> Step {
        let cut = match &verdict {
            AppendVerdict::Append(append) => self.replica.borrow().cut_before(Some(append)),
            AppendVerdict::Install(_) => self.replica.borrow().cut_before(None),
            _ => None,
        };
        if let Some(index) = cut {
            // E10, as the member does; the leader then sends again.
            self.engine.stop().await;
            self.replica.borrow_mut().cut(index);
            self.restart().await;
            return Step::Again(usize::try_from(index.get()).unwrap());
        }
        Step::Done(match verdict {
            AppendVerdict::Ignore(_) => Outcome::Ignored,
            AppendVerdict::Answer(answer) if answer.reset => Outcome::Reset,
            AppendVerdict::Answer(_) => Outcome::Accepted,
            AppendVerdict::Diverged(_) => Outcome::Diverged,
            AppendVerdict::Append(append) => {
                assert!(
                    in_time("append", self.engine.append(from, append))
                        .await
                        .unwrap()
                );
                Outcome::Accepted
            }
            AppendVerdict::Install(install) => {
                let done = self.engine.install(from, install, state.unwrap());
                assert!(in_time("install", done).await.unwrap());
                Outcome::Accepted
            }
        })
    }

    async fn settle(&self, commit: usize) {
        in_time("apply", async {
            loop {
                let changed = self.changed.listen();
                if self.replica.borrow().applied >= index(commit) {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }
}

enum Step {
    Done(Outcome),
    /// The log was cut behind this index; nothing else happened.
    Again(usize),
}

/// A follower on one page: its log (entry 1 first) and what is committed.
struct Reference {
    log: Vec<Written>,
    commit: usize,
}

impl Reference {
    fn last(&self) -> (u64, usize) {
        (self.log.last().unwrap().term, self.log.len())
    }

    fn append(&mut self, prev: usize, entries: &[Written], commit: usize) {
        for (k, written) in entries.iter().enumerate() {
            let at = prev + k;
            if self.log.get(at) != Some(written) {
                self.log.truncate(at);
                self.log.push(*written);
            }
        }
        self.commit = self.commit.max(commit.min(prev + entries.len()));
    }

    fn members(&self, first_members: &Members) -> Members {
        let mut members = first_members.clone();
        for (k, written) in self.log.iter().enumerate().skip(1) {
            let change =
                pg_witness::raft::log::members_after(&members, &entry(k + 1, *written).command);
            members = change.unwrap_or(members);
        }
        members
    }
}

struct Counts {
    operations: u64,
    accepted: u64,
    resets: u64,
    diverged: u64,
    snapshots: u64,
    votes: u64,
    led: u64,
    restarts: u64,
    decreases: u64,
    /// Entries that replaced another of the same index and term.
    twice: u64,
}

struct World {
    rng: SmallRng,
    subject: Subject,
    reference: Reference,
    /// How many leaderships there were.
    leaderships: u64,
    /// What the present leader has vouched for.
    vouched: Vouched,
    history: Vec<String>,
}

impl World {
    async fn check(&self) {
        let engine = in_time("members", self.subject.engine.members())
            .await
            .unwrap();
        let replica = self.subject.replica.borrow();
        let log = &replica.log;
        let first = usize::try_from(log.first().get()).unwrap();
        let ours: Vec<&Entry> = log.from(log.first()).map(|stored| &stored.entry).collect();
        let expected = self.reference.log.iter().zip(1..).skip(first - 1);
        let expected: Vec<Entry> = expected.map(|(w, i)| entry(i, *w)).collect();
        assert_eq!(
            ours,
            expected.iter().collect::<Vec<_>>(),
            "log\n{}",
            self.story()
        );
        assert_eq!(
            log.commit(),
            index(self.reference.commit),
            "commit\n{}",
            self.story()
        );
        let epochs: Vec<EpochTerm> = log
            .from(log.first())
            .map(|s| EpochTerm {
                epoch: s.epoch,
                term: s.entry.id.term,
            })
            .collect();
        assert!(epochs.is_sorted(), "E1: {epochs:?}\n{}", self.story());
        let members: Members = [1, 2, 3].map(address).into();
        assert_eq!(
            *log.members(),
            self.reference.members(&members),
            "members\n{}",
            self.story()
        );
        assert_eq!(
            engine,
            *log.members(),
            "the engine's members\n{}",
            self.story()
        );
    }

    fn story(&self) -> String {
        self.history.join("\n")
    }

    /// A leader's log: our committed prefix, some of our tail, then anything.
    fn leader_log(&mut self, leader_term: u64) -> Vec<Written> {
        self.leaderships += 1;
        self.vouched = Vouched::default();
        let keep = self
            .rng
            .random_range(self.reference.commit..=self.reference.log.len());
        let mut log = self.reference.log[..keep].to_vec();
        for _ in 0..self.rng.random_range(0..6) {
            let t = if self.rng.random_bool(0.5) {
                log.last().unwrap().term
            } else {
                self.rng.random_range(1..25)
            };
            // More than any member change's.
            log.push(Written::at(log.len() + 1, t, self.leaderships + 1));
        }
        log.push(Written::at(log.len() + 1, leader_term, 0));
        log
    }

    async fn vote(&mut self, candidate: u64, log: &[Written], counts: &mut Counts) {
        let ours = self.subject.vote_term();
        let t = ours + self.rng.random_range(0..3);
        let last = EntryId {
            index: index(log.len()),
            term: term(log.last().unwrap().term),
        };
        let request = {
            let replica = self.subject.replica.borrow();
            follower::vote_request(&replica.log, &replica.vote, term(t), last)
        };
        let granted = match request {
            Some(request) => {
                let candidate = address(candidate);
                let vote = self.subject.engine.vote(&candidate, request);
                in_time("vote", vote).await.unwrap()
            }
            None => false,
        };
        self.history.push(format!(
            "vote {candidate} term {t} last {last} -> {granted}"
        ));
        let up_to_date = (last.term.get(), log.len()) >= self.reference.last();
        assert_eq!(granted, up_to_date && t > ours, "vote\n{}", self.story());
        counts.votes += 1;
    }

    async fn append(&mut self, leader: u64, t: u64, log: &[Written], counts: &mut Counts) {
        let prev = self
            .rng
            .random_range(self.reference.commit.min(log.len())..=log.len());
        let count = self.rng.random_range(0..=(log.len() - prev).min(4));
        let sent = &log[prev..prev + count];
        let commit = if self.rng.random_bool(0.3) {
            prev + count
        } else {
            self.rng.random_range(1..=log.len())
        };
        let entries: Vec<Entry> = sent
            .iter()
            .enumerate()
            .map(|(k, written)| entry(prev + 1 + k, *written))
            .collect();
        let from = address(leader);
        let verdict = {
            let replica = self.subject.replica.borrow();
            let incoming = Incoming {
                from: &from,
                term: term(t),
                prev: Some(EntryId {
                    index: index(prev),
                    term: term(log[prev - 1].term),
                }),
                entries: &entries,
                commit: index(commit),
                vouched: self.vouched,
            };
            follower::append(&replica.log, &replica.vote, incoming, true)
        };
        let outcome = match self.subject.carry_out(&from, verdict, None).await {
            Step::Done(outcome) => outcome,
            Step::Again(last) => return self.was_cut(last),
        };
        self.history.push(format!(
            "append {leader} term {t} prev {prev}:{:?} {sent:?} commit {commit} -> {outcome:?}",
            log[prev - 1]
        ));
        match outcome {
            Outcome::Accepted => {
                counts.accepted += 1;
                assert_eq!(
                    self.reference.log[..prev],
                    log[..prev],
                    "what is before differs\n{}",
                    self.story()
                );
                let before = self.reference.log[prev..].iter().zip(sent);
                let twice = before.filter(|(a, b)| a.term == b.term && a.by != b.by);
                counts.twice += u64::try_from(twice.count()).unwrap();
                self.vouched.extend(term(t), index(prev + count));
                self.reference.append(prev, sent, commit);
            }
            Outcome::Reset => counts.resets += 1,
            Outcome::Diverged => counts.diverged += 1,
            Outcome::Ignored => {}
        }
    }

    async fn snapshot(&mut self, leader: u64, t: u64, log: &[Written], counts: &mut Counts) {
        let at = self.rng.random_range(2..=log.len().max(2));
        if at > log.len() {
            return;
        }
        let from = address(leader);
        let members: Members = [1, 2, 3].map(address).into();
        let theirs = Reference {
            log: log[..at].to_vec(),
            commit: at,
        };
        let snapshot = Snapshot {
            data: vec![],
            last: entry(at, log[at - 1]),
            prev: entry(at - 1, log[at - 2]),
            members: theirs.members(&members).into_iter().collect(),
        };
        let verdict = {
            let replica = self.subject.replica.borrow();
            follower::snapshot(
                &replica.log,
                &replica.vote,
                &from,
                term(t),
                [&snapshot.prev, &snapshot.last],
            )
        };
        let state = match &verdict {
            AppendVerdict::Install(install) => Some(CheckpointState::of_snapshot(
                snapshot,
                install.last.term.epoch,
            )),
            _ => None,
        };
        let installs = state.is_some();
        let outcome = match self.subject.carry_out(&from, verdict, state).await {
            Step::Done(outcome) => outcome,
            Step::Again(last) => return self.was_cut(last),
        };
        self.history.push(format!(
            "snapshot {leader} term {t} up to {at}:{:?} -> {outcome:?}",
            log[at - 1]
        ));
        counts.snapshots += 1;
        if outcome == Outcome::Accepted && at > self.reference.commit {
            if installs {
                self.reference = theirs;
            }
            self.reference.commit = at;
        }
    }

    fn was_cut(&mut self, last: usize) {
        self.history.push(format!("cut behind {last}"));
        self.reference.log.truncate(last);
    }

    /// Wins an election and writes one entry.
    async fn lead(&mut self, counts: &mut Counts) {
        let voter = self
            .subject
            .replica
            .borrow()
            .log
            .members()
            .contains(&address(1));
        if !voter {
            return;
        }
        self.subject.engine.campaign().await.unwrap();
        let elected = async {
            while self.subject.engine.role() != Role::Leader {
                smol::future::yield_now().await;
                pg_witness::reactor::Timer::after(Duration::from_micros(200)).await;
            }
        };
        in_time("election", elected).await;
        let t = self.subject.engine.plain_term().get();
        self.reference.log.push(Written { term: t, by: 0 });
        let first = self.reference.log.len();
        // Before, openraft has no quorum's word and refuses.
        self.subject.settle(first).await;
        let payload = Payload {
            command: Arc::from(&b"\x01"[..]),
            members: None,
            origin: None,
        };
        in_time("propose", self.subject.engine.propose(payload))
            .await
            .unwrap();
        self.reference.log.push(Written { term: t, by: 0 });
        self.reference.commit = self.reference.log.len();
        self.history.push(format!("led term {t}"));
        self.subject.settle(self.reference.commit).await;
        counts.led += 1;
        // As the member does when it leads no more: S14.
        self.subject.restart().await;
    }
}

async fn one_world(seed: u64, worker: Rc<Worker>, counts: &mut Counts) {
    let mut world = World {
        rng: SmallRng::seed_from_u64(seed),
        subject: Subject::new(worker).await,
        reference: Reference {
            log: vec![Written { term: 0, by: 0 }],
            commit: 1,
        },
        leaderships: 0,
        vouched: Vouched::default(),
        history: vec![],
    };
    for _ in 0..12 {
        let ours = world.subject.vote_term();
        let leader = world.rng.random_range(2..4);
        let t = if world.rng.random_bool(0.15) {
            world.rng.random_range(0..20)
        } else {
            ours + world.rng.random_range(0..4)
        };
        let log = world.leader_log(t);
        if world.rng.random_bool(0.4) {
            world.vote(leader, &log, counts).await;
        }
        for _ in 0..world.rng.random_range(1..8) {
            counts.operations += 1;
            if world.rng.random_bool(0.06) {
                world.snapshot(leader, t, &log, counts).await;
            } else {
                world.append(leader, t, &log, counts).await;
            }
            world.subject.settle(world.reference.commit).await;
            world.check().await;
        }
        if world.rng.random_bool(0.1) {
            world.subject.restart().await;
            world.history.push("restart".into());
            counts.restarts += 1;
            // Only the commit index may be behind: it is not forced to disk.
            let commit = world.subject.replica.borrow().log.commit().get();
            world.reference.commit = usize::try_from(commit).unwrap();
            world.check().await;
        }
        if world.rng.random_bool(0.05) {
            world.lead(counts).await;
            world.check().await;
        }
    }
    let pairs = world.reference.log.windows(2);
    let decreases = pairs.filter(|pair| pair[1].term < pair[0].term).count();
    counts.decreases += u64::try_from(decreases).unwrap();
    world.subject.engine.stop().await;
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn follower_and_engine_equal_the_reference() {
    let wanted = from_environment("GATE_OPERATIONS", 6_000);
    let first = from_environment("GATE_SEED", 1);
    let mut counts = Counts {
        operations: 0,
        accepted: 0,
        resets: 0,
        diverged: 0,
        snapshots: 0,
        votes: 0,
        led: 0,
        restarts: 0,
        decreases: 0,
        twice: 0,
    };
    reactor::block_on(async {
        let worker = Rc::new(Worker::start().unwrap());
        let mut seed = first;
        while counts.operations < wanted {
            println!("GATE_SEED={seed}");
            one_world(seed, worker.clone(), &mut counts).await;
            seed += 1;
        }
    });
    println!(
        "{} operations: {} accepted, {} resets, {} diverged, {} snapshots, {} votes, {} terms \
         led, {} restarts, {} decreasing terms, {} that came twice",
        counts.operations,
        counts.accepted,
        counts.resets,
        counts.diverged,
        counts.snapshots,
        counts.votes,
        counts.led,
        counts.restarts,
        counts.decreases,
        counts.twice
    );
    assert!(counts.decreases > 0 && counts.twice > 0 && counts.snapshots > 0 && counts.led > 0);
}
