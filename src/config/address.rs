//! Addresses as an operator writes them. On the wire a member may be called anything
//! ([`Address`]); here a text is refused that no host can have, so that it is
//! mended at the start and not when the vote is needed.

use std::net::IpAddr;

use super::Bind;
use super::error::{ConfigError, Located, Place};
use crate::address::Address;

/// Longest DNS name, and longest part of one, in bytes.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// What an address is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To be known by and to be dialled.
    Member,
    /// To listen on.
    Listen,
}

/// The address of a member.
pub fn member(text: &str, place: &Place) -> Result<Address, ConfigError> {
    parse(text, place, Purpose::Member)
}

/// An address to listen on.
pub fn bind(said: &Located<String>) -> Result<Bind, ConfigError> {
    let address = parse(&said.value, &said.place, Purpose::Listen)?;
    Ok(Bind {
        host: address.host().into(),
        port: address.port(),
    })
}

fn parse(text: &str, place: &Place, purpose: Purpose) -> Result<Address, ConfigError> {
    let refuse = |why: String| ConfigError::Invalid {
        place: place.clone(),
        value: Some(text.into()),
        why,
    };
    let address: Address = text
        .parse()
        .map_err(|error| refuse(format!("{error}, such as 10.0.0.9:2222")))?;
    if let Some(bare) = address.host().strip_prefix('[') {
        // Python strips no brackets, so such a name never resolves (spec 1.1).
        let bare = bare.trim_end_matches(']');
        let port = address.port();
        return Err(refuse(format!(
            "PySyncObj knows no brackets; write {bare}:{port}"
        )));
    }
    match fault(address.host(), purpose) {
        None => Ok(address),
        Some(why) => Err(refuse(why.into())),
    }
}

/// The IP address that a host is written as, an IPv6 one perhaps with its zone
/// (`fe80::1%eth0`).
pub fn ip(host: &str) -> Option<IpAddr> {
    let bare = host.split_once('%').map_or(host, |(bare, _)| bare);
    let ip = bare.parse().ok()?;
    (bare == host || matches!(ip, IpAddr::V6(_))).then_some(ip)
}

/// Whether a host is this machine to whoever uses it.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || ip(host).is_some_and(|ip| ip.to_canonical().is_loopback())
}

/// Why a text is no host, if it is none.
pub fn not_a_host(text: &str) -> Option<&'static str> {
    fault(text, Purpose::Listen)
}

/// Why a host can be none, and what to write in its place.
fn fault(host: &str, purpose: Purpose) -> Option<&'static str> {
    if let Some(ip) = ip(host) {
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        return if ip.is_multicast() || broadcast {
            Some("no single host has this address; write the host's own, such as 10.0.0.9:2222")
        } else if ip.is_unspecified() && purpose == Purpose::Member {
            Some(
                "nobody can dial this; write the host's own address (to listen on all addresses \
                 is bind_addr's)",
            )
        } else {
            None
        };
    }
    let unfilled = |c: char| "$<>{}".contains(c);
    if host.contains(unfilled) || (host.starts_with("__") && host.ends_with("__")) {
        return Some("a placeholder that nobody filled in; write the address itself");
    }
    if host.contains('/') {
        return Some("write host:port without a scheme or a path, such as 10.0.0.9:2222");
    }
    if host.contains([',', ';']) {
        return Some("several addresses in one; write one address");
    }
    if host.contains('*') {
        return Some(match purpose {
            Purpose::Listen => "write 0.0.0.0 to listen on all addresses, or :: with IPv6",
            Purpose::Member => "nobody can dial this; write the host's own address",
        });
    }
    if host.contains(':') {
        return Some("the part before the port is no IPv6 address; write one such as fd00::9:2222");
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let last = name.rsplit('.').next().unwrap_or(name);
    if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        return Some("no IPv4 address: it has four numbers from 0 to 255, without leading zeros");
    }
    // An underscore is no part of a host's name, but container networks give such.
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = name.len() <= NAME_BYTES_MAX && name.split('.').all(label);
    (!is_name).then_some(
        "neither an IP address nor a host's name, which has letters, digits, hyphens and dots; \
         write one such as 10.0.0.9:2222",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(host: &str, purpose: Purpose) -> bool {
        parse(&format!("{host}:2222"), &Place::top("t"), purpose).is_err()
    }

    #[test]
    fn what_no_host_can_have_is_refused() {
        for host in [
            ":10.41.0.3",
            "http://10.41.0.3",
            "tcp://10.0.0.1",
            "$HOSTNAME",
            "${POD_IP}",
            "{{ ip }}",
            "<ip1>",
            "__MY_IP__",
            "10.0.3.300",
            "10.0.3",
            "10.0.3.09",
            "a..b",
            ".a",
            "-a",
            "a-",
            "*",
            "10.0.1.1,10.0.2.1",
            "10.0.0.1%eth0",
            "fd00::g",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "b\u{fc}cher",
            &"a".repeat(64),
            &"a.".repeat(128),
        ] {
            for purpose in [Purpose::Member, Purpose::Listen] {
                assert!(refused(host, purpose), "{host}");
            }
        }
    }

    #[test]
    fn what_a_host_can_have_is_taken() {
        for host in [
            "10.0.3.9",
            "127.0.0.1",
            "::1",
            "fd00::9",
            "fe80::1%eth0",
            "::ffff:10.0.0.1",
            "pg1",
            "pg1.example.org.",
            "3com.example",
            "my_project_pg1",
            "xn--bcher-kva.example",
        ] {
            for purpose in [Purpose::Member, Purpose::Listen] {
                assert!(!refused(host, purpose), "{host}");
            }
        }
        for host in ["0.0.0.0", "::"] {
            assert!(refused(host, Purpose::Member) && !refused(host, Purpose::Listen));
        }
    }
}
