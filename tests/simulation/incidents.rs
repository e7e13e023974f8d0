//! What PySyncObj nodes do by which acknowledged writes can be lost whatever a
//! witness does, each seen where it happens: a loss is laid at their door only if one
//! of these was. And what a witness does to them that it must not, seen there too.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use pg_witness::reactor::simulated;

use crate::journal;
use crate::oracle::Violation;

/// What a PySyncObj node did by which its cluster may lose what it acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incident {
    /// H7: it voted twice in a term, for it had forgotten the term with its process or
    /// with its `.meta`.
    VotedTwice { term: u64 },
    /// H7: it leads a term below that of its last entry, which others hold too: whoever
    /// misses what is committed now beats those that have it.
    LeadsEarlierTerm { term: i64, last: i64 },
    /// H8: it cut from its log what it had acknowledged and what its PySyncObj leader
    /// held; until it is sent again only the leader has it.
    CutWhatItsLeaderHolds { index: i64, term: i64 },
    /// H7: a PySyncObj leader of a later term, elected by others that had forgotten,
    /// made it cut what was committed.
    CutWhatWasCommitted { index: i64, term: i64 },
    /// H30: a snapshot of a PySyncObj leader moved its commit index over entries of
    /// its own that nobody else holds.
    CommittedByChunk { from: i64, to: i64 },
    /// H10: up to 0.3.11 a leader commits entries of earlier terms by counting.
    CommittedOtherTerm { index: i64, term: i64 },
    /// H9: it took an answer to an earlier leadership for one to this, and committed
    /// what no majority holds.
    CommittedWithoutMajority { index: i64, term: i64 },
    /// H14: it lost files without which it cannot know its state.
    LostState,
    /// It went back to an older copy of its files, and all others of its kind with it.
    RolledBack,
    /// H19: it leads with a clock that is ahead or behind, by which keys expire.
    LeadsWithWrongClock,
}

impl Incident {
    /// Whether written data may be lost by it; else it is a key that expires early.
    fn loses(&self) -> bool {
        *self != Self::LeadsWithWrongClock
    }
}

/// All of a world.
#[derive(Default)]
pub struct Incidents {
    seen: RefCell<Vec<Seen>>,
    /// What a witness did to a PySyncObj node that it must not.
    violation: RefCell<Option<Violation>>,
}

#[derive(Debug, Clone)]
struct Seen {
    at: Duration,
    node: String,
    what: Incident,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?}: {:?}", self.node, self.at, self.what)
    }
}

impl Incidents {
    /// Takes note of one.
    pub fn add(&self, node: &str, what: Incident) {
        journal::write(&format!("PYSYNCOBJ {node}: {what:?}"));
        self.seen.borrow_mut().push(Seen {
            at: simulated::passed(),
            node: node.to_owned(),
            what,
        });
    }

    /// Takes note of what no witness may do.
    pub fn accuse(&self, what: String) {
        journal::write(&format!("VIOLATION {what}"));
        self.violation
            .borrow_mut()
            .get_or_insert(Violation::always(what));
    }

    /// Takes note of what no witness may do unless data may be lost anyhow; that a leader
    /// began at an earlier term is no such reason, for witnesses look out for it (S13).
    pub fn blame(&self, what: String) {
        let seen = self.seen.borrow();
        let excused = |seen: &Seen| {
            seen.what.loses() && !matches!(seen.what, Incident::LeadsEarlierTerm { .. })
        };
        if seen.iter().any(excused) {
            journal::write(&format!("EXCUSED {what}"));
        } else {
            self.accuse(what);
        }
    }

    /// What no witness may do, if one did it.
    pub fn violation(&self) -> Option<Violation> {
        self.violation.borrow_mut().take()
    }

    /// Forgets what was: nothing of it has any effect any more.
    pub fn end(&self) {
        self.seen.borrow_mut().clear();
    }

    /// Whether there was this one since the last end.
    pub fn has(&self, what: &Incident) -> bool {
        self.seen.borrow().iter().any(|seen| seen.what == *what)
    }

    /// What there was since the last end by which data may be lost, in words; none if
    /// there was nothing.
    pub fn told(&self) -> Option<String> {
        let seen = self.seen.borrow();
        let losses = seen.iter().filter(|seen| seen.what.loses());
        let told: Vec<String> = losses.map(Seen::to_string).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}
