//! Who could take over: Patroni's own rules (4.1.5, `ha.py`: `is_healthiest_node`
//! and what it asks), seen from the third machine.

use std::time::Duration;

use super::scope::{Candidacy, PgMember, Scope, SyncMode, is_late};
use super::{Raft, words};

/// Fills `candidacy` of every member.
pub fn consider(raft: &Raft, scope: &mut Scope) {
    let unseen = probes_see_nothing(scope);
    let writable = could_write(raft, scope);
    let judged: Vec<Candidacy> = scope
        .members
        .iter()
        .map(|member| {
            if scope.primary.as_ref() == Some(&member.name) {
                return Candidacy::default();
            }
            if raft.store_outdated {
                return Candidacy {
                    ready: false,
                    why: Some("is as this witness last knew it".into()),
                };
            }
            let why = obstacle(scope, member, unseen, writable);
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

/// Whether a member that is there must have refreshed its key by now: a Raft
/// group that has just elected its leader could not take a write for a while.
fn could_write(raft: &Raft, scope: &Scope) -> bool {
    let since = raft.leader_since_ms.map(Duration::from_millis);
    since.is_none_or(|since| is_late(scope, since))
}

/// What keeps a replica from being promoted, as the rest of "b ...".
fn obstacle(scope: &Scope, member: &PgMember, unseen: bool, writable: bool) -> Option<String> {
    if member.gone {
        let age = words::seconds(member.key.age_ms);
        return Some(format!("has been gone for {age}"));
    }
    if !member.readable {
        return Some("wrote what cannot be read".into());
    }
    if member.stale && writable {
        return Some(format!(
            "was last heard of {} ago",
            words::seconds(member.key.age_ms)
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
                words::bytes(lag),
                words::bytes(scope.maximum_lag_on_failover)
            ));
        }
        None if scope.lsn.is_some() => return Some("shows no position in the log".into()),
        _ => {}
    }
    let probe = member.probe.as_ref().filter(|probe| !probe.stale)?;
    let speaks = !matches!(probe.answer, Some("silent" | "unreachable" | "no-target"));
    let bad = probe.health == "unhealthy" && (speaks || !unseen);
    bad.then(|| {
        format!(
            "does not accept connections ({})",
            words::answer(probe.answer)
        )
    })
}

/// Whether no server answers our probes, not even a primary that refreshes its
/// key: then the way from here is closed, and that is no news of the servers.
pub fn probes_see_nothing(scope: &Scope) -> bool {
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

/// Why nobody could take over, as the rest of a sentence.
pub fn nobody(scope: &Scope) -> String {
    let replicas: Vec<&PgMember> = scope
        .members
        .iter()
        .filter(|member| scope.primary.as_ref() != Some(&member.name))
        .collect();
    match replicas.as_slice() {
        [] => "there is no replica".into(),
        [only] => {
            let why = only.candidacy.why.as_deref().unwrap_or("is not ready");
            format!("the only replica, {}, {why}", only.name)
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
