//! S12: who has no majority neither leads nor disturbs.

use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::config::{ClusterConfig, PlacementConfig, Timing};
use pg_witness::limits::TALLY_MEMBER_LINES;
use pg_witness::reactor::Instant;
use pg_witness::wire::message::{ApplyOutcome, Message};
use pg_witness::wire::utility::NodeState;

use crate::fake::{Fake, set};
use crate::rig::{Rig, Running, addresses, during, quick, run, until};

/// A witness that leads two plain followers.
pub async fn leading(rig: &Rig, addresses: &[Address; 3]) -> (Running, [Rc<Fake>; 2]) {
    leading_with(rig, addresses, |config| config).await
}

/// Likewise, at a place of its own.
pub async fn leading_as(
    rig: &Rig,
    addresses: &[Address; 3],
    placement: PlacementConfig,
) -> (Running, [Rc<Fake>; 2]) {
    let placed = |config| ClusterConfig {
        placement,
        ..config
    };
    leading_with(rig, addresses, placed).await
}

/// Likewise, with something else in its configuration.
pub async fn leading_with(
    rig: &Rig,
    [w, a, b]: &[Address; 3],
    configured: impl FnOnce(ClusterConfig) -> ClusterConfig,
) -> (Running, [Rc<Fake>; 2]) {
    let all = [w, a, b];
    let followers = [Fake::listen(a, &all).await, Fake::listen(b, &all).await];
    let witness = rig.start(configured(rig.voter(w, &[a, b]))).await;
    for follower in &followers {
        follower.follow();
        follower.dial(w).await;
    }
    witness
        .shows("itself as leader", |s| s.state == NodeState::Leader)
        .await;
    (witness, followers)
}

#[test]
fn a_leader_without_majority_stops_claiming_to_lead() {
    run(async {
        let rig = Rig::new();
        let addresses = addresses();
        let (witness, [a, b]) = leading(&rig, &addresses).await;
        let client = Fake::client(&witness.address).await;
        client.write(set("x", 60.0)).await;

        for fake in [&a, &b] {
            fake.plain.answers.set(false);
            fake.plain.votes.set(false);
        }
        let silent = Instant::now();
        let status = witness
            .shows("that it does not lead", |s| s.state != NodeState::Leader)
            .await;
        let took = silent.elapsed();
        assert_eq!(status.leader, None);
        let limit = quick().leader_fallback_timeout;
        assert!(took < limit + Duration::from_secs(1), "{took:?}");

        // From then on no append leaves, although the links may live on.
        for fake in [&a, &b] {
            if !fake.is_linked() {
                fake.dial(&witness.address).await;
            }
        }
        let stopped = Instant::now();
        during(Duration::from_secs(3), async || {
            for fake in [&a, &b] {
                let heard = fake.plain.heard.get().unwrap();
                assert!(heard <= stopped, "an append after the end");
            }
            let status = witness.status().await.unwrap();
            assert_ne!(status.state, NodeState::Leader);
            assert_eq!(status.leader, None);
        })
        .await;
        let outcome = client.apply(set("y", 60.0)).await;
        assert!(matches!(outcome, ApplyOutcome::Refused(_)), "{outcome:?}");

        // And when they answer again it leads again, with nothing lost.
        for fake in [&a, &b] {
            fake.plain.answers.set(true);
            fake.plain.votes.set(true);
            if !fake.is_linked() {
                fake.dial(&witness.address).await;
            }
        }
        witness
            .shows("itself as leader", |s| s.state == NodeState::Leader)
            .await;
        let client = Fake::client(&witness.address).await;
        client.write(set("z", 60.0)).await;
    });
}

#[test]
fn one_follower_is_majority_enough() {
    run(async {
        let rig = Rig::new();
        let (witness, [a, b]) = leading(&rig, &addresses()).await;
        let term = witness.status().await.unwrap().raft_term;
        a.plain.answers.set(false);
        during(quick().leader_fallback_timeout * 2, async || {
            if !a.is_linked() {
                a.dial(&witness.address).await;
            }
            assert_eq!(witness.status().await.unwrap().state, NodeState::Leader);
        })
        .await;
        assert_eq!(witness.status().await.unwrap().raft_term, term);
        assert!(b.plain.heard.get().is_some());
    });
}

#[test]
fn elections_that_nobody_can_win_are_counted() {
    // S16: for hours, if a data node is down and the other gives no vote.
    run(async {
        let rig = Rig::new();
        let [w, a, b] = &addresses();
        let ms = Duration::from_millis;
        let timing = Timing {
            min_timeout: ms(40),
            max_timeout: ms(60),
            ..quick()
        };
        let config = ClusterConfig {
            timing,
            ..rig.voter(w, &[a, b])
        };
        let silent = Fake::listen(a, &[w, a, b]).await;
        let witness = rig.start(config).await;
        silent.dial(w).await;
        let mut asked = 0;
        until("many elections", async || {
            let messages = silent.drain();
            let asks = |message: &&Message| matches!(message, Message::RequestVote { .. });
            asked += messages.iter().filter(asks).count();
            asked >= 32
        })
        .await;
        // The first ones, and the 32nd.
        let said = usize::try_from(TALLY_MEMBER_LINES).unwrap() + 1;
        assert_eq!(witness.logged("no leader heard; starting").len(), said);
    });
}

#[test]
fn a_witness_without_links_does_not_raise_its_term() {
    run(async {
        let rig = Rig::new();
        let (witness, [a, b]) = leading(&rig, &addresses()).await;
        for fake in [&a, &b] {
            fake.plain.votes.set(false);
            fake.plain.answers.set(false);
            fake.hang_up();
        }
        witness
            .shows("that it does not lead", |s| s.state != NodeState::Leader)
            .await;
        let term = witness.status().await.unwrap().raft_term;
        during(Duration::from_secs(4), async || {
            let status = witness.status().await.unwrap();
            assert_eq!(status.raft_term, term);
            assert_eq!(status.state, NodeState::Follower);
        })
        .await;
        // One that grants is enough again.
        a.plain.votes.set(true);
        a.plain.answers.set(true);
        a.dial(&witness.address).await;
        until("leading again", async || {
            witness.status().await.unwrap().state == NodeState::Leader
        })
        .await;
    });
}
