//! A member whose `add` is still on its way to the witness.

use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::config::{ClusterConfig, Election};
use pg_witness::ids::Entry;
use pg_witness::limits::{NEWCOMERS_ASKED_MAX, STATUS_TIME_MAX};
use pg_witness::wire::command;
use pg_witness::wire::message::{Message, NextNodeIdx};
use pg_witness::wire::utility::PartnerStatus;

use crate::fake::{Fake, fresh_status, id, noop, term};
use crate::rig::{Rig, Running, addresses, during, run, until};

/// What the witness logs when it accepts one.
const ACCEPTED: &str = "accepting a member whose add has not arrived";

/// Answers `status` as a node that lists these partners.
fn lists(fake: &Fake, partners: &[&Address]) {
    let mut status = fresh_status(&fake.address);
    status.raft_term = term(17);
    status.partners = partners
        .iter()
        .map(|address| PartnerStatus {
            address: (*address).clone(),
            connected: true,
            next: None,
            matched: None,
        })
        .collect();
    *fake.status.borrow_mut() = Some(status);
}

/// A witness that followed `a`, which is gone. Its log ends in entry 3 of term 17.
async fn left_behind(rig: &Rig, w: &Address, a: &Address, b: &Address) -> (Running, [Rc<Fake>; 2]) {
    let all = [w, a, b];
    let fakes = [Fake::listen(a, &all).await, Fake::listen(b, &all).await];
    // It shall not stand for election itself between a vote and what follows it.
    let config = ClusterConfig {
        election: Election::Reluctant,
        ..rig.voter(w, &[a, b])
    };
    let witness = rig.start(config).await;
    fakes[0].dial(w).await;
    until("success", async || {
        fakes[0].append(17, id(1, 0), &[noop(2, 17), noop(3, 17)], 3);
        fakes[0].answer().await.success
    })
    .await;
    (witness, fakes)
}

fn is_gone(fake: &Fake) {
    fake.hang_up();
    *fake.status.borrow_mut() = None;
}

fn is_vote(message: &Message) -> bool {
    matches!(message, Message::ResponseVote { .. })
}

/// Dials and stands for election as PySyncObj does, in each term from 18 on, and once
/// elected sends what the witness lacks: entry 4, which adds it.
async fn is_elected_and_followed(newcomer: &Rc<Fake>, dials: Option<&Address>, witness: &Running) {
    let add = added(&newcomer.address);
    let mut t = 18;
    until("a success", async || {
        if !newcomer.is_linked() {
            if let Some(witness) = dials {
                newcomer.dial(witness).await;
            }
            return false;
        }
        newcomer.ask_vote(t, id(4, 17));
        t += 1;
        pg_witness::reactor::Timer::after(Duration::from_millis(50)).await;
        for message in newcomer.drain() {
            match message {
                Message::ResponseVote { term } if newcomer.is_linked() => {
                    let t = term.get();
                    newcomer.append(t, id(3, 17), &[add.clone(), noop(5, t)], 3);
                }
                Message::NextNodeIdx(NextNodeIdx { success: true, .. }) => return true,
                _ => {}
            }
        }
        false
    })
    .await;
    assert!(witness.members().await.contains(&newcomer.address));
}

fn added(address: &Address) -> Entry {
    Entry {
        command: command::membership(true, address),
        ..noop(4, 17)
    }
}

#[test]
fn a_candidate_whose_add_has_not_come_is_voted_for_and_followed() {
    // `c` was added while the witness was cut off; it holds more than `b`, which
    // could not be elected. `a` is gone.
    run(async {
        let rig = Rig::new();
        let [w, a, b, c] = addresses();
        let (witness, [fake_a, _b]) = left_behind(&rig, &w, &a, &b).await;
        is_gone(&fake_a);
        let newcomer = Fake::listen(&c, &[&w, &a, &b, &c]).await;
        lists(&newcomer, &[&w, &a, &b]);
        is_elected_and_followed(&newcomer, Some(&w), &witness).await;
        assert_eq!(witness.logged(ACCEPTED).len(), 1);
    });
}

#[test]
fn one_that_is_ours_to_dial_is_found_by_what_the_others_list() {
    run(async {
        let rig = Rig::new();
        let [c, b, w, a] = addresses();
        let (witness, [fake_a, fake_b]) = left_behind(&rig, &w, &a, &b).await;
        let newcomer = Fake::listen(&c, &[&w, &a, &b, &c]).await;
        lists(&newcomer, &[&w, &a, &b]);
        lists(&fake_b, &[&w, &a, &c]);
        is_gone(&fake_a);
        is_elected_and_followed(&newcomer, None, &witness).await;
    });
}

#[test]
fn one_that_lists_another_group_is_no_member() {
    // An address of another cluster, in whose list ours is too.
    run(async {
        let rig = Rig::new();
        let [w, a, b, c] = addresses();
        let (witness, [fake_a, _b]) = left_behind(&rig, &w, &a, &b).await;
        is_gone(&fake_a);
        let stranger = Fake::listen(&c, &[&w, &b, &c]).await;
        lists(&stranger, &[&w, &b]);
        stranger.dial(&w).await;
        stranger.ask_vote(90, id(9, 17));
        until("a refusal", async || !stranger.is_linked()).await;
        assert!(stranger.asked.get() > 0);
        assert!(!stranger.drain().iter().any(is_vote));
        assert_eq!(witness.logged("which is no member").len(), 1);
        assert!(witness.logged(ACCEPTED).is_empty());
    });
}

#[test]
fn who_names_any_address_has_few_of_them_dialled() {
    // S16: no address of a hello answers, and each would be dialled.
    run(async {
        let rig = Rig::new();
        let [w, a, b, named @ ..] = addresses::<15>();
        let (_witness, [fake_a, _b]) = left_behind(&rig, &w, &a, &b).await;
        is_gone(&fake_a);
        let mut strangers = Vec::new();
        for address in &named {
            let stranger = Fake::listen(address, &[]).await;
            *stranger.status.borrow_mut() = None;
            stranger.dial(&w).await;
            strangers.push(stranger);
        }
        let asked = || strangers.iter().filter(|s| s.asked.get() > 0).count();
        until("questions", async || asked() == NEWCOMERS_ASKED_MAX).await;
        // As long as the first of them is waited for.
        during(STATUS_TIME_MAX / 2, async || {
            assert_eq!(asked(), NEWCOMERS_ASKED_MAX);
        })
        .await;
    });
}

#[test]
fn as_long_as_a_leader_is_heard_its_add_is_waited_for() {
    run(async {
        let rig = Rig::new();
        let [w, a, b, c] = addresses();
        let (witness, [fake_a, _b]) = left_behind(&rig, &w, &a, &b).await;
        let newcomer = Fake::listen(&c, &[&w, &a, &b, &c]).await;
        lists(&newcomer, &[&w, &a, &b]);
        newcomer.dial(&w).await;
        newcomer.ask_vote(18, id(4, 17));
        during(Duration::from_secs(3), async || {
            fake_a.append(17, id(3, 17), &[], 3);
            assert!(!newcomer.drain().iter().any(is_vote));
        })
        .await;
        assert!(witness.logged(ACCEPTED).is_empty());
        newcomer.hang_up();
        newcomer.dial(&w).await;
        fake_a.append(17, id(3, 17), &[added(&c)], 3);
        until("a member", async || witness.members().await.contains(&c)).await;
        fake_a.hang_up();
        is_elected_and_followed(&newcomer, Some(&w), &witness).await;
        assert!(witness.logged(ACCEPTED).is_empty());
    });
}
