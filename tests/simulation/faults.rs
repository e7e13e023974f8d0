//! The faults of a world, and which of them are under way.

use std::net::IpAddr;
use std::time::Duration;

use pg_witness::reactor::simulated::network;
use rand::RngExt as _;
use rand::rngs::SmallRng;

use crate::node::View;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed.
    Kill,
    /// The host loses its power.
    PowerCut,
    /// It loses its power between a write and its sync.
    PowerCutAmidWrite,
    /// The process is stopped and goes on later.
    Freeze,
    /// The disk is replaced by an empty one.
    Wipe,
    /// The disk, or the files, are replaced by an older copy of themselves.
    Restore,
    /// All PySyncObj nodes go back to older copies of their files, as when their virtual
    /// machines are rolled back.
    RollBack,
    /// A PySyncObj node goes on as its next release, with its files.
    Upgrade,
    /// Something cannot be read at the next start.
    BadSector,
    /// Nothing can be written for want of space.
    FullDisk,
    /// Nothing can be written at all.
    WornDisk,
    /// Every sync takes long, up to many seconds.
    SlowDisk,
    /// A file is lost, of a PySyncObj node.
    Lost(LostFile),
    /// The time of day jumps, to and fro.
    Clock,
    /// A line between two hosts.
    Line(LineFault),
}

/// What a PySyncObj node can lose while it does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostFile {
    /// Its log.
    Journal,
    /// Its commit index and, from 0.3.16 on, its term and vote.
    Meta,
    /// Its snapshot.
    Dump,
    /// Everything.
    All,
}

/// What can go wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFault {
    /// Nothing passes in one direction.
    CutOneWay,
    /// Nothing passes.
    Cut,
    /// It is slow.
    Slow,
    /// It loses segments, which come later.
    Lossy,
    /// It has little bandwidth.
    Narrow,
    /// Attempts to connect are lost; what is open goes on.
    LosesOpenings,
    /// Attempts to connect are refused.
    RefusesOpenings,
    /// All connections over it are reset.
    Reset,
    /// The address of one leads to another member; of a witness's own attempts only.
    LeadsElsewhere,
}

impl Fault {
    /// Whether it happens to a witness alone: only that has a disk in memory; and a
    /// PySyncObj node takes whoever answers for the one it has dialled.
    pub fn is_of_witness(self) -> bool {
        use Fault::{BadSector, FullDisk, Line, SlowDisk, WornDisk};
        matches!(
            self,
            BadSector | FullDisk | WornDisk | SlowDisk | Line(LineFault::LeadsElsewhere)
        )
    }

    /// Whether it happens to PySyncObj nodes alone.
    pub fn is_of_data_node(self) -> bool {
        matches!(self, Self::Lost(_) | Self::RollBack | Self::Upgrade)
    }

    /// How likely it happens when it was drawn among all: less where data is lost, and
    /// little is left to judge after it.
    pub fn likelihood(self) -> f64 {
        match self {
            Self::Lost(LostFile::Dump) => 0.1,
            Self::RollBack => 0.5,
            _ => 1.0,
        }
    }

    /// What it does to a member that has files of its own instead of such a disk.
    pub fn to_files(self) -> Self {
        match self {
            Self::Wipe => Self::Lost(LostFile::All),
            Self::PowerCutAmidWrite => Self::PowerCut,
            other => other,
        }
    }

    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::Kill,
        Self::PowerCut,
        Self::PowerCutAmidWrite,
        Self::Freeze,
        Self::Wipe,
        Self::Restore,
        Self::RollBack,
        Self::Upgrade,
        Self::BadSector,
        Self::FullDisk,
        Self::WornDisk,
        Self::SlowDisk,
        Self::Lost(LostFile::Journal),
        Self::Lost(LostFile::Meta),
        Self::Lost(LostFile::Dump),
        Self::Clock,
        Self::Line(LineFault::CutOneWay),
        Self::Line(LineFault::Cut),
        Self::Line(LineFault::Slow),
        Self::Line(LineFault::Lossy),
        Self::Line(LineFault::Narrow),
        Self::Line(LineFault::LosesOpenings),
        Self::Line(LineFault::RefusesOpenings),
        Self::Line(LineFault::Reset),
        Self::Line(LineFault::LeadsElsewhere),
    ];
}

/// Which faults are under way.
pub struct Faults {
    down: Vec<bool>,
    /// How far each had committed when it was seen last; 0 once it has forgotten.
    commits: Vec<u64>,
    /// Who has forgotten, since all were well.
    forgetful: Option<usize>,
    /// Who is no member now, and does not run.
    absent: Option<usize>,
    counted: u64,
}

impl Faults {
    /// Of so many members that do not run yet; one of them may be none at first.
    pub fn new(members: usize, absent: Option<usize>) -> Self {
        Self {
            down: vec![true; members],
            commits: vec![0; members],
            forgetful: None,
            absent,
            counted: 0,
        }
    }

    /// Who takes no part now.
    pub fn absent(&self) -> Option<usize> {
        self.absent
    }

    /// Somebody is gone for good, or nobody is.
    pub fn set_absent(&mut self, absent: Option<usize>) {
        self.absent = absent;
        if let Some(n) = absent {
            self.commits[n] = 0;
        }
    }

    /// How many take part.
    pub fn present(&self) -> usize {
        self.down.len() - usize::from(self.absent.is_some())
    }

    pub fn counted(&self) -> u64 {
        self.counted
    }

    pub fn count(&mut self) {
        self.counted += 1;
    }

    pub fn is_down(&self, n: usize) -> bool {
        self.down[n]
    }

    pub fn starts(&mut self, n: usize) {
        self.down[n] = false;
    }

    pub fn stops(&mut self, n: usize) {
        self.down[n] = true;
    }

    pub fn forgets(&mut self, n: usize) {
        self.forgetful = Some(n);
        self.commits[n] = 0;
    }

    /// Member `n` is seen to be so.
    pub fn sees(&mut self, n: usize, view: &View) {
        self.commits[n] = view.commit;
    }

    /// All are well.
    pub fn end(&mut self) {
        self.forgetful = None;
    }

    /// Whether the rules promise anything where this happens to member `n` too, while
    /// the `others` are so. One member may forget at a time, and only while all others
    /// hold half of what is committed: where two of three lack more, the third cannot tell
    /// that from a cluster that was made anew, and waits for the operator. One that does not know
    /// that it has forgotten (an older copy of its disk, or PySyncObj, which never asks)
    /// may do so only while all others hold what it acknowledged.
    pub fn allows(&self, fault: Fault, n: usize, others: &[View]) -> bool {
        let committed = self.commits.iter().max().copied().unwrap_or_default();
        let holds = |commit: u64| commit > 1 && commit >= committed / 2;
        let there = |m: usize| m != n && self.absent != Some(m);
        let mut held = self.commits.iter().enumerate().filter(|(m, _)| there(*m));
        let alone =
            self.forgetful.is_none_or(|other| other == n) && held.all(|(_, commit)| holds(*commit));
        let same = |pair: &[View]| {
            pair[0].commit == pair[1].commit
                && pair[0].applied == pair[1].applied
                && pair[0].end == pair[1].end
        };
        let level = others.len() + 1 == self.present()
            && others.iter().all(|view| view.votes)
            && others.windows(2).all(same)
            && others.iter().any(|view| view.leads.is_some());
        match fault {
            Fault::Wipe | Fault::BadSector => alone,
            Fault::Lost(_) | Fault::Restore => self.forgetful.is_none() && alone && level,
            // It is what nobody can make good: whoever forgets too has no part in it.
            Fault::RollBack => self.forgetful.is_none(),
            Fault::Kill | Fault::PowerCut | Fault::PowerCutAmidWrite | Fault::Upgrade => {
                !self.down[n]
            }
            _ => true,
        }
    }

    /// Breaks the line between two hosts; `third` is another.
    pub fn break_line(
        &self,
        kind: LineFault,
        [one, other, third]: [IpAddr; 3],
        rng: &mut SmallRng,
    ) {
        let ms = |ms| Duration::from_millis(ms);
        match kind {
            LineFault::CutOneWay => network::set_line(one, other, |line| line.cut = true),
            LineFault::Cut => {
                network::set_line(one, other, |line| line.cut = true);
                network::set_line(other, one, |line| line.cut = true);
            }
            LineFault::Slow => {
                let least = rng.random_range(1..600);
                let most = least + rng.random_range(1..600);
                network::set_line(one, other, |line| line.delay = ms(least)..=ms(most));
            }
            LineFault::Lossy => {
                let lost = rng.random_range(1..400);
                network::set_line(one, other, |line| line.lost_per_mille = lost);
            }
            LineFault::Narrow => {
                let rate = rng.random_range(500..20_000);
                network::set_line(one, other, |line| line.bytes_per_s = Some(rate));
            }
            LineFault::LosesOpenings => {
                network::set_line(one, other, |line| line.loses_openings = true);
            }
            LineFault::RefusesOpenings => {
                network::set_line(one, other, |line| line.refuses_openings = true);
            }
            LineFault::Reset => network::reset(one, other),
            LineFault::LeadsElsewhere => {
                network::set_line(one, other, |line| line.leads_to = Some(third));
            }
        }
    }
}
