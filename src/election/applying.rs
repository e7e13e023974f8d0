//! How one peer applies what is committed, by its `status` (H31).

use crate::wire::utility::StatusReply;

/// What a peer's `status` shows of how it applies what is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applying {
    /// It has begun not long ago, and has not applied all yet: the last entry that it
    /// has.
    Until(u64),
    /// It goes on, or has everything.
    Well,
    /// The next entry to apply is not in its log.
    Never,
}

impl Applying {
    /// What a status shows after what was shown `before`; `commit` is committed here.
    pub(super) fn of(status: &StatusReply, before: Option<Self>, commit: u64) -> Self {
        let applied = status.last_applied;
        let moved = matches!(before, Some(Self::Until(x)) if applied > x);
        if status.commit_idx > applied.saturating_add(status.log_len) {
            Self::Never
        } else if applied >= commit || moved {
            Self::Well
        } else {
            Self::Until(applied)
        }
    }

    /// Whether the peer is to be asked again.
    pub(super) fn is_open(self) -> bool {
        self != Self::Well
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::testing::status;

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
            let mut applying = None;
            for (log_len, last_applied, commit_idx) in shown {
                let status = status("B", "", *log_len, *last_applied, *commit_idx);
                applying = Some(Applying::of(&status, applying, 90));
            }
            assert_eq!(applying, Some(told), "{shown:?}");
        }
    }
}
