//! A member's life: from the disk to the last byte.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;

use super::error::StartError;
use super::liveness::Pulse;
use super::parts::{Counts, Forwarded, Machinery, Newcomers, Servers, Sockets};
use super::{Member, RebuildReason, timer};
use crate::config::{ClusterConfig, Election};
use crate::disk::{Condition, Recovered, Standing, Worker};
use crate::election::Elector;
use crate::limits;
use crate::raft::engine::{Engine, Role};
use crate::raft::replica::{self, Replica};
use crate::raft::types::Members;
use crate::reactor::{self, Instant, TcpListener, Timer};
use crate::wire::Key;

/// How long the partners are asked who the members are, when our own disk does
/// not know (spec 8.3).
const MEMBERS_WAIT: Duration = Duration::from_millis(1500);

impl Member {
    /// Opens the cluster's state and starts everything. `keys` are derived from
    /// the cluster's password, the preferred one first; none means no password.
    pub async fn start(
        config: ClusterConfig,
        keys: Vec<Arc<Key>>,
        worker: &Worker,
    ) -> Result<Rc<Self>, StartError> {
        let name: Rc<str> = config.name.as_str().into();
        let me = config.self_addr.clone();
        let (disk, recovered) = replica::open(&config.data_dir, worker).await?;
        report_condition(&name, &recovered);
        let lost = recovered.set_aside;
        let fresh = recovered.checkpoint.is_none() && recovered.entries.is_empty();
        let members = configured_members(&config);
        let changed = Rc::new(Event::new());
        let replica = Replica::new(
            me.clone(),
            members,
            disk,
            recovered,
            changed.clone(),
            Instant::now(),
        )
        .map_err(StartError::Checkpoint)?;
        let member = Rc::new(Self {
            pulse: Rc::new(Pulse::new(name.clone())),
            name,
            me,
            elector: Elector::new(timer::begin(election_timeouts(&config))),
            config,
            keys: RefCell::new(keys.into_iter().take(limits::PASSWORDS_MAX).collect()),
            worker: worker.clone(),
            replica: Rc::new(RefCell::new(replica)),
            changed,
            leadership: RefCell::default(),
            peers_changed: Event::new(),
            accepted: Cell::new(Instant::now()),
            sockets: Sockets::default(),
            machinery: Machinery::default(),
            newcomers: Newcomers::default(),
            forwarded: Forwarded::default(),
            servers: Servers::default(),
            counts: Counts::default(),
            other_group: Cell::default(),
            quota: RefCell::default(),
            started: Instant::now(),
        });
        if fresh || member.own_state().has_yet_to_begin() {
            member.found(configured_members(&member.config)).await?;
        }
        member.begin_recovery(lost);
        if member.is_recovering()
            && let Some((leader, reply)) = member.find_leader(MEMBERS_WAIT).await
        {
            member.read_members(&leader, &reply).await;
        }
        member.compare_partners();
        // Before the first vote.
        member.consider_placement();
        member.start_engine().await?;
        Ok(member)
    }

    pub(super) async fn stop_engine(&self) {
        let engine = self.machinery.engine.borrow_mut().take();
        if let Some(engine) = engine {
            engine.stop().await;
        }
    }

    pub(super) async fn start_engine(self: &Rc<Self>) -> Result<(), StartError> {
        let engine = Engine::start(self.replica.clone(), self.name.clone(), self.clone())
            .await
            .map_err(StartError::Engine)?;
        *self.machinery.engine.borrow_mut() = Some(Rc::new(engine));
        self.restart_timer();
        self.notify();
        Ok(())
    }

    /// Runs until [`Member::stop`].
    pub async fn run(self: Rc<Self>) {
        let tasks = [
            reactor::spawn(self.clone().listen_for_ever()),
            reactor::spawn(self.clone().watch_role()),
            reactor::spawn(self.clone().replicate()),
            reactor::spawn(self.clone().tick()),
            reactor::spawn(self.clone().campaign_when_due()),
            reactor::spawn(self.clone().join()),
            reactor::spawn(self.clone().watch_self_addr()),
            reactor::spawn(self.clone().watch_silence()),
            reactor::spawn(self.clone().monitor_engine()),
        ];
        self.supervise().await;
        for task in tasks {
            task.cancel().await;
        }
        self.hang_up();
        self.stop_engine().await;
        let closed = self.replica.borrow().disk.close();
        if let Err(error) = closed.await {
            log::error!("{}: {error}", self.name);
        }
    }

    /// Ends [`Member::run`].
    pub fn stop(&self) {
        self.machinery.stopping.set(true);
        self.machinery.reported.notify(usize::MAX);
    }

    /// Takes another password, at once and for all that we dial. The old one is
    /// accepted, and tried where the new one is refused, for `window`.
    pub fn change_keys(self: &Rc<Self>, keys: Vec<Arc<Key>>, window: Duration) {
        let old = self.keys.borrow().clone();
        let new = keys.into_iter().chain(old.iter().cloned());
        *self.keys.borrow_mut() = new.take(limits::PASSWORDS_MAX).collect();
        log::info!(
            "{}: password changed; the old one is accepted for {} minutes",
            self.name,
            window.as_secs() / 60
        );
        let member = Rc::downgrade(self);
        reactor::spawn(async move {
            Timer::after(window).await;
            if let Some(member) = member.upgrade() {
                let is_old = |key: &Arc<Key>| old.iter().any(|old| Arc::ptr_eq(old, key));
                member.keys.borrow_mut().retain(|key| !is_old(key));
                log::info!("{}: the old password is no longer accepted", member.name);
            }
        })
        .detach();
    }

    async fn listen_for_ever(self: Rc<Self>) {
        let (ip, port) = self.bind_address().await;
        let mut reported = false;
        let listener = loop {
            match TcpListener::bind((ip, port).into()) {
                Ok(listener) => break listener,
                Err(error) => {
                    let error = format!("cannot listen on {ip}:{port}: {error}");
                    if !std::mem::replace(&mut reported, true) {
                        log::error!("{}: {error}; retrying every second", self.name);
                    }
                    *self.sockets.listen_error.borrow_mut() = Some(error.into());
                    Timer::after(Duration::from_secs(1)).await;
                }
            }
        };
        self.sockets.listen_error.take();
        log::info!("{}: listening on {ip}:{port} as {}", self.name, self.me);
        self.accept(listener).await;
    }

    /// Where to listen: `bind_addr`, or the port of `self_addr` on all
    /// addresses of its family (spec 1.1).
    async fn bind_address(&self) -> (IpAddr, u16) {
        let bind = self.config.bind();
        loop {
            let found = reactor::resolve(&bind.host, bind.port).await;
            if let Some(found) = found.ok().and_then(|found| found.into_iter().next()) {
                return (found.ip(), found.port());
            }
            log::error!(
                "{}: bind_addr {} has no address; retrying",
                self.name,
                bind.host
            );
            Timer::after(Duration::from_secs(1)).await;
        }
    }

    /// Follows what openraft thinks of itself.
    async fn watch_role(self: Rc<Self>) {
        loop {
            let Some(engine) = self.engine() else {
                self.changed.listen().await;
                continue;
            };
            let changed = engine.changes();
            let leading = self.leadership.borrow().as_ref().map(|l| l.term);
            let elected = (engine.role() == Role::Leader).then(|| engine.plain_term());
            if leading != elected {
                self.stop_leading();
                if let Some(term) = elected {
                    self.start_leading(term);
                }
            }
            if let Err(error) = engine.running() {
                self.report(RebuildReason::Stopped(error.to_string()));
                self.changed.listen().await;
                continue;
            }
            drop(engine);
            let rebuilt = self.changed.listen();
            smol::future::or(changed, rebuilt).await;
        }
    }

    /// Sends what the log and the clock make due, while we lead.
    async fn replicate(self: Rc<Self>) {
        let mut members_seen = Members::new();
        loop {
            let changed = self.changed.listen();
            let members_changed = *self.replica.borrow().log.members() != members_seen;
            if members_changed {
                let now = self.replica.borrow().log.members().clone();
                self.report_members(&members_seen, &now);
                if !members_seen.is_empty() {
                    self.on_members_changed(&members_seen, &now);
                }
                members_seen = now;
                self.sync_links();
            }
            match self.pump() {
                Some(at) => {
                    let timer = async {
                        Timer::at(at).await;
                    };
                    smol::future::or(changed, timer).await;
                }
                None => changed.await,
            }
        }
    }

    /// Says who has become a member and who is none any more; nothing of the first
    /// list after a start.
    fn report_members(&self, before: &Members, now: &Members) {
        if before.is_empty() {
            return;
        }
        for address in now.difference(before) {
            log::warn!("{}: new member {address}; {} members", self.name, now.len());
        }
        for address in before.difference(now) {
            log::warn!(
                "{}: member removed: {address}; {} members",
                self.name,
                now.len()
            );
        }
    }
}

pub(super) fn report_condition(name: &str, recovered: &Recovered) {
    match &recovered.condition {
        Condition::Fresh | Condition::Intact => {}
        Condition::SetAside { folder } => log::info!(
            "{name}: an earlier state was set aside; it is kept in {}",
            folder.display()
        ),
        Condition::TornTail { bytes } => log::info!(
            "{name}: the last {bytes} bytes of the log were not written whole, as a power cut leaves them; they were never acknowledged"
        ),
        Condition::Damaged { what, set_aside } => log::error!(
            "{name}: the state on disk cannot be used: {what}. It is kept in {}; this witness starts without it and does not vote until that is safe",
            set_aside.display()
        ),
    }
    if recovered.is_without_state() {
        return;
    }
    if let Some(hard_state) = &recovered.hard_state {
        let standing = match hard_state.standing {
            Standing::Voter => "a voter",
            Standing::Recovering => "not a voter yet",
            Standing::Orphaned => "of a cluster that was made anew without it",
        };
        log::info!("{name}: state found, term {}, {standing}", hard_state.term);
    } else if recovered.checkpoint.is_some() {
        log::info!("{name}: state found, not a voter yet");
    }
}

pub(super) fn configured_members(config: &ClusterConfig) -> Members {
    config
        .partner_addrs
        .iter()
        .cloned()
        .chain([config.self_addr.clone()])
        .collect()
}

/// What the time without a leader is drawn from.
fn election_timeouts(config: &ClusterConfig) -> RangeInclusive<Duration> {
    let factor = match config.election {
        Election::Reluctant => 3,
        Election::Equal => 1,
    };
    config.timing.min_timeout * factor..=config.timing.max_timeout * factor
}
