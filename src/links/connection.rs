//! One TCP connection: bytes in and out, with a bounded buffer each way.
//!
//! Whoever holds a [`Connection`] may send on it at any time; what is sent is
//! encoded at once, in order, and written by the connection's own task. What
//! comes in is decoded here and handled by the caller, one value at a time.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

use event_listener::Event;
use rustix::net::sockopt::set_socket_linger;

use super::leader::ConnId;
use crate::config::limits;
use crate::reactor::{TcpStream, Timer};
use crate::wire::pickle::Encode;
use crate::wire::{Codec, Session, SessionError, Value};

/// Why a connection ended.
#[derive(Debug)]
pub enum Closed {
    /// The peer closed it, or the network failed.
    Lost(std::io::Error),
    /// What came in was no PySyncObj, or was sealed with another password.
    Unreadable(SessionError),
    /// The peer reads too slowly.
    Backlog,
    /// We closed it.
    Ours,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => write!(f, "{error}"),
            Self::Unreadable(error) => write!(f, "unreadable: {error}"),
            Self::Backlog => f.write_str("the peer does not read what it is sent"),
            Self::Ours => f.write_str("closed by us"),
        }
    }
}

/// An open connection.
pub struct Connection {
    /// Its name.
    pub id: ConnId,
    session: RefCell<Session>,
    out: RefCell<Vec<u8>>,
    wake: Event,
    closing: Cell<bool>,
    backlog: Cell<bool>,
    last_sent: Cell<Instant>,
    stream: TcpStream,
}

thread_local! {
    static CODEC: RefCell<Codec> = RefCell::default();
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
    static STARTED: Instant = Instant::now();
}

/// Seconds of this process: the timestamp of what we seal, which PySyncObj
/// wants never to decrease on a connection (spec 2.3).
fn seal_time() -> u64 {
    STARTED.with(Instant::elapsed).as_secs()
}

impl Connection {
    /// Takes over a connected socket.
    pub fn new(stream: TcpStream, mut session: Session) -> Rc<Self> {
        let id = NEXT_ID.with(|next| {
            let id = next.get();
            next.set(id.wrapping_add(1));
            ConnId(id)
        });
        // Without it a heartbeat waits for the peer's delayed acknowledgement.
        stream.set_nodelay();
        stream.set_user_timeout(limits::LINK_LOSS_TIME);
        let mut greeting = Vec::new();
        let started =
            CODEC.with_borrow_mut(|codec| session.start(codec, seal_time(), &mut greeting));
        debug_assert!(started.is_ok(), "a hello is never larger than a frame");
        Rc::new(Self {
            id,
            session: RefCell::new(session),
            out: RefCell::new(greeting),
            wake: Event::new(),
            closing: Cell::new(false),
            backlog: Cell::new(false),
            last_sent: Cell::new(Instant::now()),
            stream,
        })
    }

    /// Whether messages may be sent: the key exchange is over.
    pub fn is_up(&self) -> bool {
        !self.closing.get() && self.session.borrow().is_up()
    }

    /// Sends a message, a greeting or a reply, or drops it if the connection is
    /// closing.
    pub fn send<T: Encode + ?Sized>(&self, message: &T) {
        let sent =
            self.enqueue(|codec, session, out| session.send(codec, message, seal_time(), out));
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
                self.backlog.set(true);
            }
        }
        if self.backlog.get() {
            self.close();
        }
        self.last_sent.set(Instant::now());
        self.wake.notify(1);
        Ok(())
    }

    /// Bytes that the peer has not taken yet.
    pub fn queued(&self) -> usize {
        self.out.borrow().len()
    }

    /// How long nothing was sent.
    pub fn silent_for(&self) -> Duration {
        self.last_sent.get().elapsed()
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
        let _ = set_socket_linger(&self.stream, Some(Duration::ZERO));
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
        let ended = smol::future::or(self.read(progressed, handle), self.write()).await;
        let ours = self.closing.get();
        self.close();
        match ended {
            _ if self.backlog.get() => Closed::Backlog,
            Closed::Lost(_) if ours => Closed::Ours,
            ended => ended,
        }
    }

    async fn read<F>(&self, progressed: &dyn Fn(), mut handle: impl FnMut(Value) -> F) -> Closed
    where
        F: Future<Output = ()>,
    {
        let stream = &self.stream;
        let mut buffer = vec![0; limits::READ_BYTES];
        loop {
            let count = match stream.read(&mut buffer).await {
                Ok(0) => return Closed::Lost(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) => return Closed::Lost(error),
            };
            self.session
                .borrow_mut()
                .feed(buffer.get(..count).unwrap_or_default());
            loop {
                let next = {
                    let mut out = self.out.borrow_mut();
                    let next = CODEC.with_borrow_mut(|codec| {
                        self.session.borrow_mut().next(codec, seal_time(), &mut out)
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
                if self.closing.get() {
                    return Closed::Ours;
                }
            }
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
            if batch.capacity() > limits::BUFFER_BYTES_KEPT {
                batch = Vec::new();
            }
        }
    }
}
