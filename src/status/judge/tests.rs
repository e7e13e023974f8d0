//! The truth table of the sentence: a healthy cluster, changed in one way a row,
//! in two where a pair matters.

use std::time::Duration;

use super::*;
use crate::config::Commands;
use crate::reason::{Level, Reason, RemedyContext};
use crate::status::patroni::{StoreRow, scopes};
use crate::status::probe::ProbeOverview;
use crate::status::{CountersOverview, DiskOverview, RaftMember};

/// A store as two data nodes write it, and what the probes got.
struct Case {
    keys: Vec<(String, String, u64, Option<u64>)>,
    raft: Raft,
    probes: Vec<(&'static str, ProbeOverview)>,
}

const CONFIG: &str = r#"{"ttl": 30, "loop_wait": 10, "retry_timeout": 10,
    "maximum_lag_on_failover": 1048576, "synchronous_mode": true}"#;

fn replica(more: &str) -> String {
    format!(
        r#"{{"conn_url": "postgres://10.0.0.2:5432/postgres", "api_url": "http://10.0.0.2:8008/patroni",
            "state": "running", "role": "replica", "version": "4.1.5", "xlog_location": 67108960,
            "replication_state": "streaming", "timeline": 3{more}}}"#
    )
}

fn member(address: &str, this: bool) -> RaftMember {
    RaftMember {
        address: address.into(),
        this,
        connected: true,
        ..RaftMember::default()
    }
}

impl Case {
    fn healthy() -> Self {
        let key = |name: &str, value: &str, age_s, left_s| {
            let name = format!("/service/orders/{name}");
            (name, value.to_owned(), age_s, left_s)
        };
        let primary = r#"{"conn_url": "postgres://10.0.0.1:5432/postgres", "api_url": "http://10.0.0.1:8008/patroni",
            "state": "running", "role": "primary", "version": "4.1.5", "xlog_location": 67108960, "timeline": 3}"#;
        let mut case = Self {
            keys: vec![
                key("config", CONFIG, 900, None),
                key("leader", "a", 2, Some(28)),
                key("members/a", primary, 2, Some(28)),
                key("members/b", &replica(""), 3, Some(27)),
                key("status", r#"{"optime": 67108960, "slots": {}}"#, 2, None),
                key(
                    "sync",
                    r#"{"leader": "a", "sync_standby": "b", "quorum": 0}"#,
                    900,
                    None,
                ),
                key(
                    "history",
                    r#"[[1, 5, "x", "2026"], [2, 6, "y", "2026"]]"#,
                    900,
                    None,
                ),
                key("initialize", "7300000000000000001", 900, None),
            ],
            raft: Raft {
                self_addr: "10.0.0.9:5010".into(),
                state: "follower",
                votes: true,
                leader: Some("10.0.0.1:5010".into()),
                members: vec![
                    member("10.0.0.1:5010", false),
                    member("10.0.0.2:5010", false),
                    member("10.0.0.9:5010", true),
                ],
                counters: CountersOverview::default(),
                disk: DiskOverview::default(),
                ..Raft::default()
            },
            probes: Vec::new(),
        };
        case.probe("a", "healthy", "accepting");
        case.probe("b", "healthy", "accepting");
        case
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        let name = format!("/service/orders/{name}");
        self.keys.push((name, value.into(), 2, Some(28)));
    }

    fn remove(&mut self, name: &str) {
        let name = format!("/service/orders/{name}");
        self.keys.retain(|(key, ..)| *key != name);
    }

    fn age(&mut self, name: &str, age_s: u64, left_s: u64) {
        let name = format!("/service/orders/{name}");
        for key in self.keys.iter_mut().filter(|(key, ..)| *key == name) {
            (key.2, key.3) = (age_s, Some(left_s));
        }
    }

    fn config(&mut self, more: &str) {
        self.set("config", CONFIG.replace("\"synchronous_mode\": true", more));
    }

    fn probe(&mut self, name: &'static str, health: &'static str, answer: &'static str) {
        self.probes.retain(|(member, _)| *member != name);
        let probe = ProbeOverview {
            health,
            answer: Some(answer),
            target: format!("{name}:5432"),
            ..ProbeOverview::default()
        };
        self.probes.push((name, probe));
    }

    fn in_recovery(&mut self, name: &'static str, yes: bool) {
        for (_, probe) in self.probes.iter_mut().filter(|(member, _)| *member == name) {
            probe.in_recovery = Some(yes);
        }
    }

    fn unlink(&mut self, address: &str) {
        for member in self
            .raft
            .members
            .iter_mut()
            .filter(|m| m.address == address)
        {
            member.connected = false;
        }
    }

    fn judged(mut self) -> ClusterOverview {
        self.raft.count();
        let rows = self.keys.iter().map(|(key, value, age, left)| StoreRow {
            key,
            value,
            age: Duration::from_secs(*age),
            remaining: left.map(Duration::from_secs),
            clock_ahead_ms: None,
        });
        let mut postgresql = scopes(rows);
        for member in postgresql.iter_mut().flat_map(|scope| &mut scope.members) {
            let probe = self.probes.iter().find(|(name, _)| *name == member.name);
            member.probe = probe.map(|(_, probe)| probe.clone());
        }
        let mut cluster = ClusterOverview {
            cluster: "orders".into(),
            failover: Verdict::default(),
            raft: self.raft,
            postgresql,
            notes: Vec::new(),
        };
        judge(&mut cluster);
        cluster
    }
}

type Row3 = (&'static str, fn(&mut Case), &'static str);

/// What is changed, how, and what is said.
const TABLE: &[Row3] = &[
    (
        "nothing",
        |_| (),
        "Yes. If a fails now, b (in sync) takes over.",
    ),
    (
        "no synchronous mode",
        |c| c.config("\"x\": 1"),
        "Yes. If a fails now, b takes over.",
    ),
    (
        "a config that cannot be read",
        |c| c.set("config", "[[["),
        "Yes. If a fails now, b takes over.",
    ),
    // Votes.
    (
        "no vote, and nobody led as far as it knows",
        |c| {
            c.raft.votes = false;
            c.raft.leader = None;
            c.raft.why = Some("it has diverged".into());
        },
        "No. This witness has no vote: it has diverged.",
    ),
    (
        "a store that is not kept up to date",
        |c| {
            c.raft.votes = false;
            c.raft.store_outdated = true;
            c.raft.why = Some("it has diverged".into());
            c.age("leader", 300, 0);
        },
        "No. This witness has no vote: it has diverged.",
    ),
    (
        "this witness has no vote",
        |c| {
            c.raft.votes = false;
            c.raft.why = Some("its state was lost and no entry was committed since".into());
        },
        "No. This witness has no vote: its state was lost and no entry was committed since.",
    ),
    (
        "the replica's Raft node is gone",
        |c| c.unlink("10.0.0.2:5010"),
        "No. Without a only 1 of 3 Raft votes would be left, and 2 are needed; not there: \
         10.0.0.2:5010.",
    ),
    (
        "the primary's Raft node is gone, its key is fresh",
        |c| c.unlink("10.0.0.1:5010"),
        "Yes. If a fails now, b (in sync) takes over.",
    ),
    (
        "Raft addresses that do not tell whose they are",
        |c| {
            for (member, name) in c.raft.members.iter_mut().zip(["db1:1", "db2:1", "w:1"]) {
                member.address = name.into();
            }
        },
        "Yes. If a fails now, b (in sync) takes over.",
    ),
    (
        "such addresses, one of them gone",
        |c| {
            c.unlink("10.0.0.2:5010");
            for (member, name) in c.raft.members.iter_mut().zip(["db1:1", "db2:1", "w:1"]) {
                member.address = name.into();
            }
        },
        "No. Without a only 1 of 3 Raft votes would be left, and 2 are needed; not there: db2:1.",
    ),
    (
        "the witness is cut off",
        |c| {
            c.unlink("10.0.0.1:5010");
            c.unlink("10.0.0.2:5010");
            c.raft.leader = None;
        },
        "Unknown. This witness reaches none of the others; what it shows is as it last heard it.",
    ),
    (
        "an election",
        |c| c.raft.leader = None,
        "Not now. The Raft group has no leader; an election is under way.",
    ),
    (
        "two of five are there",
        |c| {
            for address in ["10.0.0.3:5010", "10.0.0.4:5010"] {
                c.raft.members.push(member(address, false));
                c.unlink(address);
            }
            c.unlink("10.0.0.2:5010");
        },
        "No. Only 2 of 5 Raft members are there, and 3 are needed.",
    ),
    (
        "four of five are there",
        |c| {
            c.raft.members.push(member("10.0.0.3:5010", false));
            c.raft.members.push(member("10.0.0.4:5010", false));
            c.unlink("10.0.0.2:5010");
        },
        "Yes. If a fails now, b (in sync) takes over.",
    ),
    // Patroni.
    (
        "paused",
        |c| c.config("\"pause\": true"),
        "No. Patroni is paused and does nothing by itself.",
    ),
    (
        "no Patroni",
        |c| c.keys.clear(),
        "No. No Patroni cluster has written to this Raft group yet.",
    ),
    (
        "no replica",
        |c| c.remove("members/b"),
        "No. There is no replica.",
    ),
    (
        "a replica that is silent",
        |c| c.age("members/b", 20, 10),
        "No. The only replica, b, was last heard of 20 s ago.",
    ),
    (
        "the replica was silent while nobody led the Raft group",
        |c| {
            c.age("members/b", 20, 10);
            c.raft.leader_since_ms = Some(15_000);
        },
        "Yes. If a fails now, b (in sync) takes over.",
    ),
    (
        "the replica is silent since",
        |c| {
            c.age("members/b", 20, 10);
            c.raft.leader_since_ms = Some(17_000);
        },
        "No. The only replica, b, was last heard of 20 s ago.",
    ),
    (
        "the primary's machine led the Raft group and is gone",
        |c| {
            c.age("leader", 21, 9);
            c.age("members/b", 20, 10);
            c.raft.leader_since_ms = Some(15_000);
        },
        "Not now. a has not refreshed its leader key for 21 s; it runs out in 9 s, then b can \
         take over.",
    ),
    (
        "a replica that is stopped",
        |c| {
            c.set(
                "members/b",
                replica("").replace("\"running\"", "\"stopped\""),
            )
        },
        "No. The only replica, b, is stopped.",
    ),
    (
        "a replica without a word",
        |c| c.set("members/b", "{}"),
        "No. The only replica, b, wrote what cannot be read.",
    ),
    (
        "a replica that is a riddle",
        |c| c.set("members/b", "\u{0}{{{{"),
        "No. The only replica, b, wrote what cannot be read.",
    ),
    (
        "nofailover",
        |c| c.set("members/b", replica(r#", "tags": {"nofailover": true}"#)),
        "No. The only replica, b, is tagged never to be promoted.",
    ),
    (
        "nofailover, said as a text",
        |c| c.set("members/b", replica(r#", "tags": {"nofailover": "yes"}"#)),
        "No. The only replica, b, is tagged never to be promoted.",
    ),
    (
        "failover_priority 0",
        |c| {
            c.set(
                "members/b",
                replica(r#", "tags": {"failover_priority": 0}"#),
            )
        },
        "No. The only replica, b, is tagged never to be promoted.",
    ),
    (
        "failover_priority over nofailover",
        |c| {
            c.set(
                "members/b",
                replica(r#", "tags": {"nofailover": false, "failover_priority": 0}"#),
            )
        },
        "Yes. If a fails now, b (in sync) takes over.",
    ),
    (
        "not in sync",
        |c| c.set("sync", r#"{"leader": "a", "sync_standby": null}"#),
        "No. The only replica, b, is not in sync.",
    ),
    (
        "in sync, in other letters",
        |c| c.set("sync", r#"{"leader": "a", "sync_standby": "x, B"}"#),
        "Yes. If a fails now, b (in sync) takes over.",
    ),
    (
        "synchronous mode not in force yet",
        |c| c.set("sync", r#"{"leader": null, "sync_standby": null}"#),
        "Yes. If a fails now, b takes over.",
    ),
    (
        "quorum mode, enough of them",
        |c| c.config("\"synchronous_mode\": \"quorum\""),
        "Yes. If a fails now, b (in sync) takes over.",
    ),
    (
        "quorum mode, too few of them",
        |c| {
            c.config("\"synchronous_mode\": \"quorum\"");
            c.set(
                "sync",
                r#"{"leader": "a", "sync_standby": "b,c", "quorum": 1}"#,
            );
        },
        "No. The only replica, b, cannot be shown to have every commit.",
    ),
    (
        "lag beyond the limit",
        |c| {
            c.config("\"x\": 1");
            c.set("status", r#"{"optime": 87108960}"#);
        },
        "No. The only replica, b, is 20 MB behind, and 1048 kB are allowed.",
    ),
    (
        "lag within it",
        |c| {
            c.config("\"x\": 1");
            c.set("status", r#"{"optime": 67608960}"#);
        },
        "Yes. If a fails now, b (500 kB behind) takes over.",
    ),
    (
        "an older timeline",
        |c| {
            c.set(
                "members/b",
                replica("").replace("\"timeline\": 3", "\"timeline\": 2"),
            )
        },
        "No. The only replica, b, is on timeline 2, the primary on 3.",
    ),
    (
        "no timeline, and Patroni asks for one",
        |c| {
            c.config("\"check_timeline\": true");
            c.set(
                "members/b",
                replica("").replace("\"timeline\": 3", "\"x\": 2"),
            );
        },
        "No. The only replica, b, shows no timeline.",
    ),
    (
        "no position in the log",
        |c| c.set("members/b", replica("").replace("xlog_location", "x")),
        "No. The only replica, b, shows no position in the log.",
    ),
    (
        "failsafe_mode does not know it",
        |c| {
            c.config("\"failsafe_mode\": true");
            c.set("failsafe", r#"{"a": "http://10.0.0.1:8008/patroni"}"#);
        },
        "No. The only replica, b, is not yet known to failsafe_mode.",
    ),
    (
        "failsafe_mode knows it",
        |c| {
            c.config("\"failsafe_mode\": true");
            c.set(
                "failsafe",
                r#"{"a": "http://1/patroni", "b": "http://2/patroni"}"#,
            );
        },
        "Yes. If a fails now, b takes over.",
    ),
    (
        "one of two replicas",
        |c| c.set("members/c", replica("").replace("running", "start failed")),
        "Yes. If a fails now, b (in sync) takes over.",
    ),
    (
        "neither of two replicas",
        |c| {
            c.set("members/b", replica(r#", "tags": {"nofailover": true}"#));
            c.set("members/c", replica(""));
        },
        "No. No replica could take over: b is tagged never to be promoted; c is not in sync.",
    ),
    // A failover as it goes.
    (
        "the primary is silent",
        |c| c.age("leader", 20, 10),
        "Not now. a has not refreshed its leader key for 20 s; it runs out in 10 s, then b can \
         take over.",
    ),
    (
        "the primary is silent, and nobody can",
        |c| {
            c.age("leader", 20, 10);
            c.remove("members/b");
        },
        "No. a has not refreshed its leader key for 20 s; it runs out in 10 s, but there is no \
         replica.",
    ),
    (
        "the leader key is free",
        |c| c.remove("leader"),
        "Not now. There is no primary; a or b can take over.",
    ),
    (
        "the leader key is free, and nobody can",
        |c| {
            c.remove("leader");
            c.remove("members/a");
            c.remove("members/b");
        },
        "No. There is no primary, and there is no replica.",
    ),
    // The probe.
    (
        "the replica refuses connections",
        |c| c.probe("b", "unhealthy", "refused"),
        "No. The only replica, b, does not accept connections (refused).",
    ),
    (
        "the replica was refused once",
        |c| c.probe("b", "suspect", "refused"),
        "Yes. If a fails now, b (in sync) takes over.",
    ),
    (
        "the replica is silent to us, the primary is not",
        |c| c.probe("b", "unhealthy", "silent"),
        "No. The only replica, b, does not accept connections (silent).",
    ),
    (
        "no server answers us, both Patronis are well",
        |c| {
            c.probe("a", "unhealthy", "silent");
            c.probe("b", "unhealthy", "unreachable");
        },
        "Yes. If a fails now, b (in sync) takes over.",
    ),
    (
        "no probe yet",
        |c| c.probes.clear(),
        "Yes. If a fails now, b (in sync) takes over.",
    ),
];

#[test]
fn says_whether_a_failover_would_work() {
    for (what, change, expected) in TABLE {
        let mut case = Case::healthy();
        change(&mut case);
        let cluster = case.judged();
        assert_eq!(cluster.failover.sentence, *expected, "with {what}");
        let first = cluster.failover.sentence.split(['.', ' ']).next();
        let answer = match cluster.failover.answer {
            FailoverAnswer::Yes => "Yes",
            FailoverAnswer::No => "No",
            FailoverAnswer::UnderWay => "Not",
            FailoverAnswer::Unknown => "Unknown",
        };
        assert_eq!(first, Some(answer), "with {what}");
        assert!(!cluster.failover.reason.is_empty());
    }
}

/// What is changed, how, and which note follows.
const NOTES: &[Row3] = &[
    (
        "the primary refuses connections",
        |c| c.probe("a", "unhealthy", "refused"),
        "a holds the leader key, but its PostgreSQL at a:5432 does not accept connections \
         (refused).",
    ),
    (
        "two primaries, where we may ask",
        |c| c.in_recovery("b", false),
        "b does not hold the leader key, but its PostgreSQL says that it is a primary.",
    ),
    (
        "the primary is in recovery",
        |c| c.in_recovery("a", true),
        "a holds the leader key, but its PostgreSQL is in recovery.",
    ),
    (
        "two that say so",
        |c| {
            c.set(
                "members/b",
                replica("").replace("\"replica\"", "\"primary\""),
            )
        },
        "b says that it is primary; its keys say sync_standby.",
    ),
    (
        "a key without a member",
        |c| c.remove("members/a"),
        "a holds the leader key, but has no key of its own.",
    ),
    (
        "the sync key is another's",
        |c| c.set("sync", r#"{"leader": "b", "sync_standby": "a"}"#),
        "The sync key is not a's, who holds the leader key.",
    ),
    (
        "a closed port",
        |c| {
            c.probe("a", "unhealthy", "silent");
            c.probe("b", "unhealthy", "silent");
        },
        "No PostgreSQL answers the probe, but their Patronis are well: is their port closed to \
         this machine?",
    ),
    (
        "a switchover",
        |c| {
            c.set(
                "failover",
                r#"{"leader": "a", "member": "b", "scheduled_at": "2026-11-24T04:00"}"#,
            )
        },
        "A switchover was asked for: from a to b, 2026-11-24T04:00.",
    ),
    (
        "a store that somebody else fills",
        |c| c.raft.counters.key_bytes = (4 << 20) + 1,
        "The key-value store takes 4194 kB, far more than Patroni writes. Beyond 5242 kB this \
         witness lets it grow no more and votes for nobody.",
    ),
];

#[test]
fn notes_what_does_not_fit_together() {
    let quiet = Case::healthy().judged();
    assert_eq!(quiet.notes, []);
    for (what, change, expected) in NOTES {
        let mut case = Case::healthy();
        change(&mut case);
        let cluster = case.judged();
        let texts: Vec<&str> = cluster
            .notes
            .iter()
            .map(|note| note.text.as_str())
            .collect();
        assert!(texts.contains(expected), "with {what}: {texts:?}");
    }
}

/// What was true when the witness stopped following says nothing of now.
#[test]
fn an_old_store_gives_no_note_but_that_it_is_old() {
    let mut case = Case::healthy();
    case.probe("a", "unhealthy", "refused");
    case.set("sync", r#"{"leader": "b", "sync_standby": "a"}"#);
    case.raft.votes = false;
    case.raft.store_outdated = true;
    let cluster = case.judged();
    let texts: Vec<&str> = cluster.notes.iter().map(|note| &*note.text).collect();
    let expected = "What is shown of orders is as it was when this witness stopped following the \
                    leader.";
    assert_eq!(texts, [expected]);
    assert!(
        cluster.postgresql[0]
            .members
            .iter()
            .all(|m| !m.candidacy.ready)
    );
}

#[test]
fn a_majority_and_one_more_loss_are_counted_apart() {
    // (others connected, others in all, whether we vote) -> (quorum, survives)
    for (connected, others, votes, quorum, survives) in [
        (2, 2, true, true, true),
        (1, 2, true, true, false),
        (0, 2, true, false, false),
        (2, 2, false, true, false),
        (1, 2, false, false, false),
        (1, 1, true, true, false),
        (0, 0, true, true, false),
        (4, 4, true, true, true),
        (3, 4, true, true, true),
        (2, 4, true, true, false),
        (3, 3, true, true, true),
    ] {
        let mut raft = Raft {
            votes,
            leader: Some("x".into()),
            members: vec![member("me", true)],
            ..Raft::default()
        };
        for number in 0..others {
            let mut other = member("other", false);
            other.connected = number < connected;
            raft.members.push(other);
        }
        raft.count();
        assert_eq!(
            (raft.quorum, raft.survives_one_more_loss),
            (quorum, survives),
            "{connected} of {others}, {votes}"
        );
        raft.leader = None;
        raft.count();
        assert!(!raft.quorum && !raft.survives_one_more_loss);
    }
}

#[test]
fn of_several_scopes_the_worst_is_told_and_named() {
    let mut case = Case::healthy();
    let other = "{\"state\": \"running\", \"role\": \"primary\"}";
    for (key, value) in [("leader", "x"), ("members/x", other)] {
        case.keys
            .push((format!("/service/billing/{key}"), value.into(), 1, Some(20)));
    }
    let cluster = case.judged();
    assert_eq!(cluster.postgresql.len(), 2);
    assert_eq!(
        cluster.failover.sentence,
        "billing: No. There is no replica."
    );
    assert_eq!(cluster.postgresql[1].failover.answer, FailoverAnswer::Yes);
}

#[test]
fn nothing_that_is_stored_stops_it_or_gets_through_raw() {
    let mut case = Case::healthy();
    let evil = "\u{1b}[2J<script>\u{202e}\n\"";
    case.set("leader", evil);
    case.set(&format!("members/{evil}"), replica(""));
    case.set(
        "sync",
        format!("{{\"leader\": \"{}\"}}", "x".repeat(100_000)),
    );
    case.set("status", "{\"optime\": 99999999999999999999999999}");
    case.set("history", "[".repeat(70_000));
    case.keys.push(("/".into(), "x".into(), 0, None));
    case.keys.push(("".into(), "".into(), 0, None));
    case.keys.push(("leader".into(), "x".into(), 0, None));
    case.keys.push(("/members/".into(), "x".into(), 0, None));
    for number in 0..1_000 {
        let name = format!("/service/{number}/leader");
        case.keys
            .push((name, "x".into(), u64::MAX / 2, Some(u64::MAX / 2)));
        case.set(&format!("members/{number}"), replica(""));
    }
    let cluster = case.judged();
    assert_eq!(cluster.postgresql.len(), crate::limits::STATUS_SCOPES_MAX);
    for scope in &cluster.postgresql {
        assert!(scope.members.len() <= crate::limits::STATUS_MEMBERS_MAX);
    }
    let told = format!("{cluster:?}");
    assert!(!told.contains('\u{1b}') && !told.contains('\u{202e}'));
}

/// The cluster of the page's nightmares: hostile names everywhere.
fn nightmare() -> crate::status::Overview {
    let mut case = Case::healthy();
    let evil = "\u{1b}[2J<script>alert(1)<b>\u{202e}\"\\\n{}";
    case.set("leader", evil);
    case.set(&format!("members/{evil}"), replica(""));
    case.set(
        &format!("members/{}", "n".repeat(5_000)),
        replica("").replace("running", evil),
    );
    case.raft.why = Some("a reason ".repeat(40));
    case.raft.votes = false;
    let mut cluster = case.judged();
    cluster.cluster = "orders".into();
    crate::status::Overview {
        watcher: crate::status::Watcher::default(),
        clusters: vec![cluster, Case::healthy().judged()],
    }
}

#[test]
fn no_line_is_wider_than_a_terminal() {
    use crate::status::table::{Style, WIDTH, health, members, status, topology};
    let overview = nightmare();
    let plain = Style::default();
    for text in [
        status(&overview, plain).collect::<String>(),
        topology(&overview, plain).collect(),
        members(&overview, plain).collect(),
        health(&overview, plain).collect(),
    ] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
        for line in text.lines() {
            // A word of somebody else's that is longer than a line stays whole.
            let long = line.split(' ').any(|word| word.chars().count() > WIDTH - 4);
            assert!(long || line.chars().count() <= WIDTH, "{line}");
        }
    }
    let coloured: String = status(&overview, Style { colour: true }).collect();
    assert!(coloured.contains("\u{1b}[1;31m"));
}

#[test]
fn every_json_can_be_read_and_has_the_promised_keys() {
    use crate::status::json;
    let overview = nightmare();
    let read = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
    let keys = |value: &serde_json::Value| {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    let [mut status, mut topology, mut health, mut members] = [const { Vec::new() }; 4];
    async fn push(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), ()> {
        out.extend_from_slice(bytes);
        Ok(())
    }
    smol::block_on(async {
        let worst = overview.clusters[0].failover.clone();
        let mut part = async |bytes: &[u8]| push(&mut status, bytes).await;
        json::status(&overview, &worst, &mut part).await.unwrap();
        let mut part = async |bytes: &[u8]| push(&mut topology, bytes).await;
        json::topology(&overview, &mut part).await.unwrap();
        let mut part = async |bytes: &[u8]| push(&mut health, bytes).await;
        json::health(&overview, &mut part).await.unwrap();
        let mut part = async |bytes: &[u8]| push(&mut members, bytes).await;
        json::members(&overview, &mut part).await.unwrap();
    });
    let status = read(status);
    assert_eq!(keys(&status), "status success");
    assert_eq!(keys(&status["status"]), "clusters failover watcher");
    let topology = read(topology);
    assert_eq!(
        keys(&topology["topology"]),
        "postgresql-endpoints raft-status watcher"
    );
    assert_eq!(
        keys(&read(health)),
        "endpoints healthy-count success total-count"
    );
    assert_eq!(
        keys(&read(members)),
        "postgresql-members raft-members success"
    );
}

/// A witness without a vote, of a cluster that needs it, or does not.
fn without_vote(spare: usize) -> crate::status::Overview {
    let mut case = Case::healthy();
    let place = RemedyContext {
        commands: &Commands::of_a_test("orders", "10.0.0.9:5010"),
        member: None,
    };
    let reason = Reason::Diverged;
    case.raft.votes = false;
    case.raft.why = Some(format!("it {}", reason.words()));
    case.raft.reason = Some(reason.name());
    case.raft.reason_level = reason.level();
    case.raft.remedy = Some(reason.remedy(&place));
    for number in 0..spare {
        let address = format!("10.0.1.{number}:5010");
        case.raft.members.push(member(&address, false));
    }
    let mut cluster = case.judged();
    cluster.cluster = "orders".into();
    crate::status::Overview {
        watcher: crate::status::Watcher::default(),
        clusters: vec![cluster],
    }
}

#[test]
fn the_reason_and_the_remedy_of_a_vote_that_is_withheld_are_on_every_face() {
    use crate::status::table::{Style, status};
    // (members that are spared, where the remedy stands)
    for (spare, in_verdict) in [(0, true), (2, false)] {
        let overview = without_vote(spare);
        let command = "\n      pg-witness reset orders\n";
        let text: String = status(&overview, Style::default()).collect();
        assert_eq!(text.matches(command).count(), 1, "{text}");
        assert!(text.contains("(diverged)"), "{text}");
        let json = crate::status::json::encode(&overview.clusters[0]).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let remedy = "If the data nodes hold the data that counts, stop this witness and run: \
                      pg-witness reset orders";
        assert_eq!(json["raft"]["reason"], "diverged");
        assert_eq!(json["raft"]["remedy"], remedy);
        let verdict = &json["failover"]["remedy"];
        let notes = json["notes"].as_array().unwrap();
        let note = notes.iter().find(|note| note["remedy"] == remedy);
        assert_eq!(
            (verdict == remedy, note.is_some()),
            (in_verdict, !in_verdict)
        );
        assert!(note.is_none_or(|note| note["level"] == "alarm"));
        let metrics: String = crate::status::metrics::text(&overview).collect();
        let sample = "pg_witness_raft_no_vote{cluster=\"orders\",reason=\"diverged\"} 1\n";
        assert!(metrics.contains(sample));
    }
}

#[test]
fn metrics_escape_what_they_did_not_write() {
    let overview = nightmare();
    let text: String = crate::status::metrics::text(&overview).collect();
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("pg_witness_failover_possible{cluster=\"orders\"} 0\n"));
    assert!(text.contains("alert(1)<b>\u{fffd}\\\"\\\\\u{fffd}{}"));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

/// `vote: auto`: a witness that left three data nodes to themselves is no fault of
/// theirs, and they are judged by their own votes.
#[test]
fn a_witness_that_withdrew_is_no_fault() {
    let withdrawn = || {
        let mut case = Case::healthy();
        case.raft.members[2] = member("10.0.0.3:5010", false);
        case.raft.votes = false;
        case.raft.reason = Some(Reason::NotWanted.name());
        case.raft.reason_level = Reason::NotWanted.level();
        case.raft.why = Some(format!("it {}", Reason::NotWanted.words()));
        case.raft.count();
        case
    };
    let well = withdrawn();
    let raft = &well.raft;
    assert!(raft.quorum && raft.survives_one_more_loss && raft.has_withdrawn());
    let well = well.judged();
    assert_eq!(
        well.failover.answer,
        FailoverAnswer::Yes,
        "{}",
        well.failover.sentence
    );
    let notes: Vec<_> = well
        .notes
        .iter()
        .filter(|n| n.text.contains("no vote"))
        .collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(notes[0].level, Level::Advice);
    // What is wrong is said of the data nodes.
    for (gone, reason) in [
        (&["10.0.0.3:5010"][..], "no-majority-left"),
        (&["10.0.0.2:5010", "10.0.0.3:5010"], "no-quorum"),
    ] {
        let mut case = withdrawn();
        for address in gone {
            case.unlink(address);
        }
        case.raft.count();
        assert_eq!(case.judged().failover.reason, reason, "{gone:?}");
    }
    let mut leaderless = withdrawn();
    leaderless.raft.leader = None;
    leaderless.raft.count();
    assert_eq!(leaderless.judged().failover.reason, "no-raft-leader");
}
