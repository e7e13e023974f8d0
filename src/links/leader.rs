//! The leader's side towards PySyncObj peers: which append goes to whom and
//! when, what a reply proves, how far every follower holds our log. It is this
//! module that keeps a Python follower from cutting off entries that it
//! acknowledged (S3): PySyncObj truncates on every append (H8) and its replies
//! name neither term nor request (H9).
//!
//! A leadership is one [`Leader`], made when the engine has won a term and
//! dropped when it is lost. The engine decides votes and commit; it reads the
//! log to us through [`LogView`] and learns here how far each follower is. The
//! connections bring replies and carry out [`Action`]s. No I/O, no clock:
//! instants come in.
//!
//! * [`Leader::poll`] is called when the log has grown, commit has advanced, a
//!   reply has come, a connection takes more of a snapshot, or
//!   [`Leader::next_wakeup`] has passed.
//! * `link` holds the rules of one connection, `inflights` its unanswered
//!   appends, `snapshot` a transfer.

mod action;
mod inflights;
mod link;
mod log_view;
mod peer;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use action::{Action, CloseReason};
pub use link::LeadershipTiming;
use link::{Beat, Bound, Holds, Link, ReplyMeaning, Send};
pub use log_view::LogView;
pub use peer::{ConnId, Fence, Peer};

use crate::address::Address;
use crate::bugs::{Bug, planted};
use crate::ids::{EntryId, LogIndex, Term};
use crate::reactor::Instant;
use crate::wire::message::NextNodeIdx;

/// A longer pause between two polls is a stall of our own.
const STALL: Duration = Duration::from_secs(1);

/// What a counted reply has told of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progressed {
    /// It holds our log up to here, by its own word in this leadership.
    pub matched: Option<LogIndex>,
    /// `matched` went down: the peer lost what it had acknowledged (H14).
    pub reverted: bool,
    /// When the answered append was sent: the peer was in our term after that.
    pub sent_at: Instant,
}

/// One leadership.
#[derive(Debug)]
pub struct Leader {
    term: Term,
    timing: LeadershipTiming,
    since: Instant,
    next_beat: Instant,
    polled_at: Instant,
    /// No peer is called silent before.
    patient_until: Instant,
    peers: BTreeMap<Peer, Progress>,
    /// Closes to emit; each is of a connection that already is no link.
    closes: Vec<(Peer, ConnId, CloseReason)>,
    uncounted_replies: u64,
    /// A peer was forgotten: whoever comes now may have been sent entries before.
    forgot_somebody: bool,
}

/// What is known of one peer, its connections come and go.
#[derive(Debug, Default)]
struct Progress {
    link: Option<Link>,
    /// There was a link before: the peer may hold any entry of this leadership,
    /// acknowledged or not.
    linked: bool,
    matched: Option<LogIndex>,
    last_response: Option<Instant>,
    answered_sent_at: Option<Instant>,
}

impl Leader {
    /// Begins the leadership of `term` without any connection.
    pub fn new(term: Term, timing: LeadershipTiming, now: Instant) -> Self {
        Self {
            term,
            timing,
            since: now,
            next_beat: now,
            polled_at: now,
            patient_until: now,
            peers: BTreeMap::new(),
            closes: Vec::new(),
            uncounted_replies: 0,
            forgot_somebody: false,
        }
    }

    /// The term of all appends.
    pub fn term(&self) -> Term {
        self.term
    }

    /// When the leadership began.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// A connection is there for appends: new, or left from before this
    /// leadership. An older one of the same peer is closed (one live connection
    /// per peer); a [`Fence::Dirty`] one too, and only the next counts (H9 c).
    pub fn connected(&mut self, peer: Peer, conn: ConnId, fence: Fence, now: Instant) {
        let progress = self.peers.entry(peer.clone()).or_default();
        if progress.link.as_ref().is_some_and(|link| link.conn == conn) {
            return;
        }
        if let Some(old) = progress.link.take() {
            self.closes
                .push((peer.clone(), old.conn, CloseReason::Replaced));
        }
        if fence == Fence::Dirty && !planted(Bug::StaleMatch) {
            self.closes.push((peer, conn, CloseReason::Unfenced));
            return;
        }
        // A reader is another peer with every hello, and brings its log along.
        let is_reader = matches!(peer, Peer::ReadOnly(_));
        let linked = std::mem::replace(&mut progress.linked, true);
        let brings = is_reader && !planted(Bug::ProbesBelow);
        let holds = if linked || brings || self.forgot_somebody {
            Holds::Anything
        } else {
            Holds::NothingOf(self.term)
        };
        progress.link = Some(Link::new(conn, holds, now));
    }

    /// A connection is gone. What a member acknowledged stays known; a reader
    /// is forgotten (spec 3.9).
    pub fn disconnected(&mut self, peer: &Peer, conn: ConnId) {
        let Some(progress) = self.peers.get_mut(peer) else {
            return;
        };
        if progress.link.as_ref().is_some_and(|link| link.conn != conn) {
            return;
        }
        progress.link = None;
        if matches!(peer, Peer::ReadOnly(_)) {
            self.peers.remove(peer);
        }
    }

    /// The peer is no member any more: forget it. Closing is the caller's
    /// (H16).
    pub fn removed(&mut self, peer: &Peer) {
        self.forgot_somebody |= self.peers.remove(peer).is_some();
    }

    /// A `next_node_idx` has come. None if it answers no append of this
    /// leadership on this connection, and so proves nothing (H9).
    pub fn on_reply(
        &mut self,
        peer: &Peer,
        conn: ConnId,
        reply: &NextNodeIdx,
        now: Instant,
    ) -> Option<Progressed> {
        let counted = self.count_reply(peer, conn, reply, now);
        if counted.is_none() {
            self.uncounted_replies = self.uncounted_replies.saturating_add(1);
        }
        counted
    }

    fn count_reply(
        &mut self,
        peer: &Peer,
        conn: ConnId,
        reply: &NextNodeIdx,
        now: Instant,
    ) -> Option<Progressed> {
        let progress = self.peers.get_mut(peer)?;
        let link = progress.link.as_mut().filter(|link| link.conn == conn)?;
        match link.answer(reply, now) {
            ReplyMeaning::Unasked => None,
            ReplyMeaning::OutOfStep => {
                progress.link = None;
                self.closes
                    .push((peer.clone(), conn, CloseReason::OutOfStep));
                None
            }
            ReplyMeaning::Counted {
                sent_at,
                held,
                bound,
            } => {
                progress.last_response = Some(now);
                progress.answered_sent_at = progress.answered_sent_at.max(Some(sent_at));
                progress.matched = progress.matched.max(held);
                let reverted = bound.is_some_and(|Bound(bound)| bound < progress.matched);
                if let Some(Bound(bound)) = bound {
                    progress.matched = progress.matched.min(bound);
                }
                Some(Progressed {
                    matched: progress.matched,
                    reverted,
                    sent_at,
                })
            }
        }
    }

    /// The snapshot asked for by [`Action::SnapshotNeeded`] is there: `len`
    /// bytes, whose newest entry is `last`. False if it is not wanted any more,
    /// or if `last` is not in our log: then it may be older than what the
    /// follower has, and Python would install it (H12).
    pub fn snapshot_ready(
        &mut self,
        peer: &Peer,
        conn: ConnId,
        len: u64,
        last: EntryId,
        log: &impl LogView,
        now: Instant,
    ) -> bool {
        let Some(link) = self.link(peer, conn) else {
            return false;
        };
        if log.term_at(last.index) != Some(last.term) {
            link.snapshot_failed(now);
            return false;
        }
        link.snapshot_ready(len, last.index, now)
    }

    /// The snapshot asked for cannot be had now; it will be asked for again.
    pub fn snapshot_failed(&mut self, peer: &Peer, conn: ConnId, now: Instant) {
        if let Some(link) = self.link(peer, conn) {
            link.snapshot_failed(now);
        }
    }

    /// The connection can queue `window` bytes of snapshot now. A chunk goes
    /// out when there is room for a whole one (`SNAPSHOT_CHUNK_BYTES`).
    pub fn writable(&mut self, peer: &Peer, conn: ConnId, window: usize) {
        if let Some(link) = self.link(peer, conn) {
            link.writable(window);
        }
    }

    /// The peer holds our log and cannot apply it, as PySyncObj without its dump:
    /// it is sent a snapshot as soon as that takes nothing from it.
    pub fn restore(&mut self, peer: &Peer) {
        let progress = self.peers.get_mut(peer);
        if let Some(link) = progress.and_then(|progress| progress.link.as_mut()) {
            link.restore();
        }
    }

    fn link(&mut self, peer: &Peer, conn: ConnId) -> Option<&mut Link> {
        let link = self.peers.get_mut(peer)?.link.as_mut()?;
        (link.conn == conn).then_some(link)
    }

    /// Emits all that is to be done now.
    pub fn poll(&mut self, log: &impl LogView, now: Instant, emit: &mut impl FnMut(Action)) {
        let beat = self.beat(now);
        self.notice_stall(now);
        for (peer, progress) in &mut self.peers {
            let Some(link) = &mut progress.link else {
                continue;
            };
            let conn = link.conn;
            if let Some(reason) = link.overdue(&self.timing, now)
                && now >= self.patient_until
            {
                progress.link = None;
                self.closes.push((peer.clone(), conn, reason));
                continue;
            }
            link.poll(log, now, beat, &mut |send| {
                emit(action(peer, conn, send, log))
            });
        }
        for (peer, conn, reason) in self.closes.drain(..) {
            emit(Action::Close { peer, conn, reason });
        }
    }

    /// One timer for all peers, so that an idle leader wakes once a heartbeat.
    fn beat(&mut self, now: Instant) -> Beat {
        if now < self.next_beat {
            return Beat::No;
        }
        self.next_beat = now + self.timing.heartbeat;
        match now.checked_sub(self.timing.heartbeat / 2) {
            Some(quiet_since) => Beat::Due { quiet_since },
            None => Beat::Due { quiet_since: now },
        }
    }

    /// If it was we who slept (SIGSTOP, a stalled board), the replies wait in
    /// the sockets: time to read them before anybody is called silent (S8 says
    /// the same of keys).
    fn notice_stall(&mut self, now: Instant) {
        if now.saturating_duration_since(self.polled_at) > STALL {
            self.patient_until = now + self.timing.heartbeat * 2;
        }
        self.polled_at = now;
    }

    /// When [`Leader::poll`] is due although nothing happens; none if nobody is
    /// connected.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let links = self
            .peers
            .values()
            .filter_map(|progress| progress.link.as_ref());
        links
            .flat_map(|link| {
                [
                    link.deadline(&self.timing)
                        .map(|at| at.max(self.patient_until)),
                    link.retry_at(),
                    Some(self.next_beat),
                ]
            })
            .flatten()
            .min()
    }

    /// Up to where the peer holds our log, by its own word in this leadership.
    pub fn matched(&self, peer: &Peer) -> Option<LogIndex> {
        self.peers.get(peer)?.matched
    }

    /// The first entry not yet sent (`next_node_idx` of PySyncObj's status), if
    /// the peer is connected and known so far.
    pub fn next(&self, peer: &Peer) -> Option<LogIndex> {
        self.peers.get(peer)?.link.as_ref()?.next()
    }

    /// When the peer last answered.
    pub fn last_response(&self, peer: &Peer) -> Option<Instant> {
        self.peers.get(peer)?.last_response
    }

    /// When the newest answered append was sent: a lower bound of the time at
    /// which the peer last took us for the leader.
    pub fn answered_sent_at(&self, peer: &Peer) -> Option<Instant> {
        self.peers.get(peer)?.answered_sent_at
    }

    /// Appends that wait for the peer's reply on its present connection.
    pub fn unanswered(&self, peer: &Peer) -> usize {
        let link = self
            .peers
            .get(peer)
            .and_then(|progress| progress.link.as_ref());
        link.map_or(0, Link::unanswered)
    }

    /// Replies that answered nothing, in all of this leadership (H9).
    pub fn uncounted_replies(&self) -> u64 {
        self.uncounted_replies
    }

    /// Whether a majority of `members` is in contact (S12): `me` is, if it is one of them,
    /// and whoever has answered within `limit`. The beginning of the leadership counts
    /// as an answer (spec 5.4).
    pub fn has_quorum<'a>(
        &self,
        members: impl IntoIterator<Item = &'a Address>,
        me: &Address,
        limit: Duration,
        now: Instant,
    ) -> bool {
        let mut count = 0_usize;
        let mut present = 0_usize;
        for member in members {
            let heard = self.last_response(&Peer::Member(member.clone()));
            let heard = heard.unwrap_or(self.since);
            let there = member == me || now.saturating_duration_since(heard) < limit;
            count = count.saturating_add(1);
            present = present.saturating_add(usize::from(there));
        }
        present > count / 2
    }
}

fn action(peer: &Peer, conn: ConnId, send: Send, log: &impl LogView) -> Action {
    let peer = peer.clone();
    match send {
        Send::Append { prev, end } => {
            let entries = prev.index.next()..end.next();
            Action::Append {
                peer,
                conn,
                prev,
                entries,
                commit: log.commit(),
            }
        }
        Send::SnapshotNeeded => Action::SnapshotNeeded { peer, conn },
        Send::Chunk(chunk) => Action::SnapshotChunk {
            peer,
            conn,
            data: chunk.data,
            first: chunk.first,
            last: chunk.last,
        },
        Send::Idle => Action::SnapshotIdle { peer, conn },
    }
}
