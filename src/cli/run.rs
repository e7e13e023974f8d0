//! `pg-witness run`: the witness itself, in the foreground.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::notify::ServiceNotifier;
use super::signals::{Signal, Signals};
use super::{Failure, diagnose};
use crate::config::{self, ClusterConfig, Config, ConfigSource, Env, HttpConfig, Source, reload};
use crate::disk::Worker;
use crate::http::{self, answer::Site};
use crate::limits;
use crate::logging;
use crate::member::Member;
use crate::member::error::StartError;
use crate::member::liveness::{Pulse, Vitals};
use crate::probe::{Prober, Target};
use crate::reactor::{self, Timer};
use crate::secret::Secret;
use crate::wire::Key;

/// How long the old password is accepted beside the new one after a reload: the
/// wire has no negotiation, so the nodes are changed one after the other.
const PASSWORD_WINDOW: Duration = Duration::from_secs(3600);

/// Shortest pause between two signs of life to the service manager.
const WATCH_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Pause before a cluster that could not start is tried again.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// Serves `config`, which came from `source`, until told to end.
pub fn main(config: Config, source: &ConfigSource) -> Result<(), Failure> {
    log::info!(
        "pg-witness {}, {}",
        env!("CARGO_PKG_VERSION"),
        config.source
    );
    if let Source::Demo = config.source {
        introduce(&config);
    }
    // A task of its own: what `block_on` is given is looked at after every event.
    reactor::block_on(reactor::spawn(serve(config, source.clone())))
}

/// What a stranger who started us without a configuration should know.
fn introduce(config: &Config) {
    let Some(cluster) = config.clusters.first() else {
        return;
    };
    log::info!(
        "nothing is configured: running a demonstration cluster of one on {}, its state in {}",
        cluster.self_addr,
        cluster.data_dir.display()
    );
    log::info!(
        "a Patroni node joins it with, in its YAML:  raft: {{data_dir: ..., self_addr: 127.0.0.1:2223, partner_addrs: ['{}']}}",
        cluster.self_addr
    );
}

async fn serve(config: Config, source: ConfigSource) -> Result<(), Failure> {
    let worker = Worker::start()
        .map_err(|error| Failure::Failed(format!("cannot start the disk's thread: {error}")))?;
    let notify = Rc::new(ServiceNotifier::new(&Env::of_process()));
    let mut witness = Witness {
        members: RunningMembers::new(Prober::new(&config.probe)),
        config: Rc::new(RefCell::new(config)),
        worker,
        notes: Rc::default(),
    };
    let http = witness.config.borrow().http.clone();
    let _served = http.map(|http| {
        let site = site(&witness, &http);
        reactor::spawn(http::server::serve(Rc::new(site), http.listen))
    });
    // Before the start, which takes seconds where a key is derived: a signal that
    // nobody listens for ends the process.
    let mut signals = Signals::listen()
        .map_err(|error| Failure::Failed(format!("cannot receive signals: {error}")))?;
    let mut reload_wanted = false;
    let start = async { Some(witness.start().await) };
    let told_to_end = async {
        ended_early(&mut signals, &mut reload_wanted).await;
        None
    };
    match smol::future::or(start, told_to_end).await {
        None => return Ok(()),
        Some(started) => started.map_err(|error| Failure::Failed(error.to_string()))?,
    }
    if reload_wanted {
        witness.reload(&source).await;
    }
    notify.ready();
    #[cfg(feature = "test-hooks")]
    reactor::spawn(stop_engines_when_told(witness.members.clone())).detach();
    let watched = reactor::spawn(watch_over(witness.members.vitals.clone(), notify.clone()));
    let told = async {
        witness.until_told(&mut signals, &source, &notify).await;
        Ok(())
    };
    let stopped = async { Err(watched.await) };
    // What stands still cannot be ended in good order either.
    if let Err(clusters) = smol::future::or(told, stopped).await {
        return Err(given_up(&clusters));
    }
    notify.stopping();
    let members = witness.members.running.take();
    for member in &members {
        member.member.stop();
    }
    for member in members {
        member.life.await;
    }
    Ok(())
}

/// Resolves when a signal ends the program before it has started; a reload that is
/// asked for meanwhile is noted.
async fn ended_early(signals: &mut Signals, reload_wanted: &mut bool) {
    loop {
        match signals.next().await {
            Signal::Reload => *reload_wanted = true,
            Signal::End(name) => {
                log::info!("ending: {name}");
                return;
            }
        }
    }
}

/// What is served of this witness.
fn site(witness: &Witness, http: &HttpConfig) -> Site {
    let running = witness.members.running.clone();
    let shared = witness.config.clone();
    let about = move || {
        let config = shared.borrow().clone();
        Box::pin(smol::unblock(move || diagnose::about(&config))) as Pin<Box<_>>
    };
    let config = witness.config.borrow();
    Site::new(
        http,
        config
            .clusters
            .iter()
            .map(|cluster| cluster.name.clone())
            .collect(),
        (witness.members.prober.clone(), config.probe.fresh()),
        move || running.borrow().iter().map(|r| r.member.clone()).collect(),
        witness.members.vitals.clone(),
    )
    .with_about(Box::new(about))
    .known_as(
        config
            .clusters
            .iter()
            .map(|c| c.self_addr.to_string())
            .collect(),
    )
    .with_notes(witness.notes.clone())
}

/// Tells the service manager that every cluster makes progress (`WatchdogSec=`),
/// and does not while one stands still. Returns which, when nobody has ended us
/// for it: then we do.
async fn watch_over(vitals: Rc<Vitals>, notify: Rc<ServiceNotifier>) -> Vec<Rc<str>> {
    let asked = notify.watchdog_period().unwrap_or(limits::PULSE_PERIOD);
    let pause = asked.clamp(WATCH_PAUSE_MIN, limits::PULSE_PERIOD);
    let mut stopped = Duration::ZERO;
    loop {
        let silent = vitals.silent();
        if silent.is_empty() {
            stopped = Duration::ZERO;
            notify.watchdog();
        } else {
            if stopped.is_zero() {
                log::error!("{}", standing_still(&silent));
            }
            stopped = stopped.saturating_add(pause);
            if stopped > limits::LAST_RESORT {
                return silent;
            }
        }
        Timer::after(pause).await;
        vitals.pass(pause);
    }
}

fn standing_still(clusters: &[Rc<str>]) -> String {
    let seconds = limits::ENGINE_SILENCE_MAX.as_secs();
    format!("no progress for {seconds} s in {}", clusters.join(", "))
}

fn given_up(clusters: &[Rc<str>]) -> Failure {
    let why = standing_still(clusters);
    Failure::Failed(format!("{why}; ending, in order to be started again"))
}

/// Only in the tests' program: its engines stand still this many milliseconds
/// after the start.
#[cfg(feature = "test-hooks")]
async fn stop_engines_when_told(members: RunningMembers) {
    let after = std::env::var("PG_WITNESS_STOP_ENGINES_AFTER_MS");
    let Some(after) = after.ok().and_then(|ms| ms.parse().ok()) else {
        return;
    };
    Timer::after(Duration::from_millis(after)).await;
    for Running { member, .. } in members.running.borrow().iter() {
        member.stop_engine_tasks();
    }
}

/// The members that run, and who asks their servers; a member that could not
/// start joins them later.
#[derive(Clone)]
struct RunningMembers {
    running: Rc<RefCell<Vec<Running>>>,
    prober: Prober,
    vitals: Rc<Vitals>,
}

struct Running {
    member: Rc<Member>,
    life: smol::Task<()>,
    /// Ended with it.
    _probing: smol::Task<()>,
}

impl RunningMembers {
    fn new(prober: Prober) -> Self {
        Self {
            running: Rc::default(),
            prober,
            vitals: Rc::default(),
        }
    }

    fn run(&self, member: Rc<Member>) {
        self.vitals.watch(member.pulse());
        let running = Running {
            life: reactor::spawn(member.clone().run()),
            _probing: reactor::spawn(probe(member.clone(), self.prober.clone())),
            member,
        };
        self.running.borrow_mut().push(running);
    }
}

/// Has the servers probed that a cluster's store names, as it changes.
async fn probe(member: Rc<Member>, prober: Prober) {
    loop {
        let changed = member.nodes_changed();
        let nodes = member.nodes();
        let targets = nodes.iter().filter_map(|node| {
            Some(Target {
                scope: node.scope.clone(),
                member: node.name.clone(),
                conn_url: node.conn_url.clone()?,
            })
        });
        prober.set_targets(&member.name, targets.collect());
        changed.await;
    }
}

struct Witness {
    /// Shared with who shows it.
    config: Rc<RefCell<Config>>,
    worker: Worker,
    members: RunningMembers,
    /// What `status` shows of the last reload, if not all of it took effect.
    notes: Rc<RefCell<Vec<String>>>,
}

async fn keys_of(passwords: impl IntoIterator<Item = Secret>) -> Vec<Arc<Key>> {
    let mut keys = Vec::new();
    for password in passwords {
        // Seconds on a small board; never on the thread that votes.
        keys.push(Arc::new(
            smol::unblock(move || Key::derive(&password)).await,
        ));
    }
    keys
}

async fn start(cluster: ClusterConfig, worker: Worker) -> Result<Rc<Member>, StartError> {
    let keys = keys_of(cluster.password.clone()).await;
    Member::start(cluster, keys, &worker).await
}

impl Witness {
    /// Starts every cluster. One that cannot start does not hold up the others;
    /// if none can, the first error is returned.
    async fn start(&mut self) -> Result<(), StartError> {
        let clusters = self.config.borrow().clusters.clone();
        let starts: Vec<_> = clusters
            .iter()
            .map(|c| {
                (
                    c.clone(),
                    reactor::spawn(start(c.clone(), self.worker.clone())),
                )
            })
            .collect();
        let mut first_error = None;
        for (cluster, started) in starts {
            match started.await {
                Ok(member) => self.members.run(member),
                Err(error) => {
                    log::error!("{}: {error}", cluster.name);
                    first_error.get_or_insert(error);
                    let retry = retry(cluster, self.worker.clone(), self.members.clone());
                    reactor::spawn(retry).detach();
                }
            }
        }
        match first_error {
            Some(error) if self.members.running.borrow().is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// Serves signals until one ends the program.
    async fn until_told(
        &mut self,
        signals: &mut Signals,
        source: &ConfigSource,
        notify: &ServiceNotifier,
    ) {
        loop {
            match signals.next().await {
                Signal::Reload => {
                    notify.reloading();
                    self.reload(source).await;
                    notify.ready();
                }
                Signal::End(name) => {
                    log::info!("ending: {name}");
                    return;
                }
            }
        }
    }

    /// SIGHUP: takes over what can be changed in a running witness and says
    /// what cannot.
    async fn reload(&mut self, source: &ConfigSource) {
        let new = match config::load(source, &Env::of_process()) {
            Ok(new) => new,
            Err(error) => {
                log::error!("not reloaded: {error}");
                let note = format!("The configuration was not reloaded: {error}");
                *self.notes.borrow_mut() = vec![note];
                return;
            }
        };
        let plan = reload(&self.config.borrow(), &new);
        for refused in &plan.refused {
            log::warn!("not reloaded: {refused}");
        }
        *self.notes.borrow_mut() = plan.notes();
        if let Some(level) = plan.level {
            logging::set_level(level);
        }
        if let Some(probe) = &plan.probe {
            self.members.prober.configure(probe);
        }
        for (name, password) in &plan.passwords {
            let member = {
                let members = self.members.running.borrow();
                let found = members.iter().find(|r| *r.member.name == **name);
                found.map(|r| r.member.clone())
            };
            let Some(member) = member else { continue };
            let keys = keys_of([password.clone()]).await;
            member.change_keys(keys, PASSWORD_WINDOW);
        }
        log::info!("configuration reloaded{}", plan.except());
        plan.put_in_force(&mut self.config.borrow_mut());
    }
}

/// Goes on trying to start a cluster whose state cannot be opened.
async fn retry(cluster: ClusterConfig, worker: Worker, members: RunningMembers) {
    // Whoever tries makes progress; an attempt that never ends is none.
    let pulse = Rc::new(Pulse::new(cluster.name.as_str().into()));
    members.vitals.watch(&pulse);
    loop {
        Timer::after(RESTART_PAUSE).await;
        pulse.beat();
        if let Ok(member) = start(cluster.clone(), worker.clone()).await {
            members.run(member);
            return;
        }
    }
}
