//! A world: members on hosts, lines between them, a client, and the faults that a
//! seed draws. Every few minutes all faults end, and what must hold then is asked.
//!
//! Who the members are is drawn too: the real case, two PySyncObj nodes and a witness,
//! most often. `damage` holds the faults, `peace` what is asked and done when they have
//! ended.

mod damage;
mod peace;

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::reactor::simulated::nodes::Processes;
use pg_witness::reactor::simulated::{self, network};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::cast::{Cast, Kind};
use crate::client::{self, History, Reader};
use crate::faults::{Fault, Faults};
use crate::incidents::Incidents;
use crate::journal;
use crate::node::{Backup, Node, View};
use crate::oracle::{Oracle, Violation};
use crate::registry::Registry;

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
    /// Whether the witness is set up anew at times.
    renews: bool,
    /// Whether the lines are bad most of the time.
    bad_lines: bool,
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
            renews: cast.renews,
            bad_lines: cast.bad_lines,
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
        let lost_by_pysyncobj = world.excused(ended)?;
        if lost_by_pysyncobj.is_some() {
            let restarted = world.restart_witnesses();
            world.excused(restarted)?;
        }
        Ok(Report {
            digest: journal::digest(),
            acknowledged: world.history.acknowledged.get(),
            faults: world.faults.counted(),
            slowest_recovery: slowest,
            time: simulated::passed(),
            lost_by_pysyncobj,
        })
    }

    /// What PySyncObj lost, in words, if this is by what it did itself; or nothing is
    /// wrong.
    fn excused(&self, ended: Result<(), Violation>) -> Result<Option<String>, Violation> {
        let Err(violation) = ended else {
            return Ok(None);
        };
        match self.incidents.told() {
            Some(told) if violation.may_be_loss => {
                Ok(Some(format!("{}, after {told}", violation.what)))
            }
            _ => Err(violation),
        }
    }

    fn pass_all(&mut self, slowest: &mut Duration) -> Result<(), Violation> {
        while simulated::passed() < self.plan.time {
            let time = Duration::from_secs(self.rng.random_range(FAULTY_S));
            self.inject_faults(simulated::passed() + time)?;
            *slowest = self.heal()?.max(*slowest);
            self.settle()?;
            self.change_members()?;
            self.renew_witness()?;
        }
        Ok(())
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

    /// Starts again whose thread has ended with an exception (H3), as an operator does.
    fn revive(&mut self) {
        for n in 0..self.members.len() {
            if self.members[n].is_dead() {
                self.stop(n, false);
                self.start(n);
            }
        }
    }
}

fn client_host() -> IpAddr {
    IpAddr::from([10, 0, 0, 9])
}
