//! S15: a store that another leader lets grow beyond its quota costs the vote, not
//! the process, and ends by itself.

use std::sync::Arc;
use std::time::Duration;

use pg_witness::ids::Entry;
use pg_witness::limits::KV_BYTES_MAX;
use pg_witness::wire::message::Message;
use pg_witness::wire::snapshot::Snapshot;
use pg_witness::wire::{Value, command};

use crate::amnesia::lived;
use crate::fake::{Fake, id, noop, set_to};
use crate::hostile::linked;
use crate::rig::{Rig, Running, addresses, run, until};

/// An entry that sets a key to a text of this length.
fn large(i: u64, bytes: usize) -> Entry {
    Entry {
        command: set_to(&format!("/junk/{i}"), Value::str(&"x".repeat(bytes)), 60.0),
        ..noop(i, 5)
    }
}

fn delete_junk(i: u64) -> Entry {
    let Value::Str(key) = Value::str("/junk/") else {
        unreachable!()
    };
    let command: Arc<[u8]> = command::delete(&key, &[("recursive", Value::Bool(true))]);
    Entry {
        command,
        ..noop(i, 5)
    }
}

/// Stores an entry behind the last, committed.
async fn store(witness: &Running, leader: &Fake, entry: Entry) {
    let i = entry.id.index.get();
    let before = id(i - 1, if i == 2 { 0 } else { 5 });
    leader.append(5, before, &[entry], i);
    witness.shows("it stored", |s| s.last_applied == i).await;
}

async fn votes(a: &Fake, t: u64) -> bool {
    a.drain();
    a.ask_vote(t, id(1 << 40, t));
    pg_witness::reactor::Timer::after(Duration::from_millis(700)).await;
    a.drain()
        .iter()
        .any(|m| matches!(m, Message::ResponseVote { .. }))
}

#[test]
fn beyond_the_quota_no_vote_until_it_shrinks() {
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let (witness, a, b) = linked(&rig, &here).await;
        // Who does not vote asks how the others are.
        for fake in [&a, &b] {
            lived(fake, &a.address, 5, 7);
        }
        for i in 2..8 {
            store(&witness, &a, large(i, 1 << 20)).await;
        }
        until("the alarm", async || {
            !witness.logged("more than its quota").is_empty()
        })
        .await;
        assert!(!votes(&b, 20).await);
        witness.stop().await;
        // It starts with what it holds, and knows it.
        let witness = rig.start(rig.voter(&here[0], &[&here[1], &here[2]])).await;
        a.dial(&here[0]).await;
        b.dial(&here[0]).await;
        witness.shows("what it held", |s| s.last_applied == 7).await;
        assert!(!votes(&b, 21).await);
        until("success", async || {
            a.append(5, id(7, 5), &[delete_junk(8)], 8);
            a.answer().await.success
        })
        .await;
        until("its end", async || {
            !witness.logged("bytes again").is_empty()
        })
        .await;
        until("a vote", async || {
            votes(&b, 30).await || votes(&b, 31).await
        })
        .await;
    });
}

#[test]
fn beyond_the_most_only_a_snapshot_is_stored() {
    run(async {
        let rig = Rig::new();
        let (witness, a, b) = linked(&rig, &addresses()).await;
        for fake in [&a, &b] {
            lived(fake, &a.address, 5, 7);
        }
        let third = usize::try_from(KV_BYTES_MAX / 3).unwrap();
        for i in 2..5 {
            store(&witness, &a, large(i, third)).await;
        }
        // Refused, with the question for a snapshot, once; the link lives.
        let refusal = async || {
            a.append(5, id(4, 5), &[noop(5, 5)], 5);
            a.next("a refusal", |message| match message {
                Message::NextNodeIdx(reply) if !reply.success => Some(*reply),
                _ => None,
            })
            .await
        };
        let (first, second) = (refusal().await, refusal().await);
        assert!(first.reset && first.next == 5, "{first:?}");
        assert!(!second.reset, "{second:?}");
        assert_eq!(witness.status().await.unwrap().last_applied, 4);
        assert_eq!(witness.logged("nothing more is stored").len(), 1);
        let snapshot = Snapshot {
            data: Vec::new(),
            last: delete_junk(6),
            prev: noop(5, 5),
            members: witness.members().await,
        };
        a.snapshot(5, 6, &snapshot.encode());
        witness.shows("the snapshot", |s| s.last_applied == 6).await;
        store(&witness, &a, noop(7, 5)).await;
    });
}
