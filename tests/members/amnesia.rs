//! S7 and S13: a witness that lost its state promises nothing that it cannot
//! know, and one with a stale past gives way to the cluster.

use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::config::ClusterConfig;
use pg_witness::ids::Entry;
use pg_witness::wire::message::Message;
use pg_witness::wire::utility::NodeState;

use crate::fake::{Fake, fresh_status, id, noop, set, term};
use crate::rig::{Rig, Running, addresses, during, run, until};

/// The status of a node that follows `leader`, or leads.
pub fn lived(fake: &Fake, leader: &Address, t: u64, commit: u64) {
    let mut status = fresh_status(&fake.address);
    status.raft_term = term(t);
    status.commit_idx = commit;
    status.log_len = commit;
    status.leader = Some(leader.clone());
    if fake.address == *leader {
        status.state = NodeState::Leader;
    }
    *fake.status.borrow_mut() = Some(status);
}

/// An amnesic witness, and the two nodes of a cluster that has lived: `a` leads
/// term 5 and has committed six entries.
async fn amnesic() -> (Rig, Running, Rc<Fake>, Rc<Fake>) {
    let rig = Rig::new();
    let [w, a, b] = addresses();
    let all = [&w, &a, &b];
    let (fake_a, fake_b) = (Fake::listen(&a, &all).await, Fake::listen(&b, &all).await);
    lived(&fake_a, &a, 5, 6);
    lived(&fake_b, &a, 5, 6);
    let witness = rig.start(rig.config(&w, &[&a, &b])).await;
    fake_a.dial(&w).await;
    fake_b.dial(&w).await;
    (rig, witness, fake_a, fake_b)
}

fn history() -> Vec<pg_witness::ids::Entry> {
    let mut log: Vec<_> = (2..=4).map(|i| noop(i, 3)).collect();
    log.extend([noop(5, 5), noop(6, 5)]);
    log
}

/// Appends until the answer says success; returns how often it did not.
async fn no_success(leader: &Fake, t: u64, prev: (u64, u64), commit: u64, times: u32) {
    for _ in 0..times {
        leader.append(t, id(prev.0, prev.1), &[], commit);
        let answer = leader.answer().await;
        assert!(!answer.success && !answer.reset, "{answer:?}");
        pg_witness::reactor::Timer::after(Duration::from_millis(50)).await;
    }
}

#[test]
fn an_old_commit_proves_nothing() {
    // S7: what was committed before we listened may have been committed with
    // the help that we have forgotten: the leader may be a stale one, resumed,
    // and our lost vote another's.
    run(async {
        let (_rig, witness, a, b) = amnesic().await;
        a.append(5, id(1, 0), &history(), 6);
        let answer = a.answer().await;
        assert!(
            !answer.success && !answer.reset && answer.next == 7,
            "{answer:?}"
        );
        witness.shows("the entries", |s| s.commit_idx == 6).await;
        no_success(&a, 5, (6, 5), 6, 10).await;

        // It gives no vote either, not even to a good log of a later term.
        b.ask_vote(6, id(9, 6));
        during(Duration::from_secs(2), async || {
            no_success(&a, 5, (6, 5), 6, 1).await;
            let voted = b
                .drain()
                .into_iter()
                .any(|m| matches!(m, Message::ResponseVote { .. }));
            assert!(!voted);
            assert_eq!(witness.status().await.unwrap().state, NodeState::Follower);
        })
        .await;
    });
}

#[test]
fn a_commit_without_us_makes_a_voter() {
    // S7: an entry that came while we listened, of the leader's own term, and
    // that others made a majority for.
    run(async {
        let (_rig, _witness, a, b) = amnesic().await;
        a.append(5, id(1, 0), &history(), 6);
        assert!(!a.answer().await.success);
        a.append(5, id(6, 5), &[], 6);
        assert!(!a.answer().await.success);
        a.append(5, id(6, 5), &[noop(7, 5)], 6);
        let answer = a.answer().await;
        assert!(!answer.success && answer.next == 8, "{answer:?}");
        // Committed: `b` holds it.
        a.append(5, id(7, 5), &[], 7);
        a.answer().await;
        a.append(5, id(7, 5), &[noop(8, 5)], 7);
        let answer = a.answer().await;
        assert!(answer.success && answer.next == 9, "{answer:?}");

        // Its leader counts as its vote of that term.
        let mut t = 5;
        until("a vote", async || {
            b.ask_vote(t, id(9, 5));
            t += 1;
            smol::Timer::after(Duration::from_millis(50)).await;
            let votes = b.drain().into_iter().filter_map(|m| match m {
                Message::ResponseVote { term } => Some(term.get()),
                _ => None,
            });
            let votes: Vec<u64> = votes.collect();
            assert!(!votes.contains(&5), "a second vote of term 5");
            !votes.is_empty()
        })
        .await;
    });
}

#[test]
fn a_commit_of_an_earlier_term_makes_no_voter() {
    // S7, Raft 5.4.2: only an entry of the leader's own term counts.
    run(async {
        let (_rig, _witness, a, _b) = amnesic().await;
        lived(&a, &a.address, 8, 6);
        let mut log = history();
        a.append(8, id(1, 0), &log, 2);
        assert!(!a.answer().await.success);
        // All that it brings while we listen is of term 5.
        a.append(8, id(6, 5), &[], 2);
        assert!(!a.answer().await.success);
        let more = [noop(7, 5), noop(8, 5)];
        a.append(8, id(6, 5), &more, 2);
        assert!(!a.answer().await.success);
        log.extend(more);
        no_success(&a, 8, (8, 5), 8, 10).await;
    });
}

#[test]
fn an_amnesic_witness_asks_for_the_proof() {
    // S7: in a cluster that is idle nothing would be committed for long; a
    // NO_OP proves as much as any write.
    run(async {
        let (_rig, _witness, a, _b) = amnesic().await;
        a.append(5, id(1, 0), &history(), 6);
        assert!(!a.answer().await.success);
        a.append(5, id(6, 5), &[], 6);
        a.next("a proposal", |message| match message {
            Message::ApplyCommand {
                command,
                request_id: None,
            } => {
                assert_eq!(**command, [1]);
                Some(())
            }
            _ => None,
        })
        .await;
    });
}

#[test]
fn a_stale_leader_finds_no_ally() {
    // S7: `b` leads term 6, elected and acknowledged by the witness that we
    // were; `a` was paused meanwhile and leads term 5 still. The card is
    // replaced. `a` resumes first: it must not find a majority.
    run(async {
        let (_rig, witness, a, b) = amnesic().await;
        lived(&b, &b.address, 6, 9);
        a.append(5, id(1, 0), &history(), 6);
        assert!(!a.answer().await.success);
        // What it adds now could only be committed by us.
        a.append(5, id(6, 5), &[noop(7, 5)], 6);
        assert!(!a.answer().await.success);
        no_success(&a, 5, (7, 5), 6, 10).await;

        // The real leader comes back: its log replaces the other's.
        b.append(6, id(6, 5), &[noop(7, 6), noop(8, 6), noop(9, 6)], 9);
        let answer = b.answer().await;
        assert!(!answer.success && answer.next == 10, "{answer:?}");
        witness.shows("its entries", |s| s.commit_idx == 9).await;
        a.drain();
        a.append(5, id(7, 5), &[], 7);
        b.append(6, id(9, 6), &[], 9);
        assert!(!b.answer().await.success);
        b.append(6, id(9, 6), &[noop(10, 6)], 9);
        assert!(!b.answer().await.success);
        b.append(6, id(10, 6), &[], 10);
        b.answer().await;
        b.append(6, id(10, 6), &[], 10);
        until("success", async || {
            b.append(6, id(10, 6), &[], 10);
            b.answer().await.success
        })
        .await;
        assert!(
            !a.drain()
                .iter()
                .any(|m| matches!(m, Message::NextNodeIdx(_)))
        );
    });
}

/// A witness that holds three entries of a term 17 that `a` led, committed up to
/// `commit` as far as it knows, and comes back to nodes that follow `leader` in
/// term `t`, with 40 entries committed.
async fn back_from_term_17(
    commit: u64,
    leader: usize,
    t: u64,
) -> (Rig, Running, [Rc<Fake>; 2], ClusterConfig) {
    let rig = Rig::new();
    let [w, a, b] = addresses();
    let all = [&w, &a, &b];
    let fakes = [Fake::listen(&a, &all).await, Fake::listen(&b, &all).await];
    let config = rig.voter(&w, &[&a, &b]);
    let witness = rig.start(config.clone()).await;
    for fake in &fakes {
        fake.dial(&w).await;
    }
    let log: Vec<_> = (2..=4).map(|i| noop(i, 17)).collect();
    until("success", async || {
        fakes[0].append(17, id(1, 0), &log, commit);
        fakes[0].answer().await.success
    })
    .await;
    witness.stop().await;
    for fake in &fakes {
        lived(fake, [&a, &b][leader], t, 40);
        fake.drain();
    }
    let witness = rig.start(config.clone()).await;
    (rig, witness, fakes, config)
}

/// The folders in which a past was set aside.
fn stale(config: &ClusterConfig) -> Vec<String> {
    let folders = std::fs::read_dir(&config.data_dir).unwrap();
    let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("stale")).collect()
}

#[test]
fn a_stale_past_is_set_aside() {
    // S13, H7: the data nodes forgot their terms (0.3.15 and older), began
    // again at term 1 and have committed more than we hold.
    run(async {
        let (_rig, witness, [fake_a, fake_b], config) = back_from_term_17(4, 0, 1).await;
        let status = witness
            .shows("a log that begins anew", |s| {
                s.commit_idx == 1 && s.log_len == 1
            })
            .await;
        assert_ne!(status.state, NodeState::Leader);
        assert_eq!(stale(&config).len(), 1, "{:?}", stale(&config));

        // Amnesic, although the configuration says `bootstrap: new`.
        fake_a.dial(&witness.address).await;
        fake_b.dial(&witness.address).await;
        fake_b.ask_vote(3, id(41, 1));
        fake_a.append(1, id(1, 0), &[noop(2, 1)], 2);
        let answer = fake_a.answer().await;
        assert!(!answer.success, "{answer:?}");
        let voted = |m: &Message| matches!(m, Message::ResponseVote { .. });
        assert!(!fake_b.drain().iter().any(voted));
    });
}

#[test]
fn a_second_leader_of_our_last_term_shows_another_past() {
    // S13, H7: the data nodes forgot that `a` led term 17 with our help, and `b`
    // was elected in it without us. What we hold of that term is not what they
    // have committed in its place.
    run(async {
        let (_rig, witness, _fakes, config) = back_from_term_17(2, 1, 17).await;
        witness
            .shows("a log that begins anew", |s| {
                s.commit_idx == 1 && s.log_len == 1
            })
            .await;
        assert_eq!(stale(&config).len(), 1, "{:?}", stale(&config));
    });
}

#[test]
fn the_name_of_an_entry_proves_nothing() {
    // H7: index and term are those of our entries, and they are others all the
    // same. Until a leader has shown an entry it counts for nothing.
    run(async {
        let (_rig, witness, [a, b], _config) = back_from_term_17(2, 0, 17).await;
        a.dial(&witness.address).await;
        b.dial(&witness.address).await;
        a.append(17, id(4, 17), &[], 4);
        let answer = a.answer().await;
        assert!(answer.reset && answer.next == 3, "{answer:?}");
        let others = [3, 4].map(|i| Entry {
            command: set("/k", 5.0),
            ..noop(i, 17)
        });
        a.append(17, id(2, 17), &others, 4);
        let answer = a.answer().await;
        assert!(answer.success && answer.next == 5, "{answer:?}");
        a.append(17, id(4, 17), &[noop(5, 17)], 4);
        let answer = a.answer().await;
        assert!(answer.success && answer.next == 6, "{answer:?}");
        assert_eq!(witness.status().await.unwrap().log_len, 5);
        assert!(witness.logged("stale").is_empty());

        // Another leader, or the same one on another connection, shows it anew.
        for node in [&a, &b] {
            lived(node, &b.address, 18, 40);
        }
        b.append(18, id(5, 17), &[], 4);
        let answer = b.answer().await;
        assert!(answer.reset && answer.next == 5, "{answer:?}");
        b.append(18, id(4, 17), &[noop(5, 17), noop(6, 18)], 4);
        assert!(b.answer().await.success);
        b.hang_up();
        b.dial(&witness.address).await;
        b.append(18, id(6, 18), &[], 4);
        let answer = b.answer().await;
        assert!(answer.reset && answer.next == 5, "{answer:?}");
        // What is committed needs no showing.
        b.append(18, id(4, 17), &[], 4);
        assert!(b.answer().await.success);
    });
}

#[test]
fn a_past_that_peers_leave_while_we_watch_is_set_aside() {
    // S13, H7: both data nodes restart under our eyes, without their terms, and
    // commit more than we hold before we hear of a leader that we can follow.
    run(async {
        let rig = Rig::new();
        let [w, a, b] = addresses();
        let all = [&w, &a, &b];
        let (fake_a, fake_b) = (Fake::listen(&a, &all).await, Fake::listen(&b, &all).await);
        let witness = rig.start(rig.voter(&w, &[&a, &b])).await;
        fake_a.dial(&w).await;
        fake_b.dial(&w).await;
        let log = [noop(2, 16), noop(3, 16), noop(4, 16), noop(5, 17)];
        until("success", async || {
            fake_a.append(17, id(1, 0), &log, 3);
            fake_a.answer().await.success
        })
        .await;

        // A leader of term 16 that was paused knows of a commit that we have not
        // heard of. Our log holds it: this is no other past.
        fake_b.append(16, id(4, 16), &[], 4);
        fake_b.drain();
        fake_a.append(17, id(5, 17), &[], 3);
        assert!(fake_a.answer().await.success);
        assert!(witness.logged("stale").is_empty());

        for fake in [&fake_a, &fake_b] {
            fake.hang_up();
            fake.dial(&w).await;
            fake.drain();
        }
        fake_a.append(1, id(5, 17), &[noop(6, 1)], 4);
        fake_a.append(1, id(6, 1), &[], 6);
        witness
            .shows("a log that begins anew", |s| {
                s.commit_idx == 1 && s.log_len == 1
            })
            .await;
    });
}
