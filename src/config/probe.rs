//! How the PostgreSQL servers of all clusters are probed: `probe` of our own
//! file, and `PG_WITNESS_PROBE_*`, which go over it and are all that Patroni's
//! file, whose words are not ours to add to, leaves room for.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::address;
use super::env::Env;
use super::error::{ConfigError, Located, Place};
use super::file;
use super::network::Subnet;
use crate::address::Address;
use crate::limits::{NETWORKS_MAX, PROBE_TRIES_MAX, SECONDS_MAX};
use crate::secret::Secret;

/// What every variable of the section begins with.
const PREFIX: &str = "PG_WITNESS_PROBE_";

/// The keys of `probe`; in capitals behind [`PREFIX`] the variables.
pub const KEYS: [&str; 10] = [
    "allow",
    "md5",
    "enabled",
    "interval",
    "timeout",
    "tries",
    "retry_pause",
    "user",
    "database",
    "password_file",
];

/// Longest name of a role or a database: PostgreSQL's own.
const NAME_BYTES_MAX: usize = 63;

/// Shortest time: a server is asked at most once a second.
const SECONDS_MIN: f64 = 1.0;

/// How PostgreSQL servers are probed.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeConfig {
    /// Whether they are.
    pub enabled: bool,
    /// From the beginning of one probe of a server to that of the next.
    pub interval: Duration,
    /// Longest that one host may take.
    pub timeout: Duration,
    /// Failures in a row that make a server unhealthy.
    pub tries: u32,
    /// From one try to the next while they fail.
    pub retry_pause: Duration,
    /// The role of the startup packet.
    pub user: String,
    /// The database of the startup packet.
    pub database: String,
    /// With it the probe logs in.
    pub password: Option<Secret>,
    /// Where that came from.
    pub password_file: Option<PathBuf>,
    /// To whom it logs in: the data nodes, and what `allow` lists.
    pub login_to: Vec<LoginHost>,
    /// Whether it answers a server that asks for MD5.
    pub md5: bool,
}

/// Where the probe may log in. The store names servers too, but any member, and
/// without a password anybody, can write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginHost {
    /// Addresses.
    Network(Subnet),
    /// A name, in small letters, as the `conn_url` has it.
    Name(String),
}

impl LoginHost {
    fn new(text: &str) -> Result<Self, &'static str> {
        match text.parse() {
            Ok(network) => Ok(Self::Network(network)),
            Err(_) if address::not_a_host(text).is_none() => {
                Ok(Self::Name(text.to_ascii_lowercase()))
            }
            Err(_) => Err("write a network such as 10.0.0.0/8, an address, or a host's name"),
        }
    }

    /// Whether this is a loopback, so that the cluster is on this host.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Network(network) => network.is_loopback(),
            Self::Name(name) => address::is_loopback(name),
        }
    }

    /// Whether it is the host that is called `name` and was found at `address`.
    pub fn is(&self, name: &str, address: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(address),
            Self::Name(known) => name.eq_ignore_ascii_case(known),
        }
    }
}

impl ProbeConfig {
    /// Lets it log in to the data nodes of a cluster too.
    pub fn trust(&mut self, partners: &[Address]) {
        for partner in partners {
            // An address of a member is a host, so this never fails.
            let Ok(host) = LoginHost::new(partner.host()) else {
                continue;
            };
            if !self.login_to.contains(&host) {
                self.login_to.push(host);
            }
        }
    }

    /// How old an answer may be before it is shown as old: two rounds with all
    /// their tries.
    pub fn fresh(&self) -> Duration {
        let tries = (self.timeout + self.retry_pause).saturating_mul(self.tries);
        (self.interval + tries).saturating_mul(2)
    }
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            tries: 3,
            retry_pause: Duration::from_secs(7),
            // Both exist nearly everywhere: where `pg_hba.conf` says `trust`, a
            // name that does not would be an error in the server's log at each
            // probe.
            user: "postgres".into(),
            database: "postgres".into(),
            password: None,
            password_file: None,
            login_to: Vec::new(),
            md5: false,
        }
    }
}

/// What was written; all of it optional.
#[derive(Default)]
pub struct RawProbe {
    /// `enabled`
    pub enabled: Option<Located<bool>>,
    /// `interval`, in seconds.
    pub interval: Option<Located<f64>>,
    /// `timeout`, in seconds.
    pub timeout: Option<Located<f64>>,
    /// `tries`
    pub tries: Option<Located<u32>>,
    /// `retry_pause`, in seconds.
    pub retry_pause: Option<Located<f64>>,
    /// `user`
    pub user: Option<Located<String>>,
    /// `database`
    pub database: Option<Located<String>>,
    /// `password_file`
    pub password_file: Option<Located<PathBuf>>,
    /// `allow`
    pub allow: Option<Located<Vec<String>>>,
    /// `md5`
    pub md5: Option<Located<bool>>,
}

impl RawProbe {
    /// The file's words with the environment's over them, checked and typed.
    pub fn validate(mut self, env: &Env) -> Result<ProbeConfig, ConfigError> {
        self.overlay(env)?;
        let default = ProbeConfig::default();
        let asks_by_name = self.user.is_some();
        let user = name(self.user, default.user)?;
        let database = name(self.database, default.database)?;
        let password = match &self.password_file {
            Some(path) if !asks_by_name => {
                return Err(ConfigError::Missing {
                    place: path.place.clone(),
                    remedy: "a password is somebody's: give user too".into(),
                });
            }
            Some(path) => Some(file::password_of(path, env)?),
            None => None,
        };
        Ok(ProbeConfig {
            enabled: self.enabled.is_none_or(|said| said.value),
            interval: seconds(self.interval, default.interval)?,
            timeout: seconds(self.timeout, default.timeout)?,
            tries: tries(self.tries, default.tries)?,
            retry_pause: seconds(self.retry_pause, default.retry_pause)?,
            user,
            database,
            password,
            password_file: self.password_file.map(|said| said.value),
            login_to: login_to(self.allow)?,
            md5: self.md5.is_some_and(|said| said.value),
        })
    }

    fn overlay(&mut self, env: &Env) -> Result<(), ConfigError> {
        for name in env.names(PREFIX) {
            let key = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
            let place = Place::variable(name);
            let Some(text) = env.text(name)? else {
                continue;
            };
            let said = |value: &str| Located {
                value: value.to_owned(),
                place: place.clone(),
            };
            match key.as_str() {
                "allow" => {
                    let each = text.split(',').map(|item| item.trim().to_owned());
                    self.allow = Some(Located {
                        value: each.collect(),
                        place: place.clone(),
                    });
                }
                "md5" => self.md5 = Some(truth(text, &place)?),
                "enabled" => self.enabled = Some(truth(text, &place)?),
                "interval" => self.interval = Some(number(text, &place)?),
                "timeout" => self.timeout = Some(number(text, &place)?),
                "tries" => self.tries = Some(number(text, &place)?),
                "retry_pause" => self.retry_pause = Some(number(text, &place)?),
                "user" => self.user = Some(said(text)),
                "database" => self.database = Some(said(text)),
                "password_file" => {
                    self.password_file = Some(Located {
                        value: text.into(),
                        place: place.clone(),
                    });
                }
                _ => {
                    return Err(ConfigError::Unknown {
                        place,
                        nearest: super::nearest(&key, &KEYS),
                        known: &KEYS,
                    });
                }
            }
        }
        Ok(())
    }
}

fn login_to(said: Option<Located<Vec<String>>>) -> Result<Vec<LoginHost>, ConfigError> {
    let Some(said) = said else {
        return Ok(Vec::new());
    };
    if said.value.len() > NETWORKS_MAX {
        return Err(invalid(
            &said.place,
            &format!("more than {NETWORKS_MAX} networks and hosts"),
        ));
    }
    let each = said.value.iter().enumerate().map(|(index, text)| {
        LoginHost::new(text).map_err(|why| ConfigError::Invalid {
            place: said.place.element(index),
            value: Some(text.clone()),
            why: why.into(),
        })
    });
    each.collect()
}

fn truth(text: &str, place: &Place) -> Result<Located<bool>, ConfigError> {
    let value = match text {
        "true" | "on" | "yes" | "1" => true,
        "false" | "off" | "no" | "0" => false,
        _ => return Err(invalid(place, "must be true or false")),
    };
    Ok(Located {
        value,
        place: place.clone(),
    })
}

fn number<T: std::str::FromStr>(text: &str, place: &Place) -> Result<Located<T>, ConfigError> {
    match text.parse() {
        Ok(value) => Ok(Located {
            value,
            place: place.clone(),
        }),
        Err(_) => Err(invalid(place, "must be a number")),
    }
}

fn seconds(said: Option<Located<f64>>, default: Duration) -> Result<Duration, ConfigError> {
    let Some(said) = said else { return Ok(default) };
    if (SECONDS_MIN..=SECONDS_MAX).contains(&said.value)
        && let Ok(duration) = Duration::try_from_secs_f64(said.value)
    {
        return Ok(duration);
    }
    let why = format!(
        "{} is no such time; give seconds from {SECONDS_MIN} to {SECONDS_MAX}",
        said.value
    );
    Err(invalid(&said.place, &why))
}

fn tries(said: Option<Located<u32>>, default: u32) -> Result<u32, ConfigError> {
    match said {
        None => Ok(default),
        Some(said) if (1..=PROBE_TRIES_MAX).contains(&said.value) => Ok(said.value),
        Some(said) => Err(invalid(
            &said.place,
            &format!("must be from 1 to {PROBE_TRIES_MAX}"),
        )),
    }
}

fn name(said: Option<Located<String>>, default: String) -> Result<String, ConfigError> {
    match said {
        None => Ok(default),
        Some(said)
            if said.value.contains('\0') || !(1..=NAME_BYTES_MAX).contains(&said.value.len()) =>
        {
            let why = format!("must be a name of 1 to {NAME_BYTES_MAX} bytes");
            Err(invalid(&said.place, &why))
        }
        Some(said) => Ok(said.value),
    }
}

fn invalid(place: &Place, why: &str) -> ConfigError {
    ConfigError::Invalid {
        place: place.clone(),
        value: None,
        why: why.into(),
    }
}
