//! Which expiries a leader proposes (S8): each writing of a key once, as soon as it is
//! due, and again only if the proposal was refused.
//!
//! Whether a writing is due is the store's word (`kv`), and whether a proposal is
//! accepted the engine's. openraft refuses while its quorum has not spoken for a while,
//! so a refusal is ordinary.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::LogIndex;
use crate::reactor::Instant;

/// From one proposal to the next of what was refused before, at least.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);

/// How far the expiry of one writing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpiryStage {
    /// Proposed and not answered.
    Proposed,
    /// In the log. It stays due until that is applied; if it is due even then, the
    /// entry had no effect, and another would have none.
    Accepted,
    /// It did not get into the log.
    Refused,
}

/// The expiries of one leadership. `W` names a writing of a key: one value that was
/// stored under it, and none that is stored later.
#[derive(Debug)]
pub struct Expiry<W> {
    /// The NO_OP with which the leadership began. Before that is applied, a refresh may
    /// stand in the log that we have not seen.
    first: LogIndex,
    under_way: BTreeMap<W, ExpiryStage>,
    /// When something was proposed last.
    proposed: Option<Instant>,
}

impl<W: Ord + Copy> Expiry<W> {
    /// We lead from now on; `first`: the entry with which that begins.
    pub fn new(first: LogIndex) -> Self {
        Self {
            first,
            under_way: BTreeMap::new(),
            proposed: None,
        }
    }

    /// What to propose now. `due`: all writings whose time is over, those under way
    /// included; `applied`: the last entry that they take into account. Each that is
    /// returned must be answered by [`Self::answered`].
    pub fn on_due(
        &mut self,
        due: impl IntoIterator<Item = W>,
        applied: LogIndex,
        now: Instant,
    ) -> Vec<W> {
        if applied < self.first {
            return Vec::new();
        }
        let due: BTreeSet<W> = due.into_iter().collect();
        let paused = self
            .proposed
            .is_some_and(|at| now.saturating_duration_since(at) < REFUSED_PAUSE);
        self.under_way.retain(|writing, stage| match stage {
            ExpiryStage::Proposed => true,
            ExpiryStage::Accepted => due.contains(writing),
            ExpiryStage::Refused => paused,
        });
        let due = due.into_iter();
        let proposed: Vec<W> = due.filter(|writing| !self.is_under_way(*writing)).collect();
        let stages = proposed
            .iter()
            .map(|writing| (*writing, ExpiryStage::Proposed));
        self.under_way.extend(stages);
        if !proposed.is_empty() {
            self.proposed = Some(now);
        }
        proposed
    }

    /// What became of a proposal: whether it is in the log.
    pub fn answered(&mut self, writing: W, accepted: bool) {
        if let Some(stage) = self.under_way.get_mut(&writing) {
            *stage = match accepted {
                true => ExpiryStage::Accepted,
                false => ExpiryStage::Refused,
            };
        }
    }

    /// Whether nothing is to be done for this writing when it is due: its expiry is on
    /// its way, or was refused just now.
    pub fn is_under_way(&self, writing: W) -> bool {
        self.under_way.contains_key(&writing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(index: u64) -> LogIndex {
        LogIndex::new(index).unwrap()
    }

    /// One look at what is due, and what becomes of what is proposed.
    struct Look {
        at_ms: u64,
        applied: u64,
        /// A letter for each writing that is due.
        due: &'static str,
        proposed: &'static str,
        /// Answers that come then: `a+`: the proposal is in the log; `a-`: refused.
        answers: &'static str,
    }

    const fn look(
        at_ms: u64,
        applied: u64,
        due: &'static str,
        proposed: &'static str,
        answers: &'static str,
    ) -> Look {
        Look {
            at_ms,
            applied,
            due,
            proposed,
            answers,
        }
    }

    /// A leadership that begins with entry 7.
    #[test]
    fn what_is_proposed() {
        let tables: [(&str, &[Look]); 9] = [
            (
                "not before our first entry is applied",
                &[
                    look(0, 5, "a", "", ""),
                    look(20, 6, "ab", "", ""),
                    look(40, 7, "ab", "ab", "a+ b+"),
                ],
            ),
            (
                "once, until it is applied",
                &[
                    look(0, 7, "a", "a", ""),
                    look(900, 7, "a", "", "a+"),
                    look(1800, 7, "a", "", ""),
                    look(2700, 8, "", "", ""),
                ],
            ),
            (
                "the next at once",
                &[
                    look(0, 7, "a", "a", "a+"),
                    look(20, 7, "ab", "b", "b+"),
                    look(40, 7, "abc", "c", "c+"),
                ],
            ),
            (
                "again when it was refused, after a pause",
                &[
                    look(0, 7, "a", "a", "a-"),
                    look(20, 7, "a", "", ""),
                    look(499, 7, "a", "", ""),
                    look(500, 7, "a", "a", "a-"),
                    look(999, 7, "a", "", ""),
                    look(1000, 7, "a", "a", "a+"),
                    look(2000, 7, "a", "", ""),
                ],
            ),
            (
                "only what was refused",
                &[
                    look(0, 7, "abc", "abc", "a+ b-"),
                    look(500, 7, "abc", "b", "b+ c-"),
                    look(1000, 7, "abc", "c", "c+"),
                ],
            ),
            (
                "the pause begins with each proposal, whatever of",
                &[
                    look(0, 7, "a", "a", "a-"),
                    look(400, 7, "ab", "b", "b+"),
                    look(500, 7, "ab", "", ""),
                    look(900, 7, "ab", "a", "a+"),
                ],
            ),
            (
                "nothing that was written anew meanwhile",
                &[
                    look(0, 7, "a", "a", "a-"),
                    look(500, 8, "", "", ""),
                    look(30_500, 9, "b", "b", "b+"),
                ],
            ),
            (
                "an answer that comes late",
                &[
                    look(0, 7, "a", "a", ""),
                    look(600, 7, "a", "", "a-"),
                    look(620, 7, "a", "a", "a+"),
                ],
            ),
            (
                "not again what is due though its expiry is applied",
                &[
                    look(0, 7, "a", "a", "a+"),
                    look(600, 8, "a", "", ""),
                    look(60_000, 900, "a", "", ""),
                ],
            ),
        ];
        for (name, looks) in tables {
            let (start, mut expiry) = (Instant::now(), Expiry::new(index(7)));
            for look in looks {
                let now = start + Duration::from_millis(look.at_ms);
                let proposed = expiry.on_due(look.due.chars(), index(look.applied), now);
                let proposed: String = proposed.into_iter().collect();
                assert_eq!(proposed, look.proposed, "{name}, at {} ms", look.at_ms);
                for answer in look.answers.split_whitespace() {
                    let writing = answer.chars().next().unwrap();
                    expiry.answered(writing, answer.ends_with('+'));
                }
            }
        }
    }

    #[test]
    fn it_is_under_way_until_it_is_applied_or_may_be_proposed_again() {
        let (start, mut expiry) = (Instant::now(), Expiry::new(index(7)));
        assert!(!expiry.is_under_way('a'));
        expiry.on_due("ab".chars(), index(7), start);
        assert!(expiry.is_under_way('a') && expiry.is_under_way('b'));
        expiry.answered('a', true);
        expiry.answered('b', false);
        assert!(expiry.is_under_way('a') && expiry.is_under_way('b'));
        expiry.on_due("".chars(), index(8), start + REFUSED_PAUSE);
        assert!(!expiry.is_under_way('a') && !expiry.is_under_way('b'));
        expiry.answered('c', false);
        assert!(!expiry.is_under_way('c'), "of another leadership");
    }
}
