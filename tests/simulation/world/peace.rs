//! What a world asks for when all faults have ended, and what is changed then.

use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::reactor::simulated::{self, network};
use rand::RngExt as _;

use super::{WATCH, World, client_host};
use crate::client;
use crate::faults::LostFile;
use crate::journal;
use crate::node::{Node, View};
use crate::oracle::{self, Violation, ensure};

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

/// How long witnesses are looked at that were started again.
const RESTARTED_TIME: Duration = Duration::from_secs(10);

/// How long after the last write all hold the same: one that stood for election behind a
/// cut may have to be led in a later term first, and the kernel of a PySyncObj node that
/// dialled into a cut tries again after up to two minutes (H22).
const LEVEL_TIME: Duration = Duration::from_secs(150);

impl World {
    /// All faults end. How long it takes until something is committed.
    pub(super) fn heal(&mut self) -> Result<Duration, Violation> {
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
        let holds = recovered && took <= bound;
        let what = || {
            let verdict = if recovered { "late" } else { "never" };
            format!("S18: healed at {healed:?}, committed {verdict}, after {took:?}")
        };
        // H21: where data nodes went back, and no witness has a vote for it, a leader may
        // end before what its follower has compacted; PySyncObj does not get over that.
        match self.voting_witnesses() {
            0 => oracle::ensure_data(holds, what)?,
            _ => ensure(holds, what)?,
        }
        Ok(took)
    }

    /// Whether nobody is elected but over a link between two PySyncObj nodes: the only
    /// witness has no vote (S2, S7, S13) or is not listed by all others, or in a group of
    /// four or more those that hold most do not reach enough others over witnesses' links.
    fn needs_pysyncobj(&self) -> bool {
        self.voting_witnesses() == 0 || !self.wins_by_witnesses()
    }

    /// How many witnesses run that vote and that all others list.
    fn voting_witnesses(&self) -> usize {
        let views = self.views();
        let listed = |address: &Address| views.iter().all(|view| view.members.contains(address));
        let voting = |member: &dyn Node| {
            listed(member.address()) && member.view().is_some_and(|view| view.votes)
        };
        let members = self.members.iter();
        let witnesses = members.filter(|member| self.registry.is_witness(member.host()));
        witnesses.filter(|member| voting(member.as_ref())).count()
    }

    /// Whether somebody has a majority without any link between two PySyncObj nodes, or
    /// not all run yet.
    fn wins_by_witnesses(&self) -> bool {
        let members = self.members.iter().filter_map(|member| {
            let is_witness = self.registry.is_witness(member.host());
            member.view().map(|view| (is_witness, view))
        });
        let members: Vec<(bool, View)> = members.collect();
        let present = self.faults.present();
        let wins = |(is_witness, candidate): &(bool, View)| {
            // Itself is among those that hold no more.
            let voters = members.iter().filter(|(witness, view)| {
                let linked = *is_witness || *witness || std::ptr::eq(view, candidate);
                linked && view.votes && view.end <= candidate.end
            });
            2 * voters.count() > present
        };
        members.len() < present || members.iter().any(wins)
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
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
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

    /// Starts all witnesses again, as whoever sees that something is wrong does first:
    /// whatever was lost, they forget nothing of what they promised.
    pub(super) fn restart_witnesses(&mut self) -> Result<(), Violation> {
        journal::write("WORLD the witnesses are started again");
        for n in 0..self.members.len() {
            if self.registry.is_witness(self.members[n].host()) {
                self.stop(n, false);
                self.start(n);
            }
        }
        self.pass(RESTARTED_TIME)
    }

    /// All is well: the third data node comes or goes, and the witness's vote with it.
    pub(super) fn change_members(&mut self) -> Result<(), Violation> {
        let Some(third) = self.third else {
            return Ok(());
        };
        // At times it stays as it is.
        if self.rng.random_bool(0.3) {
            return Ok(());
        }
        let comes = self.faults.absent().is_some();
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
        self.have_changed(third, comes)?;
        // At times faults come before the witness has followed.
        if self.rng.random_bool(0.5) {
            self.await_rule()?;
        }
        Ok(())
    }

    /// All is well: the operator removes the witness and sets it up anew, as after a card
    /// was lost. It has to get in again.
    pub(super) fn renew_witness(&mut self) -> Result<(), Violation> {
        if !self.renews || self.rng.random_bool(0.3) {
            return Ok(());
        }
        let witness = self.members.len() - 1;
        let name = self.members[witness].name();
        journal::write(&format!("WORLD {name} is removed and set up anew"));
        self.stop(witness, true);
        self.members[witness].disk().unwrap().wipe();
        self.backups[witness] = None;
        self.forgets(witness);
        self.have_changed(witness, false)
    }

    /// A member is added or removed, by an operator.
    fn have_changed(&mut self, n: usize, comes: bool) -> Result<(), Violation> {
        let address = self.members[n].address().clone();
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
                let (name, what) = (
                    self.members[n].name(),
                    if comes { "added" } else { "removed" },
                );
                format!("S17: {name} cannot be {what}")
            })?;
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
                *kept = Some(member.backup());
            }
        }
    }
}
