//! Voter eligibility (S7): whether a witness that has no memory of what it once
//! promised may vote, and what proved it.
//!
//! A witness whose state is empty, lost or replaced is *recovering*: it stores
//! what it is sent, but gives no vote, does not campaign and acknowledges
//! nothing. It becomes a voter by one of these proofs:
//!
//! * **caught up** (a): the leader commits an entry of its own term that it made
//!   after we held its whole log, without our acknowledgement;
//! * **new cluster** (b): every configured member holds nothing, shown twice, the
//!   second time after all others had answered; or, for a first deployment in
//!   steps, a majority does and the hosts of all others refuse connections;
//! * **new member** (c): the leader's members did not include us while our log was
//!   empty, and an `add` of us beyond the end of its log is stored here;
//! * the operator's word (d): `adopt --accept-loss`, which is not decided here.
//!
//! Each wording was checked against a model in which looser ones lost committed
//! entries. Do not relax one without such a check.
//!
//! Events and instants come in, decisions go out: no socket, no clock, no disk.
//! Every event must be an answer of the member that was asked. What must survive a
//! restart is in [`Arrival`], which the caller saves whenever it has changed.

mod answer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use self::answer::{Answer, Shown};
use super::beginning::{Founding, OwnState};
use crate::address::Address;
use crate::disk::{Arrival, Reading};
use crate::ids::{LogIndex, Term};
use crate::links::follower::VoteView;
use crate::reactor::Instant;

/// What made a voter of this witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The leader committed this entry without us (a).
    CaughtUp {
        /// Who leads: it counts as our vote of its term.
        leader: Address,
        /// The entry.
        entry: LogIndex,
    },
    /// The cluster is new (b).
    NewCluster {
        /// The greatest term shown: it becomes ours, with its vote spent.
        term: Term,
        /// Who holds nothing.
        with: Vec<Address>,
        /// Whose host refuses connections.
        refused: Vec<Address>,
    },
    /// We are a new member, added by this entry (c).
    NewMember {
        /// The `add`.
        add: LogIndex,
    },
    /// There are no other members.
    Alone,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CaughtUp { leader, entry } => {
                write!(f, "{leader} committed entry {entry} without this witness")
            }
            Self::NewCluster { with, refused, .. } if refused.is_empty() => {
                write!(f, "every member is new: founded with {}", List(with))
            }
            Self::NewCluster { with, refused, .. } => write!(
                f,
                "the cluster is new: founded with {}; {} refused connections",
                List(with),
                List(refused)
            ),
            Self::NewMember { add } => {
                write!(f, "new member of the group, added by entry {add}")
            }
            Self::Alone => f.write_str("it is the only member"),
        }
    }
}

/// Addresses, separated by commas.
pub struct List<'a>(pub &'a [Address]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, address) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            address.fmt(f)?;
        }
        Ok(())
    }
}

/// What is durable here.
#[derive(Debug, Clone, Copy)]
pub struct Durable<'a> {
    /// The last entry of our log.
    pub last: LogIndex,
    /// Whom we follow.
    pub vote: &'a VoteView,
    /// The last entry that is committed.
    pub commit: LogIndex,
    /// The term in which that was made, if the log shows it.
    pub commit_term: Option<Term>,
}

/// The eligibility of one member of one cluster.
#[derive(Debug)]
pub struct Eligibility {
    recovering: bool,
    founding: Founding,
    arrival: Arrival,
    /// Whether our log holds nothing but the entry that every log begins with.
    empty: bool,
    partners: BTreeMap<Address, Partner>,
    round: Round,
    /// The greatest `raft_term` that a member without data has shown.
    term: Term,
    attendance: Option<Attendance>,
}

/// What a configured member has shown since the start.
#[derive(Debug, Default)]
struct Partner {
    /// The first and the last refusal, if nothing else came since the first.
    refused: Option<(Instant, Instant)>,
    /// Answers in a row without a use, for the operator.
    silent: bool,
}

/// One round of proof b.
#[derive(Debug, Default)]
struct Round {
    /// Who holds nothing, as asked in this half of the round.
    empty: BTreeMap<Address, Shown>,
    /// The first half: when it was complete, and who had answered.
    first: Option<(Instant, BTreeSet<Address>)>,
}

/// How long a recovering witness has been following a leader (a).
///
/// A promise of ours that we have forgotten, or an old answer that a paused leader
/// finds in its sockets, can only be about entries that were in its log when we
/// began to store it.
#[derive(Debug)]
struct Attendance {
    leader: Address,
    term: Term,
    /// The end of its log when we first held all of it; none before.
    whole: Option<LogIndex>,
}

impl Eligibility {
    /// `partners`: the other configured members. `own`: what our state says.
    pub fn new(
        me: &Address,
        partners: impl IntoIterator<Item = Address>,
        founding: Founding,
        own: OwnState,
    ) -> Self {
        let others = partners.into_iter().filter(|partner| partner != me);
        Self {
            partners: others.map(|p| (p, Partner::default())).collect(),
            recovering: own.is_recovering(),
            founding,
            arrival: Arrival {
                saw_data: own.arrival.saw_data || !own.empty,
                ..own.arrival
            },
            empty: own.empty,
            round: Round::default(),
            term: Term::ZERO,
            attendance: None,
        }
    }

    /// Of a member whose word counts.
    pub fn voter() -> Self {
        let arrival = Arrival::default();
        Self {
            recovering: false,
            founding: Founding::WithAll,
            arrival,
            empty: false,
            partners: BTreeMap::new(),
            round: Round::default(),
            term: Term::ZERO,
            attendance: None,
        }
    }

    /// Whether our word does not count yet.
    pub fn is_recovering(&self) -> bool {
        self.recovering
    }

    /// What must survive a restart.
    pub fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// A proof was found, or the operator has spoken.
    pub fn become_voter(&mut self) {
        self.recovering = false;
        self.attendance = None;
        self.round = Round::default();
    }

    /// Without partners there is nobody to ask. Not where state was lost.
    pub fn alone(&self) -> Option<Proof> {
        let founds = self.recovering && self.founding != Founding::WithAll;
        let may = founds && self.empty && self.partners.is_empty() && !self.arrival.saw_data;
        may.then_some(Proof::Alone)
    }

    /// A member was asked for its `status` at `asked`, and this came of it at
    /// `now` (b).
    pub fn on_status(
        &mut self,
        peer: &Address,
        asked: Instant,
        now: Instant,
        answer: Answer,
    ) -> Option<Proof> {
        if !self.recovering {
            return None;
        }
        if matches!(&answer, Answer::Status(shown) if !shown.holds_nothing) {
            self.saw_data();
        }
        let partner = self.partners.get_mut(peer)?;
        partner.silent = answer == Answer::Silent;
        partner.refused = match &answer {
            Answer::Refused => Some((partner.refused.map_or(asked, |(first, _)| first), now)),
            Answer::Status(_) | Answer::Silent => None,
        };
        match answer {
            Answer::Status(shown) if shown.holds_nothing => {
                self.term = self.term.max(shown.term);
                let began = self.round.first.as_ref().map(|(began, _)| *began);
                // In the second half only what was asked after the first counts.
                if began.is_none_or(|began| asked >= began) {
                    self.round.empty.insert(peer.clone(), shown);
                }
            }
            _ => self.round.lose(peer),
        }
        self.judge_round(now)
    }

    /// Whether the round proves a new cluster, or its first half is complete.
    fn judge_round(&mut self, now: Instant) -> Option<Proof> {
        if self.arrival.saw_data || !self.empty || self.partners.is_empty() {
            return None;
        }
        let refused = self.refused_if_complete()?;
        let with: BTreeSet<Address> = self.round.empty.keys().cloned().collect();
        if let Some((_, first)) = &self.round.first
            && *first == with
        {
            return Some(Proof::NewCluster {
                term: self.term,
                with: with.into_iter().collect(),
                refused,
            });
        }
        self.round = Round {
            empty: BTreeMap::new(),
            first: Some((now, with)),
        };
        None
    }

    /// If this half of the round is complete: those that did not need to answer.
    fn refused_if_complete(&self) -> Option<Vec<Address>> {
        let answered = &self.round.empty;
        let others = self.partners.iter();
        let missing: Vec<_> = others.filter(|(p, _)| !answered.contains_key(*p)).collect();
        if missing.is_empty() {
            return Some(Vec::new());
        }
        let Founding::WithMajority { refused_for } = self.founding else {
            return None;
        };
        let gone = |partner: &Partner| {
            let refused = partner.refused;
            refused.is_some_and(|(first, last)| last.duration_since(first) >= refused_for)
        };
        let seen = |address: &Address| answered.values().any(|s| s.connected.contains(address));
        let all_gone = missing.iter().all(|(a, p)| gone(p) && !seen(a));
        let members = self.partners.len().saturating_add(1);
        let majority = answered.len().saturating_add(1) > members / 2;
        // Ourselves alone prove nothing: somebody must have been asked.
        let anybody = !answered.is_empty();
        let addresses = missing.into_iter().map(|(address, _)| address.clone());
        (all_gone && majority && anybody).then(|| addresses.collect())
    }

    /// A member answered `members` (c). `leads`: it says so of itself. `listed`:
    /// we are among them. `end`: an index at or beyond the end of its log at that
    /// moment. Only the first such answer of a leader counts, and only while our
    /// log is empty. Returns whether this one did.
    pub fn on_members(&mut self, leads: bool, listed: bool, end: LogIndex) -> bool {
        let first = self.arrival.reading.is_none();
        if !(self.recovering && self.empty && leads && first) {
            return false;
        }
        self.arrival.reading = Some(match listed {
            true => Reading::Listed,
            false => Reading::Unlisted { end },
        });
        // A leader holds at least the entry of its election.
        self.saw_data();
        true
    }

    /// What a leader sent is durable here: whether that proves something (a, c).
    /// `adds`: the entries of our log that add us, in order.
    pub fn on_durable(
        &mut self,
        leader: &Address,
        durable: Durable<'_>,
        adds: impl Iterator<Item = LogIndex>,
    ) -> Option<Proof> {
        if durable.last > LogIndex::FIRST
            && let Some(proof) = self.on_stored(adds)
        {
            return Some(proof);
        }
        let vote = durable.vote;
        if !(vote.committed && vote.node == *leader) {
            return None;
        }
        self.on_commit(leader, vote.term.term, durable.commit, durable.commit_term?)
    }

    /// Entries beyond the first are stored; `adds`: those that add us, in order.
    fn on_stored(&mut self, mut adds: impl Iterator<Item = LogIndex>) -> Option<Proof> {
        self.empty = false;
        if !self.recovering {
            return None;
        }
        self.saw_data();
        let Some(Reading::Unlisted { end }) = self.arrival.reading else {
            return None;
        };
        let add = adds.find(|add| *add > end)?;
        Some(Proof::NewMember { add })
    }

    /// A leader's append was stored (a). `end`: where its log ends, if the message
    /// shows that: one without entries that fits. Returns whether its log is held
    /// whole for the first time: then a new entry would prove something.
    pub fn on_append(&mut self, leader: &Address, term: Term, end: Option<LogIndex>) -> bool {
        if !self.recovering {
            return false;
        }
        let attendance = match &mut self.attendance {
            Some(known) if known.leader == *leader && known.term == term => known,
            other => other.insert(Attendance {
                leader: leader.clone(),
                term,
                whole: None,
            }),
        };
        let first = attendance.whole.is_none() && end.is_some();
        attendance.whole = attendance.whole.or(end);
        first
    }

    /// The leader that we follow in `term` has committed the entry at `commit`,
    /// which is of `of_term` (a).
    fn on_commit(
        &self,
        leader: &Address,
        term: Term,
        commit: LogIndex,
        of_term: Term,
    ) -> Option<Proof> {
        let attendance = self.attendance.as_ref().filter(|_| self.recovering)?;
        let followed = attendance.leader == *leader && attendance.term == term;
        let beyond = attendance.whole.is_some_and(|whole| commit > whole);
        (followed && beyond && of_term == term).then(|| Proof::CaughtUp {
            leader: leader.clone(),
            entry: commit,
        })
    }

    /// Whether a leader has told us that its group does not list us.
    pub fn is_unlisted(&self) -> bool {
        matches!(self.arrival.reading, Some(Reading::Unlisted { .. }))
    }

    fn saw_data(&mut self) {
        self.arrival.saw_data = true;
        self.round = Round::default();
    }

    /// What a recovering witness waits for, and what an operator can do.
    pub fn awaits(&self) -> Awaits {
        let silent = |(address, partner): (&Address, &Partner)| {
            (partner.silent || partner.refused.is_some()).then(|| address.clone())
        };
        let unheard = self.partners.iter().filter_map(silent).collect();
        match (self.arrival.reading, self.arrival.saw_data) {
            (Some(Reading::Unlisted { .. }), _) => Awaits::Membership,
            (_, true) => Awaits::Commit { unheard },
            (_, false) => Awaits::Members { unheard },
        }
    }
}

impl Round {
    /// The member no longer shows that it holds nothing: the round begins anew.
    fn lose(&mut self, peer: &Address) {
        let counted = self.first.as_ref().is_some_and(|(_, f)| f.contains(peer));
        if self.empty.remove(peer).is_some() || counted {
            *self = Self::default();
        }
    }
}

/// What a recovering witness waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaits {
    /// The group has a leader and does not know us yet.
    Membership,
    /// The cluster holds data: an entry must be committed without us.
    Commit {
        /// Members that do not answer.
        unheard: Vec<Address>,
    },
    /// Nobody has shown data: all members must answer.
    Members {
        /// Members that do not answer.
        unheard: Vec<Address>,
    },
}

impl fmt::Display for Awaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unheard = match self {
            Self::Membership => return f.write_str("the group is to add this witness first"),
            Self::Commit { unheard } => {
                f.write_str("the data nodes are to commit an entry without this witness")?;
                unheard
            }
            Self::Members { unheard } => {
                f.write_str("every member is to show what it holds")?;
                unheard
            }
        };
        if unheard.is_empty() {
            return Ok(());
        }
        write!(f, "; no answer from {}", List(unheard))
    }
}

#[cfg(test)]
mod tests;
