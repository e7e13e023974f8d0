//! Restores members that cannot apply what they hold, as `election::restoring` decides.

use super::Member;
use crate::address::Address;
use crate::election::restoring::{Ours, Step};
use crate::ids::{EntryId, LogIndex, Term};
use crate::links::leader::Peer;
use crate::reactor::Instant;
use crate::wire::message::Message;

impl Member {
    /// The members that cannot apply what they hold.
    pub(super) fn unable_to_apply(&self) -> Vec<Address> {
        let peers = self.elector.peers.borrow();
        let mut connected = self.connected_members();
        connected.retain(|peer| peers.cannot_apply(peer));
        connected
    }

    fn connected_members(&self) -> Vec<Address> {
        let mut others = self.others();
        others.retain(|peer| self.connection(peer).is_some());
        others
    }

    /// Does what is due for members that cannot apply what they hold.
    pub(super) fn restore_members(&self, now: Instant) {
        // So it is at almost every tick.
        if !self.elector.peers.borrow().some_cannot_apply() {
            self.elector.restoring.borrow_mut().end();
            return;
        }
        let (connected, leader) = (self.connected_members(), self.known_leader());
        let ours = Ours {
            leads: self.leadership.borrow().is_some(),
            may_campaign: self.may_campaign(),
            leader: leader.as_ref(),
            connected: &connected,
        };
        let name = &self.name;
        let step = {
            let peers = self.elector.peers.borrow();
            self.elector.restoring.borrow_mut().step(&peers, ours, now)
        };
        match step {
            None => {}
            Some(Step::Restore(peers)) => {
                for peer in peers {
                    log::warn!("{name}: {peer} cannot apply the log that it holds: restoring it");
                    if let Some(leadership) = self.leadership.borrow_mut().as_mut() {
                        leadership.leader.restore(&Peer::Member(peer.clone()));
                    }
                }
                self.notify();
            }
            Some(Step::Campaign(peer)) => {
                log::warn!(
                    "{name}: {peer} cannot apply the log that it holds, and no leader restores it: standing for election to do so"
                );
                self.elector.timer.borrow_mut().insist();
                self.notify();
            }
            Some(Step::Unseat { leader, by }) => {
                log::warn!(
                    "{name}: {leader} leads and cannot apply the log that it holds: letting {by} stand for election"
                );
                self.show_later_term(by);
            }
        }
    }

    /// Asks for a vote that a member with a log refuses, but whose term it adopts.
    fn show_later_term(&self, peer: &Address) {
        let ours = self.replica.borrow().vote.term.term;
        let seen = self
            .sockets
            .links
            .borrow()
            .values()
            .map(|link| link.seen)
            .max();
        let term = seen.unwrap_or_default().max(ours).next();
        let last = EntryId {
            index: LogIndex::FIRST,
            term: Term::ZERO,
        };
        if let Some(connection) = self.connection(peer) {
            connection.send(&Message::RequestVote { term, last });
        }
    }
}
