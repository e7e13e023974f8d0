//! The node itself: its state, its start, its tick (`SyncObj._onTick`), applying
//! and compaction.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pg_witness::address::Address;
use pg_witness::wire::{Command, Value, command};

use super::commands::Callback;
use super::dump::{Dump, Progress, Serializer};
use super::journal::Journal;
use super::store::Store;
use super::transport::Transport;
use super::{Config, Effect, Entry, Files, Host, Moment, NodeId, Raised, Socket, StartError};

/// Draws a number from [0, 1).
pub type Chance<'a> = dyn FnMut() -> f64 + 'a;

const ELECTION_MIN_S: f64 = 0.4;
const ELECTION_MAX_S: f64 = 1.4;
/// Between heartbeats, and the most that one round of work may take.
pub(super) const APPEND_PERIOD_S: f64 = 0.1;
/// A leader without answers from a majority for this long steps down.
const FALLBACK_S: f64 = 30.0;
const NO_OP: u8 = 1;
const VERSION: u8 = 3;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Hears a leader, or waits for one.
    Follower = 0,
    /// Stands for election.
    Candidate = 1,
    /// Leads, in its own eyes.
    Leader = 2,
}

/// A PySyncObj node; see the module for how to drive it. Fields are named after
/// those of `SyncObj`.
#[derive(Debug)]
pub struct Node {
    pub(super) config: Config,
    // The event under way: what the clocks show, and what came of it so far.
    pub(super) now_s: f64,
    wall_s: f64,
    pub(super) effects: Vec<Effect>,
    dead: bool,
    // What Raft is about.
    pub(super) state: State,
    pub(super) term: i64,
    pub(super) voted_for: Option<String>,
    pub(super) votes: usize,
    pub(super) leader: Option<NodeId>,
    pub(super) journal: Journal,
    pub(super) commit: i64,
    pub(super) applied: i64,
    pub(super) leader_commit: Option<i64>,
    pub(super) deadline_s: f64,
    /// `timeout_now` came: heartbeats no longer postpone the election.
    pub(super) transferring: bool,
    // The others.
    pub(super) members: BTreeSet<Address>,
    pub(super) clients: BTreeSet<NodeId>,
    pub(super) connected: BTreeSet<NodeId>,
    pub(super) connected_to_none: bool,
    pub(super) transport: Transport,
    // What a leader knows.
    pub(super) next: BTreeMap<NodeId, i64>,
    pub(super) matched: BTreeMap<NodeId, i64>,
    pub(super) last_response_s: BTreeMap<NodeId, f64>,
    pub(super) noop: Option<i64>,
    pub(super) next_append_s: f64,
    // Commands on their way.
    pub(super) queue: VecDeque<(Arc<[u8]>, Callback)>,
    pub(super) awaiting_commit: BTreeMap<i64, Vec<(i64, Callback)>>,
    pub(super) awaiting_reply: BTreeMap<i64, Callback>,
    pub(super) requests: i64,
    /// The entry that arrives in fragments; none: Python's empty `str`.
    pub(super) fragments: Option<Vec<u8>>,
    // The state machine and its dump.
    pub(super) store: Store,
    pub(super) serializer: Serializer,
    attributes: Vec<(Value, Value)>,
    pub(super) code_version: i64,
    dump_to_load: bool,
    compact_now: bool,
    last_dump_s: f64,
    last_dump_entry: Option<i64>,
    // Since the start.
    pub(super) started_s: f64,
    seconds: f64,
    ready: bool,
    local_log_applied: bool,
}

impl Node {
    /// `SyncObj.__init__`: what a new process makes of its files.
    ///
    /// # Errors
    /// If the journal is damaged.
    pub fn start(
        config: Config,
        files: Files,
        now: Moment,
        chance: &mut Chance<'_>,
    ) -> Result<Self, StartError> {
        let version = config.version;
        let deadline_s = now.monotonic_s + election_timeout(chance);
        let mut journal = Journal::open(version, files.journal, files.meta)?;
        if journal.log().is_empty() {
            // A new record of 25 bytes fits any journal.
            let _ = journal.add(Entry {
                command: [NO_OP].into(),
                index: 1,
                term: 0,
            });
        }
        let last_term = journal.log().last().map_or(0, |entry| entry.term);
        // H7: up to 0.3.15 neither survives.
        let (term, voted_for) = if version.stores_term() {
            (journal.term().max(last_term), journal.voted_for())
        } else {
            (0, None)
        };
        let mut node = Self {
            now_s: now.monotonic_s,
            wall_s: now.wall_s,
            effects: Vec::new(),
            dead: false,
            state: State::Follower,
            term,
            voted_for,
            votes: 0,
            leader: None,
            commit: journal.commit(),
            journal,
            applied: 1,
            leader_commit: None,
            deadline_s,
            transferring: false,
            members: BTreeSet::new(),
            clients: BTreeSet::new(),
            connected: BTreeSet::new(),
            connected_to_none: false,
            transport: Transport::default(),
            next: BTreeMap::new(),
            matched: BTreeMap::new(),
            last_response_s: BTreeMap::new(),
            noop: None,
            next_append_s: 0.0,
            queue: VecDeque::new(),
            awaiting_commit: BTreeMap::new(),
            awaiting_reply: BTreeMap::new(),
            requests: 0,
            fragments: None,
            store: Store::default(),
            serializer: Serializer::new(files.dump, config.chunk_bytes),
            attributes: match config.host {
                Host::Patroni => {
                    vec![(Value::str("_KVStoreTTL__destroying"), Value::Bool(false))]
                }
                Host::Controller => Vec::new(),
            },
            code_version: 0,
            dump_to_load: true,
            compact_now: false,
            last_dump_s: now.monotonic_s,
            last_dump_entry: None,
            started_s: now.monotonic_s,
            seconds: 0.0,
            ready: false,
            local_log_applied: false,
            config,
        };
        for member in node.config.members.clone() {
            if member != node.config.address {
                node.members.insert(member.clone());
                node.add_to_transport(&member);
            }
        }
        Ok(node)
    }

    /// A peer connected.
    pub fn accept(&mut self, now: Moment) -> Socket {
        self.begin(now);
        self.on_accept()
    }

    /// A dial of ours succeeded.
    pub fn established(&mut self, socket: Socket, now: Moment) -> Vec<Effect> {
        self.event(now, |node| node.on_established(socket))
    }

    /// A dial of ours failed, or a connection ended.
    pub fn closed(&mut self, socket: Socket, now: Moment) -> Vec<Effect> {
        self.event(now, |node| node.on_closed(socket))
    }

    /// A frame arrived.
    pub fn received(
        &mut self,
        socket: Socket,
        message: &Value,
        now: Moment,
        chance: &mut Chance<'_>,
    ) -> Vec<Effect> {
        self.event(now, |node| node.on_received(socket, message, chance))
    }

    /// One round of the host's loop, but for what arrives.
    pub fn tick(&mut self, now: Moment, chance: &mut Chance<'_>) -> Vec<Effect> {
        self.event(now, |node| node.on_tick(chance))
    }

    /// A client in this process wants `command` replicated; a `ticket` asks for
    /// [`Effect::Done`].
    pub fn propose(&mut self, command: Arc<[u8]>, ticket: Option<u64>, now: Moment) -> Vec<Effect> {
        let callback = ticket.map_or(Callback::None, Callback::Ticket);
        self.event(now, |node| node.enqueue(command, callback))
    }

    /// The next tick writes a dump, whatever the size of the log.
    pub fn force_compaction(&mut self) {
        self.compact_now = true;
    }

    /// What a crash of the process leaves behind.
    pub fn files(&self) -> Files {
        Files {
            journal: Some(self.journal.file().to_vec()),
            meta: self.journal.meta_file().map(<[u8]>::to_vec),
            dump: self.serializer.file.clone(),
        }
    }

    /// Whether an exception ended the thread (H1 to H6).
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    fn begin(&mut self, now: Moment) {
        self.now_s = now.monotonic_s;
        self.wall_s = now.wall_s;
    }

    fn event(
        &mut self,
        now: Moment,
        handle: impl FnOnce(&mut Self) -> Result<(), Raised>,
    ) -> Vec<Effect> {
        if self.dead {
            return Vec::new();
        }
        self.begin(now);
        if let Err(raised) = handle(self) {
            self.effects.push(Effect::Raised(raised));
            self.dead = self.config.host == Host::Patroni;
        }
        std::mem::take(&mut self.effects)
    }

    fn on_tick(&mut self, chance: &mut Chance<'_>) -> Result<(), Raised> {
        if std::mem::take(&mut self.dump_to_load) && self.serializer.file.is_some() {
            self.load_dump(false);
        }
        if self.now_s - self.started_s > self.seconds {
            self.seconds += 1.0;
            self.journal.save();
        }
        if self.state != State::Leader {
            self.stand_if_due(chance)?;
        }
        if self.state == State::Leader {
            self.advance_commit()?;
            self.leader_commit = Some(self.commit);
            self.fall_back_if_alone()?;
        }
        let applied = self.apply_entries()?;
        if self.state == State::Leader && (self.now_s > self.next_append_s || applied) {
            self.send_appends()?;
        }
        self.ready |= Some(self.applied) == self.leader_commit;
        self.take_commands()?;
        self.compact_if_due()?;
        self.dial_all();
        // DynMemberSyncObj and KVStoreTTL, after the poll.
        self.local_log_applied |= self.applied == self.commit;
        if self.state == State::Leader {
            self.expire_keys()?;
        } else {
            self.store.forget_expiries();
        }
        Ok(())
    }

    fn stand_if_due(&mut self, chance: &mut Chance<'_>) -> Result<(), Raised> {
        let connected = self.connected_to_none || !self.connected.is_empty();
        let reachable = connected || self.members.is_empty();
        if self.deadline_s >= self.now_s || !reachable {
            return Ok(());
        }
        self.redraw_deadline(chance);
        self.transferring = false;
        self.leader = None;
        self.state = State::Candidate;
        let this = self.config.address.to_string();
        self.set_term(self.term + 1, Some(this));
        self.votes = 1;
        let last = self.last()?.clone();
        for member in self.members.clone() {
            let request = Value::dict([
                ("type", Value::str("request_vote")),
                ("term", Value::Int(self.term)),
                ("last_log_index", Value::Int(last.index)),
                ("last_log_term", Value::Int(last.term)),
            ]);
            self.send(&NodeId::Member(member), request)?;
        }
        self.on_leader_changed()?;
        if self.is_majority(self.votes) {
            self.become_leader()?;
        }
        Ok(())
    }

    fn fall_back_if_alone(&mut self) -> Result<(), Raised> {
        let deadline = self.now_s - FALLBACK_S;
        let mut heard = 1;
        for member in &self.members {
            let at = self.last_response_s.get(&NodeId::Member(member.clone()));
            if *at.ok_or(Raised("KeyError"))? > deadline {
                heard += 1;
            }
        }
        if !self.is_majority(heard) {
            self.state = State::Follower;
            self.leader = None;
        }
        Ok(())
    }

    /// `__applyLogEntries`; whether there was anything to apply.
    fn apply_entries(&mut self) -> Result<bool, Raised> {
        if self.commit <= self.applied {
            return Ok(false);
        }
        let count = usize::try_from(self.commit - self.applied).unwrap_or(0);
        let from = self.applied + 1;
        for entry in self.entries(from, Some(count))?.to_vec() {
            let waiting = self.awaiting_commit.remove(&entry.index);
            let Some(result) = self.apply(&entry.command)? else {
                continue;
            };
            for (term, callback) in waiting.unwrap_or_default() {
                self.call_back_applied(callback, term == entry.term, &result)?;
            }
            self.applied += 1;
        }
        Ok(true)
    }

    /// `__doApplyCommand`; None where an unknown version of the code is asked
    /// for: the entry then does not count as applied.
    fn apply(&mut self, command: &[u8]) -> Result<Option<Value>, Raised> {
        let kind = *command.first().ok_or(Raised("TypeError"))?;
        match (kind, Command::parse(command)) {
            (_, Command::Version(version)) if version > 0 => Ok(None),
            (_, Command::Version(version)) => {
                self.code_version = version;
                Ok(Some(Value::None))
            }
            (_, Command::Membership { add, address }) => {
                self.change_cluster(add, &address)?;
                Ok(Some(Value::None))
            }
            (_, Command::Regular(call)) => {
                let (version, index) = (self.config.version, self.applied + 1);
                self.store.apply(version, index, &call).map(Some)
            }
            (VERSION, _) | (_, Command::Malformed) => Err(Raised("EOFError")),
            (_, Command::Noop | Command::Unknown) => Ok(Some(Value::None)),
        }
    }

    fn expire_keys(&mut self) -> Result<(), Raised> {
        let (due, last) = self.store.expire(self.wall_s);
        let Some(last) = last else { return Ok(()) };
        for expiry in due {
            let args = Value::tuple([expiry.key.clone(), expiry.value.clone()]);
            let command = command::regular(&Value::tuple([Value::Int(command::EXPIRE), args]));
            if self.queue_is_full() {
                self.store.expiry_done(&expiry);
                continue;
            }
            let (key, value) = (last.key.clone(), last.value.clone());
            self.enqueue(command, Callback::Expiry { key, value })?;
        }
        Ok(())
    }

    fn compact_if_due(&mut self) -> Result<(), Raised> {
        match self.serializer.check(self.now_s) {
            Progress::Writing => return Ok(()),
            Progress::Done(id) => {
                self.last_dump_s = self.now_s;
                let first = self.first()?.index;
                if let Ok(place) = usize::try_from(id - first) {
                    self.journal.delete_to(place)?;
                }
                self.last_dump_entry = Some(id);
                return Ok(());
            }
            Progress::Idle => {}
        }
        if self.journal.log().len() <= self.config.compaction_entries
            && self.now_s - self.last_dump_s <= self.config.compaction_s
            && !self.compact_now
        {
            return Ok(());
        }
        self.compact_now = false;
        let dump = match self.entries(self.applied - 1, Some(2))? {
            [prev, last] if Some(prev.index) != self.last_dump_entry => Dump {
                attributes: self.attributes.clone(),
                data: Some(self.store.data.clone()),
                code_version: self.code_version,
                last: last.clone(),
                prev: prev.clone(),
                members: self
                    .members
                    .iter()
                    .chain([&self.config.address])
                    .cloned()
                    .collect(),
            },
            _ => {
                self.last_dump_s = self.now_s;
                return Ok(());
            }
        };
        self.serializer
            .begin(&dump, self.now_s + self.config.dump_s);
        Ok(())
    }

    /// `__loadDumpFile`: at the start, or once a snapshot arrived (`replace`).
    /// Python swallows whatever goes wrong in it (H12).
    pub(super) fn load_dump(&mut self, replace: bool) {
        if let Some(dump) = self.serializer.file.as_deref().and_then(Dump::decode) {
            let _ = self.install(dump, replace);
        }
    }

    fn install(&mut self, dump: Dump, replace: bool) -> Result<(), Raised> {
        if let Some(data) = dump.data {
            self.store.data = data;
        }
        self.code_version = dump.code_version;
        for (name, value) in dump.attributes {
            self.attributes.retain(|(known, _)| !known.py_eq(&name));
            self.attributes.push((name, value));
        }
        let begins = matches!(self.journal.log(), [first, second, ..]
            if *first == dump.prev && *second == dump.last);
        if replace || !begins {
            self.journal.clear()?;
            self.journal.add(dump.prev)?;
            self.journal.add(dump.last.clone())?;
        }
        self.applied = dump.last.index;
        if self.config.version.clamps_commit() {
            let end = self.last()?.index;
            if self.commit > end {
                self.commit = end;
                self.journal.set_commit(end);
            }
        }
        let members = dump.members.into_iter();
        let members = members
            .filter(|member| *member != self.config.address)
            .collect();
        self.replace_members(members)
    }

    /// `__setCurrentTerm`, which older releases do not have.
    pub(super) fn set_term(&mut self, term: i64, voted_for: Option<String>) {
        self.term = term;
        self.voted_for = voted_for;
        if self.config.version.stores_term() {
            self.journal.set_term(term, self.voted_for.clone());
        }
    }

    pub(super) fn redraw_deadline(&mut self, chance: &mut Chance<'_>) {
        self.deadline_s = self.now_s + election_timeout(chance);
    }

    pub(super) fn is_majority(&self, count: usize) -> bool {
        2 * count > self.members.len() + 1
    }

    pub(super) fn first(&self) -> Result<&Entry, Raised> {
        self.journal.log().first().ok_or(Raised("IndexError"))
    }

    pub(super) fn last(&self) -> Result<&Entry, Raised> {
        self.journal.log().last().ok_or(Raised("IndexError"))
    }

    /// `__getEntries`: from an index on; none below the first entry.
    pub(super) fn entries(&self, from: i64, count: Option<usize>) -> Result<&[Entry], Raised> {
        let Ok(place) = usize::try_from(from - self.first()?.index) else {
            return Ok(&[]);
        };
        let found = self.journal.log().get(place..).unwrap_or_default();
        let count = count.unwrap_or(found.len());
        Ok(found.get(..count).unwrap_or(found))
    }

    /// Whether `onReady` was called: the leader's commit index was applied once.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether all that was committed before the start was applied once: then
    /// Patroni goes on (spec 8.3).
    pub fn has_applied_local_log(&self) -> bool {
        self.local_log_applied
    }
}

fn election_timeout(chance: &mut Chance<'_>) -> f64 {
    ELECTION_MIN_S + (ELECTION_MAX_S - ELECTION_MIN_S) * chance()
}
