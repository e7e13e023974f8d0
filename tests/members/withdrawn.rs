//! S2, S15: a witness that has diverged, or that alone remembers, takes no part,
//! also after a restart, and takes part again when a leader holds what it holds.

use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::ids::Entry;
use pg_witness::wire::message::Message;
use pg_witness::wire::utility::StatusReply;

use crate::amnesia::lived;
use crate::fake::{Fake, fresh_status, id, noop, set, term};
use crate::hostile::linked;
use crate::rig::{Rig, Running, addresses, during, run, until};

/// What is committed: entries 2 and 3 of term 5.
fn ours() -> Vec<Entry> {
    let mut entries = vec![noop(2, 5), noop(3, 5)];
    entries[1].command = set("/service/main/leader", 30.0);
    entries
}

/// A witness that holds [`ours`], committed, and that `b` has contradicted as leader
/// of term 6; it is stopped.
async fn contradicted(rig: &Rig, here: &[Address; 3]) -> (Rc<Fake>, Rc<Fake>) {
    let (witness, a, b) = linked(rig, here).await;
    until("success", async || {
        a.append(5, id(1, 0), &ours(), 3);
        a.answer().await.success
    })
    .await;
    witness.shows("the commit", |s| s.commit_idx == 3).await;
    b.append(6, id(1, 0), &[noop(2, 6), noop(3, 6), noop(4, 6)], 4);
    until("the alarm", async || witness.logged("DIVERGED").len() == 1).await;
    witness.stop().await;
    for fake in [&a, &b] {
        lived(fake, &b.address, 6, 4);
        let mut status = fake.status.borrow_mut();
        status.as_mut().unwrap().version = "0.3.17".into();
        drop(status);
        fake.drain();
    }
    (a, b)
}

async fn start(rig: &Rig, [w, a, b]: &[Address; 3], fakes: [&Rc<Fake>; 2]) -> Running {
    let witness = rig.start(rig.voter(w, &[a, b])).await;
    for fake in fakes {
        fake.dial(w).await;
    }
    witness
}

/// For longer than several elections take: no vote is given or asked for.
async fn takes_no_part(a: &Fake, b: &Fake, t: u64) {
    let mut t = t;
    during(Duration::from_secs(3), async || {
        t += 1;
        a.ask_vote(t, id(9, t));
        for message in a.drain().into_iter().chain(b.drain()) {
            let takes_part = match &message {
                Message::ResponseVote { .. } | Message::RequestVote { .. } => true,
                Message::NextNodeIdx(reply) => reply.success,
                _ => false,
            };
            assert!(!takes_part, "{message:?}");
        }
    })
    .await;
}

/// It votes for whoever holds all that it holds.
async fn votes(witness: &Running, a: &Fake) {
    let above = witness.status().await.unwrap().raft_term.get() + 1;
    let mut t = above;
    until("a vote", async || {
        t += 1;
        a.ask_vote(t, id(1 << 40, t));
        pg_witness::reactor::Timer::after(Duration::from_millis(100)).await;
        a.drain()
            .iter()
            .any(|m| matches!(m, Message::ResponseVote { .. }))
    })
    .await;
}

#[test]
fn a_divergence_outlives_a_restart_and_ends_with_its_evidence() {
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let (a, b) = contradicted(&rig, &here).await;
        let witness = start(&rig, &here, [&a, &b]).await;
        takes_no_part(&a, &b, 30).await;
        // A leader of an earlier term says nothing against it, whatever it holds.
        a.append(5, id(1, 0), &ours(), 3);
        // Nor one of a later term that contradicts it too.
        b.append(80, id(1, 0), &[noop(2, 6), noop(3, 6)], 3);
        b.append(79, id(1, 0), &ours(), 3);
        takes_no_part(&a, &b, 80).await;
        // One that holds all is asked to show it, and believed when it has.
        a.drain();
        let mut log = ours();
        log.push(noop(4, 90));
        until("the question", async || {
            a.append(90, id(4, 90), &[], 3);
            let reply = a.answer().await;
            reply.reset && !reply.success && reply.next == 2
        })
        .await;
        assert!(witness.logged("takes part again").is_empty());
        a.append(90, id(1, 0), &log, 4);
        until("the end of it", async || {
            witness.logged("takes part again").len() == 1
        })
        .await;
        until("success", async || {
            a.append(90, id(1, 0), &log, 4);
            a.answer().await.success
        })
        .await;
        votes(&witness, &a).await;
        witness.stop().await;
        // That is durable too.
        let witness = start(&rig, &here, [&a, &b]).await;
        votes(&witness, &a).await;
    });
}

#[test]
fn reset_ends_a_divergence() {
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let (a, b) = contradicted(&rig, &here).await;
        let config = rig.config(&here[0], &[&here[1], &here[2]]);
        pg_witness::member::offline::reset(&config).unwrap();
        let witness = rig.start(config).await;
        a.dial(&here[0]).await;
        b.dial(&here[0]).await;
        until("what the leader sends to be stored", async || {
            b.append(6, id(1, 0), &[noop(2, 6), noop(3, 6), noop(4, 6)], 4);
            witness.status().await.is_some_and(|s| s.commit_idx == 4)
        })
        .await;
        assert_eq!(witness.logged("DIVERGED").len(), 1);
    });
}

/// A witness that alone remembers [`ours`], for both others showed nothing.
async fn orphaned(rig: &Rig, here: &[Address; 3]) -> (Running, Rc<Fake>, Rc<Fake>) {
    let (witness, a, b) = linked(rig, here).await;
    until("success", async || {
        a.append(5, id(1, 0), &ours(), 3);
        a.answer().await.success
    })
    .await;
    for i in 4..9 {
        a.append(5, id(i - 1, 5), &[noop(i, 5)], i);
    }
    witness.shows("the commit", |s| s.commit_idx == 8).await;
    witness.stop().await;
    for fake in [&a, &b] {
        *fake.status.borrow_mut() = Some(fresh_status(&fake.address));
        fake.drain();
    }
    let witness = start(rig, here, [&a, &b]).await;
    until("the alarm", async || witness.logged("ORPHANED").len() == 1).await;
    (witness, a, b)
}

#[test]
fn one_that_remembers_after_all_ends_being_orphaned() {
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let (witness, a, b) = orphaned(&rig, &here).await;
        takes_no_part(&a, &b, 30).await;
        // It asks on: `b` has its log again, and stands for election with it.
        lived(&b, &b.address, 5, 8);
        let mut t = 50;
        until("a vote", async || {
            t += 1;
            b.ask_vote(t, id(8, 5));
            pg_witness::reactor::Timer::after(Duration::from_millis(100)).await;
            b.drain()
                .iter()
                .any(|m| matches!(m, Message::ResponseVote { .. }))
        })
        .await;
        assert_eq!(witness.logged("takes part again").len(), 1);
    });
}

#[test]
fn a_leader_that_remembers_ends_being_orphaned() {
    // Its term is below ours, as after a restart of a peer that forgets terms.
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let (witness, a, b) = orphaned(&rig, &here).await;
        takes_no_part(&a, &b, 30).await;
        lived(&a, &a.address, 2, 9);
        lived(&b, &a.address, 2, 9);
        until("the question", async || {
            a.append(2, id(9, 2), &[], 9);
            pg_witness::reactor::Timer::after(Duration::from_millis(50)).await;
            a.drain()
                .iter()
                .any(|m| matches!(m, Message::NextNodeIdx(r) if r.reset && r.next == 2))
        })
        .await;
        let mut log = ours();
        log.extend((4..9).map(|i| noop(i, 5)));
        log.push(noop(9, 2));
        a.append(2, id(1, 0), &log, 9);
        until("the end of it", async || {
            witness.logged("takes part again").len() == 1
        })
        .await;
        votes(&witness, &b).await;
    });
}

/// Both nodes lost their `.meta` in a power cut: dump and journal are whole.
#[test]
fn nodes_that_show_it_otherwise_have_not_forgotten() {
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let (witness, a, b) = linked(&rig, &here).await;
        let log: Vec<_> = (2..=67).map(|i| noop(i, 5)).collect();
        until("success", async || {
            a.append(5, id(1, 0), &log, 67);
            a.answer().await.success
        })
        .await;
        witness.shows("the commit", |s| s.commit_idx == 67).await;
        witness.stop().await;
        for fake in [&a, &b] {
            *fake.status.borrow_mut() = Some(StatusReply {
                version: "0.3.17".into(),
                commit_idx: 1,
                log_len: 7,
                last_applied: 62,
                raft_term: term(0),
                ..fresh_status(&fake.address)
            });
            fake.drain();
        }
        let witness = start(&rig, &here, [&a, &b]).await;
        a.follow();
        b.follow();
        until("an election", async || a.plain.term.get() > 5).await;
        assert!(witness.logged("ORPHANED").is_empty());
    });
}

/// H21: a leader that was elected with a log that ends before what is committed here can
/// name no entry to begin behind, however often it is asked to begin there.
#[test]
fn a_leader_whose_log_ends_before_what_is_committed() {
    run(async {
        let (rig, here) = (Rig::new(), addresses());
        let (witness, a, b) = linked(&rig, &here).await;
        until("success", async || {
            a.append(5, id(1, 0), &ours(), 3);
            a.answer().await.success
        })
        .await;
        witness.shows("the commit", |s| s.commit_idx == 3).await;
        // Answers that cross what was sent before are no such case.
        until("success", async || {
            b.append_behind_its_end(6, 3);
            let asked = b.answer().await;
            assert!(asked.reset && asked.next == 4, "{asked:?}");
            b.append(6, id(3, 5), &[noop(4, 6)], 4);
            b.answer().await.success
        })
        .await;
        witness.shows("the commit", |s| s.commit_idx == 4).await;
        assert!(witness.logged("DIVERGED").is_empty());
        until("the alarm", async || {
            b.append_behind_its_end(6, 1);
            b.drain();
            !witness.logged("DIVERGED").is_empty()
        })
        .await;
        let said = witness.logged("DIVERGED");
        assert!(
            said[0].contains("leads with a log that ends before it"),
            "{said:?}"
        );
        takes_no_part(&a, &b, 7).await;
        witness.stop().await;
    });
}
