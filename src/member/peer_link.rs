//! What a member keeps of its connection to each other member. What is of one connection
//! alone is in one value, which a new connection begins anew: nothing of an older one
//! can be taken for its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::ids::Term;
use crate::links::budget::cpu::Account;
use crate::links::connection::Connection;
use crate::links::follower::Vouched;
use crate::links::leader::{ConnId, Fence};
use crate::links::reconcile::Reconciliation;
use crate::logging::tally::Tally;
use crate::reactor::Instant;

use super::answers::Pending;
use super::assembly::Assembly;

/// Another member, as far as connections to it go.
#[derive(Default)]
pub struct PeerLink {
    /// The live connection.
    pub connection: Option<Rc<Connection>>,
    /// What went over it.
    pub exchange: Exchange,
    /// The greatest term that the member has shown, over all its connections.
    pub seen: Term,
    /// The CPU time that it may use: whoever connects again has no more.
    pub account: Option<Rc<RefCell<Account>>>,
    /// Dials it, if it is ours to dial.
    pub dialling: Option<smol::Task<()>>,
    /// What the log has said of it.
    pub report: Reported,
}

/// What went over one connection, the live one or the last.
#[derive(Default)]
pub struct Exchange {
    /// Whether the peer has shown that it takes the connection for one: where a
    /// dialler needs no key it may be closed at once.
    pub proven: bool,
    /// The term in which it gave us its last vote.
    pub granted: Term,
    /// Nothing older than this term's vote can come (H9 b).
    pub fenced: Option<(ConnId, Term)>,
    /// Appends of an earlier leadership of ours may still be answered (H9 c).
    pub unanswered: bool,
    /// How far it has shown, as leader, that its log is ours.
    pub vouched: Vouched,
    /// Since when it names, as leader, no entry before those that it sends, though it was
    /// asked to begin at the end of what is committed here: its log ends before (H21).
    pub ends_early: Option<Instant>,
    /// What it has shown, as leader, while we take no part.
    pub reconciliation: Reconciliation,
    /// What it sends in pieces.
    pub assembly: Assembly,
    /// Answers that wait for the disk.
    pub answers: Option<smol::channel::Sender<Pending>>,
    /// How many.
    pub answers_waiting: Rc<Cell<usize>>,
}

impl Exchange {
    /// Whether an answer to an earlier leadership of ours may come yet over its connection,
    /// when we lead in `term` (H9).
    pub fn fence(&self, connection: ConnId, term: Term) -> Fence {
        let fenced = self.fenced == Some((connection, term));
        match fenced || !self.unanswered {
            true => Fence::Clean,
            false => Fence::Dirty,
        }
    }
}

/// What the log has said of a member's connections.
#[derive(Default)]
pub struct Reported {
    /// How often it connected.
    pub tally: Tally,
    /// Whether its last connection was logged, so that its end is as well.
    pub said: bool,
    /// That it cannot be reached; said once an outage.
    pub reported_down: bool,
    /// Why the last connection that we made was not understood; none while one is.
    pub mismatch: Option<Rc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_an_earlier_leadership_are_fenced_by_the_vote_of_this_one() {
        let term = |n| Term::new(n).unwrap();
        let (this, other) = (ConnId(7), ConnId(8));
        for (unanswered, fenced, clean) in [
            (false, None, true),
            (true, None, false),
            (true, Some((this, 5)), true),
            (true, Some((this, 4)), false),
            (true, Some((other, 5)), false),
        ] {
            let exchange = Exchange {
                unanswered,
                fenced: fenced.map(|(connection, n)| (connection, term(n))),
                ..Exchange::default()
            };
            let fence = exchange.fence(this, term(5));
            assert_eq!(
                matches!(fence, Fence::Clean),
                clean,
                "{unanswered} {fenced:?}"
            );
        }
    }
}
