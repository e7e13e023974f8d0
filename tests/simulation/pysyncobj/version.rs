//! The releases of pysyncobj that a node can be, and each difference between
//! them that another member or an operator can notice. What is not asked for
//! here is the same in all of them.

/// A release of pysyncobj, with the release of Patroni that
/// `tests/requirements` pairs it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 2022-07, with Patroni 3.0.2.
    V0_3_11,
    /// 2025-02, with Patroni 3.3.7.
    V0_3_14,
    /// 2026-08, with Patroni 4.0.6.
    V0_3_16,
    /// With Patroni 4.1.5.
    V0_3_17,
}

impl Version {
    /// All of them, from the oldest.
    pub const ALL: [Self; 4] = [Self::V0_3_11, Self::V0_3_14, Self::V0_3_16, Self::V0_3_17];

    /// The text in `status` and in the header of a journal.
    pub fn text(self) -> &'static str {
        match self {
            Self::V0_3_11 => "0.3.11",
            Self::V0_3_14 => "0.3.14",
            Self::V0_3_16 => "0.3.16",
            Self::V0_3_17 => "0.3.17",
        }
    }

    /// The release after this one.
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|later| *later > self)
    }

    /// Term and vote are written to `.meta` before a message tells of them, and
    /// read at the start (spec 5.8). Else a restart begins at term 0 without a
    /// vote (H7).
    pub fn stores_term(self) -> bool {
        self >= Self::V0_3_16
    }

    /// The answer to entries names the index behind the last one; else the last
    /// one itself (spec 3.3).
    pub(super) fn acknowledges_last(self) -> bool {
        self >= Self::V0_3_14
    }

    /// A leader commits only entries of its own term, or what they cover
    /// (spec 5.5, H10).
    pub(super) fn commits_own_term(self) -> bool {
        self >= Self::V0_3_14
    }

    /// The commit index never follows a leader's downwards, nor does a match
    /// index a follower's (spec 3.3, 3.6, H10).
    pub(super) fn keeps_commit(self) -> bool {
        self >= Self::V0_3_14
    }

    /// The commit index is cut to the end of the log: after a truncation, and
    /// after a dump was loaded (spec 3.3).
    pub(super) fn clamps_commit(self) -> bool {
        self >= Self::V0_3_16
    }

    /// The read timer of a connection is asked before each send too (spec 1.5,
    /// H11).
    pub(super) fn checks_timer_on_send(self) -> bool {
        self >= Self::V0_3_14
    }

    /// An event on a silent connection closes it and then goes on with what the
    /// connection is by then: if the peer was dialled again at once, the new dial
    /// counts as successful in the same event.
    pub(super) fn goes_on_after_timeout(self) -> bool {
        self >= Self::V0_3_14
    }

    /// An `apply_command_response` for an entry that is applied already is an
    /// unknown outcome; else it raises (H3).
    pub(super) fn survives_late_response(self) -> bool {
        self >= Self::V0_3_16
    }

    /// A record of any size fits the journal; else one doubling of the file must
    /// be enough (H5).
    pub(super) fn grows_journal(self) -> bool {
        self >= Self::V0_3_16
    }

    /// `timeout_now` is obeyed and `transfer` is served (spec 5.7).
    pub(super) fn transfers(self) -> bool {
        self >= Self::V0_3_16
    }

    /// The queue of commands holds what it was told to; else one more (spec 9).
    pub(super) fn bounds_queue(self) -> bool {
        self >= Self::V0_3_17
    }

    /// Patroni since 3.0.3: `prevIndex` is a condition unless it is None, and
    /// `_set` returns what it stored; before, a false `prevIndex` is none, and it
    /// returns True (spec 6.4).
    pub(super) fn has_strict_index(self) -> bool {
        self >= Self::V0_3_14
    }
}
