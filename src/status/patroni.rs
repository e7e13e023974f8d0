//! What Patroni wrote into the replicated store, read with distrust: keys
//! `PATH/leader`, `PATH/members/NAME` and their kin (spec 6.3), where PATH is
//! mostly `/service/SCOPE`. Several scopes may share one store.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::field::{Object, count};
use super::{shown, verdict};
use crate::limits::{STATUS_MEMBERS_MAX, STATUS_SCOPES_MAX};

/// One row of the store.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
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

/// One PostgreSQL cluster as Patroni describes it.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scope {
    /// Patroni's name of it.
    pub scope: String,
    /// Where its keys stand.
    pub path: String,
    /// Whether a failover would work now.
    pub failover: verdict::Verdict,
    /// Who holds the leader key.
    pub primary: Option<String>,
    /// The leader key, if somebody holds it.
    pub leader_key: Option<Key>,
    /// The primary's timeline.
    pub timeline: Option<u64>,
    /// The position in the write-ahead log that the primary last reported.
    pub lsn: Option<u64>,
    /// Whether Patroni was told to do nothing by itself.
    pub paused: bool,
    /// Whether it follows another cluster.
    pub standby_cluster: bool,
    /// Whether its primary may go on without the store (`failsafe_mode`).
    pub failsafe_mode: bool,
    /// Who may be promoted then, in that mode.
    #[serde(skip)]
    pub failsafe_members: Vec<String>,
    /// Whether a commit waits for a standby.
    pub synchronous_mode: SyncMode,
    /// Who has every commit, if a commit waits.
    pub sync: Option<Sync>,
    /// A replica that is further behind is not promoted, in bytes.
    pub maximum_lag_on_failover: u64,
    /// Whether Patroni itself refuses a replica of an older timeline.
    #[serde(skip)]
    pub check_timeline: bool,
    /// The life of the leader key, in seconds.
    pub ttl_s: u64,
    /// From one look of Patroni's to the next, in seconds.
    pub loop_wait_s: u64,
    /// Who held the leader key before, as far as this witness has seen.
    pub previous_primary: Option<String>,
    /// Since when the primary has held it, in milliseconds, where this witness saw
    /// it take over.
    pub primary_since_ms: Option<u64>,
    /// How often another server has taken over since this witness started.
    pub primary_changes: u64,
    /// A failover or switchover that was asked for.
    pub requested: Option<Requested>,
    /// How often the timeline has changed, and the end of the last one.
    pub history: Option<u64>,
    /// The database system identifier.
    pub system_identifier: Option<String>,
    /// Its members, by name.
    pub members: Vec<PgMember>,
    /// Members that are not shown, for there are too many.
    pub members_hidden: usize,
}

/// A key's life.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Key {
    /// How long ago it was written, in milliseconds.
    pub age_ms: u64,
    /// How long it still lives, in milliseconds.
    pub expires_in_ms: Option<u64>,
}

/// Whether a commit waits for a standby.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncMode {
    /// It does not.
    #[default]
    Off,
    /// For named standbys.
    On,
    /// For a number out of several.
    Quorum,
}

/// Patroni's `sync` key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sync {
    /// The primary that wrote it.
    pub leader: String,
    /// Who has every commit; in quorum mode, among whom it is.
    pub standbys: Vec<String>,
    /// Of those, how many must be seen in quorum mode.
    pub quorum: u64,
}

/// Patroni's `failover` key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Requested {
    /// Whom to demote.
    pub from: Option<String>,
    /// Whom to promote.
    pub to: Option<String>,
    /// When; at once if not given.
    pub scheduled_at: Option<String>,
}

/// One PostgreSQL server.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PgMember {
    /// Patroni's name of it.
    pub name: String,
    /// As `patronictl list` has it: `leader`, `standby_leader`, `sync_standby`,
    /// `quorum_standby` or `replica`.
    pub role: &'static str,
    /// What it says to be, where that is something else.
    pub says: Option<String>,
    /// As `patronictl list` has it: `running`, `streaming`, `stopped` ...
    pub state: String,
    /// Where PostgreSQL listens; no more of its URL than that.
    pub host: Option<String>,
    /// See `host`.
    pub port: Option<u16>,
    /// Its timeline.
    pub timeline: Option<u64>,
    /// Its position in the write-ahead log.
    pub lsn: Option<u64>,
    /// How far behind what the primary last reported, in bytes; not of the
    /// primary.
    pub lag_bytes: Option<u64>,
    /// Its own key.
    pub key: Key,
    /// Whether it has not refreshed its key for so long that it may be gone.
    pub stale: bool,
    /// Whether its key is gone: it expired, or was deleted. `key` then counts from
    /// that moment.
    pub gone: bool,
    /// How far its wall clock is ahead of ours, in milliseconds.
    pub clock_ahead_ms: Option<i64>,
    /// Patroni's version.
    pub patroni: Option<String>,
    /// Whether PostgreSQL has to be restarted for its settings.
    pub pending_restart: bool,
    /// Whether it is never to be promoted.
    pub nofailover: bool,
    /// Its zone, by its tags.
    pub zone: Option<String>,
    /// Whether it could take over now.
    pub candidacy: Candidacy,
    /// What the probe got.
    pub probe: Option<Probe>,
    /// Whether what it wrote can be read.
    #[serde(skip)]
    pub readable: bool,
    /// What it writes as `state`, replication apart.
    #[serde(skip)]
    pub raw_state: String,
}

/// Whether a server could take over now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Candidacy {
    /// Whether it could.
    pub ready: bool,
    /// What speaks against it, for a replica that could not.
    pub why: Option<String>,
}

/// What the probe of a server got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Probe {
    /// `healthy`, `suspect`, `unhealthy` or `unknown`.
    pub health: &'static str,
    /// `accepting`, `refused`, `silent` ...; none before the first answer.
    pub answer: Option<&'static str>,
    /// Who was asked, `host:port`.
    pub target: String,
    /// How long ago, in milliseconds.
    pub age_ms: Option<u64>,
    /// Until the first answer, in microseconds.
    pub latency_us: Option<u64>,
    /// Probes in a row that found it not accepting.
    pub tries: u32,
    /// PostgreSQL's code of the error that it sent.
    pub sqlstate: Option<String>,
    /// Its message, or what else is to be said.
    pub message: Option<String>,
    /// Whether it said to be in recovery, where we may ask.
    pub in_recovery: Option<bool>,
    /// Whether the answer is older than it should be.
    pub stale: bool,
}

/// The keys of one scope.
#[derive(Default)]
struct Keys<'a> {
    /// Those of [`WORDS`].
    words: BTreeMap<&'static str, Row<'a>>,
    /// Those of the members, by name.
    members: BTreeMap<&'a str, Row<'a>>,
}

impl<'a> Keys<'a> {
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
pub fn scopes<'a>(rows: impl Iterator<Item = Row<'a>>) -> Vec<Scope> {
    let mut paths: BTreeMap<&str, Keys<'_>> = BTreeMap::new();
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

impl Row<'_> {
    fn life(&self) -> Key {
        Key {
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

fn scope(path: &str, keys: &Keys<'_>) -> Scope {
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
        leader_key: leader.map(Row::life),
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

fn member(scope: &Scope, name: &str, row: &Row<'_>) -> PgMember {
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
        key: Key {
            age_ms: ms(age),
            expires_in_ms: None,
        },
        stale: true,
        gone: true,
        readable: true,
        ..PgMember::default()
    }
}

/// Whether a key that is refreshed in every loop should have been by now.
pub fn is_late(scope: &Scope, age: Duration) -> bool {
    let usual = Duration::from_secs(scope.loop_wait_s.min(3600));
    age > usual + usual / 2 + Duration::from_secs(1)
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
        let row = |key| Row {
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
