//! Commands on their way into the log, and what becomes of them (spec 3.7).

use std::sync::Arc;

use pg_witness::wire::message::ApplyError;
use pg_witness::wire::{Command, Value};

use super::node::{APPEND_PERIOD_S, Node, State};
use super::store::Expiry;
use super::transport::LinkId;
use super::{Effect, Entry, NodeId, Raised};

/// Who is told what became of a command.
#[derive(Debug, Clone)]
pub(super) enum Callback {
    /// Nobody.
    None,
    /// A client in this process.
    Ticket(u64),
    /// The utility client on this connection; the words of its request.
    Utility(LinkId, String),
    /// The search for expired keys, with the pair that it takes for its own
    /// (spec 6.5).
    Expiry { key: Value, value: Value },
    /// Another node, by an `apply_command_response`.
    Peer(NodeId, i64),
}

impl Node {
    pub(super) fn queue_is_full(&self) -> bool {
        let (waiting, max) = (self.queue.len(), self.config.queue_max);
        if self.config.version.bounds_queue() {
            max > 0 && waiting >= max
        } else {
            waiting > max
        }
    }

    /// `_applyCommand`.
    pub(super) fn enqueue(&mut self, command: Arc<[u8]>, callback: Callback) -> Result<(), Raised> {
        if self.queue_is_full() {
            return self.call_back(callback, Err(ApplyError::QueueFull));
        }
        self.queue.push_back((command, callback));
        Ok(())
    }

    /// `_checkCommandsToApply`.
    pub(super) fn take_commands(&mut self) -> Result<(), Raised> {
        let began = self.now_s;
        while self.now_s - began < APPEND_PERIOD_S {
            let Some((command, callback)) = self.queue.pop_front() else {
                break;
            };
            if self.state == State::Leader {
                self.append_command(command, callback)?;
            } else if let Some(leader) = self.leader.clone() {
                self.forward_command(&leader, command, callback)?;
            } else {
                self.call_back(callback, Err(ApplyError::MissingLeader))?;
            }
        }
        Ok(())
    }

    fn append_command(&mut self, command: Arc<[u8]>, callback: Callback) -> Result<(), Raised> {
        let (index, term) = (self.last()?.index + 1, self.term);
        let accepted = match Command::parse(&command) {
            Command::Membership { add, address } => {
                // Python has the words for "one change at a time", but never sets
                // the index that they ask for.
                let noop = self.noop.ok_or(Raised("TypeError"))?;
                self.applied >= noop && self.change_cluster(add, &address)?
            }
            Command::Malformed if Command::is_membership(&command) => {
                return Err(Raised("EOFError"));
            }
            _ => true,
        };
        if !accepted {
            return self.call_back(callback, Err(ApplyError::RequestDenied));
        }
        self.journal.add(Entry {
            command,
            index,
            term,
        })?;
        match callback {
            Callback::None => {}
            Callback::Peer(node, request) => {
                let response = response(request, [("log_idx", index), ("log_term", term)]);
                self.send(&node, response)?;
            }
            callback => {
                let waiting = self.awaiting_commit.entry(index).or_default();
                waiting.push((term, callback));
            }
        }
        self.send_appends()
    }

    fn forward_command(
        &mut self,
        leader: &NodeId,
        command: Arc<[u8]>,
        callback: Callback,
    ) -> Result<(), Raised> {
        if let Callback::Peer(..) = callback {
            return self.call_back(callback, Err(ApplyError::NotLeader));
        }
        let mut message = vec![
            ("type", Value::str("apply_command")),
            ("command", Value::Bytes(command)),
        ];
        if !matches!(callback, Callback::None) {
            self.requests += 1;
            self.awaiting_reply.insert(self.requests, callback);
            message.push(("request_id", Value::Int(self.requests)));
        }
        self.send(leader, Value::dict(message))
    }

    /// `apply_command_response`.
    pub(super) fn on_response(
        &mut self,
        request: i64,
        outcome: Result<(i64, i64), ApplyError>,
    ) -> Result<(), Raised> {
        let Some(callback) = self.awaiting_reply.remove(&request) else {
            return Ok(());
        };
        match outcome {
            Err(error) => self.call_back(callback, Err(error)),
            Ok((index, _)) if index <= self.applied => {
                // H3
                if self.config.version.survives_late_response() {
                    self.call_back(callback, Err(ApplyError::UnknownOutcome))
                } else {
                    Err(Raised("AssertionError"))
                }
            }
            Ok((index, term)) => {
                let waiting = self.awaiting_commit.entry(index).or_default();
                waiting.push((term, callback));
                Ok(())
            }
        }
    }

    /// `__onLeaderChanged`: what was forwarded has failed.
    pub(super) fn on_leader_changed(&mut self) -> Result<(), Raised> {
        let waiting: Vec<_> = self.awaiting_reply.values().cloned().collect();
        for callback in waiting {
            self.call_back(callback, Err(ApplyError::LeaderChanged))?;
        }
        self.awaiting_reply.clear();
        Ok(())
    }

    /// The entry at a command's place was applied; it is the command's `own`, or
    /// another leader's.
    pub(super) fn call_back_applied(
        &mut self,
        callback: Callback,
        own: bool,
        result: &Value,
    ) -> Result<(), Raised> {
        let outcome = if own {
            Ok(result.clone())
        } else {
            Err(ApplyError::Discarded)
        };
        self.call_back(callback, outcome)
    }

    /// Tells what became of a command.
    pub(super) fn call_back(
        &mut self,
        callback: Callback,
        outcome: Result<Value, ApplyError>,
    ) -> Result<(), Raised> {
        match callback {
            Callback::None => Ok(()),
            Callback::Ticket(ticket) => {
                self.effects.push(Effect::Done { ticket, outcome });
                Ok(())
            }
            Callback::Utility(link, words) => {
                let verdict = if outcome.is_ok() { "SUCCESS" } else { "FAIL" };
                self.send_on(link, Value::str(&format!("{verdict} {words}")))
            }
            Callback::Expiry { key, value } => {
                self.store.expiry_done(&Expiry { key, value });
                Ok(())
            }
            Callback::Peer(node, request) => match outcome {
                Err(error) => {
                    let code = i64::from(error.code());
                    self.send(&node, response(request, [("error", code)]))
                }
                // Peers are answered when the entry is appended.
                Ok(_) => Ok(()),
            },
        }
    }
}

fn response<const N: usize>(request: i64, fields: [(&'static str, i64); N]) -> Value {
    let head = [
        ("type", Value::str("apply_command_response")),
        ("request_id", Value::Int(request)),
    ];
    let fields = fields
        .into_iter()
        .map(|(name, value)| (name, Value::Int(value)));
    Value::dict(head.into_iter().chain(fields))
}
