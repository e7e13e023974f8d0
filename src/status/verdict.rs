//! Would a failover work now? One sentence, its reason, and for every replica
//! whether it could take over.
//!
//! The rules are Patroni's own (4.1.5, `ha.py`: `is_healthiest_node`), seen from
//! the third machine, and those of a majority: the question is whether the other
//! node would be promoted if the primary's machine went now. Where we cannot
//! know, the answer is `unknown`, never `yes`.

use std::fmt;

use serde::Serialize;

use super::patroni::{Candidacy, PgMember, Scope, SyncMode};
use super::{Cluster, Level, Note, Raft};

/// Whether a failover would work now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It would.
    Yes,
    /// We cannot know.
    #[default]
    Unknown,
    /// One is going on, so that another would not.
    UnderWay,
    /// It would not.
    No,
}

impl Answer {
    /// As JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Unknown => "unknown",
            Self::UnderWay => "under-way",
            Self::No => "no",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer, why, and in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// In one word.
    pub answer: Answer,
    /// Why, in one hyphenated word that does not change between versions.
    pub reason: &'static str,
    /// A plain sentence.
    pub sentence: String,
}

impl Verdict {
    /// A verdict.
    pub fn new(answer: Answer, reason: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            answer,
            reason,
            sentence: sentence.into(),
        }
    }
}

/// Judges a cluster and everything in it: fills `candidacy` of every member,
/// `failover` of every scope and of the cluster, and adds notes of what does not
/// fit together.
pub fn judge(cluster: &mut Cluster) {
    let raft = &cluster.raft;
    for scope in &mut cluster.postgresql {
        consider_candidates(scope);
        scope.failover = verdict(raft, scope);
        observe(raft, scope, &mut cluster.notes);
    }
    let several = cluster.postgresql.len() > 1;
    let worst = cluster.postgresql.iter().max_by_key(|s| s.failover.answer);
    cluster.failover = match worst {
        Some(scope) => {
            let mut worst = scope.failover.clone();
            if several {
                worst.sentence = format!("{}: {}", scope.scope, worst.sentence);
            }
            worst
        }
        None => without_patroni(raft),
    };
    cluster
        .notes
        .sort_by_key(|note| std::cmp::Reverse(note.level));
}

/// The store holds nothing of Patroni's.
fn without_patroni(raft: &Raft) -> Verdict {
    blind(raft).unwrap_or_else(|| {
        Verdict::new(
            Answer::No,
            "no-cluster",
            "No. No Patroni cluster has written to this Raft group yet.",
        )
    })
}

/// What speaks against any other verdict: we do not know how things are.
fn blind(raft: &Raft) -> Option<Verdict> {
    let total = raft.members.len();
    if total > 1 && raft.connected_others() == 0 {
        return Some(Verdict::new(
            Answer::Unknown,
            "isolated",
            "Unknown. This witness reaches none of the others; what it shows is as it last \
             heard it.",
        ));
    }
    let votes = raft.connected_others() + usize::from(raft.votes);
    if votes < raft.needed {
        return Some(match raft.votes {
            true => Verdict::new(
                Answer::No,
                "no-quorum",
                format!(
                    "No. Only {} of {total} Raft members are there, and {} are needed.",
                    raft.reachable, raft.needed
                ),
            ),
            false => voiceless(raft),
        });
    }
    if raft.leader.is_none() {
        return Some(Verdict::new(
            Answer::UnderWay,
            "no-raft-leader",
            "Not now. The Raft group has no leader; an election is under way.",
        ));
    }
    None
}

fn voiceless(raft: &Raft) -> Verdict {
    let why = raft.why.as_deref().unwrap_or("it waits");
    Verdict::new(
        Answer::No,
        "no-vote",
        format!("No. This witness has no vote: {why}."),
    )
}

fn verdict(raft: &Raft, scope: &Scope) -> Verdict {
    if let Some(verdict) = blind(raft) {
        return verdict;
    }
    let ready: Vec<&PgMember> = scope.members.iter().filter(|m| m.candidacy.ready).collect();
    let names: Vec<&str> = ready.iter().map(|member| member.name.as_str()).collect();
    let names = names.join(" or ");
    if scope.paused {
        return Verdict::new(
            Answer::No,
            "paused",
            "No. Patroni is paused and does nothing by itself.",
        );
    }
    let Some(primary) = &scope.primary else {
        return match ready.is_empty() {
            false => Verdict::new(
                Answer::UnderWay,
                "no-primary",
                format!("Not now. There is no primary; {names} can take over."),
            ),
            true => Verdict::new(
                Answer::No,
                "no-primary",
                format!("No. There is no primary, and {}.", nobody(scope)),
            ),
        };
    };
    let late = scope
        .leader_key
        .as_ref()
        .filter(|key| super::patroni::is_late(scope, std::time::Duration::from_millis(key.age_ms)));
    if let Some(key) = late {
        let left = key.expires_in_ms.map_or_else(
            || "never runs out".into(),
            |left| format!("runs out in {}", seconds(left)),
        );
        let then = match ready.is_empty() {
            true => format!("but {}", nobody(scope)),
            false => format!("then {names} can take over"),
        };
        let answer = if ready.is_empty() {
            Answer::No
        } else {
            Answer::UnderWay
        };
        return Verdict::new(
            answer,
            "primary-silent",
            format!(
                "{} {primary} has not refreshed its leader key for {}; it {left}, {then}.",
                if ready.is_empty() { "No." } else { "Not now." },
                seconds(key.age_ms)
            ),
        );
    }
    if ready.is_empty() {
        let nobody = nobody(scope);
        return Verdict::new(
            Answer::No,
            "no-candidate",
            format!("No. {}.", capital(&nobody)),
        );
    }
    if let Some(verdict) = too_few_votes(raft, scope, primary) {
        return verdict;
    }
    Verdict::new(
        Answer::Yes,
        "ready",
        format!(
            "Yes. If {primary} fails now, {} takes over.",
            described(&ready)
        ),
    )
}

/// Whether a majority of votes would be left without the primary's machine.
fn too_few_votes(raft: &Raft, scope: &Scope, primary: &str) -> Option<Verdict> {
    let others = raft.connected_others();
    let left = match raft_member_of(raft, scope, primary) {
        Some(true) => others - 1,
        Some(false) => others,
        // Its Raft address tells nothing: it is one of those that are there.
        None => others.saturating_sub(1),
    };
    if left + usize::from(raft.votes) >= raft.needed {
        return None;
    }
    if left + 1 >= raft.needed && !raft.votes {
        return Some(voiceless(raft));
    }
    let gone: Vec<&str> = raft
        .members
        .iter()
        .filter(|member| !member.connected && !member.this)
        .map(|member| member.address.as_str())
        .collect();
    Some(Verdict::new(
        Answer::No,
        "no-majority-left",
        format!(
            "No. Without {primary} only {} of {} Raft votes would be left, and {} are needed{}{}.",
            left + usize::from(raft.votes),
            raft.members.len(),
            raft.needed,
            if gone.is_empty() { "" } else { "; not there: " },
            gone.join(", ")
        ),
    ))
}

/// Whether the Raft member on a server's machine is connected; none if which one
/// it is cannot be told. Patroni names no Raft address: the host is compared.
fn raft_member_of(raft: &Raft, scope: &Scope, name: &str) -> Option<bool> {
    let server = scope.members.iter().find(|member| member.name == name)?;
    let host = server.host.as_deref()?;
    let on_host = |address: &str| address.rsplit_once(':').is_some_and(|(h, _)| h == host);
    let mut found = raft
        .members
        .iter()
        .filter(|m| !m.this && on_host(&m.address));
    let member = found.next()?;
    found.next().is_none().then_some(member.connected)
}

fn described(ready: &[&PgMember]) -> String {
    let each: Vec<String> = ready
        .iter()
        .map(|member| {
            let synced = matches!(member.role, "sync_standby" | "quorum_standby");
            match (synced, member.lag_bytes) {
                (true, _) => format!("{} (in sync)", member.name),
                (false, Some(lag)) if lag > 0 => format!("{} ({} behind)", member.name, bytes(lag)),
                (false, _) => member.name.clone(),
            }
        })
        .collect();
    each.join(" or ")
}

/// Why nobody could take over, as the rest of a sentence.
fn nobody(scope: &Scope) -> String {
    let replicas: Vec<&PgMember> = scope
        .members
        .iter()
        .filter(|member| scope.primary.as_ref() != Some(&member.name))
        .collect();
    match replicas.as_slice() {
        [] => "there is no replica".into(),
        [only] => {
            let why = only.candidacy.why.as_deref().unwrap_or("is not ready");
            format!("{}, the only replica, {why}", only.name)
        }
        several => {
            let each: Vec<String> = several
                .iter()
                .map(|member| {
                    let why = member.candidacy.why.as_deref().unwrap_or("is not ready");
                    format!("{} {why}", member.name)
                })
                .collect();
            format!("no replica could take over: {}", each.join("; "))
        }
    }
}

fn consider_candidates(scope: &mut Scope) {
    let unseen = probes_see_nothing(scope);
    let judged: Vec<Candidacy> = scope
        .members
        .iter()
        .map(|member| {
            if scope.primary.as_ref() == Some(&member.name) {
                return Candidacy::default();
            }
            let why = obstacle(scope, member, unseen);
            Candidacy {
                ready: why.is_none(),
                why,
            }
        })
        .collect();
    for (member, candidacy) in scope.members.iter_mut().zip(judged) {
        member.candidacy = candidacy;
    }
}

/// What keeps a replica from being promoted, as the rest of "b ...".
fn obstacle(scope: &Scope, member: &PgMember, unseen: bool) -> Option<String> {
    if !member.readable {
        return Some("wrote what cannot be read".into());
    }
    if member.stale {
        return Some(format!(
            "was last heard of {} ago",
            seconds(member.key.age_ms)
        ));
    }
    if !matches!(member.raw_state.as_str(), "running" | "streaming") {
        let state = match member.raw_state.as_str() {
            "" => "in an unknown state",
            state => state,
        };
        return Some(format!("is {state}"));
    }
    if member.nofailover {
        return Some("is tagged never to be promoted".into());
    }
    if let Some(why) = not_in_sync(scope, member) {
        return Some(why);
    }
    let failsafe = &scope.failsafe_members;
    if scope.failsafe_mode && !failsafe.is_empty() && !failsafe.contains(&member.name) {
        return Some("is not yet known to failsafe_mode".into());
    }
    // Patroni asks for it only with `check_timeline`; promoted from an older
    // timeline it would lose what was committed since.
    match (member.timeline, scope.timeline) {
        (Some(own), Some(theirs)) if own < theirs => {
            return Some(format!("is on timeline {own}, the primary on {theirs}"));
        }
        (None, Some(_)) if scope.check_timeline => return Some("shows no timeline".into()),
        _ => {}
    }
    match member.lag_bytes {
        Some(lag) if lag > scope.maximum_lag_on_failover => {
            return Some(format!(
                "is {} behind, and {} are allowed",
                bytes(lag),
                bytes(scope.maximum_lag_on_failover)
            ));
        }
        None if scope.lsn.is_some() => return Some("shows no position in the log".into()),
        _ => {}
    }
    let probe = member.probe.as_ref().filter(|probe| !probe.stale)?;
    let speaks = !matches!(probe.answer, Some("silent" | "unreachable" | "no-target"));
    let bad = probe.health == "unhealthy" && (speaks || !unseen);
    bad.then(|| format!("does not accept connections ({})", words(probe.answer)))
}

fn words(answer: Option<&str>) -> String {
    answer.unwrap_or("no answer").replace('-', " ")
}

/// Whether no server answers our probes, not even a primary that refreshes its
/// key: then the way from here is closed, and that is no news of the servers.
fn probes_see_nothing(scope: &Scope) -> bool {
    let mut probes = scope
        .members
        .iter()
        .filter_map(|m| m.probe.as_ref())
        .peekable();
    probes.peek().is_some()
        && probes.all(|probe| {
            matches!(
                probe.answer,
                None | Some("silent" | "unreachable" | "no-target")
            )
        })
}

/// In synchronous mode only who has every commit is promoted. The mode is in
/// force once the `sync` key names a leader (`sync_mode_is_active`).
fn not_in_sync(scope: &Scope, member: &PgMember) -> Option<String> {
    let sync = scope.sync.as_ref()?;
    if scope.synchronous_mode == SyncMode::Off {
        return None;
    }
    let listed = |name: &str| {
        sync.standbys
            .iter()
            .any(|standby| standby.eq_ignore_ascii_case(name))
    };
    let named = sync.leader.eq_ignore_ascii_case(&member.name) || listed(&member.name);
    match scope.synchronous_mode {
        SyncMode::On if !named => Some("is not in sync".into()),
        // Others must show that it has every commit: `quorum` of those listed,
        // itself counted if it is one.
        SyncMode::Quorum => {
            let primary = scope.primary.as_deref().unwrap_or_default();
            let there = scope.members.iter().filter(|other| {
                other.name != primary
                    && listed(&other.name)
                    && !other.stale
                    && (other.name == member.name || other.raw_state == "running")
            });
            // `quorum_votes` begins at -1 for one that is not listed itself.
            let votes = there.count() as u64;
            (votes < sync.quorum.saturating_add(1))
                .then(|| "cannot be shown to have every commit".into())
        }
        _ => None,
    }
}

/// Notes of what does not fit together, or should be known.
fn observe(raft: &Raft, scope: &Scope, notes: &mut Vec<Note>) {
    let mut add = |level, text: String| notes.push(Note::new(level, text));
    for member in &scope.members {
        let holds_key = scope.primary.as_ref() == Some(&member.name);
        if let Some(probe) = member.probe.as_ref().filter(|probe| !probe.stale) {
            let bad = matches!(probe.health, "unhealthy" | "suspect");
            if bad && holds_key {
                add(
                    Level::Alarm,
                    format!(
                        "{} holds the leader key, but its PostgreSQL at {} does not accept \
                         connections ({}).",
                        member.name,
                        probe.target,
                        words(probe.answer)
                    ),
                );
            }
            match (probe.in_recovery, holds_key) {
                (Some(false), false) => add(
                    Level::Alarm,
                    format!(
                        "{} does not hold the leader key, but its PostgreSQL says that it is a \
                         primary.",
                        member.name
                    ),
                ),
                (Some(true), true) if !scope.standby_cluster => add(
                    Level::Warning,
                    format!(
                        "{} holds the leader key, but its PostgreSQL is in recovery.",
                        member.name
                    ),
                ),
                _ => {}
            }
        }
        if let Some(says) = &member.says {
            add(
                Level::Warning,
                format!(
                    "{} says that it is {says}; its keys say {}.",
                    member.name, member.role
                ),
            );
        }
        if !member.readable {
            add(
                Level::Warning,
                format!("What {} wrote under its key cannot be read.", member.name),
            );
        }
        if member.pending_restart {
            add(
                Level::Advice,
                format!("{} waits for a restart.", member.name),
            );
        }
        if let Some(ahead) = member
            .clock_ahead_ms
            .filter(|ahead| ahead.abs() > CLOCK_MS_MAX)
        {
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            add(
                Level::Warning,
                format!(
                    "The clock of {} is {} {way} ours. While a Python node leads the Raft \
                     group its clock decides when a key expires.",
                    member.name,
                    seconds(ahead.unsigned_abs())
                ),
            );
        }
    }
    if let Some(primary) = &scope.primary {
        if !scope.members.iter().any(|member| member.name == *primary) {
            add(
                Level::Warning,
                format!("{primary} holds the leader key, but has no key of its own."),
            );
        }
        let sync = scope.sync.as_ref();
        if scope.synchronous_mode != SyncMode::Off
            && sync.is_some_and(|sync| !sync.leader.eq_ignore_ascii_case(primary))
        {
            add(
                Level::Warning,
                format!("The sync key is not {primary}'s, who holds the leader key."),
            );
        }
    }
    if probes_see_nothing(scope) && scope.members.iter().all(|m| !m.stale) {
        let down = |m: &PgMember| m.probe.as_ref().is_some_and(|p| p.health == "unhealthy");
        if scope.members.iter().any(down) {
            add(
                Level::Warning,
                "No PostgreSQL answers the probe, but their Patronis are well: is their port \
                 closed to this machine?"
                    .into(),
            );
        }
    }
    if let Some(request) = &scope.requested {
        let at = request.scheduled_at.as_deref().unwrap_or("now");
        add(
            Level::Advice,
            format!(
                "A switchover was asked for: from {} to {}, {at}.",
                request.from.as_deref().unwrap_or("the primary"),
                request.to.as_deref().unwrap_or("any replica")
            ),
        );
    }
    if scope.failsafe_mode && !raft.quorum {
        add(
            Level::Advice,
            "failsafe_mode is on: the primary may go on without the Raft group.".into(),
        );
    }
    if scope.members_hidden > 0 {
        add(
            Level::Warning,
            format!("{} more members are not shown.", scope.members_hidden),
        );
    }
}

/// From here on a clock is worth a word: half of what Patroni leaves between
/// `ttl` and its own retries.
const CLOCK_MS_MAX: i64 = 5_000;

/// Whole seconds, as a person says them.
pub fn seconds(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..=119 => format!("{s} s"),
        120..=7_199 => format!("{} min", s / 60),
        7_200..=172_799 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

/// A size, as a person says it.
pub fn bytes(count: u64) -> String {
    match count {
        0..=9_999 => format!("{count} B"),
        10_000..=9_999_999 => format!("{} kB", count / 1_000),
        10_000_000..=9_999_999_999 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests;
