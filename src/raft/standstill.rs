//! An engine that stands still, for the tests: its tasks are not polled any more,
//! while everything else on the thread goes on. Only built with the feature
//! `test-hooks`.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Stops the tasks of one engine, for good.
#[derive(Debug, Clone, Default)]
pub struct Standstill(Rc<Cell<bool>>);

thread_local! {
    /// The engine whose task is being polled.
    static CURRENT: RefCell<Option<Standstill>> = const { RefCell::new(None) };
}

impl Standstill {
    /// From now on none of its tasks is polled.
    pub fn begin(&self) {
        self.0.set(true);
    }

    /// Makes what `future` spawns, and what that spawns, part of this engine.
    pub fn over<F: Future>(&self, future: F) -> HeldFuture<F> {
        HeldFuture {
            future: Box::pin(future),
            held: Some(self.clone()),
        }
    }
}

/// A future of an engine.
pub struct HeldFuture<F> {
    future: Pin<Box<F>>,
    held: Option<Standstill>,
}

/// Lets a task share the fate of the engine that spawns it.
pub(super) fn inherit<F: Future>(future: F) -> HeldFuture<F> {
    HeldFuture {
        future: Box::pin(future),
        held: CURRENT.with_borrow(Clone::clone),
    }
}

impl<F: Future> Future for HeldFuture<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.held.as_ref().is_some_and(|held| held.0.get()) {
            return Poll::Pending;
        }
        let before = CURRENT.replace(self.held.clone());
        let polled = self.future.as_mut().poll(cx);
        CURRENT.set(before);
        polled
    }
}
