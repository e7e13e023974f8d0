//! The machine itself, where it is ours (`src/appliance`): the section
//! `appliance` of our own file, which any laptop can edit on the card. On other
//! machines the section may stand there and means nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use super::env::Env;
use super::error::{ConfigError, Located, Place};
use super::variables::ON_A_BOARD;
use crate::limits::{HOST_BYTES_MAX, SERVERS_MAX};

/// The keys of `appliance`.
pub const KEYS: [&str; 7] = [
    "hostname", "address", "gateway", "address6", "gateway6", "dns", "ntp",
];

/// Where the data partition is mounted: the folder of all state unless the file
/// says another.
pub const DATA: &str = "/data";

/// Asked for the time when neither the file nor the network names a server.
const NTP_DEFAULT: &str = "pool.ntp.org";

/// How the machine is to be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplianceConfig {
    /// Its name, for the DHCP server and the console.
    pub hostname: String,
    /// Its IPv4 address.
    pub ipv4: Addressing<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Addressing<Ipv6Addr>,
    /// The name servers; none: those that DHCP names.
    pub dns: Vec<IpAddr>,
    /// Where the time comes from.
    pub ntp: Ntp,
}

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing<A> {
    /// From the network: DHCP, or IPv6's own router advertisements.
    Automatic,
    /// From the file.
    Static {
        /// The address.
        address: A,
        /// How many of its bits name the network.
        prefix: u8,
        /// The way out.
        gateway: Option<A>,
    },
    /// None is wanted.
    Off,
}

/// Where the time comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ntp {
    /// From the servers that DHCP names, else from the public pool.
    Automatic(&'static str),
    /// From these servers, none of them: not at all.
    Servers(Vec<String>),
}

impl Default for ApplianceConfig {
    fn default() -> Self {
        Self {
            hostname: "pg-witness".into(),
            ipv4: Addressing::Automatic,
            ipv6: Addressing::Automatic,
            dns: Vec::new(),
            ntp: Ntp::Automatic(NTP_DEFAULT),
        }
    }
}

/// What was written about it.
#[derive(Default)]
pub struct RawAppliance {
    /// Whether the section is there.
    pub present: bool,
    /// `hostname`
    pub hostname: Option<Located<String>>,
    /// `address`: `dhcp`, `off` or an address with its prefix.
    pub address: Option<Located<String>>,
    /// `gateway`
    pub gateway: Option<Located<String>>,
    /// `address6`: `auto`, `off` or an address with its prefix.
    pub address6: Option<Located<String>>,
    /// `gateway6`
    pub gateway6: Option<Located<String>>,
    /// `dns`
    pub dns: Option<Located<Vec<String>>>,
    /// `ntp`
    pub ntp: Option<Located<Vec<String>>>,
}

impl RawAppliance {
    /// Checks and types it, the variables (on a card: words of the kernel's
    /// command line) over what was written. None where the machine is not ours.
    pub fn validate(mut self, env: &Env) -> Result<Option<ApplianceConfig>, ConfigError> {
        if !self.present && env.text(ON_A_BOARD)?.is_none() {
            return Ok(None);
        }
        self.overlay(env)?;
        let default = ApplianceConfig::default();
        Ok(Some(ApplianceConfig {
            hostname: match &self.hostname {
                Some(said) => hostname(said)?,
                None => default.hostname,
            },
            ipv4: addressing(self.address.as_ref(), self.gateway.as_ref(), "dhcp")?,
            ipv6: addressing(self.address6.as_ref(), self.gateway6.as_ref(), "auto")?,
            dns: match &self.dns {
                Some(said) => each(said, |text| {
                    text.parse()
                        .map_err(|_| "write an IP address such as 10.0.0.1")
                })?,
                None => default.dns,
            },
            ntp: match &self.ntp {
                Some(said) => Ntp::Servers(each(said, |text| {
                    let host = text.bytes().all(|b| b.is_ascii_graphic());
                    match host && !text.is_empty() && text.len() <= HOST_BYTES_MAX {
                        true => Ok(text.to_owned()),
                        false => Err("write a name or an IP address, without a port"),
                    }
                })?),
                None => default.ntp,
            },
        }))
    }

    fn overlay(&mut self, env: &Env) -> Result<(), ConfigError> {
        let texts = [
            ("PG_WITNESS_HOSTNAME", &mut self.hostname),
            ("PG_WITNESS_ADDRESS", &mut self.address),
            ("PG_WITNESS_GATEWAY", &mut self.gateway),
            ("PG_WITNESS_ADDRESS6", &mut self.address6),
            ("PG_WITNESS_GATEWAY6", &mut self.gateway6),
        ];
        for (name, over) in texts {
            if let Some(text) = env.text(name)? {
                *over = Some(Located {
                    value: text.to_owned(),
                    place: Place::variable(name),
                });
            }
        }
        for (name, over) in [
            ("PG_WITNESS_DNS", &mut self.dns),
            ("PG_WITNESS_NTP", &mut self.ntp),
        ] {
            if let Some(text) = env.text(name)? {
                *over = Some(Located {
                    value: text.split(',').map(str::to_owned).collect(),
                    place: Place::variable(name),
                });
            }
        }
        Ok(())
    }
}

/// An address's bits, of either family.
trait Bits: Copy + FromStr {
    /// How many there are.
    const WIDTH: u8;
    /// How an address with its prefix is written.
    const EXAMPLE: &'static str;
    /// They, at the top.
    fn bits(self) -> u128;
}

impl Bits for Ipv4Addr {
    const WIDTH: u8 = 32;
    const EXAMPLE: &'static str = "10.0.3.9/24";
    fn bits(self) -> u128 {
        u128::from(self.to_bits()) << 96
    }
}

impl Bits for Ipv6Addr {
    const WIDTH: u8 = 128;
    const EXAMPLE: &'static str = "2001:db8::9/64";
    fn bits(self) -> u128 {
        self.to_bits()
    }
}

fn addressing<A: Bits>(
    address: Option<&Located<String>>,
    gateway: Option<&Located<String>>,
    automatic: &str,
) -> Result<Addressing<A>, ConfigError> {
    let found = match address {
        None => Addressing::Automatic,
        Some(said) if said.value == automatic => Addressing::Automatic,
        Some(said) if said.value == "off" => Addressing::Off,
        Some(said) => {
            let example = A::EXAMPLE;
            let (address, prefix) = with_prefix(&said.value).ok_or_else(|| {
                let why = format!(
                    "write \"{automatic}\", \"off\", or an address with the length of its \
                     network's prefix such as {example}"
                );
                invalid(said, why)
            })?;
            Addressing::Static {
                address,
                prefix,
                gateway: None,
            }
        }
    };
    let Some(said) = gateway else {
        return Ok(found);
    };
    let Addressing::Static {
        address, prefix, ..
    } = found
    else {
        return Err(ConfigError::Conflict {
            place: said.place.clone(),
            why: "a gateway belongs to an address that is written here too; remove it, or write \
                  the address"
                .into(),
        });
    };
    let parsed: Option<A> = said.value.parse().ok();
    let near = |gateway: A| {
        let differ = gateway.bits() ^ address.bits();
        let link_local = A::WIDTH == 128 && gateway.bits() >> 118 == 0xfe80 >> 6;
        differ.leading_zeros() >= u32::from(prefix) || link_local
    };
    match parsed {
        Some(gateway) if near(gateway) => Ok(Addressing::Static {
            address,
            prefix,
            gateway: Some(gateway),
        }),
        Some(_) => {
            let why = format!("is not in the network of the address (/{prefix})");
            Err(invalid(said, why))
        }
        None => Err(invalid(said, "write an IP address without a prefix".into())),
    }
}

/// `ADDRESS/BITS`
fn with_prefix<A: Bits>(text: &str) -> Option<(A, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let prefix: u8 = prefix.parse().ok()?;
    let address: A = address.parse().ok()?;
    let host = address.bits().checked_shl(prefix.into()).unwrap_or(0);
    let sound =
        (1..=A::WIDTH).contains(&prefix) && (prefix.saturating_add(1) >= A::WIDTH || host != 0);
    sound.then_some((address, prefix))
}

fn hostname(said: &Located<String>) -> Result<String, ConfigError> {
    let name = &said.value;
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if name.len() <= 63 && name.split('.').all(label) {
        return Ok(name.clone());
    }
    let why = "a host's name has letters, digits and hyphens, such as witness-c";
    Err(invalid(said, why.into()))
}

fn each<T>(
    said: &Located<Vec<String>>,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Vec<T>, ConfigError> {
    if said.value.len() > SERVERS_MAX {
        return Err(ConfigError::Invalid {
            place: said.place.clone(),
            value: None,
            why: format!("more than {SERVERS_MAX} servers"),
        });
    }
    let one = |(index, text): (usize, &String)| {
        parse(text).map_err(|why| ConfigError::Invalid {
            place: said.place.element(index),
            value: Some(text.clone()),
            why: why.into(),
        })
    };
    said.value.iter().enumerate().map(one).collect()
}

fn invalid(said: &Located<String>, why: String) -> ConfigError {
    ConfigError::Invalid {
        place: said.place.clone(),
        value: Some(said.value.clone()),
        why,
    }
}

/// The page's default on a card: for everybody to read, by IPv4 and IPv6, changing
/// nothing.
pub fn page() -> super::HttpConfig {
    super::HttpConfig {
        listen: super::Bind {
            host: "::".into(),
            port: super::http::PORT,
        },
        read_only: true,
        ..super::HttpConfig::default()
    }
}

/// The data partition's folder, as the default of `data_dir`.
pub fn data_dir() -> PathBuf {
    DATA.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(value: &str) -> Option<Located<String>> {
        Some(Located {
            value: value.into(),
            place: Place::top("pg-witness.json").key("appliance").key("x"),
        })
    }

    fn ipv4(address: &str, gateway: Option<&str>) -> Result<Addressing<Ipv4Addr>, String> {
        let gateway = gateway.and_then(said);
        addressing(said(address).as_ref(), gateway.as_ref(), "dhcp").map_err(|e| e.to_string())
    }

    #[test]
    fn an_address_is_automatic_or_written_with_its_prefix() {
        assert_eq!(ipv4("dhcp", None), Ok(Addressing::Automatic));
        assert_eq!(ipv4("off", None), Ok(Addressing::Off));
        let [address, gateway] = ["10.0.3.9", "10.0.3.1"].map(|a| a.parse().unwrap());
        let expected = Addressing::Static {
            address,
            prefix: 24,
            gateway: Some(gateway),
        };
        assert_eq!(ipv4("10.0.3.9/24", Some("10.0.3.1")), Ok(expected));
        for wrong in [
            "10.0.3.9",
            "10.0.3.9/33",
            "10.0.3.0/24",
            "10.0.3.9/",
            "auto",
            "fd00::1/64",
        ] {
            let refused = ipv4(wrong, None).unwrap_err();
            assert!(
                refused.contains("10.0.3.9/24") && refused.contains(wrong),
                "{refused}"
            );
        }
        let refused = ipv4("10.0.3.9/24", Some("10.0.4.1")).unwrap_err();
        assert!(refused.contains("network of the address"), "{refused}");
        let refused = ipv4("dhcp", Some("10.0.4.1")).unwrap_err();
        assert!(refused.contains("write the address"), "{refused}");
    }

    #[test]
    fn an_ipv6_gateway_may_be_known_on_the_link_alone() {
        for (gateway, well) in [
            ("fe80::1", true),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            let (address, gateway) = (said("2001:db8::9/64"), said(gateway));
            let found = addressing::<Ipv6Addr>(address.as_ref(), gateway.as_ref(), "auto");
            assert_eq!(found.is_ok(), well);
        }
    }

    #[test]
    fn the_example_on_the_card_is_accepted() {
        let text = include_str!("../../image/card/pg-witness.example.txt");
        // Comments stand behind two blanks, or far to the right.
        let code = |line: &str| {
            let trimmed = line.trim_start();
            let near = line.len() - trimmed.len() < 10;
            let before = trimmed.split("  ").next().filter(|_| near);
            before.unwrap_or_default().to_owned()
        };
        let start = text.find("\n{\n").unwrap();
        let end = text.find("\n}\n").unwrap();
        let json: String = text[start..end + 2].lines().map(code).collect();

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pg-witness.json");
        std::fs::write(&file, json).unwrap();
        let source = crate::config::ConfigSource {
            file: Some(file),
            ..crate::config::ConfigSource::default()
        };
        let env: Env = [(ON_A_BOARD, "1")].into_iter().collect();
        let config = crate::config::load(&source, &env).unwrap();
        let machine = config.appliance.unwrap();
        assert_eq!(machine.hostname, "witness-c");
        assert!(matches!(
            (machine.ipv4, machine.ipv6),
            (Addressing::Static { .. }, Addressing::Static { .. })
        ));
        assert_eq!(config.http.unwrap().listen, page().listen);
    }

    #[test]
    fn the_kernels_command_line_goes_over_the_file() {
        let raw = RawAppliance {
            hostname: said("from-the-file"),
            ..RawAppliance::default()
        };
        let env: Env = [
            (ON_A_BOARD, "1"),
            ("PG_WITNESS_HOSTNAME", "from-the-kernel"),
            ("PG_WITNESS_ADDRESS", "10.0.3.9/24"),
            ("PG_WITNESS_NTP", "10.0.3.1,10.0.3.2"),
        ]
        .into_iter()
        .collect();
        let config = raw.validate(&env).unwrap().unwrap();
        assert_eq!(config.hostname, "from-the-kernel");
        assert!(matches!(config.ipv4, Addressing::Static { prefix: 24, .. }));
        assert_eq!(
            config.ntp,
            Ntp::Servers(vec!["10.0.3.1".into(), "10.0.3.2".into()])
        );
        assert_eq!(
            RawAppliance::default().validate(&Env::default()).unwrap(),
            None
        );
    }
}
