//! The answers to what a leader sends: in order, each when what it promises is durable,
//! and as a success only if our word counts.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use super::{Member, RebuildReason};
use crate::address::Address;
use crate::bugs::{Bug, planted};
use crate::limits;
use crate::links::connection::Connection;
use crate::raft::engine::Stopped;
use crate::reactor::{self, Instant};
use crate::wire::message::{Message, NextNodeIdx};

/// Resolves when all that was taken is durable: whether it was accepted.
pub(super) type DurableAnswer = Pin<Box<dyn Future<Output = Result<bool, Stopped>>>>;

/// An append that the engine has taken and that is not durable yet, and what to
/// say then.
pub struct Pending {
    done: DurableAnswer,
    answer: NextNodeIdx,
}

impl Member {
    /// Answers an append: at once if nothing waits, else in order behind what
    /// waits for the disk.
    pub(super) fn answer(
        self: &Rc<Self>,
        peer: &Address,
        connection: &Rc<Connection>,
        answer: NextNodeIdx,
        done: Option<DurableAnswer>,
    ) {
        let queue = {
            let mut links = self.sockets.links.borrow_mut();
            let Some(link) = links.get_mut(peer) else {
                return;
            };
            if done.is_none() && link.exchange.answers_waiting.get() == 0 {
                None
            } else {
                Some((
                    link.exchange.answers_waiting.clone(),
                    link.exchange.answers.clone(),
                ))
            }
        };
        let Some((waiting, answers)) = queue else {
            connection.send(&Message::NextNodeIdx(self.voiced(peer, answer)));
            return;
        };
        waiting.set(waiting.get().saturating_add(1));
        let done = done.unwrap_or_else(|| Box::pin(async { Ok(true) }));
        let pending = Pending { done, answer };
        match answers {
            Some(answers) if answers.try_send(pending).is_ok() => {}
            // The disk has not kept up for long; the leader starts again.
            _ => connection.close(),
        }
    }

    /// What we may say as long as our word does not count: nothing that the
    /// leader could count as an acknowledgement (S7).
    fn voiced(&self, peer: &Address, answer: NextNodeIdx) -> NextNodeIdx {
        let counts = self.has_voice() && self.elector.peers.borrow().is_verified(peer);
        if answer.success {
            self.accepted.set(Instant::now());
        }
        if answer.success && !counts && !planted(Bug::AmnesicSuccess) {
            return NextNodeIdx {
                success: false,
                ..answer
            };
        }
        answer
    }

    /// Sends the answers of one connection in order, each when what it promises
    /// is durable.
    async fn answer_in_order(
        self: Rc<Self>,
        peer: Address,
        connection: Rc<Connection>,
        answers: smol::channel::Receiver<Pending>,
        waiting: Rc<Cell<usize>>,
    ) {
        while let Ok(Pending { mut done, answer }) = answers.recv().await {
            let result = match futures_lite::future::poll_once(&mut done).await {
                Some(result) => result,
                None => {
                    let _hold = self.hold_timer();
                    done.await
                }
            };
            waiting.set(waiting.get().saturating_sub(1));
            match result {
                Ok(true) => {
                    self.consider_voice(&peer);
                    connection.send(&Message::NextNodeIdx(self.voiced(&peer, answer)));
                }
                Ok(false) => {
                    let count = self.counts.refused_appends.get().saturating_add(1);
                    self.counts.refused_appends.set(count);
                }
                // The link outlives the engine (S14): what comes later is
                // answered by the next one.
                Err(error) => self.report(RebuildReason::Stopped(error.to_string())),
            }
        }
    }
}

/// Starts the task that answers in order.
pub(super) fn start_answers(
    member: &Rc<Member>,
    peer: &Address,
    connection: &Rc<Connection>,
) -> (
    smol::channel::Sender<Pending>,
    Rc<Cell<usize>>,
    smol::Task<()>,
) {
    let (sender, receiver) = smol::channel::bounded(limits::ANSWERS_WAITING_MAX);
    let waiting = Rc::new(Cell::new(0));
    let task = reactor::spawn(member.clone().answer_in_order(
        peer.clone(),
        connection.clone(),
        receiver,
        waiting.clone(),
    ));
    (sender, waiting, task)
}
