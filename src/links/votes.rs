//! Both sides of an election by PySyncObj's messages: the votes that a
//! candidate of ours gathers and those that we answer. Pure; whether to grant
//! a vote is the engine's decision, made durable before it is sent (S1).
//!
//! PySyncObj has no refusal, counts a vote per message
//! (H23) and grants no vote twice, not even to the same candidate (spec 3.1).
//! So per term and peer there is exactly one message each way.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::{Address, Term};

/// One candidature of ours.
#[derive(Debug)]
pub struct Round {
    term: Term,
    asked: BTreeSet<Address>,
    granted: BTreeSet<Address>,
}

impl Round {
    /// Begins the candidature of `term`; our own vote is not counted here.
    pub fn new(term: Term) -> Self {
        Self {
            term,
            asked: BTreeSet::new(),
            granted: BTreeSet::new(),
        }
    }

    /// The term we stand for.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whether to send `request_vote` to this peer now. True once: a request
    /// repeated in the same term is never answered, but a lost one may be
    /// repeated after [`Round::lost`].
    pub fn ask(&mut self, peer: &Address) -> bool {
        self.asked.insert(peer.clone())
    }

    /// The connection on which the request went is gone, and no answer can
    /// come any more: if the request was never read it may be asked again.
    pub fn lost(&mut self, peer: &Address) {
        if !self.granted.contains(peer) {
            self.asked.remove(peer);
        }
    }

    /// A `response_vote` of `term` came from `peer`. True if it is a new vote:
    /// of this term, asked for, and the first of this sender (H23).
    pub fn count(&mut self, peer: &Address, term: Term) -> bool {
        term == self.term && self.asked.contains(peer) && self.granted.insert(peer.clone())
    }

    /// Who voted for us.
    pub fn granted(&self) -> impl Iterator<Item = &Address> {
        self.granted.iter()
    }

    /// Whether `peer` voted for us: then its replies to earlier appends are
    /// all in on that connection (H9 b).
    pub fn is_granted(&self, peer: &Address) -> bool {
        self.granted.contains(peer)
    }

    /// Whether we win among ourselves and `others`, the other voters: a vote of
    /// one who is none any more does not count (H16).
    pub fn is_won<'a>(&self, others: impl Iterator<Item = &'a Address>) -> bool {
        let (mut votes, mut voters) = (1_usize, 1_usize);
        for other in others {
            voters = voters.saturating_add(1);
            votes = votes.saturating_add(usize::from(self.granted.contains(other)));
        }
        votes > voters / 2
    }
}

/// The highest terms heard of, by anybody's vote request or append. PySyncObj
/// tells no loser why; this is how a leader or candidate of a past term learns
/// that it is one (H24).
#[derive(Debug, Default)]
pub struct Terms {
    by_peer: BTreeMap<Address, Term>,
    highest: Term,
}

impl Terms {
    /// A member named this term. Call it for members only: the table is as
    /// large as the group.
    pub fn seen(&mut self, peer: &Address, term: Term) {
        self.highest = self.highest.max(term);
        match self.by_peer.get_mut(peer) {
            Some(known) => *known = term.max(*known),
            None => drop(self.by_peer.insert(peer.clone(), term)),
        }
    }

    /// The highest term of all.
    pub fn highest(&self) -> Term {
        self.highest
    }

    /// The highest term that this peer named.
    pub fn of(&self, peer: &Address) -> Option<Term> {
        self.by_peer.get(peer).copied()
    }

    /// The peer is no member any more. What it named stays in the highest.
    pub fn removed(&mut self, peer: &Address) {
        self.by_peer.remove(peer);
    }
}

/// The votes that we have sent: one `response_vote` per term and candidate at
/// most, for every message counts as a vote (H23). Terms only rise, and in a
/// term we vote for one candidate, so the last one tells.
#[derive(Debug, Default)]
pub struct Answered(Option<(Term, Address)>);

impl Answered {
    /// Whether to send the vote for `candidate` in `term` that the engine
    /// grants. False if one was sent in this term or a later one already, be it
    /// before a restart ([`Answered::restored`]).
    pub fn answer(&mut self, term: Term, candidate: &Address) -> bool {
        if self
            .0
            .as_ref()
            .is_some_and(|(answered, _)| *answered >= term)
        {
            return false;
        }
        self.0 = Some((term, candidate.clone()));
        true
    }

    /// What a former process had voted, as read from disk: it may have sent
    /// it.
    pub fn restored(term: Term, candidate: Address) -> Self {
        Self(Some((term, candidate)))
    }

    /// The last vote sent.
    pub fn last(&self) -> Option<(Term, &Address)> {
        self.0.as_ref().map(|(term, candidate)| (*term, candidate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> Address {
        format!("10.0.0.{n}:5010").parse().unwrap()
    }

    fn term(n: u64) -> Term {
        Term::new(n).unwrap()
    }

    #[test]
    fn a_peer_is_asked_once_a_term() {
        // Spec 3.1: a request repeated in the same term is never answered.
        let mut round = Round::new(term(3));
        assert!(round.ask(&peer(1)));
        assert!(!round.ask(&peer(1)));
        // H11: unless the link was dropped unread.
        round.lost(&peer(1));
        assert!(round.ask(&peer(1)));
        assert!(round.count(&peer(1), term(3)));
        round.lost(&peer(1));
        assert!(!round.ask(&peer(1)));
    }

    #[test]
    fn votes_are_counted_by_sender() {
        // H23
        let others = [peer(1), peer(2), peer(3), peer(4)];
        let mut round = Round::new(term(3));
        assert!(others.iter().all(|other| round.ask(other)));
        assert!(round.count(&peer(1), term(3)));
        assert!(!round.count(&peer(1), term(3)), "twice");
        assert!(!round.count(&peer(2), term(2)), "of another term");
        assert!(!round.count(&peer(9), term(3)), "never asked");
        assert!(!round.is_won(others.iter()), "2 of 5");
        assert!(round.count(&peer(2), term(3)));
        assert!(round.is_won(others.iter()), "3 of 5");
        // H16: one who was removed has no vote.
        assert!(!round.is_won(others[1..].iter()), "2 of 4");
        assert!(round.is_granted(&peer(1)) && !round.is_granted(&peer(3)));
        assert!(round.granted().eq([&peer(1), &peer(2)]));
    }

    #[test]
    fn alone_we_win_and_of_two_we_do_not() {
        let round = Round::new(term(1));
        assert!(round.is_won([].iter()));
        assert!(!round.is_won([peer(1)].iter()));
    }

    #[test]
    fn terms_only_rise() {
        let mut terms = Terms::default();
        terms.seen(&peer(1), term(7));
        terms.seen(&peer(1), term(2)); // H7: it restarted without its term
        terms.seen(&peer(2), term(5));
        assert_eq!(
            (terms.of(&peer(1)), terms.of(&peer(2))),
            (Some(term(7)), Some(term(5)))
        );
        assert_eq!(terms.highest(), term(7));
        terms.removed(&peer(1));
        assert_eq!((terms.of(&peer(1)), terms.highest()), (None, term(7)));
    }

    #[test]
    fn a_vote_is_sent_once() {
        // S1, H23
        let mut answered = Answered::default();
        assert!(answered.answer(term(3), &peer(1)));
        assert!(!answered.answer(term(3), &peer(1)), "a message is a vote");
        assert!(!answered.answer(term(3), &peer(2)), "one vote a term");
        assert!(!answered.answer(term(2), &peer(2)), "terms only rise");
        assert!(answered.answer(term(4), &peer(2)));
        assert_eq!(answered.last(), Some((term(4), &peer(2))));
        let mut restored = Answered::restored(term(4), peer(2));
        assert!(!restored.answer(term(4), &peer(2)), "it may have been sent");
        assert!(restored.answer(term(5), &peer(1)));
    }
}
