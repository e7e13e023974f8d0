//! S9: no message takes the terms to where nobody could be elected any more.

use std::time::Duration;

use pg_witness::limits::TERM_JUMP_MAX;
use pg_witness::wire::message::Message;

use crate::fake::{Fake, fresh_status, id, term};
use crate::hostile::linked;
use crate::rig::{Rig, addresses, run, until};

async fn await_vote(node: &Fake, of: u64) {
    until("a vote", async || {
        node.ask_vote(of, id(9, 1));
        pg_witness::reactor::Timer::after(Duration::from_millis(50)).await;
        node.drain().iter().any(is_vote)
    })
    .await;
}

fn is_vote(message: &Message) -> bool {
    matches!(message, Message::ResponseVote { .. })
}

#[test]
fn a_term_far_ahead_is_refused_and_costs_no_later_election() {
    run(async {
        let rig = Rig::new();
        let (witness, a, b) = linked(&rig, &addresses()).await;
        for far in [1 << 62, TERM_JUMP_MAX * 2] {
            if !a.is_linked() {
                a.dial(&witness.address).await;
            }
            a.ask_vote(far, id(9, 1));
            until("the link to end", async || !a.is_linked()).await;
        }
        assert!(witness.status().await.unwrap().raft_term < term(TERM_JUMP_MAX));
        await_vote(&b, TERM_JUMP_MAX).await;
    });
}

#[test]
fn a_group_whose_terms_are_far_ahead_is_followed() {
    // S18: somebody took the data nodes there, who believe whatever they are told.
    run(async {
        let rig = Rig::new();
        let (witness, a, b) = linked(&rig, &addresses()).await;
        let far = 1 << 62;
        for node in [&a, &b] {
            let mut status = fresh_status(&node.address);
            status.raft_term = term(far);
            (status.commit_idx, status.log_len) = (9, 9);
            *node.status.borrow_mut() = Some(status);
            node.hang_up();
            node.dial(&witness.address).await;
        }
        let mut of = far;
        until("a vote", async || {
            of += 1;
            for node in [&a, &b] {
                if !node.is_linked() {
                    node.dial(&witness.address).await;
                }
            }
            a.ask_vote(of, id(9, 1));
            pg_witness::reactor::Timer::after(Duration::from_millis(50)).await;
            a.drain().iter().any(is_vote)
        })
        .await;
    });
}
