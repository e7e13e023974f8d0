//! One connection to one follower, seen from the leader: where the two logs
//! part, what was sent, what is unanswered.
//!
//! The rule that all of this serves (S3, H8): **no append names a `prev` below
//! what the follower holds of our log.** Python truncates after `prev`
//! whatever stands there. `held` be the length of the two logs' common prefix:
//!
//! * Every connection begins with a probe that reaches our log's end: behind its
//!   last entry, unless that is our NO_OP and this is the first that the
//!   follower is sent of this leadership.
//! * A reset says why `prev` was refused: the follower's log is shorter (its
//!   length is told) or differs there. Both bound `held` from above, and the
//!   next probe is sent exactly at the bound. So a probe that fits proves that
//!   `held` *is* its `prev`, and nothing of ours can be cut, however few
//!   entries it carries.
//! * From then on `prev` is the end of what was sent before, in order, on this
//!   same connection; nobody else extends the follower in our term.
//!
//! A success therefore never moves anything back, a short one (0.3.11 and
//! before say one less) neither; and a reset counts when all that was in
//! flight behind it is answered, for those answers are stale (H9 a).

use std::time::Duration;

use super::inflights::{Inflights, Request};
use super::log_view::LogView;
use super::snapshot::{Chunk, Sending, Transfer};
use super::{CloseReason, ConnId};
use crate::ids::{EntryId, LogIndex, Term};
use crate::limits::{APPEND_BATCH_BYTES, APPEND_BATCH_ENTRIES};
use crate::reactor::Instant;
use crate::wire::message::NextNodeIdx;

/// The times of a leadership.
#[derive(Debug, Clone, Copy)]
pub struct LeadershipTiming {
    /// Between heartbeats: PySyncObj's `appendEntriesPeriod`, 0.1 s.
    pub heartbeat: Duration,
    /// A peer that owes replies and sends none for this long is disconnected;
    /// PySyncObj's own `connectionTimeout` is 3.5 s.
    pub reply_timeout: Duration,
}

/// A follower loads a snapshot in one go and is deaf meanwhile: it gets this
/// many times the reply timeout for it.
const SNAPSHOT_PATIENCE: u32 = 10;

/// What is known of the follower's log over this connection.
#[derive(Debug)]
enum State {
    /// Just connected: the first probe goes to our log's end.
    Fresh(Holds),
    /// The logs agree up to `bound` at most; one probe at a time finds out.
    Probe(Probe),
    /// The logs agree; all up to `sent` is there or on its way.
    Replicate { sent: LogIndex },
    /// Entries that it needs are gone from our log.
    Snapshot(Transfer),
}

/// What the follower may hold of the entries of this leadership when it
/// connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// None: only we make entries of our term, and we have sent it none.
    NothingOf(Term),
    /// Any of them: it was connected before, and may hold what it never
    /// acknowledged.
    Anything,
}

/// The search for the common prefix.
#[derive(Debug, Clone, Copy)]
struct Probe {
    /// The follower holds nothing of ours beyond this.
    bound: LogIndex,
    /// How often in a row it had another entry at `prev`.
    mismatches: u32,
    /// The last answer brought nothing new: wait for the next heartbeat.
    paused: bool,
}

/// What resets have said since the state changed; acted on when the FIFO has
/// drained (H9 a).
#[derive(Debug, Clone, Copy)]
struct Refusal {
    /// The new bound; none if not even our first entry can be common.
    bound: Option<LogIndex>,
    /// The follower has another entry at `prev`.
    mismatch: bool,
}

/// Whether this is a heartbeat's turn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beat {
    No,
    /// For those to whom nothing was sent after `quiet_since`.
    Due {
        quiet_since: Instant,
    },
}

/// One message to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Send {
    Append { prev: EntryId, end: LogIndex },
    SnapshotNeeded,
    Chunk(Chunk),
    Idle,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReplyMeaning {
    /// Nothing was asked: not counted.
    Unasked,
    /// It fits no question: the connection cannot be trusted further.
    OutOfStep,
    /// The follower is alive in our term and held all of our log up to `held`.
    /// `bound`: it holds no more than this, whatever it said before (H14).
    Counted {
        sent_at: Instant,
        held: Option<LogIndex>,
        bound: Option<Bound>,
    },
}

/// An upper bound of the common prefix; none if even entry 1 differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound(pub(super) Option<LogIndex>);

/// A connection of the present leadership.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) conn: ConnId,
    state: State,
    inflights: Inflights,
    refusal: Option<Refusal>,
    /// The last success was short of its request's end: ask once more.
    short: bool,
    /// Snapshots in a row that the follower did not load.
    snapshot_failures: u32,
    /// See [`Link::restore`].
    restore: bool,
    /// A snapshot that ends before this would take entries from the follower.
    snapshot_end_min: LogIndex,
    /// The commit index that went out last.
    commit_sent: Option<LogIndex>,
    sent_at: Option<Instant>,
    heard_at: Instant,
}

impl Link {
    pub(super) fn new(conn: ConnId, holds: Holds, now: Instant) -> Self {
        Self {
            conn,
            state: State::Fresh(holds),
            inflights: Inflights::default(),
            refusal: None,
            short: false,
            snapshot_failures: 0,
            restore: false,
            snapshot_end_min: LogIndex::FIRST,
            commit_sent: None,
            sent_at: None,
            heard_at: now,
        }
    }

    pub(super) fn unanswered(&self) -> usize {
        self.inflights.len()
    }

    /// `nextIndex` as PySyncObj's status shows it: the first entry not sent.
    pub(super) fn next(&self) -> Option<LogIndex> {
        match &self.state {
            State::Replicate { sent } => Some(sent.next()),
            State::Probe(probe) => Some(probe.bound.next()),
            State::Fresh(_) | State::Snapshot(_) => None,
        }
    }

    // --- what the follower says -------------------------------------------

    /// Takes the reply that belongs to the oldest request.
    pub(super) fn answer(&mut self, reply: &NextNodeIdx, now: Instant) -> ReplyMeaning {
        let Some(inflight) = self.inflights.pop() else {
            return ReplyMeaning::Unasked; // H9 a
        };
        self.heard_at = now;
        let held = match inflight.request {
            Request::Append { prev, end } => self.answer_append(prev, end, reply),
            Request::Snapshot { end } => {
                self.answer_snapshot(end, reply, now);
                Ok(None)
            }
        };
        let Ok(held) = held else {
            return ReplyMeaning::OutOfStep;
        };
        let bound = self.settle_refusal(now);
        ReplyMeaning::Counted {
            sent_at: inflight.sent_at,
            held,
            bound,
        }
    }

    /// How far the follower holds our log, by its answer; an error if that is
    /// no answer to this append.
    fn answer_append(
        &mut self,
        prev: LogIndex,
        end: LogIndex,
        reply: &NextNodeIdx,
    ) -> Result<Option<LogIndex>, OutOfStep> {
        match (reply.reset, reply.success) {
            (false, true) => {
                let held = index(reply.next.saturating_sub(1)).ok_or(OutOfStep)?;
                // H9: an answer to this append cannot promise more than it
                // sent, nor less than it stood on; one that does answers
                // another. And what follows a refused append is refused.
                if held < prev || held > end || self.refusal.is_some() {
                    return Err(OutOfStep);
                }
                self.short = held < end; // H10: 0.3.11 says one less
                self.accepted(end);
                Ok(Some(held))
            }
            (true, false) => {
                self.refused(prev, index(reply.next).ok_or(OutOfStep)?);
                Ok(None)
            }
            // A witness without memory stores but does not promise (S7, H18).
            (false, false) => {
                self.accepted(end);
                Ok(None)
            }
            (true, true) => Err(OutOfStep),
        }
    }

    fn accepted(&mut self, end: LogIndex) {
        if self.refusal.is_none() && matches!(self.state, State::Probe(_)) {
            self.snapshot_failures = 0;
            self.state = State::Replicate { sent: end };
        }
    }

    /// Notes what a reset proves: `next == prev` a differing entry there,
    /// `next < prev` a log that ends before `next`. More than `prev` comes
    /// from a log that begins after it (H21), or from a slip: nothing new.
    fn refused(&mut self, prev: LogIndex, next: LogIndex) {
        let refusal = Refusal {
            bound: if next > prev { Some(prev) } else { next.prev() },
            mismatch: next == prev,
        };
        match self.refusal {
            Some(known) if known.bound <= refusal.bound => {}
            _ => self.refusal = Some(refusal),
        }
    }

    /// Acts on refusals once nothing is in flight behind them.
    fn settle_refusal(&mut self, now: Instant) -> Option<Bound> {
        if !self.inflights.is_empty() {
            return None;
        }
        let Refusal { bound, mismatch } = self.refusal.take()?;
        self.short = false;
        let Some(index) = bound else {
            self.state = State::Snapshot(Transfer::wanted(self.snapshot_failures, now));
            return Some(Bound(None));
        };
        let (mismatches, paused) = match &self.state {
            State::Probe(probe) => (probe.mismatches, probe.bound == index),
            _ => (0, false),
        };
        let mismatches = if mismatch {
            mismatches.saturating_add(1)
        } else {
            0
        };
        self.state = State::Probe(Probe {
            bound: index,
            mismatches,
            paused,
        });
        Some(Bound(bound))
    }

    /// H12: Python acknowledges a snapshot that it could not load with the end
    /// of its old log, and a transfer resumed in mid-file likewise. So only
    /// `end + 1` counts, and only as a place to probe at: an old log may end
    /// there too.
    fn answer_snapshot(&mut self, end: LogIndex, reply: &NextNodeIdx, now: Instant) {
        let exact = reply.success && !reply.reset && index(reply.next) == Some(end.next());
        let unpromised = !reply.success && !reply.reset; // S7
        // Failures are forgotten when a probe fits, not before.
        self.snapshot_failures = self.snapshot_failures.saturating_add(1);
        self.state = if exact || unpromised {
            State::Probe(Probe {
                bound: end,
                mismatches: 0,
                paused: false,
            })
        } else {
            State::Snapshot(Transfer::wanted(self.snapshot_failures, now))
        };
    }

    // --- what the engine says ---------------------------------------------

    /// The snapshot asked for is there. False if it is no longer wanted, or ends
    /// before what the follower has.
    pub(super) fn snapshot_ready(&mut self, len: u64, end: LogIndex, now: Instant) -> bool {
        if end < self.snapshot_end_min {
            self.snapshot_failed(now);
        }
        let wanted = matches!(self.state, State::Snapshot(Transfer::Preparing));
        if wanted {
            self.state = State::Snapshot(Transfer::Sending(Sending::new(len, end, now)));
        }
        wanted
    }

    /// The snapshot asked for could not be made.
    pub(super) fn snapshot_failed(&mut self, now: Instant) {
        if let State::Snapshot(transfer @ Transfer::Preparing) = &mut self.state {
            self.snapshot_failures = self.snapshot_failures.saturating_add(1);
            *transfer = Transfer::wanted(self.snapshot_failures, now);
        }
    }

    /// The connection takes `window` more bytes.
    pub(super) fn writable(&mut self, window: usize) {
        if let State::Snapshot(Transfer::Sending(sending)) = &mut self.state {
            sending.writable(window);
        }
    }

    // --- what goes out ----------------------------------------------------

    /// Emits all that may go out now.
    pub(super) fn poll(
        &mut self,
        log: &impl LogView,
        now: Instant,
        beat: Beat,
        emit: &mut impl FnMut(Send),
    ) {
        if let State::Fresh(holds) = self.state {
            self.state = State::Probe(Probe {
                bound: first_probe(log, holds),
                mismatches: 0,
                paused: false,
            });
        }
        self.begin_restoring(log, now);
        self.leave_compacted(log, now);
        match self.state {
            State::Fresh(_) => {}
            State::Probe(probe) => self.poll_probe(probe, log, now, beat, emit),
            State::Replicate { sent } => self.poll_replicate(sent, log, now, beat, emit),
            State::Snapshot(_) => self.poll_snapshot(now, beat, emit),
        }
    }

    /// The follower holds our log and cannot apply it: it is to get a snapshot.
    ///
    /// Loading one cuts off what lies behind the snapshot's end. So it begins when
    /// the follower has all that we have and all of that is committed, and ends
    /// there or later (S3).
    pub(super) fn restore(&mut self) {
        self.restore = !matches!(self.state, State::Snapshot(_));
    }

    fn begin_restoring(&mut self, log: &impl LogView, now: Instant) {
        let State::Replicate { sent } = self.state else {
            return;
        };
        let settled = self.inflights.is_empty() && sent == log.last().index && sent == log.commit();
        if settled && std::mem::take(&mut self.restore) {
            self.snapshot_end_min = sent;
            self.state = State::Snapshot(Transfer::wanted(self.snapshot_failures, now));
        }
    }

    /// Where the next append would stand is no longer in the log: only a
    /// snapshot helps (spec 3.5). It begins when the FIFO is empty, so that its
    /// reply is not taken for another's.
    fn leave_compacted(&mut self, log: &impl LogView, now: Instant) {
        let next_prev = match &self.state {
            State::Probe(probe) => probe.bound,
            State::Replicate { sent } => *sent,
            State::Fresh(_) | State::Snapshot(_) => return,
        };
        if self.inflights.is_empty() && log.term_at(next_prev).is_none() {
            self.state = State::Snapshot(Transfer::wanted(self.snapshot_failures, now));
        }
    }

    fn poll_probe(
        &mut self,
        probe: Probe,
        log: &impl LogView,
        now: Instant,
        beat: Beat,
        emit: &mut impl FnMut(Send),
    ) {
        if let Some(newest) = self.inflights.newest() {
            // H9 a: behind a refusal the heartbeat waits, or nothing ever
            // drains on a link slower than the heartbeat.
            let at = newest.request.end();
            if self.refusal.is_none() && self.beat_is_due(beat) {
                self.append_empty(at, log, now, emit);
            }
            return;
        }
        if probe.paused && !self.beat_is_due(beat) {
            return;
        }
        let Some(prev) = entry(log, probe.bound) else {
            return;
        };
        // After the second differing entry the search may be long: empty.
        let end = match probe.mismatches {
            0 | 1 => batch_end(log, prev.index),
            _ => prev.index,
        };
        self.append(prev, end, log, now, emit);
    }

    fn poll_replicate(
        &mut self,
        sent: LogIndex,
        log: &impl LogView,
        now: Instant,
        beat: Beat,
        emit: &mut impl FnMut(Send),
    ) {
        if self.refusal.is_some() {
            return;
        }
        let Some(prev) = entry(log, sent) else {
            // Compacted away while something is in flight.
            if self.beat_is_due(beat) {
                self.idle(now, emit);
            }
            return;
        };
        if sent < log.last().index {
            if !self.inflights.carry_entries() && !self.inflights.is_full() {
                let end = batch_end(log, sent);
                self.append(prev, end, log, now, emit);
                self.state = State::Replicate { sent: end };
                return;
            }
        } else if self.inflights.is_empty() && (self.short || self.commit_sent < Some(log.commit()))
        {
            self.append(prev, sent, log, now, emit);
            return;
        }
        if self.beat_is_due(beat) {
            self.append_empty(sent, log, now, emit);
        }
    }

    fn poll_snapshot(&mut self, now: Instant, beat: Beat, emit: &mut impl FnMut(Send)) {
        let due = self.beat_is_due(beat);
        let State::Snapshot(transfer) = &mut self.state else {
            return;
        };
        match transfer {
            Transfer::Wanted { not_before } if now >= *not_before => {
                *transfer = Transfer::Preparing;
                emit(Send::SnapshotNeeded);
            }
            Transfer::Wanted { .. } | Transfer::Preparing | Transfer::Sent => {}
            Transfer::Sending(sending) => {
                while !self.inflights.is_full()
                    && let Some(chunk) = sending.next_chunk(now)
                {
                    self.sent_at = Some(now);
                    let last = Request::Snapshot { end: sending.end() };
                    let sent = chunk.last && self.inflights.push(last, now).is_ok();
                    emit(Send::Chunk(chunk));
                    if sent {
                        *transfer = Transfer::Sent;
                        return;
                    }
                }
                // Chunks are heartbeats; a full pipe needs no more of them.
                return;
            }
        }
        if due {
            self.idle(now, emit);
        }
    }

    fn append_empty(
        &mut self,
        at: LogIndex,
        log: &impl LogView,
        now: Instant,
        emit: &mut impl FnMut(Send),
    ) {
        if !self.inflights.is_full()
            && let Some(prev) = entry(log, at)
        {
            self.append(prev, at, log, now, emit);
        }
    }

    fn append(
        &mut self,
        prev: EntryId,
        end: LogIndex,
        log: &impl LogView,
        now: Instant,
        emit: &mut impl FnMut(Send),
    ) {
        let request = Request::Append {
            prev: prev.index,
            end,
        };
        if self.inflights.push(request, now).is_err() {
            return;
        }
        self.commit_sent = Some(log.commit());
        self.sent_at = Some(now);
        self.short = false;
        emit(Send::Append { prev, end });
    }

    fn idle(&mut self, now: Instant, emit: &mut impl FnMut(Send)) {
        self.sent_at = Some(now);
        emit(Send::Idle);
    }

    fn beat_is_due(&self, beat: Beat) -> bool {
        match (self.sent_at, beat) {
            (None, _) => true,
            (Some(sent_at), Beat::Due { quiet_since }) => sent_at <= quiet_since,
            (Some(_), Beat::No) => false,
        }
    }

    // --- time -------------------------------------------------------------

    /// The instant at which silence ends the connection.
    pub(super) fn deadline(&self, timing: &LeadershipTiming) -> Option<Instant> {
        let patient = timing.reply_timeout.saturating_mul(SNAPSHOT_PATIENCE);
        if let State::Snapshot(Transfer::Sending(sending)) = &self.state {
            return Some(sending.moved_at + patient);
        }
        let oldest = self.inflights.oldest()?;
        let patience: Duration = match oldest.request {
            Request::Append { .. } => timing.reply_timeout,
            Request::Snapshot { .. } => patient,
        };
        Some(oldest.sent_at.max(self.heard_at) + patience)
    }

    /// Why the connection is at its end, if it is.
    pub(super) fn overdue(&self, timing: &LeadershipTiming, now: Instant) -> Option<CloseReason> {
        (self.deadline(timing)? <= now).then_some(CloseReason::Silent)
    }

    /// When a snapshot may be asked for again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.state {
            State::Snapshot(Transfer::Wanted { not_before }) => Some(not_before),
            _ => None,
        }
    }
}

/// A reply that answers no append of ours.
#[derive(Debug)]
struct OutOfStep;

fn index(number: i64) -> Option<LogIndex> {
    u64::try_from(number).ok().and_then(LogIndex::new)
}

fn entry(log: &impl LogView, index: LogIndex) -> Option<EntryId> {
    let term = log.term_at(index)?;
    Some(EntryId { index, term })
}

/// Our log's end; or, when its last entry alone is of this leadership and the
/// follower cannot have it, the entry before: most followers lack just that
/// NO_OP (spec 5.4).
fn first_probe(log: &impl LogView, holds: Holds) -> LogIndex {
    let last = log.last();
    let before = last.index.prev().and_then(|index| entry(log, index));
    match (holds, before) {
        (Holds::NothingOf(term), Some(before)) if last.term == term && before.term != term => {
            before.index
        }
        _ => last.index,
    }
}

/// The last entry of the append after `prev`: up to [`APPEND_BATCH_BYTES`] of
/// commands, the crossing entry included, never a fragment (H4).
fn batch_end(log: &impl LogView, prev: LogIndex) -> LogIndex {
    let last = log.last().index;
    let mut end = prev;
    let mut bytes = 0;
    for _ in 0..APPEND_BATCH_ENTRIES {
        if end >= last || bytes >= APPEND_BATCH_BYTES {
            break;
        }
        end = end.next();
        bytes += log.command_len(end);
    }
    end
}
