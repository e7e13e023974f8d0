//! S7 as tables: an event and what it decides, line by line. The runs that the
//! model asks of every implementation come first.
//!
//! A line is `TIME EVENT`, in seconds. Events, of the data nodes A and B:
//!
//! * `A empty T` `A empty T sees B`: it shows that it holds nothing, at term T;
//!   `asked S` behind it: it was asked at S, not at the line's time;
//! * `A data`, `A refused`, `A silent`: what else may come of asking;
//! * `A listed`, `A unlisted E`: as leader whose log ends at E it answered
//!   `members` with us, or without; `(follower)` behind it: it does not lead;
//! * `stored`, `stored add I J`: our log grew, and holds `add`s of us there;
//! * `A appends T whole E`, `A appends T`: as leader of term T, which shows that
//!   we hold its log up to E, or not;
//! * `A commits I of U in T`: entry I, made in term U;
//! * `restart`: only what is durable remains.

use std::time::Duration;

use super::*;
use crate::disk::Standing;
use crate::links::epoch::EpochTerm;

/// The witness in its first deployment, with the default configuration.
const FIRST: Founding = Founding::WithMajority {
    refused_for: Duration::from_secs(30),
};

/// `bootstrap: new`
const NEW: Founding = Founding::WithMajority {
    refused_for: Duration::ZERO,
};

fn address(name: &str) -> Address {
    format!("{name}:2222").parse().unwrap()
}

fn index(text: &str) -> LogIndex {
    LogIndex::new(text.parse().unwrap()).unwrap()
}

fn term(text: &str) -> Term {
    Term::new(text.parse().unwrap()).unwrap()
}

struct Table {
    founding: Founding,
    partners: Vec<Address>,
    began: Instant,
    eligibility: Eligibility,
}

impl Table {
    fn new(founding: Founding, partners: &str) -> Self {
        let partners: Vec<Address> = partners.split_whitespace().map(address).collect();
        let own = OwnState {
            standing: Standing::Recovering,
            arrival: Arrival::default(),
            empty: true,
        };
        Self {
            eligibility: Eligibility::new(&address("W"), partners.clone(), founding, own),
            partners,
            founding,
            began: Instant::now(),
        }
    }

    fn at(&self, seconds: &str) -> Instant {
        self.began + Duration::from_secs_f64(seconds.parse().unwrap())
    }

    fn restart(&mut self) {
        let old = &self.eligibility;
        let own = OwnState {
            standing: match old.recovering {
                true => Standing::Recovering,
                false => Standing::Voter,
            },
            arrival: old.arrival,
            empty: old.empty,
        };
        let partners = self.partners.clone();
        self.eligibility = Eligibility::new(&address("W"), partners, self.founding, own);
    }

    fn ask(&mut self, peer: &str, now: &str, words: &[&str]) -> Option<Proof> {
        let (words, asked) = match words {
            [words @ .., "asked", asked] => (words, *asked),
            words => (words, now),
        };
        let answer = match words {
            ["data"] => Answer::Status(Shown::default()),
            ["empty", t, links @ ..] => Answer::Status(Shown {
                holds_nothing: true,
                term: term(t),
                connected: links.iter().skip(1).map(|name| address(name)).collect(),
            }),
            ["refused"] => Answer::Refused,
            ["silent"] => Answer::Silent,
            other => panic!("{other:?}"),
        };
        let (asked, now) = (self.at(asked), self.at(now));
        self.eligibility
            .on_status(&address(peer), asked, now, answer)
    }

    /// What a line decides: none if nothing.
    fn decide(&mut self, line: &str) -> Option<Proof> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let e = &mut self.eligibility;
        let (now, event) = words.split_first().unwrap();
        match event {
            ["restart"] => {
                self.restart();
                None
            }
            ["stored"] => e.on_stored(std::iter::empty()),
            ["stored", "add", at @ ..] => e.on_stored(at.iter().map(|at| index(at))),
            [_, "listed", rest @ ..] => {
                e.on_members(rest.is_empty(), true, LogIndex::MAX);
                None
            }
            [_, "unlisted", end, rest @ ..] => {
                e.on_members(rest.is_empty(), false, index(end));
                None
            }
            [leader, "appends", t] => {
                e.on_append(&address(leader), term(t), None);
                None
            }
            [leader, "appends", t, "whole", end] => {
                e.on_append(&address(leader), term(t), Some(index(end)));
                None
            }
            [leader, "commits", at, "of", of, "in", t] => {
                e.on_commit(&address(leader), term(t), index(at), term(of))
            }
            [peer, answer @ ..] => self.ask(peer, now, answer),
            [] => panic!("{line}"),
        }
    }

    /// Runs a script: each line, behind `=>` what it proves, or nothing.
    fn run(mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (event, wanted) = line.split_once("=>").unwrap_or((line, ""));
            let proof = self.decide(event);
            let said = proof.as_ref().map(|proof| match proof {
                Proof::NewCluster { term, .. } => format!("{proof} (term {term})"),
                other => other.to_string(),
            });
            let said = said.unwrap_or_default().replace(":2222", "");
            assert_eq!(said, wanted.trim(), "{line}");
            if proof.is_some() {
                self.eligibility.become_voter();
            }
        }
    }
}

#[test]
fn run_1_a_paused_leader_feeds_a_wiped_witness() {
    // B leads term 6, elected by the witness that lost its state. A leads term 5
    // and was paused: what it had when we began to listen proves nothing, and what
    // it adds nobody commits.
    Table::new(FIRST, "A B").run(
        "
        0.0 A data
        0.1 A appends 5
        0.1 stored
        0.2 A commits 6 of 5 in 5
        0.3 A appends 5 whole 6
        0.3 A commits 6 of 5 in 5
        0.4 A appends 5 whole 7
        0.4 A commits 6 of 5 in 5
        0.5 B appends 6
        0.6 B commits 9 of 6 in 6
        0.7 B appends 6 whole 9
        0.8 A commits 7 of 5 in 5
        0.8 B commits 9 of 6 in 6
        0.9 B commits 10 of 6 in 6 => B committed entry 10 without this witness
        ",
    );
}

#[test]
fn run_2_a_lost_card_while_one_node_never_ran() {
    // K1: B and W had founded the cluster; the card is lost, A starts for its
    // first time.
    let cut_off = "
        0 A empty 0
        0 B silent
        20 A empty 4
        20 B silent
        40 A empty 9
        40 B silent
        900 A empty 30
        900 B silent
        ";
    Table::new(FIRST, "A B").run(cut_off);
    Table::new(Founding::WithAll, "A B").run(cut_off);
    // B's host is up and refuses: only `bootstrap: join` tells this from a first
    // deployment.
    let refusing = "
        0 A empty 0
        0 B refused
        29.9 A empty 7
        29.9 B refused
        ";
    Table::new(Founding::WithAll, "A B").run(&format!("{refusing} 900 A empty 8\n 900 B refused"));
    Table::new(FIRST, "A B").run(&format!(
        "{refusing}
        30 B refused
        31 A empty 8 => the cluster is new: founded with A; B refused connections (term 8)
        "
    ));
}

#[test]
fn run_3_a_new_witness_beside_a_wiped_node() {
    // K2: A and B are a group without us; A was wiped, B is silent.
    Table::new(FIRST, "A B").run(
        "
        0 A empty 0
        0 B silent
        40 A empty 3
        40 B silent
        80 A empty 5
        80 B silent
        ",
    );
}

#[test]
fn run_4_empty_is_asked_twice_and_its_term_is_spent() {
    // A candidate that is still empty has given its vote of that term.
    Table::new(FIRST, "A B").run(
        "
        0 A empty 3
        0 B empty 4
        1 A empty 5
        1 B empty 4 => every member is new: founded with A, B (term 5)
        ",
    );
    // B answered that it is empty, then held data together with A, then A was
    // wiped: each half of the round alone would be a proof.
    Table::new(FIRST, "A B").run(
        "
        0 B empty 0
        0 A silent
        9 A empty 0
        9.5 B data
        10 A empty 1
        11 B empty 1
        12 A empty 1
        12 B empty 1
        ",
    );
    // The second answer counts if it was asked for after the first half.
    Table::new(FIRST, "A B").run(
        "
        0 A empty 0
        1 B empty 0
        2 A empty 0 asked 0.5
        2 B empty 0
        3 B empty 0
        4 A empty 0 => every member is new: founded with A, B (term 0)
        ",
    );
}

#[test]
fn run_5_a_paused_leader_sends_the_old_add() {
    // Our removal is entry 5 of A's log; B leads an older term, in which we were
    // added by entry 3.
    Table::new(FIRST, "A B").run(
        "
        0 A unlisted 5
        1 B appends 1
        1 stored add 3
        2 B appends 1 whole 3
        2 restart
        3 stored add 3
        4 stored add 3 6 => new member of the group, added by entry 6
        ",
    );
}

#[test]
fn run_6_a_new_member_counts_at_once() {
    // A group of one cannot commit our `add` before we acknowledge it. What is
    // truncated and made again lies beyond the end all the same.
    Table::new(FIRST, "A").run(
        "
        0 A unlisted 3
        1 stored
        2 stored add 4 => new member of the group, added by entry 4
        ",
    );
    // The first answer of a leader counts, by a follower none.
    Table::new(FIRST, "A B").run(
        "
        0 A listed (follower)
        0 B unlisted 3
        1 A unlisted 9
        2 restart
        3 A unlisted 9
        4 stored add 4 => new member of the group, added by entry 4
        ",
    );
    Table::new(FIRST, "A B").run(
        "
        0 A listed
        1 A unlisted 3
        2 stored add 4
        ",
    );
    // Once our log holds something it is too late.
    Table::new(FIRST, "A B").run(
        "
        0 stored
        1 A unlisted 3
        2 stored add 4
        ",
    );
}

#[test]
fn run_7_bootstrap_new_on_a_replaced_card_whose_links_come_late() {
    Table::new(NEW, "A B").run(
        "
        0 A silent
        0 B silent
        20 A data
        20 B silent
        21 B refused
        22 A empty 0
        23 A empty 0
        ",
    );
}

#[test]
fn bootstrap_new_waits_for_no_refusal_of_30_s() {
    Table::new(NEW, "A B").run(
        "
        0 B silent
        1 A empty 0
        2 B refused
        3 A empty 2 => the cluster is new: founded with A; B refused connections (term 2)
        ",
    );
    // Nobody has been asked: no answer is no proof.
    Table::new(NEW, "A B").run(
        "
        0 A refused
        0 B refused
        9 A refused
        9 B refused
        ",
    );
}

#[test]
fn a_refusal_counts_while_nothing_else_comes_of_it() {
    Table::new(FIRST, "A B").run(
        "
        0 A empty 0
        0 B refused
        20 B silent
        31 B refused
        32 A empty 0
        60 B refused
        60 A empty 0
        61 B refused
        62 A empty 0 => the cluster is new: founded with A; B refused connections (term 0)
        ",
    );
}

#[test]
fn a_node_that_another_sees_is_not_gone() {
    Table::new(FIRST, "A B").run(
        "
        0 A empty 0 sees B
        0 B refused
        31 B refused
        32 A empty 0 sees B
        33 A empty 0 sees B
        34 A empty 0
        35 A empty 0 => the cluster is new: founded with A; B refused connections (term 0)
        ",
    );
}

#[test]
fn a_node_that_comes_between_the_halves_is_asked_twice_too() {
    Table::new(NEW, "A B").run(
        "
        0 B refused
        1 A empty 0
        2 B empty 0
        3 A empty 0
        4 B empty 0
        5 A empty 0 => every member is new: founded with A, B (term 0)
        ",
    );
    // And one that was there and is silent begins the round anew.
    Table::new(NEW, "A B").run(
        "
        0 A empty 0
        1 B empty 0
        2 B refused
        3 A empty 0
        4 A empty 0 => the cluster is new: founded with A; B refused connections (term 0)
        ",
    );
}

#[test]
fn a_majority_is_counted_with_ourselves() {
    // Two of five hold nothing: with us three.
    Table::new(NEW, "A B C D").run(
        "
        0 C refused
        0 D refused
        1 A empty 0
        2 A empty 0
        3 B refused
        4 A empty 0
        5 B empty 0
        6 A empty 0
        7 B empty 0 => the cluster is new: founded with A, B; C, D refused connections (term 0)
        ",
    );
}

#[test]
fn what_this_folder_was_shown_is_not_forgotten() {
    // Data nodes that were made anew while we waited: an operator decides, or the
    // new group commits an entry without us.
    Table::new(FIRST, "A B").run(
        "
        0 A data
        1 restart
        2 A empty 0
        2 B empty 0
        3 A empty 0
        3 B empty 0
        4 A appends 2 whole 1
        4 stored
        5 A commits 2 of 2 in 2 => A committed entry 2 without this witness
        ",
    );
}

#[test]
fn caught_up_with_one_leader_and_not_with_two() {
    Table::new(FIRST, "A B").run(
        "
        0 A appends 5 whole 6
        1 B appends 6
        2 B commits 7 of 6 in 6
        3 B appends 6 whole 8
        4 A appends 5 whole 9
        5 B commits 9 of 6 in 6
        6 B appends 6 whole 9
        7 restart
        8 B commits 10 of 6 in 6
        9 B appends 6 whole 10
        10 B commits 11 of 5 in 6
        11 B commits 12 of 6 in 6 => B committed entry 12 without this witness
        ",
    );
}

#[test]
fn who_has_no_partners_founds_alone_unless_state_was_lost() {
    assert_eq!(
        Table::new(FIRST, "").eligibility.alone(),
        Some(Proof::Alone)
    );
    assert_eq!(Table::new(Founding::WithAll, "").eligibility.alone(), None);
    assert_eq!(Table::new(FIRST, "A").eligibility.alone(), None);
    // Our own address among the partners is no partner.
    assert_eq!(
        Table::new(FIRST, "W").eligibility.alone(),
        Some(Proof::Alone)
    );
}

#[test]
fn says_what_it_waits_for() {
    let mut table = Table::new(FIRST, "A B");
    for (line, wanted) in [
        (
            "0 B silent",
            "every member is to show what it holds; no answer from B:2222",
        ),
        (
            "1 A data",
            "the data nodes are to commit an entry without this witness; no answer from B:2222",
        ),
        ("2 A unlisted 7", "the group is to add this witness first"),
    ] {
        table.decide(line);
        assert_eq!(table.eligibility.awaits().to_string(), wanted);
    }
}

/// Beside the first entry and its leader's word nothing is believed of what is durable.
#[test]
fn what_is_durable_proves_only_what_its_leader_made() {
    let caught_up = || {
        Some(Proof::CaughtUp {
            leader: address("A"),
            entry: index("8"),
        })
    };
    let new_member = || Some(Proof::NewMember { add: index("6") });
    for (reading, last, vote, commit, adds, wanted) in [
        // Whom we follow, in its term; the entry that is committed, of which term.
        ("", "8", "A 3 leads", "8 of 3", "", caught_up()),
        ("", "8", "A 3 votes", "8 of 3", "", None),
        ("", "8", "B 3 leads", "8 of 3", "", None),
        ("", "8", "A 4 leads", "8 of 4", "", None),
        ("", "8", "A 3 leads", "8 of 2", "", None),
        ("", "8", "A 3 leads", "7 of 3", "", None),
        ("", "8", "A 3 leads", "8", "", None),
        // An `add` of us, beyond the end of the log of the leader that did not list us.
        (
            "0 A unlisted 5",
            "6",
            "A 3 votes",
            "1 of 0",
            "6",
            new_member(),
        ),
        (
            "0 A unlisted 5",
            "8",
            "A 3 leads",
            "8 of 3",
            "6",
            new_member(),
        ),
        ("0 A unlisted 5", "5", "A 3 votes", "1 of 0", "5", None),
        ("0 A unlisted 5", "1", "A 3 votes", "1 of 0", "6", None),
        ("0 A listed", "6", "A 3 votes", "1 of 0", "6", None),
    ] {
        let mut table = Table::new(FIRST, "A B");
        if !reading.is_empty() {
            table.decide(reading);
        }
        table.decide("1 A appends 3 whole 7");
        let words: Vec<&str> = vote.split(' ').collect();
        let vote = VoteView {
            term: EpochTerm {
                epoch: 0,
                term: term(words[1]),
            },
            node: address(words[0]),
            committed: words[2] == "leads",
        };
        let (commit, of) = match commit.split_once(" of ") {
            Some((commit, of)) => (commit, Some(term(of))),
            None => (commit, None),
        };
        let durable = Durable {
            last: index(last),
            vote: &vote,
            commit: index(commit),
            commit_term: of,
        };
        let adds = adds.split_whitespace().map(index);
        let proof = table.eligibility.on_durable(&address("A"), durable, adds);
        assert_eq!(proof, wanted, "{reading:?} {durable:?}");
    }
}
