//! What does not fit together, or should be known: Raft's view, Patroni's keys and
//! the probes' answers held against each other.

use super::candidacy::probes_see_nothing;
use super::scope::{PgMember, Scope, SyncMode};
use super::{Level, Note, Raft, words};
use crate::limits::{KV_BYTES_QUOTA, KV_BYTES_WARN};

/// From here on a clock is worth a word: half of what Patroni leaves between
/// `ttl` and its own retries.
const CLOCK_MS_MAX: i64 = 5_000;

/// The notes of one PostgreSQL cluster.
pub fn observe(raft: &Raft, scope: &Scope) -> Vec<Note> {
    let mut notes = Vec::new();
    if raft.store_outdated {
        // Neither key nor clock is as it says.
        let text = format!(
            "What is shown of {} is as it was when this witness stopped following the leader.",
            scope.scope
        );
        return vec![Note::new(Level::Warning, text)];
    }
    for member in &scope.members {
        probe_against_key(scope, member, &mut notes);
        of_member(member, &mut notes);
    }
    of_primary(scope, &mut notes);
    if probes_see_nothing(scope) && scope.members.iter().all(|m| !m.stale) {
        let down = |m: &PgMember| m.probe.as_ref().is_some_and(|p| p.health == "unhealthy");
        if scope.members.iter().any(down) {
            notes.push(Note::new(
                Level::Warning,
                "No PostgreSQL answers the probe, but their Patronis are well: is their port \
                 closed to this machine?",
            ));
        }
    }
    if let Some(request) = &scope.requested {
        let text = format!(
            "A switchover was asked for: from {} to {}, {}.",
            request.from.as_deref().unwrap_or("the primary"),
            request.to.as_deref().unwrap_or("any replica"),
            request.scheduled_at.as_deref().unwrap_or("now")
        );
        notes.push(Note::new(Level::Advice, text));
    }
    if scope.failsafe_mode && !raft.quorum {
        notes.push(Note::new(
            Level::Advice,
            "failsafe_mode is on: the primary may go on without the Raft group.",
        ));
    }
    if scope.members_hidden > 0 {
        let text = format!("{} more members are not shown.", scope.members_hidden);
        notes.push(Note::new(Level::Warning, text));
    }
    notes
}

/// The size of the whole store: what is committed is applied, however much, but a
/// snapshot beyond the limit could not be taken in.
pub fn of_store(raft: &Raft) -> Option<Note> {
    let size = raft.counters.key_bytes;
    (size > KV_BYTES_WARN).then(|| {
        let text = format!(
            "The key-value store takes {}, far more than Patroni writes. Beyond {} this witness \
             lets it grow no more and votes for nobody.",
            words::bytes(size),
            words::bytes(KV_BYTES_QUOTA)
        );
        Note::new(Level::Warning, text)
    })
}

/// Where the probe and the leader key disagree.
fn probe_against_key(scope: &Scope, member: &PgMember, notes: &mut Vec<Note>) {
    let Some(probe) = member.probe.as_ref().filter(|probe| !probe.stale) else {
        return;
    };
    let name = &member.name;
    let holds_key = scope.primary.as_ref() == Some(name);
    if holds_key && matches!(probe.health, "unhealthy" | "suspect") {
        let text = format!(
            "{name} holds the leader key, but its PostgreSQL at {} does not accept connections \
             ({}).",
            probe.target,
            words::answer(probe.answer)
        );
        notes.push(Note::new(Level::Alarm, text));
    }
    match (probe.in_recovery, holds_key) {
        (Some(false), false) => {
            let text = format!(
                "{name} does not hold the leader key, but its PostgreSQL says that it is a primary."
            );
            notes.push(Note::new(Level::Alarm, text));
        }
        (Some(true), true) if !scope.standby_cluster => {
            let text = format!("{name} holds the leader key, but its PostgreSQL is in recovery.");
            notes.push(Note::new(Level::Warning, text));
        }
        _ => {}
    }
}

/// What one member wrote of itself.
fn of_member(member: &PgMember, notes: &mut Vec<Note>) {
    let name = &member.name;
    if let Some(says) = &member.says {
        let text = format!(
            "{name} says that it is {says}; its keys say {}.",
            member.role
        );
        notes.push(Note::new(Level::Warning, text));
    }
    if !member.readable {
        let text = format!("What {name} wrote under its key cannot be read.");
        notes.push(Note::new(Level::Warning, text));
    }
    if member.pending_restart {
        notes.push(Note::new(
            Level::Advice,
            format!("{name} waits for a restart."),
        ));
    }
    if let Some(ahead) = member.clock_ahead_ms
        && !(-CLOCK_MS_MAX..=CLOCK_MS_MAX).contains(&ahead)
    {
        let text = format!(
            "The clock of {name} is {} {} ours. While a Python node leads the Raft group its \
             clock decides when a key expires.",
            words::seconds(ahead.unsigned_abs()),
            if ahead > 0 { "ahead of" } else { "behind" }
        );
        notes.push(Note::new(Level::Warning, text));
    }
}

/// The leader key against the other keys.
fn of_primary(scope: &Scope, notes: &mut Vec<Note>) {
    let Some(primary) = &scope.primary else {
        return;
    };
    if !scope.members.iter().any(|member| member.name == *primary) {
        let text = format!("{primary} holds the leader key, but has no key of its own.");
        notes.push(Note::new(Level::Warning, text));
    }
    let foreign = |leader: &str| !leader.eq_ignore_ascii_case(primary);
    let sync = scope.sync.as_ref();
    if scope.synchronous_mode != SyncMode::Off && sync.is_some_and(|sync| foreign(&sync.leader)) {
        let text = format!("The sync key is not {primary}'s, who holds the leader key.");
        notes.push(Note::new(Level::Warning, text));
    }
}
