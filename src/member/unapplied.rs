//! Members that hold the log and cannot apply it (H31).
//!
//! A node of PySyncObj whose dump is gone, be it an empty file after a power cut, while
//! the rest of its journal is there, begins with `last_applied` 1 and a log that begins
//! later. It acknowledges, votes and even leads, but applies nothing, so its Patroni
//! waits for ever. No leader of PySyncObj sends it a snapshot, for its log lacks nothing
//! at the end; and leading it has none for others.
//!
//! Its `status` shows that for certain: the log has `log_len` entries and reaches
//! `commit_idx` at least, so its first entry is `commit_idx - log_len + 1` or a later
//! one. If `last_applied + 1` is before that, only a snapshot helps, and we can send one
//! while we lead ([`Leader::restore`](crate::links::leader::Leader::restore)). So we
//! stand for election, though somebody leads, and give leadership back as always.
//!
//! If we may not stand, because we wait for a snapshot ourselves, and that node leads,
//! then nobody ever sends us one. Another member is shown a later term: it ignores that
//! leader from then on, stands itself, and wins unless the leader's log has grown
//! meanwhile. What shows it is a request for a vote that names the very first entry as
//! the end of our log: only a node that holds nothing can grant it, and it elects nobody,
//! for we do not stand.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Member;
use crate::address::Address;
use crate::ids::{EntryId, LogIndex, Term};
use crate::links::leader::Peer;
use crate::reactor::Instant;
use crate::wire::message::Message;
use crate::wire::utility::StatusReply;

/// How long a leader gets to mend it, before we stand for election: its snapshot may
/// be on its way.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest pause between two attempts; it doubles with each.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// What a peer's `status` shows of how it applies what is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applying {
    /// It has begun not long ago, and has not applied all yet: the last entry that it
    /// has.
    Until(u64),
    /// It goes on, or has everything.
    Well,
    /// The next entry to apply is not in its log.
    Never,
}

/// An attempt, and when it may be repeated.
#[derive(Debug, Default)]
struct Pace {
    next: Option<Instant>,
    pause: Duration,
}

impl Pace {
    /// Whether the attempt is due, the first of them after `patience`.
    fn is_due(&mut self, patience: Duration, now: Instant) -> bool {
        let next = *self.next.get_or_insert(now + patience);
        if now < next {
            return false;
        }
        self.pause = (self.pause * 2).clamp(PATIENCE, PAUSE_MAX);
        self.next = Some(now + self.pause);
        true
    }
}

/// What we are at this moment.
#[derive(Debug, Clone, Copy)]
struct Ours<'a> {
    leads: bool,
    may_campaign: bool,
    /// Whom we take for the leader.
    leader: Option<&'a Address>,
    /// The members that are connected.
    connected: &'a [Address],
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    /// Send this member a snapshot, as its leader.
    Restore(&'a Address),
    /// Stand for election, for this member's sake.
    Campaign(&'a Address),
    /// This member leads: show the other a later term.
    Unseat {
        leader: &'a Address,
        by: &'a Address,
    },
}

/// What is known of the members that may be unable to apply the log.
#[derive(Debug, Default)]
pub struct Unapplied {
    peers: BTreeMap<Address, Applying>,
    restoring: Pace,
    unseating: Pace,
}

impl Unapplied {
    /// A peer has shown its status; `commit` is committed here.
    fn note(&mut self, peer: &Address, status: &StatusReply, commit: u64) {
        let applied = status.last_applied;
        let before = self.peers.get(peer);
        let applying = if status.commit_idx > applied.saturating_add(status.log_len) {
            Applying::Never
        } else if applied >= commit || matches!(before, Some(Applying::Until(x)) if applied > *x) {
            Applying::Well
        } else {
            Applying::Until(applied)
        };
        self.peers.insert(peer.clone(), applying);
    }

    /// Whether the peer is to be asked again.
    pub fn is_open(&self, peer: &Address) -> bool {
        let applying = self.peers.get(peer);
        applying.is_some_and(|applying| *applying != Applying::Well)
    }

    /// The peer is connected anew.
    pub fn forget(&mut self, peer: &Address) {
        self.peers.remove(peer);
    }

    fn is_stuck(&self, peer: &Address) -> bool {
        self.peers.get(peer) == Some(&Applying::Never)
    }

    /// What is due now.
    fn step<'a>(&mut self, ours: Ours<'a>, now: Instant) -> Option<Step<'a>> {
        let Some(stuck) = ours.connected.iter().find(|peer| self.is_stuck(peer)) else {
            (self.restoring, self.unseating) = Default::default();
            return None;
        };
        if ours.leads {
            let due = self.restoring.is_due(Duration::ZERO, now);
            return due.then_some(Step::Restore(stuck));
        }
        self.restoring = Pace::default();
        let step = if ours.may_campaign {
            Step::Campaign(stuck)
        } else {
            let leader = ours.leader.filter(|leader| self.is_stuck(leader))?;
            let mut connected = ours.connected.iter();
            let by = connected.find(|peer| *peer != leader && !self.is_stuck(peer))?;
            Step::Unseat { leader, by }
        };
        self.unseating.is_due(PATIENCE, now).then_some(step)
    }
}

impl Member {
    /// Notes how a peer applies what is committed.
    pub(super) fn note_applying(&self, peer: &Address, status: &StatusReply) {
        let commit = self.replica.borrow().log.commit().get();
        self.unapplied.borrow_mut().note(peer, status, commit);
    }

    /// The members that cannot apply what they hold.
    pub(super) fn unable_to_apply(&self) -> Vec<Address> {
        let unapplied = self.unapplied.borrow();
        let mut connected = self.connected_members();
        connected.retain(|peer| unapplied.is_stuck(peer));
        connected
    }

    fn connected_members(&self) -> Vec<Address> {
        let replica = self.replica.borrow();
        let members = replica.log.members().iter();
        let connected = members.filter(|peer| self.connection(peer).is_some());
        connected.cloned().collect()
    }

    /// Does what is due for members that cannot apply what they hold.
    pub(super) fn mend_unapplied(&self, now: Instant) {
        let (connected, leader) = (self.connected_members(), self.known_leader());
        let ours = Ours {
            leads: self.leadership.borrow().is_some(),
            may_campaign: self.may_campaign(),
            leader: leader.as_ref(),
            connected: &connected,
        };
        let name = &self.name;
        let step = self.unapplied.borrow_mut().step(ours, now);
        match step {
            None => {}
            Some(Step::Restore(peer)) => {
                log::warn!("{name}: {peer} cannot apply the log that it holds: restoring it");
                if let Some(leadership) = self.leadership.borrow_mut().as_mut() {
                    leadership.leader.restore(&Peer::Member(peer.clone()));
                }
                self.notify();
            }
            Some(Step::Campaign(peer)) => {
                log::warn!(
                    "{name}: {peer} cannot apply the log that it holds, and no leader restores it: \
                     standing for election to do so"
                );
                self.clock.insist();
                self.notify();
            }
            Some(Step::Unseat { leader, by }) => {
                log::warn!(
                    "{name}: {leader} leads and cannot apply the log that it holds: letting {by} \
                     stand for election"
                );
                self.show_later_term(by);
            }
        }
    }

    /// Asks for a vote that a member with a log refuses, but whose term it adopts.
    fn show_later_term(&self, peer: &Address) {
        let ours = self.replica.borrow().vote.term.term;
        let seen = self.links.borrow().values().map(|link| link.seen).max();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::utility::State;

    fn address(n: u8) -> Address {
        format!("10.0.0.{n}:5010").parse().unwrap()
    }

    fn status(log_len: u64, last_applied: u64, commit_idx: u64) -> StatusReply {
        StatusReply {
            version: "0.3.14".into(),
            this: Some(address(2)),
            state: State::Follower,
            leader: None,
            has_quorum: true,
            partners: Vec::new(),
            readonly: Vec::new(),
            log_len,
            last_applied,
            commit_idx,
            raft_term: Term::ZERO,
            leader_commit_idx: None,
            uptime_s: 0,
            self_code_version: 0,
            enabled_code_version: 0,
        }
    }

    /// 90 entries are committed here.
    #[test]
    fn who_cannot_apply_is_told_from_who_has_not_yet() {
        use Applying::{Never, Until, Well};
        for (shown, told) in [
            // (log_len, last_applied, commit_idx), one status after the other.
            // With everything; with a log that was compacted up to entry 70.
            (&[(90, 90, 90)][..], Well),
            (&[(21, 90, 90)], Well),
            // Just started, with all of its journal: it applies that from the start.
            (&[(90, 1, 1)], Until(1)),
            (&[(90, 1, 90)], Until(1)),
            (&[(90, 1, 1), (90, 40, 90)], Well),
            // Behind, and just about to be sent the rest.
            (&[(21, 60, 60)], Until(60)),
            (&[(21, 60, 60), (21, 60, 60)], Until(60)),
            // With nothing, before the snapshot and after.
            (&[(1, 1, 1), (2, 90, 90)], Well),
            // The journal from entry 70 on and no dump: before it knows what is
            // committed, after, and as the leader of more.
            (&[(21, 1, 1)], Until(1)),
            (&[(21, 1, 1), (21, 1, 90)], Never),
            (&[(23, 1, 92)], Never),
            (&[(23, 1, 92), (23, 1, 92)], Never),
            // Even if the journal lacks no more than the second entry.
            (&[(88, 1, 90)], Never),
            (&[(89, 1, 90)], Until(1)),
            // A snapshot has mended it.
            (&[(23, 1, 92), (2, 92, 92)], Well),
        ] {
            let mut unapplied = Unapplied::default();
            for (log_len, last_applied, commit_idx) in shown {
                unapplied.note(
                    &address(2),
                    &status(*log_len, *last_applied, *commit_idx),
                    90,
                );
            }
            assert_eq!(unapplied.peers.get(&address(2)), Some(&told), "{shown:?}");
            assert_eq!(unapplied.is_open(&address(2)), told != Well);
        }
    }

    #[test]
    fn what_is_done_for_it_depends_on_what_we_are() {
        let [two, three, gone] = [address(2), address(3), address(4)];
        let stuck = status(21, 1, 90);
        let well = status(90, 90, 90);
        let connected = [two.clone(), three.clone()];
        for (leads, may_campaign, leader, step) in [
            (true, false, None, Some(Step::Restore(&two))),
            (false, true, Some(&two), Some(Step::Campaign(&two))),
            (false, true, Some(&three), Some(Step::Campaign(&two))),
            (false, true, None, Some(Step::Campaign(&two))),
            (
                false,
                false,
                Some(&two),
                Some(Step::Unseat {
                    leader: &two,
                    by: &three,
                }),
            ),
            // Whoever leads will send us a snapshot, and then we may stand.
            (false, false, Some(&three), None),
            (false, false, None, None),
        ] {
            let mut unapplied = Unapplied::default();
            unapplied.note(&two, &stuck, 90);
            unapplied.note(&three, &well, 90);
            unapplied.note(&gone, &stuck, 90);
            let ours = Ours {
                leads,
                may_campaign,
                leader,
                connected: &connected,
            };
            let now = Instant::now();
            if !leads {
                assert_eq!(unapplied.step(ours, now), None, "its leader may mend it");
            }
            assert_eq!(unapplied.step(ours, now + PATIENCE), step);
        }
    }

    #[test]
    fn attempts_become_rare_and_end_when_it_is_mended() {
        let (two, start) = (address(2), Instant::now());
        let mut unapplied = Unapplied::default();
        unapplied.note(&two, &status(21, 1, 90), 90);
        let connected = [two.clone()];
        let ours = Ours {
            leads: false,
            may_campaign: true,
            leader: None,
            connected: &connected,
        };
        let mut steps = Vec::new();
        for second in 0..3_600 {
            let now = start + Duration::from_secs(second);
            if unapplied.step(ours, now).is_some() {
                steps.push(second);
            }
        }
        assert_eq!(
            steps,
            [5, 10, 20, 40, 80, 160, 320, 640, 1240, 1840, 2440, 3040]
        );
        unapplied.note(&two, &status(2, 90, 90), 90);
        assert_eq!(unapplied.step(ours, start), None);
        unapplied.note(&two, &status(21, 1, 90), 90);
        assert_eq!(unapplied.step(ours, start), None);
        assert!(unapplied.step(ours, start + PATIENCE).is_some(), "anew");
    }
}
