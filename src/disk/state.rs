//! What is kept of one cluster, and what an opening finds of it. Values only.

use std::path::PathBuf;
use std::sync::Arc;

use crate::address::Address;
use crate::ids::{Entry, EntryId, LogIndex, Term};

/// An entry as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// How often terms went back before it (E1); opaque here.
    pub epoch: u32,
    /// The entry.
    pub entry: Entry,
}

/// Term and vote, and whether we may vote at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardState {
    /// The vote's epoch (E2); opaque here.
    pub epoch: u32,
    /// The current term.
    pub term: Term,
    /// Whom we voted for in it.
    pub voted_for: Option<Address>,
    /// Whether that member is known to lead.
    pub committed: bool,
    /// Voter or amnesic.
    pub standing: Standing,
    /// Set while a leader's log contradicts what is committed here (S2): no vote,
    /// no campaign, no success.
    pub diverged: Option<Diverged>,
    /// What it was shown before it had a vote.
    pub arrival: Arrival,
}

/// What a member without a vote was shown of the cluster, as far as that decides
/// when it gets one (S7 b, c). What an older version wrote holds nothing of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Somebody has shown that the cluster holds something.
    pub saw_data: bool,
    /// The first answer of a leader to `members`, while the log was empty.
    pub reading: Option<Reading>,
}

/// What a leader's answer to `members` said of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// We are a member.
    Listed,
    /// We are none.
    Unlisted {
        /// The leader's log did not reach beyond this.
        end: LogIndex,
    },
}

/// A leader's log contradicted what is committed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diverged {
    /// The entry as committed here.
    pub ours: EntryId,
    /// The entry as the leader has it.
    pub theirs: EntryId,
    /// The term in which that leader led.
    pub leader_term: Term,
}

/// Whether this member's memory can be trusted with a vote (S7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It remembers all that it acknowledged.
    Voter,
    /// It lost its state, or never had any: no vote, no campaign, no success.
    Recovering,
    /// A voter that remembers what all others have forgotten: it keeps what it
    /// holds to itself until one of them shows it, or an operator decides.
    Orphaned,
}

/// The state machine as of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last entry it covers, with that entry's epoch.
    pub last: (u32, EntryId),
    /// The state, opaque here.
    pub body: Arc<[u8]>,
}

/// What an opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// What was last saved, or a later save that was under way. In a folder where
    /// state was once set aside and nothing saved since, it is amnesic at term 0.
    pub hard_state: Option<HardState>,
    /// The latest checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The log: contiguous, beginning at the latest behind the checkpoint's last
    /// entry.
    pub entries: Vec<StoredEntry>,
    /// The greatest commit index on record, never beyond the log's end.
    pub commit: Option<LogIndex>,
    /// How the files were found.
    pub condition: Condition,
    /// State was set aside in this folder, now or earlier.
    pub set_aside: bool,
}

impl Recovered {
    /// Whether nothing was found that was saved: what is told of the hard state then
    /// follows from that alone.
    pub fn is_without_state(&self) -> bool {
        !matches!(
            self.condition,
            Condition::Intact | Condition::TornTail { .. }
        )
    }
}

/// Judges whether the owner of a state can read it; else says what it cannot.
pub type ReadableBy = fn(&Recovered) -> Result<(), String>;

/// How an opening found the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// No state, and none was ever set aside here.
    Fresh,
    /// All that was written.
    Intact,
    /// All that was acknowledged; a write that was under way is cut off.
    TornTail {
        /// Length of what was cut.
        bytes: u64,
    },
    /// No state: it was set aside earlier, by an operator's `reset` or as damage, and
    /// none was saved since. Begin amnesic (S7).
    SetAside {
        /// Where it is.
        folder: PathBuf,
    },
    /// Acknowledged state is lost: begin amnesic (S7).
    Damaged {
        /// What cannot be read, for the operator.
        what: String,
        /// Where the files were put.
        set_aside: PathBuf,
    },
}
