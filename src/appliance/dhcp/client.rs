//! What a DHCP client does when (RFC 2131, section 4.4): told the time and what
//! came, it says what to send and which address to have. It reads no clock and
//! touches no socket.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::packet::{Ask, ClientMessage, Datagram, Hosts, Mac, Say, ServerMessage};

/// First and longest pause between two questions to everybody. The longest is
/// shorter than the standard's 64 s: after a power cut the whole building starts,
/// and the vote waits for the slowest switch.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(16);

/// Questions for one offer, or for the address of before, until it is given up.
const REQUESTS_MAX: u32 = 4;

/// Shortest pause between two questions for more time.
const RENEWAL_PAUSE_MIN: Duration = Duration::from_secs(60);

/// Shortest lease that is believed, and what a server that says nothing means.
/// Shorter ones would have us ask without end.
const LEASE_MIN_S: u32 = 60;
const LEASE_DEFAULT_S: u32 = 3600;

/// Its number means: for ever.
const FOR_EVER: u32 = u32::MAX;

/// Longer than any board runs.
const LONG: Duration = Duration::from_secs(100 * 365 * 86_400);

/// An address and what comes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// How many of its bits name the network.
    pub prefix: u8,
    /// The way out.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Hosts,
    /// Time servers.
    pub ntp: Hosts,
    /// Who gave it.
    pub server: Ipv4Addr,
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Do {
    /// Send it to 255.255.255.255.
    Broadcast(Datagram),
    /// Send it to this server, from the leased address.
    Unicast(Ipv4Addr, Datagram),
    /// Have this address, instead of any other.
    Have(Lease),
    /// Have none.
    HaveNone,
}

#[derive(Debug, Clone)]
struct HeldLease {
    lease: Lease,
    renew: Instant,
    rebind: Instant,
    end: Instant,
}

#[derive(Debug, Clone)]
enum LeaseState {
    /// Asking who has an address for us.
    Selecting,
    /// Asking for the one that was offered.
    Requesting(Box<ServerMessage>),
    /// Asking whether the one of before is still ours: the link was away.
    Confirming(HeldLease),
    /// At rest until it is time to renew.
    Bound(HeldLease),
    /// Asking its server for more time.
    Renewing(HeldLease),
    /// Asking any server.
    Rebinding(HeldLease),
}

/// The client of one interface.
pub struct Client {
    mac: Mac,
    hostname: String,
    state: LeaseState,
    xid: u32,
    /// Since when there is no lease, for `secs`.
    began: Instant,
    /// Questions of this state so far.
    asked: u32,
    next: Instant,
    random: Box<dyn FnMut() -> u32>,
}

impl Client {
    /// A client without a lease. `random` tells it apart from the others that a
    /// power cut started with it.
    pub fn new(
        mac: Mac,
        hostname: &str,
        now: Instant,
        mut random: impl FnMut() -> u32 + 'static,
    ) -> Self {
        Self {
            mac,
            hostname: hostname.chars().take(63).collect(),
            state: LeaseState::Selecting,
            xid: random(),
            began: now,
            asked: 0,
            next: now,
            random: Box::new(random),
        }
    }

    /// When [`Client::on_time`] wants to be called.
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// The link is back: it may be another network's.
    pub fn on_link(&mut self, now: Instant) -> Vec<Do> {
        let mut done = Vec::new();
        let state = match self.held() {
            Some(held) if now < held.end => LeaseState::Confirming(held.clone()),
            // It ran out meanwhile.
            Some(_) => {
                done.push(Do::HaveNone);
                LeaseState::Selecting
            }
            None => LeaseState::Selecting,
        };
        self.turn(now, state);
        done.extend(self.on_time(now));
        done
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: Instant) -> Vec<Do> {
        let mut done = Vec::new();
        while self.next <= now {
            let patient = self.asked < REQUESTS_MAX;
            match self.state.clone() {
                LeaseState::Selecting => done.push(self.discover(now)),
                LeaseState::Requesting(offer) if patient => done.push(self.request(now, &offer)),
                LeaseState::Requesting(_) => self.turn(now, LeaseState::Selecting),
                LeaseState::Confirming(held) if patient => done.push(self.confirm(now, &held)),
                // No server speaks; the lease is still ours (section 3.2).
                LeaseState::Confirming(held) => {
                    self.next = held.renew;
                    self.state = LeaseState::Bound(held);
                }
                LeaseState::Bound(held) => self.turn(now, LeaseState::Renewing(held)),
                LeaseState::Renewing(held) if now >= held.rebind => {
                    self.turn(now, LeaseState::Rebinding(held));
                }
                LeaseState::Renewing(held) => {
                    self.next = next_renewal(now, held.rebind);
                    let bytes = self.extend(now, &held);
                    done.push(Do::Unicast(held.lease.server, bytes));
                }
                LeaseState::Rebinding(held) if now >= held.end => {
                    done.push(Do::HaveNone);
                    self.start_anew(now);
                }
                LeaseState::Rebinding(held) => {
                    self.next = next_renewal(now, held.end);
                    let bytes = self.extend(now, &held);
                    done.push(Do::Broadcast(bytes));
                }
            }
        }
        done
    }

    /// A datagram came.
    pub fn on_datagram(&mut self, now: Instant, bytes: &[u8]) -> Vec<Do> {
        let Some(answer) = ServerMessage::decode(bytes, self.mac) else {
            return Vec::new();
        };
        if answer.xid != self.xid {
            return Vec::new();
        }
        let asks = match (&self.state, answer.say) {
            (LeaseState::Selecting, Say::Offer) if answer.server.is_some() => {
                self.turn(now, LeaseState::Requesting(Box::new(answer)));
                return self.on_time(now);
            }
            (LeaseState::Requesting(offer), _) => {
                answer.server.is_none_or(|s| Some(s) == offer.server)
            }
            (LeaseState::Selecting | LeaseState::Bound(_), _) => false,
            (LeaseState::Confirming(_) | LeaseState::Renewing(_) | LeaseState::Rebinding(_), _) => {
                true
            }
        };
        match answer.say {
            Say::Ack if asks => self.bind(now, answer),
            Say::Nak if asks => {
                let had = self.held().is_some();
                self.start_anew(now);
                // A server that offers and refuses in turn is not asked in a loop.
                self.next = now + PAUSE_MIN;
                if had { vec![Do::HaveNone] } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn held(&self) -> Option<&HeldLease> {
        match &self.state {
            LeaseState::Confirming(held)
            | LeaseState::Bound(held)
            | LeaseState::Renewing(held)
            | LeaseState::Rebinding(held) => Some(held),
            LeaseState::Selecting | LeaseState::Requesting(_) => None,
        }
    }

    fn bind(&mut self, now: Instant, answer: ServerMessage) -> Vec<Do> {
        let offered = match &self.state {
            LeaseState::Requesting(offer) => offer.server,
            _ => self.held().map(|held| held.lease.server),
        };
        let Some(server) = answer.server.or(offered) else {
            return Vec::new();
        };
        let had = self.held().map(|held| held.lease.clone());
        let lease_s = answer.lease_s.unwrap_or(LEASE_DEFAULT_S).max(LEASE_MIN_S);
        let after = |seconds: u32| {
            let time = Duration::from_secs(seconds.into());
            let time = if seconds == FOR_EVER { LONG } else { time };
            now.checked_add(time).unwrap_or(now + LEASE_CAP)
        };
        // T1 before T2 before the end, or the standard's shares (section 4.4.5).
        let rebind_s = answer.rebinding_s.filter(|s| *s < lease_s);
        let rebind_s = rebind_s.unwrap_or(lease_s - lease_s / 8);
        let renew_s = answer
            .renewal_s
            .filter(|s| *s < rebind_s && *s >= LEASE_MIN_S / 2);
        let renew_s = renew_s.unwrap_or(rebind_s.min(lease_s / 2));
        let lease = Lease {
            address: answer.address,
            // A server that names no mask means the usual network.
            prefix: answer.prefix.unwrap_or(24),
            gateway: answer.gateway,
            dns: answer.dns,
            ntp: answer.ntp,
            server,
        };
        let held = HeldLease {
            lease: lease.clone(),
            renew: after(if lease_s == FOR_EVER {
                FOR_EVER
            } else {
                renew_s
            }),
            rebind: after(if lease_s == FOR_EVER {
                FOR_EVER
            } else {
                rebind_s
            }),
            end: after(lease_s),
        };
        self.next = held.renew;
        self.asked = 0;
        self.state = LeaseState::Bound(held);
        match had {
            Some(had) if had == lease => Vec::new(),
            _ => vec![Do::Have(lease)],
        }
    }

    fn start_anew(&mut self, now: Instant) {
        self.began = now;
        self.turn(now, LeaseState::Selecting);
    }

    fn turn(&mut self, now: Instant, state: LeaseState) {
        self.state = state;
        self.enter(now);
    }

    /// A new state begins with a question at once; an offer's keeps its number.
    fn enter(&mut self, now: Instant) {
        if !matches!(self.state, LeaseState::Requesting(_)) {
            self.xid = (self.random)();
        }
        self.asked = 0;
        self.next = now;
    }

    /// The pause doubles, and differs by up to a second from that of others.
    fn pause(&mut self, now: Instant) {
        let doubled = PAUSE_MIN
            .saturating_mul(1 << self.asked.min(8))
            .min(PAUSE_MAX);
        let spread = Duration::from_millis(u64::from((self.random)() % 1000));
        self.asked = self.asked.saturating_add(1);
        self.next = now + doubled + spread;
    }

    fn question(&self, now: Instant, ask: Ask) -> ClientMessage<'_> {
        let secs = now.saturating_duration_since(self.began).as_secs();
        ClientMessage {
            ask,
            xid: self.xid,
            secs: u16::try_from(secs).unwrap_or(u16::MAX),
            mac: self.mac,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            address: None,
            server: None,
            hostname: &self.hostname,
        }
    }

    fn discover(&mut self, now: Instant) -> Do {
        self.pause(now);
        Do::Broadcast(self.question(now, Ask::Discover).encode())
    }

    fn request(&mut self, now: Instant, offer: &ServerMessage) -> Do {
        self.pause(now);
        let mut question = self.question(now, Ask::Request);
        question.address = Some(offer.address);
        question.server = offer.server;
        Do::Broadcast(question.encode())
    }

    fn confirm(&mut self, now: Instant, held: &HeldLease) -> Do {
        self.pause(now);
        let mut question = self.question(now, Ask::Request);
        question.address = Some(held.lease.address);
        Do::Broadcast(question.encode())
    }

    fn extend(&self, now: Instant, held: &HeldLease) -> Datagram {
        let mut question = self.question(now, Ask::Request);
        question.ciaddr = held.lease.address;
        question.encode()
    }
}

/// What an [`Instant`] always has room for.
const LEASE_CAP: Duration = Duration::from_secs(365 * 86_400);

/// Half of what is left, but not so often that it would be noise, and not beyond
/// the end.
fn next_renewal(now: Instant, end: Instant) -> Instant {
    let left = end.saturating_duration_since(now);
    (now + (left / 2).max(RENEWAL_PAUSE_MIN)).min(end)
}

#[cfg(test)]
mod tests;
