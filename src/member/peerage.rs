//! What the peers have shown of themselves since the start: whether each may be
//! believed, what it can do, and what it told last.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::estranged::Lack;
use crate::address::Address;
use crate::ids::Term;
use crate::reactor::Instant;
use crate::reason::Refusal;
use crate::status::shown;
use crate::wire::utility::StatusReply;

/// What the peers have shown of themselves since the start.
#[derive(Default)]
pub struct Peerage(pub(super) RefCell<BTreeMap<Address, Known>>);

/// What one peer has shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// What it told last, for whoever looks.
    pub(super) told: Option<Told>,
    /// A question for that is on its way.
    refreshing: bool,
    /// The last one got no answer, where an earlier one did: it may be gone, and
    /// TCP not know it yet.
    silent: bool,
    /// See [`Peerage::is_verified`].
    pub(super) verified: bool,
    /// A question for what `verified` needs is on its way.
    pub(super) asking: bool,
    /// Not to be asked again before.
    pub(super) pause: Option<Instant>,
    /// How often in a row, over this connection of ours, it did not answer.
    pub(super) unanswered: u32,
    /// Knows `timeout_now` (0.3.16 and later).
    pub(super) takes_leadership: bool,
    /// Begins again at term 0 when it restarts (0.3.15 and earlier; H7).
    pub(super) forgets_terms: bool,
    /// Who answered last in its place, unknown if it named no address.
    answered_by: Option<Option<Address>>,
    /// How often that has changed to somebody.
    misdirected: u64,
    /// What it lacks of what is committed here.
    pub(super) lacks: Option<Lack>,
    /// We lead, and it is not told anything yet.
    pub(super) to_be_taught: bool,
    /// Why it was given no vote when it last asked.
    refused: Option<Refusal>,
    /// The term in which it claimed to lead beside another.
    second_leader: Option<Term>,
    /// When it last claimed a leadership that we do not follow.
    ignored: Option<Instant>,
    /// It does not list us among its partners.
    pub(super) disowns: bool,
}

/// What a peer's `status` tells for the eye.
#[derive(Debug, Clone)]
pub struct Told {
    /// What it runs, or claims to.
    pub version: Rc<str>,
    /// Its commit index.
    pub commit: u64,
    /// Its term.
    pub term: Term,
    /// When it said so.
    pub at: Instant,
}

impl Told {
    pub(super) fn of(status: &StatusReply) -> Self {
        Self {
            version: shown(&status.version).into(),
            commit: status.commit_idx,
            term: status.raft_term,
            at: Instant::now(),
        }
    }
}

impl Peerage {
    /// Whether the peer showed that our log is no stale past of its cluster.
    pub fn is_verified(&self, peer: &Address) -> bool {
        self.0
            .borrow()
            .get(peer)
            .is_some_and(|known| known.verified)
    }

    /// Whether leadership can be handed over to the peer.
    pub fn takes_leadership(&self, peer: &Address) -> bool {
        self.0
            .borrow()
            .get(peer)
            .is_some_and(|known| known.takes_leadership)
    }

    pub(super) fn forgets_terms(&self, peer: &Address) -> bool {
        self.0
            .borrow()
            .get(peer)
            .is_some_and(|known| known.forgets_terms)
    }

    /// What the peer told of itself last.
    pub fn told(&self, peer: &Address) -> Option<Told> {
        self.0.borrow().get(peer)?.told.clone()
    }

    /// Whether the peer did not answer when it was asked last, though it did
    /// before.
    pub fn is_silent(&self, peer: &Address) -> bool {
        self.0.borrow().get(peer).is_some_and(|known| known.silent)
    }

    /// Whether to ask the peer anew for the eye's sake: what it told is old, or
    /// it is silent, and nobody asks yet.
    pub fn begin_refresh(&self, peer: &Address, fresh: Duration) -> bool {
        self.update(peer, |known| {
            let told = known.told.as_ref();
            let old = told.is_none_or(|told| told.at.elapsed() >= fresh);
            (old || known.silent) && !std::mem::replace(&mut known.refreshing, true)
        })
    }

    /// Ends what [`Peerage::begin_refresh`] began. The answer is only shown: what
    /// is believed of the peer is for `verify` to learn.
    pub fn end_refresh(&self, peer: &Address, answer: Option<&StatusReply>) {
        self.update(peer, |known| {
            known.refreshing = false;
            known.silent = answer.is_none() && known.told.is_some();
            known.told = answer.map(Told::of).or(known.told.take());
        });
    }

    /// Notes why the peer gets no vote. Whether that is news: without a leader
    /// it asks again every second.
    pub fn refuse(&self, peer: &Address, why: Refusal) -> bool {
        self.update(peer, |known| known.refused.replace(why) != Some(why))
    }

    /// Notes that the peer claims to lead `term` beside another. Whether that is
    /// news: it says so with every heartbeat.
    pub fn claims(&self, peer: &Address, term: Term) -> bool {
        self.update(peer, |known| {
            known.second_leader.replace(term) != Some(term)
        })
    }

    /// Notes that the peer claims a leadership that we do not follow.
    pub fn ignore(&self, peer: &Address) {
        self.update(peer, |known| known.ignored = Some(Instant::now()));
    }

    /// Notes who answered at the peer's address, if another did. How often that
    /// was news, if it is now.
    pub fn answered_by(&self, peer: &Address, other: Option<Option<Address>>) -> Option<u64> {
        self.update(peer, |known| {
            let news = other.is_some() && known.answered_by != other;
            known.answered_by = other;
            known.misdirected = known.misdirected.saturating_add(u64::from(news));
            news.then_some(known.misdirected)
        })
    }

    /// Whether it did so within this time.
    pub fn is_ignored(&self, peer: &Address, within: Duration) -> bool {
        let known = self.0.borrow();
        let ignored = known.get(peer).and_then(|known| known.ignored);
        ignored.is_some_and(|at| at.elapsed() <= within)
    }

    /// Whether the peer does not take us for a member.
    pub fn disowns(&self, peer: &Address) -> bool {
        self.0
            .borrow()
            .get(peer)
            .is_some_and(|known| known.verified && known.disowns)
    }

    /// The peer is connected anew: it may have restarted.
    pub fn forget(&self, peer: &Address) {
        self.update(peer, |known| {
            known.verified = false;
            known.lacks = None;
            known.to_be_taught = false;
            known.silent = false;
            // What was asked before says nothing of it as it is now.
            known.asking = false;
            // It is there now: its vote request may come within a moment.
            known.pause = None;
            known.unanswered = 0;
        });
    }

    pub(super) fn update<T>(&self, peer: &Address, f: impl FnOnce(&mut Known) -> T) -> T {
        f(self.0.borrow_mut().entry(peer.clone()).or_default())
    }
}
