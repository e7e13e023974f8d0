//! What we send while we lead: appends, heartbeats and snapshots, as
//! `links::leader` decides.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Member, RebuildReason};
use crate::election::expiry::Expiry;
use crate::election::hand_over::{Follower, HandOver};
use crate::ids::{EntryId, LogIndex, Term};
use crate::kv::Writing;
use crate::limits;
use crate::links::connection::Connection;
use crate::links::leader::{Action, ConnId, Fence, Leader, LeadershipTiming, LogView, Peer};
use crate::raft::log::Log;
use crate::raft::proposals::Proposals;
use crate::reactor::Instant;
use crate::wire::message::{
    Append, AppendBody, AppendEntries, Message, NextNodeIdx, SnapshotChunk,
};

/// One leadership of ours.
pub struct Leadership {
    /// Its term.
    pub term: Term,
    /// What is known of the peers.
    pub leader: Leader,
    /// Peers that lost what they had acknowledged (H14), until they caught up.
    pub reverted: BTreeSet<Peer>,
    /// What is on its way into the log. Shared with the proposals under way,
    /// which may outlive the leadership.
    pub proposals: Rc<RefCell<Proposals>>,
    /// Which expiries are under way. Shared as the proposals are.
    pub expiry: Rc<RefCell<Expiry<Writing>>>,
    renewed: Instant,
    snapshots: BTreeMap<Peer, Arc<[u8]>>,
    hand_over: HandOver,
}

fn bytes_range(range: &std::ops::Range<u64>) -> std::ops::Range<usize> {
    let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
    at(range.start)..at(range.end)
}

impl LogView for Log {
    fn last(&self) -> EntryId {
        self.last().entry_id()
    }

    fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.id_at(index).map(|id| id.term.term)
    }

    fn command_len(&self, index: LogIndex) -> usize {
        self.get(index)
            .map_or(0, |stored| stored.entry.command.len())
    }

    fn commit(&self) -> LogIndex {
        self.commit()
    }
}

/// How often the word of the quorum is renewed in openraft.
const LEASE_RENEWAL: Duration = Duration::from_secs(5);

/// How long a peer may leave an append unanswered before its connection is
/// replaced.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the room in the buffers of a snapshot's receiver is looked at.
const SNAPSHOT_PACE: Duration = Duration::from_millis(5);

impl Member {
    /// We were elected.
    pub(super) fn start_leading(self: &Rc<Self>, term: Term) {
        let now = Instant::now();
        let timing = LeadershipTiming {
            heartbeat: self.config.timing.append_entries_period,
            reply_timeout: REPLY_TIMEOUT,
        };
        let mut leader = Leader::new(term, timing, now);
        let members = self.replica.borrow().log.members().clone();
        for (address, link) in self.sockets.links.borrow_mut().iter_mut() {
            let Some(connection) = link.connection.clone().filter(|c| c.is_up()) else {
                continue;
            };
            if !members.contains(address) {
                continue;
            }
            if self.dials(address) && !self.elector.peers.borrow().is_itself(address) {
                self.elector.peers.borrow_mut().teach_later(address);
                continue;
            }
            self.elector.peers.borrow_mut().taught(address);
            let fence = link.exchange.fence(connection.id, term);
            leader.connected(Peer::Member(address.clone()), connection.id, fence, now);
        }
        for connection in self.sockets.read_only.borrow().values() {
            // A guest's answers never count, so they need no fence.
            leader.connected(
                Peer::ReadOnly(connection.id.0),
                connection.id,
                Fence::Clean,
                now,
            );
        }
        let proposals = Proposals::new(self.replica.borrow().held());
        log::info!("{}: this witness leads, term {term}", self.name);
        self.elector.leaders.borrow_mut().lead(&self.me, now);
        *self.leadership.borrow_mut() = Some(Leadership {
            term,
            leader,
            reverted: BTreeSet::new(),
            expiry: Rc::new(RefCell::new(Expiry::new(proposals.first()))),
            proposals: Rc::new(RefCell::new(proposals)),
            renewed: now,
            snapshots: BTreeMap::new(),
            hand_over: HandOver::default(),
        });
        self.notify();
    }

    /// We lead no more.
    pub(super) fn stop_leading(&self) {
        let Some(leadership) = self.leadership.borrow_mut().take() else {
            return;
        };
        log::info!(
            "{}: this witness no longer leads, term {}",
            self.name,
            leadership.term
        );
        self.elector.leaders.borrow_mut().lost();
        for (address, link) in self.sockets.links.borrow_mut().iter_mut() {
            let peer = Peer::Member(address.clone());
            link.exchange.unanswered |= leadership.leader.unanswered(&peer) > 0;
        }
        self.timer_hears();
        self.notify();
    }

    /// Tells the leadership, if there is one, that a peer is connected.
    pub(super) fn lead_peer(&self, peer: Peer, connection: &Connection) {
        if let Some(leadership) = self.leadership.borrow_mut().as_mut() {
            let (links, id) = (self.sockets.links.borrow(), connection.id);
            let fence = match &peer {
                Peer::Member(address) => links.get(address).map_or(Fence::Clean, |link| {
                    link.exchange.fence(id, leadership.term)
                }),
                Peer::ReadOnly(_) => Fence::Clean,
            };
            leadership.leader.connected(peer, id, fence, Instant::now());
        }
        self.notify();
    }

    /// Tells it that a connection is gone.
    pub(super) fn lead_without(&self, peer: &Peer, connection: &Connection) {
        if let Some(leadership) = self.leadership.borrow_mut().as_mut() {
            leadership.leader.disconnected(peer, connection.id);
            leadership.snapshots.remove(peer);
        }
        self.notify();
    }

    /// A peer answered an append.
    pub(super) fn on_reply(&self, peer: &Peer, connection: &Connection, reply: &NextNodeIdx) {
        let mut guard = self.leadership.borrow_mut();
        let Some(leadership) = guard.as_mut() else {
            return;
        };
        let before = leadership.leader.matched(peer);
        let progressed = leadership
            .leader
            .on_reply(peer, connection.id, reply, Instant::now());
        let matched = leadership.leader.matched(peer);
        // An idle peer's answer leaves nothing to send.
        let idle = matched == before && matched == Some(self.replica.borrow().log.last().index);
        if let Some(progressed) = progressed {
            if progressed.reverted {
                log::warn!(
                    "{}: {peer} lost entries that it had acknowledged",
                    self.name
                );
                leadership.reverted.insert(peer.clone());
            } else {
                leadership.reverted.remove(peer);
            }
        }
        drop(guard);
        self.peers_changed.notify(usize::MAX);
        if !idle {
            self.notify();
        }
    }

    /// Sends what is due. Returns when to look again.
    pub(super) fn pump(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut actions = Vec::new();
        {
            let mut leadership = self.leadership.borrow_mut();
            let leadership = leadership.as_mut()?;
            for (peer, connection) in &self.sending_snapshots(leadership) {
                let window = limits::SNAPSHOT_WINDOW_BYTES.saturating_sub(connection.queued());
                leadership.leader.writable(peer, connection.id, window);
            }
            let replica = self.replica.borrow();
            leadership
                .leader
                .poll(&replica.log, now, &mut |action| actions.push(action));
        }
        let again = !actions.is_empty();
        for action in actions {
            self.act(action, now);
        }
        let leadership = self.leadership.borrow();
        let leadership = leadership.as_ref()?;
        let next = leadership.leader.next_wakeup();
        let soon = now + SNAPSHOT_PACE;
        if again {
            Some(now)
        } else if leadership.snapshots.is_empty() {
            next
        } else {
            Some(next.map_or(soon, |next| next.min(soon)))
        }
    }

    fn sending_snapshots(&self, leadership: &Leadership) -> Vec<(Peer, Rc<Connection>)> {
        let peers = leadership.snapshots.keys();
        peers
            .filter_map(|peer| Some((peer.clone(), self.connection_of(peer)?)))
            .collect()
    }

    fn connection_of(&self, peer: &Peer) -> Option<Rc<Connection>> {
        match peer {
            Peer::Member(address) => self.connection(address),
            Peer::ReadOnly(id) => {
                let clients = self.sockets.read_only.borrow();
                clients.values().find(|c| c.id.0 == *id).cloned()
            }
        }
    }

    fn act(&self, action: Action, now: Instant) {
        match action {
            Action::Append {
                peer,
                conn,
                prev,
                entries,
                commit,
            } => {
                let Some(connection) = self.connection_of(&peer).filter(|c| c.id == conn) else {
                    return;
                };
                let Some(term) = self.leading_term() else {
                    return;
                };
                let replica = self.replica.borrow();
                let count = entries.end.get().saturating_sub(entries.start.get());
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                let entries = replica
                    .log
                    .from(entries.start)
                    .take(count)
                    .map(|s| &s.entry);
                connection.send(&AppendEntries {
                    term,
                    commit,
                    prev: Some(prev),
                    entries,
                });
            }
            Action::SnapshotNeeded { peer, conn } => self.prepare_snapshot(&peer, conn, now),
            Action::SnapshotChunk {
                peer,
                conn,
                data: range,
                first,
                last,
            } => {
                let Some(connection) = self.connection_of(&peer).filter(|c| c.id == conn) else {
                    return;
                };
                let data: Arc<[u8]> = {
                    let leadership = self.leadership.borrow();
                    let bytes = leadership.as_ref().and_then(|l| l.snapshots.get(&peer));
                    let range = bytes_range(&range);
                    bytes.and_then(|b| b.get(range)).unwrap_or_default().into()
                };
                self.send_snapshot(&connection, Some(SnapshotChunk { data, first, last }));
                if last && let Some(leadership) = self.leadership.borrow_mut().as_mut() {
                    leadership.snapshots.remove(&peer);
                }
            }
            Action::SnapshotIdle { peer, conn } => {
                if let Some(connection) = self.connection_of(&peer).filter(|c| c.id == conn) {
                    self.send_snapshot(&connection, None);
                }
            }
            Action::Close { peer, conn, reason } => {
                if let Some(connection) = self.connection_of(&peer).filter(|c| c.id == conn) {
                    log::info!("{}: closing the link to {peer}: {reason}", self.name);
                    connection.abort();
                }
            }
        }
    }

    fn leading_term(&self) -> Option<Term> {
        self.leadership.borrow().as_ref().map(|l| l.term)
    }

    fn send_snapshot(&self, connection: &Connection, chunk: Option<SnapshotChunk>) {
        let Some(term) = self.leading_term() else {
            return;
        };
        connection.send(&Message::AppendEntries(Append {
            term,
            // Not sent with a snapshot: a Python follower would commit up to it (H30).
            commit: LogIndex::FIRST,
            body: AppendBody::Snapshot(chunk),
        }));
    }

    fn prepare_snapshot(&self, peer: &Peer, conn: ConnId, now: Instant) {
        let snapshot = self.replica.borrow().snapshot();
        let Some((snapshot, last)) = snapshot else {
            // Before our second entry is applied there is none.
            if let Some(leadership) = self.leadership.borrow_mut().as_mut() {
                leadership.leader.snapshot_failed(peer, conn, now);
            }
            return;
        };
        let bytes = snapshot.encode();
        log::info!(
            "{}: sending {peer} a snapshot up to {last}, {} bytes",
            self.name,
            bytes.len()
        );
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut leadership = self.leadership.borrow_mut();
        if let Some(leadership) = leadership.as_mut() {
            let log = &self.replica.borrow().log;
            if leadership
                .leader
                .snapshot_ready(peer, conn, length, last, log, now)
            {
                leadership.snapshots.insert(peer.clone(), bytes.into());
            }
        }
        drop(leadership);
        self.notify();
    }

    /// What a leader does several times a second: renews its lease, expires
    /// keys, hands over, and gives up when nobody answers (S12).
    pub(super) async fn lead(&self, now: Instant) {
        let (renew, quorum) = {
            let mut guard = self.leadership.borrow_mut();
            let Some(leadership) = guard.as_mut() else {
                return;
            };
            // A peer in a later term: openraft learns of it by its next request.
            let outrun = self
                .sockets
                .links
                .borrow()
                .values()
                .any(|link| link.seen > leadership.term);
            let renew = outrun || now.duration_since(leadership.renewed) >= LEASE_RENEWAL;
            if renew {
                leadership.renewed = now;
            }
            // Spec 5.5
            let limit = self.config.timing.leader_fallback_timeout;
            let replica = self.replica.borrow();
            let members = replica.log.members();
            let quorum = leadership.leader.has_quorum(members, &self.me, limit, now);
            (renew, quorum)
        };
        if !quorum {
            self.report(RebuildReason::NoQuorum);
            return;
        }
        let Some(engine) = self.engine() else { return };
        if renew && let Err(error) = engine.renew_lease().await {
            self.report(RebuildReason::Stopped(error.to_string()));
            return;
        }
        self.expire(now).await;
        self.hand_over(now);
    }

    /// Gives leadership to a data node that can take it: the witness only lends
    /// itself.
    fn hand_over(&self, now: Instant) {
        let mut guard = self.leadership.borrow_mut();
        let Some(leadership) = guard.as_mut() else {
            return;
        };
        let last = self.replica.borrow().log.last().index;
        let peers = self.elector.peers.borrow();
        let followers = self.others().into_iter().map(|address| Follower {
            matched: leadership.leader.matched(&Peer::Member(address.clone())),
            takes_leadership: peers.takes_leadership(&address),
            address,
        });
        let Some(address) = leadership.hand_over.candidate(followers, last, now) else {
            return;
        };
        // Without a connection nothing is asked of it, and the next look tries again.
        let Some(connection) = self.connection(&address) else {
            return;
        };
        leadership.hand_over.tried(now);
        log::info!("{}: handing leadership over to {address}", self.name);
        connection.send(&Message::TimeoutNow {
            term: leadership.term,
        });
    }

    /// Sends a keepalive where nothing else was sent for a second: PySyncObj
    /// drops a link unread after 3.5 s of silence, and with it the first vote
    /// after a crash (H11).
    pub(super) fn keep_alive(&self) {
        for link in self.sockets.links.borrow().values() {
            if let Some(connection) = link.connection.as_ref().filter(|c| c.is_up())
                && connection.silent_for() >= limits::KEEPALIVE
            {
                connection.send(&Message::Keepalive);
            }
        }
    }
}
