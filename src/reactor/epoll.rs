//! The machine's sockets, on epoll, and the loop that waits for them.
//!
//! smol's own reactor lives on a thread of its own as soon as a program is
//! idle, and every event then crosses two threads: four fifths of what an idle
//! witness cost. Here the thread that runs the tasks waits for the events too,
//! edge-triggered, so that a message is one `epoll_wait` and one `read`. What
//! is not on the path of a heartbeat (name resolution) stays smol's.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::{Instant, timer};

/// Events taken from the kernel at once.
const EVENTS_AT_ONCE: usize = 64;

/// The key of the event that another thread sends.
const WAKE_KEY: u64 = 0;

struct Reactor {
    epoll: OwnedFd,
    notifier: Arc<Notifier>,
    sources: RefCell<HashMap<u64, Rc<Readiness>>>,
    next_key: Cell<u64>,
}

/// How another thread, or a task, says that there is something to run.
struct Notifier {
    eventfd: OwnedFd,
    notified: AtomicBool,
    waiting: AtomicBool,
}

impl Wake for Notifier {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let first = !self.notified.swap(true, Ordering::SeqCst);
        if first && self.waiting.load(Ordering::SeqCst) {
            // It fails only when as many wakes are pending as fit in 64 bits.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }
}

thread_local! {
    static REACTOR: Rc<Reactor> = match Reactor::new() {
        Ok(reactor) => Rc::new(reactor),
        Err(error) => {
            log::error!("the kernel gives no epoll: {error}");
            std::process::exit(1)
        }
    };
}

impl Reactor {
    fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let data = epoll::EventData::new_u64(WAKE_KEY);
        epoll::add(&epoll, &eventfd, data, epoll::EventFlags::IN)?;
        let notifier = Arc::new(Notifier {
            eventfd,
            notified: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
        });
        Ok(Self {
            epoll,
            notifier,
            sources: RefCell::default(),
            next_key: Cell::new(WAKE_KEY),
        })
    }

    fn key(&self) -> u64 {
        let key = self.next_key.get().wrapping_add(1);
        self.next_key.set(key);
        key
    }

    /// Waits for events, at most until the next timer, and wakes what they
    /// concern.
    fn wait(&self) {
        let notifier = &self.notifier;
        notifier.waiting.store(true, Ordering::SeqCst);
        let timeout = if notifier.notified.load(Ordering::SeqCst) {
            Some(Duration::ZERO)
        } else {
            timer::next().map(|at| at.saturating_duration_since(Instant::now()))
        };
        let timeout = timeout.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        let waited = epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            timeout.as_ref(),
        );
        notifier.waiting.store(false, Ordering::SeqCst);
        if waited.is_ok() {
            for event in &events {
                self.on_event(event.data.u64(), event.flags);
            }
        }
        timer::fire();
    }

    fn on_event(&self, key: u64, flags: epoll::EventFlags) {
        if key == WAKE_KEY {
            let _ = rustix::io::read(&self.notifier.eventfd, &mut [0; 8]);
            return;
        }
        let readiness = self.sources.borrow().get(&key).cloned();
        let Some(readiness) = readiness else { return };
        let ends = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let ended = flags.intersects(ends);
        if ended {
            readiness.ended.set(true);
        }
        if ended || flags.contains(epoll::EventFlags::IN) {
            readiness.read.set();
        }
        if ended || flags.contains(epoll::EventFlags::OUT) {
            readiness.write.set();
        }
    }
}

/// Runs a future to its end on this thread, with the events it waits for.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let reactor = REACTOR.with(Rc::clone);
    let waker = Waker::from(reactor.notifier.clone());
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        reactor.notifier.notified.store(false, Ordering::SeqCst);
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
        reactor.wait();
    }
}

/// One direction of a source.
#[derive(Default)]
struct Side {
    ready: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Side {
    fn set(&self) {
        self.ready.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[derive(Default)]
struct Readiness {
    read: Side,
    write: Side,
    /// The peer will send no more, or the socket has failed: no further edge
    /// may come.
    ended: Cell<bool>,
}

/// Something that epoll watches.
struct Watched<T: AsFd> {
    io: T,
    key: u64,
    readiness: Rc<Readiness>,
    reactor: Rc<Reactor>,
}

impl<T: AsFd> Watched<T> {
    /// `io` must not block.
    fn new(io: T) -> io::Result<Self> {
        let reactor = REACTOR.with(Rc::clone);
        let key = reactor.key();
        let readiness = Rc::new(Readiness::default());
        // Until the first edge says otherwise there may be something already.
        readiness.read.ready.set(true);
        readiness.write.ready.set(true);
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(&reactor.epoll, &io, epoll::EventData::new_u64(key), flags)?;
        reactor.sources.borrow_mut().insert(key, readiness.clone());
        Ok(Self {
            io,
            key,
            readiness,
            reactor,
        })
    }

    fn poll<R>(
        side: &Side,
        cx: &Context<'_>,
        mut operation: impl FnMut() -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        while side.ready.get() {
            match operation() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => side.ready.set(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
        *side.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T: AsFd> Drop for Watched<T> {
    fn drop(&mut self) {
        let _ = epoll::delete(&self.reactor.epoll, &self.io);
        self.reactor.sources.borrow_mut().remove(&self.key);
    }
}

/// A descriptor that others read, once there is something in it.
pub struct Readable<T: AsFd>(Watched<T>);

impl<T: AsFd> Readable<T> {
    /// Watches a descriptor.
    ///
    /// # Errors
    /// The kernel watches no more of them.
    pub fn new(io: T) -> io::Result<Self> {
        Watched::new(io).map(Self)
    }

    /// Waits until something has come since the last call; what had come before
    /// counts for the first.
    pub async fn ready(&self) {
        let read = &self.0.readiness.read;
        std::future::poll_fn(|cx| {
            if read.ready.replace(false) {
                return Poll::Ready(());
            }
            *read.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A connected socket.
pub struct TcpStream(Watched<std::net::TcpStream>);

impl TcpStream {
    fn new(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Watched::new(stream).map(Self)
    }

    /// Connects to an address.
    ///
    /// # Errors
    /// The peer refuses or cannot be reached.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        let connecting = match rustix::net::connect(&socket, &address) {
            Ok(()) => false,
            Err(Errno::INPROGRESS) => true,
            Err(errno) => return Err(errno.into()),
        };
        let stream = Self::new(std::net::TcpStream::from(socket))?;
        if connecting {
            let write = &stream.0.readiness.write;
            write.ready.set(false);
            std::future::poll_fn(|cx| Watched::<OwnedFd>::poll(write, cx, || Ok(()))).await?;
            sockopt::socket_error(&stream.0.io)??;
        }
        Ok(stream)
    }

    /// Reads what has come, at least a byte; 0 at the end.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let readiness = &self.0.readiness;
        let count = std::future::poll_fn(|cx| {
            Watched::<OwnedFd>::poll(&readiness.read, cx, || (&self.0.io).read(buffer))
        })
        .await?;
        if count < buffer.len() && !readiness.ended.get() {
            // The socket is drained, and the next edge will come.
            readiness.read.ready.set(false);
        }
        Ok(count)
    }

    /// Writes all.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let write = &self.0.readiness.write;
        while !bytes.is_empty() {
            let poll = |cx: &mut Context<'_>| {
                Watched::<OwnedFd>::poll(write, cx, || (&self.0.io).write(bytes))
            };
            let count = std::future::poll_fn(poll).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends it in one direction or both; who waits on it is woken.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = self.0.io.shutdown(how);
    }

    /// Sends small messages at once.
    pub fn set_nodelay(&self) {
        let _ = self.0.io.set_nodelay(true);
    }

    /// Gives the connection up once what was sent has not been taken for so long.
    pub fn set_user_timeout(&self, limit: Duration) {
        let ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let _ = sockopt::set_tcp_user_timeout(self, ms);
    }

    /// When it is closed, what is still on its way is not delivered any more: the
    /// peer sees a reset.
    pub fn reset_on_close(&self) {
        let _ = sockopt::set_socket_linger(self, Some(Duration::ZERO));
    }

    /// Gives a silent connection up: after `idle` the kernel asks every `interval`,
    /// and `count` questions without an answer are the end.
    pub fn keep_alive(&self, idle: Duration, interval: Duration, count: u32) {
        // A kernel that knows none of it is no reason not to ask.
        let _ = sockopt::set_socket_keepalive(self, true);
        let _ = sockopt::set_tcp_keepidle(self, idle);
        let _ = sockopt::set_tcp_keepintvl(self, interval);
        let _ = sockopt::set_tcp_keepcnt(self, count);
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.io.as_fd()
    }
}

/// A listening socket.
pub struct TcpListener(Watched<std::net::TcpListener>);

impl TcpListener {
    /// Listens on an address.
    ///
    /// # Errors
    /// The address is in use or not ours.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Watched::new(listener).map(Self)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.io.local_addr()
    }

    /// The next connection.
    ///
    /// # Errors
    /// There are too many open files, most likely.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let read = &self.0.readiness.read;
        let poll = |cx: &mut Context<'_>| Watched::<OwnedFd>::poll(read, cx, || self.0.io.accept());
        let (stream, from) = std::future::poll_fn(poll).await?;
        Ok((TcpStream::new(stream)?, from))
    }
}

#[cfg(test)]
mod tests;
