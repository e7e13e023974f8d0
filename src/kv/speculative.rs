//! The state as of the log's end, where a leader judges proposals (S6): the
//! applied state with every entry carried out that is appended but not applied.
//! A delete that is harmless now is poison behind another one in flight.

use super::age::lifetime;
use super::call::Call;
use super::poison::Poison;
use super::rules::{Decision, Effect, decide};
use super::store::{Store, weight};
use super::table::{RowNumber, Table};
use crate::ids::LogIndex;
use crate::limits::{
    KV_BYTES_QUOTA, KV_BYTES_QUOTA_EXPIRING, KV_EXPIRING_BYTES_MAX, KV_EXPIRING_TIME_MAX,
};

/// Why a proposal must not enter the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposalError {
    /// It would stop or harm Python nodes (H1, H6).
    Poison(Poison),
    /// The store would grow beyond its quota (S15).
    Quota,
}

/// A speculative copy of a [`Store`], without ages.
///
/// A copy costs some counted references per key; what its entries wrote is held
/// twice until it is taken anew. Entries leave the tail by being applied to the
/// store, which does not change what the log's end looks like; so a tail stays
/// right while the log only grows. Take it anew
///
/// * on becoming leader: [`SpeculativeStore::of`] the store, then [`SpeculativeStore::append`] each
///   entry above the applied index, in order;
/// * whenever entries were truncated;
/// * when nothing is in flight and it holds much, to share its memory with the
///   store again.
#[derive(Debug, Clone)]
pub struct SpeculativeStore {
    table: Table<()>,
    /// What keys and values take, as [`Store::bytes`] counts.
    bytes: u64,
}

impl SpeculativeStore {
    /// The state of a log whose entries are all applied.
    pub fn of(store: &Store) -> Self {
        Self {
            table: store.bare(),
            bytes: store.bytes(),
        }
    }

    /// Takes in an entry that is in the log already: poison changes nothing, as
    /// when it is applied.
    pub fn append(&mut self, index: LogIndex, call: &Call) {
        if let Ok(decision) = decide(&self.table, index, call) {
            self.carry_out(decision);
        }
    }

    /// Judges a call that shall become entry `index`, the log's next, and takes
    /// it in if it may.
    ///
    /// Beyond the quota whatever makes no key larger may enter: deletions and
    /// expiry, by which the store shrinks, and the refresh of a leader key. Small
    /// keys that expire have some room more: one is a new primary's leader key.
    ///
    /// # Errors
    ///
    /// Why it must not enter the log. Nothing has changed.
    pub fn propose(&mut self, index: LogIndex, call: &Call) -> Result<(), ProposalError> {
        let decision = decide(&self.table, index, call).map_err(ProposalError::Poison)?;
        if let Some(harm) = decision.harm {
            return Err(ProposalError::Poison(harm));
        }
        let after = self.bytes_after(&decision.effect);
        if after > self.bytes.max(quota(&decision.effect)) {
            return Err(ProposalError::Quota);
        }
        self.carry_out(decision);
        Ok(())
    }

    /// What the store takes once this is carried out, in bytes.
    fn bytes_after(&self, effect: &Effect<'_>) -> u64 {
        let of_row = |place: RowNumber| {
            let row = self.table.at(place);
            row.map_or(0, |row| weight(&row.key) + weight(&row.stored))
        };
        let (gone, come) = match effect {
            Effect::Nothing => (0, 0),
            Effect::Put(key, stored) => (
                self.table.find(key).map_or(0, of_row),
                weight(key) + weight(stored),
            ),
            Effect::Delete(places) => (places.iter().map(|place| of_row(*place)).sum(), 0),
            Effect::Expire(place) => (of_row(*place), 0),
        };
        // Equal keys may be written in different ways: 2^70 as an int or a float.
        self.bytes.saturating_sub(gone).saturating_add(come)
    }

    /// What [`SpeculativeStore::propose`] would say, without taking the call in.
    pub fn would_raise(&self, index: LogIndex, call: &Call) -> Option<Poison> {
        match decide(&self.table, index, call) {
            Ok(decision) => decision.harm,
            Err(poison) => Some(poison),
        }
    }

    fn carry_out(&mut self, decision: Decision<'_>) {
        self.bytes = self.bytes_after(&decision.effect);
        match decision.effect {
            Effect::Nothing => {}
            Effect::Put(key, stored) => {
                self.table.put(key, stored, ());
            }
            Effect::Delete(places) => {
                for place in places {
                    self.table.remove(place);
                }
            }
            Effect::Expire(place) => {
                self.table.remove(place);
            }
        }
    }
}

/// Up to where the store may grow by this, in bytes.
fn quota(effect: &Effect<'_>) -> u64 {
    match effect {
        Effect::Put(key, stored)
            if weight(key) + weight(stored) <= KV_EXPIRING_BYTES_MAX
                && lifetime(stored).is_some_and(|time| time <= KV_EXPIRING_TIME_MAX) =>
        {
            KV_BYTES_QUOTA_EXPIRING
        }
        _ => KV_BYTES_QUOTA,
    }
}
