//! Commands on their way into the log: those of other nodes, and our own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;

use super::{Member, RebuildReason};
use crate::ids::EntryId;
use crate::links::connection::Connection;
use crate::raft::proposal::Responder;
use crate::raft::proposals::{Admitted, Proposals};
use crate::raft::types::Payload;
use crate::reactor::{self, Instant, Timer};
use crate::wire::message::{ApplyError, ApplyOutcome, Message};

fn refuse(origin: Option<Responder>, error: ApplyError) {
    if let Some(origin) = origin {
        origin.answer(ApplyOutcome::Refused(error));
    }
}

impl Member {
    /// A member or a read-only client proposes a command (spec 3.7).
    pub(super) async fn on_apply_command(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        command: Arc<[u8]>,
        request_id: Option<i64>,
    ) {
        if self.leadership.borrow().is_none() {
            self.refuse_or_forward(connection, command, request_id);
            return;
        }
        let origin = request_id.map(|request_id| {
            // Only ever on the connection that asked: on a later one it could
            // come after the entry (H3).
            let connection = Rc::downgrade(connection);
            Responder::new(move |outcome| {
                if let Some(connection) = connection.upgrade() {
                    connection.send(&Message::ApplyCommandResponse {
                        request_id,
                        outcome,
                    });
                }
            })
        });
        if self.is_settled() {
            self.propose(command, origin).await;
        } else {
            self.propose_later(command, origin);
        }
    }

    /// Proposes once our leadership is settled; not in the connection's own
    /// task, for the answers that settle us come on it.
    fn propose_later(self: &Rc<Self>, command: Arc<[u8]>, origin: Option<Responder>) {
        let Some(proposals) = self.proposals() else {
            return; // Responder says that we do not lead.
        };
        let bytes = command.len();
        let waits = proposals.borrow_mut().wait(bytes);
        if let Err(error) = waits {
            refuse(origin, error);
            return;
        }
        let member = self.clone();
        reactor::spawn(async move {
            member.settled().await;
            proposals.borrow_mut().end_wait(bytes);
            member.propose(command, origin).await;
        })
        .detach();
    }

    fn proposals(&self) -> Option<Rc<RefCell<Proposals>>> {
        let leadership = self.leadership.borrow();
        leadership.as_ref().map(|l| l.proposals.clone())
    }

    /// Whether the entry with which our leadership began is committed; before,
    /// openraft has no quorum's word and refuses to write.
    fn is_settled(&self) -> bool {
        self.proposals().is_none_or(|proposals| {
            self.replica.borrow().log.commit() >= proposals.borrow().first()
        })
    }

    /// Resolves when we lead with a quorum's word, or lead no more.
    async fn settled(&self) {
        loop {
            let changed = self.changed.listen();
            if self.is_settled() {
                return;
            }
            changed.await;
        }
    }

    fn refuse_or_forward(
        &self,
        connection: &Connection,
        command: Arc<[u8]>,
        request_id: Option<i64>,
    ) {
        let leader = self.known_leader();
        match (request_id, leader) {
            (Some(request_id), leader) => {
                let error = if leader.is_some() {
                    ApplyError::NotLeader
                } else {
                    ApplyError::MissingLeader
                };
                let outcome = ApplyOutcome::Refused(error);
                connection.send(&Message::ApplyCommandResponse {
                    request_id,
                    outcome,
                });
            }
            (None, Some(leader)) => {
                if let Some(leader) = self.connection(&leader) {
                    leader.send(&Message::ApplyCommand {
                        command,
                        request_id: None,
                    });
                }
            }
            (None, None) => {}
        }
    }

    /// Proposes to our own log, if nothing speaks against the command.
    pub(super) async fn propose(&self, command: Arc<[u8]>, origin: Option<Responder>) {
        let Some(proposals) = self.proposals() else {
            return refuse(origin, ApplyError::NotLeader);
        };
        let admitted = {
            let replica = self.replica.borrow();
            let mut proposals = proposals.borrow_mut();
            proposals.admit(replica.held(), &self.me, &command)
        };
        let Admitted { index, members } = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return refuse(origin, error),
        };
        let origin = Responder::new(move |outcome| {
            let appended = matches!(outcome, ApplyOutcome::Appended(_));
            proposals.borrow_mut().settle(index, appended);
            if let Some(origin) = origin {
                origin.answer(outcome);
            }
        });
        let Some(engine) = self.engine() else { return };
        let payload = Payload {
            command,
            members,
            origin: Some(origin),
        };
        if let Err(error) = engine.propose(payload).await {
            self.report(RebuildReason::Stopped(error.to_string()));
        }
    }

    /// Proposes the expiry of the keys for which that is due (S8).
    pub(super) async fn expire(&self, now: Instant) {
        let expiry =
            (self.leadership.borrow().as_ref()).map(|leadership| leadership.expiry.clone());
        let Some(expiry) = expiry else {
            return;
        };
        let proposed: Vec<_> = {
            let replica = self.replica.borrow();
            let store = &replica.store;
            let writings = (expiry.borrow_mut()).on_due(store.due(now), replica.applied, now);
            let commands = writings.into_iter();
            commands
                .filter_map(|writing| Some((writing, store.expire_command(writing)?)))
                .collect()
        };
        for (writing, command) in proposed {
            let expiry = expiry.clone();
            let origin = Responder::new(move |outcome| {
                let accepted = matches!(outcome, ApplyOutcome::Appended(_));
                expiry.borrow_mut().answered(writing, accepted);
            });
            self.propose(command, Some(origin)).await;
        }
    }

    /// Proposes a command for an operator, through the leader, whoever that is,
    /// and waits until it is applied here: whether it was.
    pub(super) async fn execute(self: &Rc<Self>, command: Arc<[u8]>, limit: Duration) -> bool {
        let work = async {
            loop {
                let changed = self.changed.listen();
                // H20: a request that comes during an election waits for it.
                if self.known_leader().is_some() {
                    break;
                }
                changed.await;
            }
            let outcome = self.ask_leader(command).await?;
            let ApplyOutcome::Appended(id) = outcome else {
                return None;
            };
            self.applied(id).await
        };
        let limited = smol::future::or(work, async {
            Timer::after(limit).await;
            None
        });
        limited.await.unwrap_or(false)
    }

    async fn ask_leader(self: &Rc<Self>, command: Arc<[u8]>) -> Option<ApplyOutcome> {
        let (sender, receiver) = oneshot::channel();
        if self.leadership.borrow().is_some() {
            let origin = Responder::new(move |outcome| {
                let _ = sender.send(outcome);
            });
            self.settled().await;
            self.propose(command, Some(origin)).await;
        } else {
            let leader = self.known_leader()?;
            let connection = self.connection(&leader)?;
            let request_id = self.forwarded.last_id.get().wrapping_add(1);
            self.forwarded.last_id.set(request_id);
            let mut requests = self.forwarded.requests.borrow_mut();
            requests.retain(|_, waiting| !waiting.is_canceled());
            requests.insert(request_id, sender);
            drop(requests);
            connection.send(&Message::ApplyCommand {
                command,
                request_id: Some(request_id),
            });
        }
        receiver.await.ok()
    }

    async fn applied(&self, id: EntryId) -> Option<bool> {
        let fate = self.replica.borrow_mut().await_applied(id);
        fate.await.ok()
    }
}
