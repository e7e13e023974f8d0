//! Who waits for an instant, in the order of their instants.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Instant;

/// Longer than any board runs.
const FAR_AWAY: Duration = Duration::from_secs(100 * 365 * 86_400);

#[derive(Default)]
struct WaitingTimer {
    timers: BTreeMap<(Instant, u64), Waker>,
    next_key: u64,
}

thread_local! {
    static WAITING: RefCell<WaitingTimer> = RefCell::default();
}

/// The instant for which somebody waits, the first of them.
pub(super) fn next() -> Option<Instant> {
    WAITING.with_borrow(|waiting| waiting.timers.first_key_value().map(|((at, _), _)| *at))
}

/// Wakes those whose time has come.
pub(super) fn fire() {
    let now = Instant::now();
    loop {
        let due = WAITING.with_borrow_mut(|waiting| match waiting.timers.first_entry() {
            Some(entry) if entry.key().0 <= now => Some(entry.remove()),
            _ => None,
        });
        match due {
            Some(waker) => waker.wake(),
            None => return,
        }
    }
}

/// Resolves at an instant.
pub struct Timer {
    at: Instant,
    key: Option<u64>,
}

impl Timer {
    /// After a while.
    pub fn after(duration: Duration) -> Self {
        let now = Instant::now();
        Self::at(now.checked_add(duration).unwrap_or(now + FAR_AWAY))
    }

    /// At an instant, or at once if it has passed.
    pub const fn at(at: Instant) -> Self {
        Self { at, key: None }
    }
}

impl Future for Timer {
    type Output = Instant;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Instant> {
        if self.at <= Instant::now() {
            return Poll::Ready(self.at);
        }
        let at = self.at;
        let waker = cx.waker().clone();
        let replaced = WAITING.with_borrow_mut(|waiting| {
            let key = *self.key.get_or_insert_with(|| {
                waiting.next_key = waiting.next_key.wrapping_add(1);
                waiting.next_key
            });
            waiting.timers.insert((at, key), waker)
        });
        // Outside of the borrow, for what a waker holds may hold timers.
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let at = self.at;
            // At the end of the thread there may be no timers any more.
            let removed =
                WAITING.try_with(|waiting| waiting.borrow_mut().timers.remove(&(at, key)));
            drop(removed);
        }
    }
}
