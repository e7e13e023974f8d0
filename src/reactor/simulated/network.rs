//! Hosts and the lines between them, and how to break them.
//!
//! What is written on a connection travels in segments, each with a delay of its
//! line, in order. Nothing of a stream is lost: a segment that cannot pass waits and
//! is sent again after the line is whole, as TCP does, until the writer's user
//! timeout ends the connection at its end. The other end learns of it when it
//! writes. A host without power answers nothing; one that is back answers what it
//! does not know with a reset.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::task::Waker;
use std::time::Duration;

use rand::RngExt as _;

use super::super::{Instant, rng};
use super::pipe::{Pipe, PipeContent, PipeId, PipeSegment, PipeSide};

/// Longest that a stalled segment rests after its line is whole again: Linux
/// doubles the pause of a retransmission up to two minutes, but a member's user
/// timeout ends its connections long before.
const RETRANSMISSION_MAX: Duration = Duration::from_secs(2);

/// The shortest pause of a retransmission on Linux.
const RETRANSMISSION_MIN: Duration = Duration::from_millis(200);

/// Connections that wait for `accept`; further ones are dropped.
const BACKLOG: usize = 128;

/// The first port that is given out to who dials.
const EPHEMERAL_PORT: u16 = 32_768;

/// One direction between two hosts.
#[derive(Debug, Clone)]
pub struct Line {
    /// How long a segment travels.
    pub delay: RangeInclusive<Duration>,
    /// Nothing passes.
    pub cut: bool,
    /// What opens a connection is lost; what is open goes on.
    pub loses_openings: bool,
    /// Whatever opens a connection is refused, as a firewall does.
    pub refuses_openings: bool,
    /// Segments of 1,000 that are lost once and come later.
    pub lost_per_mille: u32,
    /// How many bytes pass in a second.
    pub bytes_per_s: Option<u32>,
    /// What is opened to the other host ends at this one, as a wrong record of DNS or a
    /// translated address does.
    pub leads_to: Option<IpAddr>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            delay: Duration::from_micros(100)..=Duration::from_millis(2),
            cut: false,
            loses_openings: false,
            refuses_openings: false,
            lost_per_mille: 0,
            bytes_per_s: None,
            leads_to: None,
        }
    }
}

impl Line {
    /// How long so many bytes take this time.
    fn delay_of(&self, bytes: usize) -> Duration {
        let mut delay = rng().random_range(self.delay.clone());
        if let Some(rate) = self.bytes_per_s.filter(|rate| *rate > 0) {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            delay += Duration::from_secs(1) * bytes / rate;
        }
        if self.lost_per_mille > 0 && rng().random_range(0..1_000) < self.lost_per_mille {
            delay += RETRANSMISSION_MIN;
        }
        delay
    }
}

/// What became of an attempt to connect.
pub(super) enum Dialled {
    /// It is open; which end is whose.
    Connected(PipeId),
    /// There is an answer, and it is no.
    Refused,
    /// There is no answer.
    Lost,
}

#[derive(Default)]
pub(super) struct Listener {
    pub(super) waiting: VecDeque<(PipeId, SocketAddr)>,
    pub(super) waker: Option<Waker>,
}

/// Something that happens on the network by itself.
#[derive(Clone, Copy)]
enum NetworkEvent {
    /// Segments of this end may arrive.
    Arrival(PipeId, PipeSide),
    /// The user timeout of this end may be over.
    Overdue(PipeId, PipeSide),
}

#[derive(Default)]
pub(super) struct SimulatedNetwork {
    usual: Line,
    lines: BTreeMap<(IpAddr, IpAddr), Line>,
    without_power: BTreeMap<IpAddr, ()>,
    pub(super) listeners: BTreeMap<SocketAddr, Listener>,
    connections: BTreeMap<PipeId, Pipe>,
    agenda: BTreeMap<(Instant, u64), NetworkEvent>,
    counted: u64,
    /// Whom what has happened concerns.
    wakers: Vec<Waker>,
}

thread_local! {
    static NETWORK: RefCell<SimulatedNetwork> = RefCell::default();
}

/// Does something on the network, then wakes whom it concerns.
pub(super) fn with<T>(act: impl FnOnce(&mut SimulatedNetwork) -> T) -> T {
    let (done, wakers) = NETWORK.with_borrow_mut(|network| {
        let done = act(network);
        (done, std::mem::take(&mut network.wakers))
    });
    wakers.into_iter().for_each(Waker::wake);
    done
}

/// When something is due on the network.
pub(super) fn next() -> Option<Instant> {
    NETWORK.with_borrow(|network| network.agenda.first_key_value().map(|((at, _), _)| *at))
}

/// Lets happen what is due.
pub(super) fn deliver() {
    let now = Instant::now();
    with(|network| {
        while let Some(entry) = network.agenda.first_entry().filter(|e| e.key().0 <= now) {
            match entry.remove() {
                NetworkEvent::Arrival(key, side) => network.arrive(key, side),
                NetworkEvent::Overdue(key, side) => network.overdue(key, side),
            }
        }
    });
}

/// Changes what all lines are like that are not told otherwise.
pub fn set_usual(line: Line) {
    with(|network| network.usual = line);
}

/// Changes the line from one host to another; what waits for it travels on.
pub fn set_line(from: IpAddr, to: IpAddr, change: impl FnOnce(&mut Line)) {
    with(|network| {
        let usual = network.usual.clone();
        change(network.lines.entry((from, to)).or_insert(usual));
        network.resume();
    });
}

/// All lines are again what is usual.
pub fn heal() {
    with(|network| {
        network.lines.clear();
        network.resume();
    });
}

/// The host is dark at once: its connections vanish without a word.
pub fn power_off(host: IpAddr) {
    with(|network| {
        network.without_power.insert(host, ());
        network.listeners.retain(|address, _| address.ip() != host);
        for connection in network.connections.values_mut() {
            connection.vanish(host);
        }
        // Of those that waited for a process which was frozen nobody else knows any more.
        network.connections.retain(|_, c| !c.is_over());
    });
}

/// The host's kernel answers again.
pub fn power_on(host: IpAddr) {
    with(|network| {
        network.without_power.remove(&host);
        network.resume();
    });
}

/// Ends all connections between two hosts, as a router does that forgets them:
/// both ends see a reset.
pub fn reset(one: IpAddr, other: IpAddr) {
    with(|network| {
        let wakers = &mut network.wakers;
        for connection in network.connections.values_mut() {
            if connection.is_between(one, other) {
                connection.fail(
                    PipeSide::Dialler,
                    std::io::ErrorKind::ConnectionReset,
                    wakers,
                );
                connection.fail(
                    PipeSide::Listener,
                    std::io::ErrorKind::ConnectionReset,
                    wakers,
                );
            }
        }
    });
}

/// Whether a process holds anything of the network on this host.
#[must_use]
pub fn is_held(host: IpAddr) -> bool {
    NETWORK.with_borrow(|network| {
        let mut connections = network.connections.values();
        let listens = network.listeners.keys().any(|address| address.ip() == host);
        listens || connections.any(|connection| connection.is_held(host))
    })
}

/// Connections that any end still knows: what a simulation holds.
#[must_use]
pub fn connections() -> usize {
    NETWORK.with_borrow(|network| network.connections.len())
}

impl SimulatedNetwork {
    fn line(&self, from: IpAddr, to: IpAddr) -> &Line {
        self.lines.get(&(from, to)).unwrap_or(&self.usual)
    }

    /// Whether a segment passes now from one host to another.
    fn passes(&self, from: IpAddr, to: IpAddr) -> bool {
        let dark = |host| self.without_power.contains_key(host);
        from == to || !(self.line(from, to).cut || dark(&from) || dark(&to))
    }

    fn schedule(&mut self, at: Instant, event: NetworkEvent) {
        self.counted = self.counted.wrapping_add(1);
        self.agenda.insert((at, self.counted), event);
    }

    pub(super) fn connection(&mut self, key: PipeId) -> Option<(&mut Pipe, &mut Vec<Waker>)> {
        let connection = self.connections.get_mut(&key)?;
        Some((connection, &mut self.wakers))
    }

    /// How long it takes to be answered.
    pub(super) fn round_trip(&self, from: IpAddr, to: IpAddr) -> Duration {
        self.line(from, to).delay_of(0) + self.line(to, from).delay_of(0)
    }

    /// What becomes of an attempt to connect that has travelled there and back.
    pub(super) fn open(&mut self, from: IpAddr, to: SocketAddr) -> Dialled {
        let elsewhere = self.line(from, to.ip()).leads_to;
        let to = SocketAddr::new(elsewhere.unwrap_or(to.ip()), to.port());
        let line = self.line(from, to.ip());
        let refused = line.refuses_openings;
        let lost = line.loses_openings;
        if lost || !self.passes(from, to.ip()) || !self.passes(to.ip(), from) {
            return Dialled::Lost;
        }
        self.counted = self.counted.wrapping_add(1);
        let key = PipeId(self.counted);
        let Some(listener) = self.listeners.get_mut(&to).filter(|_| !refused) else {
            return Dialled::Refused;
        };
        if listener.waiting.len() >= BACKLOG {
            return Dialled::Lost;
        }
        let ports = u64::from(u16::MAX - EPHEMERAL_PORT);
        let port = u16::try_from(key.0 % ports).unwrap_or_default();
        let from = SocketAddr::new(from, EPHEMERAL_PORT.saturating_add(port));
        listener.waiting.push_back((key, from));
        self.wakers.extend(listener.waker.take());
        let connection = Pipe::new(from.ip(), to.ip());
        self.connections.insert(key, connection);
        Dialled::Connected(key)
    }

    /// Puts something on its way.
    pub(super) fn send(&mut self, key: PipeId, side: PipeSide, part: PipeContent) {
        let Some(connection) = self.connections.get(&key) else {
            return;
        };
        let (from, to) = (connection.host(side), connection.host(side.other()));
        let now = Instant::now();
        let delay = self.line(from, to).delay_of(part.len());
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        let at = connection.push(side, PipeSegment::new(part, now), now + delay);
        let due = connection.watch(side);
        self.schedule(at, NetworkEvent::Arrival(key, side));
        if let Some(due) = due {
            self.schedule(due, NetworkEvent::Overdue(key, side));
        }
    }

    /// Lets the segments that an end has sent arrive, as far as they can.
    pub(super) fn arrive(&mut self, key: PipeId, side: PipeSide) {
        let now = Instant::now();
        let Some(connection) = self.connections.get(&key) else {
            return;
        };
        let (from, to) = (connection.host(side), connection.host(side.other()));
        let (there, back) = (self.passes(from, to), self.passes(to, from));
        let Some((connection, wakers)) = self.connection(key) else {
            return;
        };
        let unknown = connection.arrive(side, now, there, wakers);
        if back {
            connection.acknowledge(side, wakers);
        }
        let over = connection.is_over();
        if unknown {
            self.send(key, side.other(), PipeContent::Reset);
        } else if over {
            self.connections.remove(&key);
        }
    }

    fn overdue(&mut self, key: PipeId, side: PipeSide) {
        let now = Instant::now();
        let Some((connection, wakers)) = self.connection(key) else {
            return;
        };
        let again = connection.overdue(side, now, wakers);
        if connection.is_over() {
            self.connections.remove(&key);
        } else if let Some(at) = again {
            self.schedule(at, NetworkEvent::Overdue(key, side));
        }
    }

    /// What waits for a line is tried again: the longer it has waited, the longer
    /// it may still.
    fn resume(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        for (key, connection) in &mut self.connections {
            for side in [PipeSide::Dialler, PipeSide::Listener] {
                if let Some(since) = connection.stalled_since(side) {
                    let waited = now.saturating_duration_since(since);
                    let most = waited.clamp(RETRANSMISSION_MIN, RETRANSMISSION_MAX);
                    let pause = rng().random_range(Duration::ZERO..=most);
                    due.push((now + pause, *key, side));
                }
            }
        }
        for (at, key, side) in due {
            self.schedule(at, NetworkEvent::Arrival(key, side));
        }
    }

    /// An end is gone, with the process that held it.
    pub(super) fn close(&mut self, key: PipeId, side: PipeSide, abort: bool) {
        let Some((connection, _)) = self.connection(key) else {
            return;
        };
        let Some(last) = connection.close(side, abort) else {
            if connection.is_over() {
                self.connections.remove(&key);
            }
            return;
        };
        self.send(key, side, last);
    }
}
