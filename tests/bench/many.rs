//! Many clusters in one process: what the hundredth costs, and whether one that
//! is attacked or damaged is felt by the others.
//!
//! `cargo bench --bench many [-- CLUSTERS]` starts a process with that many
//! members (default and at most 100) and is itself their peers: two plain nodes per
//! cluster, of which one leads and writes. It prints one JSON line per case: how
//! long a write takes until the witness has acknowledged it and how long until it
//! has answered a vote request; memory and processor time of the witness process.
//!
//! * `one`: a process with a single cluster;
//! * `undisturbed`: a process with all but two clusters;
//! * `disturbed`: the two as well. The folder of one was damaged before the start,
//!   and the address of the other is fed with garbage all the time. The figures are
//!   those of the others, to be held against `undisturbed`.

// A benchmark fails by panicking.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss
)]

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use event_listener::Event;
use pg_witness::address::Address;
use pg_witness::config::{
    Bind, Bootstrap, ClusterConfig, Commands, Election, PlacementConfig, Timing,
};
use pg_witness::disk::Worker;
use pg_witness::ids::{Entry, EntryId, LogIndex, Term};
use pg_witness::links::connection::Connection;
use pg_witness::links::resolve;
use pg_witness::member::Member;
use pg_witness::reactor::{self, TcpListener, Timer};
use pg_witness::wire::message::{Append, AppendBody, Hello, Message};
use pg_witness::wire::utility::{NodeState, StatusReply};
use pg_witness::wire::{Session, Value, command};
use smol::io::AsyncWriteExt;
use smol::net::TcpStream;

/// How long the idle measurement takes.
const IDLE: Duration = Duration::from_secs(10);
/// Writes and elections measured in each cluster.
const ROUNDS: u64 = 20;
/// The cluster that has a process to itself.
const ALONE: Range<usize> = 250..251;
/// So many are attacked or damaged in the case `disturbed`.
const VICTIMS: usize = 2;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match args.next().as_deref() {
        Some("witness") => {
            let mut number = || args.next().unwrap().parse::<usize>().unwrap();
            let clusters = number()..number();
            reactor::block_on(witness(clusters, Path::new(&args.next().unwrap())));
        }
        Some(clusters) => measure(clusters.parse::<usize>().unwrap().clamp(3, 100)),
        None => measure(100),
    }
}

fn address(cluster: usize, node: usize) -> Address {
    format!("127.77.{cluster}.{}:5010", 100 + node)
        .parse()
        .unwrap()
}

fn config(cluster: usize, folder: &Path) -> ClusterConfig {
    let me = address(cluster, 0);
    ClusterConfig {
        name: format!("c{cluster}"),
        bind_addr: Some(Bind {
            host: me.host().into(),
            port: me.port(),
        }),
        self_addr: me,
        partner_addrs: vec![address(cluster, 1), address(cluster, 2)],
        data_dir: folder.join(cluster.to_string()),
        password: None,
        password_file: None,
        bootstrap: Bootstrap::Unset,
        election: Election::Reluctant,
        timing: Timing::default(),
        placement: PlacementConfig::default(),
        allow_from: Vec::new(),
        commands: Commands::default(),
    }
}

/// The process under measurement.
async fn witness(clusters: Range<usize>, folder: &Path) {
    let worker = Worker::start().unwrap();
    let mut members = Vec::new();
    for cluster in clusters {
        let start = Member::start(config(cluster, folder), Vec::new(), &worker);
        let member = start.await.unwrap();
        reactor::spawn(member.clone().run()).detach();
        members.push(member);
    }
    println!("ready");
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

/// The witness process; it ends with the measurement, however that ends.
struct Witness(Child);

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(clusters: &Range<usize>, folder: &Path) -> Witness {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("witness")
        .args([clusters.start.to_string(), clusters.end.to_string()])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = child.stdout.as_mut().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    Witness(child)
}

fn measure(clusters: usize) {
    // Addresses of their own for each case: the peers' stay bound.
    for (name, range) in [
        ("one", ALONE),
        ("undisturbed", 100 + VICTIMS..100 + clusters),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let witness = spawn(&range, folder.path());
        let seen = reactor::block_on(drive(&witness.0, range.clone(), 0));
        report(name, range.len(), &seen);
    }

    let folder = tempfile::tempdir().unwrap();
    // The state of one is damaged before the process begins.
    drop(spawn(&(0..clusters), folder.path()));
    let state = folder.path().join("1/hard-state");
    let length = std::fs::metadata(&state).unwrap().len();
    std::fs::write(state, vec![0x55; usize::try_from(length).unwrap()]).unwrap();
    let witness = spawn(&(0..clusters), folder.path());
    let seen = reactor::block_on(drive(&witness.0, 0..clusters, VICTIMS));
    report("disturbed", clusters, &seen);
}

/// What was seen from outside.
struct Seen {
    /// Write to acknowledgement, sorted.
    writes: Vec<Duration>,
    /// Vote request to vote, sorted.
    votes: Vec<Duration>,
    idle_cpu: f64,
    rss_idle_kib: u64,
    rss_end_kib: u64,
}

fn report(name: &str, clusters: usize, seen: &Seen) {
    let ms = |list: &[Duration], part: usize| {
        let at = (list.len() * part / 100).min(list.len() - 1);
        list[at].as_secs_f64() * 1e3
    };
    println!(
        "{{\"bench\":\"many\",\"case\":\"{name}\",\"clusters\":{clusters},\
         \"write_ms_p50\":{:.2},\"write_ms_p99\":{:.2},\
         \"vote_ms_p50\":{:.2},\"vote_ms_p99\":{:.2},\
         \"idle_cpu_percent\":{:.2},\"rss_idle_kib\":{},\"rss_end_kib\":{}}}",
        ms(&seen.writes, 50),
        ms(&seen.writes, 99),
        ms(&seen.votes, 50),
        ms(&seen.votes, 99),
        seen.idle_cpu * 100.0,
        seen.rss_idle_kib,
        seen.rss_end_kib,
    );
}

fn proc(child: &Child, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap()
}

fn rss_kib(child: &Child) -> u64 {
    let status = proc(child, "status");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processor time so far, by the scheduler's own count.
fn cpu(child: &Child) -> Duration {
    let mut ns = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap() {
        let path = task.unwrap().path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        ns += text.split(' ').next().map_or(0, |n| n.parse().unwrap_or(0));
    }
    Duration::from_nanos(ns)
}

/// Measures all but the first `victims`: the first is pestered, and one with damage
/// is served but does not vote.
async fn drive(child: &Child, clusters: Range<usize>, victims: usize) -> Seen {
    let mut drivers = Vec::new();
    for cluster in clusters {
        drivers.push(Driver::start(cluster).await);
    }
    if victims > 0 {
        reactor::spawn(pester(address(0, 0))).detach();
    }
    let measured: Vec<&Rc<Driver>> = drivers.iter().skip(victims).collect();
    for driver in &measured {
        driver.voter().await;
    }
    let before = cpu(child);
    let begun = Instant::now();
    Timer::after(IDLE).await;
    let idle_cpu = (cpu(child) - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let rss_idle_kib = rss_kib(child);

    let mut writes = Vec::new();
    let mut votes = Vec::new();
    for _ in 0..ROUNDS {
        for driver in &measured {
            writes.push(driver.write().await);
        }
    }
    for _ in 0..ROUNDS.min(5) {
        for driver in &measured {
            votes.push(driver.elect().await);
        }
    }
    // All at once, as when the network comes back.
    let all: Vec<_> = measured
        .iter()
        .map(|driver| {
            let driver = Rc::clone(driver);
            reactor::spawn(async move { driver.write().await })
        })
        .collect();
    for write in all {
        write.await;
    }
    writes.sort();
    votes.sort();
    Seen {
        writes,
        votes,
        idle_cpu,
        rss_idle_kib,
        rss_end_kib: rss_kib(child),
    }
}

/// Garbage, half-said hellos and empty connections, without end.
async fn pester(target: Address) {
    loop {
        if let Ok(mut stream) = TcpStream::connect((target.host(), target.port())).await {
            let _ = stream.write_all(&[0, 0, 0, 40]).await;
            let _ = stream.write_all(&[0xa5; 40]).await;
        }
        Timer::after(Duration::from_millis(5)).await;
    }
}

/// The two other nodes of one cluster: one leads, the other answers `status`.
struct Driver {
    cluster: usize,
    link: RefCell<Rc<Connection>>,
    term: Cell<u64>,
    last: Cell<EntryId>,
    promised: Cell<i64>,
    success: Cell<bool>,
    vote: Cell<u64>,
    arrived: Event,
}

fn index(i: u64) -> LogIndex {
    LogIndex::new(i).unwrap()
}

fn term(t: u64) -> Term {
    Term::new(t).unwrap()
}

impl Driver {
    async fn start(cluster: usize) -> Rc<Self> {
        for node in [1, 2] {
            let address = address(cluster, node);
            let listener = TcpListener::bind(address.as_str().parse().unwrap()).unwrap();
            reactor::spawn(answer(address, listener)).detach();
        }
        let first = EntryId {
            index: index(1),
            term: Term::ZERO,
        };
        let driver = Rc::new(Self {
            cluster,
            link: RefCell::new(dial(cluster, 1).await),
            term: Cell::new(1),
            last: Cell::new(first),
            promised: Cell::new(0),
            success: Cell::new(false),
            vote: Cell::new(0),
            arrived: Event::new(),
        });
        let other = dial(cluster, 2).await;
        reactor::spawn(async move { other.serve(|_| std::future::ready(())).await }).detach();
        reactor::spawn(driver.clone().read()).detach();
        reactor::spawn(driver.clone().beat()).detach();
        driver
    }

    async fn read(self: Rc<Self>) {
        let link = self.link.borrow().clone();
        link.serve(|value| {
            match Message::decode(&value) {
                Ok(Message::NextNodeIdx(reply)) => {
                    self.success.set(reply.success);
                    if reply.success {
                        self.promised.set(reply.next - 1);
                    }
                }
                Ok(Message::ResponseVote { term }) => self.vote.set(term.get()),
                _ => {}
            }
            self.arrived.notify(usize::MAX);
            std::future::ready(())
        })
        .await;
    }

    /// Heartbeats, as often as Python's.
    async fn beat(self: Rc<Self>) {
        loop {
            self.append(Vec::new());
            Timer::after(Duration::from_millis(100)).await;
        }
    }

    fn append(&self, entries: Vec<Entry>) {
        let prev = self.last.get();
        if let Some(last) = entries.last() {
            self.last.set(last.id);
        }
        let message = Message::AppendEntries(Append {
            term: term(self.term.get()),
            commit: prev.index,
            body: AppendBody::Entries {
                prev: Some(prev),
                entries,
            },
        });
        self.link.borrow().send(&message);
    }

    async fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let wait = async {
            loop {
                let arrived = self.arrived.listen();
                if done() {
                    return;
                }
                arrived.await;
            }
        };
        smol::future::or(wait, async {
            Timer::after(Duration::from_secs(20)).await;
            panic!("cluster {}: never {what}", self.cluster);
        })
        .await;
    }

    /// Waits until the witness promises something.
    async fn voter(&self) {
        self.wait("a voter", || self.success.get()).await;
    }

    /// How long a write takes until the witness has acknowledged it.
    async fn write(&self) -> Duration {
        let begun = Instant::now();
        let id = EntryId {
            index: self.last.get().index.next(),
            term: term(self.term.get()),
        };
        self.append(vec![Entry {
            id,
            command: command::noop(),
        }]);
        let wanted = id.index.get().cast_signed();
        self.wait("an acknowledgement", || self.promised.get() >= wanted)
            .await;
        begun.elapsed()
    }

    /// How long a vote takes; the leader is the same again, in the next term.
    async fn elect(&self) -> Duration {
        let begun = Instant::now();
        self.term.set(self.term.get() + 1);
        let request = Message::RequestVote {
            term: term(self.term.get()),
            last: self.last.get(),
        };
        self.link.borrow().send(&request);
        self.wait("a vote", || self.vote.get() == self.term.get())
            .await;
        begun.elapsed()
    }
}

async fn dial(cluster: usize, node: usize) -> Rc<Connection> {
    let target = address(cluster, 0);
    let stream = loop {
        match resolve::connect(&target).await {
            Ok(stream) => break stream,
            Err(_) => Timer::after(Duration::from_millis(20)).await,
        };
    };
    let hello = Hello::Member(address(cluster, node));
    Connection::new(stream, Session::dial(hello, None, rand::random()))
}

/// Serves `status`: a member of a cluster that leads nobody yet.
async fn answer(me: Address, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = Connection::new(stream, Session::accept(&[], rand::random()));
        let me = me.clone();
        reactor::spawn(async move {
            let serve = connection.serve(|value: Value| {
                if let Ok(Hello::Utility(_)) = Hello::decode(&value) {
                    connection.send(&status(&me));
                }
                std::future::ready(())
            });
            serve.await;
        })
        .detach();
    }
}

fn status(me: &Address) -> StatusReply {
    StatusReply {
        version: "0.3.14".into(),
        this: Some(me.clone()),
        state: NodeState::Follower,
        leader: None,
        has_quorum: true,
        partners: Vec::new(),
        readonly: Vec::new(),
        log_len: 2,
        last_applied: 2,
        commit_idx: 2,
        raft_term: Term::ZERO,
        leader_commit_idx: None,
        uptime_s: 1,
        self_code_version: 0,
        enabled_code_version: 0,
    }
}
