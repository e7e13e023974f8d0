//! Three witnesses as one cluster: founding, electing, replicating, losing one,
//! and changing the members.

use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::disk::Worker;
use pg_witness::ids::Entry;
use pg_witness::kv::{Call, call_of};
use pg_witness::wire::message::ApplyOutcome;
use pg_witness::wire::utility::{MemberTarget, NodeState, UtilityRequest};
use pg_witness::wire::{Value, command};

use crate::fake::{Fake, set};
use crate::rig::{Rig, Running, addresses, leader_of, run, until};

async fn trio(rig: &Rig, [a, b, c]: &[Address; 3]) -> [Running; 3] {
    [
        rig.start(rig.config(a, &[b, c])).await,
        rig.start(rig.config(b, &[a, c])).await,
        rig.start(rig.config(c, &[a, b])).await,
    ]
}

async fn all_apply(members: &[&Running], index: u64) {
    for member in members {
        member
            .shows("the entry applied", |s| s.last_applied >= index)
            .await;
    }
}

fn expires(entry: &Entry, key: &str) -> bool {
    let call = call_of(&entry.command);
    matches!(call, Some(Ok(Call { function, args, .. }))
        if function.as_int() == Some(command::EXPIRE) && args.first().and_then(Value::as_str) == Some(key))
}

#[test]
fn three_empty_disks_are_provably_new() {
    // S7: all say `join`, and each sees that the others hold nothing.
    run(async {
        let rig = Rig::new();
        let [a, b, c] = trio(&rig, &addresses()).await;
        let leader = leader_of(&[&a, &b, &c]).await;
        let client = Fake::client(&leader.address).await;
        let id = client.write(set("x", 60.0)).await;
        all_apply(&[&a, &b, &c], id.index.get()).await;
    });
}

#[test]
fn one_is_told_that_the_cluster_is_new() {
    // S7: the operator's word on one; the others join it.
    run(async {
        let rig = Rig::new();
        let [a, b, c] = addresses();
        let first = rig.start(rig.voter(&a, &[&b, &c])).await;
        let second = rig.start(rig.config(&b, &[&a, &c])).await;
        let third = rig.start(rig.config(&c, &[&a, &b])).await;
        let leader = leader_of(&[&first, &second, &third]).await;
        let client = Fake::client(&leader.address).await;
        let id = client.write(set("x", 60.0)).await;
        all_apply(&[&first, &second, &third], id.index.get()).await;
    });
}

#[test]
fn a_cluster_of_one_leads_itself() {
    // The demonstration of one, which a data node can join.
    run(async {
        let rig = Rig::new();
        let [me, _, _] = addresses();
        let one = rig.start(rig.config(&me, &[])).await;
        leader_of(&[&one]).await;
        let client = Fake::client(&one.address).await;
        let id = client.write(set("x", 60.0)).await;
        all_apply(&[&one], id.index.get()).await;
    });
}

#[test]
fn a_lone_joiner_waits() {
    // S7, S12: alone on an empty disk it neither votes nor raises its term.
    run(async {
        let rig = Rig::new();
        let [a, b, c] = addresses();
        let alone = rig.start(rig.config(&a, &[&b, &c])).await;
        alone.shows("itself", |_| true).await;
        crate::rig::during(Duration::from_secs(3), async || {
            let status = alone.status().await.unwrap();
            assert_eq!(status.raft_term.get(), 0);
            assert_eq!(status.state, NodeState::Follower);
            assert_eq!(status.leader, None);
        })
        .await;
    });
}

#[test]
fn a_cluster_lives_through_the_loss_of_its_leader() {
    run(async {
        let rig = Rig::new();
        let addresses = addresses();
        let members = trio(&rig, &addresses).await;
        let [a, b, c] = &members;
        let leader = leader_of(&[a, b, c]).await;
        let client = Fake::client(&leader.address).await;
        let before = client.write(set("x", 60.0)).await;
        all_apply(&[a, b, c], before.index.get()).await;

        let lost = leader.address.clone();
        leader.stop().await;
        let rest: Vec<&Running> = members.iter().filter(|m| m.address != lost).collect();
        let next = leader_of(&rest).await;
        let client = Fake::client(&next.address).await;
        let after = client.write(set("y", 60.0)).await;
        assert!(after.term > before.term && after.index > before.index);
        all_apply(&rest, after.index.get()).await;

        // Back from its disk it is a voter still, and catches up.
        let partners: Vec<&Address> = addresses.iter().filter(|a| **a != lost).collect();
        let back = rig.start(rig.config(&lost, &partners)).await;
        all_apply(&[&back], after.index.get()).await;
        let follower = rest.iter().find(|m| m.address != next.address).unwrap();
        follower.stop().await;
        let id = client.write(set("z", 60.0)).await;
        all_apply(&[&back, next], id.index.get()).await;
    });
}

#[test]
fn the_leader_expires_a_key_once() {
    // S8
    run(async {
        let rig = Rig::new();
        let [a, b, c] = trio(&rig, &addresses()).await;
        let leader = leader_of(&[&a, &b, &c]).await;
        let client = Fake::client(&leader.address).await;
        client.write(set("leader", 0.5)).await;
        client.write(set("config", 600.0)).await;
        client
            .commits("the expiry", |entry| expires(entry, "leader"))
            .await;
        client.write(set("again", 600.0)).await;
        let log = client.plain.log.borrow();
        let times = |key| log.iter().filter(|e| expires(e, key)).count();
        assert_eq!((times("leader"), times("config")), (1, 0));
    });
}

#[test]
fn a_follower_sends_the_client_on() {
    run(async {
        let rig = Rig::new();
        let [a, b, c] = trio(&rig, &addresses()).await;
        let leader = leader_of(&[&a, &b, &c]).await;
        let members = [&a, &b, &c];
        let follower = members
            .iter()
            .find(|m| m.address != leader.address)
            .unwrap();
        let client = Fake::client(&follower.address).await;
        let outcome = client.apply(set("x", 60.0)).await;
        assert!(matches!(outcome, ApplyOutcome::Refused(_)), "{outcome:?}");
    });
}

#[test]
fn members_come_and_go() {
    run(async {
        let rig = Rig::new();
        let [a, b, c, d] = addresses();
        let trio = trio(&rig, &[a.clone(), b.clone(), c.clone()]).await;
        let [first, second, third] = &trio;
        let leader = leader_of(&[first, second, third]).await;
        let client = Fake::client(&leader.address).await;
        client.write(set("x", 60.0)).await;

        // It is added because it asks to be.
        let late = rig.start(rig.config(&d, &[&a, &b, &c])).await;
        let four = vec![a.clone(), b.clone(), c.clone(), d.clone()];
        for member in [first, second, third, &late] {
            until("four members", async || member.members().await == four).await;
        }
        let id = client.write(set("y", 60.0)).await;
        all_apply(&[first, second, third, &late], id.index.get()).await;

        // Removed it says so, is left alone, and does not campaign.
        let request = || UtilityRequest::Remove(MemberTarget::Address(d.clone()));
        let reply = first.ask(request()).await.unwrap();
        let wanted = request().outcome(true);
        assert_eq!(reply.as_str(), Some(wanted.as_str()));
        for member in [first, second, third] {
            until("three members", async || member.members().await.len() == 3).await;
        }
        let term = late.status().await.unwrap().raft_term;
        crate::rig::during(Duration::from_secs(2), async || {
            let status = late.status().await.unwrap();
            assert!(status.raft_term <= term && status.state == NodeState::Follower);
        })
        .await;
        let id = client.write(set("z", 60.0)).await;
        all_apply(&[first, second, third], id.index.get()).await;
    });
}

#[test]
fn leadership_is_transferred() {
    run(async {
        let rig = Rig::new();
        let trio = trio(&rig, &addresses()).await;
        let [a, b, c] = &trio;
        let leader = leader_of(&[a, b, c]).await;
        let client = Fake::client(&leader.address).await;
        let id = client.write(set("x", 60.0)).await;
        all_apply(&[a, b, c], id.index.get()).await;
        let heir = trio.iter().find(|m| m.address != leader.address).unwrap();
        let request = UtilityRequest::Transfer(Some(heir.address.clone()));
        leader.ask(request).await.unwrap();
        heir.shows("itself as leader", |s| s.state == NodeState::Leader)
            .await;
        let next = leader_of(&[a, b, c]).await;
        assert_eq!(next.address, heir.address);
    });
}

#[test]
fn a_stopped_member_leaves_its_address() {
    run(async {
        let [a, b, c] = addresses();
        let rig = Rig::new();
        let member = rig.start(rig.voter(&a, &[&b, &c])).await;
        let peer = Fake::listen(&b, &[&a, &b, &c]).await;
        peer.dial(&a).await;
        member.shows("itself", |_| true).await;
        member.stop().await;
        until("the link to end", async || !peer.is_linked()).await;
        // Another worker: nothing of the first run may hold the folder.
        let _ = Worker::start().unwrap();
        let again = rig.start(rig.voter(&a, &[&b, &c])).await;
        peer.dial(&a).await;
        again.shows("itself", |_| true).await;
    });
}
