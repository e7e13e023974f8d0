//! A whole member, over real sockets and a real disk, between two nodes that say
//! what the test wants: the rules that hold over a restart (S1, S7, S13).

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use pg_witness::config::{Bind, Bootstrap, ClusterConfig, Election, Timing};
use pg_witness::disk::Worker;
use pg_witness::links::connection::Connection;
use pg_witness::member::Member;
use pg_witness::raft::runtime;
use pg_witness::reactor::{TcpListener, Timer};
use pg_witness::wire::message::{Append, AppendBody, Hello, Message, NextNodeIdx};
use pg_witness::wire::utility::{MemberStatus, MembersReply, Request, State, StatusReply};
use pg_witness::wire::{Address, Entry, EntryId, LogIndex, Session, Term, command};

/// Above all nodes' addresses, so that it is the witness who dials.
const WITNESS: &str = "127.0.0.2:5010";

/// Longest that anything here is waited for.
const LIMIT: Duration = Duration::from_secs(20);

/// How often a question is repeated that may have come too early.
const AGAIN: Duration = Duration::from_millis(50);

fn index(index: u64) -> LogIndex {
    LogIndex::new(index).unwrap()
}

fn term(term: u64) -> Term {
    Term::new(term).unwrap()
}

fn id(at: u64, of: u64) -> EntryId {
    EntryId {
        index: index(at),
        term: term(of),
    }
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = async {
        Timer::after(LIMIT).await;
        panic!("waited in vain for {what}");
    };
    smol::future::or(future, limit).await
}

/// A data node as far as the witness can see.
struct Node {
    address: Address,
    status: RefCell<StatusReply>,
    members: RefCell<Vec<Address>>,
    link: RefCell<Option<Rc<Connection>>>,
    said: smol::channel::Sender<Message>,
    /// What the witness said to it.
    heard: smol::channel::Receiver<Message>,
}

impl Node {
    async fn start() -> Rc<Self> {
        // A port that is free: of a listener that is given up for ours.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let listener = TcpListener::bind(at).unwrap();
        let address: Address = at.to_string().parse().unwrap();
        let (said, heard) = smol::channel::unbounded();
        let node = Rc::new(Self {
            status: RefCell::new(status(&address)),
            address,
            members: RefCell::default(),
            link: RefCell::default(),
            said,
            heard,
        });
        let accepting = node.clone();
        runtime::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = Connection::new(stream, Session::accept(&[], [0; 32]));
                runtime::spawn(accepting.clone().serve(connection)).detach();
            }
        })
        .detach();
        node
    }

    async fn serve(self: Rc<Self>, connection: Rc<Connection>) {
        let greeted = std::cell::Cell::new(false);
        connection
            .serve(|value| {
                if greeted.get() {
                    let _ = self.said.try_send(Message::decode(&value).unwrap());
                    return std::future::ready(());
                }
                match Hello::decode(&value).unwrap() {
                    Hello::Utility(Request::Status) => connection.send(&*self.status.borrow()),
                    Hello::Utility(_) => connection.send(&self.members_reply()),
                    Hello::Member(_) | Hello::ReadOnly => {
                        greeted.set(true);
                        *self.link.borrow_mut() = Some(connection.clone());
                    }
                }
                std::future::ready(())
            })
            .await;
    }

    fn members_reply(&self) -> MembersReply {
        let members = self.members.borrow();
        let status = |address: &Address| MemberStatus {
            address: address.clone(),
            leader: false,
            connected: true,
        };
        MembersReply(members.iter().map(status).collect())
    }

    fn say(&self, message: &Message) {
        if let Some(link) = self.link.borrow().as_ref() {
            link.send(message);
        }
    }

    /// Leads: entries of `of` behind `prev`.
    fn append(&self, of: u64, prev: EntryId, count: u64, commit: u64) {
        let entries = (1..=count).map(|n| Entry {
            id: id(prev.index.get() + n, of),
            command: command::noop(),
        });
        self.say(&Message::AppendEntries(Append {
            term: term(of),
            commit: index(commit),
            body: AppendBody::Entries {
                prev: Some(prev),
                entries: entries.collect(),
            },
        }));
    }

    /// Repeats what is said until something that `wanted` picks is heard.
    async fn until<T>(
        &self,
        what: &str,
        mut say: impl FnMut(),
        mut wanted: impl FnMut(Message) -> Option<T>,
    ) -> T {
        let hear = async {
            loop {
                if let Some(found) = wanted(self.heard.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        let repeat = async {
            loop {
                say();
                Timer::after(AGAIN).await;
            }
        };
        in_time(what, smol::future::or(hear, repeat)).await
    }

    /// The first vote that one of these requests brings.
    async fn ask_for_votes(&self, terms: &[u64], last: EntryId) -> u64 {
        let ask = || {
            for of in terms {
                let term = term(*of);
                self.say(&Message::RequestVote { term, last });
            }
        };
        let vote = |message| match message {
            Message::ResponseVote { term } => Some(term.get()),
            _ => None,
        };
        self.until("a vote", ask, vote).await
    }

    /// The first answer that this append brings.
    async fn ask_to_append(&self, of: u64, prev: EntryId, count: u64, commit: u64) -> NextNodeIdx {
        let say = || self.append(of, prev, count, commit);
        self.until("an answer", say, answer).await
    }
}

fn answer(message: Message) -> Option<NextNodeIdx> {
    match message {
        Message::NextNodeIdx(answer) => Some(answer),
        _ => None,
    }
}

/// What a node says of itself that has just started.
fn status(address: &Address) -> StatusReply {
    StatusReply {
        version: "0.3.14".into(),
        this: Some(address.clone()),
        state: State::Follower,
        leader: None,
        has_quorum: true,
        partners: vec![],
        readonly: vec![],
        log_len: 2,
        last_applied: 2,
        commit_idx: 2,
        raft_term: Term::ZERO,
        leader_commit_idx: None,
        uptime_s: 1,
        self_code_version: 0,
        enabled_code_version: 0,
    }
}

/// Two nodes and the folder of the witness between them.
struct World {
    a: Rc<Node>,
    b: Rc<Node>,
    folder: tempfile::TempDir,
    worker: Worker,
}

/// A witness that runs.
struct Running(Rc<Member>, smol::Task<()>);

impl Running {
    async fn stop(self) {
        self.0.stop();
        in_time("the witness to stop", self.1).await;
    }
}

impl World {
    async fn new() -> Self {
        let (a, b) = (Node::start().await, Node::start().await);
        for node in [&a, &b] {
            let members = [
                a.address.clone(),
                b.address.clone(),
                WITNESS.parse().unwrap(),
            ];
            node.members.borrow_mut().extend(members);
        }
        Self {
            a,
            b,
            folder: tempfile::tempdir().unwrap(),
            worker: Worker::start().unwrap(),
        }
    }

    fn data(&self) -> &Path {
        self.folder.path()
    }

    async fn start(&self, bootstrap: Bootstrap) -> Running {
        for node in [&self.a, &self.b] {
            node.link.take();
            while node.heard.try_recv().is_ok() {}
        }
        let config = ClusterConfig {
            name: "test".into(),
            self_addr: WITNESS.parse().unwrap(),
            // Nobody dials it.
            bind_addr: Some(Bind {
                host: "127.0.0.2".into(),
                port: 0,
            }),
            partner_addrs: vec![self.a.address.clone(), self.b.address.clone()],
            data_dir: self.data().to_path_buf(),
            password: None,
            password_file: None,
            bootstrap,
            election: Election::Reluctant,
            // It is not to campaign: the tests do.
            timing: Timing {
                min_timeout: LIMIT,
                max_timeout: LIMIT * 2,
                ..Timing::default()
            },
        };
        let member = Member::start(config, vec![], &self.worker).await.unwrap();
        Running(member.clone(), runtime::spawn(member.run()))
    }
}

/// S1, H23: one vote a term, whoever asks, and over a restart.
#[test]
fn a_vote_is_remembered() {
    runtime::block_on(async {
        let world = World::new().await;
        let witness = world.start(Bootstrap::New).await;
        assert_eq!(world.a.ask_for_votes(&[5], id(1, 0)).await, 5);
        // What is asked first is answered first, so a vote of 6 says that there
        // was none of 5.
        assert_eq!(world.b.ask_for_votes(&[5, 6], id(1, 0)).await, 6);
        witness.stop().await;

        let witness = world.start(Bootstrap::New).await;
        assert_eq!(world.a.ask_for_votes(&[5, 6, 7], id(1, 0)).await, 7);
        witness.stop().await;
    });
}

/// S7: a witness whose memory is new stores, and promises nothing, until an
/// entry that the leader made since then is committed without it.
#[test]
fn a_witness_without_memory_promises_nothing() {
    runtime::block_on(async {
        let world = World::new().await;
        let witness = world.start(Bootstrap::Join).await;
        let said = world.a.ask_to_append(3, id(1, 0), 2, 1).await;
        assert_eq!((said.next, said.reset, said.success), (4, false, false));
        // Stored it is, or this append would be refused.
        let said = world.a.ask_to_append(3, id(3, 3), 1, 1).await;
        assert_eq!((said.reset, said.success), (false, false));

        // What is committed now it may itself have helped to commit, once: it
        // asks for an entry of which that cannot be.
        let commit = || world.a.append(3, id(4, 3), 0, 4);
        let mut promised = false;
        let asked = |message| match message {
            Message::ApplyCommand { command, .. } => Some(command),
            Message::NextNodeIdx(answer) => {
                promised |= answer.success;
                None
            }
            _ => None,
        };
        let asked = world.a.until("a request", commit, asked).await;
        assert_eq!((&*asked, promised), (&*command::noop(), false));

        world.a.append(3, id(4, 3), 1, 4);
        let commit = || world.a.append(3, id(5, 3), 0, 5);
        let success = |message| answer(message).filter(|answer| answer.success);
        let said = world.a.until("its word to count", commit, success).await;
        assert_eq!(said.next, 6);
        witness.stop().await;

        // It is remembered, and so is the leader of term 3: its vote is given.
        let witness = world.start(Bootstrap::Join).await;
        assert_eq!(world.b.ask_for_votes(&[3, 4], id(5, 3)).await, 4);
        witness.stop().await;
    });
}

/// S13: both nodes forgot their term and began anew while the witness was away;
/// its log, of a higher term, is the stale one.
#[test]
fn a_stale_log_is_set_aside() {
    runtime::block_on(async {
        let world = World::new().await;
        let witness = world.start(Bootstrap::New).await;
        let said = world.a.ask_to_append(9, id(1, 0), 1, 1).await;
        assert!(said.success);
        witness.stop().await;

        for node in [&world.a, &world.b] {
            let mut status = node.status.borrow_mut();
            status.leader = Some(world.a.address.clone());
            status.raft_term = term(2);
            status.commit_idx = 5;
        }
        let witness = world.start(Bootstrap::Join).await;
        let say = || world.a.append(2, id(1, 0), 4, 5);
        let said = world.a.until("an answer to term 2", say, answer).await;
        assert!(!said.reset);
        let kept = std::fs::read_dir(world.data()).unwrap();
        let kept = kept.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().starts_with("stale")
        });
        assert_eq!(kept.count(), 1, "it is kept, for whoever wants to look");
        witness.stop().await;
    });
}
