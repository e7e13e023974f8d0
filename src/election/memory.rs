//! Whether the others remember what is committed here.
//!
//! The data nodes may have been made anew, and nobody thought of the witness. Its
//! longer log would win every election, and put the keys of a cluster that is no more
//! into the one that has just begun. So a witness that finds itself the only one to
//! remember is *orphaned*: it takes no part any more, keeps its state and says so:
//! whether that state is rubbish or the last copy an operator must decide. The new
//! nodes are a majority without it.
//!
//! One member that has forgotten is no such case: it is taught. So as long as only such
//! a one can be reached, it is not taught at once: the other may come in a moment and
//! have forgotten as well. One that is merely behind remembers.

use super::lack::Lack;
use super::peers::PeerTable;
use crate::address::Address;
use crate::limits;
use crate::reactor::Instant;
use crate::wire::utility::StatusReply;

/// Where a peer's log ends at least, by all that its `status` shows. Each number
/// alone can be smaller: a log that was compacted has few entries left, and a node
/// that has lost its `.meta` file in a power cut begins with commit index 1, though
/// what its dump holds is applied. A leader also knows how far its followers are.
fn end_shown(status: &StatusReply) -> u64 {
    let followers = status.partners.iter().filter_map(|partner| partner.matched);
    let own = [status.log_len, status.last_applied, status.commit_idx];
    own.into_iter().chain(followers).max().unwrap_or(0)
}

impl PeerTable {
    /// Compares what a peer shows of its log with the commit index here. Whether it
    /// lacks something.
    pub fn compare(
        &mut self,
        peer: &Address,
        status: &StatusReply,
        commit: u64,
        now: Instant,
    ) -> bool {
        let end = end_shown(status);
        let lacks = end < commit;
        let record = self.record(peer);
        let since = record.lack.map_or(now, |lack| lack.since);
        record.lack = lacks.then_some(Lack {
            since,
            end,
            committed: commit,
        });
        lacks
    }

    /// The peer has shown that it holds all that is committed here.
    pub fn remembers_again(&mut self, peer: &Address) {
        self.record(peer).lack = None;
    }

    /// Whether the peer lacked something when it was compared last.
    pub fn lacks_something(&self, peer: &Address) -> bool {
        self.lack(peer).is_some()
    }

    fn lack(&self, peer: &Address) -> Option<Lack> {
        self.get(peer)?.lack
    }

    /// Whether the peer showed that it knows the cluster that we know.
    fn remembers(&self, peer: &Address) -> bool {
        self.is_verified(peer) && self.lack(peer).is_none_or(|lack| !lack.is_most())
    }

    /// Whether all of `others`, the other members, have forgotten what is committed
    /// here. Of two members the other may just have lost its disk; that all of several
    /// did so at once without somebody's doing is not likely.
    ///
    /// Each may have fallen behind at a time of its own: proof is an entry that was
    /// committed here when the first of them was seen, and that the log of none of them
    /// has reached since.
    pub fn have_all_forgotten(&self, others: &[Address]) -> bool {
        let lacks: Option<Vec<Lack>> = others.iter().map(|peer| self.lack(peer)).collect();
        let Some(lacks) = lacks.filter(|lacks| lacks.len() > 1) else {
            return false;
        };
        let reached = lacks.iter().map(|lack| lack.end).max();
        let committed = lacks.iter().map(|lack| lack.committed).min();
        lacks.iter().all(Lack::is_most) && reached < committed
    }

    /// Whether the peer may be given what we hold, and be asked to elect us. `others`:
    /// the other members, the peer among them; `connected`: which of them are.
    pub fn may_teach(
        &self,
        peer: &Address,
        others: &[Address],
        connected: impl Fn(&Address) -> bool,
        now: Instant,
    ) -> bool {
        let waited = |lack: Lack| lack.age(now) >= limits::ORPHANED_PATIENCE;
        others.len() < 2
            || others
                .iter()
                .any(|other| connected(other) && self.remembers(other))
            || self.lack(peer).is_some_and(waited)
    }

    /// Notes that we lead and that the peer is to be told of it later.
    pub fn teach_later(&mut self, peer: &Address) {
        self.record(peer).to_be_taught = true;
    }

    /// Whether it waits for that.
    pub fn is_to_be_taught(&self, peer: &Address) -> bool {
        self.get(peer).is_some_and(|record| record.to_be_taught)
    }

    /// Notes that the peer is told all that we have to say as leader.
    pub fn taught(&mut self, peer: &Address) {
        self.record(peer).to_be_taught = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::testing::{address, addresses, status};

    /// What the peers show, each as `name log_len last_applied commit_idx`, when
    /// `commit` entries are committed here.
    fn compared(shown: &[(&str, [u64; 3], u64)], now: Instant) -> PeerTable {
        let mut peers = PeerTable::default();
        for (name, [log_len, last_applied, commit_idx], commit) in shown {
            let status = status(name, "", *log_len, *last_applied, *commit_idx);
            peers.compare(&address(name), &status, *commit, now);
            peers.verified(&address(name));
        }
        peers
    }

    #[test]
    fn only_what_all_have_forgotten_is_forgotten() {
        for (shown, others, forgotten) in [
            (
                &[("A", [1, 1, 1], 90), ("B", [1, 1, 1], 90)][..],
                "A B",
                true,
            ),
            (&[("A", [3, 3, 3], 90), ("B", [9, 9, 9], 90)], "A B", true),
            // One remembers, has not been asked, or is merely behind.
            (
                &[("A", [1, 1, 1], 90), ("B", [90, 90, 90], 90)],
                "A B",
                false,
            ),
            (&[("A", [1, 1, 1], 90)], "A B", false),
            (
                &[("A", [1, 1, 1], 90), ("B", [60, 60, 60], 90)],
                "A B",
                false,
            ),
            // Few entries left of a log that was compacted; a `.meta` that was lost.
            (
                &[("A", [1, 1, 1], 90), ("B", [2, 90, 90], 90)],
                "A B",
                false,
            ),
            (&[("A", [1, 1, 1], 90), ("B", [2, 90, 1], 90)], "A B", false),
            // The only other member may just have lost its disk.
            (&[("A", [1, 1, 1], 90)], "A", false),
            // The second has grown beyond what was committed when the first was seen.
            (&[("A", [1, 1, 1], 4), ("B", [5, 5, 5], 90)], "A B", false),
            // Nothing is committed here that they could lack.
            (&[("A", [1, 1, 1], 1), ("B", [1, 1, 1], 1)], "A B", false),
        ] {
            let peers = compared(shown, Instant::now());
            let found = peers.have_all_forgotten(&addresses(others));
            assert_eq!(found, forgotten, "{shown:?}");
        }
    }

    #[test]
    fn who_has_forgotten_is_taught_when_another_remembers_or_after_a_while() {
        let start = Instant::now();
        let later = start + limits::ORPHANED_PATIENCE;
        let forgot = ("A", [1, 1, 1], 90);
        for (shown, others, connected, now, teach) in [
            (&[forgot][..], "A B", "A", start, false),
            (&[forgot], "A B", "A", later, true),
            (
                &[forgot, ("B", [90, 90, 90], 90)],
                "A B",
                "A B",
                start,
                true,
            ),
            (
                &[forgot, ("B", [60, 60, 60], 90)],
                "A B",
                "A B",
                start,
                true,
            ),
            (&[forgot, ("B", [90, 90, 90], 90)], "A B", "A", start, false),
            (&[forgot, ("B", [1, 1, 1], 90)], "A B", "A B", start, false),
            // Nobody else could come.
            (&[forgot], "A", "A", start, true),
        ] {
            let peers = compared(shown, start);
            let connected = addresses(connected);
            let found = peers.may_teach(
                &address("A"),
                &addresses(others),
                |peer| connected.contains(peer),
                now,
            );
            assert_eq!(found, teach, "{shown:?}, {connected:?}");
        }
    }

    #[test]
    fn the_first_look_counts_for_the_time() {
        let start = Instant::now();
        let mut peers = compared(&[("A", [1, 1, 1], 90)], start);
        let later = start + limits::ORPHANED_PATIENCE;
        peers.compare(&address("A"), &status("A", "", 1, 1, 1), 91, later);
        assert!(peers.may_teach(&address("A"), &addresses("A B"), |_| true, later));
        peers.remembers_again(&address("A"));
        assert!(!peers.lacks_something(&address("A")));
    }
}
