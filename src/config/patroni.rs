//! Patroni's own configuration: the `raft:` section of its YAML and its
//! variables (spec 8.1, 8.2). The rest of the file is Patroni's and is let be.

use std::collections::BTreeMap;

use log::LevelFilter;

use super::env::Env;
use super::error::{ConfigError, Located, Place};
use super::node::{YamlKey, YamlNode};
use super::raw::RawCluster;
use super::suggest::nearest;
use super::timing;
use super::{level, yaml};
use crate::secret::Secret;

/// The keys of `raft:`.
pub const RAFT_KEYS: [&str; 14] = [
    "self_addr",
    "bind_addr",
    "partner_addrs",
    "data_dir",
    "password",
    "append_entries_period",
    "min_timeout",
    "max_timeout",
    "connection_timeout",
    "connection_retry_time",
    "leader_fallback_timeout",
    "ttl",
    "loop_wait",
    "retry_timeout",
];

/// Sections of our own JSON that somebody may look for in Patroni's YAML, and what
/// says the same beside it.
const OWN_SECTIONS: [(&str, &str); 6] = [
    (
        "appliance",
        "write the configuration as pg-witness's own JSON",
    ),
    (
        "clusters",
        "write the configuration as pg-witness's own JSON",
    ),
    ("http", "set PG_WITNESS_HTTP_LISTEN and its kin"),
    ("probe", "set PG_WITNESS_PROBE_ENABLED and its kin"),
    ("zone", "set PG_WITNESS_ZONE"),
    ("zone_policy", "set PG_WITNESS_ZONE_POLICY"),
];

/// What every variable of the section begins with.
const PREFIX: &str = "PATRONI_RAFT_";

/// What Patroni's file says to us.
pub struct Patroni {
    /// The `raft:` section.
    pub cluster: RawCluster,
    /// `log.level`, when it was given.
    pub level: Option<LevelFilter>,
}

/// Understands a tree; `warnings` gets what is odd but harmless.
pub fn read(
    root: YamlNode,
    place: &Place,
    warnings: &mut Vec<String>,
) -> Result<Patroni, ConfigError> {
    let YamlNode::Map(mut root) = root else {
        return Err(ConfigError::WrongType {
            place: place.clone(),
            found: format!("the file is {}", root.kind()),
            remedy: "Patroni's file has sections, one of them raft:".into(),
        });
    };
    for (name, advice) in OWN_SECTIONS {
        if root.contains_key(&YamlKey::Text(name.into())) {
            let place = place.key(name);
            warnings.push(format!(
                "{place}: not read from Patroni's YAML, ignored; {advice}"
            ));
        }
    }
    let mut section = |name: &str| root.remove(&YamlKey::Text(name.into()));
    let raft_place = place.key("raft");
    let mut cluster = match section("raft") {
        Some(YamlNode::Map(raft)) => raft_section(raft, &raft_place, warnings)?,
        None => RawCluster::empty(raft_place),
        Some(other) => {
            return Err(ConfigError::WrongType {
                place: raft_place,
                found: other.kind().into(),
                remedy: "it needs keys, self_addr and partner_addrs first of all".into(),
            });
        }
    };
    cluster.name = match section("scope") {
        Some(YamlNode::Text(scope)) if printable(&scope) => Some(Located {
            value: scope,
            place: place.key("scope"),
        }),
        _ => None,
    };
    let level = section("log").and_then(|log| log_level(log, place, warnings));
    Ok(Patroni { cluster, level })
}

/// A scope that may stand in a log line and on a command line.
fn printable(scope: &str) -> bool {
    let harmless = |c: char| !c.is_control() && !c.is_whitespace();
    !scope.is_empty() && scope.len() <= 255 && scope.chars().all(harmless)
}

/// The rest of `log:` is Patroni's; so a level we do not know is no error.
fn log_level(log: YamlNode, place: &Place, warnings: &mut Vec<String>) -> Option<LevelFilter> {
    let YamlNode::Map(mut log) = log else {
        return None;
    };
    let place = place.key("log").key("level");
    match log.remove(&YamlKey::Text("level".into()))? {
        YamlNode::Null => None,
        YamlNode::Text(value) => level::level(&Located { value, place })
            .map_err(|error| warnings.push(format!("{error}; info is used")))
            .ok(),
        other => {
            warnings.push(format!("{place}: {}; info is used", other.kind()));
            None
        }
    }
}

fn raft_section(
    raft: BTreeMap<YamlKey, YamlNode>,
    place: &Place,
    warnings: &mut Vec<String>,
) -> Result<RawCluster, ConfigError> {
    let mut raw = RawCluster::empty(place.clone());
    for (key, node) in raft {
        let at = place.key(key.as_str());
        let YamlKey::Text(key) = &key else {
            return Err(unknown(at, key.as_str()));
        };
        match key.as_str() {
            "self_addr" => raw.self_addr = text(node, at)?,
            "bind_addr" => raw.bind_addr = text(node, at)?,
            "data_dir" => raw.data_dir = data_dir(node, at)?,
            "password" => raw.password = password(node, at)?,
            "partner_addrs" => raw.partner_addrs = Some(partners(node, at, warnings)?),
            key => match position(key).and_then(|position| raw.timing.get_mut(position)) {
                Some(slot) => *slot = seconds(key, node, at)?,
                None => return Err(unknown(at, key)),
            },
        }
    }
    Ok(raw)
}

fn position(key: &str) -> Option<usize> {
    timing::KEYS.iter().position(|known| *known == key)
}

fn unknown(place: Place, key: &str) -> ConfigError {
    ConfigError::Unknown {
        place,
        nearest: nearest(key, &RAFT_KEYS),
        known: &RAFT_KEYS,
    }
}

fn text(node: YamlNode, place: Place) -> Result<Option<Located<String>>, ConfigError> {
    match node {
        YamlNode::Null => Ok(None),
        YamlNode::Text(value) => Ok(Some(Located { value, place })),
        other => Err(ConfigError::WrongType {
            place,
            found: other.reading(),
            remedy: "write host:port as one text, in quotes if need be".into(),
        }),
    }
}

fn data_dir(node: YamlNode, place: Place) -> Result<Option<Located<String>>, ConfigError> {
    match node {
        YamlNode::Text(value) => Ok(Some(Located { value, place })),
        other => Err(ConfigError::WrongType {
            place,
            found: other.reading(),
            remedy: "write a path, in quotes if need be, such as /var/lib/patroni/raft".into(),
        }),
    }
}

/// A password of another kind than text stops Patroni itself: PySyncObj calls
/// `password.encode()`, which only a text has. An empty one encrypts.
fn password(node: YamlNode, place: Place) -> Result<Option<Located<Secret>>, ConfigError> {
    let text = match node {
        YamlNode::Null => return Ok(None),
        YamlNode::Text(text) => text,
        YamlNode::Bytes(bytes) => String::from_utf8(bytes).map_err(|_| ConfigError::Invalid {
            place: place.clone(),
            value: None,
            why: "!!binary that is not UTF-8; write the password as a text".into(),
        })?,
        other => {
            return Err(ConfigError::WrongType {
                place,
                found: other.kind().into(),
                remedy: "Patroni itself stops at such a password; put it in quotes, here and on \
                         the data nodes"
                    .into(),
            });
        }
    };
    let value = Secret::verbatim(&text);
    Ok(Some(Located { value, place }))
}

/// A list; a text with commas, on which Patroni itself stops, is taken for what
/// it means. Empty is refused: forgotten partners must not found a cluster.
fn partners(
    node: YamlNode,
    place: Place,
    warnings: &mut Vec<String>,
) -> Result<Located<Vec<String>>, ConfigError> {
    let list = match node {
        YamlNode::List(list) => list,
        YamlNode::Text(text) => {
            warnings.push(format!(
                "{place}: a text where Patroni needs a list; write it as [{text}]"
            ));
            return partners_text(&text, place);
        }
        other => {
            return Err(ConfigError::WrongType {
                place,
                found: other.reading(),
                remedy: "list the data nodes, such as [10.0.0.1:2222, 10.0.0.2:2222], or [] to \
                         found a cluster alone"
                    .into(),
            });
        }
    };
    let mut value = Vec::new();
    for (index, node) in list.into_iter().enumerate() {
        let YamlNode::Text(text) = node else {
            return Err(ConfigError::WrongType {
                place: place.element(index),
                found: node.reading(),
                remedy: "write host:port as one text, in quotes if need be".into(),
            });
        };
        value.push(text);
    }
    Ok(Located { value, place })
}

/// A list of the environment: YAML, wrapped in brackets when it neither starts
/// with a hyphen nor holds a bracket (Patroni 4.1.5, `_parse_list`).
fn partners_text(text: &str, place: Place) -> Result<Located<Vec<String>>, ConfigError> {
    let listed = text.trim().starts_with('-') || text.contains('[');
    let wrapped = if listed {
        text.into()
    } else {
        format!("[{text}]")
    };
    match yaml::parse(&wrapped, &place)? {
        list @ YamlNode::List(_) => partners(list, place, &mut Vec::new()),
        other => Err(ConfigError::WrongType {
            place,
            found: other.kind().into(),
            remedy: "list the data nodes, such as 10.0.0.1:2222,10.0.0.2:2222".into(),
        }),
    }
}

fn seconds(key: &str, node: YamlNode, place: Place) -> Result<Option<Located<f64>>, ConfigError> {
    let value = match &node {
        YamlNode::Null => return Ok(None),
        // A day is the cap, so what is beyond an i32 is refused as too long.
        YamlNode::Int(value) => value
            .and_then(|value| i32::try_from(value).ok())
            .map_or(f64::INFINITY, f64::from),
        YamlNode::Float(value) => *value,
        // The one that Patroni converts itself: `int(config.get('retry_timeout'))`.
        YamlNode::Text(digits) if key == "retry_timeout" && digits.parse::<u16>().is_ok() => {
            digits.parse().unwrap_or(f64::NAN)
        }
        other => {
            return Err(ConfigError::WrongType {
                place,
                found: other.reading(),
                remedy: "give seconds as a number, such as 1.5".into(),
            });
        }
    };
    Ok(Some(Located { value, place }))
}

/// Whether the environment alone makes a configuration.
pub fn configured(env: &Env) -> bool {
    env.names(PREFIX).any(|name| setting(name).is_some())
}

/// Whether the environment says which member this is, so that no file is needed.
pub fn names_a_member(env: &Env) -> bool {
    env.path("PATRONI_RAFT_SELF_ADDR").is_some()
}

/// The key of `raft:` that a variable sets; `ttl` and its kin have none.
fn setting(variable: &str) -> Option<&'static str> {
    let key = variable.strip_prefix(PREFIX)?;
    RAFT_KEYS
        .into_iter()
        .find(|known| variable_of(known).is_some_and(|name| name == key))
}

/// The variable of a key, without its prefix.
fn variable_of(key: &str) -> Option<String> {
    let lent = position(key).is_some_and(|position| position >= timing::OF_PYSYNCOBJ);
    (!lent).then(|| key.to_ascii_uppercase())
}

/// A variable that sets nothing: refused where it is a slip of the pen, for the
/// demo must not start in its stead; else only told, for Kubernetes sets such
/// names for a service called patroni-raft, and Patroni ignores them.
fn stray(variable: &str, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    let place = Place::variable(variable);
    let key = variable.strip_prefix(PREFIX).unwrap_or(variable);
    if let Some(meant) = nearest(key, &RAFT_KEYS).filter(|meant| variable_of(meant).is_some()) {
        return Err(ConfigError::Invalid {
            place,
            value: None,
            why: format!(
                "not a setting; did you mean {PREFIX}{}?",
                meant.to_uppercase()
            ),
        });
    }
    warnings.push(format!("{place}: not a setting of raft; ignored"));
    Ok(())
}

/// Looks at the variables where none of them configures anything.
pub fn strays(env: &Env, warnings: &mut Vec<String>) -> Result<(), ConfigError> {
    env.names(PREFIX)
        .filter(|variable| setting(variable).is_none())
        .try_for_each(|variable| stray(variable, warnings))
}

/// The variables over a cluster.
pub fn overlay(
    cluster: &mut RawCluster,
    env: &Env,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    for variable in env.names(PREFIX) {
        let place = Place::variable(variable);
        let Some(key) = setting(variable) else {
            stray(variable, warnings)?;
            continue;
        };
        let Some(value) = env.text(variable)? else {
            continue;
        };
        let said = |place| {
            let value = value.to_owned();
            Some(Located { value, place })
        };
        match key {
            "self_addr" => cluster.self_addr = said(place),
            "bind_addr" => cluster.bind_addr = said(place),
            "data_dir" => cluster.data_dir = said(place),
            "partner_addrs" => cluster.partner_addrs = Some(partners_text(value, place)?),
            "password" => {
                let value = Secret::verbatim(value);
                cluster.password = Some(Located { value, place });
                cluster.password_file = None;
            }
            key => {
                let value = value.trim().parse().map_err(|_| ConfigError::Invalid {
                    place: place.clone(),
                    value: Some(value.into()),
                    why: "give seconds as a number, such as 1.5".into(),
                })?;
                if let Some(slot) = position(key).and_then(|at| cluster.timing.get_mut(at)) {
                    *slot = Some(Located { value, place });
                }
            }
        }
    }
    Ok(())
}

/// `PATRONI_SCOPE`, which names the cluster over `scope:`.
pub fn scope(env: &Env) -> Result<Option<Located<String>>, ConfigError> {
    Ok(env
        .text("PATRONI_SCOPE")?
        .filter(|scope| printable(scope))
        .map(|scope| Located {
            value: scope.into(),
            place: Place::variable("PATRONI_SCOPE"),
        }))
}

/// `PATRONI_LOG_LEVEL`, or `PATRONI_LOGLEVEL` of old.
pub fn level_variable(env: &Env) -> Result<Option<LevelFilter>, ConfigError> {
    for name in ["PATRONI_LOG_LEVEL", "PATRONI_LOGLEVEL"] {
        if let Some(value) = env.text(name)? {
            let value = value.into();
            let place = Place::variable(name);
            return level::level(&Located { value, place }).map(Some);
        }
    }
    Ok(None)
}

/// Several files of a folder as one: a later one wins key by key, and a null
/// removes (Patroni's `patch_config`).
pub fn patch(config: &mut BTreeMap<YamlKey, YamlNode>, over: BTreeMap<YamlKey, YamlNode>) {
    for (key, value) in over {
        match (config.get_mut(&key), value) {
            (_, YamlNode::Null) => {
                config.remove(&key);
            }
            (Some(YamlNode::Map(inner)), YamlNode::Map(over)) => patch(inner, over),
            (_, value) => {
                config.insert(key, value);
            }
        }
    }
}
