//! Who is asked, and what was learned of each.
//!
//! Each server has one task, which asks it on its schedule; members, of one or
//! of several clusters, that have the same hosts share it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use event_listener::Event;
use rand::RngExt as _;
use smol::lock::Semaphore;

use super::ask::{Asked, Desk, Question};
use super::conn_url::{self, Host, UrlError};
use super::conversation::Identity;
use super::schedule::{Schedule, ServerTally};
use super::{Acceptance, Health, MemberReport, ProbeAnswer, Report, ServerError, Target};
use crate::config::{LoginHost, ProbeConfig, shown};
use crate::limits;
use crate::reactor::{self, Instant, Timer};

/// Asks the servers of all clusters, each on its own schedule and never twice at
/// once. A handle: clones share one prober. With its last handle all probing
/// ends.
#[derive(Clone)]
pub struct Prober {
    inner: Rc<Inner>,
}

struct Inner {
    settings: RefCell<Settings>,
    clusters: RefCell<BTreeMap<Rc<str>, Vec<Asking>>>,
    /// By their hosts; those that no cluster names any more are gone.
    servers: RefCell<BTreeMap<Vec<Host>, Weak<Server>>>,
    desk: Desk,
    turns: Semaphore,
}

struct Settings {
    enabled: bool,
    schedule: Schedule,
    timeout: Duration,
    identity: Rc<Identity>,
    login_to: Rc<[LoginHost]>,
}

/// A member, and the server that it names.
struct Asking {
    target: Target,
    server: Result<Rc<Server>, UrlError>,
}

struct Server {
    hosts: Vec<Host>,
    report: RefCell<Report>,
    /// Probes that began, and that ended, since the start.
    begun: Cell<u64>,
    ended: Cell<u64>,
    /// To be asked at once, though its time has not come.
    wanted: Cell<bool>,
    kick: Event,
    done: Event,
    task: RefCell<Option<smol::Task<()>>>,
}

impl From<&ProbeConfig> for Settings {
    fn from(config: &ProbeConfig) -> Self {
        Self {
            enabled: config.enabled,
            schedule: Schedule {
                interval: config.interval,
                retry_pause: config.retry_pause,
                tries: config.tries,
            },
            timeout: config.timeout,
            identity: Rc::new(Identity {
                user: config.user.clone(),
                database: config.database.clone(),
                password: config.password.clone(),
                md5: config.md5,
            }),
            login_to: config.login_to.as_slice().into(),
        }
    }
}

impl Default for Prober {
    fn default() -> Self {
        Self::new(&ProbeConfig::default())
    }
}

impl Prober {
    /// Probes as configured; switched off it keeps the targets and asks nobody.
    pub fn new(config: &ProbeConfig) -> Self {
        let inner = Inner {
            settings: RefCell::new(config.into()),
            clusters: RefCell::default(),
            servers: RefCell::default(),
            desk: Desk::default(),
            turns: Semaphore::new(limits::PROBES_AT_ONCE),
        };
        Self {
            inner: Rc::new(inner),
        }
    }

    /// Probes as configured anew, at once.
    pub fn configure(&self, config: &ProbeConfig) {
        *self.inner.settings.borrow_mut() = config.into();
        for server in self.inner.servers() {
            if !config.enabled {
                server.forget();
                server.done.notify(usize::MAX);
            }
            server.ask_soon();
        }
    }

    /// Replaces the servers of `cluster`; those that stay keep what is known of
    /// them. Beyond [`limits::PROBE_MEMBERS_MAX`] and
    /// [`limits::PROBE_SERVERS_MAX`] the rest is left out, with a line in the
    /// log. No targets: the cluster is forgotten.
    pub fn set_targets(&self, cluster: &str, mut targets: Vec<Target>) {
        if targets.len() > limits::PROBE_MEMBERS_MAX {
            log::warn!(
                "{cluster}: {} PostgreSQL servers are named; only {} of them are probed",
                targets.len(),
                limits::PROBE_MEMBERS_MAX
            );
            targets.truncate(limits::PROBE_MEMBERS_MAX);
        }
        let mut asking: Vec<Asking> = Vec::with_capacity(targets.len());
        for target in targets {
            let server = match conn_url::hosts(&target.conn_url) {
                Ok(hosts) => match self.server(hosts) {
                    Some(server) => Ok(server),
                    None => continue,
                },
                Err(error) => Err(error),
            };
            asking.push(Asking { target, server });
        }
        let old = if asking.is_empty() {
            self.inner.clusters.borrow_mut().remove(cluster)
        } else {
            let mut clusters = self.inner.clusters.borrow_mut();
            clusters.insert(cluster.into(), asking)
        };
        // The last of a server ends its task.
        drop(old);
        let mut servers = self.inner.servers.borrow_mut();
        servers.retain(|_, server| server.strong_count() > 0);
    }

    /// What is known of the servers of `cluster`, by scope and member.
    pub fn reports(&self, cluster: &str) -> Vec<MemberReport> {
        let clusters = self.inner.clusters.borrow();
        let mut reports: Vec<MemberReport> = clusters
            .get(cluster)
            .into_iter()
            .flatten()
            .map(|asking| MemberReport {
                scope: asking.target.scope.clone(),
                member: asking.target.member.clone(),
                report: asking.report(),
            })
            .collect();
        reports.sort_by(|a, b| (&a.scope, &a.member).cmp(&(&b.scope, &b.member)));
        reports
    }

    /// Asks all servers of `cluster` now; resolves when each has been asked
    /// after this call. Dropped, the probes go on. Switched off, it resolves at
    /// once.
    pub async fn probe_now(&self, cluster: &str) {
        if !self.inner.settings.borrow().enabled {
            return;
        }
        let servers: Vec<Weak<Server>> = {
            let clusters = self.inner.clusters.borrow();
            let all = clusters.get(cluster).into_iter().flatten();
            let servers = all.filter_map(|asking| asking.server.as_ref().ok());
            servers.map(Rc::downgrade).collect()
        };
        let marks: Vec<u64> = servers
            .iter()
            .map(|server| {
                server.upgrade().map_or(0, |server| {
                    server.ask_soon();
                    // The one that runs began before we asked.
                    server.begun.get().saturating_add(1)
                })
            })
            .collect();
        for (server, mark) in servers.iter().zip(marks) {
            loop {
                // One that is not named any more needs no answer.
                let enabled = self.inner.settings.borrow().enabled;
                let Some(listener) = server.upgrade().and_then(|server| {
                    let listener = server.done.listen();
                    (enabled && server.ended.get() < mark).then_some(listener)
                }) else {
                    break;
                };
                listener.await;
            }
        }
    }

    /// The server with these hosts; none if there are too many.
    fn server(&self, hosts: Vec<Host>) -> Option<Rc<Server>> {
        let mut servers = self.inner.servers.borrow_mut();
        if let Some(known) = servers.get(&hosts).and_then(Weak::upgrade) {
            return Some(known);
        }
        if servers.len() >= limits::PROBE_SERVERS_MAX {
            log::warn!(
                "more than {} PostgreSQL servers are named; the rest is not probed",
                limits::PROBE_SERVERS_MAX
            );
            return None;
        }
        let name = hosts.first().map_or(String::new(), Host::to_string);
        let server = Rc::new(Server {
            hosts: hosts.clone(),
            report: RefCell::new(Report::unknown(name.as_str().into())),
            begun: Cell::new(0),
            ended: Cell::new(0),
            wanted: Cell::new(true),
            kick: Event::new(),
            done: Event::new(),
            task: RefCell::new(None),
        });
        let task = reactor::spawn(watch(Rc::downgrade(&self.inner), Rc::downgrade(&server)));
        *server.task.borrow_mut() = Some(task);
        servers.insert(hosts, Rc::downgrade(&server));
        Some(server)
    }
}

impl Asking {
    fn report(&self) -> Report {
        match &self.server {
            Ok(server) => server.report.borrow().clone(),
            Err(error) => Report {
                answer: Some(ProbeAnswer::NoTarget(error.to_string().into())),
                ..Report::unknown("".into())
            },
        }
    }
}

impl Server {
    fn ask_soon(&self) {
        self.wanted.set(true);
        self.kick.notify(usize::MAX);
    }

    fn forget(&self) {
        let mut report = self.report.borrow_mut();
        *report = Report::unknown(report.target.clone());
    }

    /// Resolves when it is to be asked; at `due`, or before.
    async fn turn(server: &Weak<Self>, due: Option<Instant>) {
        loop {
            let Some(kicked) = server.upgrade().and_then(|server| {
                let kicked = server.kick.listen();
                (!server.wanted.get()).then_some(kicked)
            }) else {
                return;
            };
            let Some(due) = due else {
                kicked.await;
                continue;
            };
            let kicked = async {
                kicked.await;
                false
            };
            let is_due = async {
                Timer::at(due).await;
                true
            };
            if smol::future::or(kicked, is_due).await {
                return;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Who waits for its answer waits no longer.
        self.done.notify(usize::MAX);
    }
}

/// Asks one server for as long as a cluster names it.
async fn watch(inner: Weak<Inner>, server: Weak<Server>) {
    let mut tally = ServerTally::NEW;
    let mut due = None;
    let mut first = true;
    loop {
        Server::turn(&server, due).await;
        let (Some(inner), Some(server)) = (inner.upgrade(), server.upgrade()) else {
            return;
        };
        server.wanted.set(false);
        if !inner.settings.borrow().enabled {
            (tally, due) = (ServerTally::NEW, None);
            continue;
        }
        // Its memory is needed while it runs, and not in between.
        let (began, ended) = Box::pin(probe(&inner, &server, &mut tally)).await;
        let schedule = inner.settings.borrow().schedule;
        let mut next = tally.next(&schedule, began, ended);
        if std::mem::take(&mut first) && tally.health == Health::Healthy {
            // What was found together need not be asked together for ever.
            let sooner = schedule
                .interval
                .mul_f64(reactor::rng().random_range(0.0..0.5));
            next = next.checked_sub(sooner).unwrap_or(next);
        }
        due = Some(next);
    }
}

/// One probe, with what follows from it: when it began and ended.
async fn probe(inner: &Inner, server: &Server, tally: &mut ServerTally) -> (Instant, Instant) {
    let _turn = inner.turns.acquire().await;
    let (schedule, question) = {
        let settings = inner.settings.borrow();
        let question = Question {
            identity: settings.identity.clone(),
            login_to: settings.login_to.clone(),
            timeout: settings.timeout,
        };
        (settings.schedule, question)
    };
    server.wanted.set(false);
    server.begun.set(server.begun.get().saturating_add(1));
    let began = Instant::now();
    let asked = inner.desk.ask(&server.hosts, &question).await;
    let ended = Instant::now();
    if inner.settings.borrow().enabled {
        let before = tally.health;
        match &asked.answer {
            // Who was not asked has not failed.
            ProbeAnswer::NoTarget(_) => *tally = ServerTally::NEW,
            answer => tally.add(&schedule, answer.is_accepting(), began),
        }
        server.note(&asked, tally, ended);
        if tally.health != before {
            inner.tell(server, before);
        }
    }
    server.ended.set(server.ended.get().saturating_add(1));
    server.done.notify(usize::MAX);
    (began, ended)
}

impl Server {
    fn note(&self, asked: &Asked, tally: &ServerTally, ended: Instant) {
        let mut report = self.report.borrow_mut();
        if report.health != tally.health {
            report.since = Some(ended);
        }
        *report = Report {
            target: asked.host.to_string().into(),
            asked: Some(ended),
            latency: asked.latency.or(report.latency),
            answer: Some(asked.answer.clone()),
            login: asked.login.clone(),
            tries: tally.tries,
            health: tally.health,
            since: report.since,
        };
    }
}

impl Inner {
    fn servers(&self) -> Vec<Rc<Server>> {
        let servers = self.servers.borrow();
        servers.values().filter_map(Weak::upgrade).collect()
    }

    /// One line for each member whose server has changed its health.
    fn tell(&self, server: &Server, before: Health) {
        let report = server.report.borrow();
        let Some(answer) = &report.answer else { return };
        let clusters = self.clusters.borrow();
        for (cluster, asking) in clusters.iter() {
            for asking in asking {
                let same = asking
                    .server
                    .as_ref()
                    .is_ok_and(|s| std::ptr::eq(&**s, server));
                if !same {
                    continue;
                }
                let who = format!(
                    "{cluster}: PostgreSQL of {} at {}",
                    shown(&asking.target.member),
                    report.target
                );
                match report.health {
                    Health::Healthy => log::info!("{who} accepts connections ({answer})"),
                    Health::Suspect if before == Health::Unhealthy => {}
                    Health::Suspect => log::info!("{who}: {answer}; asking again"),
                    Health::Unhealthy => log::warn!(
                        "{who} accepts no connections: {answer} (asked {} times)",
                        report.tries
                    ),
                    Health::Unknown => {}
                }
            }
        }
    }
}

impl std::fmt::Display for ProbeAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accepting(Acceptance::Authentication(method)) => write!(f, "asked for {method}"),
            Self::Accepting(Acceptance::Error(error))
            | Self::TooManyConnections(error)
            | Self::StartingUp(error)
            | Self::ShuttingDown(error)
            | Self::NotAccepting(error) => error.fmt(f),
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Silent { connected: false } => f.write_str("no connection in time"),
            Self::Silent { connected: true } => f.write_str("connected, but no answer"),
            Self::NotPostgres(why) => write!(f, "no PostgreSQL: {why}"),
            Self::NoTarget(why) => f.write_str(why),
        }
    }
}

impl std::fmt::Display for super::AuthMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Trust => f.write_str("no password"),
            Self::Cleartext => f.write_str("a password in clear text"),
            Self::Md5 => f.write_str("MD5"),
            Self::Scram => f.write_str("SCRAM-SHA-256"),
            Self::Other(code) => write!(f, "authentication {code}"),
        }
    }
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.sqlstate.is_empty() {
            write!(f, "{} ", self.sqlstate)?;
        }
        f.write_str(&self.message)?;
        match &self.detail {
            Some(detail) => write!(f, " {detail}"),
            None => Ok(()),
        }
    }
}
