//! Signals, as the reactor's events: signal-hook's handler notes which came and
//! writes to a socket that our one thread waits for among its others.

use std::io;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::reactor::Readable;

/// What the program is told by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM and SIGINT: end in good order.
    End(&'static str),
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals that came and were not taken yet; several of one kind are one.
pub(super) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    readable: Readable<UnixStream>,
}

impl Signals {
    /// Listens from now on, until dropped.
    ///
    /// # Errors
    /// The kernel gives no descriptors.
    pub(super) fn listen() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        write.set_nonblocking(true)?;
        let readable = Readable::new(read.try_clone()?)?;
        let delivery =
            SignalDelivery::with_pipe(read, write, SignalOnly, [SIGTERM, SIGINT, SIGHUP])?;
        Ok(Self { delivery, readable })
    }

    /// The next signal. What ends the program comes before a reload.
    pub(super) async fn next(&mut self) -> Signal {
        loop {
            match self.delivery.pending().min_by_key(|n| *n == SIGHUP) {
                Some(SIGTERM) => return Signal::End("SIGTERM"),
                Some(SIGINT) => return Signal::End("SIGINT"),
                Some(_) => return Signal::Reload,
                None => self.readable.ready().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::block_on;

    #[test]
    fn signals_are_taken_when_they_come() {
        let mut signals = Signals::listen().unwrap();
        let raise = |signal| signal_hook::low_level::raise(signal).unwrap();
        block_on(async {
            raise(SIGHUP);
            assert_eq!(signals.next().await, Signal::Reload);
            // One that comes while nothing else would wake us.
            std::thread::spawn(move || raise(SIGTERM));
            assert_eq!(signals.next().await, Signal::End("SIGTERM"));
            raise(SIGHUP);
            raise(SIGINT);
            assert_eq!(signals.next().await, Signal::End("SIGINT"));
        });
    }
}
