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

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::super::{Action, CloseReason, ConnId, Fence, Leader, Peer};
use super::follower::{Follower, Message, Snapshot, Version};
use super::{Entry, FIRST, Log, TIMING, id};
use crate::config::limits::UNANSWERED_APPENDS_MAX;
use crate::wire::message::NextNodeIdx;
use crate::wire::{EntryId, Term};

const MEMBERS: usize = 3;
const READER: usize = MEMBERS;

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

#[derive(Default, Debug)]
struct Seen {
    appends: u64,
    resets: u64,
    shorts: u64,
    reverts: u64,
    snapshots: u64,
    snapshots_unloaded: u64,
    crashes: u64,
    rivals: u64,
    leaderships: u64,
    unfenced: u64,
    silent: u64,
    out_of_step: u64,
    uncounted: u64,
    committed: u64,
}

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
            self.seen.snapshots_unloaded += u64::from(self.nodes[n].follower.cannot_load);
        }
        let reply = self.nodes[n].follower.receive(&message);
        let after = common(&self.nodes[n].follower, &log);
        self.check(
            after >= before,
            &format!("S3: {message:?} cut {n} from {before} to {after}"),
        );
        if accepted {
            self.check_commit_of(n);
        }
        let conn = self.nodes[n].conn.as_mut().unwrap();
        match reply {
            Some(reply) => {
                self.seen.resets += u64::from(reply.reset);
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
            None => self.seen.uncounted += 1,
            Some(progressed) => {
                self.seen.reverts += u64::from(progressed.reverted);
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
                self.seen.appends += 1;
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
                self.seen.snapshots += u64::from(last);
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
                    CloseReason::Unfenced => self.seen.unfenced += 1,
                    CloseReason::Silent => self.seen.silent += 1,
                    CloseReason::OutOfStep => self.seen.out_of_step += 1,
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

    // --- Raft around it ---------------------------------------------------

    fn append(&mut self) {
        if self.leader.is_none() || self.log.end() > 400 {
            return;
        }
        let len = [10, 10, 200, 30_000, 70_000][self.random.pick(5)];
        self.log.push(self.term, len);
        self.poll();
    }

    /// The engine: commits what `matched` says a majority holds.
    fn try_commit(&mut self) {
        let Some(leader) = &self.leader else { return };
        let mut matched: Vec<u64> = self.nodes[..MEMBERS]
            .iter()
            .map(|node| leader.matched(&node.peer).map_or(0, |index| index.get()))
            .collect();
        matched.push(self.log.end());
        matched.sort_unstable();
        let index = matched[matched.len() - (MEMBERS + 1) / 2 - 1];
        if index <= self.log.commit || self.log.at(index).unwrap().term != self.term {
            return;
        }
        let holders = self.nodes[..MEMBERS]
            .iter()
            .filter(|node| node.lied || common(&node.follower, &self.log) >= index)
            .count();
        // A deposed leader that does not know it can only commit what was
        // acknowledged in its term: nothing that a rival wrote over.
        let deposed = self.nodes.iter().any(|node| node.follower.term > self.term);
        self.check(
            deposed || holders + 1 > (MEMBERS + 1) / 2,
            "H9: a false commit",
        );
        self.log.commit = index;
        self.commit(index);
    }

    fn commit(&mut self, index: u64) {
        let index = usize::try_from(index).unwrap();
        let log = &self.log.all[..index];
        let known = self.committed.len().min(index);
        let agrees = self.committed[..known] == log[..known];
        if agrees && index > known {
            self.committed = log.to_vec();
            self.seen.committed = self.committed.len() as u64;
        }
        self.check(agrees, "two truths were committed");
    }

    fn holds_committed(&self, log: &[Entry]) -> bool {
        let Some(first) = log.first() else {
            return false;
        };
        self.committed.iter().all(|entry| {
            entry.index < first.index
                || log.get(usize::try_from(entry.index - first.index).unwrap()) == Some(entry)
        })
    }

    /// Another node wins an election, writes, and reaches some.
    fn rival(&mut self) {
        let n = self.random.pick(MEMBERS);
        let log = &self.nodes[n].follower.log;
        let last = *log.last().unwrap();
        let mut voters: Vec<usize> = (0..MEMBERS)
            .filter(|&m| {
                let other = self.nodes[m].follower.last();
                (other.term, other.index) <= (last.term, last.index)
            })
            .collect();
        let ours = self.log.all.last().unwrap();
        let we_vote = (ours.term, ours.index) <= (last.term, last.index);
        if voters.len() + usize::from(we_vote) <= (MEMBERS + 1) / 2 || !self.holds_committed(log) {
            return;
        }
        self.seen.rivals += 1;
        let term = 1 + self
            .nodes
            .iter()
            .map(|node| node.follower.term)
            .max()
            .unwrap();
        let term = term.max(self.term + 1);
        let mut log = log.clone();
        for index in 0..self.random.below(5) {
            log.push(Entry {
                index: last.index + 1 + index,
                term,
                len: 10,
            });
        }
        voters.retain(|&m| m == n || self.random.chance(80));
        for &m in &voters {
            self.nodes[m].follower.term = term;
        }
        let mut holders = 0;
        for m in 0..MEMBERS {
            if m == n || self.random.chance(40) {
                self.nodes[m].follower.follow(&log, term);
                holders += 1;
            }
        }
        let reaches_us = self.random.chance(50);
        if reaches_us || we_vote {
            self.step_down();
            self.term = term;
        }
        if reaches_us {
            let first = usize::try_from(log[0].index - 1).unwrap();
            let mut all = self.committed[..first].to_vec();
            all.extend_from_slice(&log);
            self.log.all = all;
            self.log.first = self.log.first.min(self.log.end());
            self.log.commit = self.log.commit.min(self.log.end());
            holders += 1;
        }
        let own = log.last().is_some_and(|entry| entry.term == term);
        if own && holders > (MEMBERS + 1) / 2 && self.random.chance(50) {
            let first = usize::try_from(log[0].index - 1).unwrap();
            let mut all = self.committed[..first].to_vec();
            all.extend_from_slice(&log);
            if all.len() > self.committed.len() {
                self.committed = all;
            }
            for m in 0..MEMBERS {
                let follower = &mut self.nodes[m].follower;
                if follower.last() == *log.last().unwrap() && self.random.chance(50) {
                    follower.commit = follower.last().index;
                }
            }
        }
    }

    fn step_down(&mut self) {
        if self.leader.take().is_some() {
            self.past.push((self.term, self.log.clone()));
            self.wanted.fill(None);
        }
    }

    /// We win an election, with what is on the links left there.
    fn lead(&mut self) {
        let ours = *self.log.all.last().unwrap();
        let may_vote = |node: &Node| {
            let last = node.follower.last();
            node.conn.is_some() && (last.term, last.index) <= (ours.term, ours.index)
        };
        let mut voters: Vec<usize> = (0..MEMBERS).filter(|&n| may_vote(&self.nodes[n])).collect();
        if voters.len() + 1 <= (MEMBERS + 1) / 2 || !self.holds_committed(&self.log.all) {
            return;
        }
        if self.random.chance(50) {
            voters.truncate((MEMBERS + 1) / 2);
        }
        self.step_down();
        let term = 1 + self
            .nodes
            .iter()
            .map(|node| node.follower.term)
            .max()
            .unwrap();
        self.term = term.max(self.term + 1);
        for &n in &voters {
            // The request queues behind our appends, the vote behind their
            // replies.
            while self.nodes[n]
                .conn
                .as_ref()
                .is_some_and(|conn| !conn.to.is_empty())
            {
                self.deliver_to_peer(n);
            }
            self.nodes[n].follower.term = self.term;
            while self.nodes[n]
                .conn
                .as_ref()
                .is_some_and(|conn| !conn.from.is_empty())
            {
                self.deliver_to_us(n);
            }
        }
        // The voters' logs may have grown by what was still on the way.
        self.seen.leaderships += 1;
        let mut leader = Leader::new(Term::new(self.term).unwrap(), TIMING, self.now);
        for (n, node) in self.nodes.iter_mut().enumerate() {
            node.lied = false;
            if let Some(conn) = &node.conn {
                let clean = voters.contains(&n) || conn.owed == 0;
                let fence = if clean { Fence::Clean } else { Fence::Dirty };
                leader.connected(node.peer.clone(), conn.id, fence, self.now);
            }
        }
        self.leader = Some(leader);
        if self.random.chance(50) {
            self.poll(); // before the NO_OP is in the log
        }
        self.log.push(self.term, 1);
        self.poll();
    }

    fn crash(&mut self, n: usize) {
        self.cut(n);
        self.seen.crashes += 1;
        let log = self.nodes[n].follower.log.clone();
        let last = self.nodes[n].follower.last().index;
        let keep = last.saturating_sub(self.random.below(6));
        self.nodes[n].follower.crash(keep);
        let survives = self.holds_committed(&self.log.all)
            || self.nodes[..MEMBERS]
                .iter()
                .any(|node| self.holds_committed(&node.follower.log));
        if survives {
            self.nodes[n].lied |= keep < last;
        } else {
            self.nodes[n].follower.log = log;
        }
    }

    fn compact(&mut self) {
        if self.log.commit > self.log.first + 2 {
            let upto = self.log.commit - 1;
            self.log.first += self.random.below(upto - self.log.first + 1);
        }
    }

    // --- the truth --------------------------------------------------------

    fn log_of(&self, term: u64) -> Log {
        let past = self.past.iter().find(|(known, _)| *known == term);
        past.map_or_else(|| self.log.clone(), |(_, log)| log.clone())
    }

    fn check_matched(&self) {
        let Some(leader) = &self.leader else { return };
        for (n, node) in self.nodes.iter().enumerate() {
            let matched = leader.matched(&node.peer).map_or(0, |index| index.get());
            let held = common(&node.follower, &self.log);
            let ours = node.follower.term <= self.term;
            let why = format!("matched {matched} of {n}, which holds {held}");
            self.check(matched <= held || node.lied || !ours, &why);
        }
    }

    fn check_commit_of(&self, n: usize) {
        let follower = &self.nodes[n].follower;
        let commit = follower.commit.min(follower.last().index);
        let truth = usize::try_from(commit).unwrap().checked_sub(1);
        let Some(truth) = truth.and_then(|position| self.committed.get(position)) else {
            self.check(
                commit == 0,
                &format!("{n} committed {commit}, which nobody did"),
            );
            return;
        };
        let same = follower.at(commit).is_none_or(|entry| entry == *truth);
        self.check(same, &format!("{n} committed another {commit}"));
    }

    fn check(&self, holds: bool, what: &str) {
        assert!(holds, "seed {}: {what}; {:?}", self.seed, self.seen);
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
            // A stall: nothing moves for a while.
            992..993 => {
                self.now += Duration::from_secs(4);
                self.poll();
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
    for seed in 1..=40 {
        let seen = run(seed, 6, 1500);
        total.resets += seen.resets;
        total.reverts += seen.reverts;
        total.snapshots += seen.snapshots;
        total.unfenced += seen.unfenced;
        total.silent += seen.silent;
        total.rivals += seen.rivals;
        total.committed += seen.committed;
        total.out_of_step += seen.out_of_step;
        total.appends += seen.appends;
        total.leaderships += seen.leaderships;
        total.snapshots_unloaded += seen.snapshots_unloaded;
        total.crashes += seen.crashes;
        total.uncounted += seen.uncounted;
        total.shorts += seen.shorts;
    }
    println!("{total:?}");
}
