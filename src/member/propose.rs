//! Commands on their way into the log: those of other nodes, and our own.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;

use super::{Member, Trouble};
use crate::config::limits;
use crate::kv::Tail;
use crate::links::connection::Connection;
use crate::raft::log::members_after;
use crate::raft::proposal::Origin;
use crate::raft::replica::call_of;
use crate::raft::runtime;
use crate::raft::types::{Members, Payload};
use crate::reactor::Timer;
use crate::wire::EntryId;
use crate::wire::command::Command;
use crate::wire::message::{ApplyError, ApplyOutcome, Message};

type InFlight = Rc<Cell<usize>>;

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
            Origin::new(move |outcome| {
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
            // Not here: the answers that settle us come on this connection.
            let member = self.clone();
            runtime::spawn(async move {
                member.settled().await;
                member.propose(command, origin).await;
            })
            .detach();
        }
    }

    /// Whether the entry with which our leadership began is committed; before,
    /// openraft has no quorum's word and refuses to write.
    fn is_settled(&self) -> bool {
        let leadership = self.leadership.borrow();
        leadership
            .as_ref()
            .is_none_or(|l| self.replica.borrow().log.commit() >= l.first)
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
    pub(super) async fn propose(&self, command: Arc<[u8]>, origin: Option<Origin>) {
        let (members, in_flight) = match self.admit(&command) {
            Ok(admitted) => admitted,
            Err(error) => {
                if let Some(origin) = origin {
                    origin.answer(ApplyOutcome::Refused(error));
                }
                return;
            }
        };
        in_flight.set(in_flight.get().saturating_add(1));
        let origin = Origin::new(move |outcome| {
            in_flight.set(in_flight.get().saturating_sub(1));
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
            self.report(Trouble::Stopped(error.to_string()));
        }
    }

    /// Judges a proposal: the members after it, or why it is refused.
    fn admit(&self, command: &[u8]) -> Result<(Option<Members>, InFlight), ApplyError> {
        let mut guard = self.leadership.borrow_mut();
        let Some(leadership) = guard.as_mut() else {
            return Err(ApplyError::NotLeader);
        };
        let replica = self.replica.borrow();
        let log = &replica.log;
        if leadership.in_flight.get() == 0 && replica.applied == log.last().index {
            // Nothing is under way: what the log holds is what is applied.
            leadership.tail = Tail::of(&replica.store);
            leadership.next = log.last().index.next();
        }
        let mut members = None;
        match call_of(command) {
            // S6: what would stop every Python node for good never enters the
            // log through us.
            Some(call) => {
                let call = call.map_err(|_| ApplyError::RequestDenied)?;
                let judged = leadership.tail.propose(leadership.next, &call);
                judged.map_err(|_| ApplyError::RequestDenied)?;
            }
            None => match Command::parse(command) {
                Command::Membership { .. } => {
                    // H17: one change at a time, inherited ones included.
                    let busy = log.commit() < leadership.first
                        || log.pending_changes() > 0
                        || leadership
                            .change_proposed
                            .is_some_and(|at| at > log.commit());
                    let changed = members_after(log.members(), command).filter(|members| {
                        members.contains(&self.me) && members.len() <= limits::MEMBERS_MAX
                    });
                    if busy || changed.is_none() {
                        return Err(ApplyError::RequestDenied);
                    }
                    leadership.change_proposed = Some(leadership.next);
                    members = changed;
                }
                // A code version above 0 makes Python apply an entry again and
                // again (spec 6.1); a malformed command raises (H6).
                Command::Version(_) | Command::Malformed => {
                    return Err(ApplyError::RequestDenied);
                }
                Command::Regular(_) | Command::Noop | Command::Unknown => {}
            },
        }
        leadership.next = leadership.next.next();
        Ok((members, leadership.in_flight.clone()))
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
            let origin = Origin::new(move |outcome| {
                let _ = sender.send(outcome);
            });
            self.settled().await;
            self.propose(command, Some(origin)).await;
        } else {
            let leader = self.known_leader()?;
            let connection = self.connection(&leader)?;
            let request_id = self.next_request.get();
            self.next_request.set(request_id.wrapping_add(1));
            let mut requests = self.requests.borrow_mut();
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
