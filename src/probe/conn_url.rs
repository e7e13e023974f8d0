//! Where a `conn_url` leads: the hosts and ports of a libpq URI
//! (`postgres://h1:p1,[h2]:p2/db?options`).
//!
//! The text comes from the replicated store, where any member may write
//! anything: it is bounded, never panics, and of a user or password in it
//! nothing is kept. Keywords (`host=... port=...`) are not read: Patroni writes
//! none.

use std::fmt;
use std::rc::Rc;

use crate::limits::{CONN_URL_BYTES_MAX, CONN_URL_HOSTS_MAX, HOST_BYTES_MAX};

/// PostgreSQL's own port.
const DEFAULT_PORT: u16 = 5432;

/// One server as it is to be dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// A name, an IPv4 or a bare IPv6 address.
    pub name: Rc<str>,
    /// The TCP port, not 0.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// Why a URL leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlError {
    /// Longer than [`CONN_URL_BYTES_MAX`].
    TooLong,
    /// It begins neither with `postgres://` nor with `postgresql://`.
    Scheme,
    /// More hosts than [`CONN_URL_HOSTS_MAX`].
    TooManyHosts,
    /// A host is missing, and there is no default for another machine.
    NoHost,
    /// A host is no name and no address.
    Host,
    /// A host is a folder of sockets, which is that machine's own.
    UnixSocket,
    /// A port is no number from 1 to 65535.
    Port,
    /// There are several ports, and not as many as hosts.
    PortCount,
    /// A `%` without two hexadecimal digits, or text that is not UTF-8.
    Encoding,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the conn_url is too long",
            Self::Scheme => "the conn_url does not begin with postgres://",
            Self::TooManyHosts => "the conn_url has too many hosts",
            Self::NoHost => "the conn_url names no host",
            Self::Host => "a host of the conn_url is neither a name nor an address",
            Self::UnixSocket => "the conn_url names a Unix socket of its own machine",
            Self::Port => "a port of the conn_url is no number from 1 to 65535",
            Self::PortCount => "the conn_url has several ports, but not as many as hosts",
            Self::Encoding => "a part of the conn_url is not well encoded",
        })
    }
}

impl std::error::Error for UrlError {}

/// The hosts of a URL in its order, each once; at least one.
pub fn hosts(url: &str) -> Result<Vec<Host>, UrlError> {
    if url.len() > CONN_URL_BYTES_MAX {
        return Err(UrlError::TooLong);
    }
    let rest = url
        .strip_prefix("postgresql://")
        .or_else(|| url.strip_prefix("postgres://"))
        .ok_or(UrlError::Scheme)?;
    let (before, options) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = before.split('/').next().unwrap_or("");
    let servers = authority
        .rsplit_once('@')
        .map_or(authority, |(_, servers)| servers);
    let (mut names, mut ports) = split(servers)?;
    // As in libpq an option goes over what stands before it, and an address over
    // a name.
    for key in ["host", "hostaddr"] {
        if let Some(value) = option(options, key)? {
            names = listed(&value)?;
        }
    }
    if let Some(value) = option(options, "port")? {
        ports = listed(&value)?;
    }
    pair(&names, &ports)
}

/// The names and ports of `h1:p1,[h2]:p2`; a missing port is empty.
fn split(servers: &str) -> Result<(Vec<String>, Vec<String>), UrlError> {
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for server in servers.split(',') {
        let (name, port) = match server.strip_prefix('[') {
            Some(rest) => {
                let (name, behind) = rest.split_once(']').ok_or(UrlError::Host)?;
                let port = match behind {
                    "" => "",
                    behind => behind.strip_prefix(':').ok_or(UrlError::Host)?,
                };
                (name, port)
            }
            None => server.split_once(':').unwrap_or((server, "")),
        };
        if names.len() >= CONN_URL_HOSTS_MAX {
            return Err(UrlError::TooManyHosts);
        }
        names.push(decode(name)?);
        ports.push(port.to_owned());
    }
    Ok((names, ports))
}

/// The last value of an option; none when absent or empty.
fn option(options: &str, key: &str) -> Result<Option<String>, UrlError> {
    let pairs = options.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.rev().find(|(name, _)| *name == key);
    let decoded = value.map(|(_, value)| decode(value)).transpose()?;
    Ok(decoded.filter(|value| !value.is_empty()))
}

fn listed(value: &str) -> Result<Vec<String>, UrlError> {
    let parts: Vec<String> = value.split(',').map(str::to_owned).collect();
    if parts.len() > CONN_URL_HOSTS_MAX {
        return Err(UrlError::TooManyHosts);
    }
    Ok(parts)
}

/// One port stands for all hosts, as in libpq.
fn pair(names: &[String], ports: &[String]) -> Result<Vec<Host>, UrlError> {
    let mut hosts = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let port = match ports {
            [one] => one,
            several if several.len() == names.len() => several.get(place).ok_or(UrlError::Port)?,
            _ => return Err(UrlError::PortCount),
        };
        let host = Host {
            name: believe(name)?.into(),
            port: number(port)?,
        };
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

/// A name that a resolver can be given.
fn believe(name: &str) -> Result<&str, UrlError> {
    if name.is_empty() {
        return Err(UrlError::NoHost);
    }
    if name.starts_with(['/', '@']) {
        return Err(UrlError::UnixSocket);
    }
    // What DNS, IPv4, IPv6 and its zones are written with; Patroni's names may
    // hold underscores.
    let fits = |b: u8| b.is_ascii_alphanumeric() || b".-_:%".contains(&b) || !b.is_ascii();
    if name.len() > HOST_BYTES_MAX
        || name.chars().any(|c| c.is_control() || c.is_whitespace())
        || !name.bytes().all(fits)
    {
        return Err(UrlError::Host);
    }
    Ok(name)
}

fn number(port: &str) -> Result<u16, UrlError> {
    if port.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    // `parse` would take a plus sign.
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(UrlError::Port),
    }
}

/// Percent-encoding undone.
fn decode(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, behind @ ..] = rest else {
            return Err(UrlError::Encoding);
        };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Encoding)
}

fn digit(byte: u8) -> Result<u8, UrlError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(UrlError::Encoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        match hosts(url) {
            Ok(hosts) => {
                let hosts: Vec<String> = hosts.iter().map(Host::to_string).collect();
                hosts.join(" ")
            }
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn urls_lead_where_libpq_would_go() {
        for (url, expected) in [
            // As Patroni writes them.
            ("postgres://10.0.0.1:5432/postgres", "10.0.0.1:5432"),
            ("postgres://[fd00::1]:5433/postgres", "[fd00::1]:5433"),
            (
                "postgres://db-1.example.org:5432/app",
                "db-1.example.org:5432",
            ),
            ("postgres://10.0.0.1:5432/?a=b", "10.0.0.1:5432"),
            // As others may.
            ("postgresql://10.0.0.1", "10.0.0.1:5432"),
            ("postgres://h1:1,h2:2,[::1]:3/x", "h1:1 h2:2 [::1]:3"),
            ("postgres://h1,h2:7", "h1:5432 h2:7"),
            ("postgres://h1:7,h1:7", "h1:7"),
            ("postgres://u:p%40%2F@h:1/db", "h:1"),
            ("postgres://u:a@b@h:1/db", "h:1"),
            ("postgres://db%2D1:1/", "db-1:1"),
            ("postgres://[fe80::1%25eth0]:1/", "[fe80::1%eth0]:1"),
            ("postgres:///db?host=h1,h2&port=7", "h1:7 h2:7"),
            ("postgres://h:1/db?hostaddr=10.0.0.9", "10.0.0.9:1"),
            ("postgres://h:1?port=2&port=3", "h:3"),
            ("postgres://h:1?host=", "h:1"),
            // And what leads nowhere.
            ("", "Scheme"),
            ("http://h:1/", "Scheme"),
            ("host=h port=1", "Scheme"),
            ("postgres://", "NoHost"),
            ("postgres:///db", "NoHost"),
            ("postgres://h1,,h2/db", "NoHost"),
            ("postgres://%2Fvar%2Frun:1/db", "UnixSocket"),
            ("postgres://h:0/", "Port"),
            ("postgres://h:65536/", "Port"),
            ("postgres://h:+1/", "Port"),
            ("postgres://h:1:2/", "Port"),
            ("postgres://h1,h2,h3?port=1,2", "PortCount"),
            ("postgres://[::1/", "Host"),
            ("postgres://[::1]x/", "Host"),
            ("postgres://a%0Ab:1/", "Host"),
            ("postgres://a%20b:1/", "Host"),
            ("postgres://a%2Fb:1/", "Host"),
            ("postgres://%:1/", "Encoding"),
            ("postgres://%f:1/", "Encoding"),
            ("postgres://%zz:1/", "Encoding"),
            ("postgres://%ff:1/", "Encoding"),
            ("postgres://1,2,3,4,5,6,7,8,9/", "TooManyHosts"),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
        let long = format!("postgres://{}", "h".repeat(HOST_BYTES_MAX + 1));
        assert_eq!(shown(&long), "Host");
        let endless = format!("postgres://{}", "h".repeat(CONN_URL_BYTES_MAX));
        assert_eq!(shown(&endless), "TooLong");
    }

    #[test]
    fn nothing_of_a_password_is_kept() {
        // S11
        let hosts = hosts("postgres://user:s3cret@h:1/db?password=s3cret").unwrap();
        assert!(!format!("{hosts:?}").contains("s3cret"));
    }
}
