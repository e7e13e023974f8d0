//! One TCP connection: bytes in and out, with a bounded buffer each way.
//!
//! Whoever holds a [`Connection`] may send on it at any time; what is sent is
//! encoded at once, in order, and written by the connection's own task. What
//! comes in is decoded here and handled by the caller, one value at a time; then
//! others run. Who is over its [budget](super::budget) is not read from (S16).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use event_listener::Event;

use super::budget::cpu::Account;
use super::budget::memory::Reservation;
use super::budget::{Class, Meter};
use super::leader::ConnId;
use crate::limits;
use crate::reactor::{Instant, TcpStream, Timer};
use crate::wire::pickle::Encode;
use crate::wire::{Codec, Session, SessionError, Value};

/// Why a connection ended.
#[derive(Debug)]
pub enum Closed {
    /// The peer closed it, or the network failed.
    Lost(std::io::Error),
    /// What came in was no PySyncObj, or was encrypted with another password.
    Unreadable(SessionError),
    /// The peer reads too slowly.
    Backlog,
    /// A message of it did not arrive whole in time.
    Incomplete,
    /// What it makes us hold is more than there is for connections of its class.
    OverBudget,
    /// We closed it.
    Ours,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => write!(f, "{error}"),
            Self::Unreadable(error) => write!(f, "unreadable: {error}"),
            Self::Backlog => f.write_str("the peer does not read what it is sent"),
            Self::Incomplete => f.write_str("a message did not arrive whole in time"),
            Self::OverBudget => f.write_str("the memory for such connections is used up"),
            Self::Ours => f.write_str("closed by us"),
        }
    }
}

/// An open connection: who it is, what is to be sent, why it must end, and when it was
/// last used. In cells, for its reader, its writer and its owner all hold it.
pub struct Connection {
    /// Its name.
    pub id: ConnId,
    session: RefCell<Session>,
    out: RefCell<Vec<u8>>,
    /// Bytes that were taken from `out` and that the socket has not taken yet.
    in_flight: Cell<usize>,
    wake: Event,
    /// `out` or `in_flight` has become less.
    drained: Event,
    closing: Cell<bool>,
    /// Why it must end, found by whoever sends on it.
    overrun: Cell<Option<Overrun>>,
    meter: Meter,
    hold: RefCell<Reservation>,
    last_sent: Cell<Instant>,
    /// When bytes came last; at first, when it was opened.
    last_received: Cell<Instant>,
    stream: TcpStream,
}

/// What a sender on a connection may run into.
#[derive(Clone, Copy)]
enum Overrun {
    Backlog,
    Memory,
}

thread_local! {
    static CODEC: RefCell<Codec> = RefCell::default();
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
    static STARTED: Instant = Instant::now();
}

/// Seconds of this process: the timestamp of what we encrypt, which PySyncObj
/// wants never to decrease on a connection (spec 2.3).
fn token_time() -> u64 {
    STARTED.with(Instant::elapsed).as_secs()
}

impl Connection {
    /// Takes over a connected socket. Whom we dialled is budgeted as a member; who
    /// dialled us as a stranger, until it is [admitted](Self::admit).
    pub fn new(stream: TcpStream, mut session: Session) -> Rc<Self> {
        let id = NEXT_ID.with(|next| {
            let id = next.get();
            next.set(id.wrapping_add(1));
            ConnId(id)
        });
        // Without it a heartbeat waits for the peer's delayed acknowledgement.
        stream.set_nodelay();
        stream.set_user_timeout(limits::LINK_LOSS_TIME);
        let class = if session.is_dialler() {
            Class::Member
        } else {
            Class::Pending
        };
        let mut greeting = Vec::new();
        let started =
            CODEC.with_borrow_mut(|codec| session.start(codec, token_time(), &mut greeting));
        debug_assert!(started.is_ok(), "a hello is never larger than a frame");
        Rc::new(Self {
            id,
            session: RefCell::new(session),
            out: RefCell::new(greeting),
            in_flight: Cell::new(0),
            wake: Event::new(),
            drained: Event::new(),
            closing: Cell::new(false),
            overrun: Cell::new(None),
            meter: Meter::new(class),
            hold: RefCell::new(class.hold()),
            last_sent: Cell::new(Instant::now()),
            last_received: Cell::new(Instant::now()),
            stream,
        })
    }

    /// Who it is has become known: `account` pays for it from now on.
    pub fn admit(&self, class: Class, account: Rc<RefCell<Account>>) {
        self.meter.admit(class, account);
        *self.hold.borrow_mut() = class.hold();
    }

    /// Whether messages may be sent: the key exchange is over.
    pub fn is_up(&self) -> bool {
        !self.closing.get() && self.session.borrow().is_up()
    }

    /// Sends a message, a greeting or a reply, or drops it if the connection is
    /// closing.
    pub fn send<T: Encode + ?Sized>(&self, message: &T) {
        let sent =
            self.enqueue(|codec, session, out| session.send(codec, message, token_time(), out));
        if let Err(error) = sent {
            log::error!("a message cannot be sent: {error}");
        }
    }

    fn enqueue(
        &self,
        encode: impl FnOnce(&mut Codec, &mut Session, &mut Vec<u8>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        if self.closing.get() {
            return Ok(());
        }
        {
            let mut out = self.out.borrow_mut();
            CODEC
                .with_borrow_mut(|codec| encode(codec, &mut self.session.borrow_mut(), &mut out))?;
            if out.len() > limits::OUTBOX_BYTES_MAX {
                self.overrun.set(Some(Overrun::Backlog));
            }
        }
        if !self.fits_budget() {
            self.overrun.set(Some(Overrun::Memory));
        }
        if self.overrun.get().is_some() {
            self.close();
        }
        self.last_sent.set(Instant::now());
        self.wake.notify(1);
        Ok(())
    }

    /// Bytes that the kernel has not taken yet.
    pub fn queued(&self) -> usize {
        self.out.borrow().len().saturating_add(self.in_flight.get())
    }

    /// Books what it holds; whether that was granted.
    fn fits_budget(&self) -> bool {
        let received = self.session.borrow().buffered();
        let held = received.saturating_add(self.queued());
        self.hold.borrow_mut().resize(held)
    }

    /// How long nothing was sent.
    pub fn silent_for(&self) -> Duration {
        self.last_sent.get().elapsed()
    }

    /// How long nothing was received.
    pub fn received_nothing_for(&self) -> Duration {
        self.last_received.get().elapsed()
    }

    /// Ends the connection; what is queued is dropped.
    pub fn close(&self) {
        self.closing.set(true);
        self.stream.shutdown(Shutdown::Both);
        self.wake.notify(1);
    }

    /// Ends the connection without delivering what is still on its way: data of
    /// a lost connection must not reach the peer after that of the next one
    /// (H8).
    pub fn abort(&self) {
        self.stream.reset_on_close();
        self.close();
    }

    /// Whether it is ending.
    pub fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Serves the connection until it ends. `handle` is given each value; while
    /// it works nothing more is read, so it bounds itself.
    pub async fn serve<F>(self: &Rc<Self>, handle: impl FnMut(Value) -> F) -> Closed
    where
        F: Future<Output = ()>,
    {
        self.serve_with(&|| (), handle).await
    }

    /// As [`Connection::serve`]; `progressed` is called whenever something was
    /// read, so that a dialler can speak as soon as the key exchange is over.
    pub async fn serve_with<F>(
        self: &Rc<Self>,
        progressed: &dyn Fn(),
        handle: impl FnMut(Value) -> F,
    ) -> Closed
    where
        F: Future<Output = ()>,
    {
        let both = smol::future::or(self.read(progressed, handle), self.write());
        let ended = self.meter.measure(both).await;
        let ours = self.closing.get();
        self.close();
        match (self.overrun.get(), ended) {
            (Some(Overrun::Backlog), _) => Closed::Backlog,
            (Some(Overrun::Memory), _) => Closed::OverBudget,
            (None, Closed::Lost(_)) if ours => Closed::Ours,
            (None, ended) => ended,
        }
    }

    async fn read<F>(&self, progressed: &dyn Fn(), mut handle: impl FnMut(Value) -> F) -> Closed
    where
        F: Future<Output = ()>,
    {
        let mut buffer = vec![0; limits::READ_BYTES];
        // Since when a message is on its way that is not whole yet.
        let mut begun: Option<Instant> = None;
        loop {
            let count = match self.receive(&mut buffer, begun).await {
                Ok(count) => count,
                Err(closed) => return closed,
            };
            self.last_received.set(Instant::now());
            self.session
                .borrow_mut()
                .feed(buffer.get(..count).unwrap_or_default());
            if !self.fits_budget() {
                return Closed::OverBudget;
            }
            loop {
                let next = {
                    let mut out = self.out.borrow_mut();
                    let next = CODEC.with_borrow_mut(|codec| {
                        self.session
                            .borrow_mut()
                            .next(codec, token_time(), &mut out)
                    });
                    if !out.is_empty() {
                        self.wake.notify(1);
                    }
                    next
                };
                progressed();
                match next {
                    Ok(Some(value)) => handle(value).await,
                    Ok(None) => break,
                    Err(error) => return Closed::Unreadable(error),
                }
                begun = None;
                self.rest().await;
                if self.closing.get() {
                    return Closed::Ours;
                }
            }
            if self.session.borrow().is_amid_message() {
                begun.get_or_insert_with(Instant::now);
            } else {
                begun = None;
            }
        }
    }

    /// Reads what has come, at least a byte. Who is no member must finish in time
    /// the message that it has `begun`.
    async fn receive(&self, buffer: &mut [u8], begun: Option<Instant>) -> Result<usize, Closed> {
        let read = async {
            match self.stream.read(buffer).await {
                Ok(0) => Err(Closed::Lost(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => Ok(count),
                Err(error) => Err(Closed::Lost(error)),
            }
        };
        let begun = begun.filter(|_| self.meter.class() != Class::Member);
        let Some(begun) = begun else {
            return read.await;
        };
        let late = async {
            Timer::at(begun + limits::MESSAGE_TIME_MAX).await;
            Err(Closed::Incomplete)
        };
        smol::future::or(read, late).await
    }

    /// After a message: lets others run, pays what it cost with time, and waits
    /// for a stranger to read what it has asked for.
    async fn rest(&self) {
        // What has run so far is charged by then.
        smol::future::yield_now().await;
        while let Some(pause) = self.meter.pause() {
            Timer::after(pause).await;
        }
        loop {
            let drained = self.drained.listen();
            let backed_up = self.queued() > limits::UNSENT_BYTES_MAX;
            if !backed_up || self.closing.get() || self.meter.class() == Class::Member {
                return;
            }
            drained.await;
        }
    }

    async fn write(&self) -> Closed {
        let stream = &self.stream;
        let mut batch = Vec::new();
        loop {
            let wake = self.wake.listen();
            if self.closing.get() {
                return Closed::Ours;
            }
            batch.clear();
            std::mem::swap(&mut batch, &mut *self.out.borrow_mut());
            self.in_flight.set(batch.len());
            if batch.is_empty() {
                wake.await;
                continue;
            }
            let written = smol::future::or(async { Some(stream.write_all(&batch).await) }, async {
                Timer::after(limits::WRITE_TIME_MAX).await;
                None
            });
            match written.await {
                Some(Ok(())) => {}
                Some(Err(error)) => return Closed::Lost(error),
                None => return Closed::Backlog,
            }
            self.in_flight.set(0);
            // To hold less is always granted.
            let _ = self.fits_budget();
            self.drained.notify(usize::MAX);
            if batch.capacity() > limits::BUFFER_BYTES_KEPT {
                batch = Vec::new();
            }
        }
    }
}
