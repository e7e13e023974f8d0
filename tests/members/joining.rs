//! S7 and S17 on the wire: who answers is who was asked, a new cluster is founded
//! by proof alone, and a newcomer costs the group nothing.

use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::config::{Bootstrap, ClusterConfig};
use pg_witness::reason::Reason;
use pg_witness::wire::message::{ApplyOutcome, Message};
use pg_witness::wire::utility::NodeState;

use crate::amnesia::lived;
use crate::fake::{Fake, fresh_status, id, noop, set, term};
use crate::rig::{Rig, Running, addresses, during, leader_of, run, until};

const VOTER: &str = "this witness is a voter now";

async fn pair(here: &[Address; 3]) -> [Rc<Fake>; 2] {
    let [w, a, b] = here;
    let all = [w, a, b];
    [Fake::listen(a, &all).await, Fake::listen(b, &all).await]
}

/// Asks for a vote in each term from `from` on until one is given; its term.
async fn first_vote(fake: &Fake, from: u64, last: (u64, u64)) -> u64 {
    let mut t = from;
    let mut given = None;
    until("a vote", async || {
        fake.ask_vote(t, id(last.0, last.1));
        pg_witness::reactor::Timer::after(Duration::from_millis(200)).await;
        given = fake.drain().into_iter().find_map(|m| match m {
            Message::ResponseVote { term } => Some(term.get()),
            _ => None,
        });
        t += 1;
        given.is_some()
    })
    .await;
    given.unwrap()
}

async fn no_vote(fake: &Fake, from: u64, last: (u64, u64), time: Duration) {
    let mut t = from;
    during(time, async || {
        fake.ask_vote(t, id(last.0, last.1));
        t += 1;
        pg_witness::reactor::Timer::after(Duration::from_millis(50)).await;
        let voted = |m: &Message| matches!(m, Message::ResponseVote { .. });
        assert!(!fake.drain().iter().any(voted));
    })
    .await;
}

#[test]
fn an_answer_of_another_proves_nothing() {
    // S7: `b`'s address leads to `a` for a while; `b` holds what `a` lacks.
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let [a, b] = pair(&here).await;
        *b.status.borrow_mut() = Some(fresh_status(&a.address));
        let witness = rig.start(rig.config(&here[0], &[&here[1], &here[2]])).await;
        until("a line", async || {
            let said = format!("{} is answered by {}", b.address, a.address);
            witness.logged(&said).len() == 1
        })
        .await;
        a.dial(&here[0]).await;
        no_vote(&a, 3, (1, 0), Duration::from_secs(3)).await;
        assert!(witness.logged(VOTER).is_empty());

        *b.status.borrow_mut() = Some(fresh_status(&b.address));
        first_vote(&a, 500, (1, 0)).await;
        assert_eq!(witness.logged("is answered by").len(), 1);
    });
}

#[test]
fn a_good_log_outlives_the_answer_of_another_cluster() {
    // S13: at `a`'s address a node of another, younger cluster answers.
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let [a, b] = pair(&here).await;
        let config = rig.voter(&here[0], &[&here[1], &here[2]]);
        let witness = rig.start(config.clone()).await;
        b.dial(&here[0]).await;
        until("success", async || {
            b.append(17, id(1, 0), &[noop(2, 17), noop(3, 17)], 3);
            b.answer().await.success
        })
        .await;
        witness.stop().await;

        let other: Address = "127.0.0.1:1".parse().unwrap();
        lived(&a, &a.address, 1, 40);
        a.status.borrow_mut().as_mut().unwrap().this = Some(other);
        let witness = rig.start(config).await;
        until("a line", async || {
            !witness.logged("is answered by 127.0.0.1:1").is_empty()
        })
        .await;
        assert_eq!(witness.status().await.unwrap().log_len, 3);
        assert!(
            witness
                .logged("history that the cluster has replaced")
                .is_empty()
        );
    });
}

#[test]
fn a_first_node_and_the_witness_found_a_cluster() {
    // S7 b: `b` never ran, its host is up. Its vote of the term shown is spent.
    run(async {
        let rig = Rig::new();
        let [w, a, b] = addresses();
        let fake = Fake::listen(&a, &[&w, &a, &b]).await;
        let mut status = fresh_status(&a);
        status.raft_term = term(5);
        *fake.status.borrow_mut() = Some(status);
        let config = ClusterConfig {
            bootstrap: Bootstrap::New,
            ..rig.config(&w, &[&a, &b])
        };
        let witness = rig.start(config.clone()).await;
        until("a voter", async || !witness.logged(VOTER).is_empty()).await;
        let said = format!("founded with {a}; {b} refused connections");
        assert_eq!(
            witness.logged(&said).len(),
            1,
            "{:?}",
            witness.logged(VOTER)
        );
        // Its engine begins anew with that term.
        until("the state", async || {
            witness.logged("state found, term 5").len() == 1
        })
        .await;
        fake.dial(&w).await;
        assert_eq!(first_vote(&fake, 5, (1, 0)).await, 6);
        witness.stop().await;

        let witness = rig.start(config).await;
        assert!(witness.logged(VOTER).len() == 1);
        fake.dial(&w).await;
        assert_eq!(first_vote(&fake, 6, (1, 0)).await, 7);
    });
}

#[test]
fn with_bootstrap_join_all_must_answer() {
    run(async {
        let rig = Rig::new();
        let [w, a, b] = addresses();
        let fake = Fake::listen(&a, &[&w, &a, &b]).await;
        let config = ClusterConfig {
            bootstrap: Bootstrap::Join,
            ..rig.config(&w, &[&a, &b])
        };
        let witness = rig.start(config).await;
        fake.dial(&w).await;
        no_vote(&fake, 1, (1, 0), Duration::from_secs(3)).await;
        let _second = Fake::listen(&b, &[&w, &a, &b]).await;
        first_vote(&fake, 500, (1, 0)).await;
        assert_eq!(witness.logged("every member is new").len(), 1);
    });
}

#[test]
fn bootstrap_new_on_a_replaced_card_proves_nothing() {
    // S7: the old card is lost; the new one still says `bootstrap: new`. `b` lacks
    // what `a` and the lost card have committed.
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let [a, b] = pair(&here).await;
        lived(&a, &a.address, 5, 600);
        lived(&b, &a.address, 5, 600);
        let config = ClusterConfig {
            bootstrap: Bootstrap::New,
            ..rig.config(&here[0], &[&here[1], &here[2]])
        };
        let witness = rig.start(config).await;
        b.dial(&here[0]).await;
        no_vote(&b, 6, (590, 5), Duration::from_secs(3)).await;
        assert!(witness.logged(VOTER).is_empty());
    });
}

#[test]
fn under_an_address_that_nobody_expects_it_does_not_ask() {
    // S17: the group of `a` and `b` expects a third member that is not there. A
    // fourth would make it four of whom two are away.
    run(async {
        let rig = Rig::new();
        let [expected, w, a, b] = addresses();
        let all = [&expected, &a, &b];
        let (fake_a, fake_b) = (Fake::listen(&a, &all).await, Fake::listen(&b, &all).await);
        lived(&fake_a, &a, 5, 6);
        lived(&fake_b, &a, 5, 6);
        let witness = rig.start(rig.config(&w, &[&a, &b])).await;
        until("a line", async || !witness.logged("not asking").is_empty()).await;
        let lines = witness.logged("not asking to be added");
        let remove = format!("raft remove {a} {expected}");
        assert!(lines[0].contains("set self_addr to it"), "{lines:?}");
        assert!(lines[0].contains(&remove), "{lines:?}");
        assert_eq!(witness.member.reason(), Some(Reason::NoMember));
        assert!(witness.member.unready().unwrap().contains(&remove));
        during(Duration::from_secs(3), async || {
            assert!(fake_a.added.borrow().is_empty() && fake_b.added.borrow().is_empty());
        })
        .await;
        assert_eq!(witness.logged("not asking").len(), 1);

        // The operator removes it.
        for fake in [&fake_a, &fake_b] {
            fake.members
                .borrow_mut()
                .retain(|member| *member != expected);
        }
        until("a request", async || *fake_a.added.borrow() == [w.clone()]).await;
    });
}

#[test]
fn one_that_was_removed_does_not_ask_to_be_added_back() {
    // H16: the witness follows `a`, and is removed before it has seen its own name
    // among the members. A group tells nobody that it was removed.
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let [w, a, b] = &here;
        let fakes = pair(&here).await;
        let config = rig.voter(w, &[a, b]);
        let witness = rig.start(config.clone()).await;
        // As long as nobody says that it leads there is nothing to look at.
        until("a look", async || fakes[0].looked_at.get() > 0).await;
        fakes[0].dial(w).await;
        until("success", async || {
            fakes[0].append(17, id(1, 0), &[noop(2, 17), noop(3, 17)], 3);
            fakes[0].answer().await.success
        })
        .await;
        for fake in &fakes {
            fake.members.borrow_mut().retain(|member| member != w);
            lived(fake, a, 17, 3);
        }
        let before = fakes[0].looked_at.get();
        until("a look", async || fakes[0].looked_at.get() > before).await;
        during(Duration::from_secs(3), async || {
            assert!(fakes.iter().all(|fake| fake.added.borrow().is_empty()));
        })
        .await;
        witness.stop().await;

        // Started again it asks: nothing but what it remembered spoke against it.
        let _again = rig.start(config).await;
        until("a request", async || {
            *fakes[0].added.borrow() == [w.clone()]
        })
        .await;
    });
}

#[test]
fn a_leader_that_does_not_commit_is_not_asked() {
    // S17
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let [w, a, b] = &here;
        let all = [a, b];
        let (fake_a, fake_b) = (Fake::listen(a, &all).await, Fake::listen(b, &all).await);
        lived(&fake_a, a, 5, 6);
        lived(&fake_b, a, 5, 6);
        fake_a.status.borrow_mut().as_mut().unwrap().log_len = 9;
        let witness = rig.start(rig.config(w, &[a, b])).await;
        until("a line", async || {
            !witness.logged("leads and does not commit").is_empty()
        })
        .await;
        assert!(fake_a.added.borrow().is_empty());
        fake_a.status.borrow_mut().as_mut().unwrap().commit_idx = 9;
        until("a request", async || !fake_a.added.borrow().is_empty()).await;
    });
}

async fn joins_a_group_of_one(rig: &Rig, first: &Address, second: &Address) -> [Running; 2] {
    let one = rig.start(rig.config(first, &[])).await;
    leader_of(&[&one]).await;
    let client = Fake::client(first).await;
    client.write(set("x", 60.0)).await;
    let joining = std::time::Instant::now();
    let two = rig.start(rig.config(second, &[first])).await;
    until("two members", async || one.members().await.len() == 2).await;
    // As Patroni does: refused, it tries again.
    let mut last = 0;
    until("a write", async || {
        match client.apply(set("y", 60.0)).await {
            ApplyOutcome::Appended(id) => {
                last = id.index.get();
                true
            }
            ApplyOutcome::Refused(_) => false,
        }
    })
    .await;
    two.shows("the entry", |s| s.commit_idx >= last).await;
    assert!(joining.elapsed() < Duration::from_secs(10));
    assert_eq!(two.logged("new member of the group").len(), 1);
    [one, two]
}

#[test]
fn a_group_of_one_takes_a_member_in() {
    // S7 c: the group cannot commit the `add` before the newcomer acknowledges it.
    run(async {
        let rig = Rig::new();
        let [low, high] = addresses();
        joins_a_group_of_one(&rig, &low, &high).await;
        let rig = Rig::new();
        let [low, high] = addresses();
        joins_a_group_of_one(&rig, &high, &low).await;
    });
}

#[test]
fn the_first_answer_of_a_leader_outlives_a_restart() {
    // S7 c: our removal is entry 5 of `a`'s log. `b` was paused and sends the old
    // `add`, entry 3 of an older term.
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let [w, a, b] = &here;
        let all = [a, b];
        let (fake_a, fake_b) = (Fake::listen(a, &all).await, Fake::listen(b, &all).await);
        lived(&fake_a, a, 5, 5);
        // It does not commit, so that nobody asks.
        fake_a.status.borrow_mut().as_mut().unwrap().log_len = 7;
        lived(&fake_b, a, 5, 5);
        let config = rig.config(w, &[a, b]);
        let witness = rig.start(config.clone()).await;
        until("a line", async || !witness.logged("not asking").is_empty()).await;
        witness.stop().await;
        let witness = rig.start(config).await;
        fake_b.dial(w).await;
        let add = pg_witness::ids::Entry {
            command: pg_witness::wire::command::membership(true, w),
            ..noop(3, 4)
        };
        fake_b.append(4, id(1, 0), &[noop(2, 4), add], 3);
        assert!(!fake_b.answer().await.success);
        no_vote(&fake_b, 6, (9, 6), Duration::from_secs(2)).await;
        assert!(witness.logged(VOTER).is_empty());
    });
}

#[test]
fn a_frozen_leader_that_keeps_its_term_costs_no_log() {
    // S13: `a` of 0.3.17 leads term 5, has committed up to 4 and is frozen before
    // it can say so. The witness is elected in term 6. Then `a` thaws.
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let [a, b] = pair(&here).await;
        for fake in [&a, &b] {
            fake.status.borrow_mut().as_mut().unwrap().version = "0.3.17".into();
        }
        let witness = rig.start(rig.voter(&here[0], &[&here[1], &here[2]])).await;
        a.dial(&here[0]).await;
        b.dial(&here[0]).await;
        until("success", async || {
            a.append(5, id(1, 0), &[noop(2, 5), noop(3, 5), noop(4, 5)], 3);
            a.answer().await.success
        })
        .await;
        witness.shows("the commit", |s| s.commit_idx == 3).await;
        a.hang_up();
        lived(&a, &a.address, 5, 4);
        a.status.borrow_mut().as_mut().unwrap().version = "0.3.17".into();
        *b.plain.log.borrow_mut() = vec![noop(1, 0), noop(2, 5), noop(3, 5)];
        b.plain.answers.set(false);
        b.follow();
        witness
            .shows("itself as leader", |s| s.state == NodeState::Leader)
            .await;
        b.hang_up();
        let asked = a.asked.get();
        a.dial(&here[0]).await;
        until("a question", async || a.asked.get() > asked).await;
        during(Duration::from_secs(1), async || {
            assert!(
                witness
                    .logged("history that the cluster has replaced")
                    .is_empty()
            );
        })
        .await;
        assert!(witness.status().await.unwrap().log_len >= 4);
    });
}

#[test]
fn a_file_that_names_another_group_takes_the_vote() {
    // The witness was first given the addresses of the wrong cluster; the file was
    // mended. It votes in neither until somebody has decided.
    run(async {
        let rig = Rig::new();
        let here = addresses();
        let [a, b] = pair(&here).await;
        let [other] = addresses();
        let config = rig.voter(&here[0], &[&here[1], &here[2]]);
        let mended = ClusterConfig {
            partner_addrs: vec![other.clone()],
            ..config.clone()
        };
        let witness = rig.start(mended).await;
        a.dial(&here[0]).await;
        no_vote(&a, 1, (9, 1), Duration::from_secs(2)).await;
        assert_eq!(witness.member.reason(), Some(Reason::OtherGroup));
        let lines = witness.logged("other-group");
        assert!(lines[0].contains(" reset "), "{lines:?}");
        witness.stop().await;

        // A file that names one member and a stranger is only warned about.
        let mixed = ClusterConfig {
            partner_addrs: vec![a.address.clone(), other],
            ..config
        };
        let witness = rig.start(mixed).await;
        b.dial(&here[0]).await;
        first_vote(&b, 500, (9, 1)).await;
        assert_eq!(witness.logged("partner_addrs differs").len(), 1);
    });
}
