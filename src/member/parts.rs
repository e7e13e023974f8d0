//! What a member is made of, by what belongs together. Each value has a cell of its own:
//! a borrow never spans an await, and one part may be read while another changes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use event_listener::Event;
use futures_channel::oneshot;
use smol::lock::Semaphore;

use super::nodes::Nodes;
use super::peer_link::PeerLink;
use super::placement::{Known, Placement};
use super::primaries::Primaries;
use super::rebuild_reason::Reports;
use super::recovery::Foundation;
use crate::address::Address;
use crate::ids::Term;
use crate::limits;
use crate::links::connection::Connection;
use crate::links::leader::ConnId;
use crate::logging::tally::Tallies;
use crate::raft::engine::Engine;
use crate::reactor::Instant;
use crate::wire::message::ApplyOutcome;

/// Who is connected.
#[derive(Default)]
pub(super) struct Sockets {
    /// The members, connected or not.
    pub(super) links: RefCell<BTreeMap<Address, PeerLink>>,
    /// Read-only clients, by age.
    pub(super) read_only: RefCell<BTreeMap<ConnId, Rc<Connection>>>,
    /// Whoever has not said who it is, by age.
    pub(super) pending: RefCell<BTreeMap<ConnId, Rc<Connection>>>,
    /// Whether we dial as a read-only client, for the group does not count us.
    pub(super) reading: Cell<bool>,
    /// Why the Raft port is not open, as long as it is not.
    pub(super) listen_error: RefCell<Option<Rc<str>>>,
}

/// The engine, and what ends in its being built anew (S14).
#[derive(Default)]
pub(super) struct Machinery {
    /// None while it is built.
    pub(super) engine: RefCell<Option<Rc<Engine>>>,
    /// What the next engine is to begin with, where that changes.
    pub(super) foundation: RefCell<Option<Foundation>>,
    /// The greatest term in which a vote of ours has left.
    pub(super) voted: Cell<Term>,
    /// Why it must be built anew.
    pub(super) reports: RefCell<Reports>,
    /// There is a report, or the end.
    pub(super) reported: Event,
    /// Why our state could not be opened again, when that was tried last.
    pub(super) disk_error: RefCell<Option<Rc<str>>>,
    /// The end was asked for.
    pub(super) stopping: Cell<bool>,
}

/// A node that is heard like a member before its `add` has come.
pub(super) struct Newcomers {
    /// Who.
    pub(super) newcomer: RefCell<Option<Address>>,
    /// What limits the questions whether somebody is one.
    pub(super) questions: Semaphore,
}

impl Default for Newcomers {
    fn default() -> Self {
        Self {
            newcomer: RefCell::default(),
            questions: Semaphore::new(limits::NEWCOMERS_ASKED_MAX),
        }
    }
}

/// Commands that we forwarded to the leader.
#[derive(Default)]
pub(super) struct Forwarded {
    /// Who waits, by request id.
    pub(super) requests: RefCell<BTreeMap<i64, oneshot::Sender<ApplyOutcome>>>,
    /// The last id that was used.
    pub(super) last_id: Cell<i64>,
}

/// What is counted for whoever looks, since the start.
#[derive(Default)]
pub(super) struct Counts {
    /// Engines that were built anew.
    pub(super) rebuilds: Cell<u64>,
    /// Appends that the engine did not accept.
    pub(super) refused_appends: Cell<u64>,
    pub(super) refused_connections: Cell<u64>,
    /// Connections that sent an unreadable message.
    pub(super) unreadable: Cell<u64>,
    /// Who did so last, and when.
    pub(super) last_unreadable: Cell<Option<(IpAddr, Instant)>>,
    /// The lines that others cause (S16).
    pub(super) tallies: Tallies,
}

/// The PostgreSQL servers that the store names.
#[derive(Default)]
pub(super) struct Servers {
    pub(super) nodes: RefCell<Nodes>,
    pub(super) nodes_changed: Event,
    pub(super) primaries: RefCell<Primaries>,
    /// Where they stand, as far as that was ever known.
    pub(super) known_nodes: RefCell<Known>,
    /// What follows from it.
    pub(super) placement: RefCell<Rc<Placement>>,
}
