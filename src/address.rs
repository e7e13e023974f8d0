//! The address by which members know one another: PySyncObj names a node by it, and
//! an operator writes it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::text::is_harmful;

/// A member's advertised `host:port`. It is an identity, compared byte for byte
/// and never normalised: `10.0.0.1:5010` and `db1:5010` are two members (spec
/// 0). The order is Python's order of strings, which decides who dials.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Arc<str>);

/// Longest address accepted, in bytes: a DNS name is at most 253.
const ADDRESS_BYTES_MAX: usize = 300;

impl Address {
    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host: all before the last colon, without brackets added or removed
    /// (spec 1.1). An IPv6 literal is written `::1:5010`.
    pub fn host(&self) -> &str {
        self.0.rsplit_once(':').map_or("", |(host, _)| host)
    }

    /// The TCP port: all behind the last colon.
    pub fn port(&self) -> u16 {
        self.0
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(0)
    }
}

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressError;

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address is host:port with a port of 1 to 65535")
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse::<u16>().map_err(|_| AddressError)?;
        let printable = host.chars().all(|c| !is_harmful(c) && !c.is_whitespace());
        if host.is_empty() || !printable || !digits || port == 0 || text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
