//! Votes: who asks for ours, who gives us theirs, and who lets us lead.

use std::rc::Rc;

use super::{Member, RebuildReason};
use crate::address::Address;
use crate::election::terms;
use crate::ids::{EntryId, Term};
use crate::links::connection::Connection;
use crate::links::follower;
use crate::reactor::Instant;
use crate::wire::message::Message;

impl Member {
    /// Whether we follow another leader than the candidate, and hear it.
    fn is_led_beside(&self, candidate: &Address) -> bool {
        let timing = &self.config.timing;
        let leader = self.known_leader();
        let heard = self.elector.leaders.borrow().heard_at();
        let (Some(leader), Some(heard)) = (leader, heard) else {
            return false;
        };
        leader != self.me
            && leader != *candidate
            && self.connection(&leader).is_some()
            && terms::is_led(
                heard,
                Instant::now(),
                timing.min_timeout,
                timing.append_entries_period,
            )
    }

    pub(super) fn on_vote(&self, peer: &Address, connection: &Connection, term: Term) {
        if let Some(link) = self.sockets.links.borrow_mut().get_mut(peer) {
            link.exchange.granted = term;
            // H9 b: what comes on this connection from now on is newer than its
            // vote.
            link.exchange.fenced = Some((connection.id, term));
        }
        self.peers_changed.notify(usize::MAX);
    }

    pub(super) async fn on_request_vote(
        self: &Rc<Self>,
        peer: &Address,
        connection: &Rc<Connection>,
        term: Term,
        last: EntryId,
    ) {
        self.saw_term(peer, term);
        self.on_candidate_withdrawn(peer, last);
        if self.has_voice() {
            self.acquainted(peer).await;
        }
        let known = self.hears(peer) && self.elector.peers.borrow().is_verified(peer);
        if !self.may_vote() || !known || self.is_led_beside(peer) {
            self.refuse_vote(peer, term);
            return;
        }
        let request = {
            let replica = self.replica.borrow();
            follower::vote_request(&replica.log, &replica.vote, term, last)
        };
        let (Some(request), Some(engine)) = (request, self.engine()) else {
            return;
        };
        if term <= self.machinery.voted.get() {
            return;
        }
        match engine.vote(peer, request).await {
            Ok(true) => {
                // H23: Python counts each answer, so there is only one.
                if term > self.machinery.voted.get() {
                    self.machinery.voted.set(term);
                    self.timer_votes();
                    connection.send(&Message::ResponseVote { term });
                    if let Some(times) = self.counts.tallies.count_of_member("vote") {
                        let name = &self.name;
                        log::info!("{name}: voted for {peer} in term {term}{times}");
                    }
                }
            }
            Ok(false) => {
                if let Some(times) = self.counts.tallies.count_of_member("no vote") {
                    log::info!(
                        "{}: no vote for {peer} in term {term}: its log ends before ours{times}",
                        self.name
                    );
                }
            }
            Err(error) => self.report(RebuildReason::Stopped(error.to_string())),
        }
    }

    pub(super) fn on_timeout_now(&self, peer: &Address, term: Term) {
        let ours = self.replica.borrow().vote.term.term;
        if term >= ours && self.known_leader().as_ref() == Some(peer) {
            if let Some(times) = self.counts.tallies.count_of_member("transfer") {
                let name = &self.name;
                log::info!("{name}: {peer} hands leadership over to us{times}");
            }
            self.elector.timer.borrow_mut().urge(Instant::now());
            self.notify();
        }
    }
}
