//! Channels of which a receiver sees the latest value only, for one thread.

use std::cell::{Cell, Ref, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::task::{Poll, Waker};

use openraft_rt::{OptionalSend, OptionalSync, watch};

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
