//! openraft's `AsyncRuntime` on this thread's executor and timers ([`reactor`]).
//!
//! `mpsc` and `watch` are its channels of many messages and of the latest value.
//!
//! One thread runs everything, so nothing here is `Send` and cells stand where
//! another runtime needs locks. Certified by openraft's own suite (see the test
//! at the end). Nothing that blocks may be spawned here.

mod mpsc;
mod watch;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::oneshot as channel;
use openraft_rt::{AsyncRuntime, OptionalSend, mutex, oneshot};

pub use self::mpsc::SmolMpsc;
pub use self::watch::SmolWatch;
use crate::reactor::{self, Instant, Timer};

/// The runtime's name in openraft's types.
#[derive(Debug)]
pub struct SmolRuntime;

impl AsyncRuntime for SmolRuntime {
    type JoinError = Aborted;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Pin<Box<dyn Future<Output = ()>>>;
    type Instant = Instant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = reactor::Rng;
    type Mpsc = SmolMpsc;
    type Watch = SmolWatch;
    type Oneshot = SmolOneshot;
    type Mutex<T: OptionalSend + 'static> = SmolMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        #[cfg(feature = "test-hooks")]
        let future = super::standstill::inherit(future);
        JoinHandle(Some(reactor::spawn(future)))
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Box::pin(async move {
            Timer::after(duration).await;
        })
    }

    fn sleep_until(deadline: Instant) -> Self::Sleep {
        Box::pin(async move {
            Timer::at(deadline).await;
        })
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Timeout<F> {
        Timeout {
            future: Box::pin(future),
            timer: Timer::after(duration),
        }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Instant,
        future: F,
    ) -> Timeout<F> {
        Timeout {
            future: Box::pin(future),
            timer: Timer::at(deadline),
        }
    }

    fn is_panic(_: &Aborted) -> bool {
        false
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        reactor::rng()
    }

    fn new(_threads: usize) -> Self {
        Self
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        reactor::block_on(future)
    }
}

impl openraft_rt::Instant for Instant {
    fn now() -> Self {
        Self::now()
    }
}

/// A task was polled after it ended. Tasks are never cancelled from outside.
#[derive(Debug)]
pub struct Aborted;

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task has ended")
    }
}

/// A task that goes on when its handle is dropped, as openraft expects.
pub struct JoinHandle<T>(Option<smol::Task<T>>);

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Aborted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Some(task) => Pin::new(task).poll(cx).map(Ok),
            None => Poll::Ready(Err(Aborted)),
        }
    }
}

impl<T> Unpin for JoinHandle<T> {}

/// The time was up before the future was done.
#[derive(Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is up")
    }
}

/// A future with a deadline.
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    timer: Timer,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(value) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        Pin::new(&mut self.timer).poll(cx).map(|_| Err(Elapsed))
    }
}

/// Channels for one value.
pub struct SmolOneshot;

/// The sending end of a channel for one value.
pub struct OneshotSender<T>(channel::Sender<T>);

impl oneshot::Oneshot for SmolOneshot {
    type Sender<T: OptionalSend> = OneshotSender<T>;
    type Receiver<T: OptionalSend> = channel::Receiver<T>;
    type ReceiverError = channel::Canceled;

    fn channel<T: OptionalSend>() -> (OneshotSender<T>, channel::Receiver<T>) {
        let (sender, receiver) = channel::channel();
        (OneshotSender(sender), receiver)
    }
}

impl<T> oneshot::OneshotSender<T> for OneshotSender<T> {
    fn send(self, value: T) -> Result<(), T> {
        self.0.send(value)
    }
}

/// A mutex whose guard may be held over an await.
pub struct SmolMutex<T>(smol::lock::Mutex<T>);

impl<T: 'static> mutex::Mutex<T> for SmolMutex<T> {
    type Guard<'a> = smol::lock::MutexGuard<'a, T>;

    fn new(value: T) -> Self {
        Self(smol::lock::Mutex::new(value))
    }

    fn lock(&self) -> impl Future<Output = Self::Guard<'_>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_suite_of_openraft() {
        openraft_rt::testing::Suite::<SmolRuntime>::test_all();
    }
}
