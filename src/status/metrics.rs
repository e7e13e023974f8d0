//! The model as OpenMetrics 1.0 text. Names and units by Prometheus' rules: base
//! units, `_total` for what only grows, one family after the other.

use std::fmt::Write as _;

use super::scope::PgMember;
use super::{ClusterOverview, FailoverAnswer, Overview, Scope};

/// What a scrape's answer is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text in pieces of one family each, made as they are taken, so that others
/// can run in between; the last is `# EOF`.
pub fn text(overview: &Overview) -> impl Iterator<Item = String> {
    let clusters = CLUSTER.iter().map(move |(name, kind, help, value)| {
        let mut out = Families::begin(name, kind, help);
        for cluster in &overview.clusters {
            out.sample(&[("cluster", &cluster.cluster)], value(cluster));
        }
        out.text
    });
    std::iter::once_with(|| process(overview))
        .chain(clusters)
        .chain(std::iter::once_with(|| silence(overview)))
        .chain(std::iter::once_with(|| links(overview)))
        .chain(std::iter::once_with(|| primaries(overview)))
        .chain(SCOPE.iter().map(|family| of_scopes(overview, family)))
        .chain(SERVER.iter().map(|family| of_servers(overview, family)))
        .chain(std::iter::once("# EOF\n".to_owned()))
}

#[derive(Default)]
struct Families {
    text: String,
    name: &'static str,
    suffix: &'static str,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Families {
    fn begin(name: &'static str, kind: &str, help: &str) -> Self {
        let mut families = Self::default();
        families.family(name, kind, help);
        families
    }

    /// Begins a family; its unit is the end of its name, where it has one.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        self.suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        let unit = ["seconds", "bytes", "sectors"];
        if let Some(unit) = unit.iter().find(|unit| name.ends_with(&format!("_{unit}"))) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {name} {help}");
    }

    fn sample(&mut self, labels: Labels<'_>, value: impl std::fmt::Display) {
        self.text.push_str(self.name);
        self.text.push_str(self.suffix);
        for (number, (name, value)) in labels.iter().enumerate() {
            self.text.push_str(if number == 0 { "{" } else { "," });
            let _ = write!(self.text, "{name}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn truth(&mut self, labels: Labels<'_>, value: bool) {
        self.sample(labels, u8::from(value));
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Thousandths, or millionths, as a decimal.
fn thousandths(value: u64) -> String {
    format!("{}.{:03}", value / 1_000, value % 1_000)
}

fn millionths(value: u64) -> String {
    format!("{}.{:06}", value / 1_000_000, value % 1_000_000)
}

fn process(overview: &Overview) -> String {
    let mut out = Families::default();
    let watcher = &overview.watcher;
    out.family("pg_witness", "info", "The program.");
    out.sample(&[("version", watcher.version)], 1);
    out.family(
        "pg_witness_uptime_seconds",
        "gauge",
        "Since the process started.",
    );
    out.sample(&[], watcher.uptime_s);
    out.family(
        "pg_witness_alive",
        "gauge",
        "Whether everything makes progress.",
    );
    out.truth(&[], watcher.stalled.is_none());
    if let Some(memory) = watcher.memory_bytes {
        out.family("process_resident_memory_bytes", "gauge", "Resident memory.");
        out.sample(&[], memory);
    }
    if let Some(cpu) = watcher.cpu_ms {
        out.family(
            "process_cpu_seconds",
            "counter",
            "CPU time, user and system.",
        );
        out.sample(&[], thousandths(cpu));
    }
    if let Some(files) = watcher.open_files {
        out.family("process_open_fds", "gauge", "Open file descriptors.");
        out.sample(&[], files);
    }
    out.text
}

type OfCluster = fn(&ClusterOverview) -> String;

/// Families with one sample a cluster: name, kind, help, value.
const CLUSTER: &[(&str, &str, &str, OfCluster)] = &[
    (
        "pg_witness_failover_possible",
        "gauge",
        "1 if a failover would work now; 0 if not, or if it cannot be known.",
        |c| u8::from(c.failover.answer == FailoverAnswer::Yes).to_string(),
    ),
    (
        "pg_witness_raft_voter",
        "gauge",
        "Whether this witness's vote counts.",
        |c| u8::from(c.raft.votes).to_string(),
    ),
    (
        "pg_witness_raft_leader",
        "gauge",
        "Whether this witness leads the Raft group.",
        |c| u8::from(c.raft.state == "leader").to_string(),
    ),
    (
        "pg_witness_raft_quorum",
        "gauge",
        "Whether a majority is there and somebody leads it.",
        |c| u8::from(c.raft.quorum).to_string(),
    ),
    (
        "pg_witness_raft_survives_one_more_loss",
        "gauge",
        "Whether a majority would be left if any one member went.",
        |c| u8::from(c.raft.survives_one_more_loss).to_string(),
    ),
    (
        "pg_witness_raft_members",
        "gauge",
        "Members of the Raft group.",
        |c| c.raft.members.len().to_string(),
    ),
    (
        "pg_witness_raft_members_reachable",
        "gauge",
        "Members that are there, this one included.",
        |c| c.raft.reachable.to_string(),
    ),
    ("pg_witness_raft_term", "gauge", "The current term.", |c| {
        c.raft.term.to_string()
    }),
    (
        "pg_witness_raft_commit_index",
        "gauge",
        "The last log entry known to be committed.",
        |c| c.raft.commit_index.to_string(),
    ),
    (
        "pg_witness_raft_applied_index",
        "gauge",
        "The last log entry applied.",
        |c| c.raft.applied_index.to_string(),
    ),
    (
        "pg_witness_poison_entries",
        "counter",
        "Committed entries that harm Python nodes.",
        |c| c.raft.counters.poison_entries.to_string(),
    ),
    (
        "pg_witness_keys_expired",
        "counter",
        "Keys that ran out.",
        |c| c.raft.counters.keys_expired.to_string(),
    ),
    (
        "pg_witness_refused_connections",
        "counter",
        "Connections to the Raft port refused: too many, or from a network that may not.",
        |c| c.raft.counters.refused_connections.to_string(),
    ),
    (
        "pg_witness_unreadable_connections",
        "counter",
        "Connections that sent an unreadable message, such as with another password.",
        |c| c.raft.counters.unreadable_connections.to_string(),
    ),
    (
        "pg_witness_refused_appends",
        "counter",
        "Appends that the engine refused.",
        |c| c.raft.counters.refused_appends.to_string(),
    ),
    (
        "pg_witness_rebuilds",
        "counter",
        "Rebuilds of the engine from disk.",
        |c| c.raft.counters.rebuilds.to_string(),
    ),
    (
        "pg_witness_store_keys",
        "gauge",
        "Keys in the replicated store.",
        |c| c.raft.counters.keys.to_string(),
    ),
    (
        "pg_witness_store_size_bytes",
        "gauge",
        "Memory that the replicated store takes.",
        |c| c.raft.counters.key_bytes.to_string(),
    ),
    (
        "pg_witness_disk_written_bytes",
        "counter",
        "Bytes written to the log and the hard state.",
        |c| c.raft.disk.written_bytes.to_string(),
    ),
    (
        "pg_witness_disk_syncs",
        "counter",
        "Syncs completed.",
        |c| c.raft.disk.syncs.to_string(),
    ),
    (
        "pg_witness_disk_today_sectors",
        "gauge",
        "Sectors of 512 bytes written since midnight UTC.",
        |c| c.raft.disk.sectors_today.to_string(),
    ),
    (
        "pg_witness_disk_sync_last_seconds",
        "gauge",
        "How long the last sync took.",
        |c| millionths(c.raft.disk.sync_last_us),
    ),
    (
        "pg_witness_disk_sync_max_seconds",
        "gauge",
        "How long the slowest sync took.",
        |c| millionths(c.raft.disk.sync_max_us),
    ),
];

/// Why a witness does not vote, as a label; no sample of one that does.
fn silence(overview: &Overview) -> String {
    let mut out = Families::begin(
        "pg_witness_raft_no_vote",
        "gauge",
        "1 for the reason why this witness does not vote.",
    );
    for cluster in &overview.clusters {
        if let Some(reason) = cluster.raft.reason {
            out.sample(&[("cluster", &cluster.cluster), ("reason", reason)], 1);
        }
    }
    out.text
}

fn links(overview: &Overview) -> String {
    let mut out = Families::begin(
        "pg_witness_raft_member_connected",
        "gauge",
        "Whether there is a link to the member.",
    );
    for cluster in &overview.clusters {
        for member in cluster.raft.members.iter().filter(|member| !member.this) {
            let labels = [("cluster", &*cluster.cluster), ("member", &*member.address)];
            out.truth(&labels, member.connected);
        }
    }
    out.text
}

type OfScope = fn(&Scope) -> Option<String>;

/// Families with one sample a PostgreSQL cluster.
const SCOPE: &[(&str, &str, OfScope)] = &[
    (
        "pg_witness_patroni_failover_possible",
        "1 if a failover of this PostgreSQL cluster would work now.",
        |s| Some(u8::from(s.failover.answer == FailoverAnswer::Yes).to_string()),
    ),
    (
        "pg_witness_patroni_leader_key_held",
        "Whether somebody holds the leader key.",
        |s| Some(u8::from(s.primary.is_some()).to_string()),
    ),
    (
        "pg_witness_patroni_leader_key_expires_seconds",
        "How long the leader key still lives.",
        |s| Some(thousandths(s.leader_key?.expires_in_ms?)),
    ),
    (
        "pg_witness_patroni_paused",
        "Whether Patroni was told to do nothing by itself.",
        |s| Some(u8::from(s.paused).to_string()),
    ),
    (
        "pg_witness_patroni_timeline",
        "The primary's timeline.",
        |s| Some(s.timeline?.to_string()),
    ),
];

/// Who is primary by name, and how often that has changed.
fn primaries(overview: &Overview) -> String {
    let mut out = Families::begin(
        "pg_witness_patroni_primary",
        "gauge",
        "1 for the server that holds the leader key.",
    );
    for (cluster, scope) in scopes(overview) {
        if let Some(primary) = &scope.primary {
            let labels = [
                ("cluster", &*cluster.cluster),
                ("scope", &*scope.scope),
                ("server", &**primary),
            ];
            out.sample(&labels, 1);
        }
    }
    out.family(
        "pg_witness_patroni_primary_changes",
        "counter",
        "How often another server has taken the leader key.",
    );
    for (cluster, scope) in scopes(overview) {
        let labels = [("cluster", &*cluster.cluster), ("scope", &*scope.scope)];
        out.sample(&labels, scope.primary_changes);
    }
    out.text
}

type OfServer = fn(&PgMember) -> Option<String>;

/// Families with one sample a server.
const SERVER: &[(&str, &str, OfServer)] = &[
    (
        "pg_witness_postgresql_accepting",
        "Whether the probe found the server accepting connections.",
        |m| {
            let probe = m.probe.as_ref()?;
            probe.answer?;
            Some(u8::from(probe.health == "healthy").to_string())
        },
    ),
    (
        "pg_witness_postgresql_unhealthy",
        "Whether so many probes in a row failed that it counts as down.",
        |m| Some(u8::from(m.probe.as_ref()?.health == "unhealthy").to_string()),
    ),
    (
        "pg_witness_postgresql_probe_age_seconds",
        "How old the last probe is.",
        |m| Some(thousandths(m.probe.as_ref()?.age_ms?)),
    ),
    (
        "pg_witness_postgresql_probe_latency_seconds",
        "From the connection to the server's first answer.",
        |m| Some(millionths(m.probe.as_ref()?.latency_us?)),
    ),
    (
        "pg_witness_postgresql_primary",
        "Whether it holds the leader key.",
        |m| Some(u8::from(m.role == "leader").to_string()),
    ),
    (
        "pg_witness_postgresql_candidate",
        "Whether it could be promoted now.",
        |m| Some(u8::from(m.candidacy.ready).to_string()),
    ),
    (
        "pg_witness_postgresql_lag_bytes",
        "How far behind what the primary last reported.",
        |m| Some(m.lag_bytes?.to_string()),
    ),
    (
        "pg_witness_postgresql_key_expires_seconds",
        "How long the member's own key still lives.",
        |m| Some(thousandths(m.key.expires_in_ms?)),
    ),
    (
        "pg_witness_postgresql_clock_ahead_seconds",
        "How far the member's wall clock is ahead of ours.",
        |m| {
            let ahead = m.clock_ahead_ms?;
            let sign = if ahead < 0 { "-" } else { "" };
            Some(format!("{sign}{}", thousandths(ahead.unsigned_abs())))
        },
    ),
];

fn scopes(overview: &Overview) -> impl Iterator<Item = (&ClusterOverview, &Scope)> {
    let clusters = overview.clusters.iter();
    clusters.flat_map(|cluster| cluster.postgresql.iter().map(move |scope| (cluster, scope)))
}

fn of_scopes(overview: &Overview, (name, help, value): &(&'static str, &str, OfScope)) -> String {
    let mut out = Families::begin(name, "gauge", help);
    for (cluster, scope) in scopes(overview) {
        if let Some(value) = value(scope) {
            let labels = [("cluster", &*cluster.cluster), ("scope", &*scope.scope)];
            out.sample(&labels, value);
        }
    }
    out.text
}

fn of_servers(overview: &Overview, (name, help, value): &(&'static str, &str, OfServer)) -> String {
    let mut out = Families::begin(name, "gauge", help);
    for (cluster, scope) in scopes(overview) {
        for member in &scope.members {
            let Some(value) = value(member) else { continue };
            let labels = [
                ("cluster", &*cluster.cluster),
                ("scope", &*scope.scope),
                ("server", &*member.name),
            ];
            out.sample(&labels, value);
        }
    }
    out.text
}

#[cfg(test)]
mod tests;
