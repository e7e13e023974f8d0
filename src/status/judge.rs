//! Would a failover work now? One sentence, its reason, and for every replica
//! whether it could take over.
//!
//! The rules are Patroni's own (4.1.5, `ha.py`: `is_healthiest_node`), seen from
//! the third machine, and those of a majority: the question is whether the other
//! node would be promoted if the primary's machine went now. Where we cannot
//! know, the answer is `unknown`, never `yes`.

use std::time::Duration;

use super::candidacy::{self, nobody};
use super::scope::{PgMember, Scope, is_late};
use super::verdict::{FailoverAnswer, Verdict};
use super::words::{bytes, capital, seconds};
use super::{ClusterOverview, Note, Raft, notes};
use crate::limits::FAILED_OVER_TIME;

/// The reason of a verdict that rests on the vote which this witness lacks.
const NO_VOTE: &str = "no-vote";

/// Judges a cluster and everything in it: fills `candidacy` of every member,
/// `failover` of every scope and of the cluster, and adds notes of what does not
/// fit together.
pub fn judge(cluster: &mut ClusterOverview) {
    let raft = &cluster.raft;
    cluster.notes.extend(notes::of_store(raft));
    for scope in &mut cluster.postgresql {
        candidacy::consider(raft, scope);
        scope.failover = verdict(raft, scope);
        cluster.notes.extend(notes::observe(raft, scope));
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
    let silent = without_vote(raft, &cluster.failover);
    cluster.notes.extend(silent);
    cluster
        .notes
        .sort_by_key(|note| std::cmp::Reverse(note.level));
}

/// The store holds nothing of Patroni's.
fn without_patroni(raft: &Raft) -> Verdict {
    blind(raft).unwrap_or_else(|| {
        Verdict::new(
            FailoverAnswer::No,
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
            FailoverAnswer::Unknown,
            "isolated",
            "Unknown. This witness reaches none of the others; what it shows is as it last \
             heard it.",
        ));
    }
    // A group that wants no vote of ours is judged like any other.
    let voiceless_here = !raft.votes && !raft.has_withdrawn();
    // Without a vote it may well follow nobody, and others be led.
    if voiceless_here && (raft.store_outdated || raft.leader.is_none()) {
        return Some(voiceless(raft));
    }
    let votes = raft.connected_others() + usize::from(raft.votes);
    if votes < raft.needed {
        return Some(match voiceless_here {
            false => Verdict::new(
                FailoverAnswer::No,
                "no-quorum",
                format!(
                    "No. Only {} of {total} Raft members are there, and {} are needed.",
                    raft.reachable, raft.needed
                ),
            ),
            true => voiceless(raft),
        });
    }
    if raft.leader.is_none() {
        return Some(Verdict::new(
            FailoverAnswer::UnderWay,
            "no-raft-leader",
            "Not now. The Raft group has no leader; an election is under way.",
        ));
    }
    None
}

fn voiceless(raft: &Raft) -> Verdict {
    let why = raft.why.as_deref().unwrap_or("it waits");
    let sentence = format!("No. This witness has no vote: {why}.");
    Verdict {
        remedy: raft.remedy.clone(),
        ..Verdict::new(FailoverAnswer::No, NO_VOTE, sentence)
    }
}

/// The note that this witness does not vote, where the verdict does not say so.
fn without_vote(raft: &Raft, verdict: &Verdict) -> Option<Note> {
    let reason = raft.reason.filter(|_| verdict.reason != NO_VOTE)?;
    let why = raft.why.as_deref().unwrap_or(reason);
    let note = Note::new(
        raft.reason_level,
        format!("This witness has no vote: {why}."),
    );
    Some(Note {
        remedy: raft.remedy.clone(),
        ..note
    })
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
            FailoverAnswer::No,
            "paused",
            "No. Patroni is paused and does nothing by itself.",
        );
    }
    let Some(primary) = &scope.primary else {
        return match ready.is_empty() {
            false => Verdict::new(
                FailoverAnswer::UnderWay,
                "no-primary",
                format!("Not now. There is no primary; {names} can take over."),
            ),
            true => Verdict::new(
                FailoverAnswer::No,
                "no-primary",
                format!("No. There is no primary, and {}.", nobody(scope)),
            ),
        };
    };
    let late = scope
        .leader_key
        .as_ref()
        .filter(|key| is_late(scope, Duration::from_millis(key.age_ms)));
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
            FailoverAnswer::No
        } else {
            FailoverAnswer::UnderWay
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
    if let Some(verdict) = failed_over(scope, primary).filter(|_| ready.is_empty()) {
        return verdict;
    }
    if ready.is_empty() {
        let nobody = nobody(scope);
        return Verdict::new(
            FailoverAnswer::No,
            "no-candidate",
            format!("No. {}.", capital(&nobody)),
        );
    }
    if let Some(verdict) = too_few_votes(raft, scope, primary) {
        return verdict;
    }
    Verdict::new(
        FailoverAnswer::Yes,
        "ready",
        format!(
            "Yes. If {primary} fails now, {} takes over.",
            described(&ready)
        ),
    )
}

/// A failover or switchover is over, and the former primary is not back yet as a
/// replica: that takes a while and is no fault.
fn failed_over(scope: &Scope, primary: &str) -> Option<Verdict> {
    let since = scope.primary_since_ms?;
    let former = scope.previous_primary.as_deref()?;
    if Duration::from_millis(since) > FAILED_OVER_TIME {
        return None;
    }
    let before = scope.members.iter().find(|member| member.name == former);
    let why = before.and_then(|member| member.candidacy.why.as_deref());
    Some(Verdict::new(
        FailoverAnswer::UnderWay,
        "failed-over",
        format!(
            "Not now. {primary} took over from {former} {} ago; {former} {}.",
            seconds(since),
            why.unwrap_or("is not back yet")
        ),
    ))
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
    if left + 1 >= raft.needed && !raft.votes && !raft.has_withdrawn() {
        return Some(voiceless(raft));
    }
    let gone: Vec<&str> = raft
        .members
        .iter()
        .filter(|member| !member.connected && !member.this)
        .map(|member| member.address.as_str())
        .collect();
    Some(Verdict::new(
        FailoverAnswer::No,
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

#[cfg(test)]
mod tests;
