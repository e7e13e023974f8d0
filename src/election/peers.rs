//! What the other members have shown of themselves since the start: one record for
//! each, over all its connections.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::applying::Applying;
use super::lack::Lack;
use crate::address::Address;
use crate::ids::Term;
use crate::reactor::Instant;
use crate::reason::VoteRefusal;
use crate::wire::utility::{StatusReply, WITNESS};

/// The first pysyncobj that keeps its term and understands `timeout_now` (spec
/// 5.7, H7).
const KEEPS_ITS_TERM: [u32; 3] = [0, 3, 16];

/// How often a peer that does not answer is asked before it counts as one that
/// cannot: it may be reachable only from its side.
const QUESTIONS_MAX: u32 = 3;

/// From an answer, or none, to the next question.
const QUESTION_PAUSE: Duration = Duration::from_secs(1);

/// The version of a pysyncobj node; none of another witness, which would only
/// hand leadership on, and forgets nothing.
fn pysyncobj(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

/// What a peer's `status` told last, for whoever looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What it runs, or claims to; fit to be shown.
    pub version: Rc<str>,
    /// Its commit index.
    pub commit: u64,
    /// Its term.
    pub term: Term,
    /// When it said so.
    pub at: Instant,
}

/// What one peer has shown: all of it in one record, so that a new connection forgets in
/// one place what has to be asked anew.
#[derive(Debug, Clone, Default)]
pub struct PeerRecord {
    // --- what it is -------------------------------------------------------
    told: Option<Told>,
    verified: bool,
    takes_leadership: bool,
    forgets_terms: bool,
    disowns: bool,

    // --- what it holds ----------------------------------------------------
    pub(super) lack: Option<Lack>,
    pub(super) to_be_taught: bool,
    pub(super) applying: Option<Applying>,

    // --- how it is asked --------------------------------------------------
    /// A question for what `verified` needs is on its way.
    asking: bool,
    /// Not to be asked again before.
    pause: Option<Instant>,
    /// How often in a row, over this connection, it did not answer.
    unanswered: u32,
    /// A question for `told` is on its way.
    refreshing: bool,
    silent: bool,
    /// Who answered last in its place, unknown if it named no address.
    answered_by: Option<Option<Address>>,
    /// How often that has changed to somebody.
    misdirected: u64,

    // --- what was said of it ----------------------------------------------
    /// Why it was given no vote when it last asked.
    refused: Option<VoteRefusal>,
    /// The term in which it claimed to lead beside another.
    second_leader: Option<Term>,
    /// When it last claimed a leadership that we do not follow.
    ignored: Option<Instant>,
}

impl PeerRecord {
    /// Whether it showed that our log is no stale past of its cluster (S13).
    pub fn is_verified(&self) -> bool {
        self.verified
    }

    /// Whether leadership can be handed over to it (0.3.16 and later).
    pub fn takes_leadership(&self) -> bool {
        self.takes_leadership
    }

    /// Whether it begins again at term 0 when it restarts (0.3.15 and earlier; H7).
    pub fn forgets_terms(&self) -> bool {
        self.forgets_terms
    }

    /// Whether it does not take us for a member: nobody tells a node that it was
    /// removed (H16).
    pub fn disowns(&self) -> bool {
        self.verified && self.disowns
    }

    /// What it told of itself last.
    pub fn told(&self) -> Option<&Told> {
        self.told.as_ref()
    }

    /// Whether it did not answer when it was asked last, though it did before: it may
    /// be gone, and TCP not know it yet.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Whether it claimed a leadership that we do not follow within this time.
    pub fn is_ignored(&self, within: Duration, now: Instant) -> bool {
        let ignored = self.ignored;
        ignored.is_some_and(|at| now.saturating_duration_since(at) <= within)
    }
}

/// The records of all peers.
#[derive(Debug, Default)]
pub struct PeerTable(BTreeMap<Address, PeerRecord>);

impl PeerTable {
    /// A peer's record; none if nothing is known of it.
    pub fn get(&self, peer: &Address) -> Option<&PeerRecord> {
        self.0.get(peer)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &PeerRecord> {
        self.0.values()
    }

    pub(super) fn record(&mut self, peer: &Address) -> &mut PeerRecord {
        self.0.entry(peer.clone()).or_default()
    }

    fn is(&self, peer: &Address, what: impl FnOnce(&PeerRecord) -> bool) -> bool {
        self.get(peer).is_some_and(what)
    }

    /// See [`PeerRecord::is_verified`].
    pub fn is_verified(&self, peer: &Address) -> bool {
        self.is(peer, PeerRecord::is_verified)
    }

    /// See [`PeerRecord::takes_leadership`].
    pub fn takes_leadership(&self, peer: &Address) -> bool {
        self.is(peer, PeerRecord::takes_leadership)
    }

    /// See [`PeerRecord::forgets_terms`].
    pub fn forgets_terms(&self, peer: &Address) -> bool {
        self.is(peer, PeerRecord::forgets_terms)
    }

    /// See [`PeerRecord::is_silent`].
    pub fn is_silent(&self, peer: &Address) -> bool {
        self.is(peer, PeerRecord::is_silent)
    }

    /// Whether it told to be a witness.
    pub fn is_witness(&self, peer: &Address) -> bool {
        self.told(peer)
            .is_some_and(|told| told.version.starts_with(WITNESS))
    }

    /// See [`PeerRecord::told`].
    pub fn told(&self, peer: &Address) -> Option<&Told> {
        self.get(peer)?.told()
    }

    /// The peer is connected anew: it may have restarted.
    pub fn connected_anew(&mut self, peer: &Address) {
        let record = self.record(peer);
        record.verified = false;
        record.lack = None;
        record.applying = None;
        record.to_be_taught = false;
        record.silent = false;
        // What was asked before says nothing of it as it is now.
        record.asking = false;
        // It is there now: its vote request may come within a moment.
        record.pause = None;
        record.unanswered = 0;
    }

    // --- questions for its status -------------------------------------------

    /// Whether to ask the peer for its `status` now; if so the question is on its way.
    /// It is asked until it is verified, has shown that it holds and applies what is
    /// committed here, as long as another answers at its address, for then nobody dials
    /// there, and as long as it is `wanted` for another reason.
    pub fn begin_question(&mut self, peer: &Address, wanted: bool, now: Instant) -> bool {
        let record = self.record(peer);
        let open = !record.verified
            || record.lack.is_some()
            || record.answered_by.is_some()
            || record.applying.is_some_and(Applying::is_open);
        let paused = record.pause.is_some_and(|until| until > now);
        (open || wanted) && !paused && !std::mem::replace(&mut record.asking, true)
    }

    /// The question has its answer, or none.
    pub fn end_question(&mut self, peer: &Address, now: Instant) {
        let record = self.record(peer);
        record.asking = false;
        record.pause = Some(now + QUESTION_PAUSE);
    }

    /// The peer is connected and did not answer. Whether it is trusted from now on
    /// without an answer.
    pub fn no_answer(&mut self, peer: &Address) -> bool {
        let record = self.record(peer);
        record.unanswered = record.unanswered.saturating_add(1);
        record.unanswered >= QUESTIONS_MAX && !std::mem::replace(&mut record.verified, true)
    }

    /// What we dialled as the peer is connected, and nobody answered at its address.
    pub fn dialled_in_silence(&mut self, peer: &Address) {
        let record = self.record(peer);
        record.unanswered = record.unanswered.saturating_add(1);
    }

    /// Whether the address may have led elsewhere when it was dialled: it was not
    /// answered then, so who answers there now says nothing of what is connected.
    pub fn is_doubtful(&self, peer: &Address) -> bool {
        self.get(peer)
            .is_some_and(|record| !record.verified && record.unanswered > 0)
    }

    /// The peer's answer: what it is, and what it told. `me`: our own address.
    pub fn answered(&mut self, peer: &Address, status: &StatusReply, told: Told, me: &Address) {
        let version = pysyncobj(&status.version);
        let listed = status.partners.iter().any(|p| p.address == *me);
        let record = self.record(peer);
        record.disowns = status.leader.is_some() && !listed;
        record.takes_leadership = version.is_some_and(|version| version >= KEEPS_ITS_TERM);
        record.forgets_terms = version.is_some_and(|version| version < KEEPS_ITS_TERM);
        record.told = Some(told);
    }

    /// Its answer spoke for it (S13).
    pub fn verified(&mut self, peer: &Address) {
        self.record(peer).verified = true;
    }

    /// Notes who answered at the peer's address, if another did. How often that
    /// was news, if it is now.
    pub fn answered_by(&mut self, peer: &Address, other: Option<Option<Address>>) -> Option<u64> {
        let record = self.record(peer);
        let news = other.is_some() && record.answered_by != other;
        record.answered_by = other;
        record.misdirected = record.misdirected.saturating_add(u64::from(news));
        news.then_some(record.misdirected)
    }

    /// Whether another answered last at its address.
    pub fn leads_elsewhere(&self, peer: &Address) -> bool {
        self.get(peer)
            .is_some_and(|record| record.answered_by.is_some())
    }

    /// Whether what was dialled at its address is known to be the peer itself.
    pub fn is_itself(&self, peer: &Address) -> bool {
        self.is_verified(peer) && !self.leads_elsewhere(peer)
    }

    /// Whether to ask the peer for the eye's sake: what it told is older than `fresh`,
    /// or it is silent, and nobody asks yet.
    pub fn begin_refresh(&mut self, peer: &Address, fresh: Duration, now: Instant) -> bool {
        let record = self.record(peer);
        let told = record.told.as_ref();
        let old = told.is_none_or(|told| now.saturating_duration_since(told.at) >= fresh);
        (old || record.silent) && !std::mem::replace(&mut record.refreshing, true)
    }

    /// Ends what [`PeerTable::begin_refresh`] began. The answer is only shown: what is
    /// believed of the peer is for [`PeerTable::answered`] to learn.
    pub fn end_refresh(&mut self, peer: &Address, answer: Option<Told>) {
        let record = self.record(peer);
        record.refreshing = false;
        record.silent = answer.is_none() && record.told.is_some();
        record.told = answer.or(record.told.take());
    }

    // --- what was said of it --------------------------------------------------

    /// Notes why the peer gets no vote. Whether that is news: without a leader
    /// it asks again every second.
    pub fn refuse(&mut self, peer: &Address, why: VoteRefusal) -> bool {
        self.record(peer).refused.replace(why) != Some(why)
    }

    /// Notes that the peer claims to lead `term` beside another. Whether that is
    /// news: it says so with every heartbeat.
    pub fn claims(&mut self, peer: &Address, term: Term) -> bool {
        self.record(peer).second_leader.replace(term) != Some(term)
    }

    /// Notes that the peer claims a leadership that we do not follow.
    pub fn ignore(&mut self, peer: &Address, now: Instant) {
        self.record(peer).ignored = Some(now);
    }

    /// See [`PeerRecord::is_ignored`].
    pub fn is_ignored(&self, peer: &Address, within: Duration, now: Instant) -> bool {
        self.is(peer, |record| record.is_ignored(within, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::testing::{address, status};

    const SECOND: Duration = Duration::from_secs(1);

    fn told(at: Instant) -> Told {
        Told {
            version: "0.3.17".into(),
            commit: 9,
            term: Term::ZERO,
            at,
        }
    }

    #[test]
    fn a_version_says_what_a_node_can_do() {
        for (version, takes_leadership, forgets_terms) in [
            ("0.3.11", false, true),
            ("0.3.15", false, true),
            ("0.3.16", true, false),
            ("0.4.0", true, false),
            ("1.0.0", true, false),
            ("pg-witness 0.1.0", false, false),
            ("", false, false),
            ("0.3", false, false),
        ] {
            let (peer, now) = (address("B"), Instant::now());
            let mut peers = PeerTable::default();
            let mut shown = status("B", "A W", 9, 9, 9);
            shown.version = version.into();
            peers.answered(&peer, &shown, told(now), &address("W"));
            assert_eq!(peers.takes_leadership(&peer), takes_leadership, "{version}");
            assert_eq!(peers.forgets_terms(&peer), forgets_terms, "{version}");
        }
    }

    #[test]
    fn a_peer_is_asked_once_at_a_time_until_nothing_is_open() {
        let (peer, start) = (address("B"), Instant::now());
        let mut peers = PeerTable::default();
        assert!(peers.begin_question(&peer, false, start));
        assert!(
            !peers.begin_question(&peer, false, start + SECOND),
            "on its way"
        );
        peers.end_question(&peer, start + SECOND);
        assert!(
            !peers.begin_question(&peer, false, start + SECOND),
            "a pause"
        );
        assert!(peers.begin_question(&peer, false, start + 2 * SECOND));
        peers.verified(&peer);
        peers.end_question(&peer, start + 2 * SECOND);
        assert!(!peers.begin_question(&peer, false, start + 9 * SECOND));
        assert!(peers.begin_question(&peer, true, start + 9 * SECOND));
        // A new connection waits for no pause, and not for the old answer.
        peers.connected_anew(&peer);
        assert!(!peers.is_verified(&peer));
        assert!(peers.begin_question(&peer, false, start + 9 * SECOND));
    }

    #[test]
    fn who_cannot_be_asked_is_trusted_in_the_end() {
        let peer = address("B");
        let mut peers = PeerTable::default();
        assert!(!peers.no_answer(&peer) && !peers.no_answer(&peer));
        assert!(!peers.is_verified(&peer));
        assert!(peers.no_answer(&peer) && peers.is_verified(&peer));
        assert!(!peers.no_answer(&peer), "no news");
    }

    #[test]
    fn only_who_follows_a_leader_and_does_not_list_us_disowns_us() {
        let (peer, now) = (address("B"), Instant::now());
        for (leader, partners, verified, disowns) in [
            (Some("A"), "A W", true, false),
            (Some("A"), "A", true, true),
            (None, "A", true, false),
            (Some("A"), "A", false, false),
        ] {
            let mut peers = PeerTable::default();
            let mut shown = status("B", partners, 9, 9, 9);
            shown.leader = leader.map(address);
            peers.answered(&peer, &shown, told(now), &address("W"));
            if verified {
                peers.verified(&peer);
            }
            assert_eq!(peers.get(&peer).unwrap().disowns(), disowns, "{partners}");
        }
    }

    #[test]
    fn what_was_told_is_asked_for_again_when_it_is_old() {
        let (peer, start) = (address("B"), Instant::now());
        let mut peers = PeerTable::default();
        assert!(peers.begin_refresh(&peer, SECOND, start));
        assert!(!peers.begin_refresh(&peer, SECOND, start), "on its way");
        peers.end_refresh(&peer, None);
        assert!(!peers.is_silent(&peer), "it never answered");
        peers.end_refresh(&peer, Some(told(start)));
        assert!(!peers.begin_refresh(&peer, SECOND, start));
        assert!(peers.begin_refresh(&peer, SECOND, start + SECOND));
        peers.end_refresh(&peer, None);
        assert!(peers.is_silent(&peer) && peers.told(&peer).is_some());
        assert!(peers.begin_refresh(&peer, SECOND, start), "it is silent");
    }

    #[test]
    fn what_is_said_again_and_again_is_news_once() {
        let (peer, other) = (address("B"), Some(Some(address("C"))));
        let mut peers = PeerTable::default();
        assert!(
            peers.refuse(&peer, VoteRefusal::NoMember)
                && !peers.refuse(&peer, VoteRefusal::NoMember)
        );
        assert!(peers.refuse(&peer, VoteRefusal::Led));
        assert!(peers.claims(&peer, Term::ZERO) && !peers.claims(&peer, Term::ZERO));
        assert_eq!(peers.answered_by(&peer, other.clone()), Some(1));
        assert_eq!(peers.answered_by(&peer, other.clone()), None);
        assert_eq!(peers.answered_by(&peer, None), None);
        assert_eq!(peers.answered_by(&peer, other), Some(2));
    }

    #[test]
    fn what_was_dialled_is_the_peer_once_that_has_said_so() {
        let (peer, other) = (address("A"), Some(address("B")));
        let mut peers = PeerTable::default();
        peers.connected_anew(&peer);
        assert!(!peers.is_itself(&peer), "not asked yet");
        peers.verified(&peer);
        assert!(peers.is_itself(&peer));
        peers.answered_by(&peer, Some(other));
        assert!(peers.leads_elsewhere(&peer) && !peers.is_itself(&peer));
        peers.answered_by(&peer, None);
        assert!(peers.is_itself(&peer) && !peers.leads_elsewhere(&peer));
        peers.connected_anew(&peer);
        assert!(!peers.is_itself(&peer), "another connection");
    }

    #[test]
    fn what_was_dialled_in_silence_is_not_who_answers_later() {
        let peer = address("A");
        let mut peers = PeerTable::default();
        peers.connected_anew(&peer);
        assert!(!peers.is_doubtful(&peer));
        peers.dialled_in_silence(&peer);
        assert!(peers.is_doubtful(&peer));
        peers.connected_anew(&peer);
        assert!(!peers.is_doubtful(&peer), "another connection");
        peers.verified(&peer);
        peers.dialled_in_silence(&peer);
        assert!(!peers.is_doubtful(&peer), "it had answered before");
    }

    #[test]
    fn it_is_asked_as_long_as_another_answers_in_its_place() {
        let (peer, other) = (address("A"), Some(address("B")));
        let now = Instant::now();
        let mut peers = PeerTable::default();
        peers.verified(&peer);
        assert!(!peers.begin_question(&peer, false, now));
        // Whoever asked, for whatever reason.
        peers.answered_by(&peer, Some(other));
        assert!(peers.begin_question(&peer, false, now));
        peers.answered_by(&peer, None);
        peers.end_question(&peer, now);
        assert!(!peers.begin_question(&peer, false, now + QUESTION_PAUSE));
    }
}
