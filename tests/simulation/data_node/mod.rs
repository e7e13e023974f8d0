//! A PySyncObj node as a member of a world: the model of it, in a process on a host,
//! with its files, its sockets and the Patroni around it.
//!
//! * `process`: the loop, the sockets, the start (spec 8.3), and who writes in it;
//! * `observer`: what it does that loses data, or what is done to it that must not be.
//!
//! A power cut takes nothing but the process: what a kernel would lose that was never
//! synced is what [`LostFile`] is for, and happens when no other member can be short of
//! it.

mod observer;
mod process;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::disk::SimulatedDisk;
use pg_witness::reactor::simulated;
use pg_witness::reactor::simulated::nodes::Processes;
use pg_witness::wire::Value;

use crate::client::History;
use crate::faults::LostFile;
use crate::incidents::{Incident, Incidents};
use crate::journal;
use crate::node::{Backup, Node, View};
use crate::pysyncobj::{Config, Files, Node as Model, State, Version};
use crate::registry::{Held, Registry};
use observer::Observer;

/// What a node is to the rest of its world, and what outlives its process.
pub struct Life {
    pub name: String,
    /// How it is set up; its release is the one that it began with.
    pub config: Config,
    version: Cell<Version>,
    pub history: Rc<History>,
    pub registry: Rc<Registry>,
    pub incidents: Rc<Incidents>,
    /// The node, while its process runs.
    model: RefCell<Option<Model>>,
    files: RefCell<Files>,
    observer: RefCell<Observer>,
    /// When its process ended last.
    ended: Cell<Duration>,
}

impl Life {
    /// What it has at an index of its log.
    pub fn held(&self, index: i64) -> Held {
        // While it is handling an event nobody asks.
        let Ok(model) = self.model.try_borrow() else {
            return Held::Unknown;
        };
        let Some(model) = model.as_ref() else {
            return Held::Unknown;
        };
        let log = model.log();
        let first = log.first().map_or(i64::MAX, |entry| entry.index);
        let Ok(place) = usize::try_from(index - first) else {
            return Held::Unknown;
        };
        log.get(place)
            .map_or(Held::Nothing, |entry| Held::Term(entry.term))
    }

    /// Whether it has not run for so long.
    pub fn is_away(&self, since: Duration) -> bool {
        let away = self.model.try_borrow().is_ok_and(|model| model.is_none());
        away && simulated::passed() >= self.ended.get() + since
    }

    /// The term in which it leads.
    pub fn leads(&self) -> Option<i64> {
        let model = self.model.try_borrow().ok()?;
        let model = model.as_ref()?;
        (model.state() == State::Leader && !model.is_dead()).then(|| model.term())
    }
}

/// A PySyncObj node.
pub struct DataNode(Rc<Life>);

impl DataNode {
    /// One that has never run.
    pub fn new(
        name: &str,
        config: Config,
        history: Rc<History>,
        registry: Rc<Registry>,
        incidents: Rc<Incidents>,
    ) -> Self {
        Self(Rc::new(Life {
            name: name.to_owned(),
            version: Cell::new(config.version),
            config,
            history,
            registry,
            incidents,
            model: RefCell::new(None),
            files: RefCell::default(),
            observer: RefCell::default(),
            ended: Cell::default(),
        }))
    }

    /// For who is to know it.
    pub fn life(&self) -> Rc<Life> {
        self.0.clone()
    }
}

impl Node for DataNode {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn address(&self) -> &Address {
        &self.0.config.address
    }

    fn start(&self, nodes: &mut Processes) {
        nodes
            .spawn(self.host(), process::run(self.0.clone()))
            .detach();
    }

    fn view(&self) -> Option<View> {
        let model = self.0.model.borrow();
        let model = model.as_ref().filter(|model| !model.is_dead())?;
        let number = |number: i64| u64::try_from(number).unwrap_or_default();
        let last = model.log().last();
        Some(View {
            members: model.members().chain([model.address()]).cloned().collect(),
            leads: (model.state() == State::Leader).then(|| number(model.term())),
            votes: true,
            commit: number(model.commit()),
            applied: number(model.applied()),
            end: last.map_or((0, 0), |last| (number(last.term), number(last.index))),
            store: store_of(model.data()),
            log_len: model.log().len(),
        })
    }

    fn vote_of(&self, line: &str) -> Option<(u64, String)> {
        let vote = line.strip_prefix(&format!("PYSYNCOBJ {}: votes for ", self.name()))?;
        let (candidate, term) = vote.split_once(" in term ")?;
        Some((term.parse().ok()?, candidate.to_owned()))
    }

    fn leads_of(&self, line: &str) -> Option<u64> {
        let term = line.strip_prefix(&format!("PYSYNCOBJ {}: leads, term ", self.name()))?;
        term.parse().ok()
    }

    fn may_vote_twice(&self) -> bool {
        let observer = self.0.observer.borrow();
        observer.forgets_terms(self.0.version.get())
    }

    fn disk(&self) -> Option<&SimulatedDisk> {
        None
    }

    fn dies(&self, power: bool) {
        if let Some(model) = self.0.model.take() {
            self.0.files.replace(model.files());
            self.0.ended.set(simulated::passed());
        }
        if power {
            simulated::network::power_off(self.host());
        }
    }

    fn backup(&self) -> Backup {
        let model = self.0.model.borrow();
        let files = model.as_ref().map(Model::files);
        Backup::Files(files.unwrap_or_else(|| self.0.files.borrow().clone()))
    }

    fn restore(&self, backup: &Backup) {
        if let Backup::Files(files) = backup {
            self.0.files.replace(files.clone());
            // Its term and vote are those of then.
            self.0.observer.borrow_mut().lost_meta = true;
        }
    }

    fn can_upgrade(&self) -> bool {
        self.0.version.get().next().is_some()
    }

    fn upgrade(&self) {
        let version = self.0.version.get();
        let Some(next) = version.next() else { return };
        journal::write(&format!("WORLD {} is {} now", self.0.name, next.text()));
        self.0.version.set(next);
        // What it finds was written by one that keeps no term.
        self.0.observer.borrow_mut().lost_meta |= !version.stores_term();
    }

    fn loses(&self, file: LostFile) -> bool {
        let mut files = self.0.files.borrow_mut();
        journal::write(&format!("WORLD {} has lost: {file:?}", self.0.name));
        let dumped = files.dump.is_some();
        match file {
            LostFile::All => *files = Files::default(),
            LostFile::Journal => files.journal = None,
            LostFile::Meta => files.meta = None,
            LostFile::Dump => files.dump = None,
        }
        let mut observer = self.0.observer.borrow_mut();
        observer.lost_meta |= matches!(file, LostFile::All | LostFile::Meta);
        // The log begins behind what is not applied, or the commit index is beyond it.
        if dumped && matches!(file, LostFile::Dump) || matches!(file, LostFile::Journal) {
            self.0.incidents.add(&self.0.name, Incident::LostState);
        }
        true
    }

    fn is_dead(&self) -> bool {
        let model = self.0.model.borrow();
        model.as_ref().is_some_and(Model::is_dead)
    }
}

fn store_of(data: &[(Value, Value)]) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    data.iter()
        .filter_map(|(key, stored)| Some((text(key)?, text(stored.get("value")?)?)))
        .collect()
}
