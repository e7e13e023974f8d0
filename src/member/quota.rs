//! The size of the key-value store (S15): what is committed is applied, whoever let
//! it in, so that a store can outgrow its quota while another leads. Then we vote
//! for nobody; and beyond the most that we can hold nothing more is stored. Both
//! end when the store shrinks.

use super::Member;
use crate::limits::{KV_BYTES_MAX, KV_BYTES_QUOTA_EXPIRING, KV_BYTES_WARN, KV_FULL_PAUSE};
use crate::links::follower::noncommittal;
use crate::reactor::Instant;
use crate::wire::message::NextNodeIdx;

/// How much the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fill {
    /// What Patroni writes.
    #[default]
    Usual,
    /// Far more.
    Large,
    /// More than the quota.
    BeyondQuota,
}

impl Fill {
    /// Of a store of so many bytes.
    pub const fn of(bytes: u64) -> Self {
        if bytes > KV_BYTES_QUOTA_EXPIRING {
            Self::BeyondQuota
        } else if bytes > KV_BYTES_WARN {
            Self::Large
        } else {
            Self::Usual
        }
    }
}

/// What is remembered of it.
#[derive(Debug, Default)]
pub struct Quota {
    /// What the log told last.
    told: Fill,
    /// When a leader was asked for a snapshot because nothing more can be stored.
    asked: Option<Instant>,
}

impl Member {
    pub(super) fn store_fill(&self) -> Fill {
        Fill::of(self.replica.borrow().store.bytes())
    }

    /// Says when the store has become too large, and when that is over.
    pub(super) fn watch_store(&self) {
        let fill = self.store_fill();
        let mut quota = self.quota.borrow_mut();
        if std::mem::replace(&mut quota.told, fill) == fill {
            return;
        }
        let bytes = self.replica.borrow().store.bytes();
        match fill {
            Fill::Usual => log::info!("{}: the store takes {bytes} bytes again", self.name),
            Fill::Large => log::warn!(
                "{}: the store takes {bytes} bytes, far more than Patroni writes: beyond {KV_BYTES_QUOTA_EXPIRING} this witness votes for nobody",
                self.name
            ),
            Fill::BeyondQuota => log::error!(
                "{}: the store takes {bytes} bytes, more than its quota of {KV_BYTES_QUOTA_EXPIRING}: this witness votes for nobody until what Patroni did not write is deleted",
                self.name
            ),
        }
    }

    /// Whether no further entries can be stored.
    pub(super) fn is_store_full(&self) -> bool {
        let replica = self.replica.borrow();
        let waiting = replica.log.from(replica.applied.next());
        let waiting = waiting.map(|stored| stored.entry.command.len() as u64);
        replica.store.bytes().saturating_add(waiting.sum()) > KV_BYTES_MAX
    }

    /// What a leader is told whose entries are not stored: nothing that it could
    /// count; and now and then to go back to the end of our log, for a snapshot if it
    /// has shortened its own since.
    pub(super) fn refuse_for_size(&self) -> NextNodeIdx {
        // Nothing is stuck that could be freed by building the engine anew.
        let now = Instant::now();
        self.accepted.set(now);
        let mut quota = self.quota.borrow_mut();
        let asked = quota.asked;
        let reset = asked.is_none_or(|asked| now.duration_since(asked) >= KV_FULL_PAUSE);
        if reset {
            quota.asked = Some(now);
            log::error!(
                "{}: the store and what waits for it take more than {KV_BYTES_MAX} bytes: nothing more is stored until a snapshot of the leader's brings a smaller one",
                self.name
            );
        }
        NextNodeIdx {
            reset,
            ..noncommittal(self.replica.borrow().log.last().index.next())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_the_last_that_is_kept() {
        for (bytes, fill) in [
            (0, Fill::Usual),
            (KV_BYTES_WARN, Fill::Usual),
            (KV_BYTES_WARN + 1, Fill::Large),
            (KV_BYTES_QUOTA_EXPIRING, Fill::Large),
            (KV_BYTES_QUOTA_EXPIRING + 1, Fill::BeyondQuota),
            (u64::MAX, Fill::BeyondQuota),
        ] {
            assert_eq!(Fill::of(bytes), fill, "{bytes}");
        }
    }
}
