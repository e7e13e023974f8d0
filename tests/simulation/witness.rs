//! A pg-witness as a member of a world: the whole of it, on a disk in memory.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::config::{
    Bootstrap, ClusterConfig, Commands, Election, PlacementConfig, Timing, VotePolicy,
};
use pg_witness::disk::{SimulatedDisk, Standing, Worker};
use pg_witness::member::{Member, offline};
use pg_witness::reactor::simulated::nodes::Processes;
use pg_witness::reactor::{self, Timer, simulated};
use pg_witness::wire::Value;

use crate::incidents::Incidents;
use crate::node::{Backup, Node, View};
use crate::registry::Registry;

/// The pause of whatever starts a process again that has ended.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A pg-witness.
pub struct Witness {
    config: ClusterConfig,
    disk: SimulatedDisk,
    member: Rc<RefCell<Weak<Member>>>,
    registry: Rc<Registry>,
    incidents: Rc<Incidents>,
}

impl Witness {
    /// One of `members`, of which the first start makes a voter; `reluctant` as
    /// beside data nodes, or their equal.
    pub fn new(
        name: &str,
        me: &Address,
        members: &[Address],
        reluctant: bool,
        seed: u64,
        (registry, incidents): (Rc<Registry>, Rc<Incidents>),
    ) -> Self {
        let config = ClusterConfig {
            name: name.into(),
            self_addr: me.clone(),
            bind_addr: None,
            partner_addrs: members.iter().filter(|a| *a != me).cloned().collect(),
            data_dir: "/data/demo".into(),
            password: None,
            password_file: None,
            bootstrap: Bootstrap::New,
            election: if reluctant {
                Election::Reluctant
            } else {
                Election::Equal
            },
            timing: Timing::default(),
            placement: PlacementConfig::default(),
            allow_from: Vec::new(),
            commands: Commands::default(),
        };
        let disk = SimulatedDisk::new(seed);
        disk.set_delay(Duration::from_micros(500), Duration::from_millis(20));
        Self {
            config,
            disk,
            member: Rc::default(),
            registry,
            incidents,
        }
    }

    /// Its vote is `auto`, and withdrawn after a time that is stable.
    pub fn withdraws(&mut self, after: Duration) {
        self.config.placement = PlacementConfig {
            vote: VotePolicy::Auto,
            vote_withdraws_after: after,
            ..PlacementConfig::default()
        };
    }

    /// Makes its vote count, as the operator's word does.
    pub fn adopt(&self, nodes: &mut Processes) {
        let (config, disk) = (self.config.clone(), self.disk.clone());
        let task = nodes.spawn(self.host(), async move {
            let (worker, work) = Worker::simulated(disk);
            reactor::spawn(work).detach();
            offline::adopt(&config, &worker).await.unwrap();
        });
        assert!(nodes.run_until(Duration::from_secs(10), || task.is_finished()));
        nodes.kill(self.host());
    }
}

impl Witness {
    /// For who is to know it.
    pub fn member(&self) -> Rc<RefCell<Weak<Member>>> {
        self.member.clone()
    }
}

impl Node for Witness {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn address(&self) -> &Address {
        &self.config.self_addr
    }

    fn start(&self, nodes: &mut Processes) {
        let config = ClusterConfig {
            bootstrap: Bootstrap::Unset,
            ..self.config.clone()
        };
        let (disk, slot) = (self.disk.clone(), self.member.clone());
        let (registry, incidents, host) =
            (self.registry.clone(), self.incidents.clone(), self.host());
        nodes
            .spawn(self.host(), async move {
                let (worker, work) = Worker::simulated(disk);
                reactor::spawn(work).detach();
                loop {
                    match Member::start(config.clone(), Vec::new(), &worker).await {
                        Ok(member) => {
                            *slot.borrow_mut() = Rc::downgrade(&member);
                            if let Some(forgotten) = registry.promises.opened(host, &member) {
                                incidents.accuse(forgotten);
                            }
                            member.clone().run().await;
                            registry.promises.sees(host, &member);
                        }
                        Err(error) => log::error!(target: "pg_witness", "{}: {error}", config.name),
                    }
                    Timer::after(RESTART_PAUSE).await;
                }
            })
            .detach();
    }

    fn view(&self) -> Option<View> {
        let member = self.member.borrow().upgrade()?;
        let replica = member.replica_for_tests();
        let replica = replica.borrow();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let stored = replica.store.iter();
        Some(View {
            members: replica.log.members().iter().cloned().collect(),
            leads: member.leads().map(|term| term.get()),
            votes: replica.standing == Standing::Voter && replica.diverged.is_none(),
            commit: replica.log.commit().get(),
            applied: replica.applied.get(),
            end: (
                replica.log.last().term.term.get(),
                replica.log.last().index.get(),
            ),
            store: stored
                .filter_map(|(key, stored)| Some((text(key)?, text(stored.get("value")?)?)))
                .collect(),
            log_len: replica.log.len(),
        })
    }

    fn vote_of(&self, line: &str) -> Option<(u64, String)> {
        let (_, vote) = line.split_once(&format!(" {}: voted for ", self.name()))?;
        let (candidate, rest) = vote.split_once(" in term ")?;
        let term = rest.split_once(' ').map_or(rest, |(term, _)| term);
        Some((term.parse().ok()?, candidate.to_owned()))
    }

    fn leads_of(&self, line: &str) -> Option<u64> {
        let (_, term) = line.split_once(&format!(" {}: this witness leads, term ", self.name()))?;
        term.parse().ok()
    }

    fn opens_state(&self, line: &str) -> bool {
        let told = line.split_once(&format!(" {}: ", self.name()));
        told.is_some_and(|(_, told)| {
            let openings = [
                "state found",
                "no state in",
                "our log belongs to a history",
                "the state on disk",
            ];
            openings.iter().any(|opening| told.starts_with(opening))
        })
    }

    fn past_left_in(&self, line: &str) -> Option<u64> {
        let again = format!(" {}: starting again from disk: ", self.name());
        let (_, shown) = line.split_once(&again)?;
        let (_, term) = shown.split_once(" to lead term ")?;
        term.split_once(',')?.0.parse().ok()
    }

    fn disk(&self) -> Option<&SimulatedDisk> {
        Some(&self.disk)
    }

    fn backup(&self) -> Backup {
        Backup::Disk(Box::new(self.disk.backup()))
    }

    fn restore(&self, backup: &Backup) {
        if let Backup::Disk(backup) = backup {
            self.disk.restore(backup);
        }
    }

    fn dies(&self, power: bool) {
        if let Some(member) = self.member.borrow().upgrade() {
            self.registry.promises.sees(self.host(), &member);
            member.abandon_engine();
        } else {
            self.registry.promises.forgets(self.host());
        }
        if power {
            // The kernel of the host hears nothing either.
            simulated::network::power_off(self.host());
            self.disk.power_cut();
        }
    }
}
