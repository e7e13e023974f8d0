//! A witness that is not to vote: it stores and acknowledges, and neither gives
//! its vote nor asks for others'.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::config::{PlacementConfig, VotePolicy, ZonePolicy};
use pg_witness::wire::Value;
use pg_witness::wire::message::Message;
use pg_witness::wire::utility::NodeState;

use crate::amnesia::lived;
use crate::fake::{Fake, id, noop, set_to};
use crate::quorum::leading_as;
use crate::rig::{Rig, addresses, during, run, until};

/// What Patroni writes of a member, with a zone among its tags.
fn member(name: &str, zone: &str) -> Arc<[u8]> {
    let json = format!(
        "{{\"conn_url\":\"postgres://10.0.0.1:5432/postgres\",\"state\":\"running\",\
         \"tags\":{{\"zone\":\"{zone}\"}}}}"
    );
    set_to(
        &format!("/service/main/members/{name}"),
        Value::str(&json),
        60.0,
    )
}

fn in_zone(zone: &str, zone_policy: ZonePolicy) -> PlacementConfig {
    PlacementConfig {
        zone: Some(zone.into()),
        zone_policy,
        ..PlacementConfig::default()
    }
}

/// Asks for a vote in ever later terms, and for it alone; none is given.
async fn refuses_its_vote(candidate: &Rc<Fake>, first_term: u64) {
    let mut term = first_term;
    during(Duration::from_secs(2), async || {
        candidate.ask_vote(term, id(1_000, term - 1));
        term += 1;
        let votes = |message: &Message| matches!(message, Message::ResponseVote { .. });
        assert!(!candidate.drain().iter().any(votes), "a vote");
    })
    .await;
}

/// Neither term nor state of a candidate, although nobody leads.
fn campaigns(messages: &[Message]) -> bool {
    let asks = |message: &Message| matches!(message, Message::RequestVote { .. });
    messages.iter().any(asks)
}

#[test]
fn one_whose_vote_is_not_wanted_reads_although_nobody_lists_it() {
    run(async {
        let rig = Rig::new();
        let [me, a, b, c] = addresses();
        let members = [&a, &b, &c];
        let mut fakes = Vec::new();
        for member in members {
            let fake = Fake::listen(member, &members).await;
            lived(&fake, &a, 5, 7);
            fakes.push(fake);
        }
        let mut config = rig.config(&me, &members);
        config.placement.vote = VotePolicy::Auto;
        let witness = rig.start(config).await;
        until("it reads from the leader", async || fakes[0].read.get() > 0).await;
        assert!(!witness.logged("goes on reading").is_empty());
        let asked = |fake: &Rc<Fake>| !fake.added.borrow().is_empty();
        assert!(!fakes.iter().any(asked), "it asked to be added");
    });
}

#[test]
fn one_that_never_votes_acknowledges_and_keeps_still() {
    run(async {
        let rig = Rig::new();
        let [w, a, b]: [Address; 3] = addresses();
        let all = [&w, &a, &b];
        let (leader, other) = (Fake::listen(&a, &all).await, Fake::listen(&b, &all).await);
        let mut config = rig.voter(&w, &[&a, &b]);
        config.placement.vote = VotePolicy::Never;
        let witness = rig.start(config).await;
        leader.dial(&w).await;
        other.dial(&w).await;
        until("success", async || {
            leader.append(1, id(1, 0), &[noop(2, 1)], 2);
            leader.answer().await.success
        })
        .await;
        refuses_its_vote(&other, 5).await;
        // The leader is silent: many of its timeouts pass.
        during(Duration::from_secs(4), async || {
            assert!(!campaigns(&leader.drain()) && !campaigns(&other.drain()));
        })
        .await;
        assert_eq!(witness.logged("no leader heard; starting"), [""; 0]);
        assert_eq!(
            witness
                .logged("configured never to vote, but is a member")
                .len(),
            1
        );
        witness.stop().await;
    });
}

#[test]
fn a_shared_zone_ends_its_leadership_and_its_vote() {
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let placement = in_zone("a", ZonePolicy::Enforce);
        let (witness, [a, b]) = leading_as(&rig, &here, placement).await;
        let client = Fake::client(&witness.address).await;
        // Another zone is none of its concern.
        client.write(member("pg2", "b")).await;
        during(Duration::from_secs(2), async || {
            let status = witness.status().await.unwrap();
            assert_eq!(status.state, NodeState::Leader);
        })
        .await;
        client.write(member("pg1", "a")).await;
        witness
            .shows("that it does not lead", |s| s.state != NodeState::Leader)
            .await;
        let (a_heard, b_heard) = (a.drain(), b.drain());
        drop((a_heard, b_heard));
        during(Duration::from_secs(4), async || {
            for fake in [&a, &b] {
                if !fake.is_linked() {
                    fake.dial(&witness.address).await;
                }
                assert!(!campaigns(&fake.drain()), "it asks for votes");
            }
            let status = witness.status().await.unwrap();
            assert_eq!((status.state, status.leader), (NodeState::Follower, None));
        })
        .await;
        refuses_its_vote(&a, witness.status().await.unwrap().raft_term.get() + 10).await;
        assert_eq!(witness.logged("shares zone a with pg1").len(), 1);
        assert_eq!(witness.logged("no vote (shared-zone)").len(), 1);
        witness.stop().await;
    });
}

#[test]
fn a_shared_zone_is_only_told_where_that_is_the_policy() {
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let placement = in_zone("a", ZonePolicy::Warn);
        let (witness, _followers) = leading_as(&rig, &here, placement).await;
        let client = Fake::client(&witness.address).await;
        client.write(member("pg1", "a")).await;
        until("the warning", async || {
            !witness.logged("shares zone a with pg1").is_empty()
        })
        .await;
        // The key is renewed, as each loop of Patroni's does; it is told once.
        client.write(member("pg1", "a")).await;
        client.write(member("pg2", "b")).await;
        during(Duration::from_secs(2), async || {
            let status = witness.status().await.unwrap();
            assert_eq!(status.state, NodeState::Leader);
        })
        .await;
        assert_eq!(witness.logged("shares zone a").len(), 1);
        witness.stop().await;
    });
}
