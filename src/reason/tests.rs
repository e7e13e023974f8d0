//! Each reason, the evidence that it rests on, their order, and what is said of it.

use super::*;

/// A reason, and the evidence that it rests on.
type Ground = (Reason, fn(&mut Evidence));

/// One thing at a time, most urgent first: the order of precedence.
const ORDER: [Ground; 11] = [
    (Reason::DiskUnusable, |e| e.disk_unusable = true),
    (Reason::Diverged, |e| e.diverged = true),
    (Reason::OtherGroup, |e| e.other_group = true),
    (Reason::Orphaned, |e| e.orphaned = true),
    (Reason::StoreFull, |e| e.store_full = true),
    (Reason::NeverVotes, |e| e.never_votes = true),
    (Reason::SharedZone, |e| e.shares_zone = true),
    (Reason::NotWanted, |e| e.not_wanted = true),
    (Reason::NoMember, |e| e.no_member = true),
    (Reason::Recovering, |e| e.recovering = true),
    (Reason::Restarting, |e| e.restarting = true),
];

fn evidence(set: usize) -> Evidence {
    let mut evidence = Evidence::default();
    for (bit, (_, apply)) in ORDER.iter().enumerate() {
        if set & (1 << bit) != 0 {
            apply(&mut evidence);
        }
    }
    evidence
}

#[test]
fn of_all_that_holds_the_first_is_said() {
    for set in 0..1_usize << ORDER.len() {
        let first = ORDER.get(set.trailing_zeros() as usize);
        assert_eq!(reason(&evidence(set)), first.map(|(reason, _)| *reason));
    }
}

/// S2, S7: whoever may not acknowledge may not vote either.
#[test]
fn no_vote_without_a_reason_where_nothing_may_be_acknowledged() {
    let mut silent = 0;
    for set in 0..1_usize << ORDER.len() {
        let evidence = evidence(set);
        assert!(evidence.may_acknowledge() || reason(&evidence).is_some());
        silent += usize::from(!evidence.may_acknowledge());
    }
    // Five of the eleven forbid it.
    assert_eq!(silent, (1 << ORDER.len()) - (1 << 6));
    let for_where_it_stands = Evidence {
        never_votes: true,
        shares_zone: true,
        not_wanted: true,
        ..Evidence::default()
    };
    assert!(for_where_it_stands.may_acknowledge());
}

/// Reason, name, level, remedy.
const TABLE: [(Reason, &str, Level, &str); 11] = [
    (
        Reason::DiskUnusable,
        "disk-unusable",
        Level::Alarm,
        "Free space in data_dir or replace the medium; pg-witness retries every second",
    ),
    (
        Reason::Diverged,
        "diverged",
        Level::Alarm,
        "If the data nodes hold the data that counts, stop this witness and run: \
         pg-witness reset orders",
    ),
    (
        Reason::OtherGroup,
        "other-group",
        Level::Alarm,
        "If the state is the right one, correct partner_addrs and restart; if partner_addrs is \
         right, stop this witness and run: pg-witness reset orders",
    ),
    (
        Reason::Orphaned,
        "orphaned",
        Level::Alarm,
        "If the cluster was made anew, stop this witness and run: pg-witness reset orders",
    ),
    (
        Reason::StoreFull,
        "store-full",
        Level::Alarm,
        "Delete from the Raft store what Patroni did not write; the vote then comes back by \
         itself",
    ),
    (
        Reason::NeverVotes,
        "never-votes",
        Level::Advice,
        "Nothing, if that is intended; else set vote to always and restart",
    ),
    (
        Reason::SharedZone,
        "shared-zone",
        Level::Warning,
        "Move this witness to a zone of its own, or set zone_policy to warn",
    ),
    (
        Reason::NotWanted,
        "not-wanted",
        Level::Advice,
        "Nothing: it asks to be added when the data nodes are fewer than three or an even \
         number; if it is to vote all the same, set vote to always and restart",
    ),
    (
        Reason::NoMember,
        "no-member",
        Level::Alarm,
        "Restart this witness, which then asks to be added, or run: \
         pg-witness raft add 10.0.1.1:2222 10.0.3.9:2222",
    ),
    (
        Reason::Recovering,
        "recovering",
        Level::Warning,
        "Bring up all data nodes; if one will never come back, stop this witness and run: \
         pg-witness adopt --accept-loss orders",
    ),
    (
        Reason::Restarting,
        "restarting",
        Level::Advice,
        "Nothing; this takes a moment",
    ),
];

#[test]
fn each_has_a_name_words_a_level_and_a_remedy() {
    let commands = Commands::of_a_test("orders", "10.0.3.9:2222");
    let place = RemedyContext {
        commands: &commands,
        member: Some("10.0.1.1:2222"),
    };
    for ((reason, name, level, remedy), (listed, _)) in TABLE.iter().zip(ORDER) {
        assert_eq!(*reason, listed);
        assert_eq!((reason.name(), reason.level()), (*name, *level));
        assert_eq!(reason.remedy(&place).to_string(), *remedy);
        // "this witness is ...", "it has ...", never a sentence of its own.
        assert!(reason.words().starts_with(|c: char| c.is_ascii_lowercase()));
        assert!(!reason.words().ends_with('.'));
    }
}
