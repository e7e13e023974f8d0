//! `__onMessageReceived`: votes, appends and what follows them (spec 3.1 to 3.5).

use pg_witness::wire::MessageError;
use pg_witness::wire::Value;
use pg_witness::wire::message::{
    Append, AppendBody, ApplyOutcome, FragmentPart, Message, decode_entry,
};

use super::commands::Callback;
use super::node::{Chance, Node, State};
use super::{Entry, NodeId, Raised};

impl Node {
    pub(super) fn on_message(
        &mut self,
        from: &NodeId,
        value: &Value,
        chance: &mut Chance<'_>,
    ) -> Result<(), Raised> {
        let message = match Message::decode(value) {
            Ok(message) => message,
            // Python looks into these in one state only.
            Err(_) if is(value, "next_node_idx") && self.state != State::Leader => return Ok(()),
            Err(_) if is(value, "response_vote") && self.state != State::Candidate => {
                return Ok(());
            }
            // H2
            Err(MessageError::NotMessage) if !matches!(value, Value::Dict(_)) => {
                return Err(Raised("TypeError"));
            }
            Err(_) => return Err(Raised("KeyError")),
        };
        match message {
            Message::TimeoutNow { term } => {
                if self.config.version.transfers()
                    && number(term.get()) >= self.term
                    && self.leader.as_ref() == Some(from)
                {
                    self.deadline_s = 0.0;
                    self.transferring = true;
                }
            }
            Message::RequestVote { term, last } => {
                let last = (number(last.term.get()), number(last.index.get()));
                self.on_request_vote(from, number(term.get()), last, chance)?;
            }
            Message::ResponseVote { term } => {
                if self.state == State::Candidate && number(term.get()) == self.term {
                    // H23: whoever sent it, however often.
                    self.votes += 1;
                    if self.is_majority(self.votes) {
                        self.become_leader()?;
                    }
                }
            }
            Message::AppendEntries(append) if number(append.term.get()) >= self.term => {
                // The index as it was sent, which may be 0.
                let commit = value.get("commit_index").and_then(Value::as_int);
                self.on_append(from, append, commit.unwrap_or(0), chance)?;
            }
            Message::NextNodeIdx(reply) => {
                if self.state == State::Leader {
                    self.on_next_node_idx(from, reply.next, reply.reset, reply.success)?;
                }
            }
            Message::ApplyCommand {
                command,
                request_id,
            } => {
                let callback = match request_id {
                    Some(request) => Callback::Peer(from.clone(), request),
                    None => Callback::None,
                };
                self.enqueue(command, callback)?;
            }
            Message::ApplyCommandResponse {
                request_id,
                outcome,
            } => {
                let outcome = match outcome {
                    ApplyOutcome::Appended(id) => {
                        Ok((number(id.index.get()), number(id.term.get())))
                    }
                    ApplyOutcome::Refused(error) => Err(error),
                };
                self.on_response(request_id, outcome)?;
            }
            Message::AppendEntries(_) | Message::Keepalive | Message::Unknown => {}
        }
        Ok(())
    }

    fn on_request_vote(
        &mut self,
        from: &NodeId,
        term: i64,
        candidate: (i64, i64),
        chance: &mut Chance<'_>,
    ) -> Result<(), Raised> {
        if term > self.term {
            self.set_term(term, None);
            self.state = State::Follower;
            self.leader = None;
        }
        let last = self.last()?;
        let behind = candidate < (last.term, last.index);
        // No vote a second time, not even for the same candidate.
        if self.state == State::Leader || term < self.term || behind || self.voted_for.is_some() {
            return Ok(());
        }
        self.set_term(self.term, Some(from.id()));
        self.redraw_deadline(chance);
        let response = Value::dict([
            ("type", Value::str("response_vote")),
            ("term", Value::Int(term)),
        ]);
        self.send(from, response)
    }

    fn on_append(
        &mut self,
        from: &NodeId,
        append: Append,
        commit: i64,
        chance: &mut Chance<'_>,
    ) -> Result<(), Raised> {
        let term = number(append.term.get());
        if term > self.term {
            self.transferring = false;
        }
        if !self.transferring {
            self.redraw_deadline(chance);
        }
        if self.leader.as_ref() != Some(from) {
            self.on_leader_changed()?;
        }
        self.leader = Some(from.clone());
        if term > self.term {
            self.set_term(term, None);
        }
        // H25: a leader of the same term too.
        self.state = State::Follower;
        self.leader_commit = Some(commit);
        match append.body {
            AppendBody::Entries { prev, entries } => {
                let prev = prev.map(|id| (number(id.index.get()), number(id.term.get())));
                let entries = entries.into_iter().map(|entry| Entry {
                    command: entry.command,
                    index: number(entry.id.index.get()),
                    term: number(entry.id.term.get()),
                });
                if !self.on_entries(from, prev, entries.collect())? {
                    return Ok(());
                }
            }
            AppendBody::Fragment { prev, part, data } => {
                let prev = prev.map(|id| (number(id.index.get()), number(id.term.get())));
                let Some(entry) = self.on_fragment(from, part, &data)? else {
                    return Ok(());
                };
                if !self.on_entries(from, prev, vec![entry])? {
                    return Ok(());
                }
            }
            AppendBody::Snapshot(chunk) => {
                let complete = chunk.is_some_and(|chunk| {
                    self.serializer
                        .receive(&chunk.data, chunk.first, chunk.last)
                });
                if complete {
                    self.load_dump(true);
                    let next = self.last()?.index + 1;
                    self.reply(from, next, false, true)?;
                }
            }
        }
        // H30: after a part of a snapshot too, whatever the log holds.
        let end = self.last()?.index;
        if self.config.version.clamps_commit() {
            self.commit = self.commit.min(end);
        }
        if commit > self.commit || !self.config.version.keeps_commit() {
            self.commit = commit.min(end);
        }
        self.journal.set_commit(self.commit);
        Ok(())
    }

    /// The entry, once the last part is there.
    fn on_fragment(
        &mut self,
        from: &NodeId,
        part: FragmentPart,
        data: &[u8],
    ) -> Result<Option<Entry>, Raised> {
        if part == FragmentPart::Start {
            self.fragments = Some(Vec::new());
        }
        let buffer = self.fragments.as_mut().ok_or(Raised("TypeError"))?;
        buffer.extend_from_slice(data);
        if part != FragmentPart::Finish {
            let next = self.last()?.index + 1;
            self.reply(from, next, false, false)?;
            return Ok(None);
        }
        // H4: a premature one raises, and what was received stays.
        let entry = decode_entry(buffer).map_err(|_| Raised("EOFError"))?;
        self.fragments = None;
        Ok(Some(Entry {
            command: entry.command,
            index: number(entry.id.index.get()),
            term: number(entry.id.term.get()),
        }))
    }

    /// Whether the entries follow; else the reply has said so.
    fn on_entries(
        &mut self,
        from: &NodeId,
        prev: Option<(i64, i64)>,
        entries: Vec<Entry>,
    ) -> Result<bool, Raised> {
        let (known, prev) = match prev {
            Some(prev) => (self.entries(prev.0, None)?.to_vec(), prev),
            None => (Vec::new(), (0, 0)),
        };
        let Some((at_prev, behind)) = known.split_first() else {
            let next = self.last()?.index + 1;
            self.reply(from, next, true, false)?;
            return Ok(false);
        };
        if at_prev.term != prev.1 {
            self.reply(from, prev.0, true, false)?;
            return Ok(false);
        }
        if !behind.is_empty() {
            for entry in behind.iter().rev() {
                if let Some((add, address)) = Self::change_in(entry)? {
                    self.change_cluster(!add, &address)?;
                }
            }
            // H8: even where nothing differs.
            let first = self.first()?.index;
            if let Ok(place) = usize::try_from(prev.0 + 1 - first) {
                self.journal.delete_from(place)?;
            }
        }
        for entry in &entries {
            self.journal.add(entry.clone())?;
        }
        for entry in &entries {
            if let Some((add, address)) = Self::change_in(entry)? {
                self.change_cluster(add, &address)?;
            }
        }
        let next = match entries.last() {
            Some(last) if self.config.version.acknowledges_last() => last.index + 1,
            Some(last) => last.index,
            None => prev.0 + 1,
        };
        self.reply(from, next, false, true)?;
        Ok(true)
    }

    fn reply(&mut self, to: &NodeId, next: i64, reset: bool, success: bool) -> Result<(), Raised> {
        let reply = Value::dict([
            ("type", Value::str("next_node_idx")),
            ("next_node_idx", Value::Int(next)),
            ("reset", Value::Bool(reset)),
            ("success", Value::Bool(success)),
        ]);
        self.send(to, reply)
    }
}

fn is(message: &Value, kind: &str) -> bool {
    message.get("type").and_then(Value::as_str) == Some(kind)
}

/// Terms and indices of the wire fit by their types.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
