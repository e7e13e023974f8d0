//! Names to addresses, anew at each dial: a data node that moved is found again
//! without a restart.

use std::io;
use std::net::SocketAddr;

use crate::address::Address;
use crate::limits;
use crate::reactor::{self, TcpStream, Timer};

/// The addresses behind a member's name, IPv4 first as PySyncObj prefers
/// (spec 1.2).
async fn resolve(address: &Address) -> io::Result<Vec<SocketAddr>> {
    let found = reactor::resolve(address.host(), address.port()).await?;
    let (mut first, second): (Vec<_>, Vec<_>) = found.into_iter().partition(SocketAddr::is_ipv4);
    first.extend(second);
    Ok(first)
}

/// Connects to a member, within [`limits::CONNECT_TIME_MAX`]: a black-holed
/// SYN must not hold the next attempt for two minutes (H22). Of several addresses
/// each must refuse for it to be a refusal (S7 b).
pub async fn connect(address: &Address) -> io::Result<TcpStream> {
    let connect = async {
        let mut worst: Option<io::Error> = None;
        for target in resolve(address).await? {
            match TcpStream::connect(target).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    let refused = error.kind() == io::ErrorKind::ConnectionRefused;
                    worst = worst.filter(|_| refused).or(Some(error));
                }
            }
        }
        let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        Err(worst.unwrap_or_else(none))
    };
    smol::future::or(connect, async {
        Timer::after(limits::CONNECT_TIME_MAX).await;
        Err(io::ErrorKind::TimedOut.into())
    })
    .await
}
