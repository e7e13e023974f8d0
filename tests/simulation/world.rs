//! A world: members on hosts, lines between them, a client, and the faults that a
//! seed draws. Every few minutes all faults end, and what must hold then is asked.
//!
//! Who the members are is drawn too: the real case, two PySyncObj nodes and a witness,
//! most often.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::disk::Backup;
use pg_witness::reactor::simulated::nodes::Processes;
use pg_witness::reactor::simulated::{self, network};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::cast::{Cast, Kind};
use crate::client::{self, History, Reader};
use crate::faults::{Fault, Faults, LostFile};
use crate::incidents::Incidents;
use crate::journal;
use crate::node::{Node, View};
use crate::oracle::{self, Oracle, Violation, ensure};
use crate::registry::Registry;

/// S18: a healed majority leads and commits within this time.
const HEALED_TIME: Duration = Duration::from_secs(10);

/// The same where it needs the link between two PySyncObj nodes: an attempt to connect
/// that was lost is repeated by the kernel after a pause that doubles, up to 64 s, and
/// none of PySyncObj's own comes before the kernel gives up (H22); then its next dial,
/// and three elections.
const PYSYNCOBJ_HEALED_TIME: Duration = Duration::from_secs(64 + 5 + 5);

/// What the client may take to find out who leads: a write that is lost, and all members
/// but one that do not answer.
const fn client_time(members: usize) -> Duration {
    Duration::from_millis(2_000 + 500 * (members as u64 - 1))
}

/// How long a member may take to be added or removed while all is well.
const CHANGE_TIME: Duration = Duration::from_secs(60);

/// How long the witness may take to withdraw its vote or to offer it again while all is
/// well; what interrupts it begins its time anew.
const RULE_TIME: Duration = Duration::from_secs(180);

/// How long all that happened meanwhile may take to reach everybody, a member
/// without a vote included.
const SETTLING_TIME: Duration = Duration::from_secs(120);

/// How long after the last write all hold the same: one that stood for election behind a
/// cut may have to be led in a later term first, and the kernel of a PySyncObj node that
/// dialled into a cut tries again after up to two minutes (H22).
const LEVEL_TIME: Duration = Duration::from_secs(150);

/// How long faults come and go before all are healed, in seconds.
const FAULTY_S: std::ops::Range<u64> = 30..150;

/// Seconds that a time of day may be wrong.
const SKEW_MAX_S: i32 = 120;

/// How often a fault is drawn that may happen now.
const DRAWS: usize = 4;

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
    /// Who its members are; none: it is drawn.
    pub kind: Option<Kind>,
}

/// A world.
pub struct World {
    plan: Plan,
    /// Of the faults: what the members draw does not change them.
    rng: SmallRng,
    nodes: Processes,
    members: Vec<Box<dyn Node>>,
    /// The one that comes and goes.
    third: Option<usize>,
    faults: Faults,
    history: Rc<History>,
    registry: Rc<Registry>,
    incidents: Rc<Incidents>,
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
    /// How much time passed in it.
    pub time: Duration,
    /// What PySyncObj lost, and by what; it ended the world.
    pub lost_by_pysyncobj: Option<String>,
}

impl World {
    /// Members that are drawn, started in any order.
    fn begin(plan: Plan) -> Self {
        let mut rng = SmallRng::seed_from_u64(plan.seed);
        let mut nodes = Processes::begin(plan.seed);
        let cast = Cast::draw(plan.kind, &mut rng, &mut nodes);
        let addresses: Vec<Address> = cast
            .members
            .iter()
            .map(|member| member.address().clone())
            .collect();
        let (history, registry) = (cast.history.clone(), cast.registry.clone());
        let reader = Rc::new(Reader::new(history, registry, cast.incidents.clone()));
        nodes
            .spawn(client_host(), client::run(reader, addresses))
            .detach();
        Self {
            backups: cast.members.iter().map(|_| None).collect(),
            faults: Faults::new(cast.members.len(), cast.third),
            third: cast.third,
            plan,
            rng,
            nodes,
            members: cast.members,
            history: cast.history,
            registry: cast.registry,
            incidents: cast.incidents,
            oracle: Oracle::default(),
        }
    }

    /// Lets a world pass. What is wrong with it, if anything is.
    pub fn run(plan: Plan) -> Result<Report, Violation> {
        let mut world = Self::begin(plan);
        let mut slowest = Duration::ZERO;
        let ended = world.pass_all(&mut slowest);
        let lost_by_pysyncobj = match ended {
            Ok(()) => None,
            Err(violation) => match world.incidents.told() {
                Some(told) if violation.may_be_loss => {
                    Some(format!("{}, after {told}", violation.what))
                }
                _ => return Err(violation),
            },
        };
        Ok(Report {
            digest: journal::digest(),
            acknowledged: world.history.acknowledged.get(),
            faults: world.faults.counted(),
            slowest_recovery: slowest,
            time: simulated::passed(),
            lost_by_pysyncobj,
        })
    }

    fn pass_all(&mut self, slowest: &mut Duration) -> Result<(), Violation> {
        while simulated::passed() < self.plan.time {
            let time = Duration::from_secs(self.rng.random_range(FAULTY_S));
            self.inject_faults(simulated::passed() + time)?;
            *slowest = self.heal()?.max(*slowest);
            self.settle()?;
            self.change_members()?;
        }
        Ok(())
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
        if let Some(violation) = self.incidents.violation() {
            return Err(violation);
        }
        self.oracle
            .read(&journal::news(), &self.members, &self.incidents)?;
        for (n, member) in self.members.iter().enumerate() {
            let Some(view) = member.view() else { continue };
            self.faults.sees(n, &view);
            if let Some(witness) = self.registry.witness(member.host()) {
                self.registry.promises.sees(member.host(), &witness);
            }
            if self.registry.is_witness(member.host()) {
                let member = member.as_ref();
                self.oracle.watch_committed(member, &view, &self.registry)?;
            }
        }
        self.oracle
            .watch(&self.views(), &self.history, &self.incidents)
    }

    fn views(&self) -> Vec<View> {
        self.members
            .iter()
            .filter_map(|member| member.view())
            .collect()
    }

    fn start(&mut self, n: usize) {
        let member = &self.members[n];
        if self.faults.is_down(n) && self.faults.absent() != Some(n) {
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
        if self.faults.absent() == Some(n) {
            return;
        }
        let Some(fault) = self.draw_fault(n) else {
            return;
        };
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
                self.forgets(n);
            }
            Fault::Restore => {
                self.stop(n, true);
                if let (Some(disk), Some(old)) = (self.members[n].disk(), &self.backups[n]) {
                    disk.restore(old);
                }
                self.forgets(n);
            }
            Fault::BadSector => {
                self.stop(n, true);
                let after = self.rng.random_range(0..12);
                self.members[n].disk().unwrap().fail_read(after);
                self.forgets(n);
            }
            Fault::Lost(file) => {
                self.stop(n, false);
                self.members[n].loses(file);
                self.forgets(n);
            }
            Fault::Clock => {
                let ahead_s = self.rng.random_range(-SKEW_MAX_S..=SKEW_MAX_S);
                simulated::set_skew(host, ahead_s);
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
                let third = self.members.iter().map(|member| member.host());
                let mut third = third.filter(|third| *third != host && *third != other);
                let hosts = [host, other, third.next_back().unwrap_or(other)];
                self.faults.break_line(kind, hosts, &mut self.rng);
            }
        }
    }

    fn forgets(&mut self, n: usize) {
        self.faults.forgets(n);
        self.registry.forgets(self.members[n].host());
    }

    /// A fault that can happen to a member, and may now; none if none was found soon.
    fn draw_fault(&mut self, n: usize) -> Option<Fault> {
        let has_disk = self.members[n].disk().is_some();
        let others = self.calm(n);
        for _ in 0..DRAWS {
            let mut fault = match self.plan.only {
                Some(only) => only,
                None => *Fault::ALL.choose(&mut self.rng).unwrap(),
            };
            if !has_disk {
                fault = fault.to_files();
            }
            let fits = match fault {
                Fault::Lost(_) => !has_disk,
                fault => has_disk || !fault.is_of_witness(),
            };
            // After it there is nothing left to judge.
            let rare = matches!(fault, Fault::Lost(LostFile::Dump)) && self.plan.only.is_none();
            let fits = fits && !(rare && self.rng.random_bool(0.9));
            if fits && self.faults.allows(fault, n, &others) {
                return Some(fault);
            }
        }
        None
    }

    /// The power goes between a write and its sync, if there is one soon.
    fn cut_amid_write(&mut self, n: usize) {
        let disk = self.members[n].disk().unwrap().clone();
        self.nodes
            .run_until(Duration::from_secs(5), || disk.has_unsynced());
        // What must not be said yet may be on its way.
        let pause = Duration::from_millis(self.rng.random_range(0..30));
        self.nodes.run_for(pause);
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

    /// Starts again whose thread has ended with an exception (H3), as an operator does.
    fn revive(&mut self) {
        for n in 0..self.members.len() {
            if self.members[n].is_dead() {
                self.stop(n, false);
                self.start(n);
            }
        }
    }

    /// A host's process goes on, and its disk is well again.
    fn mend(&mut self, n: usize) {
        let member = &self.members[n];
        self.nodes.thaw(member.host());
        simulated::set_skew(member.host(), 0);
        if let Some(disk) = member.disk() {
            disk.heal();
            disk.set_delay(Duration::from_micros(500), Duration::from_millis(20));
        }
    }

    /// All faults end. How long it takes until something is committed.
    fn heal(&mut self) -> Result<Duration, Violation> {
        journal::write("WORLD all is well from now on");
        network::heal();
        self.revive();
        for n in 0..self.members.len() {
            self.mend(n);
            self.start(n);
        }
        let (healed, before) = (simulated::passed(), self.history.acknowledged.get());
        let history = self.history.clone();
        let mut bound = HEALED_TIME;
        let mut recovered = false;
        while !recovered && simulated::passed() < healed + PYSYNCOBJ_HEALED_TIME {
            let commits = || history.acknowledged.get() > before;
            recovered = self.nodes.run_until(WATCH, commits);
            self.look()?;
            if self.needs_pysyncobj() {
                bound = PYSYNCOBJ_HEALED_TIME;
            }
        }
        let took = simulated::passed().saturating_sub(healed);
        let bound = bound + client_time(self.members.len());
        ensure(recovered && took <= bound, || {
            let verdict = if recovered { "late" } else { "never" };
            format!("S18: healed at {healed:?}, committed {verdict}, after {took:?}")
        })?;
        Ok(took)
    }

    /// Whether no majority is without two PySyncObj nodes, as the only witness has no
    /// vote (S2, S7, S13) or is not listed by all others.
    fn needs_pysyncobj(&self) -> bool {
        let views = self.views();
        let listed = |address: &Address| views.iter().all(|view| view.members.contains(address));
        let voting = |member: &dyn Node| {
            listed(member.address()) && member.view().is_some_and(|view| view.votes)
        };
        let witnesses = self
            .members
            .iter()
            .filter(|member| self.registry.is_witness(member.host()) && voting(member.as_ref()));
        witnesses.count() == 0
    }

    /// Whether a witness, or else a PySyncObj node, holds the lease.
    fn holds_lease(&self, witness: bool) -> bool {
        let members = self.members.iter();
        let mut asked = members.filter(|m| self.registry.is_witness(m.host()) == witness);
        asked.any(|member| {
            let view = member.view();
            view.is_some_and(|view| view.store.contains_key(client::LEASE))
        })
    }

    /// No faults, until all hold the same.
    fn settle(&mut self) -> Result<(), Violation> {
        let started = simulated::passed();
        let present = self.faults.present();
        let all_vote =
            |views: &[View]| views.len() == present && views.iter().all(|view| view.votes);
        while !all_vote(&self.views()) {
            self.revive();
            self.pass(WATCH)?;
            oracle::ensure_data(simulated::passed() < started + SETTLING_TIME, || {
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
        let until = until.max(started + oracle::lease_wait());
        while self.holds_lease(true) || self.holds_lease(false) {
            self.revive();
            self.pass(WATCH)?;
            // A PySyncObj node may not even be connected until then (H22).
            let patience = match self.holds_lease(true) {
                true => Duration::ZERO,
                false => LEVEL_TIME,
            };
            oracle::ensure_data(simulated::passed() < until + patience, || {
                format!("S8: a key last refreshed at {from:?} is still there")
            })?;
        }
        self.history.refreshing.set(true);
        // Nobody writes any more, and all arrives.
        self.nodes.freeze(client_host());
        self.history.writing.set(false);
        self.pass(Duration::from_secs(3))?;
        let silent = simulated::passed();
        while !oracle::are_level(&self.views()) && simulated::passed() < silent + LEVEL_TIME {
            self.pass(WATCH)?;
        }
        oracle::settled(&self.views(), &self.history)?;
        self.keep_backups();
        self.nodes.thaw(client_host());
        self.history.writing.set(true);
        self.faults.end();
        self.incidents.end();
        self.registry.end();
        Ok(())
    }

    /// All is well: the third data node comes or goes, and the witness's vote with it.
    fn change_members(&mut self) -> Result<(), Violation> {
        let Some(third) = self.third else {
            return Ok(());
        };
        // At times it stays as it is.
        if self.rng.random_bool(0.3) {
            return Ok(());
        }
        let comes = self.faults.absent().is_some();
        let address = self.members[third].address().clone();
        let what = if comes { "added" } else { "removed" };
        journal::write(&format!("WORLD {} is {what}", self.members[third].name()));
        if comes {
            self.faults.set_absent(None);
            self.start(third);
        } else {
            self.stop(third, false);
            self.members[third].loses(LostFile::All);
            self.faults.set_absent(Some(third));
        }
        let others = self.members.iter().map(|member| member.address().clone());
        let others = others.filter(|other| *other != address).collect();
        let change = self.nodes.spawn(
            client_host(),
            client::change_members(others, address, comes),
        );
        let started = simulated::passed();
        while !change.is_finished() {
            self.revive();
            self.pass(WATCH)?;
            ensure(simulated::passed() < started + CHANGE_TIME, || {
                format!("S17: the third data node cannot be {what}")
            })?;
        }
        // At times faults come before the witness has followed.
        if self.rng.random_bool(0.5) {
            self.await_rule()?;
        }
        Ok(())
    }

    /// All is well, and stays so until the witness is a member, or is none, as the number
    /// of data nodes wants it.
    fn await_rule(&mut self) -> Result<(), Violation> {
        let wanted = self.faults.absent().is_some();
        let witness = self.members.last().unwrap().address().clone();
        let started = simulated::passed();
        let follows = |views: &[View]| {
            let mut lists = views.iter().map(|view| view.members.contains(&witness));
            lists.all(|listed| listed == wanted)
        };
        while !follows(&self.views()) {
            self.revive();
            self.pass(WATCH)?;
            oracle::ensure_data(simulated::passed() < started + RULE_TIME, || {
                format!(
                    "vote: auto: the vote is wanted: {wanted}; {RULE_TIME:?} after all was well: {:?}",
                    self.views()
                )
            })?;
        }
        let followed = simulated::passed().saturating_sub(started);
        journal::write(&format!(
            "WORLD the witness has followed after {followed:?}"
        ));
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
