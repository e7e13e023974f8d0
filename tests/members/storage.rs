//! S14, E6, E7: a disk that fails, and one that takes its time.

use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::reactor::Instant;
use pg_witness::wire::message::Message;
use pg_witness::wire::utility::NodeState;

use crate::amnesia::lived;
use crate::fake::{Fake, id, noop, set, term};
use crate::quorum::leading;
use crate::rig::{Rig, Running, addresses, during, run, until};

/// A witness that follows `a`, leader of term 1 whose log ends in entry 2.
/// `campaigns`: as soon as it would, when nobody leads; else not in this test.
pub async fn following(
    rig: &Rig,
    [w, a, b]: &[Address; 3],
    campaigns: bool,
) -> (Running, Rc<Fake>, Rc<Fake>) {
    let all = [w, a, b];
    let (leader, other) = (Fake::listen(a, &all).await, Fake::listen(b, &all).await);
    let mut config = rig.voter(w, &[a, b]);
    if !campaigns {
        config.timing.min_timeout = Duration::from_secs(60);
        config.timing.max_timeout = Duration::from_secs(90);
    }
    let witness = rig.start(config).await;
    leader.dial(w).await;
    other.dial(w).await;
    until("success", async || {
        leader.append(1, id(1, 0), &[noop(2, 1)], 2);
        leader.answer().await.success
    })
    .await;
    (witness, leader, other)
}

async fn voted(candidate: &Fake) -> u64 {
    candidate
        .next("a vote", |message| match message {
            Message::ResponseVote { term } => Some(term.get()),
            _ => None,
        })
        .await
}

fn promised(fake: &Fake) -> bool {
    fake.drain().iter().any(|message| match message {
        Message::NextNodeIdx(reply) => reply.success,
        Message::ResponseVote { .. } => true,
        _ => false,
    })
}

#[test]
fn a_full_disk_ends_no_link_and_no_other_cluster() {
    // S14, E8
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let (witness, a, b) = following(&rig, &here, false).await;
        let (_other, c, _) = following(&rig, &addresses(), false).await;
        let links = (a.links.get(), b.links.get());

        rig.faults.fill(&rig.config(&here[0], &[]).data_dir);
        let mut next = 3;
        a.append(1, id(2, 1), &[noop(3, 1)], 2);
        until("the failure in the log", async || {
            !witness.logged("no vote (disk-unusable)").is_empty()
        })
        .await;
        // The link is served, and nothing is promised: neither what it was sent
        // nor, though its memory holds it, what the disk never took.
        during(Duration::from_secs(2), async || {
            a.append(1, id(3, 1), &[], 3);
            b.ask_vote(next, id(9, 1));
            next += 1;
            assert!(!promised(&a) && !promised(&b));
            assert_eq!(witness.status().await.unwrap().state, NodeState::Follower);
            // The cluster beside it goes on.
            let at = c.plain.commit.get() + 1;
            c.append(1, id(at, 1), &[noop(at + 1, 1)], at);
            assert!(c.answer().await.success);
            c.plain.commit.set(at);
        })
        .await;

        // It recovers by itself, and has forgotten nothing that it had promised.
        rig.faults.heal();
        b.drain();
        until("success", async || {
            a.append(1, id(1, 0), &[noop(2, 1), noop(3, 1), noop(4, 1)], 3);
            pg_witness::reactor::Timer::after(Duration::from_millis(50)).await;
            promised(&a)
        })
        .await;
        let status = witness.shows("the entries", |s| s.commit_idx == 3).await;
        assert_eq!(status.raft_term, term(1));
        // As long as the leader is heard, nobody else is voted for.
        until("a vote", async || {
            b.ask_vote(next + 1, id(4, 1));
            pg_witness::reactor::Timer::after(Duration::from_millis(50)).await;
            promised(&b)
        })
        .await;
        assert_eq!((a.links.get(), b.links.get()), links);
    });
}

#[test]
fn a_damaged_state_is_not_a_new_cluster() {
    // S7: `bootstrap: new` stands in the configuration still.
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let (witness, a, b) = following(&rig, &here, false).await;
        witness.stop().await;
        let config = rig.voter(&here[0], &[&here[1], &here[2]]);
        let path = config.data_dir.join("hard-state");
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::write(&path, vec![0x55; usize::try_from(length).unwrap()]).unwrap();

        for fake in [&a, &b] {
            lived(fake, &a.address, 1, 2);
        }
        let witness = rig.start(config).await;
        assert_eq!(witness.logged("cannot be used").len(), 1);
        for fake in [&a, &b] {
            fake.dial(&here[0]).await;
            fake.drain();
        }
        let mut next = 7;
        during(Duration::from_secs(2), async || {
            a.append(1, id(1, 0), &[noop(2, 1)], 2);
            b.ask_vote(next, id(9, 1));
            next += 1;
            assert!(!promised(&a) && !promised(&b));
        })
        .await;
    });
}

#[test]
fn a_follower_waits_for_a_slow_sync() {
    // E6: it goes on reading, does not campaign, and answers in order.
    run(async {
        let rig = Rig::new();
        let (witness, a, _b) = following(&rig, &addresses(), true).await;
        let before = witness.status().await.unwrap().raft_term;
        a.drain();
        let slow = Duration::from_secs(5);
        rig.faults.delay_syncs(slow);
        let begun = Instant::now();
        let mut sent = 0;
        a.append(1, id(2, 1), &[noop(3, 1)], 2);
        for at in 3..=6 {
            a.append(1, id(at, 1), &[noop(at + 1, 1)], 2);
        }
        while begun.elapsed() < slow - Duration::from_secs(1) {
            a.append(1, id(7, 1), &[], 2);
            sent += 1;
            assert!(!promised(&a), "{:?}", begun.elapsed());
            let status = witness.status().await.unwrap();
            assert_eq!(
                (status.state, status.raft_term),
                (NodeState::Follower, before)
            );
            pg_witness::reactor::Timer::after(Duration::from_millis(100)).await;
        }
        // Its leader falls silent: what came waits for the disk still.
        let mut answers = Vec::new();
        while answers.len() < 5 + sent {
            answers.push(a.answer().await);
            let first = begun.elapsed() >= slow;
            assert!(first, "an answer before the sync");
        }
        assert!(answers.iter().all(|answer| answer.success));
        let next: Vec<i64> = answers.iter().map(|answer| answer.next).collect();
        assert_eq!(next[..5], [4, 5, 6, 7, 8]);
        assert!(next[5..].iter().all(|next| *next == 8));
        assert_eq!(witness.status().await.unwrap().raft_term, before);
    });
}

#[test]
fn a_vote_waits_for_its_sync() {
    // S1, E7
    run(async {
        let rig = Rig::new();
        let (witness, a, b) = following(&rig, &addresses(), false).await;
        // Beside a leader that is heard nobody gets a vote.
        a.hang_up();
        witness.loses(&a.address).await;
        let slow = Duration::from_secs(2);
        rig.faults.delay_syncs(slow);
        let asked = Instant::now();
        b.ask_vote(5, id(9, 1));
        witness.shows("itself meanwhile", |_| true).await;
        assert!(asked.elapsed() < slow);
        assert_eq!(voted(&b).await, 5);
        assert!(asked.elapsed() >= slow);
        // Once in a term, whatever the disk does.
        b.ask_vote(5, id(9, 1));
        b.ask_vote(6, id(9, 1));
        assert_eq!(voted(&b).await, 6);
    });
}

#[test]
fn a_campaign_waits_for_its_sync_and_for_the_votes() {
    // S1: the time for an election begins when the others are asked, not when
    // our own vote for ourselves begins to be written.
    run(async {
        let rig = Rig::new();
        let (witness, a, b) = following(&rig, &addresses(), true).await;
        let before = witness.status().await.unwrap().raft_term;
        let slow = Duration::from_secs(3);
        rig.faults.delay_syncs(slow);
        let begun = Instant::now();
        a.follow();
        b.follow();
        let leads = witness
            .shows("that it leads", |status| status.state == NodeState::Leader)
            .await;
        assert!(begun.elapsed() >= slow);
        assert_eq!(leads.raft_term.get(), before.get() + 1);
    });
}

#[test]
fn a_leader_commits_by_its_peers_while_its_disk_is_slow() {
    // S1: our own share of a commit waits for our disk, theirs does not.
    run(async {
        let rig = Rig::new();
        let (witness, [a, b]) = leading(&rig, &addresses()).await;
        let client = Fake::client(&witness.address).await;
        client.write(set("x", 60.0)).await;
        let term = witness.status().await.unwrap().raft_term;
        let slow = Duration::from_secs(5);
        rig.faults.delay_syncs(slow);
        let begun = Instant::now();
        client.write(set("y", 60.0)).await;
        client.write(set("z", 60.0)).await;
        assert!(begun.elapsed() < slow, "{:?}", begun.elapsed());
        while begun.elapsed() < slow + Duration::from_secs(1) {
            for fake in [&a, &b] {
                let silence = fake.plain.heard.get().unwrap().elapsed();
                assert!(silence < Duration::from_secs(1), "{silence:?}");
            }
            let status = witness.status().await.unwrap();
            assert_eq!((status.state, status.raft_term), (NodeState::Leader, term));
            pg_witness::reactor::Timer::after(Duration::from_millis(50)).await;
        }
        rig.faults.delay_syncs(Duration::ZERO);
        client.write(set("again", 60.0)).await;
    });
}
