//! A simulated outside for everything on this thread: time that passes only when
//! nothing can run, chance from one seed, a network in memory, and processes on it.
//!
//! * [`chance`]: the generator;
//! * `clock`: how much time has passed;
//! * [`network`]: hosts, lines and what travels on them, and how to break them;
//! * [`socket`]: what a member holds of it;
//! * [`nodes`]: one executor a host, and how to kill and freeze it.
//!
//! A thread is simulated from [`begin`] to its end: whoever wants another
//! simulation takes another thread. Only built with the feature `test-hooks`;
//! without it nothing of this is compiled, and the machine's sockets and clocks
//! stand where these choose between the two.

pub mod chance;
pub(super) mod clock;
pub mod network;
pub mod nodes;
mod pipe;
pub mod socket;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

pub use self::clock::passed;
use super::{Instant, timer};

thread_local! {
    /// Hosts whose time of day is wrong, by how many seconds it is ahead.
    static SKEWS: RefCell<BTreeMap<IpAddr, i32>> = const { RefCell::new(BTreeMap::new()) };
    /// The host whose process is running.
    static HOST: Cell<Option<IpAddr>> = const { Cell::new(None) };
}

/// Makes this thread a simulation of this seed, until it ends.
pub fn begin(seed: u64) {
    chance::seed(seed);
    SKEWS.take();
    clock::begin();
}

/// The host whose process is running, if it is simulated.
#[must_use]
pub fn host() -> Option<IpAddr> {
    HOST.get()
}

/// Runs something as the process of a host.
pub fn on<T>(host: IpAddr, run: impl FnOnce() -> T) -> T {
    let before = HOST.replace(Some(host));
    let ahead_s = clock::set_ahead(skew(host));
    let done = run();
    clock::set_ahead(ahead_s);
    HOST.set(before);
    done
}

/// Sets the time of day of a host so many seconds ahead of the others', or behind; its
/// monotonic clock goes on as it does.
pub fn set_skew(host: IpAddr, ahead_s: i32) {
    SKEWS.with_borrow_mut(|skews| skews.insert(host, ahead_s));
}

/// By how many seconds the time of day of a host is ahead of the others'.
#[must_use]
pub fn skew(host: IpAddr) -> i32 {
    SKEWS.with_borrow(|skews| skews.get(&host).copied().unwrap_or(0))
}

/// Nothing can run: lets time pass until somebody's timer or something on the
/// network is due, but no longer than until `end`. False if nothing is due by then.
pub fn advance(end: Instant) -> bool {
    let next = timer::next().into_iter().chain(network::next()).min();
    let until = next.map_or(end, |next| next.min(end));
    if !clock::advance(until.machine()) {
        return false;
    }
    network::deliver();
    timer::fire();
    next.is_some_and(|next| next <= end)
}

/// What a name leads to in a simulation: addresses lead to themselves, and there
/// are no others.
pub(super) fn resolve(name: &str, port: u16) -> Option<io::Result<Vec<SocketAddr>>> {
    HOST.get()?;
    let found = name.parse::<IpAddr>();
    let found = found.map(|ip| vec![SocketAddr::new(ip, port)]);
    Some(found.map_err(|_| io::Error::new(io::ErrorKind::NotFound, "a name without an address")))
}
