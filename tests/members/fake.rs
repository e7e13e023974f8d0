//! A scripted peer: speaks the wire as a PySyncObj node or as a read-only client
//! does, and says what the test wants. Left to itself it can also be a plain
//! follower.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;
use pg_witness::address::Address;
use pg_witness::ids::{Entry, EntryId, LogIndex, Term};
use pg_witness::links::budget::Class;
use pg_witness::links::connection::Connection;
use pg_witness::links::resolve;
use pg_witness::reactor::{self, Instant, TcpListener, TcpStream};
use pg_witness::wire::message::{
    Append, AppendBody, ApplyOutcome, Hello, Message, NextNodeIdx, SnapshotChunk,
};
use pg_witness::wire::utility::{
    MemberStatus, MemberTarget, MembersReply, NodeState, StatusReply, UtilityRequest,
};
use pg_witness::wire::value::Str;
use pg_witness::wire::{Key, Session, Value, command};

use crate::rig::in_time;

pub fn term(term: u64) -> Term {
    Term::new(term).unwrap()
}

pub fn index(index: u64) -> LogIndex {
    LogIndex::new(index).unwrap()
}

pub fn id(i: u64, t: u64) -> EntryId {
    EntryId {
        index: index(i),
        term: term(t),
    }
}

/// An entry that changes nothing.
pub fn noop(i: u64, t: u64) -> Entry {
    Entry {
        id: id(i, t),
        command: command::noop(),
    }
}

/// A key as Patroni's leader key is set, to expire after `ttl` seconds.
pub fn set(key: &str, ttl: f64) -> Arc<[u8]> {
    set_to(key, Value::str("a"), ttl)
}

/// A key with this value, to expire after `ttl` seconds.
pub fn set_to(key: &str, value: Value, ttl: f64) -> Arc<[u8]> {
    let now = 1_700_000_000.0;
    let value = Value::dict([
        ("value", value),
        ("created", Value::Float(now)),
        ("updated", Value::Float(now)),
        ("expire", Value::Float(now + ttl)),
    ]);
    command::set(&text(key), &value, &[])
}

fn text(text: &str) -> Str {
    match Value::str(text) {
        Value::Str(text) => text,
        _ => unreachable!(),
    }
}

/// The status of a node that has seen nothing.
pub fn fresh_status(me: &Address) -> StatusReply {
    StatusReply {
        version: "0.3.14".into(),
        this: Some(me.clone()),
        state: NodeState::Follower,
        leader: None,
        has_quorum: true,
        partners: Vec::new(),
        readonly: Vec::new(),
        log_len: 1,
        last_applied: 1,
        commit_idx: 1,
        raft_term: Term::ZERO,
        leader_commit_idx: None,
        uptime_s: 1,
        self_code_version: 0,
        enabled_code_version: 0,
    }
}

/// What a plain follower remembers.
pub struct Plain {
    pub term: Cell<u64>,
    /// Whether it votes.
    pub votes: Cell<bool>,
    /// Whether it answers appends.
    pub answers: Cell<bool>,
    pub log: RefCell<Vec<Entry>>,
    pub commit: Cell<u64>,
    /// When the last append came.
    pub heard: Cell<Option<Instant>>,
}

pub struct Fake {
    pub address: Address,
    pub keys: RefCell<Vec<Arc<Key>>>,
    /// How many links there were.
    pub links: Cell<u32>,
    hello: Hello,
    /// How often it was asked for its `status`.
    pub asked: Cell<u32>,
    /// What read-only clients have answered.
    pub read: Cell<u32>,
    /// How often it was asked who the members are.
    pub looked_at: Cell<u32>,
    /// What it answers to `status`; none: it keeps silent.
    pub status: RefCell<Option<StatusReply>>,
    pub members: RefCell<Vec<Address>>,
    /// Whom it was asked to add.
    pub added: RefCell<Vec<Address>>,
    pub plain: Plain,
    link: RefCell<Option<Rc<Connection>>>,
    linked: Event,
    inbox: RefCell<Vec<Message>>,
    arrived: Event,
    outcomes: RefCell<Vec<(i64, ApplyOutcome)>>,
    next_request: Cell<i64>,
    is_plain: Cell<bool>,
}

impl Fake {
    fn new(address: &Address, hello: Hello) -> Rc<Self> {
        Rc::new(Self {
            address: address.clone(),
            keys: RefCell::default(),
            links: Cell::new(0),
            hello,
            asked: Cell::new(0),
            read: Cell::new(0),
            looked_at: Cell::new(0),
            status: RefCell::new(Some(fresh_status(address))),
            members: RefCell::default(),
            added: RefCell::default(),
            plain: Plain {
                term: Cell::new(0),
                votes: Cell::new(true),
                answers: Cell::new(true),
                log: RefCell::new(vec![noop(1, 0)]),
                commit: Cell::new(1),
                heard: Cell::new(None),
            },
            link: RefCell::default(),
            linked: Event::new(),
            inbox: RefCell::default(),
            arrived: Event::new(),
            outcomes: RefCell::default(),
            next_request: Cell::new(1),
            is_plain: Cell::new(false),
        })
    }

    /// A node that listens and answers `status` and `members`.
    pub async fn listen(address: &Address, members: &[&Address]) -> Rc<Self> {
        let fake = Self::new(address, Hello::Member(address.clone()));
        *fake.members.borrow_mut() = members.iter().map(|a| (*a).clone()).collect();
        let listener = TcpListener::bind(address.as_str().parse().unwrap()).unwrap();
        reactor::spawn(fake.clone().accept(listener)).detach();
        fake
    }

    /// A read-only client of the member: follows its log and may propose.
    pub async fn client(member: &Address) -> Rc<Self> {
        let fake = Self::new(member, Hello::ReadOnly);
        fake.follow();
        fake.dial(member).await;
        fake
    }

    /// From now on it behaves like a plain follower.
    pub fn follow(&self) {
        self.is_plain.set(true);
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let session = Session::accept(&self.keys.borrow(), rand::random());
            reactor::spawn(self.clone().serve(stream, session, false)).detach();
        }
    }

    /// Dials the member and says hello; returns when the link is up.
    pub async fn dial(self: &Rc<Self>, member: &Address) {
        let stream = in_time("dialling", async {
            loop {
                match resolve::connect(member).await {
                    Ok(stream) => return stream,
                    Err(_) => pg_witness::reactor::Timer::after(Duration::from_millis(20)).await,
                };
            }
        })
        .await;
        let session = Session::dial(
            self.hello.clone(),
            self.keys.borrow().first().cloned(),
            rand::random(),
        );
        reactor::spawn(self.clone().serve(stream, session, true)).detach();
        self.linked().await;
    }

    /// Waits for a link, made from either side.
    pub async fn linked(&self) {
        in_time("a link", async {
            loop {
                let linked = self.linked.listen();
                if self.is_linked() {
                    return;
                }
                linked.await;
            }
        })
        .await;
    }

    pub fn is_linked(&self) -> bool {
        self.link.borrow().is_some()
    }

    /// Drops the link.
    pub fn hang_up(&self) {
        if let Some(link) = self.link.borrow_mut().take() {
            link.abort();
        }
    }

    async fn serve(self: Rc<Self>, stream: TcpStream, session: Session, dialled: bool) {
        let connection = Connection::new(stream, session);
        let linked = Cell::new(false);
        let announce = || {
            if dialled && connection.is_up() && !linked.replace(true) {
                self.take_link(&connection);
            }
        };
        announce();
        connection
            .serve_with(&announce, |value| {
                self.on_value(&connection, &linked, &value);
                std::future::ready(())
            })
            .await;
        let mut link = self.link.borrow_mut();
        if link.as_ref().is_some_and(|live| live.id == connection.id) {
            *link = None;
        }
    }

    fn on_value(&self, connection: &Rc<Connection>, linked: &Cell<bool>, value: &Value) {
        if !linked.get() {
            let Ok(hello) = Hello::decode(value) else {
                // Who reads says nothing else.
                Message::decode(value).unwrap();
                self.read.set(self.read.get() + 1);
                return;
            };
            match hello {
                Hello::Utility(request) => self.on_utility(connection, &request),
                Hello::ReadOnly => self.show_end(connection),
                Hello::Member(_) => {
                    connection.admit(Class::Member, Class::Member.account());
                    linked.set(true);
                    self.take_link(connection);
                }
            }
            return;
        }
        let message = Message::decode(value).unwrap();
        match message {
            Message::Keepalive => return,
            Message::ApplyCommandResponse {
                request_id,
                outcome,
            } => self.outcomes.borrow_mut().push((request_id, outcome)),
            message if self.is_plain.get() => self.on_plain(message),
            message => self.inbox.borrow_mut().push(message),
        }
        self.arrived.notify(usize::MAX);
    }

    /// What a leader sends a new read-only client: an append at its log's end.
    fn show_end(&self, connection: &Connection) {
        let Some(status) = self.status.borrow().clone() else {
            return;
        };
        connection.send(&Message::AppendEntries(Append {
            term: status.raft_term,
            commit: index(status.commit_idx),
            body: AppendBody::Entries {
                prev: Some(id(status.log_len, status.raft_term.get())),
                entries: Vec::new(),
            },
        }));
    }

    fn take_link(&self, connection: &Rc<Connection>) {
        *self.link.borrow_mut() = Some(connection.clone());
        self.links.set(self.links.get() + 1);
        self.linked.notify(usize::MAX);
    }

    fn on_utility(&self, connection: &Connection, request: &UtilityRequest) {
        match request {
            UtilityRequest::Status => {
                self.asked.set(self.asked.get() + 1);
                if let Some(status) = &*self.status.borrow() {
                    connection.send(status);
                }
            }
            UtilityRequest::Members => {
                self.looked_at.set(self.looked_at.get() + 1);
                let status = self.status.borrow();
                let leader = status.as_ref().and_then(|s| s.leader.clone());
                let this = status.as_ref().and_then(|s| s.this.clone());
                let this = this.unwrap_or_else(|| self.address.clone());
                let members = self.members.borrow();
                let others = members.iter().filter(|a| **a != this);
                // Ourselves last, as Python does.
                let all = others.chain([&this]).map(|address| MemberStatus {
                    address: address.clone(),
                    leader: leader.as_ref() == Some(address),
                    connected: true,
                });
                connection.send(&MembersReply(all.collect()));
            }
            UtilityRequest::Add(MemberTarget::Address(address)) => {
                self.added.borrow_mut().push(address.clone());
                connection.send(&Value::str(&request.outcome(true)));
            }
            request => connection.send(&Value::str(&request.outcome(true))),
        }
    }

    fn on_plain(&self, message: Message) {
        let plain = &self.plain;
        match message {
            Message::RequestVote { term, last } => {
                let ours = plain.log.borrow().last().unwrap().id;
                let good = (last.term, last.index) >= (ours.term, ours.index);
                if term.get() > plain.term.get() && plain.votes.get() {
                    plain.term.set(term.get());
                    if good {
                        self.send(&Message::ResponseVote { term });
                    }
                }
            }
            Message::AppendEntries(Append {
                term,
                commit,
                body: AppendBody::Entries { prev, entries },
            }) if term.get() >= plain.term.get() => {
                plain.term.set(term.get());
                plain.heard.set(Some(Instant::now()));
                let mut log = plain.log.borrow_mut();
                let held = prev.and_then(|prev| {
                    let at = usize::try_from(prev.index.get()).unwrap();
                    log.get(at - 1).filter(|e| e.id == prev).map(|_| at)
                });
                let reply = match held {
                    Some(at) => {
                        log.truncate(at);
                        log.extend(entries);
                        let last = log.last().unwrap().id.index;
                        plain.commit.set(commit.min(last).get());
                        NextNodeIdx {
                            next: last.get().cast_signed() + 1,
                            reset: false,
                            success: true,
                        }
                    }
                    None => {
                        let last = log.last().unwrap().id.index.get().cast_signed();
                        let prev = prev.map_or(i64::MAX, |p| p.index.get().cast_signed());
                        NextNodeIdx {
                            next: prev.min(last + 1),
                            reset: true,
                            success: false,
                        }
                    }
                };
                drop(log);
                if plain.answers.get() {
                    self.send(&Message::NextNodeIdx(reply));
                }
            }
            _ => {}
        }
    }

    /// Says something on the link.
    pub fn send(&self, message: &Message) {
        let link = self.link.borrow();
        link.as_ref().expect("no link").send(message);
    }

    /// An append, as leader of `t`, by whom nothing is known of the entry that it was
    /// asked to begin behind (H21).
    pub fn append_behind_its_end(&self, t: u64, commit: u64) {
        self.send(&Message::AppendEntries(Append {
            term: term(t),
            commit: index(commit),
            body: AppendBody::Entries {
                prev: None,
                entries: Vec::new(),
            },
        }));
    }

    /// An append, as leader of `t`.
    pub fn append(&self, t: u64, prev: EntryId, entries: &[Entry], commit: u64) {
        self.send(&Message::AppendEntries(Append {
            term: term(t),
            commit: index(commit),
            body: AppendBody::Entries {
                prev: Some(prev),
                entries: entries.to_vec(),
            },
        }));
    }

    /// A whole snapshot in one chunk.
    pub fn snapshot(&self, t: u64, commit: u64, data: &[u8]) {
        self.send(&Message::AppendEntries(Append {
            term: term(t),
            commit: index(commit),
            body: AppendBody::Snapshot(Some(SnapshotChunk {
                data: data.into(),
                first: true,
                last: true,
            })),
        }));
    }

    pub fn ask_vote(&self, t: u64, last: EntryId) {
        self.send(&Message::RequestVote {
            term: term(t),
            last,
        });
    }

    /// The next message that `wanted` takes; others are dropped.
    pub async fn next<T>(&self, what: &str, wanted: impl Fn(&Message) -> Option<T>) -> T {
        in_time(what, async {
            loop {
                let arrived = self.arrived.listen();
                while !self.inbox.borrow().is_empty() {
                    let message = self.inbox.borrow_mut().remove(0);
                    if let Some(found) = wanted(&message) {
                        return found;
                    }
                }
                arrived.await;
            }
        })
        .await
    }

    /// The next answer to an append.
    pub async fn answer(&self) -> NextNodeIdx {
        self.next("an answer", |message| match message {
            Message::NextNodeIdx(reply) => Some(*reply),
            _ => None,
        })
        .await
    }

    /// Takes all that has come and was not awaited.
    pub fn drain(&self) -> Vec<Message> {
        self.inbox.take()
    }

    /// Proposes a command and returns what became of it.
    pub async fn apply(&self, command: Arc<[u8]>) -> ApplyOutcome {
        let request = self.next_request.get();
        self.next_request.set(request + 1);
        self.send(&Message::ApplyCommand {
            command,
            request_id: Some(request),
        });
        in_time("an apply_command_response", async {
            loop {
                let arrived = self.arrived.listen();
                let found = {
                    let outcomes = self.outcomes.borrow();
                    outcomes.iter().find(|(id, _)| *id == request).copied()
                };
                if let Some((_, outcome)) = found {
                    return outcome;
                }
                arrived.await;
            }
        })
        .await
    }

    /// Proposes a command and waits until the log that we follow has committed
    /// it; returns where.
    pub async fn write(&self, command: Arc<[u8]>) -> EntryId {
        let outcome = self.apply(command).await;
        let ApplyOutcome::Appended(id) = outcome else {
            panic!("refused: {outcome:?}");
        };
        self.commits("the entry", |entry| entry.id == id).await;
        id
    }

    /// Waits until an entry that `wanted` knows is committed in the log that we
    /// follow.
    pub async fn commits(&self, what: &str, wanted: impl Fn(&Entry) -> bool) {
        in_time(what, async {
            loop {
                let arrived = self.arrived.listen();
                let commit = self.plain.commit.get();
                let found = {
                    let log = self.plain.log.borrow();
                    log.iter().any(|e| e.id.index.get() <= commit && wanted(e))
                };
                if found {
                    return;
                }
                arrived.await;
            }
        })
        .await;
    }
}
