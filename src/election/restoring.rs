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

use std::time::Duration;

use super::applying::Applying;
use super::peers::PeerTable;
use crate::address::Address;
use crate::reactor::Instant;
use crate::wire::utility::StatusReply;

/// How long a leader gets to mend it, before we stand for election: its snapshot may
/// be on its way.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest pause between two attempts; it doubles with each.
const PAUSE_MAX: Duration = Duration::from_secs(600);

impl PeerTable {
    /// Notes how a peer applies what is committed, when `commit` is committed here.
    pub fn note_applying(&mut self, peer: &Address, status: &StatusReply, commit: u64) {
        let record = self.record(peer);
        record.applying = Some(Applying::of(status, record.applying, commit));
    }

    /// Whether there is a peer that cannot apply what it holds.
    pub fn some_cannot_apply(&self) -> bool {
        self.records()
            .any(|record| record.applying == Some(Applying::Never))
    }

    /// Whether the peer cannot apply what it holds.
    pub fn cannot_apply(&self, peer: &Address) -> bool {
        self.get(peer).and_then(|record| record.applying) == Some(Applying::Never)
    }
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
pub struct Ours<'a> {
    /// We lead.
    pub leads: bool,
    /// We may stand for election.
    pub may_campaign: bool,
    /// Whom we take for the leader.
    pub leader: Option<&'a Address>,
    /// The members that are connected.
    pub connected: &'a [Address],
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Send these members a snapshot, as their leader.
    Restore(Vec<&'a Address>),
    /// Stand for election, for this member's sake.
    Campaign(&'a Address),
    /// This member leads: show the other a later term.
    Unseat {
        /// Who leads.
        leader: &'a Address,
        /// Who is well.
        by: &'a Address,
    },
}

/// The attempts to restore members.
#[derive(Debug, Default)]
pub struct Restoring {
    as_leader: Pace,
    as_follower: Pace,
}

impl Restoring {
    /// Nobody needs to be restored.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// What is due now.
    pub fn step<'a>(
        &mut self,
        peers: &PeerTable,
        ours: Ours<'a>,
        now: Instant,
    ) -> Option<Step<'a>> {
        let cannot = |peer: &&Address| peers.cannot_apply(peer);
        let Some(stuck) = ours.connected.iter().find(cannot) else {
            self.end();
            return None;
        };
        if ours.leads {
            let due = self.as_leader.is_due(Duration::ZERO, now);
            let stuck = ours.connected.iter().filter(cannot);
            return due.then(|| Step::Restore(stuck.collect()));
        }
        self.as_leader = Pace::default();
        let step = if ours.may_campaign {
            Step::Campaign(stuck)
        } else {
            let leader = ours.leader.filter(cannot)?;
            let mut connected = ours.connected.iter();
            let by = connected.find(|peer| *peer != leader && !cannot(peer))?;
            Step::Unseat { leader, by }
        };
        self.as_follower.is_due(PATIENCE, now).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::testing::{address, addresses, status};

    /// `B` cannot apply what it holds, nor can `D`; `C` can.
    fn peers() -> PeerTable {
        let mut peers = PeerTable::default();
        for (name, log_len, last_applied) in [("B", 21, 1), ("C", 90, 90), ("D", 21, 1)] {
            let shown = status(name, "", log_len, last_applied, 90);
            peers.note_applying(&address(name), &shown, 90);
        }
        peers
    }

    #[test]
    fn what_is_done_for_it_depends_on_what_we_are() {
        let (b, c, start) = (address("B"), address("C"), Instant::now());
        // D is not connected.
        let connected = addresses("B C");
        for (leads, may_campaign, leader, step) in [
            (true, false, None, Some(Step::Restore(vec![&b]))),
            (false, true, Some(&b), Some(Step::Campaign(&b))),
            (false, true, Some(&c), Some(Step::Campaign(&b))),
            (false, true, None, Some(Step::Campaign(&b))),
            (
                false,
                false,
                Some(&b),
                Some(Step::Unseat { leader: &b, by: &c }),
            ),
            // Whoever leads will send us a snapshot, and then we may stand.
            (false, false, Some(&c), None),
            (false, false, None, None),
        ] {
            let mut restoring = Restoring::default();
            let ours = Ours {
                leads,
                may_campaign,
                leader,
                connected: &connected,
            };
            if !leads {
                let at_once = restoring.step(&peers(), ours, start);
                assert_eq!(at_once, None, "its leader may mend it");
            }
            assert_eq!(restoring.step(&peers(), ours, start + PATIENCE), step);
        }
    }

    #[test]
    fn attempts_become_rare_and_end_when_it_is_mended() {
        let (b, start, mut peers) = (address("B"), Instant::now(), peers());
        let connected = addresses("B");
        let ours = Ours {
            leads: false,
            may_campaign: true,
            leader: None,
            connected: &connected,
        };
        let mut restoring = Restoring::default();
        let mut due = Vec::new();
        for second in 0..3_600 {
            let now = start + Duration::from_secs(second);
            if restoring.step(&peers, ours, now).is_some() {
                due.push(second);
            }
        }
        assert_eq!(
            due,
            [5, 10, 20, 40, 80, 160, 320, 640, 1240, 1840, 2440, 3040]
        );
        let (stuck, mended) = (status("B", "", 21, 1, 90), status("B", "", 2, 90, 90));
        peers.note_applying(&b, &mended, 90);
        assert_eq!(restoring.step(&peers, ours, start), None);
        peers.note_applying(&b, &stuck, 90);
        assert_eq!(restoring.step(&peers, ours, start), None);
        assert!(
            restoring.step(&peers, ours, start + PATIENCE).is_some(),
            "anew"
        );
    }
}
