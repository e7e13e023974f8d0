//! A PySyncObj node as Patroni runs it, as a pure value: events and what the
//! clocks show go in, effects come out. No I/O, no clock, and no chance but the
//! numbers that the caller passes. It behaves as `syncobj.py`, `transport.py`,
//! `tcp_connection.py`, `journal.py`, `serializer.py` and Patroni's
//! `dcs/raft.py` do, faults included: the hazards of the protocol are what it is
//! for. `tests/simulation/pysyncobj_model.rs` holds it against the real ones.
//!
//! Of the crate it uses the wire types, and of those only what reads and writes
//! pickles and messages. Its key-value store is its own ([`store`]).
//!
//! # How to drive it
//!
//! [`Node::start`] with the [`Files`] that an earlier life left, then
//!
//! * [`Node::tick`] at least every 50 ms and after every batch of other events,
//!   as a poll returns when something arrived;
//! * [`Node::accept`], [`Node::established`], [`Node::closed`] and
//!   [`Node::received`] for what happens on sockets. A message is the value of one
//!   frame; frames, zlib and encryption are the caller's. Python loses what
//!   arrived unread when the end of the stream is read with it;
//! * [`Node::propose`] for what a client in the same process wants: a command as
//!   `wire::command` builds it. Patroni's `retry` around it is the caller's.
//!
//! A crash of the process is to drop the node and to keep [`Node::files`]; a power
//! cut may keep an older copy of each file, since nothing is ever synced; a lost
//! file is `None`. Before a start Patroni asks its partners for `members`, takes
//! their answer for [`Config::members`] and, if it is not among them, sends `add`
//! once to the one that answered (spec 8.3): both are the caller's.
//!
//! # What is left out
//!
//! Read-only nodes of this kind (`patronictl`), encryption, a dump that fails to
//! be written, names that do not resolve, and a read error of the dump.

#![allow(dead_code, unused_imports)] // Each test crate uses its part.

pub mod version;

mod commands;
mod dump;
mod journal;
mod leader;
mod node;
mod receive;
mod store;
mod transport;
mod utility;
mod view;

use std::fmt;
use std::sync::Arc;

use pg_witness::address::Address;
use pg_witness::wire::Value;
use pg_witness::wire::message::ApplyError;

pub use node::{Chance, Node, State};
pub use version::Version;

/// How a node is set up. The defaults of [`Config::new`] are Patroni's.
#[derive(Debug, Clone)]
pub struct Config {
    /// The release.
    pub version: Version,
    /// Its own address.
    pub address: Address,
    /// The other members, as its start learnt them. A dump overrules it.
    pub members: Vec<Address>,
    /// The program around it.
    pub host: Host,
    /// Time that a message takes to be pickled, compressed and sent, in seconds:
    /// what a round of appends to all peers, at most 0.1 s, is counted in.
    pub send_s: f64,
    /// Time that a dump takes to be written, in seconds.
    pub dump_s: f64,
    /// Bytes of a part of a snapshot.
    pub chunk_bytes: usize,
    /// Bytes of commands from which an append is full, and from which a single
    /// one is sent in fragments.
    pub append_bytes: usize,
    /// How many commands may wait.
    pub queue_max: usize,
    /// More entries than this in the log make a dump.
    pub compaction_entries: usize,
    /// And so does this time since the last dump, in seconds.
    pub compaction_s: f64,
}

impl Config {
    /// A node of Patroni with Patroni's settings.
    pub fn new(version: Version, address: Address, members: Vec<Address>) -> Self {
        Self {
            version,
            address,
            members,
            host: Host::Patroni,
            send_s: 1.0 / 1024.0,
            dump_s: 0.05,
            chunk_bytes: 1 << 16,
            append_bytes: 1 << 16,
            queue_max: 100_000,
            compaction_entries: 5000,
            compaction_s: 300.0,
        }
    }
}

/// What runs the node, and what an exception does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Its thread ends with the exception. The process and its sockets live on,
    /// nothing is read or answered any more ([`Node::is_dead`]).
    Patroni,
    /// `patroni_raft_controller` logs it and goes on.
    Controller,
}

/// What the clocks of the machine show when an event happens.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Seconds by the monotonic clock.
    pub monotonic_s: f64,
    /// Seconds since the epoch by the wall clock; only expiry looks at it.
    pub wall_s: f64,
}

/// What the node's files hold. None: there is no such file.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// `<address>.journal`, with what is left behind its end.
    pub journal: Option<Vec<u8>>,
    /// `<address>.journal.meta`.
    pub meta: Option<Vec<u8>>,
    /// `<address>.dump`.
    pub dump: Option<Arc<[u8]>>,
}

/// A TCP connection, as long as it lives. The node names them, those that it
/// accepts and those that it dials, by one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket(pub u64);

/// What the node does.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Connect; the caller answers with [`Node::established`] or
    /// [`Node::closed`], or never. The node may send before: that waits for the
    /// connection.
    Dial {
        /// The connection to be.
        socket: Socket,
        /// To whom.
        to: Address,
    },
    /// Send one frame.
    Send {
        /// Where.
        socket: Socket,
        /// What the frame holds.
        message: Value,
    },
    /// Close a connection, or give up a dial. Nothing is to come of it any more.
    Close {
        /// Which.
        socket: Socket,
    },
    /// What became of a proposal.
    Done {
        /// As [`Node::propose`] was given.
        ticket: u64,
        /// What the replicated method returned, or why it is not known to be
        /// applied.
        outcome: Result<Value, ApplyError>,
    },
    /// An exception reached the loop of the host.
    Raised(Raised),
}

/// An exception of Python, by the name of its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised(pub &'static str);

/// Why a node does not start: its journal is damaged. Python raises in the
/// constructor, at every start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartError(pub &'static str);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Who can be at the other end of a connection, in the order in which the model
/// goes through its peers; Python's depends on hashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeId {
    /// A member.
    Member(Address),
    /// A read-only client, by the order of its arrival.
    Client(u64),
}

impl NodeId {
    /// As `status` names it.
    pub fn id(&self) -> String {
        match self {
            Self::Member(address) => address.to_string(),
            Self::Client(number) => number.to_string(),
        }
    }
}

/// An entry of the log; numbers as Python has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The command.
    pub command: Arc<[u8]>,
    /// Its index.
    pub index: i64,
    /// Its term.
    pub term: i64,
}

impl Entry {
    fn to_value(&self) -> Value {
        let command = Value::Bytes(self.command.clone());
        Value::tuple([command, Value::Int(self.index), Value::Int(self.term)])
    }

    fn from_value(value: &Value) -> Option<Self> {
        let [Value::Bytes(command), index, term] = value.as_seq()? else {
            return None;
        };
        Some(Self {
            command: command.clone(),
            index: index.as_int()?,
            term: term.as_int()?,
        })
    }
}
