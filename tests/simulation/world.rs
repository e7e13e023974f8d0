//! A world: members on hosts, lines between them, a client, and the faults that a
//! seed draws. Every few minutes all faults end, and what must hold then is asked.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::disk::Backup;
use pg_witness::reactor::simulated::nodes::Nodes;
use pg_witness::reactor::simulated::{self, network};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::client::{self, History};
use crate::faults::{Fault, Faults};
use crate::journal;
use crate::node::{Node, View, Witness};
use crate::oracle::{self, Oracle, Violation, ensure};

/// S18: a healed majority leads and commits within this time.
const HEALED_TIME: Duration = Duration::from_secs(10);

/// What the client may take to find out who leads: a write that is lost, and two
/// members that do not answer.
const CLIENT_TIME: Duration = Duration::from_secs(3);

/// How long all that happened meanwhile may take to reach everybody, a member
/// without a vote included.
const SETTLING_TIME: Duration = Duration::from_secs(120);

/// How long faults come and go before all are healed, in seconds.
const FAULTY_S: std::ops::Range<u64> = 30..150;

/// How often the oracle looks, at the longest.
const WATCH: Duration = Duration::from_millis(500);

/// What makes a world.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// How much time passes in it.
    pub time: Duration,
    /// The only fault of it; none: all of them.
    pub only: Option<Fault>,
}

/// A world.
pub struct World {
    plan: Plan,
    /// Of the faults: what the members draw does not change them.
    rng: SmallRng,
    nodes: Nodes,
    members: Vec<Box<dyn Node>>,
    faults: Faults,
    history: Rc<History>,
    oracle: Oracle,
    backups: Vec<Option<Backup>>,
}

/// What a world was like that held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The digest of its log.
    pub digest: String,
    pub acknowledged: u64,
    pub faults: u64,
    /// The longest time from healing to a commit.
    pub slowest_recovery: Duration,
}

impl World {
    /// Three witnesses, some of which are reluctant to lead, started in any order.
    fn begin(plan: Plan) -> Self {
        let mut rng = SmallRng::seed_from_u64(plan.seed);
        let mut nodes = Nodes::begin(plan.seed);
        let addresses: Vec<Address> = (1..=3)
            .map(|n| format!("10.0.0.{n}:2222").parse().unwrap())
            .collect();
        let mut witnesses = Vec::new();
        for (n, address) in addresses.iter().enumerate() {
            // One that may lead at once is needed by no rule, only by haste.
            let reluctant = n > 0 && rng.random_bool(0.5);
            let seed = rng.random();
            let name = format!("w{}", n + 1);
            let witness = Witness::new(&name, address, &addresses, reluctant, seed);
            witness.adopt(&mut nodes);
            witnesses.push(witness);
        }
        let members: Vec<Box<dyn Node>> = witnesses
            .into_iter()
            .map(|witness| Box::new(witness) as Box<dyn Node>)
            .collect();
        let history = Rc::new(History::default());
        history.refreshing.set(true);
        nodes
            .spawn(client_host(), client::run(history.clone(), addresses))
            .detach();
        Self {
            backups: members.iter().map(|_| None).collect(),
            faults: Faults::new(members.len()),
            plan,
            rng,
            nodes,
            members,
            history,
            oracle: Oracle::default(),
        }
    }

    /// Lets a world pass. What is wrong with it, if anything is.
    pub fn run(plan: Plan) -> Result<Report, Violation> {
        let mut world = Self::begin(plan);
        let mut slowest = Duration::ZERO;
        while simulated::passed() < world.plan.time {
            let time = Duration::from_secs(world.rng.random_range(FAULTY_S));
            world.inject_faults(simulated::passed() + time)?;
            slowest = slowest.max(world.heal()?);
            world.settle()?;
        }
        Ok(Report {
            digest: journal::digest(),
            acknowledged: world.history.acknowledged.get(),
            faults: world.faults.counted(),
            slowest_recovery: slowest,
        })
    }

    /// Faults begin and end, until a time.
    fn inject_faults(&mut self, end: Duration) -> Result<(), Violation> {
        self.start_some();
        while simulated::passed() < end {
            let pause = Duration::from_millis(self.rng.random_range(20..8_000));
            self.pass(pause)?;
            if self.rng.random_bool(0.4) {
                self.repair();
            } else {
                self.break_something();
            }
        }
        Ok(())
    }

    /// Starts what does not run, in any order and one after the other, or not yet.
    fn start_some(&mut self) {
        for n in 0..self.members.len() {
            if self.rng.random_bool(0.5) {
                self.start(n);
            }
        }
    }

    /// Lets time pass, and looks.
    fn pass(&mut self, time: Duration) -> Result<(), Violation> {
        let end = simulated::passed() + time;
        while simulated::passed() < end {
            let rest = end.saturating_sub(simulated::passed());
            self.nodes.run_for(rest.min(WATCH));
            self.look()?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Violation> {
        for (n, member) in self.members.iter().enumerate() {
            if let Some(view) = member.view() {
                self.faults.sees(n, &view);
            }
        }
        self.oracle.read(&journal::news(), &self.members)?;
        self.oracle.watch(&self.views(), &self.history)
    }

    fn views(&self) -> Vec<View> {
        self.members
            .iter()
            .filter_map(|member| member.view())
            .collect()
    }

    fn start(&mut self, n: usize) {
        let member = &self.members[n];
        if self.faults.is_down(n) {
            journal::write(&format!("WORLD {} starts", member.name()));
            network::power_on(member.host());
            member.start(&mut self.nodes);
            self.faults.starts(n);
        }
    }

    fn stop(&mut self, n: usize, power: bool) {
        let member = &self.members[n];
        member.dies(power);
        self.nodes.kill(member.host());
        self.faults.stops(n);
    }

    /// One fault more, drawn from those that the state of the world allows.
    fn break_something(&mut self) {
        let n = self.rng.random_range(0..self.members.len());
        let fault = match self.plan.only {
            Some(only) => only,
            None => *Fault::ALL.choose(&mut self.rng).unwrap(),
        };
        if !self.faults.allows(fault, n, &self.calm(n)) {
            return;
        }
        journal::write(&format!("WORLD {}: {fault:?}", self.members[n].name()));
        self.faults.count();
        let host = self.members[n].host();
        match fault {
            Fault::Kill => self.stop(n, false),
            Fault::PowerCut => self.stop(n, true),
            Fault::PowerCutAmidWrite => self.cut_amid_write(n),
            Fault::Freeze => self.nodes.freeze(host),
            Fault::Wipe => {
                self.stop(n, true);
                self.members[n].disk().unwrap().wipe();
                self.faults.forgets(n);
            }
            Fault::Restore => {
                self.stop(n, true);
                if let (Some(disk), Some(old)) = (self.members[n].disk(), &self.backups[n]) {
                    disk.restore(old);
                }
                self.faults.forgets(n);
            }
            Fault::BadSector => {
                self.stop(n, true);
                let after = self.rng.random_range(0..12);
                self.members[n].disk().unwrap().fail_read(after);
                self.faults.forgets(n);
            }
            Fault::FullDisk => self.members[n].disk().unwrap().fill(),
            Fault::WornDisk => self.members[n].disk().unwrap().fail(),
            Fault::SlowDisk => {
                let most = Duration::from_millis(self.rng.random_range(50..20_000));
                self.members[n].disk().unwrap().set_delay(most / 10, most);
            }
            Fault::Line(kind) => {
                let m = (n + self.rng.random_range(1..self.members.len())) % self.members.len();
                let other = match self.rng.random_range(0..8) {
                    0 => client_host(),
                    _ => self.members[m].host(),
                };
                self.faults.break_line(kind, host, other, &mut self.rng);
            }
        }
    }

    /// The power goes between a write and its sync, if there is one soon.
    fn cut_amid_write(&mut self, n: usize) {
        let disk = self.members[n].disk().unwrap().clone();
        self.nodes
            .run_until(Duration::from_secs(5), || disk.has_unsynced());
        self.stop(n, true);
    }

    /// Whether all others run, hold all that was acknowledged and have a vote, so
    /// that one may forget.
    fn calm(&self, n: usize) -> Vec<View> {
        let others = (0..self.members.len()).filter(|m| *m != n);
        others.filter_map(|m| self.members[m].view()).collect()
    }

    /// One fault less.
    fn repair(&mut self) {
        let n = self.rng.random_range(0..self.members.len());
        match self.rng.random_range(0..3) {
            0 => self.start(n),
            1 => self.mend(n),
            _ => {
                network::heal();
            }
        }
    }

    /// A host's process goes on, and its disk is well again.
    fn mend(&mut self, n: usize) {
        let member = &self.members[n];
        self.nodes.thaw(member.host());
        if let Some(disk) = member.disk() {
            disk.heal();
            disk.set_delay(Duration::from_micros(500), Duration::from_millis(20));
        }
    }

    /// All faults end. How long it takes until something is committed.
    fn heal(&mut self) -> Result<Duration, Violation> {
        journal::write("WORLD all is well from now on");
        network::heal();
        for n in 0..self.members.len() {
            self.mend(n);
            self.start(n);
        }
        let (healed, before) = (simulated::passed(), self.history.acknowledged.get());
        let history = self.history.clone();
        let commits = || history.acknowledged.get() > before;
        let recovered = self.nodes.run_until(HEALED_TIME * 6, commits);
        self.look()?;
        let took = simulated::passed().saturating_sub(healed);
        ensure(recovered && took <= HEALED_TIME + CLIENT_TIME, || {
            let verdict = if recovered { "late" } else { "never" };
            format!("S18: healed at {healed:?}, committed {verdict}, after {took:?}")
        })?;
        Ok(took)
    }

    /// No faults, until all hold the same.
    fn settle(&mut self) -> Result<(), Violation> {
        let started = simulated::passed();
        let all_vote = |views: &[View]| views.len() == 3 && views.iter().all(|view| view.votes);
        while !all_vote(&self.views()) {
            self.pass(WATCH)?;
            ensure(simulated::passed() < started + SETTLING_TIME, || {
                format!(
                    "S7: not all vote {SETTLING_TIME:?} after all was well: {:?}",
                    self.views()
                )
            })?;
        }
        // The lease is left to expire.
        self.history.refreshing.set(false);
        let from = self.history.tried_refresh.get().unwrap_or_default();
        let until = from + oracle::lease_wait();
        while self
            .views()
            .iter()
            .any(|view| view.store.contains_key(client::LEASE))
        {
            self.pass(WATCH)?;
            ensure(
                simulated::passed() < until.max(started + oracle::lease_wait()),
                || format!("S8: a key last refreshed at {from:?} is still there"),
            )?;
        }
        self.history.refreshing.set(true);
        // Nobody writes any more, and all arrives.
        self.nodes.freeze(client_host());
        self.pass(Duration::from_secs(3))?;
        oracle::settled(&self.views(), &self.history)?;
        self.keep_backups();
        self.nodes.thaw(client_host());
        self.faults.end();
        Ok(())
    }

    fn keep_backups(&mut self) {
        for (member, kept) in self.members.iter().zip(&mut self.backups) {
            if kept.is_none() || self.rng.random_bool(0.3) {
                *kept = member.disk().map(pg_witness::disk::SimulatedDisk::backup);
            }
        }
    }
}

fn client_host() -> IpAddr {
    IpAddr::from([10, 0, 0, 9])
}
