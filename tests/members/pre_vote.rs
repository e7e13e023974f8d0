//! Whoever does not hear the leader asks the others before it stands for election.

use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::limits;
use pg_witness::reactor::Instant;
use pg_witness::wire::message::Message;
use pg_witness::wire::utility::{PartnerStatus, StatusReply};

use crate::fake::{Fake, fresh_status, id, noop, term};
use crate::hostile::linked;
use crate::rig::{Rig, Running, addresses, quick, run, until};

/// The status of a node that knows the witness, and a leader of term `of`.
fn says(node: &Fake, witness: &Running, leader: &Fake, of: u64) -> StatusReply {
    StatusReply {
        raft_term: term(of),
        leader: Some(leader.address.clone()),
        partners: vec![PartnerStatus {
            address: witness.address.clone(),
            connected: true,
            next: None,
            matched: None,
        }],
        ..fresh_status(&node.address)
    }
}

/// A witness that follows `a` in term 1, as `b` says to do.
async fn following(rig: &Rig, addresses: &[Address; 3]) -> (Running, Rc<Fake>, Rc<Fake>) {
    let (witness, a, b) = linked(rig, addresses).await;
    // Before it may campaign by itself: nobody sends heartbeats here.
    *b.status.borrow_mut() = Some(says(&b, &witness, &a, 1));
    until("success", async || {
        a.append(1, id(1, 0), &[noop(2, 1)], 2);
        a.answer().await.success
    })
    .await;
    (witness, a, b)
}

fn vote_request(message: &Message) -> Option<u64> {
    match message {
        Message::RequestVote { term, .. } => Some(term.get()),
        _ => None,
    }
}

#[test]
fn a_leader_that_the_others_hear_is_not_unseated() {
    run(async {
        let rig = Rig::new();
        let (witness, a, b) = following(&rig, &addresses()).await;
        b.drain();
        a.hang_up();
        // Several of our own timeouts, and of its patience with a leader that does
        // nothing: this one commits.
        let began = Instant::now();
        let mut asked = b.asked.get();
        let mut questions = 0;
        while questions < 5 || began.elapsed() < limits::ELSEWHERE_PATIENCE {
            until("to be asked", async || b.asked.get() > asked).await;
            asked = b.asked.get();
            questions += 1;
            b.status.borrow_mut().as_mut().unwrap().commit_idx += 1;
            let said = b.drain();
            assert!(said.iter().all(|m| vote_request(m).is_none()), "{said:?}");
        }
        assert_eq!(witness.status().await.unwrap().raft_term, term(1));
        // It is gone for the others as well.
        b.status.borrow_mut().as_mut().unwrap().leader = None;
        assert_eq!(b.next("a vote request", vote_request).await, 2);
    });
}

#[test]
fn a_link_on_which_a_leader_sends_nothing_is_made_anew() {
    run(async {
        let rig = Rig::new();
        // The witness dials: the leader has taken another connection for the last one of
        // the witness, and that has ended.
        let [a, b, me] = addresses();
        let a = Fake::listen(&a, &[&a, &b, &me]).await;
        let b = Fake::listen(&b, &[&a.address, &b, &me]).await;
        let witness = rig.start(rig.voter(&me, &[&a.address, &b.address])).await;
        a.linked().await;
        b.linked().await;
        *a.status.borrow_mut() = Some(says(&a, &witness, &a, 1));
        let (links, idle) = (a.links.get(), b.links.get());
        until("another link to the leader", async || {
            a.status.borrow_mut().as_mut().unwrap().commit_idx += 1;
            a.links.get() > links
        })
        .await;
        assert_eq!(b.links.get(), idle, "who does not lead may be silent");
    });
}

#[test]
fn a_leader_that_commits_nothing_is_not_respected_without_end() {
    run(async {
        let rig = Rig::new();
        let (_witness, a, b) = following(&rig, &addresses()).await;
        b.drain();
        let began = Instant::now();
        a.hang_up();
        b.next("a vote request", vote_request).await;
        assert!(began.elapsed() >= limits::ELSEWHERE_PATIENCE);
    });
}

#[test]
fn two_leaders_named_in_turn_are_not_respected_without_end() {
    run(async {
        let rig = Rig::new();
        let here = addresses::<4>();
        let trio = [here[0].clone(), here[1].clone(), here[2].clone()];
        let (_witness, a, b) = following(&rig, &trio).await;
        b.drain();
        let began = Instant::now();
        a.hang_up();
        until("a vote request", async || {
            let leader = &here[if b.asked.get() % 2 == 0 { 1 } else { 3 }];
            b.status.borrow_mut().as_mut().unwrap().leader = Some(leader.clone());
            b.drain().iter().any(|m| vote_request(m).is_some())
        })
        .await;
        assert!(began.elapsed() >= limits::ELSEWHERE_PATIENCE);
    });
}

#[test]
fn a_leader_of_an_earlier_term_cannot_lead_us() {
    run(async {
        let rig = Rig::new();
        let (witness, a, b) = following(&rig, &addresses()).await;
        a.hang_up();
        witness.loses(&a.address).await;
        // A candidate that does not win has taken us into its term.
        b.ask_vote(5, id(2, 1));
        let voted =
            |message: &Message| matches!(message, Message::ResponseVote { .. }).then_some(());
        b.next("our vote", voted).await;
        let began = Instant::now();
        assert!(b.next("a vote request", vote_request).await > 5);
        assert!(began.elapsed() < limits::ELSEWHERE_PATIENCE);
    });
}

#[test]
fn a_leader_that_we_do_not_follow_is_not_respected() {
    // E3: nodes that forget their term reach one in which we followed another.
    run(async {
        let rig = Rig::new();
        let (witness, a, b) = following(&rig, &addresses()).await;
        b.append(5, id(2, 1), &[], 2);
        witness
            .shows("b as its leader", |status| {
                status.leader.as_ref() == Some(&b.address)
            })
            .await;
        b.hang_up();
        *a.status.borrow_mut() = Some(says(&a, &witness, &a, 5));
        let began = Instant::now();
        until("a vote request", async || {
            a.append(5, id(1, 0), &[], 1);
            a.status.borrow_mut().as_mut().unwrap().commit_idx += 1;
            a.drain().iter().any(|m| vote_request(m) > Some(5))
        })
        .await;
        assert!(began.elapsed() < limits::ELSEWHERE_PATIENCE);
    });
}

#[test]
fn who_is_handed_the_leadership_asks_nobody() {
    // Spec 5.7
    run(async {
        let rig = Rig::new();
        let (_witness, a, b) = following(&rig, &addresses()).await;
        b.drain();
        let began = Instant::now();
        // Only of a leader that it has just heard.
        a.append(1, id(2, 1), &[], 2);
        a.send(&Message::TimeoutNow { term: term(1) });
        assert_eq!(b.next("a vote request", vote_request).await, 2);
        assert!(began.elapsed() < limits::ELSEWHERE_PATIENCE);
    });
}

/// A first campaign of a node that does not hear the leader: PySyncObj raises its
/// term and asks, and idle logs are equally long.
#[test]
fn whoever_does_not_hear_the_leader_gets_no_vote_while_we_do() {
    run(async {
        let rig = Rig::new();
        let (witness, a, b) = following(&rig, &addresses()).await;
        let voted = |message: &Message| matches!(message, Message::ResponseVote { .. });
        let began = Instant::now();
        let mut above = 1;
        while began.elapsed() < Duration::from_secs(3) {
            a.append(1, id(2, 1), &[], 2);
            above += 1;
            b.ask_vote(above, id(2, 1));
            a.answer().await;
            assert!(!b.drain().iter().any(voted), "a vote beside a leader");
            pg_witness::reactor::Timer::after(quick().append_entries_period).await;
        }
        let status = witness.status().await.unwrap();
        assert_eq!(status.leader.as_ref(), Some(&a.address));
        assert_eq!(status.raft_term, term(1));
        // With the leader gone it is the candidate that we know.
        a.hang_up();
        until("a vote", async || {
            above += 1;
            b.ask_vote(above, id(2, 1));
            b.drain().iter().any(voted)
        })
        .await;
    });
}

/// The leader may live on and say nothing (SIGSTOP): no link is lost.
#[test]
fn a_silent_leader_is_no_leader_soon() {
    run(async {
        let rig = Rig::new();
        let (_witness, a, b) = following(&rig, &addresses()).await;
        let voted = |message: &Message| matches!(message, Message::ResponseVote { .. });
        a.append(1, id(2, 1), &[], 2);
        a.answer().await;
        let heard = Instant::now();
        let mut above = 1;
        until("a vote", async || {
            above += 1;
            b.ask_vote(above, id(2, 1));
            b.drain().iter().any(voted)
        })
        .await;
        assert!(
            heard.elapsed() < Duration::from_secs(2),
            "{:?}",
            heard.elapsed()
        );
        assert!(a.is_linked());
    });
}
