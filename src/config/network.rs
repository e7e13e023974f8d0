//! A network by its prefix, such as `10.0.0.0/8`: who may reach the Raft port.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::env::Env;
use super::error::{ConfigError, Located, Place};
use crate::limits::NETWORKS_MAX;

/// The variable that lists networks for every cluster.
const VARIABLE: &str = "PG_WITNESS_ALLOW_FROM";

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    address: IpAddr,
    bits: u8,
}

/// The address as a number, its bits at the top, and how many there are.
fn number(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

impl Subnet {
    /// Whether the address is one of them. An IPv4 address that came over an
    /// IPv6 socket is an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let (ours, theirs) = (number(self.address), number(address));
        let differ = ours.0 ^ theirs.0;
        ours.1 == theirs.1 && differ.leading_zeros() >= u32::from(self.bits)
    }

    /// Whether all of them are loopback addresses.
    pub fn is_loopback(&self) -> bool {
        let whole = match self.address {
            IpAddr::V4(_) => 8,
            IpAddr::V6(_) => 128,
        };
        self.address.is_loopback() && self.bits >= whole
    }
}

impl FromStr for Subnet {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| "is no address")?;
        let (number, width) = number(address);
        let bits = match bits {
            None => width,
            Some(bits) => bits.parse().map_err(|_| "has no number of bits")?,
        };
        if bits > width {
            return Err("has more bits than an address");
        }
        // 10.1.2.3/8 is a slip more often than 10.0.0.0/8 written oddly.
        let rest = number.checked_shl(u32::from(bits)).unwrap_or(0);
        if rest != 0 {
            return Err("has an address that goes on behind its bits");
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The networks of a list, or of the variable over it; none means all.
pub fn networks(said: Option<Located<Vec<String>>>, env: &Env) -> Result<Vec<Subnet>, ConfigError> {
    let said = match env.text(VARIABLE)? {
        Some(text) => Some(Located {
            value: text.split(',').map(|item| item.trim().to_owned()).collect(),
            place: Place::variable(VARIABLE),
        }),
        None => said,
    };
    let Some(said) = said else {
        return Ok(Vec::new());
    };
    if said.value.is_empty() || said.value.len() > NETWORKS_MAX {
        return Err(ConfigError::Invalid {
            place: said.place,
            value: None,
            why: format!("list 1 to {NETWORKS_MAX} networks, or remove it to allow all"),
        });
    }
    let each = said.value.iter().enumerate().map(|(index, text)| {
        text.parse().map_err(|why| ConfigError::Invalid {
            place: said.place.element(index),
            value: Some(text.clone()),
            why: format!("{why}; write a network such as 10.0.0.0/8 or fd00::/8"),
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_like_it() {
        for (network, address, inside) in [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "192.0.2.1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("2001:db8::1/128", "2001:db8::1", true),
        ] {
            let network: Subnet = network.parse().unwrap();
            assert_eq!(
                network.contains(address.parse().unwrap()),
                inside,
                "{network} {address}"
            );
        }
        for text in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "::1/64",
        ] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }
}
