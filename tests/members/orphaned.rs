//! S13: a witness that alone remembers keeps that to itself: the cluster was
//! made anew.

use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::config::ClusterConfig;
use pg_witness::limits;
use pg_witness::reactor::Instant;
use pg_witness::wire::message::Message;
use pg_witness::wire::utility::NodeState;

use crate::amnesia::lived;
use crate::fake::{Fake, fresh_status, id, noop};
use crate::rig::{Rig, Running, addresses, during, run, until};

/// A witness that was told of six entries of term 3 by `a`, all committed, and is
/// stopped; its two partners.
async fn remembering(
    w: &Address,
    a: &Address,
    b: &Address,
) -> (Rig, ClusterConfig, Rc<Fake>, Rc<Fake>) {
    let rig = Rig::new();
    let all = [w, a, b];
    let (fake_a, fake_b) = (Fake::listen(a, &all).await, Fake::listen(b, &all).await);
    let config = rig.voter(w, &[a, b]);
    let witness = rig.start(config.clone()).await;
    fake_a.dial(w).await;
    fake_b.dial(w).await;
    let log: Vec<_> = (2..=6).map(|i| noop(i, 3)).collect();
    until("success", async || {
        fake_a.append(3, id(1, 0), &log, 6);
        fake_a.answer().await.success
    })
    .await;
    witness
        .shows("what is committed", |s| s.commit_idx == 6)
        .await;
    witness.stop().await;
    (rig, config, fake_a, fake_b)
}

fn asks_for_votes(messages: &[Message]) -> bool {
    let asks = |m: &Message| matches!(m, Message::RequestVote { .. });
    messages.iter().any(asks)
}

/// For longer than several elections take: no vote is asked for nor given,
/// nothing taught, and nothing acknowledged.
async fn keeps_to_itself(witness: &Running, a: &Fake, b: &Fake) {
    during(Duration::from_secs(4), async || {
        b.ask_vote(7, id(9, 6));
        a.append(1, id(1, 0), &[noop(2, 1)], 2);
        for message in a.drain().into_iter().chain(b.drain()) {
            // A reset only rewinds: it asks to be shown what the other holds.
            let harmless = match &message {
                Message::Keepalive | Message::Unknown => true,
                Message::NextNodeIdx(reply) => reply.reset && !reply.success,
                _ => false,
            };
            assert!(harmless, "{message:?}");
        }
    })
    .await;
    let status = witness.shows("its own log", |s| s.commit_idx == 6).await;
    assert_eq!(status.state, NodeState::Follower);
}

#[test]
fn a_cluster_made_anew_is_left_alone() {
    run(async {
        let [w, a, b] = addresses();
        let (rig, config, fake_a, fake_b) = remembering(&w, &a, &b).await;
        // They were made anew at the same moment: `b` has not found `a` yet.
        lived(&fake_a, &a, 1, 2);
        *fake_b.status.borrow_mut() = Some(fresh_status(&b));
        fake_a.drain();
        fake_b.drain();
        let witness = rig.start(config.clone()).await;
        fake_a.dial(&w).await;
        fake_b.dial(&w).await;
        keeps_to_itself(&witness, &fake_a, &fake_b).await;
        // Its term is not ours, though it has the same number.
        fake_a.append(3, id(1, 0), &[noop(2, 3)], 2);
        assert!(witness.logged("a member voted twice").is_empty());
        witness.stop().await;

        // Nor when the new cluster has outgrown what it holds, in whatever term.
        for fake in [&fake_a, &fake_b] {
            lived(fake, &a, 3, 40);
            fake.drain();
        }
        let witness = rig.start(config).await;
        fake_a.dial(&w).await;
        fake_b.dial(&w).await;
        keeps_to_itself(&witness, &fake_a, &fake_b).await;
    });
}

#[test]
fn the_first_of_two_new_nodes_is_not_taught_before_the_other_is_seen() {
    run(async {
        let [w, a, b] = addresses();
        let (rig, config, fake_a, fake_b) = remembering(&w, &a, &b).await;
        for (fake, address) in [(&fake_a, &a), (&fake_b, &b)] {
            *fake.status.borrow_mut() = Some(fresh_status(address));
            fake.drain();
        }
        let witness = rig.start(config).await;
        fake_a.dial(&w).await;
        // Several elections would fit in here.
        during(Duration::from_secs(3), async || {
            assert!(!asks_for_votes(&fake_a.drain()));
        })
        .await;
        fake_b.dial(&w).await;
        keeps_to_itself(&witness, &fake_a, &fake_b).await;
    });
}

#[test]
fn one_node_that_forgot_is_taught() {
    // With the other there and knowing, at once; with the other away, in the end.
    run(async {
        for other_is_there in [true, false] {
            let [w, a, b] = addresses();
            let (rig, config, fake_a, fake_b) = remembering(&w, &a, &b).await;
            *fake_a.status.borrow_mut() = Some(fresh_status(&a));
            lived(&fake_b, &a, 3, 6);
            fake_a.drain();
            fake_b.drain();
            let _witness = rig.start(config).await;
            fake_a.dial(&w).await;
            if other_is_there {
                fake_b.dial(&w).await;
            }
            until("an election", async || asks_for_votes(&fake_a.drain())).await;
        }
    });
}

#[test]
fn one_node_that_is_behind_is_taught_at_once() {
    // The other is dead, and this one was away when the last entries came.
    run(async {
        let [w, a, b] = addresses();
        let (rig, config, fake_a, fake_b) = remembering(&w, &a, &b).await;
        *fake_b.status.borrow_mut() = None;
        lived(&fake_a, &a, 3, 4);
        if let Some(status) = fake_a.status.borrow_mut().as_mut() {
            status.leader = None;
            status.state = NodeState::Follower;
        }
        fake_a.drain();
        let _witness = rig.start(config).await;
        let began = Instant::now();
        fake_a.dial(&w).await;
        until("an election", async || asks_for_votes(&fake_a.drain())).await;
        assert!(began.elapsed() < limits::ORPHANED_PATIENCE / 2);
    });
}
