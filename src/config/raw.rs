//! One cluster as it was written, from whichever file or variable, before it is
//! validated: here texts become addresses, names, times and secrets.

use std::path::PathBuf;

use super::address;
use super::env::Env;
use super::error::{ConfigError, Located, Place, shown};
use super::file;
use super::network;
use super::placement::RawPlacement;
use super::suggest::choice;
use super::timing::{self, Timing};
use super::{Bootstrap, ClusterConfig, Commands, Election};
use crate::address::Address;
use crate::limits::{CLUSTER_NAME_BYTES_MAX, PARTNERS_MAX};
use crate::secret::Secret;

/// Says `bootstrap` for every cluster, over what the file says.
const BOOTSTRAP: &str = "PG_WITNESS_BOOTSTRAP";

/// What was written, a field for each key; all of it optional until it is asked for.
pub struct RawCluster {
    /// Where the cluster stands in its file.
    pub place: Place,
    /// `name` of our own file.
    pub name: Option<Located<String>>,
    /// `self_addr`
    pub self_addr: Option<Located<String>>,
    /// `bind_addr`
    pub bind_addr: Option<Located<String>>,
    /// `partner_addrs`
    pub partner_addrs: Option<Located<Vec<String>>>,
    /// `data_dir`
    pub data_dir: Option<Located<String>>,
    /// `password`, which may be empty in Patroni's file.
    pub password: Option<Located<Secret>>,
    /// `password_file` of our own file.
    pub password_file: Option<Located<PathBuf>>,
    /// `bootstrap` of our own file.
    pub bootstrap: Option<Located<String>>,
    /// `election` of our own file.
    pub election: Option<Located<String>>,
    /// `allow_from` of our own file.
    pub allow_from: Option<Located<Vec<String>>>,
    /// The times, in the order of [`timing::KEYS`].
    pub timing: timing::Written,
    /// `zone` and what belongs to it.
    pub placement: RawPlacement,
}

/// Whose rules hold where a value is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Patroni's `raft:` section or its environment.
    Patroni,
    /// Our own JSON.
    Own,
}

impl RawCluster {
    /// Nothing written yet.
    pub fn empty(place: Place) -> Self {
        Self {
            place,
            name: None,
            self_addr: None,
            bind_addr: None,
            partner_addrs: None,
            data_dir: None,
            password: None,
            password_file: None,
            bootstrap: None,
            election: None,
            allow_from: None,
            timing: Default::default(),
            placement: RawPlacement::default(),
        }
    }

    /// Checks and types all of it.
    pub fn validate(
        &self,
        dialect: Dialect,
        default_dir: Option<PathBuf>,
        env: &Env,
    ) -> Result<ClusterConfig, ConfigError> {
        let self_addr = self.self_addr()?;
        let bind_addr = self.bind_addr.as_ref().map(address::bind).transpose()?;
        let partner_addrs = self.partners(&self_addr)?;
        let name = match (&self.name, dialect) {
            (Some(name), _) => safe_name(name)?,
            (None, Dialect::Patroni) => self_addr.as_str().to_owned(),
            (None, Dialect::Own) => {
                return Err(self.missing("name", "give the cluster a short name, such as main"));
            }
        };
        let bootstrap = self.bootstrap(dialect, partner_addrs.is_empty(), env)?;
        let election = match &self.election {
            None => Election::Reluctant,
            Some(said) => choice(
                said,
                &[
                    ("reluctant", Election::Reluctant),
                    ("equal", Election::Equal),
                ],
            )?,
        };
        let data_dir = match (&self.data_dir, default_dir) {
            (Some(said), _) => PathBuf::from(path_text(said)?),
            (None, Some(folder)) => folder.join(&name),
            // Python keeps its files in the current directory.
            (None, None) if dialect == Dialect::Patroni => PathBuf::from("."),
            (None, None) => {
                let remedy = "give the folder for the state here or data_dir for all at the top, \
                              such as /var/lib/pg-witness";
                return Err(self.missing("data_dir", remedy));
            }
        };
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(file)) => {
                return Err(ConfigError::Conflict {
                    place: file.place.clone(),
                    why: "password is given too; keep one of them".into(),
                });
            }
            (Some(password), None) => Some(password.value.clone()),
            (None, Some(file)) => Some(file::password_of(file, env)?),
            (None, None) => None,
        };
        Ok(ClusterConfig {
            name,
            self_addr,
            bind_addr,
            partner_addrs,
            data_dir,
            password,
            password_file: self.password_file.as_ref().map(|said| said.value.clone()),
            bootstrap,
            election,
            timing: Timing::new(self.timing.clone(), &self.place)?,
            placement: self.placement.clone().validate()?,
            allow_from: network::networks(self.allow_from.clone(), env)?,
            commands: Commands::default(),
        })
    }

    fn self_addr(&self) -> Result<Address, ConfigError> {
        match &self.self_addr {
            Some(said) => address::member(&said.value, &said.place),
            None => Err(self.missing(
                "self_addr",
                "give the address by which the data nodes reach this witness, such as \
                 10.0.0.9:2222",
            )),
        }
    }

    /// The partners without ourselves and without repetition: Python keeps them
    /// in a set and drops its own address, so that all nodes may have one list.
    fn partners(&self, self_addr: &Address) -> Result<Vec<Address>, ConfigError> {
        let Some(said) = &self.partner_addrs else {
            return Ok(Vec::new());
        };
        if said.value.len() > PARTNERS_MAX {
            return Err(ConfigError::Invalid {
                place: said.place.clone(),
                value: None,
                why: format!("more than {PARTNERS_MAX} partners"),
            });
        }
        let mut partners: Vec<Address> = Vec::new();
        for (index, text) in said.value.iter().enumerate() {
            let partner = address::member(text, &said.place.element(index))?;
            if partner != *self_addr && !partners.contains(&partner) {
                partners.push(partner);
            }
        }
        Ok(partners)
    }

    /// Without partners there is nobody to join: Patroni's controller then founds
    /// a cluster of its own, and our file must say so.
    fn bootstrap(
        &self,
        dialect: Dialect,
        alone: bool,
        env: &Env,
    ) -> Result<Bootstrap, ConfigError> {
        let variable = env.text(BOOTSTRAP)?.map(|text| Located {
            value: text.to_owned(),
            place: Place::variable(BOOTSTRAP),
        });
        let words = [("join", Bootstrap::Join), ("new", Bootstrap::New)];
        let said = variable.as_ref().or(self.bootstrap.as_ref());
        let said = said.map(|said| choice(said, &words)).transpose()?;
        match (said, alone, dialect) {
            (Some(Bootstrap::Join), true, _) | (None, true, Dialect::Own) => Err(self.missing(
                "partner_addrs",
                "list the data nodes, such as [\"10.0.0.1:2222\", \"10.0.0.2:2222\"], or set \
                 bootstrap to \"new\" to found a cluster alone",
            )),
            (said, ..) => Ok(said.unwrap_or(Bootstrap::Unset)),
        }
    }

    fn missing(&self, key: &str, remedy: &str) -> ConfigError {
        ConfigError::Missing {
            place: self.place.key(key),
            remedy: remedy.into(),
        }
    }
}

/// A name that is one harmless folder.
fn safe_name(said: &Located<String>) -> Result<String, ConfigError> {
    let name = &said.value;
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.bytes().all(harmless) && name.len() <= CLUSTER_NAME_BYTES_MAX {
        return Ok(name.clone());
    }
    Err(ConfigError::Invalid {
        place: said.place.clone(),
        value: Some(name.clone()),
        why: format!(
            "a name also names a folder: up to {CLUSTER_NAME_BYTES_MAX} letters, digits, dots, \
             hyphens and underscores, the first a letter or digit"
        ),
    })
}

/// A path that names something.
fn path_text(said: &Located<String>) -> Result<&str, ConfigError> {
    match said.value.as_str() {
        // Patroni's way to say "the current directory".
        "" => Ok("."),
        path if path.contains('\0') => Err(ConfigError::Invalid {
            place: said.place.clone(),
            value: Some(shown(path)),
            why: "a path cannot hold a zero byte".into(),
        }),
        path => Ok(path),
    }
}
