//! What a leader does: commit, appends, snapshots, and the set of members (spec
//! 3.4 to 3.6, 5.4 to 5.6).

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_witness::address::Address;
use pg_witness::wire::{Command, Value, pickle};

use super::node::{APPEND_PERIOD_S, Node, State};
use super::{Entry, NodeId, Raised};

const NO_OP: u8 = 1;

impl Node {
    /// `__onBecomeLeader`.
    pub(super) fn become_leader(&mut self) -> Result<(), Raised> {
        self.leader = Some(NodeId::Member(self.config.address.clone()));
        self.state = State::Leader;
        self.last_response_s.clear();
        let index = self.last()?.index + 1;
        for node in self.peers() {
            self.next.insert(node.clone(), index);
            self.matched.insert(node.clone(), 0);
            self.last_response_s.insert(node, self.now_s);
        }
        self.journal.add(Entry {
            command: [NO_OP].into(),
            index,
            term: self.term,
        })?;
        self.noop = Some(index);
        self.send_appends()?;
        self.send_appends()
    }

    fn peers(&self) -> Vec<NodeId> {
        let members = self.members.iter().cloned().map(NodeId::Member);
        members.chain(self.clients.iter().cloned()).collect()
    }

    /// How far a majority holds the log.
    pub(super) fn advance_commit(&mut self) -> Result<(), Raised> {
        let (mut index, mut commit) = (self.commit, self.commit);
        let end = self.last()?.index;
        while index < end {
            index += 1;
            let mut holders = 1;
            for member in &self.members {
                let matched = self.matched.get(&NodeId::Member(member.clone()));
                if *matched.ok_or(Raised("KeyError"))? >= index {
                    holders += 1;
                }
            }
            if !self.is_majority(holders) {
                break;
            }
            let term = self
                .entries(index, Some(1))?
                .first()
                .map(|entry| entry.term);
            // H10: up to 0.3.11 of any term.
            if !self.config.version.commits_own_term() || term == Some(self.term) {
                commit = index;
            }
        }
        if commit != self.commit {
            self.commit = commit;
            self.journal.set_commit(commit);
        }
        Ok(())
    }

    /// `__sendAppendEntries`.
    pub(super) fn send_appends(&mut self) -> Result<(), Raised> {
        let began = self.now_s;
        self.next_append_s = began + APPEND_PERIOD_S;
        for node in self.peers() {
            if !self.connected.contains(&node) {
                self.serializer.cancel(&node);
                continue;
            }
            let mut streaming = false;
            let mut first_round = true;
            loop {
                let next = self.next_of(&node)?;
                if next > self.last()?.index && !first_round && !streaming {
                    break;
                }
                let cut_off = if next > self.first()?.index {
                    self.send_entries(&node, next)?
                } else {
                    streaming = self.send_chunk(&node)?;
                    !self.connected.contains(&node)
                };
                first_round = false;
                if cut_off || self.now_s - began > APPEND_PERIOD_S {
                    break;
                }
            }
        }
        Ok(())
    }

    fn next_of(&self, node: &NodeId) -> Result<i64, Raised> {
        self.next.get(node).copied().ok_or(Raised("KeyError"))
    }

    /// Sends one append; whether the peer was found to be gone. Behind fragments
    /// nobody looks.
    fn send_entries(&mut self, node: &NodeId, next: i64) -> Result<bool, Raised> {
        let prev = self.entries(next - 1, Some(1))?.first();
        let prev = prev.map(|entry| (Value::Int(next - 1), Value::Int(entry.term)));
        let (prev_index, prev_term) = prev.unwrap_or((Value::None, Value::None));
        let batch = self.batch(next)?;
        // Before any answer: a lost append is only found by a reset. A log whose
        // indices have a gap may have nothing at that place.
        if next <= self.last()?.index {
            let last = batch.last().ok_or(Raised("IndexError"))?;
            self.next.insert(node.clone(), last.index + 1);
        }
        let mut message = vec![
            ("type", Value::str("append_entries")),
            ("term", Value::Int(self.term)),
            ("commit_index", Value::Int(self.commit)),
            ("prevLogIdx", prev_index),
            ("prevLogTerm", prev_term),
        ];
        match batch.as_slice() {
            [entry] if entry.command.len() >= self.config.append_bytes => {
                for (word, data) in fragments(entry, self.config.append_bytes) {
                    let mut message = message.clone();
                    message.push(("transmission", Value::str(word)));
                    message.push(("data", Value::bytes(&data)));
                    self.send(node, Value::dict(message))?;
                    if !self.connected.contains(node) {
                        break;
                    }
                }
                Ok(false)
            }
            entries => {
                let entries = entries.iter().map(Entry::to_value);
                message.push(("entries", Value::list(entries)));
                self.send(node, Value::dict(message))?;
                Ok(!self.connected.contains(node))
            }
        }
    }

    /// Entries from `next` on until their commands fill an append; the one that
    /// crosses the limit is in it.
    fn batch(&self, next: i64) -> Result<Vec<Entry>, Raised> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        for entry in self.entries(next, None)? {
            batch.push(entry.clone());
            bytes += entry.command.len();
            if bytes >= self.config.append_bytes {
                break;
            }
        }
        Ok(batch)
    }

    /// Sends the next part of the dump; whether there is more of it.
    fn send_chunk(&mut self, node: &NodeId) -> Result<bool, Raised> {
        let chunk = self.serializer.next_chunk(node);
        let serialized = chunk.as_ref().map_or(Value::None, |chunk| {
            Value::tuple([
                Value::Bytes(chunk.data.clone()),
                Value::Bool(chunk.first),
                Value::Bool(chunk.last),
            ])
        });
        // H30: the commit index goes with every part.
        let message = Value::dict([
            ("type", Value::str("append_entries")),
            ("term", Value::Int(self.term)),
            ("commit_index", Value::Int(self.commit)),
            ("serialized", serialized),
        ]);
        self.send(node, message)?;
        if !self.connected.contains(node) {
            return Ok(false);
        }
        match chunk {
            Some(chunk) if chunk.last => {
                let second = self.journal.log().get(1).ok_or(Raised("IndexError"))?;
                self.next.insert(node.clone(), second.index + 1);
                Ok(false)
            }
            Some(_) => Ok(true),
            None => Ok(false),
        }
    }

    /// `next_node_idx`: believed whatever it says and whenever it was meant (H9).
    pub(super) fn on_next_node_idx(
        &mut self,
        node: &NodeId,
        next: i64,
        reset: bool,
        success: bool,
    ) -> Result<(), Raised> {
        if reset {
            self.next.insert(node.clone(), next);
        }
        if success {
            if !self.config.version.keeps_commit() {
                self.matched.insert(node.clone(), next - 1);
            } else if *self.matched.get(node).ok_or(Raised("KeyError"))? < next - 1 {
                self.matched.insert(node.clone(), next - 1);
                self.next.insert(node.clone(), next);
            }
        }
        self.last_response_s.insert(node.clone(), self.now_s);
        Ok(())
    }

    /// `__doChangeCluster`: whether it changed anything. In effect from the
    /// append on.
    pub(super) fn change_cluster(&mut self, add: bool, address: &Address) -> Result<bool, Raised> {
        let node = NodeId::Member(address.clone());
        if *address == self.config.address || self.members.contains(address) == add {
            return Ok(false);
        }
        if add {
            self.members.insert(address.clone());
            let next = self.last()?.index + 1;
            self.next.insert(node.clone(), next);
            self.matched.insert(node.clone(), 0);
            if self.state == State::Leader {
                self.last_response_s.insert(node, self.now_s);
            }
            self.add_to_transport(address);
        } else {
            self.members.remove(address);
            self.next.remove(&node);
            self.matched.remove(&node);
            self.drop_from_transport(address)?;
        }
        Ok(true)
    }

    /// The change that an entry asks for, if it asks for one.
    pub(super) fn change_in(entry: &Entry) -> Result<Option<(bool, Address)>, Raised> {
        if entry.command.is_empty() {
            return Err(Raised("TypeError"));
        }
        if !Command::is_membership(&entry.command) {
            return Ok(None);
        }
        match Command::parse(&entry.command) {
            Command::Membership { add, address } => Ok(Some((add, address))),
            _ => Err(Raised("EOFError")),
        }
    }

    /// `__updateClusterConfiguration`: by a dump.
    pub(super) fn replace_members(&mut self, members: BTreeSet<Address>) -> Result<(), Raised> {
        let old = std::mem::take(&mut self.members);
        for address in old.difference(&members) {
            let node = NodeId::Member(address.clone());
            self.next.remove(&node);
            self.matched.remove(&node);
            self.drop_from_transport(address)?;
        }
        let added: Vec<_> = members.difference(&old).cloned().collect();
        self.members = members;
        for address in added {
            self.add_to_transport(&address);
            let next = self.last()?.index + 1;
            let node = NodeId::Member(address);
            self.next.insert(node.clone(), next);
            self.matched.insert(node, 0);
        }
        Ok(())
    }
}

/// A large entry in parts. Python decides by the length of the command which one
/// is the last, and cuts the longer pickle: more than one may say so (H4).
fn fragments(entry: &Entry, bytes: usize) -> Vec<(&'static str, Arc<[u8]>)> {
    let pickled = python_pickle(entry);
    let parts = pickled.chunks(bytes).enumerate();
    let word = |place: usize| match place {
        0 => "start",
        _ if (place + 1) * bytes >= entry.command.len() => "finish",
        _ => "process",
    };
    parts
        .map(|(place, data)| (word(place), data.into()))
        .collect()
}

/// What CPython's pickler makes of the entry's tuple by protocol 2: bytes as the
/// text that `latin1` turns into them, everything in the memo.
fn python_pickle(entry: &Entry) -> Vec<u8> {
    let text: String = entry.command.iter().copied().map(char::from).collect();
    let mut out = b"\x80\x02c_codecs\nencode\nq\x00X".to_vec();
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"q\x01X\x06\x00\x00\x00latin1q\x02\x86q\x03Rq\x04");
    for number in [entry.index, entry.term] {
        let mut pickle = Vec::new();
        pickle::encode(&Value::Int(number), &mut pickle);
        // Between the two bytes of the protocol and the stop.
        let bare = pickle.get(2..pickle.len() - 1);
        out.extend_from_slice(bare.unwrap_or_default());
    }
    out.extend_from_slice(b"\x87q\x05.");
    out
}
