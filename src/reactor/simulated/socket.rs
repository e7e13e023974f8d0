//! The sockets that a member holds: the machine's, or on a simulated thread those of
//! its [network], with one interface.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use super::super::{Timer, epoll};
use super::network::{self, Dialled};
use super::pipe::{PipeContent, PipeId, PipeSide};

/// The first pause of the kernel before it tries again to open a connection.
const OPENING_AGAIN: Duration = Duration::from_secs(1);

/// A connected socket.
pub enum TcpStream {
    /// One of the machine.
    Machine(epoll::TcpStream),
    /// One of the simulation.
    Simulated(Socket),
}

impl TcpStream {
    /// Connects to an address.
    ///
    /// # Errors
    /// The peer refuses or cannot be reached.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        match super::host() {
            Some(host) => Socket::connect(host, address).await.map(Self::Simulated),
            None => epoll::TcpStream::connect(address).await.map(Self::Machine),
        }
    }

    /// Reads what has come, at least a byte; 0 at the end.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Machine(stream) => stream.read(buffer).await,
            Self::Simulated(socket) => socket.read(buffer).await,
        }
    }

    /// Writes all.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Machine(stream) => stream.write_all(bytes).await,
            Self::Simulated(socket) => socket.write_all(bytes).await,
        }
    }

    /// Ends it in one direction or both; who waits on it is woken.
    pub fn shutdown(&self, how: Shutdown) {
        match self {
            Self::Machine(stream) => stream.shutdown(how),
            Self::Simulated(socket) => socket.shutdown(how),
        }
    }

    /// Sends small messages at once.
    pub fn set_nodelay(&self) {
        if let Self::Machine(stream) = self {
            stream.set_nodelay();
        }
    }

    /// Gives the connection up once what was sent has not been taken for so long.
    pub fn set_user_timeout(&self, limit: Duration) {
        match self {
            Self::Machine(stream) => stream.set_user_timeout(limit),
            Self::Simulated(socket) => socket.set_user_timeout(limit),
        }
    }

    /// When it is closed, what is still on its way is not delivered any more: the
    /// peer sees a reset.
    pub fn reset_on_close(&self) {
        match self {
            Self::Machine(stream) => stream.reset_on_close(),
            Self::Simulated(socket) => socket.abort.set(true),
        }
    }

    /// Gives a silent connection up. Simulated, no connection is ever silent for
    /// want of a kernel's questions: only PostgreSQL is asked so, of which there is
    /// none.
    pub fn keep_alive(&self, idle: Duration, interval: Duration, count: u32) {
        if let Self::Machine(stream) = self {
            stream.keep_alive(idle, interval, count);
        }
    }
}

/// A listening socket.
pub enum TcpListener {
    /// One of the machine.
    Machine(epoll::TcpListener),
    /// One of the simulation.
    Simulated(Port),
}

impl TcpListener {
    /// Listens on an address.
    ///
    /// # Errors
    /// The address is in use or not ours.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        match super::host() {
            Some(host) => Port::bind(host, address).map(Self::Simulated),
            None => epoll::TcpListener::bind(address).map(Self::Machine),
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Machine(listener) => listener.local_addr(),
            Self::Simulated(port) => Ok(port.0),
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// There are too many open files, most likely.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::Machine(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((TcpStream::Machine(stream), from))
            }
            Self::Simulated(port) => {
                let (socket, from) = port.accept().await;
                Ok((TcpStream::Simulated(socket), from))
            }
        }
    }
}

/// An end of a simulated connection.
pub struct Socket {
    key: PipeId,
    side: PipeSide,
    abort: std::cell::Cell<bool>,
}

impl Socket {
    const fn new(key: PipeId, side: PipeSide) -> Self {
        Self {
            key,
            side,
            abort: std::cell::Cell::new(false),
        }
    }

    /// Tries until there is an answer, as a kernel does.
    async fn connect(host: IpAddr, address: SocketAddr) -> io::Result<Self> {
        let mut pause = OPENING_AGAIN;
        loop {
            let travel = network::with(|network| network.round_trip(host, address.ip()));
            Timer::after(travel).await;
            match network::with(|network| network.open(host, address)) {
                Dialled::Connected(key) => return Ok(Self::new(key, PipeSide::Dialler)),
                Dialled::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
                Dialled::Lost => Timer::after(pause).await,
            };
            pause = pause.saturating_mul(2);
        }
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| {
            network::with(|network| {
                let Some((connection, _)) = network.connection(self.key) else {
                    return Poll::Ready(Ok(0));
                };
                let Some((read, made_room)) = connection.read(self.side, buffer, cx.waker()) else {
                    return Poll::Pending;
                };
                if made_room {
                    network.arrive(self.key, self.side.other());
                }
                Poll::Ready(read)
            })
        })
        .await
    }

    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = poll_fn(|cx| {
                network::with(|network| {
                    let Some((connection, _)) = network.connection(self.key) else {
                        return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                    };
                    match connection.room(self.side, bytes.len(), cx.waker()) {
                        Some(room) => Poll::Ready(room),
                        None => Poll::Pending,
                    }
                })
            })
            .await?;
            let (now, later) = bytes.split_at_checked(count).unwrap_or((bytes, &[]));
            network::with(|network| {
                network.send(self.key, self.side, PipeContent::Data(now.to_vec()));
            });
            bytes = later;
        }
        Ok(())
    }

    fn shutdown(&self, how: Shutdown) {
        network::with(|network| match how {
            // What still comes is read by nobody.
            Shutdown::Read => {}
            Shutdown::Write => {
                let connection = network.connection(self.key);
                if connection.is_some_and(|(connection, _)| connection.end_writing(self.side)) {
                    network.send(self.key, self.side, PipeContent::End);
                }
            }
            Shutdown::Both => {
                network.close(self.key, self.side, self.abort.get());
                if let Some((connection, wakers)) = network.connection(self.key) {
                    connection.wake(self.side, wakers);
                }
            }
        });
    }

    fn set_user_timeout(&self, limit: Duration) {
        network::with(|network| {
            if let Some((connection, _)) = network.connection(self.key) {
                connection.set_user_timeout(self.side, limit);
            }
        });
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        network::with(|network| network.close(self.key, self.side, self.abort.get()));
    }
}

/// A port on which a simulated process listens.
pub struct Port(SocketAddr);

impl Port {
    fn bind(host: IpAddr, address: SocketAddr) -> io::Result<Self> {
        if !address.ip().is_unspecified() && address.ip() != host {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let address = SocketAddr::new(host, address.port());
        network::with(|network| {
            if network.listeners.contains_key(&address) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            network
                .listeners
                .insert(address, network::Listener::default());
            Ok(Self(address))
        })
    }

    async fn accept(&self) -> (Socket, SocketAddr) {
        poll_fn(|cx| {
            network::with(|network| {
                let Some(listener) = network.listeners.get_mut(&self.0) else {
                    return Poll::Pending;
                };
                match listener.waiting.pop_front() {
                    Some((key, from)) => Poll::Ready((Socket::new(key, PipeSide::Listener), from)),
                    None => {
                        listener.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            })
        })
        .await
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        network::with(|network| {
            let waiting = network.listeners.remove(&self.0).map(|port| port.waiting);
            for (key, _) in waiting.into_iter().flatten() {
                network.close(key, PipeSide::Listener, true);
            }
        });
    }
}
