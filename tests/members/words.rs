//! What a member says of itself and of its cluster, in its log and to whoever
//! asks: the reason why it does not vote, and nothing twice.

use std::sync::Arc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::ids::Entry;
use pg_witness::member::offline::{self, Adopted};
use pg_witness::reason::Reason;
use pg_witness::secret::Secret;
use pg_witness::status::{ClusterOverview, FailoverAnswer, Overview, Watcher, metrics};
use pg_witness::wire::utility::{MemberTarget, NodeState, StatusReply, UtilityRequest};
use pg_witness::wire::{Key, Value};

use crate::fake::{Fake, id, noop, set, set_to};
use crate::rig::{Rig, Running, addresses, run, until};

/// Patroni's leader key, held by `name`.
fn leader_key(name: &str) -> Arc<[u8]> {
    set_to("/service/main/leader", Value::str(name), 30.0)
}

fn condition(witness: &Running) -> ClusterOverview {
    witness.member.condition(&[], Duration::from_secs(60))
}

/// A witness without partners, which leads.
async fn alone(rig: &Rig, w: &Address) -> Running {
    let witness = rig.start(rig.voter(w, &[])).await;
    let leads = |status: &StatusReply| status.state == NodeState::Leader;
    witness.shows("that it leads", leads).await;
    witness
}

/// Has the witness store and commit what follows the first entry.
async fn commits(leader: &Fake, term: u64, entries: &[Entry]) {
    let last = 1 + u64::try_from(entries.len()).unwrap();
    until("success", async || {
        leader.append(term, id(1, 0), entries, last);
        leader.answer().await.success
    })
    .await;
}

#[test]
fn one_that_has_diverged_says_so_and_no_election() {
    // S2
    run(async {
        let rig = Rig::new();
        let [w, a, b]: [Address; 3] = addresses();
        let all = [&w, &a, &b];
        let (first, second) = (Fake::listen(&a, &all).await, Fake::listen(&b, &all).await);
        let witness = rig.start(rig.voter(&w, &[&a, &b])).await;
        first.dial(&w).await;
        second.dial(&w).await;
        let key = Entry {
            id: id(3, 5),
            command: leader_key("pg1"),
        };
        commits(&first, 5, &[noop(2, 5), key]).await;
        witness.shows("the commit", |s| s.commit_idx == 3).await;
        second.append(6, id(1, 0), &[noop(2, 6), noop(3, 6), noop(4, 6)], 4);
        until("the reason", async || {
            witness.member.reason() == Some(Reason::Diverged)
        })
        .await;
        second.append(6, id(4, 6), &[], 4);
        until("its leader", async || {
            condition(&witness).raft.leader.is_some()
        })
        .await;
        let cluster = condition(&witness);
        let raft = &cluster.raft;
        assert_eq!(raft.leader.as_deref(), Some(b.as_str()));
        assert_eq!((raft.state, raft.votes), ("diverged", false));
        assert_eq!(raft.reason, Some("diverged"));
        let verdict = &cluster.failover;
        assert_eq!(
            (verdict.answer, verdict.reason),
            (FailoverAnswer::No, "no-vote")
        );
        assert!(verdict.sentence.contains("it has diverged"), "{verdict:?}");
        let remedy = verdict.remedy.as_ref().unwrap().to_string();
        assert!(remedy.contains(" reset "), "{remedy}");
        let unready = witness.member.unready().unwrap();
        assert!(unready.contains("no vote (diverged)") && unready.contains(&remedy));
        let clocks = cluster.postgresql.iter().flat_map(|scope| &scope.members);
        assert!(clocks.clone().all(|member| member.clock_ahead_ms.is_none()));
        assert!(witness.logged("DIVERGED")[0].contains(&remedy));
        witness.stop().await;
    });
}

#[test]
fn what_is_replayed_at_the_start_is_no_news() {
    // S8: nor does it tell when it was written.
    run(async {
        let rig = Rig::new();
        let [w]: [Address; 1] = addresses();
        let witness = alone(&rig, &w).await;
        let client = Fake::client(&w).await;
        let member = Value::str("{\"conn_url\":\"postgres://10.0.0.1:5432/postgres\"}");
        client
            .write(set_to("/service/main/members/pg1", member, 600.0))
            .await;
        client.write(set("/service/main/leader", 0.5)).await;
        until("the expiry", async || {
            witness.logged("key expired").len() == 1
        })
        .await;
        let before = condition(&witness);
        assert_eq!(before.raft.counters.keys_expired, 1);
        assert!(before.postgresql[0].members[0].clock_ahead_ms.is_some());
        witness.stop().await;

        let again = rig.start(rig.voter(&w, &[])).await;
        until("all applied", async || {
            condition(&again).raft.applied_index > before.raft.applied_index
        })
        .await;
        let after = condition(&again);
        assert_eq!(again.logged("key expired").len(), 1);
        assert_eq!(after.raft.counters.keys_expired, 0);
        assert_eq!(after.postgresql[0].members[0].clock_ahead_ms, None);
        again.stop().await;
    });
}

#[test]
fn a_failover_names_both_primaries() {
    run(async {
        let rig = Rig::new();
        let [w]: [Address; 1] = addresses();
        let witness = alone(&rig, &w).await;
        let client = Fake::client(&w).await;
        let server = |name: &str, ttl| {
            let json = "{\"conn_url\":\"postgres://10.0.0.1:5432/postgres\",\"state\":\"running\"}";
            set_to(
                &format!("/service/main/members/{name}"),
                Value::str(json),
                ttl,
            )
        };
        client.write(server("pg1", 2.0)).await;
        client.write(server("pg2", 600.0)).await;
        let held = |name, ttl| set_to("/service/main/leader", Value::str(name), ttl);
        client.write(held("pg1", 2.0)).await;
        until("the primary", async || {
            witness.logged("PostgreSQL main: pg1 is the primary").len() == 1
        })
        .await;
        until("its end", async || {
            witness
                .logged("there is no primary: the leader key of pg1 expired")
                .len()
                == 1
        })
        .await;
        client.write(held("pg2", 600.0)).await;
        let line = "pg2 is the primary now, after pg1, whose leader key expired";
        until("the next", async || witness.logged(line).len() == 1).await;
        until("pg1 to be gone", async || {
            condition(&witness).postgresql[0]
                .members
                .iter()
                .any(|m| m.gone)
        })
        .await;
        let cluster = condition(&witness);
        let scope = &cluster.postgresql[0];
        assert_eq!(scope.previous_primary.as_deref(), Some("pg1"));
        assert_eq!(scope.primary_changes, 1);
        let gone: Vec<_> = scope.members.iter().filter(|m| m.gone).collect();
        assert_eq!((gone.len(), &*gone[0].name), (1, "pg1"));
        assert_eq!(gone[0].host.as_deref(), Some("10.0.0.1"));
        // A failover that has just gone well is no red "there is no replica".
        let verdict = &cluster.failover;
        let told = (verdict.answer, verdict.reason);
        assert_eq!(told, (FailoverAnswer::UnderWay, "failed-over"));
        let sentence = "Not now. pg2 took over from pg1 ";
        assert!(verdict.sentence.starts_with(sentence), "{verdict:?}");
        let overview = Overview {
            watcher: Watcher::default(),
            clusters: vec![cluster],
        };
        let metrics: String = metrics::text(&overview).collect();
        let scope = "scope=\"main\"";
        for sample in [
            format!(
                "pg_witness_patroni_primary{{cluster=\"{}\",{scope},server=\"pg2\"}} 1\n",
                w.host()
            ),
            format!(
                "pg_witness_patroni_primary_changes_total{{cluster=\"{}\",{scope}}} 1\n",
                w.host()
            ),
        ] {
            assert!(metrics.contains(&sample), "{sample}");
        }
        witness.stop().await;

        let again = rig.start(rig.voter(&w, &[])).await;
        until("the primary", async || {
            again.logged("PostgreSQL main: pg2 is the primary").len() == 2
        })
        .await;
        assert_eq!(again.logged(line).len(), 1);
        assert_eq!(again.logged("PostgreSQL main: pg1 is the primary").len(), 1);
        again.stop().await;
    });
}

fn concerns(witness: &Running) -> Vec<&'static str> {
    let notes = condition(witness).notes.into_iter();
    notes.filter_map(|note| note.reason).collect()
}

#[test]
fn a_port_that_is_taken_stands_in_the_answer() {
    run(async {
        let rig = Rig::new();
        let [w]: [Address; 1] = addresses();
        let taken = std::net::TcpListener::bind(w.as_str()).unwrap();
        let witness = rig.start(rig.voter(&w, &[])).await;
        until("the note", async || concerns(&witness) == ["port-unusable"]).await;
        let condition = condition(&witness);
        let note = condition.notes.iter().find(|note| note.reason.is_some());
        let note = note.unwrap();
        assert!(note.text.contains(w.as_str()), "{note:?}");
        assert!(note.remedy.is_some());
        drop(taken);
        until("it to listen", async || concerns(&witness).is_empty()).await;
        witness.stop().await;
    });
}

#[test]
fn passwords_that_differ_stand_in_the_answer() {
    run(async {
        let rig = Rig::new();
        let [a, b]: [Address; 2] = addresses();
        let key = |text: &str| Arc::new(Key::derive(&Secret::new(text).unwrap()));
        let one = rig.start_with(rig.voter(&a, &[&b]), vec![key("one")]).await;
        let other = rig
            .start_with(rig.voter(&b, &[&a]), vec![key("other")])
            .await;
        for member in [&one, &other] {
            until("the note", async || {
                concerns(member).contains(&"password-mismatch")
            })
            .await;
        }
        let unready = one.member.unready().unwrap();
        assert!(unready.contains("password mismatch?"), "{unready}");
        other.stop().await;
        let mended = rig.start_with(rig.voter(&b, &[&a]), vec![key("one")]).await;
        // Each takes the other for what it is.
        for member in [&one, &mended] {
            until("no note", async || concerns(member) == ["second-witness"]).await;
        }
        mended.stop().await;
        one.stop().await;
    });
}

#[test]
fn a_change_of_the_members_names_who_asked() {
    run(async {
        let rig = Rig::new();
        let [w, added]: [Address; 2] = addresses();
        let witness = alone(&rig, &w).await;
        let target = MemberTarget::Address(added.clone());
        witness.ask(UtilityRequest::Add(target)).await.unwrap();
        let asked = format!("asks to add {added}, from no member's host");
        assert_eq!(witness.logged(&asked).len(), 1);
        let line = format!("new member {added}; 2 members");
        until("the line", async || witness.logged(&line).len() == 1).await;
        witness.stop().await;
    });
}

#[test]
fn a_voter_is_not_adopted() {
    run(async {
        let rig = Rig::new();
        let [w, a]: [Address; 2] = addresses();
        let voter = rig.voter(&w, &[]);
        let witness = rig.start(voter.clone()).await;
        witness
            .shows("that it leads", |s| s.state == NodeState::Leader)
            .await;
        witness.stop().await;
        let adopted = offline::adopt(&voter, &rig.worker).await.unwrap();
        assert!(matches!(adopted, Adopted::Already(_)), "{adopted:?}");
        let lost = rig.config(&a, &[&w]);
        for expected in [false, true] {
            let adopted = offline::adopt(&lost, &rig.worker).await.unwrap();
            assert_eq!(matches!(adopted, Adopted::Already(_)), expected);
        }
    });
}

#[test]
fn after_a_reset_there_is_one_story() {
    // S7: it is no damage, and nothing was found.
    run(async {
        let rig = Rig::new();
        let [w, a, b]: [Address; 3] = addresses();
        let config = rig.voter(&w, &[&a, &b]);
        let witness = rig.start(config.clone()).await;
        witness.stop().await;
        assert_eq!(witness.logged("state found").len(), 1);
        let kept = offline::reset(&config).unwrap();

        let again = rig.start(config.clone()).await;
        let line = format!(
            "an earlier state was set aside; it is kept in {}",
            kept.display()
        );
        assert_eq!(again.logged(&line).len(), 1);
        assert_eq!(again.logged("no state in").len(), 1);
        assert_eq!(again.logged("cannot be used"), [""; 0]);
        assert_eq!(again.logged("state found").len(), 1);
        let cluster = condition(&again);
        assert_eq!(
            (cluster.raft.votes, cluster.raft.reason),
            (false, Some("recovering"))
        );
        let why = cluster.raft.why.clone().unwrap();
        let unready = again.member.unready().unwrap();
        assert!(
            unready.starts_with("no vote (recovering): it has new or lost state"),
            "{unready}"
        );
        // Of no member that answers the verdict tells another reason first.
        let mut notes = cluster.notes.iter();
        assert!(notes.any(|note| note.text.contains(&why)), "{cluster:?}");
        let overview = Overview {
            watcher: Watcher::default(),
            clusters: vec![cluster],
        };
        let metrics: String = metrics::text(&overview).collect();
        let sample = format!(
            "pg_witness_raft_no_vote{{cluster=\"{}\",reason=\"recovering\"}} 1\n",
            w.host()
        );
        assert!(metrics.contains(&sample), "{metrics}");
        again.stop().await;

        // From now on there is a state, and it is no voter's.
        let third = rig.start(config).await;
        assert_eq!(
            third.logged("state found, term 0, not a voter yet").len(),
            1
        );
        assert_eq!(third.logged("set aside").len(), 1);
        third.stop().await;
    });
}
