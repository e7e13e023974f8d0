//! Sequences written by hand, one or two for every hazard.

use std::time::Duration;

use super::super::{Action, ConnId, Fence, Leader, Peer, Progressed};
use super::{Log, TIMING, id, idx};
use crate::address::Address;
use crate::ids::{LogIndex, Term};
use crate::limits::{APPEND_BATCH_ENTRIES, UNANSWERED_APPENDS_MAX};
use crate::reactor::Instant;
use crate::wire::message::NextNodeIdx;

const CONN: ConnId = ConnId(1);

fn address(n: u8) -> Address {
    format!("10.0.0.{n}:5010").parse().unwrap()
}

fn member(n: u8) -> Peer {
    Peer::Member(address(n))
}

/// One leadership and one follower's replies to it.
struct Rig {
    leader: Leader,
    log: Log,
    now: Instant,
    peer: Peer,
    conn: ConnId,
}

impl Rig {
    /// The leader of the last entry's term, before anybody is connected.
    fn alone(terms: &[u64]) -> Self {
        let term = Term::new(*terms.last().unwrap()).unwrap();
        let now = Instant::now() + Duration::from_secs(60);
        let log = Log::of_terms(terms);
        Self {
            leader: Leader::new(term, TIMING, now),
            log,
            now,
            peer: member(1),
            conn: CONN,
        }
    }

    /// With one follower.
    fn new(terms: &[u64]) -> Self {
        let mut rig = Self::alone(terms);
        rig.connect(CONN, Fence::Clean);
        rig
    }

    /// With one follower that has all of the log.
    fn replicating(terms: &[u64]) -> Self {
        let mut rig = Self::new(terms);
        assert_eq!(rig.sent().len(), 1);
        assert!(rig.taken(rig.log.end() + 1).matched.is_some());
        assert_eq!(rig.sent(), [""; 0]);
        rig
    }

    /// Of us and the members from 1 on, `members` in all.
    fn has_quorum(&self, members: u8, limit_ms: u64) -> bool {
        let members: Vec<_> = (0..members).map(address).collect();
        let limit = Duration::from_millis(limit_ms);
        self.leader
            .has_quorum(&members, &address(0), limit, self.now)
    }

    fn connect(&mut self, conn: ConnId, fence: Fence) {
        self.conn = conn;
        self.leader
            .connected(self.peer.clone(), conn, fence, self.now);
    }

    fn sent(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        self.leader
            .poll(&self.log, self.now, &mut |action| sent.push(text(&action)));
        sent
    }

    fn after(&mut self, ms: u64) -> Vec<String> {
        self.now += Duration::from_millis(ms);
        self.sent()
    }

    /// Time passes while we are awake.
    fn awake(&mut self, ms: u64) -> Vec<String> {
        let steps = (0..ms / 500).flat_map(|_| self.after(500));
        steps.collect()
    }

    fn reply(&mut self, next: i64, reset: bool, success: bool) -> Option<Progressed> {
        let reply = NextNodeIdx {
            next,
            reset,
            success,
        };
        self.leader
            .on_reply(&self.peer, self.conn, &reply, self.now)
    }

    fn taken(&mut self, next: u64) -> Progressed {
        self.reply(i64::try_from(next).unwrap(), false, true)
            .expect("counted")
    }

    fn refused(&mut self, next: i64) -> Progressed {
        self.reply(next, true, false).expect("counted")
    }

    fn matched(&self) -> Option<u64> {
        self.leader.matched(&self.peer).map(LogIndex::get)
    }
}

fn text(action: &Action) -> String {
    match action {
        Action::Append {
            prev,
            entries,
            commit,
            ..
        } => {
            let what = match entries.end.get() - entries.start.get() {
                0 => "nothing".to_owned(),
                _ => format!("{}-{}", entries.start, entries.end.get() - 1),
            };
            format!(
                "after {}/{}: {what}, commit {commit}",
                prev.index, prev.term
            )
        }
        Action::SnapshotNeeded { .. } => "snapshot needed".to_owned(),
        Action::SnapshotChunk {
            data, first, last, ..
        } => {
            let marks = [(*first, " first"), (*last, " last")];
            let marks: String = marks.iter().filter(|m| m.0).map(|m| m.1).collect();
            format!("chunk {}..{}{marks}", data.start, data.end)
        }
        Action::SnapshotIdle { .. } => "idle".to_owned(),
        Action::Close { conn, reason, .. } => format!("close {}: {reason:?}", conn.0),
    }
}

// --- finding where the logs part (S3, H8) ----------------------------------

#[test]
fn a_leadership_begins_before_its_no_op() {
    // Spec 5.4: most followers lack just the NO_OP.
    let mut rig = Rig::new(&[0, 1, 1, 2]);
    assert_eq!(rig.sent(), ["after 3/1: 4-4, commit 1"]);
    assert_eq!(rig.taken(5).matched, Some(idx(4)));
}

#[test]
fn a_late_comer_is_probed_at_the_logs_end() {
    // H8: anything earlier could cut what it has.
    let mut rig = Rig::new(&[0, 1, 2, 2, 2]);
    assert_eq!(rig.sent(), ["after 5/2: nothing, commit 1"]);
    assert_eq!(rig.taken(6).matched, Some(idx(5)));
}

#[test]
fn who_was_connected_before_is_probed_behind_our_no_op() {
    // S3, H8: it may hold the NO_OP, whether it acknowledged it or not.
    let mut rig = Rig::new(&[0, 1, 1, 2]);
    assert_eq!(rig.sent(), ["after 3/1: 4-4, commit 1"]);
    rig.leader.disconnected(&rig.peer, CONN);
    rig.connect(ConnId(2), Fence::Clean);
    assert_eq!(rig.sent(), ["after 4/2: nothing, commit 1"]);
    rig.taken(5);
    // Nor does a removal make it a stranger.
    rig.leader.disconnected(&rig.peer, ConnId(2));
    rig.leader.removed(&rig.peer);
    rig.connect(ConnId(3), Fence::Clean);
    assert_eq!(rig.sent(), ["after 4/2: nothing, commit 1"]);
}

#[test]
fn a_reader_is_probed_behind_our_no_op() {
    // S3, H8: it cannot be told whether it was here before.
    let mut rig = Rig::alone(&[0, 1, 1, 2]);
    rig.peer = Peer::ReadOnly(7);
    rig.connect(CONN, Fence::Clean);
    assert_eq!(rig.sent(), ["after 4/2: nothing, commit 1"]);
}

#[test]
fn a_short_log_is_continued_at_its_end() {
    let mut rig = Rig::new(&[0, 1, 2, 2, 2]);
    rig.sent();
    assert_eq!(rig.refused(3).matched, None);
    assert_eq!(rig.sent(), ["after 2/1: 3-5, commit 1"]);
}

#[test]
fn differing_entries_are_walked_back_one_by_one() {
    // H8: a probe at the bound proves that nothing of ours lies behind it.
    let mut rig = Rig::new(&[0, 1, 1, 1, 3, 3]);
    assert_eq!(rig.sent(), ["after 6/3: nothing, commit 1"]);
    rig.refused(6);
    assert_eq!(rig.sent(), ["after 5/3: 6-6, commit 1"]);
    rig.refused(5);
    // A long search sends no entries.
    assert_eq!(rig.sent(), ["after 4/1: nothing, commit 1"]);
    rig.refused(4);
    assert_eq!(rig.sent(), ["after 3/1: nothing, commit 1"]);
    assert_eq!(rig.taken(4).matched, Some(idx(3)));
    assert_eq!(rig.sent(), ["after 3/1: 4-6, commit 1"]);
}

#[test]
fn a_batch_has_64_kib_and_the_entry_that_crosses() {
    let mut rig = Rig::replicating(&[0, 1]);
    for len in [40_000, 30_000, 10, 200_000] {
        rig.log.push(1, len);
    }
    assert_eq!(rig.sent(), ["after 2/1: 3-4, commit 1"]);
    rig.taken(5);
    // H4: never a fragment.
    assert_eq!(rig.sent(), ["after 4/1: 5-6, commit 1"]);
    rig.taken(7);
    (0..2 * APPEND_BATCH_ENTRIES).for_each(|_| rig.log.push(1, 0));
    assert_eq!(rig.sent(), ["after 6/1: 7-1030, commit 1"]);
}

#[test]
fn entries_in_flight_are_one_append_and_heartbeats_stand_at_its_end() {
    // S3, and no heartbeat that cuts what is on its way (H8).
    let mut rig = Rig::replicating(&[0, 1]);
    rig.log.push(1, 10);
    assert_eq!(rig.sent(), ["after 2/1: 3-3, commit 1"]);
    rig.log.push(1, 10);
    assert_eq!(rig.sent(), [""; 0]);
    assert_eq!(rig.after(100), ["after 3/1: nothing, commit 1"]);
    rig.taken(4);
    assert_eq!(rig.sent(), ["after 3/1: 4-4, commit 1"]);
    rig.taken(4);
    assert_eq!(rig.matched(), Some(3));
    rig.taken(5);
    assert_eq!(rig.matched(), Some(4));
}

#[test]
fn a_log_that_begins_behind_ours_ends_is_asked_at_the_heartbeat_only() {
    // H21: "below my first entry" answers with its own end; our next never
    // passes our own.
    let mut rig = Rig::new(&[0, 1, 2, 2]);
    rig.sent();
    rig.refused(90);
    assert_eq!(rig.sent(), [""; 0]);
    assert_eq!(rig.after(100), ["after 4/2: nothing, commit 1"]);
    assert_eq!(rig.leader.next(&rig.peer), Some(idx(5)));
}

// --- whose answer it is (H9) -----------------------------------------------

#[test]
fn an_answer_to_nothing_proves_nothing() {
    // H9 a
    let mut rig = Rig::replicating(&[0, 1, 1]);
    assert_eq!(rig.reply(2, true, false), None);
    assert_eq!(rig.reply(4, false, true), None);
    assert_eq!(rig.leader.uncounted_replies(), 2);
    assert_eq!(rig.matched(), Some(3));
    assert_eq!(rig.sent(), [""; 0]);
}

#[test]
fn a_reset_waits_until_the_answers_behind_it_are_in() {
    // H9 a: or every stale answer would rewind again.
    let mut rig = Rig::new(&[0, 1, 2]);
    assert_eq!(rig.sent(), ["after 2/1: 3-3, commit 1"]);
    assert_eq!(rig.after(100), ["after 3/2: nothing, commit 1"]);
    assert!(!rig.refused(2).reverted);
    // Nor does a heartbeat go out, or a slow link would never drain.
    assert_eq!(rig.after(100), [""; 0]);
    rig.refused(3);
    assert_eq!(rig.sent(), ["after 1/0: 2-3, commit 1"]);
}

#[test]
fn an_answer_that_cannot_be_the_answer_ends_the_connection() {
    // H9: too much, too little, contradictory, nonsense, taken behind refused.
    for (next, reset, success) in [
        (6, false, true),
        (2, false, true),
        (4, true, true),
        (i64::MIN, false, true),
        (0, true, false),
    ] {
        let mut rig = Rig::new(&[0, 1, 2, 2]);
        rig.log.commit = 2;
        rig.sent();
        rig.refused(3);
        assert_eq!(rig.sent(), ["after 2/1: 3-4, commit 2"]);
        assert_eq!(rig.reply(next, reset, success), None, "{next}");
        assert_eq!(rig.sent(), ["close 1: OutOfStep"]);
        assert_eq!(rig.matched(), None);
        assert_eq!(rig.reply(5, false, true), None, "the connection is dead");
    }
    let mut rig = Rig::new(&[0, 1, 2]);
    rig.sent();
    rig.after(100);
    rig.refused(2);
    assert_eq!(rig.reply(4, false, true), None);
    assert_eq!(rig.sent(), ["close 1: OutOfStep"]);
}

#[test]
fn an_unfenced_connection_is_closed_before_the_first_append() {
    // H9 c: a reply to an earlier leadership can have any value.
    let mut rig = Rig::alone(&[0, 1, 3]);
    rig.connect(CONN, Fence::Dirty);
    assert_eq!(rig.sent(), ["close 1: Unfenced"]);
    assert_eq!(rig.reply(3, false, true), None);
    rig.leader.disconnected(&rig.peer, CONN);
    rig.connect(ConnId(2), Fence::Clean);
    assert_eq!(rig.sent(), ["after 2/1: 3-3, commit 1"]);
}

#[test]
fn a_reply_counts_on_its_own_connection_only() {
    // S4; one live connection per peer.
    let mut rig = Rig::replicating(&[0, 1, 1]);
    rig.connect(ConnId(2), Fence::Clean);
    assert_eq!(
        rig.sent(),
        ["after 3/1: nothing, commit 1", "close 1: Replaced"]
    );
    rig.conn = CONN;
    assert_eq!(rig.reply(4, false, true), None);
    assert_eq!(rig.reply(2, true, false), None);
    rig.leader.disconnected(&rig.peer, CONN);
    rig.conn = ConnId(2);
    assert_eq!(rig.taken(4).matched, Some(idx(3)));
    // The same connection twice keeps its unanswered appends.
    assert_eq!(rig.after(100).len(), 1);
    rig.connect(ConnId(2), Fence::Clean);
    assert_eq!(rig.leader.unanswered(&rig.peer), 1);
    let stranger = NextNodeIdx {
        next: 4,
        reset: false,
        success: true,
    };
    assert_eq!(
        rig.leader
            .on_reply(&member(9), ConnId(9), &stranger, rig.now),
        None
    );
}

// --- what a success says (H10, H14, S7) ------------------------------------

#[test]
fn up_to_0_3_11_say_one_less_and_are_asked_again_at_once() {
    // H10, spec 3.6: and next is never rewound, or the last entry is sent for
    // ever.
    let mut rig = Rig::replicating(&[0, 1]);
    rig.log.push(1, 10);
    rig.log.push(1, 10);
    assert_eq!(rig.sent(), ["after 2/1: 3-4, commit 1"]);
    assert_eq!(rig.taken(4).matched, Some(idx(3)));
    assert_eq!(rig.sent(), ["after 4/1: nothing, commit 1"]);
    assert_eq!(rig.taken(5).matched, Some(idx(4)));
    assert_eq!(rig.sent(), [""; 0]);
    // A heartbeat under way asks as well.
    rig.log.push(1, 10);
    assert_eq!(rig.after(10), ["after 4/1: 5-5, commit 1"]);
    assert_eq!(rig.after(150), ["after 5/1: nothing, commit 1"]);
    rig.taken(5);
    assert_eq!(rig.sent(), [""; 0]);
    assert_eq!(rig.taken(6).matched, Some(idx(5)));
}

#[test]
fn what_a_peer_acknowledged_stays_until_it_is_seen_to_have_lost_it() {
    // H14: the fact is reported, once.
    let mut rig = Rig::replicating(&[0, 1, 1, 1]);
    rig.leader.disconnected(&rig.peer, CONN);
    assert_eq!(rig.matched(), Some(4));
    rig.connect(ConnId(2), Fence::Clean);
    assert_eq!(rig.sent(), ["after 4/1: nothing, commit 1"]);
    let Progressed {
        matched, reverted, ..
    } = rig.refused(3);
    assert_eq!((matched, reverted), (Some(idx(2)), true));
    assert_eq!(rig.sent(), ["after 2/1: 3-4, commit 1"]);
    let Progressed {
        matched, reverted, ..
    } = rig.taken(5);
    assert_eq!((matched, reverted), (Some(idx(4)), false));
}

#[test]
fn a_witness_without_memory_is_served_and_not_counted() {
    // S7, H18: {reset: False, success: False} is contact, not progress.
    let mut rig = Rig::new(&[0, 1, 2]);
    rig.sent();
    rig.now += Duration::from_millis(5);
    let progressed = rig.reply(4, false, false).unwrap();
    assert_eq!((progressed.matched, progressed.reverted), (None, false));
    assert_eq!(rig.leader.last_response(&rig.peer), Some(rig.now));
    assert_eq!(rig.sent(), [""; 0]);
    rig.log.push(2, 10);
    assert_eq!(rig.sent(), ["after 3/2: 4-4, commit 1"]);
}

// --- when things go out ----------------------------------------------------

#[test]
fn commit_goes_out_at_once_or_with_what_follows_the_reply() {
    // appendEntriesUseBatch = False (spec 5.2)
    let mut rig = Rig::replicating(&[0, 1]);
    rig.log.commit = 2;
    assert_eq!(rig.after(5), ["after 2/1: nothing, commit 2"]);
    rig.log.push(1, 10);
    assert_eq!(rig.sent(), ["after 2/1: 3-3, commit 2"]);
    rig.log.commit = 3;
    assert_eq!(rig.sent(), [""; 0]);
    rig.taken(3);
    assert_eq!(rig.sent(), [""; 0]);
    rig.taken(4);
    assert_eq!(rig.sent(), ["after 3/1: nothing, commit 3"]);
    rig.taken(4);
    assert_eq!(rig.sent(), [""; 0]);
}

#[test]
fn an_idle_leader_wakes_once_per_heartbeat_for_all() {
    let mut rig = Rig::replicating(&[0, 1]);
    rig.leader
        .connected(member(2), ConnId(2), Fence::Clean, rig.now);
    rig.now += Duration::from_millis(30);
    rig.sent();
    let wake = rig.leader.next_wakeup().unwrap();
    assert_eq!(wake, rig.now + Duration::from_millis(70));
    rig.now = wake;
    assert_eq!(rig.sent().len(), 2);
    assert_eq!(rig.leader.next_wakeup(), Some(rig.now + TIMING.heartbeat));
    // What went out just before a beat saves it.
    rig.taken(3);
    rig.log.commit = 2;
    assert_eq!(rig.after(60).len(), 1);
    assert_eq!(rig.after(40).len(), 1);
    rig.leader.removed(&rig.peer);
    rig.leader.removed(&member(2));
    assert_eq!(rig.leader.next_wakeup(), None);
}

#[test]
fn a_peer_that_does_not_answer_is_disconnected() {
    // S10, H9: and its unanswered appends stay bounded.
    let mut rig = Rig::replicating(&[0, 1]);
    let silent_since = rig.now + Duration::from_millis(100);
    let mut closed = None;
    for _ in 0..100 {
        let wake = rig.leader.next_wakeup().unwrap();
        rig.now = wake;
        assert!(rig.leader.unanswered(&rig.peer) <= UNANSWERED_APPENDS_MAX);
        if rig.sent() == ["close 1: Silent"] {
            closed = Some(rig.now);
            break;
        }
    }
    assert_eq!(closed, Some(silent_since + TIMING.reply_timeout));
    assert_eq!(rig.after(100), [""; 0]);
    assert_eq!(rig.leader.next_wakeup(), None);
}

#[test]
fn when_we_slept_nobody_else_is_silent() {
    // S8: what waits in the sockets is read first.
    let mut rig = Rig::replicating(&[0, 1]);
    assert_eq!(rig.after(100).len(), 1);
    assert_eq!(rig.after(60_000).len(), 1);
    assert!(rig.leader.next_wakeup().unwrap() > rig.now);
    rig.taken(3);
    assert_eq!(rig.after(100).len(), 1);
    rig.taken(3);
    assert_eq!(rig.after(150).len(), 1);
    // Who then says nothing is.
    assert_eq!(rig.after(60_000).len(), 1);
    assert_eq!(rig.after(199).len(), 1);
    assert_eq!(rig.after(1), ["close 1: Silent"]);
}

#[test]
fn a_full_fifo_holds_everything_back() {
    // S10
    let timing = super::LeadershipTiming {
        reply_timeout: Duration::from_secs(3600),
        ..TIMING
    };
    let mut rig = Rig::replicating(&[0, 1]);
    rig.leader = Leader::new(Term::new(1).unwrap(), timing, rig.now);
    rig.connect(CONN, Fence::Clean);
    let sent: usize = (0..200).map(|_| rig.after(100).len()).sum();
    assert_eq!(sent, UNANSWERED_APPENDS_MAX);
    rig.log.push(1, 10);
    assert_eq!(rig.after(100), [""; 0]);
    rig.taken(3);
    assert_eq!(rig.sent(), ["after 2/1: 3-3, commit 1"]);
}

// --- snapshots (spec 3.5, H12) ---------------------------------------------

/// A follower so far behind that only a snapshot of 5/1 helps.
fn behind() -> Rig {
    let mut rig = Rig::new(&[0, 1, 1, 1, 1, 1]);
    rig.log.first = 4;
    rig.log.commit = 6;
    assert_eq!(rig.sent(), ["after 6/1: nothing, commit 6"]);
    rig.refused(2);
    assert_eq!(rig.sent(), ["snapshot needed"]);
    rig
}

fn ready(rig: &mut Rig, len: u64) -> bool {
    rig.leader
        .snapshot_ready(&rig.peer, rig.conn, len, id(5, 1), &rig.log, rig.now)
}

#[test]
fn a_snapshot_is_streamed_as_the_connection_takes_it() {
    // S10: at most a window is queued; spec 3.5: the empty chunk ends it.
    let mut rig = behind();
    assert_eq!(rig.after(100), ["idle"]);
    assert!(ready(&mut rig, 300_000));
    assert!(!ready(&mut rig, 300_000), "once");
    let sent = rig.sent();
    assert_eq!(sent.len(), 4);
    assert_eq!(
        (&*sent[0], &*sent[3]),
        ("chunk 0..65536 first", "chunk 196608..262144")
    );
    assert_eq!(rig.after(100), [""; 0], "the pipe is full");
    rig.leader.writable(&rig.peer, CONN, usize::MAX);
    assert_eq!(
        rig.sent(),
        ["chunk 262144..300000", "chunk 300000..300000 last"]
    );
    assert_eq!(rig.leader.unanswered(&rig.peer), 1);
    // Idle, never an append, while it loads.
    assert_eq!(rig.after(100), ["idle"]);
    assert_eq!(rig.awake(5_000), ["idle"; 10], "loading takes its time");
    assert_eq!(rig.taken(6).matched, None, "not before a probe fits");
    assert_eq!(rig.sent(), ["after 5/1: 6-6, commit 6"]);
    assert_eq!(rig.taken(7).matched, Some(idx(6)));
}

#[test]
fn an_empty_snapshot_is_one_chunk() {
    let mut rig = behind();
    assert!(ready(&mut rig, 0));
    assert_eq!(rig.sent(), ["chunk 0..0 first last"]);
}

#[test]
fn a_snapshot_counts_only_if_acknowledged_exactly_and_is_retried_later() {
    // H12: Python acknowledges with its old end what it could not load.
    for (next, reset, success) in [(2, false, true), (7, false, true), (2, true, false)] {
        let mut rig = behind();
        ready(&mut rig, 10);
        rig.sent();
        assert_eq!(rig.reply(next, reset, success).unwrap().matched, None);
        assert_eq!(rig.after(100), ["idle"]);
        let retry = rig.leader.next_wakeup().unwrap();
        assert!(retry <= rig.now + Duration::from_secs(1));
        assert_eq!(rig.after(950), ["snapshot needed", "idle"]);
    }
}

#[test]
fn a_snapshot_that_was_not_loaded_but_acknowledged_exactly_is_found_out() {
    // H12: the old log ended at the same index.
    let mut rig = behind();
    ready(&mut rig, 10);
    rig.sent();
    assert_eq!(rig.taken(6).matched, None);
    assert_eq!(rig.sent(), ["after 5/1: 6-6, commit 6"]);
    rig.refused(5);
    assert_eq!(rig.sent(), ["after 4/1: 5-6, commit 6"]);
    rig.refused(4);
    assert_eq!(rig.sent(), [""; 0], "again, but after a pause");
    assert_eq!(rig.after(1000), ["snapshot needed", "idle"]);
}

#[test]
fn an_unknown_snapshot_is_never_sent() {
    // H12: Python would install an older one and lose what is behind it.
    for strange in [id(3, 1), id(5, 7), id(9, 1)] {
        let mut rig = behind();
        assert!(
            !rig.leader
                .snapshot_ready(&rig.peer, CONN, 10, strange, &rig.log, rig.now)
        );
        assert_eq!(rig.after(100), ["idle"]);
        assert_eq!(rig.after(1000), ["snapshot needed", "idle"]);
        assert!(ready(&mut rig, 10));
    }
}

#[test]
fn a_snapshot_does_not_survive_its_connection() {
    // H12: never resumed in mid-file.
    let mut rig = behind();
    ready(&mut rig, 300_000);
    rig.sent();
    rig.leader.disconnected(&rig.peer, CONN);
    rig.connect(ConnId(2), Fence::Clean);
    assert!(!ready(&mut rig, 10));
    assert_eq!(rig.sent(), ["after 6/1: nothing, commit 6"]);
}

#[test]
fn a_stream_that_nobody_reads_is_cut() {
    let mut rig = behind();
    ready(&mut rig, 10_000_000);
    rig.sent();
    assert_eq!(rig.awake(29_500), [""; 0]);
    assert_eq!(rig.after(400), [""; 0]);
    assert_eq!(
        rig.leader.next_wakeup(),
        Some(rig.now + Duration::from_millis(100))
    );
    assert_eq!(rig.after(100), ["close 1: Silent"]);
}

#[test]
fn compaction_beyond_a_follower_ends_in_a_snapshot() {
    let mut rig = Rig::replicating(&[0, 1, 1]);
    rig.log.push(1, 10);
    rig.log.push(1, 10);
    assert_eq!(rig.sent(), ["after 3/1: 4-5, commit 1"]);
    rig.log.push(1, 10);
    rig.log.first = 6;
    // Alive without an append that could not name its prev.
    assert_eq!(rig.after(100), ["idle"]);
    rig.taken(6);
    assert_eq!(rig.sent(), ["snapshot needed"]);
}

#[test]
fn who_cannot_apply_gets_a_snapshot_that_takes_nothing() {
    let mut rig = Rig::replicating(&[0, 1, 1]);
    rig.log.push(1, 10);
    rig.leader.restore(&rig.peer);
    // Not before it has everything, and all of that is committed.
    assert_eq!(rig.sent(), ["after 3/1: 4-4, commit 1"]);
    rig.taken(5);
    assert_eq!(rig.after(100), ["after 4/1: nothing, commit 1"]);
    rig.log.commit = 4;
    assert_eq!(rig.sent(), [""; 0], "an answer is still due");
    rig.taken(5);
    assert_eq!(rig.sent(), ["snapshot needed"]);
    let mut ready = |end| {
        rig.leader
            .snapshot_ready(&rig.peer, CONN, 10, end, &rig.log, rig.now)
    };
    assert!(!ready(id(3, 1)), "it holds more than that");
    assert_eq!(rig.after(1000), ["snapshot needed", "idle"]);
    let mut ready = |end| {
        rig.leader
            .snapshot_ready(&rig.peer, CONN, 10, end, &rig.log, rig.now)
    };
    assert!(ready(id(4, 1)));
    assert_eq!(rig.sent(), ["chunk 0..10 first", "chunk 10..10 last"]);
    assert_eq!(rig.taken(5).matched, Some(idx(4)));
    assert_eq!(rig.sent(), ["after 4/1: nothing, commit 4"], "once");
}

// --- readers and quorum (spec 3.9, S12) ------------------------------------

#[test]
fn a_reader_is_streamed_to_and_forgotten() {
    let mut rig = Rig::alone(&[0, 1, 1, 1]);
    rig.peer = Peer::ReadOnly(7);
    rig.connect(CONN, Fence::Clean);
    // It takes the commit index for how far it must apply before it is ready.
    rig.log.commit = 4;
    assert_eq!(rig.sent(), ["after 4/1: nothing, commit 4"]);
    rig.refused(2);
    assert_eq!(rig.sent(), ["after 1/0: 2-4, commit 4"]);
    assert_eq!(rig.taken(5).matched, Some(idx(4)));
    // A reader's answer is no member's.
    rig.now += Duration::from_secs(1);
    assert!(!rig.has_quorum(3, 1000));
    rig.leader.disconnected(&rig.peer, CONN);
    assert_eq!(rig.matched(), None);
    assert_eq!(rig.after(100), [""; 0]);
}

#[test]
fn a_quorum_is_a_majority_that_answered_lately() {
    // S12: the beginning counts as an answer.
    let mut rig = Rig::new(&[0, 1, 2]);
    assert!(rig.has_quorum(1, 1) && rig.has_quorum(5, 1));
    rig.sent();
    rig.now += Duration::from_secs(1);
    assert!(rig.has_quorum(1, 1), "alone we are one");
    assert!(!rig.has_quorum(2, 1000) && !rig.has_quorum(3, 1000));
    assert!(rig.has_quorum(5, 1001), "all were there so lately");
    rig.taken(4);
    assert!(rig.has_quorum(2, 1000) && rig.has_quorum(3, 1000));
    assert!(!rig.has_quorum(4, 1000) && !rig.has_quorum(5, 1000));
    rig.leader.disconnected(&rig.peer, CONN);
    assert!(rig.has_quorum(3, 1000), "contact is not a link");
    rig.leader.removed(&rig.peer);
    assert!(!rig.has_quorum(3, 1000));
}
