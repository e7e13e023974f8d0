//! openraft's `AsyncRuntime` on this thread's executor and timers ([`reactor`]).
//!
//! One thread runs everything, so nothing here is `Send` and cells stand where
//! another runtime needs locks. Certified by openraft's own suite (see the test
//! at the end). Nothing that blocks may be spawned here.

use std::cell::{Cell, Ref, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_channel::oneshot as channel;
use openraft_rt::{
    AsyncRuntime, Mpsc, MpscReceiver, MpscSender, MpscWeakSender, OptionalSend, OptionalSync, mpsc,
    mutex, oneshot, watch,
};

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

/// Bounded channels of many senders and one receiver. Memory is taken as
/// messages wait, not for all that could: openraft needs thousands of slots to
/// be free of deadlocks (E7), and hardly ever fills one.
pub struct SmolMpsc;

struct Queue<T> {
    messages: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receiving: bool,
    receiver: Option<Waker>,
    waiting: Vec<Waker>,
}

/// The sending end.
pub struct Sender<T>(Rc<RefCell<Queue<T>>>);

/// The receiving end.
pub struct Receiver<T>(Rc<RefCell<Queue<T>>>);

/// A sending end that does not keep the channel open.
pub struct WeakSender<T>(Rc<RefCell<Queue<T>>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        let mut queue = self.0.borrow_mut();
        queue.senders = queue.senders.saturating_add(1);
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = self.0.borrow_mut();
        queue.senders = queue.senders.saturating_sub(1);
        if queue.senders == 0
            && let Some(receiver) = queue.receiver.take()
        {
            receiver.wake();
        }
    }
}

impl<T> Clone for WeakSender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let messages = {
            let mut queue = self.0.borrow_mut();
            queue.receiving = false;
            queue.waiting.drain(..).for_each(Waker::wake);
            std::mem::take(&mut queue.messages)
        };
        // What a message holds may send when it is dropped.
        drop(messages);
    }
}

impl Mpsc for SmolMpsc {
    type Sender<T: OptionalSend> = Sender<T>;
    type Receiver<T: OptionalSend> = Receiver<T>;
    type WeakSender<T: OptionalSend> = WeakSender<T>;

    fn channel<T: OptionalSend>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let queue = Rc::new(RefCell::new(Queue {
            messages: VecDeque::new(),
            capacity: capacity.max(1),
            senders: 1,
            receiving: true,
            receiver: None,
            waiting: Vec::new(),
        }));
        (Sender(queue.clone()), Receiver(queue))
    }
}

impl<T> MpscSender<SmolMpsc, T> for Sender<T> {
    async fn send(&self, message: T) -> Result<(), mpsc::SendError<T>> {
        let mut message = Some(message);
        std::future::poll_fn(|cx| {
            let mut queue = self.0.borrow_mut();
            let Some(ready) = message.take() else {
                return Poll::Ready(Ok(()));
            };
            if !queue.receiving {
                return Poll::Ready(Err(mpsc::SendError(ready)));
            }
            if queue.messages.len() >= queue.capacity {
                message = Some(ready);
                queue.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            queue.messages.push_back(ready);
            if let Some(receiver) = queue.receiver.take() {
                receiver.wake();
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn downgrade(&self) -> WeakSender<T> {
        WeakSender(self.0.clone())
    }
}

impl<T> MpscWeakSender<SmolMpsc, T> for WeakSender<T> {
    fn upgrade(&self) -> Option<Sender<T>> {
        let mut queue = self.0.borrow_mut();
        if queue.senders == 0 {
            return None;
        }
        queue.senders = queue.senders.saturating_add(1);
        Some(Sender(self.0.clone()))
    }
}

impl<T> Queue<T> {
    fn pop(&mut self) -> Option<T> {
        let message = self.messages.pop_front()?;
        self.waiting.drain(..).for_each(Waker::wake);
        if self.messages.is_empty() && self.messages.capacity() > QUEUE_SLOTS_KEPT {
            self.messages.shrink_to(QUEUE_SLOTS_KEPT);
        }
        Some(message)
    }
}

/// Slots that an empty queue keeps.
const QUEUE_SLOTS_KEPT: usize = 64;

impl<T> MpscReceiver<T> for Receiver<T> {
    async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| {
            let mut queue = self.0.borrow_mut();
            if let Some(message) = queue.pop() {
                return Poll::Ready(Some(message));
            }
            if queue.senders == 0 {
                return Poll::Ready(None);
            }
            queue.receiver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn try_recv(&mut self) -> Result<T, mpsc::TryRecvError> {
        let mut queue = self.0.borrow_mut();
        match queue.pop() {
            Some(message) => Ok(message),
            None if queue.senders == 0 => Err(mpsc::TryRecvError::Disconnected),
            None => Err(mpsc::TryRecvError::Empty),
        }
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

/// Channels of which a receiver sees the latest value only.
pub struct SmolWatch;

struct WatchedValue<T> {
    value: RefCell<T>,
    version: Cell<u64>,
    senders: Cell<usize>,
    wakers: RefCell<Vec<Waker>>,
}

impl<T> WatchedValue<T> {
    fn changed(&self) {
        self.version.set(self.version.get().wrapping_add(1));
        self.wake();
    }

    fn wake(&self) {
        for waker in self.wakers.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}

/// The end that changes the value.
pub struct WatchSender<T>(Rc<WatchedValue<T>>);

/// An end that sees the value.
pub struct WatchReceiver<T> {
    watched: Rc<WatchedValue<T>>,
    seen: u64,
}

/// The value, borrowed.
pub struct WatchRef<'a, T>(Ref<'a, T>);

impl<T> Deref for WatchRef<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for WatchSender<T> {
    fn clone(&self) -> Self {
        self.0.senders.set(self.0.senders.get().saturating_add(1));
        Self(self.0.clone())
    }
}

impl<T> Drop for WatchSender<T> {
    fn drop(&mut self) {
        self.0.senders.set(self.0.senders.get().saturating_sub(1));
        if self.0.senders.get() == 0 {
            self.0.wake();
        }
    }
}

impl<T> Clone for WatchReceiver<T> {
    fn clone(&self) -> Self {
        Self {
            watched: self.watched.clone(),
            seen: self.seen,
        }
    }
}

impl watch::Watch for SmolWatch {
    type Sender<T: OptionalSend + OptionalSync> = WatchSender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = WatchReceiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = WatchRef<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(value: T) -> (WatchSender<T>, WatchReceiver<T>) {
        let watched = Rc::new(WatchedValue {
            value: RefCell::new(value),
            version: Cell::new(0),
            senders: Cell::new(1),
            wakers: RefCell::default(),
        });
        (
            WatchSender(watched.clone()),
            WatchReceiver { watched, seen: 0 },
        )
    }
}

impl<T> watch::WatchSender<SmolWatch, T> for WatchSender<T> {
    fn send(&self, value: T) -> Result<(), watch::SendError<T>> {
        if Rc::strong_count(&self.0) <= self.0.senders.get() {
            return Err(watch::SendError(value));
        }
        *self.0.value.borrow_mut() = value;
        self.0.changed();
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let modified = modify(&mut self.0.value.borrow_mut());
        if modified {
            self.0.changed();
        }
        modified
    }

    fn borrow_watched(&self) -> WatchRef<'_, T> {
        WatchRef(self.0.value.borrow())
    }

    fn subscribe(&self) -> WatchReceiver<T> {
        WatchReceiver {
            watched: self.0.clone(),
            seen: self.0.version.get(),
        }
    }
}

impl<T> watch::WatchReceiver<SmolWatch, T> for WatchReceiver<T> {
    async fn changed(&mut self) -> Result<(), watch::RecvError> {
        std::future::poll_fn(|cx| {
            let version = self.watched.version.get();
            if self.seen != version {
                self.seen = version;
                return Poll::Ready(Ok(()));
            }
            if self.watched.senders.get() == 0 {
                return Poll::Ready(Err(watch::RecvError(())));
            }
            let mut wakers = self.watched.wakers.borrow_mut();
            if !wakers.iter().any(|w| w.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> WatchRef<'_, T> {
        WatchRef(self.watched.value.borrow())
    }

    fn borrow_and_update(&mut self) -> WatchRef<'_, T> {
        self.seen = self.watched.version.get();
        WatchRef(self.watched.value.borrow())
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
