//! Tables of what a leader or candidate says and what is made of it. A row is
//! `rule  our log ; our vote ; what is said => verdict`; read by [`parse`],
//! written by [`tell`]:
//!
//! * a log: its terms from entry 1 on, or from `5:`, committed up to the bar;
//!   a term of epoch 1 is written `1+3` (E1), and `3'` is the term of an entry
//!   that says something else than one of `3` would;
//! * a vote: `b 3` was voted for in term 3, `b 3 leads` is followed;
//! * an append: `b 3 after 2:1 sends 3 3 commits 4`, the entry before by its
//!   index and term, the entries by their terms. Its connection has vouched for
//!   all before, unless it says `b 3 anew after ...`.

use super::*;

/// A log of ours: its first index, its terms, how many of them are committed.
struct Terms {
    first: u64,
    terms: Vec<EpochTerm>,
    commands: Vec<&'static [u8]>,
    commit: u64,
}

impl LocalLog for Terms {
    fn first(&self) -> LogIndex {
        parse::index(self.first)
    }

    fn last(&self) -> EpochId {
        EpochId {
            term: *self.terms.last().unwrap(),
            index: parse::index(self.first + self.terms.len() as u64 - 1),
        }
    }

    fn term_at(&self, index: LogIndex) -> Option<EpochTerm> {
        let offset = index.get().checked_sub(self.first)?;
        self.terms.get(usize::try_from(offset).unwrap()).copied()
    }

    fn command_at(&self, index: LogIndex) -> Option<&[u8]> {
        let offset = index.get().checked_sub(self.first)?;
        self.commands.get(usize::try_from(offset).unwrap()).copied()
    }

    fn commit(&self) -> LogIndex {
        parse::index(self.commit)
    }
}

/// Reads the sentences.
mod parse {
    use super::*;

    pub fn index(index: u64) -> LogIndex {
        LogIndex::new(index).unwrap()
    }

    pub fn term(text: &str) -> Term {
        let plain = text.trim_end_matches('\'');
        Term::new(plain.parse().unwrap()).unwrap()
    }

    pub fn command(text: &str) -> &'static [u8] {
        if text.ends_with('\'') {
            b"other"
        } else {
            b"\x01"
        }
    }

    pub fn node(name: &str) -> Address {
        format!("{name}:5010").parse().unwrap()
    }

    pub fn epoch_term(text: &str) -> EpochTerm {
        let (epoch, plain) = text.split_once('+').unwrap_or(("0", text));
        EpochTerm {
            epoch: epoch.parse().unwrap(),
            term: term(plain),
        }
    }

    pub fn id(text: &str) -> EntryId {
        let (at, plain) = text.split_once(':').unwrap();
        EntryId {
            index: index(at.parse().unwrap()),
            term: term(plain),
        }
    }

    pub fn log(text: &str) -> Terms {
        let (first, text) = text.split_once(':').unwrap_or(("1", text));
        let first = first.parse().unwrap();
        let (committed, _) = text.split_once('|').unwrap();
        let words = text.split_whitespace().filter(|word| *word != "|");
        Terms {
            first,
            terms: words.clone().map(epoch_term).collect(),
            commands: words.map(command).collect(),
            commit: first + committed.split_whitespace().count() as u64 - 1,
        }
    }

    pub fn vote(text: &str) -> VoteView {
        let words: Vec<&str> = text.split_whitespace().collect();
        VoteView {
            term: epoch_term(words[1]),
            node: node(words[0]),
            committed: words.get(2) == Some(&"leads"),
        }
    }

    /// An entry as it is sent.
    pub fn entry(at: u64, text: &str) -> Entry {
        Entry {
            id: EntryId {
                index: index(at),
                term: term(text),
            },
            command: command(text).into(),
        }
    }

    /// An append, and what its connection vouched for before.
    pub struct Said {
        pub from: Address,
        pub term: Term,
        pub prev: Option<EntryId>,
        pub entries: Vec<Entry>,
        pub commit: LogIndex,
        pub vouched: Vouched,
    }

    impl Said {
        pub fn incoming(&self) -> Incoming<'_> {
            Incoming {
                from: &self.from,
                term: self.term,
                prev: self.prev,
                entries: &self.entries,
                commit: self.commit,
                vouched: self.vouched,
            }
        }
    }

    pub fn append(text: &str) -> Said {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let anew = words[2] == "anew";
        if anew {
            words.remove(2);
        }
        assert_eq!((words[2], words[4]), ("after", "sends"), "{text}");
        let leads = term(words[1]);
        let prev = (words[3] != "nothing").then(|| id(words[3]));
        let mut vouched = Vouched::default();
        if let Some(prev) = prev.filter(|_| !anew) {
            vouched.extend(leads, prev.index);
        }
        let terms = words[5..words.len() - 2].iter();
        let places = prev.map_or(2, |p| p.index.get() + 1)..;
        Said {
            from: node(words[0]),
            term: leads,
            prev,
            entries: places.zip(terms).map(|(at, t)| entry(at, t)).collect(),
            commit: index(words.last().unwrap().parse().unwrap()),
            vouched,
        }
    }
}

/// A verdict as the tables write it.
fn tell(verdict: &AppendVerdict) -> String {
    let answer = |answer: &NextNodeIdx| match (answer.reset, answer.success) {
        (true, false) => format!("reset to {}", answer.next),
        (false, true) => format!("success, next {}", answer.next),
        _ => panic!("{answer:?}"),
    };
    let id = |id: &EpochId| format!("{}:{}", id.index, id.term);
    match verdict {
        AppendVerdict::Ignore(Ignored::StaleTerm) => "ignored, its term is over".into(),
        AppendVerdict::Ignore(Ignored::SecondLeader) => "ignored, a second leader".into(),
        AppendVerdict::Answer(say) => answer(say),
        AppendVerdict::Append(append) => {
            let term = |(epoch, entry): &(u32, Entry)| EpochTerm {
                epoch: *epoch,
                term: entry.id.term,
            };
            let terms = append.entries.iter().map(|e| format!(" {}", term(e)));
            format!(
                "leader {} appends after {}:{}, commit {}; {}",
                append.leader,
                id(&append.prev),
                terms.collect::<String>(),
                append.commit.as_ref().map_or("none".into(), id),
                answer(&append.answer)
            )
        }
        AppendVerdict::Install(install) => format!(
            "leader {} installs {}; {}",
            install.leader,
            id(&install.last),
            answer(&install.answer)
        ),
        AppendVerdict::Diverged(Divergence { ours, theirs }) => format!(
            "diverged at {}: {} here, {} there",
            ours.index, ours.term, theirs.term
        ),
    }
}

/// E1, E2, S2: what openraft asserts of an append, whatever it was made from.
fn check_for_engine(log: &Terms, vote: &VoteView, verdict: &AppendVerdict) {
    match verdict {
        AppendVerdict::Append(append) => {
            assert_eq!(log.term_at(append.prev.index), Some(append.prev.term));
            let mut last = append.prev;
            for (epoch, entry) in &append.entries {
                let term = EpochTerm {
                    epoch: *epoch,
                    term: entry.id.term,
                };
                assert!(term >= last.term, "E1: terms never decrease");
                assert_eq!(entry.id.index, last.index.next());
                let committed = entry.id.index <= log.commit();
                assert!(
                    !committed || log.term_at(entry.id.index) == Some(term),
                    "S2"
                );
                last = EpochId {
                    term,
                    index: entry.id.index,
                };
            }
            assert!(
                append.leader >= last.term && append.leader >= vote.term,
                "E2"
            );
            assert!(
                append
                    .commit
                    .is_none_or(|commit| commit.index <= last.index)
            );
            assert_eq!(append.answer.next, last.index.next().get().cast_signed());
        }
        AppendVerdict::Install(install) => {
            assert!(install.last.index > log.commit(), "E4");
            assert!(
                install.leader >= install.last.term && install.leader >= vote.term,
                "E2"
            );
        }
        _ => {}
    }
}

/// The rows of a table: the rule, then log, vote, what was said, and the verdict.
fn rows(table: &str) -> impl Iterator<Item = (&str, [&str; 4])> {
    let lines = table.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (rule, row) = line.split_once(' ').unwrap();
            let (given, expected) = row.split_once(" => ").unwrap();
            let mut given = given.split(" ; ").map(str::trim);
            let mut next = || given.next().unwrap();
            (rule, [next(), next(), next(), expected])
        })
}

fn judge(table: &str) {
    for (rule, [ours, voted, said, expected]) in rows(table) {
        let (log, vote) = (parse::log(ours), parse::vote(voted));
        let verdict = append(&log, &vote, parse::append(said).incoming(), true);
        assert_eq!(tell(&verdict), expected, "{rule}: {ours}; {voted}; {said}");
        check_for_engine(&log, &vote, &verdict);
    }
}

#[test]
fn appends() {
    judge(
        "
        # The common case: a heartbeat, an entry, the entry's commit.
        3.3  0 1 | 1 ; b 1 leads ; b 1 after 3:1 sends commits 2   => success, next 4
        3.3  0 1 1 | ; b 1 leads ; b 1 after 3:1 sends 1 commits 3 => leader 1 appends after 3:1: 1, commit 3:1; success, next 5
        3.3  0 1 | 1 ; b 1 leads ; b 1 after 3:1 sends commits 3   => leader 1 appends after 3:1:, commit 3:1; success, next 4
        # A leader that is new to us is told to the engine even by a heartbeat.
        3.3  0 1 |   ; a 1 leads ; b 2 after 2:1 sends commits 2   => leader 2 appends after 2:1:, commit 2:1; success, next 3
        3.3  0 1 |   ; b 2       ; b 2 after 2:1 sends commits 2   => leader 2 appends after 2:1:, commit 2:1; success, next 3
        # It won without our vote, which another had.
        E3   0 1 |   ; a 2       ; b 2 after 2:1 sends commits 2   => leader 2 appends after 2:1:, commit 2:1; success, next 3
    ",
    );
}

#[test]
fn leaders_that_are_none() {
    judge(
        "
        E3   0 1 |     ; b 3 leads   ; a 2 after 2:1 sends 2 commits 3   => ignored, its term is over
        E3   0 1 |     ; b 3         ; b 2 after 2:1 sends 2 commits 3   => ignored, its term is over
        # Two leaders of one term: a voter voted twice (H7).
        H25  0 1 |     ; b 3 leads   ; a 3 after 2:1 sends 3 commits 3   => ignored, a second leader
        # The same while we lead: Python would step down and truncate.
        H25  0 1 | 3   ; me 3 leads  ; a 3 after 2:1 sends 3 commits 3   => ignored, a second leader
        # Neither becomes a divergence, nor a reset that invites more.
        H25  0 1 1 |   ; me 3 leads  ; a 3 after 2:2 sends 3 commits 3   => ignored, a second leader
        E3   0 1 |     ; b 3 leads   ; a 2 after nothing sends commits 1 => ignored, its term is over
        # Plain terms count, not epochs.
        E3   0 7 1+1 | ; b 1+3 leads ; a 2 after 3:1 sends commits 3     => ignored, its term is over
    ",
    );
}

#[test]
fn logs_that_do_not_meet() {
    judge(
        "
        3.3  0 1 | 1    ; b 2 leads ; b 2 after 9:2 sends 2 commits 2   => reset to 3
        3.3  0 1 | 1    ; b 2 leads ; b 2 after 3:2 sends 2 commits 2   => reset to 3
        # The leader lost track: it must look within its own log.
        H21  0 1 | 1 1  ; b 2 leads ; b 2 after nothing sends commits 1 => reset to 3
        # What lies before our base is committed; the first that can be
        # compared is the base itself.
        H21  5: 1 1 | 1 ; b 2 leads ; b 2 after 3:1 sends 1 1 commits 3 => reset to 6
        H21  5: 1 1 | 1 ; b 2 leads ; b 2 after 5:1 sends 1 1 commits 6 => success, next 8
    ",
    );
}

/// What stands in our log once a verdict is carried out, as the engine does it.
fn carry_out(log: &mut Terms, append: &EngineAppend) {
    let first = usize::try_from(append.prev.index.get() - log.first + 1).unwrap();
    for (at, (epoch, entry)) in (first..).zip(&append.entries) {
        let term = EpochTerm {
            epoch: *epoch,
            term: entry.id.term,
        };
        if log.terms.get(at) != Some(&term) {
            log.terms.truncate(at);
            log.commands.truncate(at);
            log.terms.push(term);
            log.commands.push(match *entry.command {
                [1] => b"\x01",
                _ => b"other",
            });
        }
    }
}

/// A leader that is far ahead sends all it has, in several appends, before it
/// reads an answer (spec 5.5). The answers must bring it back to where the logs
/// meet, whatever their order makes of its position.
#[test]
fn a_leader_far_ahead_is_met() {
    const LEADERS: &str = "0 1 1 | 2 2 6 6 6 6 6 6 6 9 9 9 9 9";
    for ours in [
        "0 1 1 |",
        "0 1 1 | 2 2 6",
        // Entries of a leadership that committed nothing more.
        "0 1 1 | 4 4 4 4 4",
        // Of a term that came twice, also where the leader begins.
        "0 1 1 | 2 2' 6' 6 6",
        "0 1 1 | 2' 2' 6' 6' 6' 6' 6' 6' 6' 9' 9' 9' 9'",
    ] {
        let (mut ours, theirs) = (parse::log(ours), parse::log(LEADERS));
        far_ahead(&mut ours, &theirs);
        let plain = |log: &Terms| log.terms.iter().map(|t| t.term).collect::<Vec<_>>();
        assert_eq!(plain(&ours), plain(&theirs));
        assert_eq!(ours.commands, theirs.commands);
    }
}

fn far_ahead(ours: &mut Terms, theirs: &Terms) {
    const BATCH: u64 = 3;
    let vote = parse::vote("b 9 leads");
    let from = parse::node("b");
    let mut vouched = Vouched::default();
    let end = theirs.last().index.get();
    let mut next = end;
    for round in 1.. {
        assert!(
            round <= 3,
            "the leader goes on at {next}, ours is {:?}",
            ours.terms
        );
        let mut answers = Vec::new();
        while next <= end || answers.is_empty() {
            let entry = |at: u64| Entry {
                id: EntryId {
                    index: parse::index(at),
                    term: theirs.term_at(parse::index(at)).unwrap().term,
                },
                command: theirs.command_at(parse::index(at)).unwrap().into(),
            };
            let until = (next + BATCH).min(end + 1);
            let entries: Vec<Entry> = (next..until).map(entry).collect();
            let message = Incoming {
                from: &from,
                term: parse::term("9"),
                prev: Some(entry(next - 1).id),
                entries: &entries,
                commit: theirs.commit(),
                vouched,
            };
            next = until;
            let answer = match append(ours, &vote, message, true) {
                AppendVerdict::Answer(answer) => answer,
                AppendVerdict::Append(append) => {
                    carry_out(ours, &append);
                    append.answer
                }
                other => panic!("{other:?}"),
            };
            if answer.success {
                vouched.extend(message.term, message.last().unwrap());
            }
            answers.push(answer);
        }
        if answers.iter().all(|answer| answer.success) {
            break;
        }
        for answer in answers {
            next = u64::try_from(answer.next).unwrap();
        }
    }
}

/// H7: what two leaderships of one term made of one place.
#[test]
fn terms_that_come_twice() {
    judge(
        "
        # Committed by none, it is the leader's that counts; to the engine it is another.
        H7  0 | 3 3   ; b 4 leads ; b 4 after 1:0 sends 3' 3 commits 2 => leader 1+4 appends after 1:0: 1+3 1+3, commit 2:1+3; success, next 4
        H7  0 | 3 3   ; b 4       ; b 4 after 2:3 sends 3' commits 2   => leader 1+4 appends after 2:3: 1+3, commit 2:3; success, next 4
        H7  0 | 3     ; b 3 leads ; b 3 after 1:0 sends 3' commits 1   => leader 1+3 appends after 1:0: 1+3, commit 1:0; success, next 3
        H7  0 | 3' 3  ; b 3 leads ; b 3 after 1:0 sends 3' 3 commits 1 => success, next 4
        # Committed here, it is a divergence.
        H7  0 3 3 |   ; b 4 leads ; b 4 after 2:3 sends 3' commits 3   => diverged at 3: 3 here, 3 there
        # A name alone proves nothing beyond what is committed.
        H7  0 | 3 3   ; b 4 leads ; b 4 anew after 3:3 sends commits 3 => reset to 2
        H7  0 3 | 3   ; b 4 leads ; b 4 anew after 3:3 sends 4 commits 3 => reset to 3
        H7  0 3 3 |   ; b 4       ; b 4 anew after 3:3 sends commits 3 => leader 4 appends after 3:3:, commit 3:3; success, next 4
        H7  0 3 3 |   ; b 4 leads ; b 4 anew after 2:3 sends commits 3 => success, next 3
    ",
    );
    // Nor does what was said in another term.
    let mut vouched = Vouched::default();
    vouched.extend(parse::term("4"), parse::index(9));
    vouched.extend(parse::term("4"), parse::index(7));
    assert_eq!(vouched.upto(parse::term("4")), Some(parse::index(9)));
    assert_eq!(vouched.upto(parse::term("5")), None);
    vouched.extend(parse::term("5"), parse::index(2));
    assert_eq!(vouched.upto(parse::term("5")), Some(parse::index(2)));
}

#[test]
fn nothing_is_cut_without_need() {
    judge(
        "
        # Python cuts all behind the entry before, even for a heartbeat.
        H8   0 1 | 1 1 ; b 1 leads ; b 1 after 2:1 sends commits 2     => success, next 3
        H8   0 1 | 1 1 ; b 1 leads ; b 1 after 2:1 sends 1 commits 2   => success, next 4
        # An old append, come late: the answer vouches for no more than it.
        H8   0 1 1 1 | ; b 1 leads ; b 1 after 1:0 sends 1 commits 1   => success, next 3
        # Only a differing term cuts, and only behind what is committed.
        S2   0 1 | 1 1 ; b 2       ; b 2 after 2:1 sends 2 commits 2   => leader 2 appends after 2:1: 2, commit 2:1; success, next 4
        S2   0 1 | 1 1 ; b 2       ; b 2 after 2:1 sends 1 2 commits 2 => leader 2 appends after 2:1: 1 2, commit 2:1; success, next 5
        # A longer tail of ours is not vouched for, and so not committed.
        3.3  0 1 | 1 1 ; b 1 leads ; b 1 after 2:1 sends 1 commits 9   => leader 1 appends after 2:1: 1, commit 3:1; success, next 4
        # 0.3.11 may lower its commit index; ours stays.
        H10  0 1 1 |   ; b 1 leads ; b 1 after 3:1 sends commits 1     => success, next 4
    ",
    );
}

#[test]
fn what_is_committed_stays() {
    judge(
        "
        S2  0 1 1 |  ; b 2 leads ; b 2 after 3:2 sends 2 commits 4   => diverged at 3: 1 here, 2 there
        S2  0 1 1 |  ; b 2 leads ; b 2 after 1:0 sends 2 2 commits 3 => diverged at 2: 1 here, 2 there
        S2  0 1 1 |  ; b 2 leads ; b 2 after 1:0 sends 1 2 commits 3 => diverged at 3: 1 here, 2 there
        S2  5: 1 1 | ; b 2 leads ; b 2 after 5:2 sends 2 commits 6   => diverged at 5: 1 here, 2 there
        # A leader whose nodes forgot their terms (H7) contradicts us as well.
        S2  0 7 7 |  ; b 8 leads ; b 8 after 1:0 sends 1 1 commits 3 => diverged at 2: 7 here, 1 there
    ",
    );
}

#[test]
fn terms_that_decrease() {
    judge(
        "
        # H7: entries of a time when the nodes had forgotten their terms.
        E1  0 7 |     ; b 8 leads   ; b 8 after 2:7 sends 1 1 8 commits 3 => leader 1+8 appends after 2:7: 1+1 1+1 1+8, commit 3:1+1; success, next 6
        E1  0 7 |     ; b 8 leads   ; b 8 after 2:7 sends 1 7 2 commits 2 => leader 2+8 appends after 2:7: 1+1 1+7 2+2, commit 2:7; success, next 6
        # An entry that we hold keeps its epoch.
        E1  0 7 1+1 | ; b 1+8 leads ; b 8 after 2:7 sends 1 8 commits 3   => leader 1+8 appends after 2:7: 1+1 1+8, commit 3:1+1; success, next 5
        # The leader's own term is below our log's: its vote needs the next epoch.
        E2  0 7 |     ; b 2         ; b 2 after 2:7 sends 2 commits 2     => leader 1+2 appends after 2:7: 1+2, commit 2:7; success, next 4
        E2  0 7 |     ; b 2         ; b 2 after 2:7 sends commits 2       => leader 1+2 appends after 2:7:, commit 2:7; success, next 3
        # Never below the epoch of our vote, even when the tail that gave it goes.
        E2  0 7 | 1+1 ; a 1+3 leads ; b 8 after 2:7 sends 8 commits 2     => leader 1+8 appends after 2:7: 8, commit 2:7; success, next 4
        # To the engine no leader rewrites its own entries: it is another.
        E2  0 | 3 3   ; b 3 leads   ; b 3 after 1:0 sends 2 3 commits 1   => leader 1+3 appends after 1:0: 2 3, commit 1:0; success, next 4
        E2  0 | 3 3   ; b 3         ; b 3 after 1:0 sends 2 3 commits 1   => leader 3 appends after 1:0: 2 3, commit 1:0; success, next 4
    ",
    );
}

/// S1: what is in the log but not on the disk is not promised at once.
#[test]
fn a_promise_waits_for_the_disk() {
    let (log, vote) = (parse::log("0 1 | 1"), parse::vote("b 1 leads"));
    let said = parse::append("b 1 after 3:1 sends commits 2");
    let message = said.incoming();
    let verdict = append(&log, &vote, message, false);
    // Through the engine, which answers behind all earlier writes (E7).
    let through = "leader 1 appends after 3:1:, commit 2:1; success, next 4";
    assert_eq!(tell(&verdict), through);
    let verdict = append(&log, &vote, message, true);
    assert_eq!(tell(&verdict), "success, next 4");
}

/// S7: the words of one who may have forgotten neither raise a match index nor
/// make a leader go back (spec 3.6).
#[test]
fn the_noncommittal_answer_promises_nothing() {
    let answer = noncommittal(parse::index(7));
    assert_eq!(
        (answer.next, answer.reset, answer.success),
        (7, false, false)
    );
}

#[test]
fn snapshots() {
    let table = "
        3.5  0 1 |       ; b 1 leads ; b 1 8:1 9:1 => leader 1 installs 9:1; success, next 10
        # Never backwards, whatever Python does.
        H12  0 1 1 1 |   ; b 1 leads ; b 1 2:1 3:1 => success, next 4
        E4   0 1 1 1 |   ; b 1 leads ; b 1 3:1 4:1 => success, next 5
        # It covers only what is compacted away here: all of it is committed.
        H12  5: 1 1 |    ; b 1 leads ; b 1 2:1 3:1 => success, next 4
        S2   0 1 1 1 |   ; b 2 leads ; b 2 2:1 3:2 => diverged at 3: 1 here, 2 there
        # It ends inside our log: that much is committed, the rest stays.
        E4   0 1 | 1 1 1 ; b 1 leads ; b 1 3:1 4:1 => leader 1 appends after 4:1:, commit 4:1; success, next 5
        E4   0 1 | 1 1 7 ; b 8 leads ; b 8 3:1 4:1 => leader 8 appends after 4:1:, commit 4:1; success, next 5
        # It contradicts our tail, which is not committed: it replaces it.
        E4   0 1 | 1 1   ; b 2       ; b 2 2:1 3:2 => leader 2 installs 3:2; success, next 4
        E2   0 1 | 2 2   ; b 2 leads ; b 2 2:1 3:1 => leader 1+2 installs 3:1+1; success, next 4
        # Also in what alone tells two leaderships of one term apart.
        H7   0 1 | 2     ; b 3       ; b 3 3:2' 4:2 => leader 3 installs 4:2; success, next 5
        H7   0 1 | 2 2 2 ; b 3 leads ; b 3 3:2 4:2' => leader 1+3 installs 4:1+2; success, next 5
        H7   0 1 | 2 2 2 ; b 3       ; b 3 3:2' 4:2 => leader 1+3 installs 4:1+2; success, next 5
        H7   0 1 2 2 |   ; b 3       ; b 3 3:2 4:2' => diverged at 4: 2 here, 2 there
        # Terms may decrease between what we have and what it ends in (H7).
        E1   0 7 |       ; b 2 leads ; b 2 8:1 9:2 => leader 1+2 installs 9:1+2; success, next 10
        E1   0 2 |       ; b 8 leads ; b 8 8:7 9:1 => leader 1+8 installs 9:1+1; success, next 10
        E3   0 1 |       ; b 3 leads ; a 2 8:2 9:2 => ignored, its term is over
        H25  0 1 |       ; b 3 leads ; a 3 8:3 9:3 => ignored, a second leader
    ";
    for (rule, [ours, voted, said, expected]) in rows(table) {
        let (log, vote) = (parse::log(ours), parse::vote(voted));
        let words: Vec<&str> = said.split_whitespace().collect();
        let entry = |word: &str| {
            let (at, term) = word.split_once(':').unwrap();
            parse::entry(at.parse().unwrap(), term)
        };
        let (prev, last) = (entry(words[2]), entry(words[3]));
        let from = parse::node(words[0]);
        let verdict = snapshot(&log, &vote, &from, parse::term(words[1]), [&prev, &last]);
        assert_eq!(tell(&verdict), expected, "{rule}: {ours}; {voted}; {said}");
        check_for_engine(&log, &vote, &verdict);
    }
}

#[test]
fn vote_requests() {
    let table = "
        S1   0 1 |     ; b 3       ; 3 2:1 => none
        # Not even to the same candidate again, for a message is a vote (H23).
        H23  0 1 |     ; b 3 leads ; 3 9:9 => none
        E3   0 1 |     ; b 3       ; 2 9:9 => none
        3.1  0 1 |     ; b 3       ; 4 2:1 => candidate 4, log 2:1
        # Logs are compared by plain terms: the candidate's epochs are unknown.
        E1   0 7 1+1 | ; b 1+3     ; 4 3:1 => candidate 1+4, log 3:1+1
        E1   0 7 1+3 | ; b 1+3     ; 4 9:2 => candidate 1+4, log 9:2
        E1   0 7 1+1 | ; b 1+3     ; 4 2:3 => candidate 1+4, log 2:1+3
        # Its vote is not below our log, nor below our vote.
        E2   0 7 |     ; b 2       ; 3 2:7 => candidate 1+3, log 2:7
        E2   0 1 |     ; b 2+3     ; 4 2:1 => candidate 2+4, log 2:1
    ";
    for (rule, [ours, voted, said, expected]) in rows(table) {
        let (log, vote) = (parse::log(ours), parse::vote(voted));
        let (term, last) = said.split_once(' ').unwrap();
        let request = vote_request(&log, &vote, parse::term(term), parse::id(last));
        let told = request.map_or("none".into(), |EngineVote { candidate, last }| {
            assert!(candidate >= log.last().term && candidate > vote.term, "E2");
            format!("candidate {candidate}, log {}:{}", last.index, last.term)
        });
        assert_eq!(told, expected, "{rule}: {ours}; {voted}; {said}");
    }
}
