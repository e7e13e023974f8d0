//! What Patroni wrote into the replicated store, read with distrust: keys
//! `PATH/leader`, `PATH/members/NAME` and their kin (spec 6.3), where PATH is
//! mostly `/service/SCOPE`. Several scopes may share one store.

use std::collections::BTreeMap;
use std::time::Duration;

use super::field::{Object, count};
use super::scope::{KeyLife, PgMember, Requested, Scope, Sync, SyncMode, is_late};
use super::words::shown;
use crate::limits::{STATUS_MEMBERS_MAX, STATUS_SCOPES_MAX};

/// One row of the store.
#[derive(Debug, Clone, Copy)]
pub struct StoreRow<'a> {
    /// The whole key.
    pub key: &'a str,
    /// What the writer stored under it.
    pub value: &'a str,
    /// How long it has been stored here, counted monotonically (S8).
    pub age: Duration,
    /// How long until it is due; none if it has no end.
    pub remaining: Option<Duration>,
    /// How far the writer's wall clock is ahead of ours, in milliseconds, as
    /// far as that can be told.
    pub clock_ahead_ms: Option<i64>,
}

/// The keys of one scope.
#[derive(Default)]
struct ScopeKeys<'a> {
    /// Those of [`WORDS`].
    words: BTreeMap<&'static str, StoreRow<'a>>,
    /// Those of the members, by name.
    members: BTreeMap<&'a str, StoreRow<'a>>,
}

impl<'a> ScopeKeys<'a> {
    fn value(&self, word: &str) -> Option<&'a str> {
        self.words.get(word).map(|row| row.value)
    }
}

/// The names by which a scope is known to be one.
const WORDS: [&str; 9] = [
    "leader",
    "status",
    "sync",
    "config",
    "history",
    "failover",
    "failsafe",
    "initialize",
    "optime/leader",
];

/// The scopes in a store, at most [`STATUS_SCOPES_MAX`], by path.
pub fn scopes<'a>(rows: impl Iterator<Item = StoreRow<'a>>) -> Vec<Scope> {
    let mut paths: BTreeMap<&str, ScopeKeys<'_>> = BTreeMap::new();
    for row in rows {
        let member = row.key.rsplit_once("/members/");
        if let Some((path, name)) = member.filter(|(_, name)| !name.contains('/')) {
            paths.entry(path).or_default().members.insert(name, row);
        } else if let Some((path, word)) = word(row.key) {
            paths.entry(path).or_default().words.insert(word, row);
        }
    }
    let found = paths.into_iter().take(STATUS_SCOPES_MAX);
    found.map(|(path, keys)| scope(path, &keys)).collect()
}

/// PATH and the word behind it.
fn word(key: &str) -> Option<(&str, &'static str)> {
    WORDS.iter().find_map(|word| {
        let path = key.strip_suffix(word)?.strip_suffix('/')?;
        (!path.ends_with("/optime")).then_some((path, *word))
    })
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl StoreRow<'_> {
    fn life(&self) -> KeyLife {
        KeyLife {
            age_ms: ms(self.age),
            expires_in_ms: self.remaining.map(ms),
        }
    }
}

/// The scope in a path: what stands behind the namespace.
pub fn name_of(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').map_or(path, |(_, scope)| scope)
}

fn scope(path: &str, keys: &ScopeKeys<'_>) -> Scope {
    let value = |word: &str| keys.value(word);
    let object = |word| value(word).and_then(Object::parse);
    let config = &object("config").unwrap_or_default();
    let status = &object("status").unwrap_or_default();
    let number = |name| config.get::<u64>(&[name]);
    let leader = keys.words.get("leader").filter(|row| !row.value.is_empty());
    let mut scope = Scope {
        scope: shown(name_of(path)),
        path: shown(path),
        primary: leader.map(|row| shown(row.value)),
        leader_key: leader.map(StoreRow::life),
        lsn: status
            .get(&["optime"])
            .or_else(|| value("optime/leader")?.parse().ok()),
        paused: flag(config, &["pause"]),
        standby_cluster: config.object("standby_cluster").is_some(),
        failsafe_mode: flag(config, &["failsafe_mode"]),
        failsafe_members: object("failsafe")
            .map(|members| members.names(STATUS_MEMBERS_MAX))
            .unwrap_or_default(),
        synchronous_mode: sync_mode(config),
        sync: object("sync").and_then(|it| sync(&it)),
        maximum_lag_on_failover: number("maximum_lag_on_failover").unwrap_or(1 << 20),
        check_timeline: flag(config, &["check_timeline"]),
        ttl_s: number("ttl").unwrap_or(30),
        loop_wait_s: number("loop_wait").unwrap_or(10),
        requested: object("failover").and_then(|it| requested(&it)),
        history: value("history").and_then(count),
        system_identifier: value("initialize").filter(|id| !id.is_empty()).map(shown),
        ..Scope::default()
    };
    let members: Vec<PgMember> = keys
        .members
        .iter()
        .take(STATUS_MEMBERS_MAX)
        .map(|(name, row)| member(&scope, name, row))
        .collect();
    scope.members_hidden = keys.members.len().saturating_sub(members.len());
    scope.timeline = members
        .iter()
        .find(|member| scope.primary.as_ref() == Some(&member.name))
        .and_then(|member| member.timeline);
    scope.members = members;
    scope
}

fn member(scope: &Scope, name: &str, row: &StoreRow<'_>) -> PgMember {
    let json = &Object::parse(row.value).unwrap_or_default();
    let text = |key| json.get::<String>(&[key]).map(|text| shown(&text));
    let name = shown(name);
    let is_leader = scope.primary.as_ref() == Some(&name);
    let role = role(scope, &name, is_leader);
    let says = text("role").filter(|says| !agrees(role, says));
    let raw_state = text("state").unwrap_or_default();
    let replication = text("replication_state").filter(|_| role != "leader");
    let url = json.get::<String>(&["conn_url"]).unwrap_or_default();
    let (host, port) = host_and_port(&url);
    let lsn = json.get::<u64>(&["xlog_location"]);
    let behind = |lsn: u64| scope.lsn.map(|end| end.saturating_sub(lsn));
    PgMember {
        role,
        says,
        state: replication.unwrap_or_else(|| raw_state.clone()),
        raw_state,
        host,
        port,
        timeline: json.get(&["timeline"]),
        lsn,
        lag_bytes: lsn.filter(|_| !is_leader).and_then(behind),
        key: row.life(),
        stale: is_late(scope, row.age),
        clock_ahead_ms: row.clock_ahead_ms,
        patroni: text("version"),
        pending_restart: flag(json, &["pending_restart"]),
        nofailover: never_promoted(json),
        zone: json
            .get::<String>(&["tags", "zone"])
            .map(|zone| shown(&zone)),
        readable: !json.is_empty(),
        name,
        ..PgMember::default()
    }
}

/// A server whose key is gone for `age`. Of what it wrote only `conn_url` is known.
pub fn gone(name: &str, conn_url: Option<&str>, age: Duration) -> PgMember {
    let (host, port) = host_and_port(conn_url.unwrap_or_default());
    PgMember {
        name: shown(name),
        role: "replica",
        state: "gone".into(),
        raw_state: "gone".into(),
        host,
        port,
        key: KeyLife {
            age_ms: ms(age),
            expires_in_ms: None,
        },
        stale: true,
        gone: true,
        readable: true,
        ..PgMember::default()
    }
}

fn role(scope: &Scope, name: &str, is_leader: bool) -> &'static str {
    let in_sync = scope.synchronous_mode != SyncMode::Off
        && scope
            .sync
            .as_ref()
            .is_some_and(|sync| sync.standbys.iter().any(|s| s.eq_ignore_ascii_case(name)));
    match (is_leader, scope.standby_cluster, in_sync) {
        (true, false, _) => "leader",
        (true, true, _) => "standby_leader",
        (false, _, true) if scope.synchronous_mode == SyncMode::Quorum => "quorum_standby",
        (false, _, true) => "sync_standby",
        (false, _, false) => "replica",
    }
}

/// Whether what a member says of itself is what its keys say of it.
fn agrees(role: &str, says: &str) -> bool {
    match role {
        "leader" => matches!(says, "master" | "primary" | "promoted"),
        "standby_leader" => says == "standby_leader",
        // While it is stopped or being made it says so.
        _ => !matches!(says, "master" | "primary" | "promoted" | "standby_leader"),
    }
}

/// A truth as Python sees it, in any of the shapes that YAML gives it.
fn flag(json: &Object<'_>, path: &[&str]) -> bool {
    truth(json, path).unwrap_or(false)
}

fn truth(json: &Object<'_>, path: &[&str]) -> Option<bool> {
    json.get::<bool>(path)
        .or_else(|| json.get::<f64>(path).map(|number| number != 0.0))
        .or_else(|| json.get::<String>(path).map(|text| !text.is_empty()))
}

/// Patroni's `nofailover`: the tag of that name, else a priority of 0 or less.
fn never_promoted(json: &Object<'_>) -> bool {
    truth(json, &["tags", "nofailover"]).unwrap_or_else(|| {
        let priority = json.get::<f64>(&["tags", "failover_priority"]);
        priority.is_some_and(|it| it <= 0.0)
    })
}

fn sync_mode(config: &Object<'_>) -> SyncMode {
    match config.get::<String>(&["synchronous_mode"]).as_deref() {
        Some("quorum") => SyncMode::Quorum,
        Some("" | "off" | "false") => SyncMode::Off,
        Some(_) => SyncMode::On,
        None if flag(config, &["synchronous_mode"]) => SyncMode::On,
        None => SyncMode::Off,
    }
}

/// The `sync` key; none while nobody is named as its leader, as Patroni has it.
fn sync(json: &Object<'_>) -> Option<Sync> {
    let leader: String = json.get(&["leader"])?;
    let standbys: String = json.get(&["sync_standby"]).unwrap_or_default();
    let each = standbys.split(',').map(str::trim);
    Some(Sync {
        leader: shown(&leader),
        standbys: each
            .filter(|name| !name.is_empty())
            .take(STATUS_MEMBERS_MAX)
            .map(shown)
            .collect(),
        quorum: json.get(&["quorum"]).unwrap_or(0),
    })
    .filter(|sync| !sync.leader.is_empty())
}

fn requested(json: &Object<'_>) -> Option<Requested> {
    let text = |key| json.get::<String>(&[key]).map(|text| shown(&text));
    let request = Requested {
        from: text("leader"),
        to: text("member"),
        scheduled_at: text("scheduled_at"),
    };
    (request != Requested::default()).then_some(request)
}

/// Host and port of the first host of a libpq URL, and nothing else of it: it
/// may hold a password.
pub fn host_and_port(url: &str) -> (Option<String>, Option<u16>) {
    let Some((_, rest)) = url.split_once("://") else {
        return (None, None);
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let hosts = authority
        .rsplit_once('@')
        .map_or(authority, |(_, hosts)| hosts);
    let first = hosts.split(',').next().unwrap_or_default();
    let (host, port) = match first
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match first.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (first, None),
        },
    };
    let port = port.map_or(Some(5432), |port| port.parse().ok());
    (Some(shown(host)).filter(|host| !host.is_empty()), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::Instant;

    #[test]
    fn a_large_value_is_gone_through_once() {
        let padding = "x".repeat(58_000);
        let json = format!(
            r#"{{"conn_url":"postgres://10.0.0.1:5432/postgres","state":"running","pad":"{padding}",
                "role":"replica","version":"4.1.5","timeline":1,"tags":{{"zone":"a"}}}}"#
        );
        let keys: Vec<_> = (0..20).map(|n| format!("/service/s/members/{n}")).collect();
        let row = |key| StoreRow {
            key,
            value: &json,
            age: Duration::ZERO,
            remaining: None,
            clock_ahead_ms: None,
        };
        let began = Instant::now();
        for _ in &keys {
            assert!(Object::parse(&json).is_some());
        }
        let once = began.elapsed();
        let began = Instant::now();
        let found = scopes(keys.iter().map(|key| row(key)));
        let all = began.elapsed();
        let members = &found.first().unwrap().members;
        assert_eq!(members.len(), keys.len());
        assert!(members.iter().all(|m| m.zone.as_deref() == Some("a")));
        println!("once through {once:?}, all fields {all:?}");
        assert!(all < once * 4, "{all:?} against {once:?}");
    }
}
