//! Bounded channels of many senders and one receiver, for one thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Poll, Waker};

use openraft_rt::{Mpsc, MpscReceiver, MpscSender, MpscWeakSender, OptionalSend, mpsc};

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
