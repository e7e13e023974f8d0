//! `pg-witness run`: the witness itself, in the foreground.

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_signal::{Signal, Signals};
use futures_lite::StreamExt;

use super::notify;
use crate::config::{ClusterConfig, Config, ConfigSource, Source, reload};
use crate::disk::Worker;
use crate::member::Member;
use crate::member::run::StartError;
use crate::raft::runtime;
use crate::wire::Secret;
use crate::wire::seal::Key;

/// How long the old password is accepted beside the new one after a reload: the
/// wire has no negotiation, so the nodes are changed one after the other.
const PASSWORD_WINDOW: Duration = Duration::from_secs(3600);

/// Pause before a cluster that could not start is tried again.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// Runs until it is told to end.
pub fn main(source: &ConfigSource) -> ExitCode {
    let config = match Config::load(source) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("pg-witness: {error}");
            return ExitCode::from(2);
        }
    };
    crate::logging::start(&config.log);
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    log::info!("pg-witness {}", env!("CARGO_PKG_VERSION"));
    if let Source::Demo = config.source {
        introduce(&config);
    }
    runtime::block_on(serve(config, source))
}

/// What a stranger who started us without a configuration should know.
fn introduce(config: &Config) {
    let Some(cluster) = config.clusters.first() else { return };
    log::info!(
        "nothing is configured: running a demonstration cluster of one on {}, its state in {}",
        cluster.self_addr,
        cluster.data_dir.display()
    );
    log::info!(
        "a Patroni node joins it with, in its YAML:  raft: {{data_dir: ..., self_addr: \
         127.0.0.1:2223, partner_addrs: ['{}']}}",
        cluster.self_addr
    );
}

async fn serve(config: Config, source: &ConfigSource) -> ExitCode {
    let worker = match Worker::start() {
        Ok(worker) => worker,
        Err(error) => {
            log::error!("cannot start the disk's thread: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut witness = Witness { config, worker: Rc::new(worker), members: Vec::new() };
    if let Err(error) = witness.start().await {
        log::error!("{error}");
        return ExitCode::FAILURE;
    }
    notify::ready();
    let ended = witness.until_told(source).await;
    notify::stopping();
    for (member, _) in &witness.members {
        member.stop();
    }
    for (_, running) in witness.members {
        running.await;
    }
    ended
}

struct Witness {
    config: Config,
    worker: Rc<Worker>,
    members: Vec<(Rc<Member>, smol::Task<()>)>,
}

async fn keys_of(passwords: impl IntoIterator<Item = Secret>) -> Vec<Arc<Key>> {
    let mut keys = Vec::new();
    for password in passwords {
        // Seconds on a small board; never on the thread that votes.
        keys.push(Arc::new(smol::unblock(move || Key::derive(&password)).await));
    }
    keys
}

async fn start(cluster: ClusterConfig, worker: Rc<Worker>) -> Result<Rc<Member>, StartError> {
    let keys = keys_of(cluster.password.clone()).await;
    Member::start(cluster, keys, &worker).await
}

impl Witness {
    /// Starts every cluster. One that cannot start does not hold up the others;
    /// if none can, the first error is returned.
    async fn start(&mut self) -> Result<(), StartError> {
        let starts: Vec<_> = self
            .config
            .clusters
            .iter()
            .map(|c| (c.clone(), runtime::spawn(start(c.clone(), self.worker.clone()))))
            .collect();
        let mut first_error = None;
        for (cluster, started) in starts {
            match started.await {
                Ok(member) => self.run(member),
                Err(error) => {
                    log::error!("{}: {error}", cluster.name);
                    first_error.get_or_insert(error);
                    let retry = retry(cluster, self.worker.clone());
                    runtime::spawn(retry).detach();
                }
            }
        }
        match first_error {
            Some(error) if self.members.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    fn run(&mut self, member: Rc<Member>) {
        let running = runtime::spawn(member.clone().run());
        self.members.push((member, running));
    }

    /// Serves signals until one ends the program.
    async fn until_told(&mut self, source: &ConfigSource) -> ExitCode {
        let mut signals = match Signals::new([Signal::Term, Signal::Int, Signal::Hup]) {
            Ok(signals) => signals,
            Err(error) => {
                log::error!("cannot receive signals: {error}");
                return ExitCode::FAILURE;
            }
        };
        loop {
            match signals.next().await {
                Some(Ok(Signal::Hup)) => self.reload(source).await,
                Some(Ok(signal)) => {
                    log::info!("ending: {signal:?}");
                    return ExitCode::SUCCESS;
                }
                Some(Err(error)) => log::error!("cannot receive a signal: {error}"),
                None => return ExitCode::FAILURE,
            }
        }
    }

    /// SIGHUP: takes over what can be changed in a running witness and says
    /// what cannot.
    async fn reload(&mut self, source: &ConfigSource) {
        let new = match Config::load(source) {
            Ok(new) => new,
            Err(error) => {
                log::error!("not reloaded: {error}");
                return;
            }
        };
        let plan = reload(&self.config, &new);
        for refused in &plan.refused {
            log::warn!("not reloaded: {refused}; restart pg-witness for it");
        }
        if let Some(level) = plan.level {
            log::set_max_level(level);
        }
        for (name, password) in plan.passwords {
            let member = self.members.iter().find(|(member, _)| *member.name == *name);
            let Some((member, _)) = member else { continue };
            let member = member.clone();
            let keys = keys_of(password).await;
            member.change_keys(keys, PASSWORD_WINDOW);
        }
        log::info!("configuration reloaded");
        self.config = new;
    }
}

/// Goes on trying to start a cluster whose state cannot be opened.
async fn retry(cluster: ClusterConfig, worker: Rc<Worker>) {
    loop {
        smol::Timer::after(RESTART_PAUSE).await;
        if let Ok(member) = start(cluster.clone(), worker.clone()).await {
            member.run().await;
            return;
        }
    }
}
