//! What each witness has promised, which no kill and no power cut may undo: its term and
//! vote, what it has acknowledged, and that a leader has contradicted it. Seen in its
//! memory right before the process ends, and held against what the next one finds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use pg_witness::disk::Standing;
use pg_witness::links::epoch::EpochTerm;
use pg_witness::member::Member;

use crate::registry::{Held, held_by};

/// By the hosts of the witnesses.
#[derive(Default)]
pub struct Promises(RefCell<BTreeMap<IpAddr, Promise>>);

#[derive(Debug, Clone, Default)]
struct Promise {
    /// Whether it was a voter since it may have forgotten.
    voter: bool,
    /// Its term and the vote in it, both durable.
    term: EpochTerm,
    voted_for: String,
    /// A leader has contradicted what is committed here.
    diverged: bool,
    /// Index and term of the last entry that a leader was told it holds.
    acknowledged: Option<(i64, i64)>,
}

impl Promises {
    /// A witness runs and is so.
    pub fn sees(&self, host: IpAddr, member: &Member) {
        let mut promises = self.0.borrow_mut();
        let promise = promises.entry(host).or_default();
        let replica = member.replica_for_tests();
        let replica = replica.borrow();
        promise.voter |= replica.standing == Standing::Voter;
        promise.term = replica.vote.term;
        promise.voted_for = replica.vote.node.to_string();
        promise.diverged = replica.diverged.is_some();
        // A later leader may have cut it.
        let acknowledged = promise.acknowledged;
        promise.acknowledged =
            acknowledged.filter(|(index, term)| held_by(member, *index) == Held::Term(*term));
    }

    /// It may have forgotten all of it: nothing is promised any more.
    pub fn forgets(&self, host: IpAddr) {
        self.0.borrow_mut().remove(&host);
    }

    /// A leader was told that it holds this entry, and it does. What is wrong with that.
    pub fn acknowledges(&self, host: IpAddr, entry: (i64, i64), member: &Member) -> Option<String> {
        let mut promises = self.0.borrow_mut();
        let promise = promises.entry(host).or_default();
        promise.voter |= member.replica_for_tests().borrow().standing == Standing::Voter;
        let (index, term) = entry;
        if held_by(member, index) == Held::Term(term) {
            promise.acknowledged = Some(entry);
        }
        (!promise.voter)
            .then(|| format!("S7: the witness {host} acknowledged entry {index} without a vote"))
    }

    /// A process has found its state. What it has forgotten of what it promised, unless it
    /// knows that it may have forgotten (S7).
    pub fn opened(&self, host: IpAddr, member: &Member) -> Option<String> {
        let promises = self.0.borrow();
        let promise = promises.get(&host)?;
        let replica = member.replica_for_tests();
        let replica = replica.borrow();
        if replica.standing == Standing::Recovering {
            return None;
        }
        let (term, voted_for) = (replica.vote.term, replica.vote.node.to_string());
        if term < promise.term || term == promise.term && voted_for != promise.voted_for {
            return Some(format!(
                "S1: {host} had voted for {} in term {:?}, and finds a vote for {voted_for} in \
                 {term:?}",
                promise.voted_for, promise.term
            ));
        }
        if promise.diverged && replica.diverged.is_none() {
            return Some(format!("S2: {host} has forgotten that it has diverged"));
        }
        let (index, term) = promise.acknowledged?;
        let held = held_by(member, index);
        let kept = held == Held::Term(term) || held == Held::Unknown;
        (!kept).then(|| {
            let end = replica.log.last();
            format!(
                "S1: {host} had acknowledged entry {index} of term {term}, and finds {held:?}; \
                 its log ends with {end:?}"
            )
        })
    }
}
