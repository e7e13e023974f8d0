//! One PostgreSQL cluster as this witness knows it: what Patroni wrote of it, what
//! the probes got, and what `judge` makes of both.

use std::time::Duration;

use serde::Serialize;

use super::probe::ProbeOverview;
use super::verdict::Verdict;

/// One PostgreSQL cluster as Patroni describes it: a field for each key of the status's
/// JSON.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scope {
    /// Patroni's name of it.
    pub scope: String,
    /// Where its keys stand.
    pub path: String,
    /// Whether a failover would work now.
    pub failover: Verdict,
    /// Who holds the leader key.
    pub primary: Option<String>,
    /// The leader key, if somebody holds it.
    pub leader_key: Option<KeyLife>,
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
pub struct KeyLife {
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

/// One PostgreSQL server: a field for each key of the status's JSON.
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
    pub key: KeyLife,
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
    pub probe: Option<ProbeOverview>,
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

/// Whether a key that is refreshed in every loop should have been by now.
pub fn is_late(scope: &Scope, age: Duration) -> bool {
    let usual = Duration::from_secs(scope.loop_wait_s.min(3600));
    age > usual + usual / 2 + Duration::from_secs(1)
}
