//! One connection: its two ends, and what travels between them. It knows no lines;
//! the [network](super::network) says what passes, and when.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::task::Waker;
use std::time::Duration;

use super::super::Instant;

/// Bytes that a writer may have on the way before it has to wait.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// Bytes that arrive and are not read before nothing more is taken.
const RECEIVE_BUFFER_BYTES: usize = 128 << 10;

/// The kernel's patience with a peer that acknowledges nothing, where no user
/// timeout is set: Linux retransmits 15 times, for about so long.
const PATIENCE: Duration = Duration::from_secs(924);

/// The name of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PipeId(pub(super) u64);

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PipeSide {
    Dialler,
    Listener,
}

impl PipeSide {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }
}

/// What a segment carries.
pub(super) enum PipeContent {
    Data(Vec<u8>),
    End,
    Reset,
}

impl PipeContent {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::End | Self::Reset => 0,
        }
    }
}

/// What is on the way.
pub(super) struct PipeSegment {
    part: PipeContent,
    sent: Instant,
    at: Instant,
}

impl PipeSegment {
    pub(super) const fn new(part: PipeContent, sent: Instant) -> Self {
        Self {
            part,
            sent,
            at: sent,
        }
    }
}

/// What one end holds, and what it has sent.
struct PipeEnd {
    host: IpAddr,
    /// A process holds it.
    open: bool,
    /// Its kernel knows of it.
    known: bool,
    /// It writes no more.
    ended: bool,
    broken: Option<io::ErrorKind>,
    user_timeout: Duration,
    /// What it has sent and the other has not received.
    on_the_way: VecDeque<PipeSegment>,
    /// When each was sent that the other has not acknowledged, and its bytes.
    unacknowledged: VecDeque<(Instant, usize)>,
    unacknowledged_bytes: usize,
    /// How many of them the other has received.
    received: usize,
    /// Since when nothing of it passes.
    stalled: Option<Instant>,
    watched: bool,
    /// What has come for it.
    arrived: VecDeque<u8>,
    /// The other writes no more.
    end_arrived: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl PipeEnd {
    const fn new(host: IpAddr) -> Self {
        Self {
            host,
            open: true,
            known: true,
            ended: false,
            broken: None,
            user_timeout: PATIENCE,
            on_the_way: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            unacknowledged_bytes: 0,
            received: 0,
            stalled: None,
            watched: false,
            arrived: VecDeque::new(),
            end_arrived: false,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.reader.take());
        wakers.extend(self.writer.take());
    }

    /// Forgets what it has sent.
    fn forget(&mut self) {
        self.on_the_way.clear();
        self.unacknowledged.clear();
        self.unacknowledged_bytes = 0;
        self.received = 0;
        self.stalled = None;
    }
}

/// A connection.
pub(super) struct Pipe {
    dialler: PipeEnd,
    listener: PipeEnd,
}

impl Pipe {
    pub(super) const fn new(dialler: IpAddr, listener: IpAddr) -> Self {
        Self {
            dialler: PipeEnd::new(dialler),
            listener: PipeEnd::new(listener),
        }
    }

    fn both(&mut self, side: PipeSide) -> (&mut PipeEnd, &mut PipeEnd) {
        match side {
            PipeSide::Dialler => (&mut self.dialler, &mut self.listener),
            PipeSide::Listener => (&mut self.listener, &mut self.dialler),
        }
    }

    const fn end(&self, side: PipeSide) -> &PipeEnd {
        match side {
            PipeSide::Dialler => &self.dialler,
            PipeSide::Listener => &self.listener,
        }
    }

    pub(super) const fn host(&self, side: PipeSide) -> IpAddr {
        self.end(side).host
    }

    pub(super) fn is_between(&self, one: IpAddr, other: IpAddr) -> bool {
        let hosts = (self.dialler.host, self.listener.host);
        hosts == (one, other) || hosts == (other, one)
    }

    /// Whether a process of this host holds an end.
    pub(super) fn is_held(&self, host: IpAddr) -> bool {
        let held = |end: &PipeEnd| end.open && end.host == host;
        held(&self.dialler) || held(&self.listener)
    }

    pub(super) const fn set_user_timeout(&mut self, side: PipeSide, limit: Duration) {
        match side {
            PipeSide::Dialler => self.dialler.user_timeout = limit,
            PipeSide::Listener => self.listener.user_timeout = limit,
        }
    }

    /// Whether neither end has anything left to do.
    pub(super) fn is_over(&self) -> bool {
        let over = |end: &PipeEnd| !end.open && (end.broken.is_some() || end.on_the_way.is_empty());
        over(&self.dialler) && over(&self.listener)
    }

    /// Since when what this end has sent is stalled.
    pub(super) fn stalled_since(&self, side: PipeSide) -> Option<Instant> {
        let end = self.end(side);
        // Received, and the answer did not pass.
        let unanswered = end.unacknowledged.front().filter(|_| end.received > 0);
        end.stalled.or(unanswered.map(|(sent, _)| *sent))
    }

    /// Reads what has arrived. None: nothing has, and `waker` is told when it does.
    /// Whether room was made for what waits.
    pub(super) fn read(
        &mut self,
        side: PipeSide,
        buffer: &mut [u8],
        waker: &Waker,
    ) -> Option<(io::Result<usize>, bool)> {
        let (end, _) = self.both(side);
        if !end.arrived.is_empty() {
            let full = end.arrived.len() >= RECEIVE_BUFFER_BYTES;
            let count = buffer.len().min(end.arrived.len());
            for (to, from) in buffer.iter_mut().zip(end.arrived.drain(..count)) {
                *to = from;
            }
            return Some((Ok(count), full));
        }
        if let Some(kind) = end.broken {
            return Some((Err(kind.into()), false));
        }
        if end.end_arrived || !end.open {
            return Some((Ok(0), false));
        }
        end.reader = Some(waker.clone());
        None
    }

    /// How many of `len` bytes can be written. None: none now, and `waker` is told
    /// when some can.
    pub(super) fn room(
        &mut self,
        side: PipeSide,
        len: usize,
        waker: &Waker,
    ) -> Option<io::Result<usize>> {
        let (end, _) = self.both(side);
        if let Some(kind) = end.broken {
            return Some(Err(kind.into()));
        }
        if end.ended || !end.open {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = SEND_BUFFER_BYTES.saturating_sub(end.unacknowledged_bytes);
        if room == 0 {
            end.writer = Some(waker.clone());
            return None;
        }
        Some(Ok(room.min(len)))
    }

    /// Puts a segment on its way; when it arrives, not before those ahead of it.
    pub(super) fn push(
        &mut self,
        side: PipeSide,
        mut segment: PipeSegment,
        at: Instant,
    ) -> Instant {
        let (end, _) = self.both(side);
        let ahead = end.on_the_way.back().map_or(at, |ahead| ahead.at);
        segment.at = at.max(ahead);
        let at = segment.at;
        if !matches!(segment.part, PipeContent::Reset) {
            end.unacknowledged_bytes += segment.part.len();
            end.unacknowledged
                .push_back((segment.sent, segment.part.len()));
        }
        end.on_the_way.push_back(segment);
        at
    }

    /// When to look whether the user timeout is over, if nobody does yet.
    pub(super) fn watch(&mut self, side: PipeSide) -> Option<Instant> {
        let (end, _) = self.both(side);
        let (sent, _) = end.unacknowledged.front()?;
        let due = *sent + end.user_timeout;
        (!std::mem::replace(&mut end.watched, true)).then_some(due)
    }

    /// The segments of an end arrive, as far as they are due, the line `passes` them
    /// and the other end takes them. Whether the other does not know the connection.
    pub(super) fn arrive(
        &mut self,
        side: PipeSide,
        now: Instant,
        passes: bool,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let (from, to) = self.both(side);
        while let Some(segment) = from.on_the_way.front().filter(|first| first.at <= now) {
            let full = to.arrived.len() >= RECEIVE_BUFFER_BYTES;
            if !passes && matches!(segment.part, PipeContent::Reset) {
                // Nobody sends it again.
                from.on_the_way.pop_front();
                continue;
            }
            if !passes || (full && to.open && matches!(segment.part, PipeContent::Data(_))) {
                from.stalled = from.stalled.or(Some(now));
                return false;
            }
            from.stalled = None;
            let Some(segment) = from.on_the_way.pop_front() else {
                return false;
            };
            match segment.part {
                PipeContent::Reset => {
                    to.broken = to.broken.or(Some(io::ErrorKind::ConnectionReset));
                    to.forget();
                    to.wake(wakers);
                    continue;
                }
                PipeContent::Data(_) if !to.open || !to.known => {
                    from.forget();
                    return true;
                }
                PipeContent::Data(bytes) => to.arrived.extend(bytes),
                PipeContent::End if !to.known => {
                    from.forget();
                    return true;
                }
                PipeContent::End => to.end_arrived = true,
            }
            wakers.extend(to.reader.take());
            from.received += 1;
        }
        false
    }

    /// What an end has sent and the other received is acknowledged.
    pub(super) fn acknowledge(&mut self, side: PipeSide, wakers: &mut Vec<Waker>) {
        let (end, _) = self.both(side);
        let received = end.received.min(end.unacknowledged.len());
        for (_, bytes) in end.unacknowledged.drain(..received) {
            end.unacknowledged_bytes = end.unacknowledged_bytes.saturating_sub(bytes);
        }
        end.received = 0;
        if received > 0 {
            wakers.extend(end.writer.take());
        }
    }

    /// Ends the connection at this end if nothing was acknowledged for too long;
    /// else when to look again.
    pub(super) fn overdue(
        &mut self,
        side: PipeSide,
        now: Instant,
        wakers: &mut Vec<Waker>,
    ) -> Option<Instant> {
        let (end, _) = self.both(side);
        end.watched = false;
        let due = end
            .unacknowledged
            .front()
            .map(|(sent, _)| *sent + end.user_timeout)?;
        if due <= now {
            self.fail(side, io::ErrorKind::TimedOut, wakers);
            return None;
        }
        end.watched = true;
        Some(due)
    }

    /// An end is broken from now on.
    pub(super) fn fail(&mut self, side: PipeSide, kind: io::ErrorKind, wakers: &mut Vec<Waker>) {
        let (end, _) = self.both(side);
        end.broken = end.broken.or(Some(kind));
        end.known = false;
        end.forget();
        end.wake(wakers);
    }

    /// The host of an end lost its power.
    pub(super) fn vanish(&mut self, host: IpAddr) {
        for side in [PipeSide::Dialler, PipeSide::Listener] {
            let (end, _) = self.both(side);
            if end.host == host {
                end.open = false;
                end.known = false;
                end.broken = Some(io::ErrorKind::ConnectionReset);
                end.forget();
            }
        }
    }

    /// No more is written by an end; whether that is to be told.
    pub(super) fn end_writing(&mut self, side: PipeSide) -> bool {
        let (end, _) = self.both(side);
        end.open && end.broken.is_none() && !std::mem::replace(&mut end.ended, true)
    }

    /// An end is shut, or gone with its process: what is to be sent as the last of
    /// it. `abort`: what is on its way is not delivered any more.
    pub(super) fn close(&mut self, side: PipeSide, abort: bool) -> Option<PipeContent> {
        let (end, _) = self.both(side);
        let was_open = std::mem::replace(&mut end.open, false);
        let ended = std::mem::replace(&mut end.ended, true);
        if !was_open || end.broken.is_some() {
            return None;
        }
        // Who leaves without having read all makes Linux send a reset.
        if abort || !end.arrived.is_empty() {
            end.forget();
            end.broken = Some(io::ErrorKind::ConnectionAborted);
            return Some(PipeContent::Reset);
        }
        (!ended).then_some(PipeContent::End)
    }

    /// Who waits on an end is told that it is shut.
    pub(super) fn wake(&mut self, side: PipeSide, wakers: &mut Vec<Waker>) {
        let (end, _) = self.both(side);
        end.wake(wakers);
    }
}
