//! S1, S7: what was promised is remembered over a restart, and when it cannot
//! be, nothing is promised.

use std::rc::Rc;

use pg_witness::address::Address;
use pg_witness::config::{ClusterConfig, Timing};
use pg_witness::ids::EntryId;
use pg_witness::wire::message::Message;

use crate::fake::{Fake, fresh_status, id, noop};
use crate::rig::{LIMIT, Rig, Running, addresses, quick, run, until};

/// A witness that votes and never campaigns, and two nodes.
struct World {
    rig: Rig,
    config: ClusterConfig,
    a: Rc<Fake>,
    b: Rc<Fake>,
}

impl World {
    async fn new() -> Self {
        let rig = Rig::new();
        let [w, a, b]: [Address; 3] = addresses();
        let all = [&w, &a, &b];
        let (fake_a, fake_b) = (Fake::listen(&a, &all).await, Fake::listen(&b, &all).await);
        let timing = Timing {
            min_timeout: LIMIT * 2,
            max_timeout: LIMIT * 3,
            ..quick()
        };
        Self {
            config: ClusterConfig {
                timing,
                ..rig.voter(&w, &[&a, &b])
            },
            rig,
            a: fake_a,
            b: fake_b,
        }
    }

    async fn start(&self) -> Running {
        let witness = self.rig.start(self.config.clone()).await;
        for node in [&self.a, &self.b] {
            node.hang_up();
            node.dial(&witness.address).await;
            node.drain();
        }
        witness
    }
}

/// Asks for votes of these terms, again and again, for the first may come before
/// the witness knows its peers. Returns the first vote that comes: what is asked
/// first is answered first.
async fn first_vote(node: &Fake, terms: &[u64], last: EntryId) -> u64 {
    let mut vote = None;
    until("a vote", async || {
        for term in terms {
            node.ask_vote(*term, last);
        }
        vote = node.drain().into_iter().find_map(|message| match message {
            Message::ResponseVote { term } => Some(term.get()),
            _ => None,
        });
        vote.is_some()
    })
    .await;
    vote.unwrap()
}

#[test]
fn a_vote_is_remembered() {
    // S1, H23: one vote a term, whoever asks, and over a restart.
    run(async {
        let world = World::new().await;
        let witness = world.start().await;
        assert_eq!(first_vote(&world.a, &[5], id(1, 0)).await, 5);
        assert_eq!(first_vote(&world.b, &[5, 6], id(1, 0)).await, 6);
        witness.stop().await;

        let witness = world.start().await;
        assert_eq!(first_vote(&world.a, &[5, 6, 7], id(1, 0)).await, 7);
        witness.stop().await;
    });
}

#[test]
fn a_damaged_state_is_no_new_one() {
    // S7: it was a state once; what was promised in it only an operator can
    // give up, not a configuration that still says `bootstrap: new`.
    run(async {
        let world = World::new().await;
        let witness = world.start().await;
        until("success", async || {
            world.a.append(3, id(1, 0), &[noop(2, 3)], 1);
            world.a.answer().await.success
        })
        .await;
        witness.stop().await;

        // The nodes are none that have just been made.
        for node in [&world.a, &world.b] {
            let mut status = fresh_status(&node.address);
            (status.commit_idx, status.log_len) = (2, 2);
            *node.status.borrow_mut() = Some(status);
        }
        for name in ["log-a", "log-b"] {
            let path = world.config.data_dir.join(name);
            let length = std::fs::metadata(&path).unwrap().len();
            std::fs::write(path, vec![0xff; usize::try_from(length).unwrap()]).unwrap();
        }
        let witness = world.start().await;
        for _ in 0..5 {
            world.a.append(3, id(1, 0), &[noop(2, 3)], 1);
            let answer = world.a.answer().await;
            assert!(!answer.reset && !answer.success, "{answer:?}");
        }
        witness.stop().await;
    });
}
