//! A witness that takes no part in its group: it has *diverged*, for a leader's log
//! contradicts what is committed here (S2), or it is *orphaned*, for all others
//! have forgotten that. It gives no vote, does not campaign and acknowledges
//! nothing, also after a restart.
//!
//! Both end by themselves when the evidence is gone (S15): a leader shows, entry by
//! entry, that it holds what is committed here. For a divergence it must lead a term
//! no earlier than the one that contradicted us; an older leader proves nothing
//! against it. An operator ends them by `reset` or `adopt`.

use super::Member;
use crate::address::Address;
use crate::disk::{Diverged, Standing};
use crate::ids::{EntryId, LogIndex, Term};
use crate::limits;
use crate::links::connection::Connection;
use crate::links::epoch::EpochId;
use crate::links::follower::Divergence;
use crate::links::reconcile::{Finding, Reconciliation};
use crate::raft::replica::Replica;
use crate::reactor::{self, Instant};
use crate::reason::Reason;
use crate::wire::message::{Append, AppendBody, Message, NextNodeIdx};
use crate::wire::snapshot::Snapshot;

impl Member {
    /// Whether we take no part.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.has_diverged() || self.standing() == Standing::Orphaned
    }

    pub(super) fn has_diverged(&self) -> bool {
        self.replica.borrow().diverged.is_some()
    }

    /// A leader contradicts what is committed here. Takes no part from now on,
    /// durably.
    pub(super) fn diverge(&self, peer: &Address, leader_term: Term, divergence: Divergence) {
        let Divergence { ours, theirs } = divergence;
        let diverged = Diverged {
            ours,
            theirs,
            leader_term,
        };
        let before = self.replica.borrow_mut().diverged.replace(diverged);
        if before.is_some_and(|before| before.leader_term >= leader_term) {
            self.replica.borrow_mut().diverged = before;
            return;
        }
        self.save_hard_state();
        if before.is_none() {
            let but = match theirs.index < ours.index {
                true => "leads with a log that ends before it".into(),
                false => format!("leads with entry {theirs} in its place"),
            };
            log::error!(
                "{}: DIVERGED: entry {ours} is committed here, but {peer} {but}. This witness no longer votes. {}",
                self.name,
                self.remedy(Reason::Diverged)
            );
        }
    }

    /// Whether the leader's log ends before what is committed here. Each answer asks it to
    /// begin right behind that, so after some seconds that is no crossing of messages.
    pub(super) fn ends_early(&self, leader: &Address) -> bool {
        let links = self.sockets.links.borrow();
        let since = links.get(leader).and_then(|link| link.exchange.ends_early);
        since.is_some_and(|since| since.elapsed() >= limits::STALL_TIME / 2)
    }

    /// The leader was elected without what is committed here (S2).
    pub(super) fn diverge_from_shorter(&self, leader: &Address) {
        let (term, ours) = {
            let replica = self.replica.borrow();
            let commit = replica.log.id_at(replica.log.commit());
            (replica.vote.term.term, commit)
        };
        let Some(ours) = ours.map(EpochId::entry_id) else {
            return;
        };
        let peers = self.elector.peers.borrow();
        let end = peers
            .told(leader)
            .and_then(|told| LogIndex::new(told.commit));
        let before_ours = ours.index.prev().unwrap_or(LogIndex::FIRST);
        let theirs = EntryId {
            index: end.unwrap_or(LogIndex::FIRST).min(before_ours),
            term,
        };
        drop(peers);
        self.diverge(leader, term, Divergence { ours, theirs });
    }

    /// Looks, while we take no part, whether a leader holds what is committed here.
    pub(super) fn on_append_withdrawn(
        &self,
        peer: &Address,
        connection: &Connection,
        append: Append,
    ) {
        let Append { term, body, .. } = append;
        // Not followed, but known: it leads, whatever we think of it.
        if term >= self.replica.borrow().vote.term.term {
            let mut leaders = self.elector.leaders.borrow_mut();
            leaders.note(peer, term, Instant::now());
        }
        if !self.may_end_withdrawal(peer, term) {
            return;
        }
        let found = match body {
            AppendBody::Entries { prev, entries } => self.observe(peer, |seen, replica| {
                seen.observe(&replica.log, replica.compared_from(), term, prev, &entries)
            }),
            AppendBody::Fragment { prev, part, data } => {
                let entry = self.assemble_entry(peer, term, part, &data);
                let entries: Vec<_> = entry.into_iter().collect();
                self.observe(peer, |seen, replica| {
                    seen.observe(&replica.log, replica.compared_from(), term, prev, &entries)
                })
            }
            AppendBody::Snapshot(None) => return,
            AppendBody::Snapshot(Some(chunk)) => {
                let bytes = self.assemble_snapshot(peer, term, &chunk);
                let Some(Ok(snapshot)) = bytes.map(|bytes| Snapshot::decode(&bytes)) else {
                    return;
                };
                let entries = [&snapshot.prev, &snapshot.last];
                self.observe(peer, |seen, replica| {
                    seen.observe_snapshot(&replica.log, term, entries)
                })
            }
        };
        match found {
            Finding::Nothing => {}
            Finding::Ask(from) => connection.send(&Message::NextNodeIdx(NextNodeIdx {
                next: from.get().cast_signed(),
                reset: true,
                success: false,
            })),
            Finding::Contradicts(divergence) if self.has_diverged() => {
                self.diverge(peer, term, divergence);
            }
            // Of a cluster that was made anew nothing else is to be expected.
            Finding::Contradicts(_) => {}
            Finding::Agrees => self.take_part_again(peer, "leads with all"),
        }
    }

    /// Whether what this leader holds could end it.
    fn may_end_withdrawal(&self, peer: &Address, term: Term) -> bool {
        match self.replica.borrow().diverged {
            Some(diverged) => term >= diverged.leader_term,
            None => {
                let peers = self.elector.peers.borrow();
                peers.is_verified(peer) && !peers.lacks_something(peer)
            }
        }
    }

    fn observe(
        &self,
        peer: &Address,
        look: impl FnOnce(&mut Reconciliation, &Replica) -> Finding,
    ) -> Finding {
        let mut links = self.sockets.links.borrow_mut();
        let replica = self.replica.borrow();
        let Some(link) = links.get_mut(peer) else {
            return Finding::Nothing;
        };
        look(&mut link.exchange.reconciliation, &replica)
    }

    /// A candidate names the end of its log: an orphaned witness is not the only
    /// one to remember if that is its own.
    pub(super) fn on_candidate_withdrawn(&self, peer: &Address, last: EntryId) {
        let ours = self.replica.borrow().log.last();
        let same = (ours.index, ours.term.term) == (last.index, last.term);
        if same && self.standing() == Standing::Orphaned && !self.has_diverged() {
            self.take_part_again(peer, "holds all");
        }
    }

    fn take_part_again(&self, peer: &Address, holds: &str) {
        {
            let mut replica = self.replica.borrow_mut();
            replica.diverged = None;
            if replica.standing == Standing::Orphaned {
                replica.standing = Standing::Voter;
            }
        }
        self.save_hard_state();
        self.elector.peers.borrow_mut().remembers_again(peer);
        log::warn!(
            "{}: {peer} {holds} that is committed here: this witness takes part again",
            self.name
        );
        self.restart_timer();
        self.notify();
    }

    /// Saves vote and standing as they are now, behind all votes that are under way.
    /// Should the disk fail, the next start finds what was saved before.
    pub(super) fn save_hard_state(&self) {
        let replica = self.replica.borrow();
        let saved = replica.disk.save_hard_state(replica.hard_state());
        drop(replica);
        reactor::spawn(async move {
            let _ = saved.await;
        })
        .detach();
    }
}
