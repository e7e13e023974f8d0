//! One probe, from the name to the goodbye: the I/O around a [`Conversation`].

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use event_listener::Event;
use smol::lock::Semaphore;

use super::conn_url::Host;
use super::conversation::{Conversation, Identity, Outcome, ProbeStep};
use super::{Login, ProbeAnswer};
use crate::config::LoginHost;
use crate::limits;
use crate::reactor::{self, Instant, TcpStream, Timer};

/// Bytes read at once.
const READ_BYTES: usize = 1024;

/// Keepalive on a probe's socket: after a second of silence, each second, three
/// times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(1), Duration::from_secs(1), 3);

/// What one probe came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The host that gave the answer.
    pub host: Host,
    /// What it was.
    pub answer: ProbeAnswer,
    /// What came of logging in.
    pub login: Option<Login>,
    /// From the beginning of the connection to the answer; none without one.
    pub latency: Option<Duration>,
}

/// How a server is asked.
///
/// Whom the store names is asked, wherever that is: a replica need not be a member of
/// the Raft group, so nothing else knows its host. Who can write to the store has the
/// data nodes in hand already, as Patroni runs the commands that stand there, and
/// learns from a probe only whether a port of this network is open. One thing would
/// be new: what is reachable from this host alone, such as its loopback or a cloud's
/// metadata service. No other host's server is at such an address, so it is asked
/// only where the configuration says that the cluster is there.
pub struct Question {
    /// As whom.
    pub identity: Rc<Identity>,
    /// Where it may log in; elsewhere it asks without its password.
    pub login_to: Rc<[LoginHost]>,
    /// For each host.
    pub timeout: Duration,
}

impl Question {
    fn may_log_in(&self, host: &Host, address: IpAddr) -> bool {
        self.login_to
            .iter()
            .any(|known| known.is(&host.name, address))
    }

    fn may_ask(&self, host: &Host, address: IpAddr) -> bool {
        let on_one_host = || self.login_to.iter().any(LoginHost::is_loopback);
        !is_each_hosts_own(address)
            || (address.to_canonical().is_loopback() && on_one_host())
            || self.may_log_in(host, address)
    }
}

/// Whether the address leads every host to itself or to a place of its own, or to no
/// single one.
fn is_each_hosts_own(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_unspecified()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
        }
    }
}

/// Said in the place of an answer where nobody is asked.
const NOT_ASKED: &str = "not asked: each host has this address for itself, and neither \
                         partner_addrs nor probe.allow names it";

/// What all probes of a process share, so that it stays within its bounds and
/// never asks one server twice at once, under whatever names it is known.
pub struct Desk {
    busy: std::cell::RefCell<BTreeSet<SocketAddr>>,
    left: Event,
    resolutions: std::sync::Arc<Semaphore>,
    derivations: Semaphore,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            busy: Default::default(),
            left: Event::new(),
            resolutions: std::sync::Arc::new(Semaphore::new(limits::RESOLUTIONS_AT_ONCE)),
            // The rounds that a server asks for are its choice, the thread ours.
            derivations: Semaphore::new(1),
        }
    }
}

/// An address that is being asked.
struct Seat<'a> {
    desk: &'a Desk,
    address: SocketAddr,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.desk.busy.borrow_mut().remove(&self.address);
        self.desk.left.notify(usize::MAX);
    }
}

impl Desk {
    /// Asks the hosts of one server in turn, as libpq does, until one accepts;
    /// else the answer that says most. At least one host.
    pub async fn ask(&self, hosts: &[Host], question: &Question) -> Asked {
        let mut best: Option<Asked> = None;
        for host in hosts {
            let asked = self.ask_host(host, question).await;
            if best
                .as_ref()
                .is_none_or(|best| weight(&asked.answer) > weight(&best.answer))
            {
                best = Some(asked);
            }
            if best.as_ref().is_some_and(|best| best.answer.is_accepting()) {
                break;
            }
        }
        best.unwrap_or_else(|| Asked {
            host: Host {
                name: "".into(),
                port: 0,
            },
            answer: ProbeAnswer::NoTarget("there is no host to ask".into()),
            login: None,
            latency: None,
        })
    }

    async fn ask_host(&self, host: &Host, question: &Question) -> Asked {
        let began = Instant::now();
        let deadline = began.checked_add(question.timeout).unwrap_or(began);
        let over = |answer| Asked {
            host: host.clone(),
            answer,
            login: None,
            latency: None,
        };
        let addresses = match before(deadline, self.resolve(host)).await {
            Some(Ok(addresses)) if !addresses.is_empty() => addresses,
            Some(Ok(_)) => return over(ProbeAnswer::Unreachable("the name has no address".into())),
            Some(Err(why)) => return over(ProbeAnswer::Unreachable(why)),
            None => {
                return over(ProbeAnswer::Unreachable(
                    "the name was not resolved in time".into(),
                ));
            }
        };
        let addresses: Vec<SocketAddr> = addresses
            .into_iter()
            .filter(|address| question.may_ask(host, address.ip()))
            .collect();
        if addresses.is_empty() {
            return over(ProbeAnswer::NoTarget(NOT_ASKED.into()));
        }
        let mut last = ProbeAnswer::Silent { connected: false };
        for address in addresses {
            let Some(_seat) = before(deadline, self.seat(address)).await else {
                // Another probe of ours is there; it takes as long as this one.
                return over(last);
            };
            let began = Instant::now();
            let stream = match before(deadline, TcpStream::connect(address)).await {
                Some(Ok(stream)) => stream,
                Some(Err(error)) => {
                    last = failed(&error);
                    continue;
                }
                None => return over(ProbeAnswer::Silent { connected: false }),
            };
            let identity = &question.identity;
            let stranger = identity.password.is_some() && !question.may_log_in(host, address.ip());
            let without = Identity {
                password: None,
                ..Identity::clone(identity)
            };
            let identity = if stranger { &without } else { &**identity };
            let (mut outcome, answered) = self.talk(&stream, identity, deadline).await;
            if stranger {
                let why = "not tried: this host is neither a data node nor in probe.allow";
                outcome.login = Some(Login::Failed(why.into()));
            }
            return Asked {
                host: host.clone(),
                answer: outcome
                    .answer
                    .unwrap_or(ProbeAnswer::Silent { connected: true }),
                login: outcome.login,
                latency: answered.map(|at| at.saturating_duration_since(began)),
            };
        }
        over(last)
    }

    /// Speaks until all is said or the time is over; when the answer came.
    async fn talk(
        &self,
        stream: &TcpStream,
        identity: &Identity,
        deadline: Instant,
    ) -> (Outcome, Option<Instant>) {
        keep_alive(stream);
        stream.set_nodelay();
        let mut conversation = Conversation::new(identity);
        let mut answered = None;
        let mut buffer = [0; READ_BYTES];
        loop {
            let next = conversation.step();
            if conversation.answer().is_some() {
                answered.get_or_insert_with(Instant::now);
            }
            let went_on = match next {
                ProbeStep::Read => before(deadline, stream.read(&mut buffer))
                    .await
                    .map(|read| match buffer.get(..read.unwrap_or(0)) {
                        None | Some([]) => conversation.on_end(),
                        Some(bytes) => conversation.on_bytes(bytes),
                    }),
                ProbeStep::Send(bytes) => {
                    let sent = before(deadline, stream.write_all(&bytes)).await;
                    // What the server said before it hung up is still to be read.
                    sent.map(|_| ())
                }
                ProbeStep::Derive(derivation) => {
                    let derive = async {
                        let _turn = self.derivations.acquire().await;
                        smol::unblock(move || derivation.run()).await
                    };
                    let derived = before(deadline, derive).await;
                    derived.map(|derived| conversation.derived(derived))
                }
                ProbeStep::Leave(farewell) => {
                    leave(stream, &farewell, &mut buffer).await;
                    None
                }
            };
            if went_on.is_none() {
                return (conversation.outcome(), answered);
            }
        }
    }

    /// The addresses of a host, IPv4 first.
    async fn resolve(&self, host: &Host) -> Result<Vec<SocketAddr>, Rc<str>> {
        if let Ok(ip) = host.name.parse::<IpAddr>() {
            return Ok(vec![(ip, host.port).into()]);
        }
        let turn = self.resolutions.acquire_arc().await;
        let name = host.name.to_string();
        let port = host.port;
        // A task of its own: what is not waited for any more still takes a thread
        // until the system's resolver gives up, and keeps its turn so long.
        let found = reactor::spawn(async move {
            let found = reactor::resolve(&name, port).await;
            drop(turn);
            found
        });
        let mut found = Resolution(Some(found))
            .await_it()
            .await
            .map_err(|error| text(&error))?;
        found.sort_by_key(SocketAddr::is_ipv6);
        found.truncate(limits::PROBE_ADDRESSES_MAX);
        Ok(found)
    }

    /// Waits until nobody else asks this address.
    async fn seat(&self, address: SocketAddr) -> Seat<'_> {
        loop {
            let left = self.left.listen();
            if self.busy.borrow_mut().insert(address) {
                return Seat {
                    desk: self,
                    address,
                };
            }
            left.await;
        }
    }
}

/// A resolution that goes on when nobody waits for it any more.
struct Resolution(Option<smol::Task<io::Result<Vec<SocketAddr>>>>);

impl Resolution {
    async fn await_it(mut self) -> io::Result<Vec<SocketAddr>> {
        match &mut self.0 {
            Some(task) => task.await,
            None => Ok(Vec::new()),
        }
    }
}

impl Drop for Resolution {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

/// What a future gives if it does so in time.
async fn before<T>(deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
    smol::future::or(async { Some(future.await) }, async {
        Timer::at(deadline).await;
        None
    })
    .await
}

/// Says goodbye, and reads until the server hangs up too: data that is left
/// unread would reset the connection, which servers log.
async fn leave(stream: &TcpStream, farewell: &[u8], buffer: &mut [u8]) {
    let quiet = async {
        let _ = stream.write_all(farewell).await;
        stream.shutdown(Shutdown::Write);
        let mut total = 0_usize;
        while let Ok(count @ 1..) = stream.read(buffer).await {
            total = total.saturating_add(count);
            if total > limits::PG_PROBE_BYTES_MAX {
                return;
            }
        }
    };
    let now = Instant::now();
    let deadline = now.checked_add(limits::PG_FAREWELL_TIME_MAX);
    before(deadline.unwrap_or(now), quiet).await;
}

fn keep_alive(stream: &TcpStream) {
    let (idle, interval, count) = KEEPALIVE;
    stream.keep_alive(idle, interval, count);
}

/// What a connection that was not made says.
fn failed(error: &io::Error) -> ProbeAnswer {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ProbeAnswer::Refused,
        io::ErrorKind::TimedOut => ProbeAnswer::Silent { connected: false },
        _ => ProbeAnswer::Unreachable(text(error)),
    }
}

/// The system's words, without the number behind them.
fn text(error: &io::Error) -> Rc<str> {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or("").into()
}

/// How much an answer says of the server, to choose among several hosts.
fn weight(answer: &ProbeAnswer) -> u8 {
    match answer {
        ProbeAnswer::Accepting(_) => 6,
        ProbeAnswer::TooManyConnections(_) => 5,
        ProbeAnswer::StartingUp(_)
        | ProbeAnswer::ShuttingDown(_)
        | ProbeAnswer::NotAccepting(_) => 4,
        ProbeAnswer::NotPostgres(_) => 3,
        ProbeAnswer::Refused => 2,
        ProbeAnswer::Silent { .. } => 1,
        ProbeAnswer::Unreachable(_) | ProbeAnswer::NoTarget(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_host_has_for_itself_is_asked_only_where_the_cluster_is_there() {
        let host = |name: &str| Host {
            name: name.into(),
            port: 5432,
        };
        for (login_to, name, address, asked) in [
            // An unlisted replica, wherever it is.
            ("10.0.1.1/32", "pg3", "10.0.9.3", true),
            ("10.0.1.1/32", "pg3", "2001:db8::3", true),
            ("10.0.1.1/32", "127.0.0.1", "127.0.0.1", false),
            ("10.0.1.1/32", "rebound.example", "127.0.0.1", false),
            ("10.0.1.1/32", "::ffff:127.0.0.1", "::ffff:127.0.0.1", false),
            ("10.0.1.1/32", "::1", "::1", false),
            ("10.0.1.1/32", "0.0.0.0", "0.0.0.0", false),
            ("10.0.1.1/32", "169.254.169.254", "169.254.169.254", false),
            ("10.0.1.1/32", "fe80::1", "fe80::1", false),
            ("10.0.1.1/32", "224.0.0.1", "224.0.0.1", false),
            ("", "127.0.0.1", "127.0.0.1", false),
            // All on one host, or listed.
            ("127.0.0.2/32", "127.0.0.1", "127.0.0.1", true),
            ("127.0.0.2/32", "169.254.169.254", "169.254.169.254", false),
            ("169.254.0.0/16", "169.254.1.2", "169.254.1.2", true),
        ] {
            let login_to: Vec<LoginHost> = login_to
                .split_whitespace()
                .map(|network| LoginHost::Network(network.parse().unwrap()))
                .collect();
            let question = Question {
                identity: Rc::new(Identity {
                    user: "postgres".into(),
                    database: "postgres".into(),
                    password: None,
                    md5: false,
                }),
                login_to: login_to.into(),
                timeout: Duration::from_secs(5),
            };
            let address = address.parse().unwrap();
            assert_eq!(
                question.may_ask(&host(name), address),
                asked,
                "{name} {address}"
            );
        }
        let named = LoginHost::Name("localhost".into());
        assert!(named.is_loopback());
    }
}
