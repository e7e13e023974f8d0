//! A simulated outside for everything on this thread: time that passes only when
//! nothing can run, chance from one seed, a network in memory, and processes on it.
//!
//! * [`chance`]: the generator;
//! * [`network`]: hosts, lines and what travels on them, and how to break them;
//! * [`socket`]: what a member holds of it;
//! * [`nodes`]: one executor a host, and how to kill and freeze it.
//!
//! A thread is simulated from [`begin`] to its end: whoever wants another
//! simulation takes another thread. Only built with the feature `test-hooks`;
//! without it nothing of this is compiled, and the machine's sockets and clocks
//! stand where these choose between the two.

pub mod chance;
pub mod network;
pub mod nodes;
mod pipe;
pub mod socket;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use super::{Instant, timer};

/// The time of day at which every simulation begins: 2026-01-01, in seconds since
/// the epoch.
const BEGINNING_S: u64 = 1_767_225_600;

thread_local! {
    /// When the simulation began, and how much of its time has passed.
    static CLOCK: Cell<Option<(std::time::Instant, Duration)>> = const { Cell::new(None) };
    /// The host whose process is running.
    static HOST: Cell<Option<IpAddr>> = const { Cell::new(None) };
}

/// Makes this thread a simulation of this seed, until it ends.
#[allow(
    clippy::disallowed_methods,
    reason = "an instant can be made of another only"
)]
pub fn begin(seed: u64) {
    chance::seed(seed);
    CLOCK.set(Some((std::time::Instant::now(), Duration::ZERO)));
}

/// How much simulated time has passed; nothing where there is none.
#[must_use]
pub fn passed() -> Duration {
    CLOCK.get().map_or(Duration::ZERO, |(_, passed)| passed)
}

/// The time, if it is simulated.
pub(super) fn time() -> Option<std::time::Instant> {
    CLOCK.get().map(|(began, passed)| began + passed)
}

/// The time of day, if it is simulated.
pub(super) fn wall_clock() -> Option<SystemTime> {
    let beginning = SystemTime::UNIX_EPOCH + Duration::from_secs(BEGINNING_S);
    CLOCK.get().map(|(_, passed)| beginning + passed)
}

/// The host whose process is running, if it is simulated.
#[must_use]
pub fn host() -> Option<IpAddr> {
    HOST.get()
}

/// Runs something as the process of a host.
pub fn on<T>(host: IpAddr, run: impl FnOnce() -> T) -> T {
    let before = HOST.replace(Some(host));
    let done = run();
    HOST.set(before);
    done
}

/// Nothing can run: lets time pass until somebody's timer or something on the
/// network is due, but no longer than until `end`. False if nothing is due by then.
pub fn advance(end: Instant) -> bool {
    let Some((began, passed)) = CLOCK.get() else {
        return false;
    };
    let next = timer::next().into_iter().chain(network::next()).min();
    let until = next.map_or(end, |next| next.min(end));
    let until = until.machine().saturating_duration_since(began);
    CLOCK.set(Some((began, until.max(passed))));
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
