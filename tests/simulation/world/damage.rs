//! The faults of a world, as they begin and end.

use std::time::Duration;

use pg_witness::reactor::simulated::{self, network};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use super::{World, client_host};
use crate::faults::Fault;
use crate::incidents::Incident;
use crate::journal;
use crate::node::View;
use crate::oracle::Violation;

/// How long it takes over a line that is slow most of the time, in milliseconds: less
/// than a leader waits for an answer.
const FAR_MS: std::ops::Range<u64> = 1_000..2_800;

/// Seconds that a time of day may be wrong.
const SKEW_MAX_S: i32 = 120;

/// How often a fault is drawn that may happen now.
const DRAWS: usize = 4;

impl World {
    /// Faults begin and end, until a time.
    pub(super) fn inject_faults(&mut self, end: Duration) -> Result<(), Violation> {
        self.start_some();
        let far = Duration::from_millis(self.rng.random_range(FAR_MS));
        while simulated::passed() < end {
            if self.bad_lines && self.rng.random_bool(0.8) {
                self.flap(far)?;
                continue;
            }
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

    /// The data nodes do not reach each other, the witness is far from the first, and
    /// another hears nothing of it for a moment.
    fn flap(&mut self, far: Duration) -> Result<(), Violation> {
        let [first, second, third, witness] = [0, 1, 2, 3].map(|n| self.members[n].host());
        for (from, to) in [(first, second), (second, third), (third, first)] {
            network::set_line(from, to, |line| line.cut = true);
            network::set_line(to, from, |line| line.cut = true);
        }
        network::set_line(witness, first, |line| line.delay = far..=far);
        let calm = Duration::from_millis(self.rng.random_range(500..9_000));
        self.pass(calm)?;
        self.faults.count();
        let deaf = Duration::from_millis(self.rng.random_range(300..2_500));
        let to = *[second, third].choose(&mut self.rng).unwrap();
        journal::write(&format!(
            "WORLD nothing passes from {witness} to {to} for {deaf:?}"
        ));
        network::set_line(witness, to, |line| line.cut = true);
        self.pass(deaf)?;
        network::set_line(witness, to, |line| line.cut = false);
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
                self.restore(n);
            }
            Fault::RollBack => self.roll_back(),
            Fault::Upgrade => {
                self.stop(n, false);
                self.members[n].upgrade();
                self.start(n);
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

    /// A member that does not run has what it had stored some time ago.
    fn restore(&mut self, n: usize) {
        if let Some(old) = &self.backups[n] {
            self.members[n].restore(old);
        }
        self.forgets(n);
    }

    /// All PySyncObj nodes that take part go back, each to an older copy of its own.
    fn roll_back(&mut self) {
        for n in 0..self.members.len() {
            let member = &self.members[n];
            if self.registry.is_witness(member.host()) || self.faults.absent() == Some(n) {
                continue;
            }
            self.incidents.add(member.name(), Incident::RolledBack);
            self.stop(n, true);
            self.restore(n);
        }
    }

    /// Whether there are older copies of all PySyncObj nodes, and those are a majority.
    fn can_roll_back(&self) -> bool {
        let mut nodes = self.members.iter().zip(&self.backups).enumerate();
        let mut count = 0;
        let kept = nodes.all(|(n, (member, kept))| {
            let counts =
                !self.registry.is_witness(member.host()) && self.faults.absent() != Some(n);
            count += usize::from(counts);
            kept.is_some() || !counts
        });
        kept && 2 * count > self.faults.present()
    }

    pub(super) fn forgets(&mut self, n: usize) {
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
                Fault::RollBack => !has_disk && self.can_roll_back(),
                Fault::Upgrade => self.members[n].can_upgrade(),
                fault if has_disk => !fault.is_of_data_node(),
                fault => !fault.is_of_witness(),
            };
            let drawn = self.plan.only.is_some() || self.rng.random_bool(fault.likelihood());
            let fits = fits && drawn;
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

    /// A host's process goes on, and its disk is well again.
    pub(super) fn mend(&mut self, n: usize) {
        let member = &self.members[n];
        self.nodes.thaw(member.host());
        simulated::set_skew(member.host(), 0);
        if let Some(disk) = member.disk() {
            disk.heal();
            disk.set_delay(Duration::from_micros(500), Duration::from_millis(20));
        }
    }
}
