//! What is asked of a witness that leads, and what it asks of itself, while its
//! engine refuses or has not settled yet.

use std::time::Duration;

use pg_witness::config::{ClusterConfig, Timing};
use pg_witness::reactor::Instant;
use pg_witness::wire::utility::NodeState;

use crate::fake::{Fake, fresh_status, set};
use crate::rig::{Rig, addresses, quick, run, until};

/// Longer than openraft takes the word of its quorum for granted; from then on
/// it refuses what is proposed.
const LEASE: Duration = Duration::from_secs(30);

#[test]
fn an_expiry_that_the_engine_refused_is_proposed_again() {
    // S8
    run(async {
        let rig = Rig::new();
        let [w, a, b] = &addresses();
        let all = [w, a, b];
        let nodes = [Fake::listen(a, &all).await, Fake::listen(b, &all).await];
        let config = ClusterConfig {
            timing: Timing {
                leader_fallback_timeout: LEASE * 2,
                ..quick()
            },
            ..rig.voter(w, &[a, b])
        };
        let witness = rig.start(config).await;
        for node in &nodes {
            node.follow();
            node.dial(w).await;
        }
        witness
            .shows("itself as leader", |s| s.state == NodeState::Leader)
            .await;
        let client = Fake::client(&witness.address).await;
        let ttl = LEASE + Duration::from_secs(2);
        client.write(set("leader", ttl.as_secs_f64())).await;
        let written = Instant::now();
        let term = witness.status().await.unwrap().raft_term;

        for node in &nodes {
            node.plain.answers.set(false);
            node.plain.votes.set(false);
            let mut status = fresh_status(&node.address);
            // As long as ours: nobody has forgotten anything.
            (status.commit_idx, status.log_len, status.raft_term) = (9, 1000, term);
            *node.status.borrow_mut() = Some(status);
        }
        // Until its first proposal was refused.
        pg_witness::reactor::Timer::at(written + ttl + Duration::from_secs(1)).await;
        assert!(witness.logged("key expired: leader").is_empty());
        for node in &nodes {
            node.plain.answers.set(true);
            node.plain.votes.set(true);
            if !node.is_linked() {
                node.dial(&witness.address).await;
            }
        }
        until("the expiry", async || {
            !witness.logged("key expired: leader").is_empty()
        })
        .await;
        assert_eq!(witness.status().await.unwrap().raft_term, term);
    });
}
