//! Random interleavings: our leader's side, three Python followers of mixed
//! versions and a reader, links that are cut, followers that crash and forget,
//! a rival leader in between who writes conflicting entries, several
//! leaderships of ours with the replies of the last still on the links.
//!
//! What must hold after every single step:
//!
//! * A message of ours never shortens what a follower holds of our log (S3,
//!   H8); it is stricter than "never loses what it acknowledged".
//! * `matched` never exceeds what the follower really holds, unless it lost it
//!   in a crash that we could not see yet (H9, H14).
//! * What we commit by `matched` is on a true majority and conflicts with
//!   nothing committed before; no follower commits anything else (H9, H12).
//! * Unanswered appends and queues stay bounded.
//!
//! And when the links are stable, every follower soon has our log.

mod raft;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::super::{Action, CloseReason, ConnId, Fence, Leader, Peer};
use super::follower::{Follower, Message, Snapshot, Version};
use super::{Entry, FIRST, Log, TIMING, id};
use crate::ids::{EntryId, Term};
use crate::limits::UNANSWERED_APPENDS_MAX;
use crate::reactor::Instant;
use crate::wire::message::NextNodeIdx;

const MEMBERS: usize = 3;
const READER: usize = MEMBERS;
/// Of the members and ourselves.
const MAJORITY: usize = MEMBERS.div_ceil(2) + 1;

/// xorshift64*: a seed is a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// 0..n.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

struct Conn {
    id: ConnId,
    to: VecDeque<Message>,
    from: VecDeque<NextNodeIdx>,
    /// Replies that the peer may still send or has sent, in all leaderships.
    owed: usize,
}

struct Node {
    peer: Peer,
    follower: Follower,
    conn: Option<Conn>,
    /// Lost acknowledged entries in a crash; the leader cannot know yet.
    lied: bool,
}

/// How often what happened: a simulation in which something never does proves
/// nothing about it.
type Seen = BTreeMap<&'static str, u64>;

struct World {
    random: Random,
    seed: u64,
    now: Instant,
    start: Instant,
    log: Log,
    term: u64,
    leader: Option<Leader>,
    /// Terms of ours and the log of each as it was at its end.
    past: Vec<(u64, Log)>,
    nodes: Vec<Node>,
    committed: Vec<Entry>,
    conns: u64,
    readers: u64,
    /// Prepared or wanted snapshots, by node.
    wanted: Vec<Option<(ConnId, u32)>>,
    sending: Vec<Option<Rc<Snapshot>>>,
    calm: bool,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed | 1);
        for _ in 0..4 {
            random.next();
        }
        let versions = [Version::Upto0311, Version::Since0312, Version::Since0316];
        let nodes = (0..=MEMBERS)
            .map(|n| Node {
                peer: if n == READER {
                    Peer::ReadOnly(0)
                } else {
                    Peer::Member(format!("10.0.0.{n}:5010").parse().unwrap())
                },
                follower: Follower::new(versions[(n + random.pick(3)) % 3]),
                conn: None,
                lied: false,
            })
            .collect();
        let now = Instant::now();
        Self {
            random,
            seed,
            now,
            start: now,
            log: Log::of_terms(&[0]),
            term: 0,
            leader: None,
            past: Vec::new(),
            nodes,
            committed: vec![FIRST],
            conns: 0,
            readers: 0,
            wanted: vec![None; MEMBERS + 1],
            sending: vec![None; MEMBERS + 1],
            calm: false,
            seen: Seen::default(),
        }
    }

    // --- the network ------------------------------------------------------

    fn cut(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if let Some(conn) = node.conn.take()
            && let Some(leader) = &mut self.leader
        {
            leader.disconnected(&node.peer, conn.id);
            if n < MEMBERS && !self.calm && self.random.chance(5) {
                // Removed, and added again when it is connected the next time.
                leader.removed(&node.peer);
                saw(&mut self.seen, "removed", true);
            }
        }
    }

    fn connect(&mut self, n: usize) {
        if self.nodes[n].conn.is_some() {
            return;
        }
        self.conns += 1;
        let id = ConnId(self.conns);
        if n == READER {
            self.readers += 1;
            self.nodes[n].peer = Peer::ReadOnly(self.readers);
        }
        let node = &mut self.nodes[n];
        node.conn = Some(Conn {
            id,
            to: VecDeque::new(),
            from: VecDeque::new(),
            owed: 0,
        });
        if let Some(leader) = &mut self.leader {
            leader.connected(node.peer.clone(), id, Fence::Clean, self.now);
        }
    }

    fn deliver_to_peer(&mut self, n: usize) {
        let Some(message) = self.nodes[n]
            .conn
            .as_mut()
            .and_then(|conn| conn.to.pop_front())
        else {
            return;
        };
        let log = self.log_of(message.term());
        let before = common(&self.nodes[n].follower, &log);
        let accepted = message.term() >= self.nodes[n].follower.term;
        if let Message::Chunk { last: true, .. } = message
            && !self.calm
        {
            self.nodes[n].follower.cannot_load = self.random.chance(25);
            saw(
                &mut self.seen,
                "unloaded",
                self.nodes[n].follower.cannot_load,
            );
        }
        let reply = self.nodes[n].follower.receive(&message);
        let after = common(&self.nodes[n].follower, &log);
        self.check(
            after >= before,
            &format!("S3: {message:?} cut {n} from {before} to {after}"),
        );
        // H8: nor is anything cut that the same message brings back.
        if let (Message::Append { prev, .. }, Some(reply)) = (&message, &reply) {
            let fits = reply.success && prev.is_some_and(|(prev, _)| prev < before);
            self.check(
                !fits,
                &format!("S3: {message:?} cut {n}, which held {before}"),
            );
        }
        if accepted {
            self.check_commit_of(n);
        }
        let conn = self.nodes[n].conn.as_mut().unwrap();
        match reply {
            Some(reply) => {
                saw(&mut self.seen, "resets", reply.reset);
                conn.from.push_back(reply);
            }
            None if !accepted && answerable(&message) => conn.owed -= 1, // never comes
            None => {}
        }
    }

    fn deliver_to_us(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(conn) = node.conn.as_mut() else {
            return;
        };
        let Some(reply) = conn.from.pop_front() else {
            return;
        };
        conn.owed -= 1;
        let Some(leader) = &mut self.leader else {
            return;
        };
        match leader.on_reply(&node.peer, conn.id, &reply, self.now) {
            None => saw(&mut self.seen, "uncounted", true),
            Some(progressed) => {
                saw(&mut self.seen, "reverts", progressed.reverted);
                assert_eq!(progressed.matched, leader.matched(&node.peer));
                // H14: with every append answered the leader knows the truth.
                node.lied &= leader.unanswered(&node.peer) > 0;
            }
        }
        self.check_matched();
        self.try_commit();
        self.poll();
    }

    fn poll(&mut self) {
        let Some(mut leader) = self.leader.take() else {
            return;
        };
        let mut actions = Vec::new();
        leader.poll(&self.log, self.now, &mut |action| actions.push(action));
        self.leader = Some(leader);
        for action in actions {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        let term = self.term;
        let (message, peer, conn) = match action {
            Action::Append {
                peer,
                conn,
                prev,
                entries,
                commit,
            } => {
                saw(&mut self.seen, "appends", true);
                assert_eq!(entries.start, prev.index.next());
                let entries: Vec<_> = (entries.start.get()..entries.end.get())
                    .map(|index| self.log.at(index).expect("only what the log has"))
                    .collect();
                let prev = Some((prev.index.get(), prev.term.get()));
                (
                    Message::Append {
                        term,
                        prev,
                        entries,
                        commit: commit.get(),
                    },
                    peer,
                    conn,
                )
            }
            Action::SnapshotNeeded { peer, conn } => {
                let n = self.node(&peer);
                self.wanted[n] = Some((conn, 0));
                let whole = common(&self.nodes[n].follower, &self.log) == self.log.end();
                saw(&mut self.seen, "restored", whole);
                return;
            }
            Action::SnapshotChunk {
                peer,
                conn,
                data,
                first,
                last,
            } => {
                let snapshot = self.sending[self.node(&peer)].clone().unwrap();
                saw(&mut self.seen, "snapshots", last);
                (
                    Message::Chunk {
                        term,
                        snapshot,
                        data,
                        first,
                        last,
                    },
                    peer,
                    conn,
                )
            }
            Action::SnapshotIdle { peer, conn } => (Message::Idle { term }, peer, conn),
            Action::Close { peer, conn, reason } => {
                match reason {
                    CloseReason::Unfenced => saw(&mut self.seen, "unfenced", true),
                    CloseReason::Silent => saw(&mut self.seen, "silent", true),
                    CloseReason::OutOfStep => saw(&mut self.seen, "out_of_step", true),
                    CloseReason::Replaced => {}
                }
                if let Some(n) = self.nodes.iter().position(|node| node.peer == peer)
                    && self.nodes[n]
                        .conn
                        .as_ref()
                        .is_some_and(|known| known.id == conn)
                {
                    self.cut(n);
                }
                return;
            }
        };
        let n = self.node(&peer);
        let link = self.nodes[n].conn.as_mut().filter(|known| known.id == conn);
        if let Some(link) = link {
            link.owed += usize::from(answerable(&message));
            link.to.push_back(message);
        }
        let unanswered = self.leader.as_ref().unwrap().unanswered(&peer);
        self.check(
            unanswered <= UNANSWERED_APPENDS_MAX,
            "S10: too many unanswered",
        );
    }

    fn node(&self, peer: &Peer) -> usize {
        self.nodes
            .iter()
            .position(|node| node.peer == *peer)
            .expect("a known peer")
    }

    fn prepare_snapshots(&mut self) {
        for n in 0..=MEMBERS {
            let Some(leader) = &mut self.leader else {
                return;
            };
            let peer = self.nodes[n].peer.clone();
            let Some((conn, _)) = self.wanted[n] else {
                if let Some(conn) = &self.nodes[n].conn {
                    leader.writable(&peer, conn.id, 100 << 10);
                }
                continue;
            };
            self.wanted[n] = None;
            if !self.calm && self.random.chance(10) {
                leader.snapshot_failed(&peer, conn, self.now);
                continue;
            }
            let end = self.log.commit;
            let (Some(before), Some(last)) = (self.log.at(end - 1), self.log.at(end)) else {
                leader.snapshot_failed(&peer, conn, self.now);
                continue;
            };
            let len = [0, 1, 65_536, 200_000][self.random.pick(4)];
            let last_id = id(last.index, last.term);
            if leader.snapshot_ready(&peer, conn, len, last_id, &self.log, self.now) {
                self.sending[n] = Some(Rc::new(Snapshot { len, before, last }));
            }
        }
    }

    /// The follower shows that it cannot apply what it holds.
    fn restore(&mut self, n: usize) {
        if let Some(leader) = &mut self.leader {
            leader.restore(&self.nodes[n].peer);
        }
    }

    // --- runs -------------------------------------------------------------

    fn step(&mut self) {
        let n = self.random.pick(MEMBERS + 1);
        match self.random.below(1000) {
            0..330 => self.deliver_to_peer(n),
            330..660 => self.deliver_to_us(n),
            660..800 => {
                self.now += Duration::from_millis(self.random.below(60));
                self.poll();
            }
            800..900 => self.append(),
            900..915 => self.cut(n),
            915..950 => {
                self.connect(n);
                self.poll();
            }
            950..956 => self.crash(n),
            956..960 => self.rival(),
            960..966 => self.lead(),
            966..985 => {
                self.prepare_snapshots();
                self.poll();
            }
            985..989 => self.compact(),
            989..992 => self.nodes[n].follower.compact(),
            992..994 => self.restore(n),
            // A stall: nothing moves for a while.
            994..995 => {
                for _ in 0..4 {
                    self.now += Duration::from_millis(900);
                    self.poll();
                }
            }
            _ => {
                self.check_matched();
                self.poll();
            }
        }
    }

    /// No more faults: all must come together.
    fn settle(&mut self) {
        self.calm = true;
        for n in 0..=MEMBERS {
            self.connect(n);
        }
        let rounds = 4000;
        for round in 0..rounds {
            if self.leader.is_none() || self.deposed() {
                self.reunite();
                self.lead();
            }
            self.now += Duration::from_millis(20);
            self.prepare_snapshots();
            self.poll();
            for n in 0..=MEMBERS {
                self.connect(n);
                self.deliver_to_peer(n);
                self.deliver_to_us(n);
            }
            if self.together() {
                break;
            }
            let state: Vec<_> = self.nodes.iter().map(|node| node.follower.last()).collect();
            self.check(round + 1 < rounds, &format!("never together: {state:?}"));
        }
        self.check_matched();
        self.calm = false;
    }

    fn deposed(&self) -> bool {
        self.nodes.iter().any(|node| node.follower.term > self.term)
    }

    /// We get the log of whoever may lead, so that we may.
    fn reunite(&mut self) {
        let logs = self.nodes[..MEMBERS].iter().map(|node| &node.follower.log);
        let best = logs
            .filter(|log| self.holds_committed(log))
            .max_by_key(|log| log.last().map(|entry| (entry.term, entry.index)));
        let ours = self.log.all.last().map(|entry| (entry.term, entry.index));
        let Some(best) = best.filter(|log| log.last().map(|e| (e.term, e.index)) > ours) else {
            return;
        };
        let first = usize::try_from(best[0].index - 1).unwrap();
        let mut all = self.committed[..first].to_vec();
        all.extend_from_slice(best);
        self.step_down();
        self.log.all = all;
        self.log.first = self.log.first.min(self.log.end());
        self.log.commit = self.log.commit.min(self.log.end());
    }

    fn together(&self) -> bool {
        let Some(leader) = &self.leader else {
            return false;
        };
        let last = *self.log.all.last().unwrap();
        let last_id: EntryId = id(last.index, last.term);
        self.log.commit == last.index
            && self.nodes.iter().all(|node| {
                node.follower.last() == last
                    && common(&node.follower, &self.log) == last.index
                    && node.follower.commit == last.index
                    && leader.matched(&node.peer) == Some(last_id.index)
            })
    }
}

/// Every append and the end of a snapshot get one reply, nothing else does.
fn answerable(message: &Message) -> bool {
    matches!(
        message,
        Message::Append { .. } | Message::Chunk { last: true, .. }
    )
}

/// How far the follower holds the log: what lies before its first entry is as
/// committed as that.
fn common(follower: &Follower, log: &Log) -> u64 {
    let first = follower.first();
    let same = follower
        .log
        .iter()
        .take_while(|entry| log.at(entry.index) == Some(**entry));
    first - 1 + same.count() as u64
}

fn saw(seen: &mut Seen, what: &'static str, happened: bool) {
    *seen.entry(what).or_default() += u64::from(happened);
}

fn run(seed: u64, episodes: u32, steps: u32) -> Seen {
    let mut world = World::new(seed);
    for _ in 0..episodes {
        for _ in 0..steps {
            world.step();
        }
        world.settle();
    }
    assert!(world.now > world.start);
    world.seen
}

#[test]
fn nothing_acknowledged_is_cut_and_all_come_together() {
    // S3, H8, H9, H10, H12, H14, H21
    let mut total = Seen::default();
    // PG_WITNESS_SEEDS=10000 for a soak of some minutes.
    let seeds = std::env::var("PG_WITNESS_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    for seed in 1..=seeds.unwrap_or(40) {
        for (what, count) in run(seed, 6, 1500) {
            *total.entry(what).or_default() += count;
        }
    }
    println!("{total:?}");
    for what in [
        "reverts",
        "snapshots",
        "unloaded",
        "crashes",
        "rivals",
        "restored",
        "unfenced",
        "silent",
        "removed",
    ] {
        assert!(
            total.get(what).is_some_and(|count| *count > 20),
            "too little: {total:?}"
        );
    }
}
