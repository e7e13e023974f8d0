//! The one thread's tasks, sockets and timers, its clock and its source of chance:
//! all that a member may know of the outside world besides its disk.
//!
//! * `executor`: [`spawn`] and [`block_on`];
//! * `epoll`: the machine's sockets;
//! * `clock`: what time it is, [`Instant`] and [`wall_clock`];
//! * `chance`: [`rng`] and [`draw`];
//! * `timer`: [`Timer`];
//! * `simulated`, only with the feature `test-hooks`: time that passes when nothing
//!   can run, chance from a seed, a network in memory and an executor a process.
//!
//! Whatever runs in a member asks here and nowhere else, or a simulation of it
//! could not be repeated; `.clippy.toml` names what must not be called instead.
//! Single-threaded: nothing here is `Send` but the waker.

mod chance;
mod clock;
mod epoll;
mod executor;
#[cfg(feature = "test-hooks")]
pub mod simulated;
mod timer;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};

pub use chance::{Rng, draw, rng};
pub use clock::{Instant, wall_clock};
pub use epoll::Readable;
#[cfg(not(feature = "test-hooks"))]
pub use epoll::{TcpListener, TcpStream};
pub use executor::{block_on, spawn};
#[cfg(feature = "test-hooks")]
pub use simulated::socket::{TcpListener, TcpStream};
pub use timer::Timer;

/// The addresses of a host, given by name or as an address, with this port.
///
/// # Errors
/// The name has no address, or the resolver fails.
#[allow(
    clippy::disallowed_methods,
    reason = "this is what is to be called instead"
)]
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    #[cfg(feature = "test-hooks")]
    if let Some(found) = simulated::resolve(host, port) {
        return found;
    }
    smol::net::resolve((host, port)).await
}

/// Whether an address is one of this machine's; None if that could not be found
/// out.
pub fn is_ours(ip: IpAddr) -> Option<bool> {
    #[cfg(feature = "test-hooks")]
    if let Some(host) = simulated::host() {
        return Some(host == ip);
    }
    // What can be bound is ours; asked for so, it needs no privilege and no
    // knowledge of interfaces. No datagram is ever sent.
    match UdpSocket::bind((ip, 0)) {
        Ok(_) => Some(true),
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Some(false),
        Err(_) => None,
    }
}
