//! What surrounds our leader's side in the simulation: elections, rivals,
//! crashes, commit; and the checks of the truth.

use super::*;

impl World {
    // --- Raft around it ---------------------------------------------------

    pub(super) fn append(&mut self) {
        if self.leader.is_none() || self.log.end() > 400 {
            return;
        }
        let len = [10, 10, 200, 30_000, 70_000][self.random.pick(5)];
        self.log.push(self.term, len);
        self.poll();
    }

    /// The engine: commits what `matched` says a majority holds.
    pub(super) fn try_commit(&mut self) {
        let Some(leader) = &self.leader else { return };
        let mut matched: Vec<u64> = self.nodes[..MEMBERS]
            .iter()
            .map(|node| leader.matched(&node.peer).map_or(0, |index| index.get()))
            .collect();
        matched.push(self.log.end());
        matched.sort_unstable();
        let index = matched[matched.len() - MAJORITY];
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
        self.check(deposed || holders + 1 >= MAJORITY, "H9: a false commit");
        self.log.commit = index;
        self.commit(index);
    }

    pub(super) fn commit(&mut self, index: u64) {
        let index = usize::try_from(index).unwrap();
        let log = &self.log.all[..index];
        let known = self.committed.len().min(index);
        let agrees = self.committed[..known] == log[..known];
        if agrees && index > known {
            self.committed = log.to_vec();
            saw(&mut self.seen, "commits", true);
        }
        self.check(agrees, "two truths were committed");
    }

    pub(super) fn holds_committed(&self, log: &[Entry]) -> bool {
        let Some(first) = log.first() else {
            return false;
        };
        self.committed.iter().all(|entry| {
            entry.index < first.index
                || log.get(usize::try_from(entry.index - first.index).unwrap()) == Some(entry)
        })
    }

    /// Another node wins an election, writes, and reaches some.
    pub(super) fn rival(&mut self) {
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
        if voters.len() + usize::from(we_vote) < MAJORITY || !self.holds_committed(log) {
            return;
        }
        saw(&mut self.seen, "rivals", true);
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
        if own && holders >= MAJORITY && self.random.chance(50) {
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

    pub(super) fn step_down(&mut self) {
        if self.leader.take().is_some() {
            self.past.push((self.term, self.log.clone()));
            self.wanted.fill(None);
        }
    }

    /// We win an election, with what is on the links left there.
    pub(super) fn lead(&mut self) {
        let ours = *self.log.all.last().unwrap();
        let may_vote = |node: &Node| {
            let last = node.follower.last();
            node.conn.is_some() && (last.term, last.index) <= (ours.term, ours.index)
        };
        let mut voters: Vec<usize> = (0..MEMBERS).filter(|&n| may_vote(&self.nodes[n])).collect();
        if voters.len() + 1 < MAJORITY || !self.holds_committed(&self.log.all) {
            return;
        }
        if self.random.chance(50) {
            voters.truncate(MAJORITY - 1);
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
        saw(&mut self.seen, "leaderships", true);
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

    pub(super) fn crash(&mut self, n: usize) {
        self.cut(n);
        saw(&mut self.seen, "crashes", true);
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

    pub(super) fn compact(&mut self) {
        if self.log.commit > self.log.first + 2 {
            let upto = self.log.commit - 1;
            self.log.first += self.random.below(upto - self.log.first + 1);
        }
    }

    // --- the truth --------------------------------------------------------

    pub(super) fn log_of(&self, term: u64) -> Log {
        let past = self.past.iter().find(|(known, _)| *known == term);
        past.map_or_else(|| self.log.clone(), |(_, log)| log.clone())
    }

    pub(super) fn check_matched(&self) {
        let Some(leader) = &self.leader else { return };
        for (n, node) in self.nodes.iter().enumerate() {
            let matched = leader.matched(&node.peer).map_or(0, |index| index.get());
            let held = common(&node.follower, &self.log);
            let ours = node.follower.term <= self.term;
            let why = format!("matched {matched} of {n}, which holds {held}");
            self.check(matched <= held || node.lied || !ours, &why);
        }
    }

    pub(super) fn check_commit_of(&self, n: usize) {
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

    pub(super) fn check(&self, holds: bool, what: &str) {
        assert!(holds, "seed {}: {what}; {:?}", self.seed, self.seen);
    }
}
