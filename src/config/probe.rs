//! How the PostgreSQL servers of all clusters are probed: `probe` of our own
//! file, and `PG_WITNESS_PROBE_*`, which go over it and are all that Patroni's
//! file, whose words are not ours to add to, leaves room for.

use std::path::PathBuf;
use std::time::Duration;

use super::env::Env;
use super::error::{ConfigError, Place, Said};
use super::file;
use super::limits::{PROBE_TRIES_MAX, SECONDS_MAX};
use crate::wire::Secret;

/// What every variable of the section begins with.
const PREFIX: &str = "PG_WITNESS_PROBE_";

/// The keys of `probe`; in capitals behind [`PREFIX`] the variables.
pub const KEYS: [&str; 8] = [
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
}

impl ProbeConfig {
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
        }
    }
}

/// What was written; all of it optional.
#[derive(Default)]
pub struct RawProbe {
    /// `enabled`
    pub enabled: Option<Said<bool>>,
    /// `interval`, in seconds.
    pub interval: Option<Said<f64>>,
    /// `timeout`, in seconds.
    pub timeout: Option<Said<f64>>,
    /// `tries`
    pub tries: Option<Said<u32>>,
    /// `retry_pause`, in seconds.
    pub retry_pause: Option<Said<f64>>,
    /// `user`
    pub user: Option<Said<String>>,
    /// `database`
    pub database: Option<Said<String>>,
    /// `password_file`
    pub password_file: Option<Said<PathBuf>>,
}

impl RawProbe {
    /// The file's words with the environment's over them, checked and typed.
    pub fn believe(mut self, env: &Env) -> Result<ProbeConfig, ConfigError> {
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
        })
    }

    fn overlay(&mut self, env: &Env) -> Result<(), ConfigError> {
        for name in env.names(PREFIX) {
            let key = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
            let place = Place::variable(name);
            let Some(text) = env.text(name)? else {
                continue;
            };
            let said = |value: &str| Said {
                value: value.to_owned(),
                place: place.clone(),
            };
            match key.as_str() {
                "enabled" => self.enabled = Some(truth(text, &place)?),
                "interval" => self.interval = Some(number(text, &place)?),
                "timeout" => self.timeout = Some(number(text, &place)?),
                "tries" => self.tries = Some(number(text, &place)?),
                "retry_pause" => self.retry_pause = Some(number(text, &place)?),
                "user" => self.user = Some(said(text)),
                "database" => self.database = Some(said(text)),
                "password_file" => {
                    self.password_file = Some(Said {
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

fn truth(text: &str, place: &Place) -> Result<Said<bool>, ConfigError> {
    let value = match text {
        "true" | "on" | "yes" | "1" => true,
        "false" | "off" | "no" | "0" => false,
        _ => return Err(invalid(place, "must be true or false")),
    };
    Ok(Said {
        value,
        place: place.clone(),
    })
}

fn number<T: std::str::FromStr>(text: &str, place: &Place) -> Result<Said<T>, ConfigError> {
    match text.parse() {
        Ok(value) => Ok(Said {
            value,
            place: place.clone(),
        }),
        Err(_) => Err(invalid(place, "must be a number")),
    }
}

fn seconds(said: Option<Said<f64>>, default: Duration) -> Result<Duration, ConfigError> {
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

fn tries(said: Option<Said<u32>>, default: u32) -> Result<u32, ConfigError> {
    match said {
        None => Ok(default),
        Some(said) if (1..=PROBE_TRIES_MAX).contains(&said.value) => Ok(said.value),
        Some(said) => Err(invalid(
            &said.place,
            &format!("must be from 1 to {PROBE_TRIES_MAX}"),
        )),
    }
}

fn name(said: Option<Said<String>>, default: String) -> Result<String, ConfigError> {
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
