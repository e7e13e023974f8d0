//! What peers send us on an established link.

use std::rc::Rc;

use super::{Member, RebuildReason};
use crate::address::Address;
use crate::election::past::OtherLeader;
use crate::election::terms;
use crate::ids::{Entry, LogIndex, Term};
use crate::limits;
use crate::links::connection::Connection;
use crate::links::follower::{
    self, AppendVerdict, EngineAppend, Ignored, Incoming, Vouched, noncommittal,
};
use crate::links::leader::Peer;
use crate::raft::checkpoint::CheckpointState;
use crate::reactor::{Instant, Timer};
use crate::wire::message::{
    Append, AppendBody, FragmentPart, Message, NextNodeIdx, SnapshotChunk, decode_entry,
};
use crate::wire::snapshot::Snapshot;

/// The term in which a message was said.
fn term_of(message: &Message) -> Option<Term> {
    match message {
        Message::AppendEntries(Append { term, .. })
        | Message::RequestVote { term, .. }
        | Message::ResponseVote { term }
        | Message::TimeoutNow { term } => Some(*term),
        _ => None,
    }
}

impl Member {
    /// Handles one message of a member. Returns when it is under way, which is
    /// before what it writes is durable (E6).
    pub(super) async fn on_message(
        self: &Rc<Self>,
        peer: &Address,
        connection: &Rc<Connection>,
        message: Message,
    ) {
        if let Some(term) = term_of(&message)
            && !self.believes(term)
        {
            self.refuse(
                "term",
                format_args!("{peer} names term {term}, too far ahead of what the group has shown"),
            );
            // Connected anew it is asked for its status, which may vouch for it.
            connection.close();
            return;
        }
        match message {
            Message::AppendEntries(append) => self.on_append(peer, connection, append).await,
            Message::NextNodeIdx(reply) => {
                self.on_reply(&Peer::Member(peer.clone()), connection, &reply);
            }
            Message::RequestVote { term, last } => {
                self.on_request_vote(peer, connection, term, last).await;
            }
            Message::ResponseVote { term } => self.on_vote(peer, connection, term),
            Message::ApplyCommand {
                command,
                request_id,
            } => {
                self.on_apply_command(connection, command, request_id).await;
            }
            Message::ApplyCommandResponse {
                request_id,
                outcome,
            } => {
                if let Some(sender) = self.forwarded.requests.borrow_mut().remove(&request_id) {
                    let _ = sender.send(outcome);
                }
            }
            Message::TimeoutNow { term } => self.on_timeout_now(peer, term),
            Message::Keepalive | Message::Unknown => {}
        }
    }

    /// Whether a term is one that our group may have reached.
    fn believes(&self, term: Term) -> bool {
        let replica = self.replica.borrow();
        let ours = replica.vote.term.term;
        // So it is with almost every message.
        if term <= ours {
            return true;
        }
        let members = replica.log.members();
        let others = members.iter().filter(|address| **address != self.me);
        let peers = self.elector.peers.borrow();
        let shown = others.filter_map(|peer| Some(peers.told(peer)?.term));
        term.get() <= terms::ceiling(ours, shown.collect(), members.len())
    }

    /// Resolves when there is an engine: one is rebuilt in a moment, if the disk
    /// allows, and an append that comes meanwhile is to be answered.
    async fn engine_back(&self) {
        if self.machinery.engine.borrow().is_some() {
            return;
        }
        let back = async {
            loop {
                let changed = self.changed.listen();
                if self.engine().is_some() {
                    return;
                }
                changed.await;
            }
        };
        smol::future::or(back, async {
            Timer::after(limits::REBUILD_PAUSE).await;
        })
        .await;
    }

    /// A leader was heard of.
    fn contact(&self, peer: &Address, term: Term) {
        self.timer_hears();
        self.elector.pre_vote.borrow_mut().end();
        if self.has_voice() {
            self.elector.joining.borrow_mut().followed();
        }
        let now = Instant::now();
        let news = self.elector.leaders.borrow_mut().hear(peer, term, now);
        if news {
            if let Some(times) = self.counts.tallies.count_of_member("leads") {
                log::info!("{}: {peer} leads, term {term}{times}", self.name);
            }
            // Whoever waits for a command forwarded to the old leader is told.
            self.forwarded.requests.borrow_mut().clear();
        }
    }

    async fn on_append(
        self: &Rc<Self>,
        peer: &Address,
        connection: &Rc<Connection>,
        append: Append,
    ) {
        self.saw_term(peer, append.term);
        if self.is_withdrawn() {
            return self.on_append_withdrawn(peer, connection, append);
        }
        let outdated = {
            let replica = self.replica.borrow();
            follower::outdated(&replica.vote, peer, append.term)
        };
        if let Some(why) = outdated {
            self.elector.peers.borrow_mut().ignore(peer, Instant::now());
            self.on_ignored(peer, append.term, why);
            let other = OtherLeader {
                address: peer.clone(),
                term: append.term,
                commit: append.commit.get(),
            };
            self.consider_stale(peer, other);
            return;
        }
        self.contact(peer, append.term);
        self.engine_back().await;
        let Append { term, commit, body } = append;
        let (prev, entries) = match body {
            AppendBody::Entries { prev, entries } => (prev, entries),
            AppendBody::Fragment { prev, part, data } => {
                match self.assemble_entry(peer, term, part, &data) {
                    Some(entry) => (prev, vec![entry]),
                    None => return self.answer(peer, connection, self.nothing_promised(), None),
                }
            }
            AppendBody::Snapshot(None) => return,
            AppendBody::Snapshot(Some(chunk)) => {
                if let Some(bytes) = self.assemble_snapshot(peer, term, &chunk) {
                    self.on_snapshot(peer, connection, term, &bytes).await;
                }
                return;
            }
        };
        if !entries.is_empty() && self.is_store_full() {
            return self.answer(peer, connection, self.refuse_for_size(), None);
        }
        let incoming = Incoming {
            from: peer,
            term,
            prev,
            entries: &entries,
            commit,
            vouched: self.vouched(peer),
        };
        self.follow(connection, incoming).await;
    }

    fn on_ignored(&self, peer: &Address, term: Term, why: Ignored) {
        // Of a peer that is not known yet it may be another cluster's term.
        let known = self.elector.peers.borrow().is_verified(peer);
        if why == Ignored::SecondLeader
            && known
            && self.elector.peers.borrow_mut().claims(peer, term)
            && let Some(times) = self.counts.tallies.count("second leader")
        {
            let ours = self.replica.borrow().vote.node.clone();
            log::error!(
                "{}: {peer} and {ours} both lead term {term}: a member voted twice; ignoring {peer}{times}",
                self.name
            );
        }
    }

    pub(super) fn assemble_entry(
        &self,
        peer: &Address,
        term: Term,
        part: FragmentPart,
        data: &[u8],
    ) -> Option<Entry> {
        let mut links = self.sockets.links.borrow_mut();
        let assembly = &mut links.get_mut(peer)?.exchange.assembly;
        let entry = decode_entry(assembly.fragment(term, part, data)?).ok()?;
        assembly.entry_done();
        Some(entry)
    }

    pub(super) fn assemble_snapshot(
        &self,
        peer: &Address,
        term: Term,
        chunk: &SnapshotChunk,
    ) -> Option<Vec<u8>> {
        self.sockets
            .links
            .borrow_mut()
            .get_mut(peer)?
            .exchange
            .assembly
            .chunk(term, chunk)
    }

    fn nothing_promised(&self) -> NextNodeIdx {
        noncommittal(self.replica.borrow().log.last().index.next())
    }

    /// What a leader's connection has vouched for.
    fn vouched(&self, peer: &Address) -> Vouched {
        let links = self.sockets.links.borrow();
        links
            .get(peer)
            .map_or_else(Vouched::default, |l| l.exchange.vouched)
    }

    fn vouch(&self, peer: &Address, connection: &Connection, term: Term, index: LogIndex) {
        if let Some(link) = self.sockets.links.borrow_mut().get_mut(peer)
            && link
                .connection
                .as_ref()
                .is_some_and(|live| live.id == connection.id)
        {
            link.exchange.vouched.extend(term, index);
        }
    }

    async fn follow(self: &Rc<Self>, connection: &Rc<Connection>, incoming: Incoming<'_>) {
        let verdict = {
            let replica = self.replica.borrow();
            let durable = replica.writes_pending == 0;
            follower::append(&replica.log, &replica.vote, incoming, durable)
        };
        let from = incoming.from;
        self.note_reach(from, incoming.prev.is_some());
        let end = match &verdict {
            AppendVerdict::Answer(NextNodeIdx { success: true, .. }) | AppendVerdict::Append(_) => {
                incoming.prev.filter(|_| incoming.entries.is_empty())
            }
            _ => None,
        };
        self.note_append(from, incoming.term, end.map(|prev| prev.index));
        match verdict {
            AppendVerdict::Ignore(why) => self.on_ignored(from, incoming.term, why),
            AppendVerdict::Answer(answer) => {
                if let Some(last) = incoming.last().filter(|_| answer.success) {
                    self.vouch(from, connection, incoming.term, last);
                }
                self.consider_voice(from);
                self.answer(from, connection, answer, None);
            }
            AppendVerdict::Append(append) => {
                let end = append.end();
                self.take(from, connection, append).await;
                // Unless the engine would not have it.
                if self.replica.borrow().log.id_at(end.index) == Some(end) {
                    self.vouch(from, connection, incoming.term, end.index);
                }
            }
            AppendVerdict::Diverged(divergence) => self.diverge(from, incoming.term, divergence),
            AppendVerdict::Install(_) => {}
        }
    }

    /// A leader's append names an entry before those that it brings, or none (H21).
    fn note_reach(&self, leader: &Address, names_one: bool) {
        if let Some(link) = self.sockets.links.borrow_mut().get_mut(leader) {
            link.exchange.ends_early = match names_one {
                true => None,
                false => link.exchange.ends_early.or_else(|| Some(Instant::now())),
            };
        }
    }

    /// Hands an append to the engine and waits until the log shows it, so that
    /// the next message is judged by it; the disk may take longer (E6).
    async fn take(
        self: &Rc<Self>,
        peer: &Address,
        connection: &Rc<Connection>,
        append: EngineAppend,
    ) {
        if self.cut(connection, Some(&append)).await {
            return;
        }
        let Some(engine) = self.engine() else { return };
        let _hold = self.hold_timer();
        let answer = append.answer;
        let target = (!append.entries.is_empty()).then(|| append.end());
        let mut done = Box::pin(engine.append(peer, append));
        loop {
            let changed = self.changed.listen();
            let mut ready = futures_lite::future::poll_once(&mut done).await;
            if ready.is_none() {
                let log_shows_it =
                    target.is_some_and(|id| self.replica.borrow().log.id_at(id.index) == Some(id));
                if log_shows_it {
                    self.answer(peer, connection, answer, Some(done));
                    break;
                }
                // Either the engine answers or the log changes.
                let wait = async {
                    changed.await;
                    None
                };
                ready = smol::future::or(async { Some((&mut done).await) }, wait).await;
            }
            if let Some(result) = ready {
                self.answer(
                    peer,
                    connection,
                    answer,
                    Some(Box::pin(async move { result })),
                );
                break;
            }
        }
    }

    /// Cuts the log where the engine cannot (E10): it is then built anew, and
    /// the leader sends again. Returns whether that was so.
    async fn cut(&self, connection: &Connection, append: Option<&EngineAppend>) -> bool {
        let Some(index) = self.replica.borrow().cut_before(append) else {
            return false;
        };
        self.stop_engine().await;
        self.replica.borrow_mut().cut(index);
        connection.abort();
        self.report(RebuildReason::MembersTruncated);
        true
    }

    async fn on_snapshot(
        self: &Rc<Self>,
        peer: &Address,
        connection: &Rc<Connection>,
        term: Term,
        bytes: &[u8],
    ) {
        let snapshot = match Snapshot::decode(bytes) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                // H12
                if let Some(times) = self.counts.tallies.count("unusable snapshot") {
                    let name = &self.name;
                    log::warn!("{name}: unusable snapshot from {peer}: {error}{times}");
                }
                let next = self.nothing_promised().next;
                let answer = NextNodeIdx {
                    next,
                    reset: true,
                    success: false,
                };
                self.answer(peer, connection, answer, None);
                return;
            }
        };
        let verdict = {
            let replica = self.replica.borrow();
            follower::snapshot(
                &replica.log,
                &replica.vote,
                peer,
                term,
                [&snapshot.prev, &snapshot.last],
            )
        };
        match verdict {
            AppendVerdict::Ignore(why) => self.on_ignored(peer, term, why),
            AppendVerdict::Answer(answer) => self.answer(peer, connection, answer, None),
            AppendVerdict::Append(append) => self.take(peer, connection, append).await,
            AppendVerdict::Diverged(divergence) => self.diverge(peer, term, divergence),
            AppendVerdict::Install(install) => {
                if self.cut(connection, None).await {
                    return;
                }
                let Some(engine) = self.engine() else { return };
                let answer = install.answer;
                let state = CheckpointState::of_snapshot(snapshot, install.last.term.epoch);
                if let Some(times) = self.counts.tallies.count_of_member("snapshot") {
                    let (name, last) = (&self.name, install.last);
                    log::info!("{name}: installing a snapshot of {peer}, up to {last}{times}");
                }
                let _hold = self.hold_timer();
                let done = engine.install(peer, install, state).await;
                self.answer(
                    peer,
                    connection,
                    answer,
                    Some(Box::pin(async move { done })),
                );
            }
        }
    }
}
