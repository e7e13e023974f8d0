//! Our own configuration file: JSON, read by `serde-json-core` into fixed
//! buffers. Its errors say little (its messages stay off: one longer than 64
//! bytes panics in 0.7.0); `serde_path_to_error` gives the path, and a bisection
//! over the text the line.

use std::borrow::Cow;
use std::collections::BTreeMap;

use log::LevelFilter;
use serde::Deserialize;
use serde::de::Visitor;
use serde_json_core::de::{Deserializer, Error as JsonError};

use super::appliance::{self, RawAppliance};
use super::error::{ConfigError, Located, Place};
use super::http::{self, RawHttp};
use super::level;
use super::placement::RawPlacement;
use super::probe::{self, RawProbe};
use super::raw::RawCluster;
use super::suggest::nearest;
use crate::limits::CLUSTERS_MAX;
use crate::secret::Secret;

/// Longest text with escapes in it, in bytes.
const ESCAPED_BYTES_MAX: usize = 4096;

/// What our file says.
pub struct JsonConfig {
    /// `data_dir` for all clusters.
    pub data_dir: Option<Located<String>>,
    /// `log.level`
    pub level: Option<LevelFilter>,
    /// `http`
    pub http: RawHttp,
    /// `probe`
    pub probe: RawProbe,
    /// `appliance`
    pub appliance: RawAppliance,
    /// `clusters`, at least one.
    pub clusters: Vec<RawCluster>,
}

const FILE_KEYS: [&str; 8] = [
    "appliance",
    "data_dir",
    "log",
    "clusters",
    "http",
    "probe",
    "zone",
    "zone_policy",
];
const LOG_KEYS: [&str; 1] = ["level"];
pub const CLUSTER_KEYS: [&str; 22] = [
    "name",
    "self_addr",
    "bind_addr",
    "partner_addrs",
    "data_dir",
    "password",
    "password_file",
    "bootstrap",
    "election",
    "append_entries_period",
    "min_timeout",
    "max_timeout",
    "connection_timeout",
    "connection_retry_time",
    "leader_fallback_timeout",
    "ttl",
    "loop_wait",
    "retry_timeout",
    "vote",
    "vote_withdraws_after",
    "member_zones",
    "allow_from",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonFile {
    appliance: Option<Appliance>,
    data_dir: Option<String>,
    log: Option<JsonLog>,
    clusters: Option<Vec<JsonCluster>>,
    http: Option<Http>,
    probe: Option<JsonProbe>,
    zone: Option<String>,
    zone_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Appliance {
    hostname: Option<String>,
    address: Option<String>,
    gateway: Option<String>,
    address6: Option<String>,
    gateway6: Option<String>,
    dns: Option<Vec<String>>,
    ntp: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonProbe {
    enabled: Option<bool>,
    interval: Option<f64>,
    timeout: Option<f64>,
    tries: Option<u32>,
    retry_pause: Option<f64>,
    user: Option<String>,
    database: Option<String>,
    password_file: Option<String>,
    allow: Option<Vec<String>>,
    md5: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLog {
    level: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    listen: Option<String>,
    token_file: Option<String>,
    read_only: Option<bool>,
    hosts: Option<Vec<String>>,
}

/// One of `clusters`: a field for each key of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonCluster {
    allow_from: Option<Vec<String>>,
    name: Option<String>,
    self_addr: Option<String>,
    bind_addr: Option<String>,
    partner_addrs: Option<Vec<String>>,
    data_dir: Option<String>,
    password: Option<String>,
    password_file: Option<String>,
    bootstrap: Option<String>,
    election: Option<String>,
    append_entries_period: Option<f64>,
    min_timeout: Option<f64>,
    max_timeout: Option<f64>,
    connection_timeout: Option<f64>,
    connection_retry_time: Option<f64>,
    leader_fallback_timeout: Option<f64>,
    ttl: Option<f64>,
    loop_wait: Option<f64>,
    retry_timeout: Option<f64>,
    vote: Option<String>,
    vote_withdraws_after: Option<f64>,
    member_zones: Option<Zones>,
}

/// Zones by member. `serde-json-core` 0.7.0 panics when it is asked for a key as
/// a `String`, and not when it is asked for a `str`.
struct Zones(BTreeMap<String, String>);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct JsonName(String);

impl<'de> Deserialize<'de> for JsonName {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = JsonName;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<JsonName, E> {
                Ok(JsonName(text.into()))
            }
        }

        reader.deserialize_str(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Zones {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let zones = BTreeMap::<JsonName, String>::deserialize(reader)?.into_iter();
        Ok(Self(
            zones.map(|(JsonName(name), zone)| (name, zone)).collect(),
        ))
    }
}

/// Reads and understands a file's text.
pub fn read(text: &str, place: &Place) -> Result<JsonConfig, ConfigError> {
    let text = &*with_pairs_joined(text);
    let file = parse(text.as_bytes()).map_err(|fault| explain(text, fault, place))?;
    let clusters = file.clusters.unwrap_or_default();
    if clusters.is_empty() {
        return Err(ConfigError::Missing {
            place: place.key("clusters"),
            remedy: "list at least one cluster: \"clusters\": [{\"name\": \"main\", ...}]".into(),
        });
    }
    if clusters.len() > CLUSTERS_MAX {
        return Err(ConfigError::Invalid {
            place: place.key("clusters"),
            value: None,
            why: format!("more than {CLUSTERS_MAX} clusters; start a second witness"),
        });
    }
    let zone = said(file.zone, place, "zone");
    let zone_policy = said(file.zone_policy, place, "zone_policy");
    let clusters = clusters
        .into_iter()
        .enumerate()
        .map(|(index, cluster)| {
            let mut raw = cluster.raw(&place.key("clusters").element(index))?;
            raw.placement.zone = zone.clone();
            raw.placement.zone_policy = zone_policy.clone();
            Ok(raw)
        })
        .collect::<Result<_, ConfigError>>()?;
    let level = file
        .log
        .and_then(|log| said(log.level, &place.key("log"), "level"))
        .map(|said| level::level(&said))
        .transpose()?;
    Ok(JsonConfig {
        data_dir: said(file.data_dir, place, "data_dir"),
        level,
        http: file.http.unwrap_or_default().raw(&place.key("http")),
        probe: file.probe.unwrap_or_default().raw(&place.key("probe")),
        appliance: raw_appliance(file.appliance, place),
        clusters,
    })
}

/// A character beyond U+FFFF may be written as two escapes (`\ud83d\udd11`), as Python's
/// json does; `serde-json-core` refuses them, so they become the character here.
fn with_pairs_joined(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u") {
        return text.into();
    }
    let mut joined = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        joined.push_str(before);
        let (taken, character) = match pair(escape) {
            Some(character) => (12, Some(character)),
            // Two characters: of `\\u` the second is no beginning of an escape.
            None => (escape.chars().take(2).map(char::len_utf8).sum(), None),
        };
        let (this, behind) = escape.split_at_checked(taken).unwrap_or((escape, ""));
        match character {
            Some(character) => joined.push(character),
            None => joined.push_str(this),
        }
        rest = behind;
    }
    joined.push_str(rest);
    joined.into()
}

/// The character that `escape` begins with as a pair of surrogates.
fn pair(escape: &str) -> Option<char> {
    let unit = |at: usize| {
        let digits = escape.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| u16::from_str_radix(digits, 16).ok())?
    };
    let mut found = char::decode_utf16([unit(0)?, unit(6)?]);
    let character = found.next()?.ok()?;
    found.next().is_none().then_some(character)
}

/// The section `appliance` alone, of a file that may be wrong elsewhere.
pub fn appliance(text: &str, place: &Place) -> Option<RawAppliance> {
    let file = parse(with_pairs_joined(text).as_bytes()).ok()?;
    Some(raw_appliance(file.appliance, place))
}

fn raw_appliance(section: Option<Appliance>, place: &Place) -> RawAppliance {
    let Some(section) = section else {
        return RawAppliance::default();
    };
    let place = &place.key("appliance");
    RawAppliance {
        present: true,
        hostname: said(section.hostname, place, "hostname"),
        address: said(section.address, place, "address"),
        gateway: said(section.gateway, place, "gateway"),
        address6: said(section.address6, place, "address6"),
        gateway6: said(section.gateway6, place, "gateway6"),
        dns: said(section.dns, place, "dns"),
        ntp: said(section.ntp, place, "ntp"),
    }
}

impl JsonCluster {
    fn raw(self, place: &Place) -> Result<RawCluster, ConfigError> {
        let at = |key| place.key(key);
        // An empty password is no secret, and in our file a slip.
        let password = match self.password {
            None => None,
            Some(text) => Some(Located {
                value: Secret::new(&text).ok_or_else(|| ConfigError::Invalid {
                    place: at("password"),
                    value: None,
                    why: "empty; remove it if the cluster has none".into(),
                })?,
                place: at("password"),
            }),
        };
        Ok(RawCluster {
            name: said(self.name, place, "name"),
            self_addr: said(self.self_addr, place, "self_addr"),
            bind_addr: said(self.bind_addr, place, "bind_addr"),
            partner_addrs: said(self.partner_addrs, place, "partner_addrs"),
            data_dir: said(self.data_dir, place, "data_dir"),
            password,
            password_file: said(self.password_file.map(Into::into), place, "password_file"),
            bootstrap: said(self.bootstrap, place, "bootstrap"),
            election: said(self.election, place, "election"),
            timing: [
                said(self.append_entries_period, place, "append_entries_period"),
                said(self.min_timeout, place, "min_timeout"),
                said(self.max_timeout, place, "max_timeout"),
                said(self.connection_timeout, place, "connection_timeout"),
                said(self.connection_retry_time, place, "connection_retry_time"),
                said(
                    self.leader_fallback_timeout,
                    place,
                    "leader_fallback_timeout",
                ),
                said(self.ttl, place, "ttl"),
                said(self.loop_wait, place, "loop_wait"),
                said(self.retry_timeout, place, "retry_timeout"),
            ],
            placement: RawPlacement {
                vote: said(self.vote, place, "vote"),
                vote_withdraws_after: said(
                    self.vote_withdraws_after,
                    place,
                    "vote_withdraws_after",
                ),
                member_zones: said(
                    self.member_zones.map(|Zones(zones)| zones),
                    place,
                    "member_zones",
                ),
                ..RawPlacement::default()
            },
            allow_from: said(self.allow_from, place, "allow_from"),
            place: place.clone(),
        })
    }
}

impl JsonProbe {
    fn raw(self, place: &Place) -> RawProbe {
        RawProbe {
            enabled: said(self.enabled, place, "enabled"),
            interval: said(self.interval, place, "interval"),
            timeout: said(self.timeout, place, "timeout"),
            tries: said(self.tries, place, "tries"),
            retry_pause: said(self.retry_pause, place, "retry_pause"),
            user: said(self.user, place, "user"),
            database: said(self.database, place, "database"),
            password_file: said(self.password_file.map(Into::into), place, "password_file"),
            allow: said(self.allow, place, "allow"),
            md5: said(self.md5, place, "md5"),
        }
    }
}

impl Http {
    fn raw(self, place: &Place) -> RawHttp {
        RawHttp {
            listen: said(self.listen, place, "listen"),
            token_file: said(self.token_file.map(Into::into), place, "token_file"),
            read_only: said(self.read_only, place, "read_only"),
            hosts: said(self.hosts, place, "hosts"),
        }
    }
}

fn said<T>(value: Option<T>, place: &Place, key: &str) -> Option<Located<T>> {
    let place = || place.key(key);
    value.map(|value| Located {
        value,
        place: place(),
    })
}

/// What `serde-json-core` said, and the path it was at.
struct Fault {
    path: String,
    error: JsonError,
}

fn parse(text: &[u8]) -> Result<JsonFile, Fault> {
    let mut escaped = [0; ESCAPED_BYTES_MAX];
    let mut json = Deserializer::new(text, Some(&mut escaped));
    let file: JsonFile = serde_path_to_error::deserialize(&mut json).map_err(|error| Fault {
        path: error.path().to_string(),
        error: error.into_inner(),
    })?;
    json.end().map_err(|error| Fault {
        path: String::new(),
        error,
    })?;
    Ok(file)
}

/// A refusal with a path for what was understood but is wrong, and with a line
/// for what is no JSON.
fn explain(text: &str, fault: Fault, place: &Place) -> ConfigError {
    let at = place.at(fault.path.clone());
    let key = fault.path.rsplit('.').next().unwrap_or("");
    match &fault.error {
        // serde's own refusals: a key that is not known, where the path ends in
        // it, or twice the same, where the path ends in what holds it.
        JsonError::CustomError if held_by(&fault.path) => {
            let end = failing(text, &fault.error);
            let before = text.get(..end).unwrap_or(text);
            let twice = before.rsplit('"').nth(1).unwrap_or("");
            ConfigError::Conflict {
                place: place.at(fault.path.trim_matches('.').into()).key(twice),
                why: "given twice; keep one of them".into(),
            }
        }
        JsonError::CustomError => {
            let (nearest, known) = neighbours(&fault.path, key);
            ConfigError::Unknown {
                place: at,
                nearest,
                known,
            }
        }
        JsonError::InvalidType | JsonError::InvalidNumber if !key.is_empty() => {
            ConfigError::WrongType {
                place: at,
                found: "a value of the wrong kind".into(),
                remedy: wanted(key).into(),
            }
        }
        error => {
            let (line, column) = position(text, error);
            ConfigError::Syntax {
                place: place.clone(),
                line,
                column,
                what: meaning(error).into(),
            }
        }
    }
}

/// Whether `path` is of an object and not of a key in it.
fn held_by(path: &str) -> bool {
    matches!(path, "" | "." | "log" | "http" | "probe" | "appliance") || path.ends_with(']')
}

/// The keys that may stand where `path` does, and the one most like `key`.
fn neighbours(path: &str, key: &str) -> (Option<&'static str>, &'static [&'static str]) {
    let known: &[&str] = match path.strip_suffix(key) {
        Some("log.") => &LOG_KEYS,
        Some("http.") => &http::KEYS,
        Some("probe.") => &probe::KEYS,
        Some("appliance.") => &appliance::KEYS,
        Some(within) if within.starts_with("clusters") => &CLUSTER_KEYS,
        _ => &FILE_KEYS,
    };
    (nearest(key, known), known)
}

/// How the value of a key is written.
fn wanted(key: &str) -> &'static str {
    let bare = key.split('[').next().unwrap_or(key);
    match (bare, key.ends_with(']')) {
        ("clusters", false) => "write a list of clusters: [{\"name\": \"main\", ...}]",
        ("clusters", true) => "write a cluster: {\"name\": \"main\", ...}",
        ("partner_addrs", false) => "write a list of texts: [\"10.0.0.1:2222\", \"10.0.0.2:2222\"]",
        ("log", _) => "write {\"level\": \"info\"}",
        ("http", _) => "write {\"listen\": \"127.0.0.1:8272\"}",
        ("allow_from", false) => "write a list of networks: [\"10.0.0.0/8\"]",
        ("read_only", _) => "write true or false",
        ("probe", _) => "write {\"enabled\": true, \"interval\": 10}",
        ("appliance", _) => "write {\"address\": \"10.0.3.9/24\"}, or {} for DHCP",
        ("hosts", false) => "write a list of names: [\"witness.example.org\"]",
        ("allow", false) => "write a list of networks and hosts: [\"10.0.0.0/8\", \"pg1\"]",
        ("md5", _) => "write true or false",
        ("dns" | "ntp", false) => "write a list of texts: [\"10.0.0.1\"]",
        ("enabled", _) => "write true or false",
        ("tries", _) => "write a whole number without quotes, such as 3",
        ("interval" | "timeout" | "retry_pause", _) => {
            "write seconds as a number without quotes, such as 10"
        }
        ("member_zones", _) => "write {\"pg1\": \"zone-a\", \"pg2\": \"zone-b\"}",
        (key, _) if super::timing::KEYS.contains(&key) => {
            "write seconds as a number without quotes, such as 1.5"
        }
        _ => "write a text in quotes",
    }
}

/// The length of the shortest beginning of the text that fails in the same way.
fn failing(text: &str, error: &JsonError) -> usize {
    let bytes = text.as_bytes();
    let same = |length: usize| {
        let beginning = bytes.get(..length).unwrap_or(bytes);
        parse(beginning).is_err_and(|fault| fault.error == *error)
    };
    let (mut low, mut high) = (0, bytes.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if same(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// The line and column, both from 1, of the byte at which reading fails.
fn position(text: &str, error: &JsonError) -> (usize, usize) {
    let bytes = text.as_bytes();
    let end = failing(text, error).saturating_sub(1);
    let before = bytes.get(..end).unwrap_or(bytes);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let row = before.rsplit(|b| *b == b'\n').next().unwrap_or(before);
    (line, String::from_utf8_lossy(row).chars().count() + 1)
}

fn meaning(error: &JsonError) -> &'static str {
    match error {
        JsonError::EofWhileParsingList => "not JSON: the file ends inside a list; add ]",
        JsonError::EofWhileParsingObject => "not JSON: the file ends inside an object; add }",
        JsonError::EofWhileParsingString => "not JSON: the file ends inside a text; add \"",
        JsonError::EofWhileParsingNumber | JsonError::EofWhileParsingValue => {
            "not JSON: the file ends where a value should stand"
        }
        JsonError::ExpectedColon => "not JSON: a colon is missing after the key",
        JsonError::ExpectedListCommaOrEnd => "not JSON: a comma or ] is missing",
        JsonError::ExpectedObjectCommaOrEnd => "not JSON: a comma or } is missing",
        JsonError::TrailingComma => "not JSON: a comma too many",
        JsonError::TrailingCharacters => "not JSON: something stands behind the end",
        JsonError::KeyMustBeAString => "not JSON: a key must be a text in quotes",
        JsonError::InvalidNumber => "not JSON: this is no number",
        JsonError::ExpectedSomeIdent => "not JSON: only true, false and null go without quotes",
        JsonError::InvalidEscapeSequence | JsonError::InvalidUnicodeCodePoint => {
            "not JSON: a backslash sequence that means nothing"
        }
        JsonError::EscapedStringIsTooLong => "a text with backslashes is too long",
        _ => "not a configuration: it must be an object, {\"clusters\": [...]}",
    }
}
