//! What is on its way into our log while we lead: which proposals may enter it,
//! and what must be undone for those that the engine then refuses.
//!
//! A proposal is admitted here, handed to the engine, and settled: appended or
//! refused. openraft refuses while its quorum has not spoken for a while, so a
//! refusal is ordinary. Nothing that is noted at admission may outlive it.
//! Pure: no I/O, no clock, no engine.

use super::log::{Log, members_after};
use super::types::Members;
use crate::address::Address;
use crate::ids::LogIndex;
use crate::kv::{ProposalError, SpeculativeStore, Store, call_of};
use crate::limits;
use crate::wire::command::Command;
use crate::wire::message::ApplyError;

/// The proposals of one leadership.
pub struct Proposals {
    /// The NO_OP with which the leadership began.
    first: LogIndex,
    /// The store as of the end of the log, to judge proposals by (S6).
    tail: SpeculativeStore,
    /// Bytes of the commands that `tail` has taken in.
    tail_bytes: usize,
    /// `tail` holds a proposal that the engine refused.
    tail_is_wrong: bool,
    /// Where the next proposal will stand.
    next: LogIndex,
    /// Admitted and not settled.
    in_flight: usize,
    /// Where the last membership change that was admitted will stand, or stands.
    change: Option<LogIndex>,
    /// Proposals that wait for the first commit of the leadership, and the
    /// bytes of their commands.
    waiting: (usize, usize),
}

/// What this member holds: the log, and the store as of an entry of it.
#[derive(Clone, Copy)]
pub struct Held<'a> {
    /// The log.
    pub log: &'a Log,
    /// The store.
    pub store: &'a Store,
    /// The last entry that the store has taken in.
    pub applied: LogIndex,
}

impl Held<'_> {
    /// The store as of the end of the log.
    fn tail(&self) -> SpeculativeStore {
        let mut tail = SpeculativeStore::of(self.store);
        for stored in self.log.from(self.applied.next()) {
            if let Some(Ok(call)) = call_of(&stored.entry.command) {
                tail.append(stored.entry.id.index, &call);
            }
        }
        tail
    }
}

/// A proposal that may enter the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Where it will stand, unless one before it is refused.
    pub index: LogIndex,
    /// The members after it, if it changes them.
    pub members: Option<Members>,
}

impl Proposals {
    /// Those of a leadership whose NO_OP is the last entry.
    pub fn new(held: Held<'_>) -> Self {
        let first = held.log.last().index;
        Self {
            first,
            tail: held.tail(),
            tail_bytes: 0,
            tail_is_wrong: false,
            next: first.next(),
            in_flight: 0,
            change: None,
            waiting: (0, 0),
        }
    }

    /// The NO_OP with which the leadership began.
    pub fn first(&self) -> LogIndex {
        self.first
    }

    /// Judges a command of `me`'s group. What is admitted must be settled.
    ///
    /// # Errors
    ///
    /// Why it must not enter the log, as PySyncObj says it (spec 3.7).
    pub fn admit(
        &mut self,
        held: Held<'_>,
        me: &Address,
        command: &[u8],
    ) -> Result<Admitted, ApplyError> {
        self.catch_up(held);
        if self.tail_is_wrong {
            return Err(ApplyError::QueueFull);
        }
        if command.len() > limits::PROPOSAL_BYTES_MAX {
            return Err(ApplyError::RequestDenied);
        }
        let mut members = None;
        match call_of(command) {
            // S6: what would stop every Python node for good never enters the
            // log through us.
            Some(call) => {
                let call = call.map_err(|_| ApplyError::RequestDenied)?;
                let judged = self.tail.propose(self.next, &call);
                judged.map_err(|error| match error {
                    ProposalError::Poison(_) => ApplyError::RequestDenied,
                    // S15: to be tried again, for the store may shrink.
                    ProposalError::Quota => ApplyError::QueueFull,
                })?;
                self.tail_bytes = self.tail_bytes.saturating_add(command.len());
            }
            None => match Command::parse(command) {
                Command::Membership { .. } => {
                    members = Some(self.members_after(held.log, me, command)?);
                    self.change = Some(self.next);
                }
                // A code version above 0 makes Python apply an entry again and
                // again (spec 6.1); a malformed command raises (H6).
                Command::Version(_) | Command::Malformed => {
                    return Err(ApplyError::RequestDenied);
                }
                Command::Regular(_) | Command::Noop | Command::Unknown => {}
            },
        }
        let index = self.next;
        self.next = index.next();
        self.in_flight = self.in_flight.saturating_add(1);
        Ok(Admitted { index, members })
    }

    /// With nothing under way the log's end is what comes next, and the tail can
    /// be taken anew: if it is wrong, or holds too much beside the store.
    fn catch_up(&mut self, held: Held<'_>) {
        if self.in_flight > 0 {
            return;
        }
        let last = held.log.last().index;
        self.next = last.next();
        let grown = self.tail_bytes > limits::TAIL_BYTES_MAX && held.applied == last;
        if self.tail_is_wrong || grown {
            self.tail = held.tail();
            self.tail_bytes = 0;
            self.tail_is_wrong = false;
        }
    }

    /// H17: one change at a time, inherited ones included.
    fn members_after(
        &self,
        log: &Log,
        me: &Address,
        command: &[u8],
    ) -> Result<Members, ApplyError> {
        let busy = log.commit() < self.first
            || log.pending_changes() > 0
            || self.change.is_some_and(|at| at > log.commit());
        members_after(log.members(), command)
            .filter(|members| members.contains(me) && members.len() <= limits::MEMBERS_MAX)
            .filter(|_| !busy)
            .ok_or(ApplyError::RequestDenied)
    }

    /// The engine has appended or refused what was admitted at `index`.
    pub fn settle(&mut self, index: LogIndex, appended: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if !appended {
            self.tail_is_wrong = true;
            self.change = self.change.filter(|at| *at != index);
        }
    }

    /// Lets a command of `bytes` wait for the first commit of the leadership.
    ///
    /// # Errors
    ///
    /// PySyncObj's own error of a full queue, at the cap (S10).
    pub fn wait(&mut self, bytes: usize) -> Result<(), ApplyError> {
        let (count, total) = self.waiting;
        let total = total.saturating_add(bytes);
        if count >= limits::PROPOSALS_WAITING_MAX || total > limits::PROPOSALS_WAITING_BYTES_MAX {
            return Err(ApplyError::QueueFull);
        }
        self.waiting = (count.saturating_add(1), total);
        Ok(())
    }

    /// A command of `bytes` waits no more.
    pub fn end_wait(&mut self, bytes: usize) {
        let (count, total) = self.waiting;
        self.waiting = (count.saturating_sub(1), total.saturating_sub(bytes));
    }
}

#[cfg(test)]
mod tests;
