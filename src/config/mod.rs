//! What the operator said: file, environment and flags, parsed once, validated
//! and typed. Nothing outside this module reads a file of the operator's.
//!
//! Two dialects: Patroni's own YAML (`patroni`), so that a witness takes over
//! from `patroni_raft_controller` with the file that is there, and our JSON
//! (`own`) for many clusters and for what Patroni has no words for.

use std::path::PathBuf;

use log::LevelFilter;

use crate::address::Address;
use crate::secret::Secret;

mod address;
pub mod appliance;
mod commands;
mod doubts;
mod env;
mod error;
mod file;
mod http;
mod json;
mod level;
mod load;
mod network;
mod node;
mod patroni;
mod placement;
mod probe;
mod raw;
mod reload;
mod scalar;
mod service;
mod suggest;
#[cfg(test)]
mod tests;
mod timing;
mod variables;
mod yaml;

pub use appliance::{Addressing, ApplianceConfig, Ntp};
pub use commands::{Commands, RemedyStep};
pub use env::Env;
pub use error::{ConfigError, Place, shown};
pub use file::read_password;
pub use http::{HttpConfig, file_token};
pub use load::{DEMO, DEMO_CLUSTER, appliance_alone, load};
pub use network::Subnet;
pub use placement::{PlacementConfig, VotePolicy, ZonePolicy};
pub use probe::{LoginHost, ProbeConfig};
pub use reload::{ReloadPlan, reload};
pub use suggest::nearest;
pub use timing::Timing;
pub use variables::ON_A_BOARD;

/// Everything that was configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The clusters to vote in, at least one.
    pub clusters: Vec<ClusterConfig>,
    /// How much to log.
    pub log: LogConfig,
    /// Where to serve the status; none if it is switched off.
    pub http: Option<HttpConfig>,
    /// How PostgreSQL servers are probed.
    pub probe: ProbeConfig,
    /// How the machine is to be set up, where it is ours.
    pub appliance: Option<ApplianceConfig>,
    /// Where all this came from.
    pub source: Source,
    /// The file of the service's variables that were read too, if it was.
    pub environment_file: Option<PathBuf>,
    /// What is odd but no reason to stop; to be logged at start.
    pub warnings: Vec<String>,
}

/// One cluster: a field for each of its keys.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// How logs and commands call it; in our file also its folder.
    pub name: String,
    /// The address by which the others know this member.
    pub self_addr: Address,
    /// Where to listen, when that is not what `self_addr` implies; see
    /// [`ClusterConfig::bind`].
    pub bind_addr: Option<Bind>,
    /// The other members as configured, without `self_addr`, without repetition.
    pub partner_addrs: Vec<Address>,
    /// The folder of this cluster's state.
    pub data_dir: PathBuf,
    /// The password, whichever way it was given.
    pub password: Option<Secret>,
    /// The file it came from, if it came from one.
    pub password_file: Option<PathBuf>,
    /// What an empty state means (S7).
    pub bootstrap: Bootstrap,
    /// How eagerly to campaign.
    pub election: Election,
    /// The times.
    pub timing: Timing,
    /// Where the members stand, and what follows from it.
    pub placement: PlacementConfig,
    /// Who may reach the Raft port; all, if none is named.
    pub allow_from: Vec<Subnet>,
    /// The commands that an operator may need for this cluster.
    pub commands: Commands,
}

impl ClusterConfig {
    /// Where to listen: `bind_addr`, else the port of `self_addr` on every
    /// interface of its family (spec 1.1).
    pub fn bind(&self) -> Bind {
        self.bind_addr.clone().unwrap_or_else(|| Bind {
            host: if self.self_addr.host().contains(':') {
                "::".into()
            } else {
                "0.0.0.0".into()
            },
            port: self.self_addr.port(),
        })
    }
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// A name, an IPv4 or a bare IPv6 address.
    pub host: String,
    /// The TCP port, not 0.
    pub port: u16,
}

impl Bind {
    /// Whether two sockets could not listen on both.
    fn collides(&self, other: &Self) -> bool {
        let wild = |host: &str| matches!(host, "0.0.0.0" | "::");
        self.port == other.port
            && (self.host == other.host || wild(&self.host) || wild(&other.host))
    }
}

impl std::fmt::Display for Bind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What an empty state means (S7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootstrap {
    /// Nobody says: a first deployment in steps is possible, where the hosts of
    /// the nodes that are missing refuse connections for a while.
    Unset,
    /// The cluster exists: only all members together can show that it is new.
    Join,
    /// The operator says that the cluster is new: refused once is enough.
    New,
}

impl std::fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unset => "unset",
            Self::Join => "join",
            Self::New => "new",
        })
    }
}

/// How eagerly to campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// Three times the peers' timeout: lead only when nobody else does.
    Reluctant,
    /// As any other member.
    Equal,
}

impl std::fmt::Display for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reluctant => "reluctant",
            Self::Equal => "equal",
        })
    }
}

/// How much to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// The least important level that is written.
    pub level: LevelFilter,
}

/// Where a configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nothing was configured: one cluster to try.
    Demo,
    /// The variables `PATRONI_RAFT_*` alone.
    Environment,
    /// The YAML in `PATRONI_CONFIGURATION`.
    PatroniVariable,
    /// Patroni's YAML file, or a folder of them.
    Patroni(PathBuf),
    /// Our JSON file.
    Own(PathBuf),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Demo => f.write_str("nothing configured: the demo cluster"),
            Self::Environment => f.write_str("the environment, PATRONI_RAFT_*"),
            Self::PatroniVariable => f.write_str("the environment, PATRONI_CONFIGURATION"),
            Self::Patroni(path) => write!(f, "{}, Patroni's YAML", path.display()),
            Self::Own(path) => write!(f, "{}, JSON", path.display()),
        }
    }
}

/// Where a package keeps the configuration: what every command reads when no file
/// is named.
pub const DEFAULT_FILE: &str = "/etc/pg-witness/config";

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigSource {
    /// The file or folder named.
    pub file: Option<PathBuf>,
    /// The file that is read if none is named, it exists, and the environment alone
    /// configures nothing. The variables of its service are in `environment` beside it.
    pub default_file: Option<PathBuf>,
    /// Whether we stand in for `patroni_raft_controller`: then a file that does
    /// not exist leaves the word to the environment, and nothing configured is
    /// an error, no demo.
    pub as_controller: bool,
}

impl ConfigSource {
    /// What an operator's command reads: the file named, else the package's.
    pub fn named(file: Option<PathBuf>) -> Self {
        Self {
            file,
            default_file: Some(DEFAULT_FILE.into()),
            as_controller: false,
        }
    }
}
