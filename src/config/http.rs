//! Where the status is served, and to whom. On the loopback to everybody; on
//! another address with a token, or, said explicitly, for reading only.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::env::Env;
use super::error::{ConfigError, Located, Place};
use super::{Bind, address, file};
use crate::limits::SERVERS_MAX;
use crate::secret::Secret;

/// The keys of `http`.
pub const KEYS: [&str; 4] = ["listen", "token_file", "read_only", "hosts"];

/// The default port, on a card too. It must differ from every port of a Patroni on
/// the same host: REST APIs are numbered upward from 8008, and Patroni's own
/// acceptance suite uses 8008 to 8010.
pub const PORT: u16 = 8272;

/// The default address: this host only.
const HOST: &str = "127.0.0.1";

/// Where the status is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The address to listen on.
    pub listen: Bind,
    /// What whoever asks must show.
    pub token: Option<Secret>,
    /// The file it came from.
    pub token_file: Option<PathBuf>,
    /// Whether all may read, and what changes something needs the token, or is
    /// refused where there is none.
    pub read_only: bool,
    /// Names, in small letters, by which it may be asked for beside this machine's
    /// addresses: a page of any other name may be somebody else's (DNS rebinding).
    pub hosts: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: Bind {
                host: HOST.into(),
                port: PORT,
            },
            token: None,
            token_file: None,
            read_only: false,
            hosts: Vec::new(),
        }
    }
}

impl HttpConfig {
    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        let host = self.listen.host.as_str();
        host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

/// What was written about it.
#[derive(Default)]
pub struct RawHttp {
    /// `listen`: an address, or `off`.
    pub listen: Option<Located<String>>,
    /// `token_file`
    pub token_file: Option<Located<PathBuf>>,
    /// `read_only`
    pub read_only: Option<Located<bool>>,
    /// `hosts`
    pub hosts: Option<Located<Vec<String>>>,
}

impl RawHttp {
    /// Checks and types it, the environment over what was written. None if it is
    /// switched off; else with whether an address was said.
    pub fn validate(
        mut self,
        env: &Env,
    ) -> Result<Option<(HttpConfig, Option<Place>)>, ConfigError> {
        self.overlay(env)?;
        let said = match &self.listen {
            Some(listen) if listen.value == "off" => return Ok(None),
            listen => listen.as_ref(),
        };
        let mut config = HttpConfig::default();
        if let Some(listen) = said {
            config.listen = address::bind(listen)?;
        }
        if let Some(file) = &self.token_file {
            config.token = Some(file::password_of(file, env)?);
            config.token_file = Some(file.value.clone());
        }
        config.read_only = self.read_only.is_some_and(|said| said.value);
        if let Some(hosts) = &self.hosts {
            config.hosts = names(hosts)?;
        }
        let place = said.map(|said| said.place.clone());
        match place {
            Some(place) if config.token.is_none() && !config.read_only && !config.is_loopback() => {
                Err(ConfigError::Missing {
                    place,
                    remedy: format!(
                        "{} is open to the network: name a token_file, or set read_only to true",
                        config.listen
                    ),
                })
            }
            place => Ok(Some((config, place))),
        }
    }

    /// Where nothing was said, what `default` says.
    pub fn default_to(&mut self, default: &HttpConfig, place: &Place) {
        let place = &place.key("http");
        if self.listen.is_none() {
            self.listen = Some(Located {
                value: default.listen.to_string(),
                place: place.key("listen"),
            });
        }
        if self.read_only.is_none() && self.token_file.is_none() {
            self.read_only = Some(Located {
                value: default.read_only,
                place: place.key("read_only"),
            });
        }
    }

    fn overlay(&mut self, env: &Env) -> Result<(), ConfigError> {
        let variable = |name: &str| -> Result<Option<Located<String>>, ConfigError> {
            let value = env.text(name)?.map(str::to_owned);
            Ok(value.map(|value| Located {
                value,
                place: Place::variable(name),
            }))
        };
        if let Some(said) = variable("PG_WITNESS_HTTP_LISTEN")? {
            self.listen = Some(said);
        }
        if let Some(said) = variable("PG_WITNESS_HTTP_HOSTS")? {
            let hosts = said.value.split(',').map(|host| host.trim().to_owned());
            self.hosts = Some(Located {
                value: hosts.collect(),
                place: said.place,
            });
        }
        if let Some(said) = variable("PG_WITNESS_HTTP_TOKEN_FILE")? {
            self.token_file = Some(Located {
                value: said.value.into(),
                place: said.place,
            });
        }
        if let Some(said) = variable("PG_WITNESS_HTTP_READ_ONLY")? {
            let value = match said.value.as_str() {
                "true" => true,
                "false" => false,
                other => {
                    return Err(ConfigError::Invalid {
                        value: Some(other.into()),
                        place: said.place,
                        why: "must be true or false".into(),
                    });
                }
            };
            self.read_only = Some(Located {
                value,
                place: said.place,
            });
        }
        Ok(())
    }
}

fn names(said: &Located<Vec<String>>) -> Result<Vec<String>, ConfigError> {
    if said.value.len() > SERVERS_MAX {
        return Err(ConfigError::Invalid {
            place: said.place.clone(),
            value: None,
            why: format!("more than {SERVERS_MAX} names"),
        });
    }
    let each = said
        .value
        .iter()
        .enumerate()
        .map(|(index, host)| match address::not_a_host(host) {
            None => Ok(host.to_ascii_lowercase()),
            Some(_) => Err(ConfigError::Invalid {
                place: said.place.element(index),
                value: Some(host.clone()),
                why: "write a name without a port, such as witness.example.org".into(),
            }),
        });
    each.collect()
}

/// The token in a file named on the command line.
pub fn file_token(path: &Path, env: &Env) -> Result<Secret, ConfigError> {
    let said = Located {
        value: path.to_path_buf(),
        place: Place::top("--token-file"),
    };
    file::password_of(&said, env)
}
