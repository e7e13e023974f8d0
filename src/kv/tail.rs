//! The state as of the log's end, where a leader judges proposals (S6): the
//! applied state with every entry carried out that is appended but not applied.
//! A delete that is harmless now is poison behind another one in flight.

use super::call::Call;
use super::rules::{Decision, Effect, Poison, decide};
use super::store::Store;
use super::table::Table;
use crate::wire::ids::LogIndex;

/// A speculative copy of a [`Store`], without ages.
///
/// A copy costs some counted references per key; what its entries wrote is held
/// twice until it is taken anew. Entries leave the tail by being applied to the
/// store, which does not change what the log's end looks like; so a tail stays
/// right while the log only grows. Take it anew
///
/// * on becoming leader: [`Tail::of`] the store, then [`Tail::append`] each
///   entry above the applied index, in order;
/// * whenever entries were truncated;
/// * when nothing is in flight and it holds much, to share its memory with the
///   store again.
#[derive(Debug, Clone)]
pub struct Tail {
    table: Table<()>,
}

impl Tail {
    /// The state of a log whose entries are all applied.
    pub fn of(store: &Store) -> Self {
        Self {
            table: store.bare(),
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
    /// # Errors
    ///
    /// Why it must not enter the log (H1, H6). Nothing has changed; the proposer
    /// gets error 6, which its Patroni takes for the `False` that it is.
    pub fn propose(&mut self, index: LogIndex, call: &Call) -> Result<(), Poison> {
        let decision = decide(&self.table, index, call)?;
        if let Some(harm) = decision.harm {
            return Err(harm);
        }
        self.carry_out(decision);
        Ok(())
    }

    /// What [`Tail::propose`] would say, without taking the call in.
    pub fn would_raise(&self, index: LogIndex, call: &Call) -> Option<Poison> {
        match decide(&self.table, index, call) {
            Ok(decision) => decision.harm,
            Err(poison) => Some(poison),
        }
    }

    fn carry_out(&mut self, decision: Decision<'_>) {
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
