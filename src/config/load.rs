//! Which file or variables are read, and what must hold between the clusters.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use log::LevelFilter;

use super::appliance::{self, ApplianceConfig};
use super::commands::{Commands, Process};
use super::env::Env;
use super::error::{ConfigError, Place, shown};
use super::http::RawHttp;
use super::node::YamlNode;
use super::probe::RawProbe;
use super::raw::{Dialect, RawCluster};
use super::variables::{NOTIFY_SOCKET, PATRONI_CONFIGURATION};
use super::{
    Bind, Bootstrap, ClusterConfig, Config, ConfigSource, Election, HttpConfig, LogConfig,
    PlacementConfig,
};
use super::{Source, Timing, address, doubts, file, json, patroni, service, variables, yaml};
use crate::limits;

/// `off`: whatever is not configured is missing, and no demo runs in its stead. The
/// container image sets it.
pub const DEMO: &str = "PG_WITNESS_DEMO";

/// Reads the configuration: the file named, else `PATRONI_CONFIGURATION`, else
/// the variables alone, else the default file, else the demo. The variables
/// `PATRONI_RAFT_*` go over a file but not over `PATRONI_CONFIGURATION`, as in
/// Patroni 4.1.5. With the default file go the variables of its service.
pub fn load(source: &ConfigSource, env: &Env) -> Result<Config, ConfigError> {
    let service = service::of_command(source, env)?;
    let (source, in_effect) = match &service {
        Some(service) => (&service.source, &service.env),
        None => (source, env),
    };
    let mut config = read(source, in_effect)?;
    for cluster in &config.clusters {
        config.probe.trust(&cluster.partner_addrs);
    }
    config.warnings.extend(variables::strays(in_effect));
    if let Some(service) = service {
        config.warnings.extend(service.warnings);
        config.environment_file = Some(service.file);
    }
    // A command reads the service's variables by itself.
    let process = Process::this(env);
    for cluster in &mut config.clusters {
        cluster.commands = Commands::new(cluster, &config.source, env, &process);
    }
    Ok(config)
}

fn read(source: &ConfigSource, env: &Env) -> Result<Config, ConfigError> {
    let mut warnings = Vec::new();
    if let Some(path) = &source.file {
        if !source.as_controller || path.exists() {
            if env.text(PATRONI_CONFIGURATION)?.is_some() {
                warnings.push(format!(
                    "environment: {PATRONI_CONFIGURATION}: ignored, for a file is named"
                ));
            }
            return load_path(path, env, warnings);
        }
        warnings.push(format!(
            "{}: no such file; the environment is used instead, as Patroni does",
            path.display()
        ));
    }
    if let Some(text) = env.text(PATRONI_CONFIGURATION)? {
        let place = Place::variable(PATRONI_CONFIGURATION);
        if text.len() > limits::CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge {
                place,
                bytes_max: limits::CONFIG_BYTES_MAX,
            });
        }
        if patroni::configured(env) {
            warnings.push(format!(
                "environment: PATRONI_RAFT_*: ignored, for {PATRONI_CONFIGURATION} is set"
            ));
        }
        let read = patroni::read(yaml::parse(text, &place)?, &place, &mut warnings)?;
        let level = read.level;
        return one(read.cluster, level, Source::PatroniVariable, env, warnings);
    }
    let default_file = source.default_file.as_deref();
    let default_file = default_file.filter(|file| std::fs::symlink_metadata(file).is_ok());
    if let Some(path) = default_file.filter(|_| !patroni::names_a_member(env)) {
        return load_path(path, env, warnings);
    }
    if patroni::configured(env) {
        let mut cluster = RawCluster::empty(Place::variables("PATRONI_RAFT_"));
        patroni::overlay(&mut cluster, env, &mut warnings)?;
        cluster.name = patroni::scope(env)?;
        let level = patroni::level_variable(env)?;
        return one(cluster, level, Source::Environment, env, warnings);
    }
    patroni::strays(env, &mut warnings)?;
    if source.as_controller {
        return Err(ConfigError::Missing {
            place: Place::top("configuration"),
            remedy: "name Patroni's file, or set PATRONI_CONFIGURATION or PATRONI_RAFT_SELF_ADDR"
                .into(),
        });
    }
    // A service or a container is started to vote, and nobody reads there that it is
    // a demonstration.
    if env.text(DEMO)? == Some("off") || env.text(NOTIFY_SOCKET)?.is_some() {
        return Err(ConfigError::Missing {
            place: Place::top("configuration"),
            remedy: "name a file, or set PATRONI_RAFT_SELF_ADDR, PATRONI_RAFT_PARTNER_ADDRS and \
                     PATRONI_RAFT_DATA_DIR, and PATRONI_RAFT_PASSWORD if the data nodes have a \
                     password"
                .into(),
        });
    }
    demo(env, warnings)
}

/// How the machine is to be set up as far as a file says so that may be wrong
/// elsewhere: what is shown of the mistake is shown at the address it names.
pub fn appliance_alone(path: &Path, env: &Env) -> ApplianceConfig {
    let text = file::read(path).ok();
    let raw = text.and_then(|file| json::appliance(&file.text, &file.place));
    let found = raw.unwrap_or_default().validate(env);
    found.ok().flatten().unwrap_or_default()
}

fn load_path(path: &Path, env: &Env, mut warnings: Vec<String>) -> Result<Config, ConfigError> {
    if path.is_dir() {
        let mut root = BTreeMap::new();
        for path in file::yaml_files(path)? {
            let file = file::read(&path)?;
            let node = yaml::parse(&file.text, &file.place)?;
            // Read for its own sake first, so that an error names this file.
            let alone = patroni::read(node.clone(), &file.place, &mut Vec::new())?;
            check_privacy(&alone.cluster, &file, &path, env, &mut warnings)?;
            if let YamlNode::Map(over) = node {
                patroni::patch(&mut root, over);
            }
        }
        let place = Place::top(path.display().to_string());
        let read = patroni::read(YamlNode::Map(root), &place, &mut warnings)?;
        return load_patroni(read, path, env, warnings);
    }
    let file = file::read(path)?;
    let json = path.extension().is_some_and(|end| end == "json");
    if json || (!file::is_yaml(path) && file.text.trim_start().starts_with('{')) {
        return load_json(&file, path, env, warnings);
    }
    let root = yaml::parse(&file.text, &file.place)?;
    let read = patroni::read(root, &file.place, &mut warnings)?;
    check_privacy(&read.cluster, &file, path, env, &mut warnings)?;
    load_patroni(read, path, env, warnings)
}

fn load_patroni(
    mut read: patroni::Patroni,
    path: &Path,
    env: &Env,
    mut warnings: Vec<String>,
) -> Result<Config, ConfigError> {
    patroni::overlay(&mut read.cluster, env, &mut warnings)?;
    if let Some(scope) = patroni::scope(env)? {
        read.cluster.name = Some(scope);
    }
    let level = patroni::level_variable(env)?.or(read.level);
    let source = Source::Patroni(path.into());
    one(read.cluster, level, source, env, warnings)
}

/// A file with a password is refused where everybody may read it, and warned about
/// where a group may.
fn check_privacy(
    cluster: &RawCluster,
    file: &file::Text,
    path: &Path,
    env: &Env,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let Some(password) = &cluster.password else {
        return Ok(());
    };
    file.check_private(&password.place, path, env)?;
    if file.read_by_others() && env.path(variables::ON_A_BOARD).is_none() {
        warnings.push(format!(
            "{}: holds a password and has mode {:03o}, so others can read it; chmod 600 it",
            file.place, file.mode
        ));
    }
    Ok(())
}

/// The configuration of Patroni's one cluster.
fn one(
    mut cluster: RawCluster,
    level: Option<LevelFilter>,
    source: Source,
    env: &Env,
    mut warnings: Vec<String>,
) -> Result<Config, ConfigError> {
    cluster.placement.overlay(env, true)?;
    if cluster.data_dir.is_none() {
        warnings.push(format!(
            "{}: not given; the state goes to the current directory, as Patroni's would",
            cluster.place.key("data_dir")
        ));
    }
    let name = cluster.name.clone();
    let cluster = RawCluster {
        name: None,
        ..cluster
    };
    let mut valid = cluster.validate(Dialect::Patroni, None, env)?;
    warnings.extend(doubts::of_cluster(&cluster, &valid));
    // A scope is Patroni's to choose: it names log lines, never a folder.
    if let Some(name) = name {
        valid.name = name.value;
    }
    let clusters = vec![valid];
    let http = http(RawHttp::default(), &clusters, env, &mut warnings)?;
    Ok(Config {
        clusters,
        log: LogConfig {
            level: level.unwrap_or(LevelFilter::Info),
        },
        http,
        probe: RawProbe::default().validate(env)?,
        appliance: None,
        source,
        environment_file: None,
        warnings,
    })
}

fn load_json(
    file: &file::Text,
    path: &Path,
    env: &Env,
    mut warnings: Vec<String>,
) -> Result<Config, ConfigError> {
    let mut read = json::read(&file.text, &file.place)?;
    for cluster in &read.clusters {
        check_privacy(cluster, file, path, env, &mut warnings)?;
    }
    warnings.dedup();
    match read.clusters.as_mut_slice() {
        [cluster] => patroni::overlay(cluster, env, &mut warnings)?,
        clusters if patroni::configured(env) => {
            return Err(ConfigError::Conflict {
                place: Place::variable("PATRONI_RAFT_*"),
                why: format!(
                    "ambiguous: {} has {} clusters; unset the variables and write their values \
                     in the file",
                    path.display(),
                    clusters.len()
                ),
            });
        }
        _ => {}
    }
    let appliance = read.appliance.validate(env)?;
    let data_dir = read.data_dir.map(|said| PathBuf::from(said.value));
    let data_dir = data_dir.or_else(|| appliance.as_ref().map(|_| appliance::data_dir()));
    let mut clusters = Vec::new();
    let mut places = Vec::new();
    let alone = read.clusters.len() == 1;
    for mut cluster in read.clusters {
        cluster.placement.overlay(env, alone)?;
        let valid = cluster.validate(Dialect::Own, data_dir.clone(), env)?;
        warnings.extend(doubts::of_cluster(&cluster, &valid));
        places.push(cluster.place);
        clusters.push(valid);
    }
    if let Some(card) = &appliance {
        warnings.extend(doubts::of_card(card, clusters.iter().zip(&places)));
    }
    check_distinct(&clusters, &places)?;
    if appliance.is_some() {
        read.http.default_to(&appliance::page(), &file.place);
    }
    let http = http(read.http, &clusters, env, &mut warnings)?;
    Ok(Config {
        clusters,
        log: LogConfig {
            level: patroni::level_variable(env)?
                .or(read.level)
                .unwrap_or(LevelFilter::Info),
        },
        http,
        probe: read.probe.validate(env)?,
        appliance,
        source: Source::Own(path.into()),
        environment_file: None,
        warnings,
    })
}

/// What must differ from cluster to cluster: name, address, folder and port.
fn check_distinct(clusters: &[ClusterConfig], places: &[Place]) -> Result<(), ConfigError> {
    let mut seen: HashMap<(&str, String), &str> = HashMap::new();
    let mut listens: HashMap<u16, Vec<(Bind, &str)>> = HashMap::new();
    for (cluster, place) in clusters.iter().zip(places) {
        let unique = [
            ("name", cluster.name.clone()),
            ("self_addr", cluster.self_addr.to_string()),
            ("data_dir", cluster.data_dir.display().to_string()),
        ];
        for (key, value) in unique {
            if let Some(other) = seen.insert((key, value.clone()), &cluster.name) {
                return Err(ConfigError::Conflict {
                    place: place.key(key),
                    why: format!(
                        "{} is cluster {other}'s already; give another",
                        shown(&value)
                    ),
                });
            }
        }
        let bind = cluster.bind();
        let taken = listens.entry(bind.port).or_default();
        if let Some((_, other)) = taken.iter().find(|(other, _)| other.collides(&bind)) {
            return Err(ConfigError::Conflict {
                place: place.key("bind_addr"),
                why: format!("{bind} is where cluster {other} listens; give another port"),
            });
        }
        taken.push((bind, &cluster.name));
    }
    Ok(())
}

/// Where the status is served. An address that was said must be free; the
/// default gives way to a cluster that was there before it.
fn http(
    raw: RawHttp,
    clusters: &[ClusterConfig],
    env: &Env,
    warnings: &mut Vec<String>,
) -> Result<Option<HttpConfig>, ConfigError> {
    let Some((mut http, place)) = raw.validate(env)? else {
        return Ok(None);
    };
    let listen = http.listen.host.clone();
    let ours = clusters.iter().map(|c| c.self_addr.host().to_owned());
    let names = ours
        .chain([listen])
        .filter(|host| address::ip(host).is_none());
    http.hosts
        .extend(names.map(|name| name.to_ascii_lowercase()));
    let Some(cluster) = clusters.iter().find(|c| c.bind().collides(&http.listen)) else {
        return Ok(Some(http));
    };
    let why = format!("{} is where cluster {} listens", http.listen, cluster.name);
    match place {
        Some(place) => Err(ConfigError::Conflict {
            place,
            why: format!("{why}; give another port"),
        }),
        None => {
            warnings.push(format!("http: {why}; no status is served"));
            Ok(None)
        }
    }
}

/// The name of the demonstration cluster.
pub const DEMO_CLUSTER: &str = "demo";

/// One cluster to try the program with: alone, on the loopback, state in the
/// user's own folder.
fn demo(env: &Env, mut warnings: Vec<String>) -> Result<Config, ConfigError> {
    let place = Place::top("demo");
    let absolute = |path: &&Path| path.is_absolute();
    let state = match env.path("XDG_STATE_HOME").filter(absolute) {
        Some(folder) => folder.to_path_buf(),
        None => match env.path("HOME").filter(absolute) {
            Some(home) => home.join(".local/state"),
            None => {
                return Err(ConfigError::Missing {
                    place: Place::top("configuration"),
                    remedy: "name a file; without HOME there is no folder for a demo".into(),
                });
            }
        },
    };
    let self_addr = address::member("127.0.0.1:2222", &place)?;
    let bind_addr = Some(Bind {
        host: self_addr.host().into(),
        port: self_addr.port(),
    });
    let clusters = vec![ClusterConfig {
        name: DEMO_CLUSTER.into(),
        self_addr,
        bind_addr,
        partner_addrs: Vec::new(),
        data_dir: state.join("pg-witness").join("demo"),
        password: None,
        password_file: None,
        bootstrap: Bootstrap::New,
        election: Election::Reluctant,
        timing: Timing::default(),
        placement: PlacementConfig::default(),
        allow_from: Vec::new(),
        commands: Commands::default(),
    }];
    let http = http(RawHttp::default(), &clusters, env, &mut warnings)?;
    Ok(Config {
        clusters,
        log: LogConfig {
            level: patroni::level_variable(env)?.unwrap_or(LevelFilter::Info),
        },
        http,
        probe: RawProbe::default().validate(env)?,
        appliance: None,
        source: Source::Demo,
        environment_file: None,
        warnings,
    })
}
