//! The appends of one connection that wait for their reply, oldest first. A
//! reply names no request (H9): order is all there is to tell them apart.

use heapless::Deque;

use crate::ids::LogIndex;
use crate::limits::UNANSWERED_APPENDS_MAX;
use crate::reactor::Instant;

/// What a reply will answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// An append after `prev` whose last entry is `end`; a heartbeat if they
    /// are the same.
    Append { prev: LogIndex, end: LogIndex },
    /// The final chunk of a snapshot up to `end`.
    Snapshot { end: LogIndex },
}

impl Request {
    /// Where the peer's log ends once it has taken this.
    pub(super) fn end(&self) -> LogIndex {
        match *self {
            Self::Append { end, .. } | Self::Snapshot { end } => end,
        }
    }

    fn carries_entries(&self) -> bool {
        matches!(*self, Self::Append { prev, end } if end > prev)
    }
}

/// A request on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inflight {
    pub(super) request: Request,
    pub(super) sent_at: Instant,
}

/// The FIFO of one connection.
#[derive(Debug, Default)]
pub(super) struct Inflights(Deque<Inflight, UNANSWERED_APPENDS_MAX>);

/// What was to be sent would be one request too many: its reply could not be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Inflights {
    /// Notes a request before it is sent.
    ///
    /// # Errors
    /// So many wait already that this one must not be sent.
    pub(super) fn push(&mut self, request: Request, sent_at: Instant) -> Result<(), Full> {
        let pushed = self.0.push_back(Inflight { request, sent_at });
        pushed.map_err(|_| Full)
    }

    pub(super) fn pop(&mut self) -> Option<Inflight> {
        self.0.pop_front()
    }

    pub(super) fn oldest(&self) -> Option<&Inflight> {
        self.0.front()
    }

    pub(super) fn newest(&self) -> Option<&Inflight> {
        self.0.back()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// Whether entries are on their way; never more than one append of them.
    pub(super) fn carry_entries(&self) -> bool {
        self.0
            .iter()
            .any(|inflight| inflight.request.carries_entries())
    }
}
