//! The rule, and the way of a vote out of the group and back, as tables.

use super::*;
use crate::election::testing::{address, addresses};

const AFTER: Duration = Duration::from_secs(600);

#[test]
fn canonicals_rule() {
    let wanted = (0..9).filter(|data| is_wanted(*data));
    assert_eq!(wanted.collect::<Vec<_>>(), [0, 1, 2, 4, 6, 8]);
}

/// The members by name; W is us, V another witness.
fn group(members: &str, leader: &str) -> Group {
    Group {
        leader: address(leader),
        members: addresses(members).into_iter().collect(),
        witnesses: addresses("V").into_iter().collect(),
    }
}

fn settled(members: &str, leader: &str, term: u64, link: u64) -> Settled {
    let others = addresses(members)
        .into_iter()
        .filter(|a| *a != address("W"));
    Settled {
        led: (address(leader), Term::new(term).unwrap()),
        links: others.map(|other| (other, link)).collect(),
        members: addresses(members).into_iter().collect(),
    }
}

/// A look: `members leader term link` or what speaks against it.
fn listed(auto: &mut AutoVote, seen: &str, bad: Option<Obstacle>, now: Instant) -> WithdrawalStep {
    let words: Vec<&str> = seen.split('/').collect();
    let [members, leader, term, link] = words[..] else {
        panic!("{seen}");
    };
    let all = settled(
        members,
        leader,
        term.parse().unwrap(),
        link.parse().unwrap(),
    );
    let found = bad.map_or(Ok(all), Err);
    match auto.on_listed(&group(members, leader), &address("W")) {
        true => auto.on_settled(found, &address("W"), AFTER, now),
        false => WithdrawalStep::Wait,
    }
}

/// Each row: seconds, the group (members, leader, term, connections), whether
/// something is wrong, and what follows.
#[test]
fn a_vote_is_withdrawn_when_all_has_been_well_for_long() {
    use WithdrawalStep::{AskRemoval, StepDown, Wait};
    let start = Instant::now();
    let mut auto = AutoVote::default();
    let gone = || Some(Obstacle::NotConnected(address("C")));
    for (second, seen, bad, step) in [
        // Two data nodes: for ever.
        (0, "A B W/A/1/1", None, Wait),
        (900, "A B W/A/1/1", None, Wait),
        // A third.
        (1_000, "A B C W/A/1/1", None, Wait),
        (1_599, "A B C W/A/1/1", None, Wait),
        // A connection that was made anew.
        (1_600, "A B C W/A/1/2", None, Wait),
        (2_199, "A B C W/A/1/2", None, Wait),
        // A new leader; the same in a later term.
        (2_200, "A B C W/B/2/2", None, Wait),
        (2_800, "A B C W/B/3/2", None, Wait),
        // A member is missing for a moment.
        (3_399, "A B C W/B/3/2", gone(), Wait),
        (3_400, "A B C W/B/3/2", None, Wait),
        // We lead, and nobody takes it over.
        (3_500, "A B C W/W/4/2", None, Wait),
        (4_099, "A B C W/W/4/2", None, Wait),
        (4_100, "A B C W/W/4/2", None, StepDown),
        (4_101, "A B C W/A/5/2", None, Wait),
        // Four are even, and with a witness beside them still.
        (4_200, "A B C D W/A/5/2", None, Wait),
        (9_000, "A B C D W/A/5/2", None, Wait),
        (9_001, "A B C D V W/A/5/2", None, Wait),
        (9_901, "A B C D V W/A/5/2", None, Wait),
        // Three and two witnesses.
        (10_000, "A B C V W/A/5/2", None, Wait),
        (10_600, "A B C V W/A/5/2", None, AskRemoval),
        // It was not done: once more, after as long.
        (10_601, "A B C V W/A/5/2", None, Wait),
        (10_602, "A B C V W/A/5/2", None, Wait),
        (11_201, "A B C V W/A/5/2", None, Wait),
        (11_202, "A B C V W/A/5/2", None, AskRemoval),
    ] {
        let now = start + Duration::from_secs(second);
        assert_eq!(
            listed(&mut auto, seen, bad, now),
            step,
            "{second} s: {seen}"
        );
    }
    assert!(!auto.is_at_rest());
}

/// Each row: the members without us, whether that is committed, and what follows:
/// are we outside, and why is no vote wanted.
#[test]
fn outside_the_rule_alone_says_whether_it_asks() {
    use WithdrawalStep::{AskAdd, Wait};
    let mut auto = AutoVote::default();
    let start = Instant::now();
    listed(&mut auto, "A B C W/A/1/1", None, start);
    listed(&mut auto, "A B C W/A/1/1", None, start + AFTER);
    for (members, commits, step, outside, withdrawn) in [
        ("A B C", false, Wait, false, None),
        ("A B C", true, Wait, true, Some(3)),
        ("A B C V", true, Wait, true, Some(3)),
        ("A B", false, Wait, true, Some(3)),
        ("A B", true, AskAdd, true, None),
        ("A B", true, AskAdd, true, None),
        ("A B C D", true, AskAdd, true, None),
        ("A B C D E", true, Wait, true, Some(5)),
    ] {
        let group = group(members, "A");
        let found = auto.on_unlisted(&group, &address("W"), commits);
        assert_eq!(found, step, "{members} {commits}");
        assert_eq!(auto.is_outside(), outside, "{members} {commits}");
        assert_eq!(auto.withdrawn((true, 9)), withdrawn, "{members} {commits}");
        assert_eq!(
            auto.is_at_rest(),
            outside && withdrawn.is_some() && step == Wait
        );
    }
    auto.enters();
    assert!(!auto.is_outside());
}

/// H16: who was removed by hand though its vote is wanted stays outside, until the
/// rule has once wanted no vote; a restart forgets it.
#[test]
fn a_removal_by_hand_is_respected() {
    use WithdrawalStep::{AskAdd, Wait};
    let me = address("W");
    let mut auto = AutoVote::default();
    listed(&mut auto, "A B W/A/1/1", None, Instant::now());
    for (members, step) in [
        ("A B", Wait),
        ("A B", Wait),
        ("A", Wait),
        ("A B C", Wait),
        ("A B", AskAdd),
    ] {
        let found = auto.on_unlisted(&group(members, "A"), &me, true);
        assert_eq!(found, step, "{members}");
    }
    let mut restarted = AutoVote::default();
    assert_eq!(restarted.on_unlisted(&group("A B", "A"), &me, true), AskAdd);
}

/// Whoever lists us while nobody leads may need our vote.
#[test]
fn without_a_leader_a_member_that_lists_us_is_one_of_ours() {
    for (listed, outside) in [(false, true), (true, false)] {
        let mut auto = AutoVote::default();
        auto.on_unlisted(&group("A B C", "A"), &address("W"), true);
        auto.on_no_leader(listed);
        assert_eq!(auto.is_outside(), outside);
    }
}

/// A start: what the log says holds until a leader has said more.
#[test]
fn before_the_first_look_the_log_says_whether_it_withdrew() {
    let auto = AutoVote::default();
    for (log, withdrawn) in [
        ((true, 3), None),
        ((false, 3), Some(3)),
        ((false, 2), None),
        ((false, 4), None),
    ] {
        assert_eq!(auto.withdrawn(log), withdrawn, "{log:?}");
    }
    assert!(!auto.is_at_rest());
}

#[test]
fn it_says_why_it_waits_and_how_long() {
    let start = Instant::now();
    let mut auto = AutoVote::default();
    let (seen, half) = ("A B C W/A/1/1", Duration::from_secs(300));
    listed(&mut auto, seen, None, start);
    assert_eq!((auto.unwanted(), auto.obstacle()), (Some(3), None));
    assert_eq!(auto.remaining(AFTER, start + half), Some(half));
    auto.on_no_leader(false);
    assert_eq!(auto.obstacle(), Some(&Obstacle::NoLeader));
    assert_eq!(auto.remaining(AFTER, start), None);
    let silent = Obstacle::Group(joining::JoinObstacle::Silent {
        member: address("C"),
        other: None,
        ourselves: false,
        leader: address("A"),
    });
    listed(&mut auto, seen, Some(silent), start);
    let told = auto.obstacle().map(ToString::to_string);
    assert_eq!(
        told.as_deref(),
        Some("the group expects C:2222, and nobody answers there")
    );
    listed(&mut auto, "A B C W/W/1/1", None, start);
    assert_eq!(auto.obstacle(), Some(&Obstacle::Leads));
}
