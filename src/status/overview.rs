//! The model: the process, its clusters, and of each the Raft group and the
//! PostgreSQL clusters whose keys it holds.

use serde::Serialize;

use super::scope::Scope;
use super::verdict::Verdict;
use crate::reason::{Level, Reason, Remedy};

/// All that is known, when somebody asked.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Overview {
    /// The process and the machine.
    pub watcher: Watcher,
    /// Every cluster, or those asked for.
    pub clusters: Vec<ClusterOverview>,
}

/// Our own condition, of the process.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Watcher {
    /// Of the program.
    pub version: &'static str,
    /// The wall clock, RFC 3339.
    pub time: String,
    /// Since the start of the process, in seconds.
    pub uptime_s: u64,
    /// Whether everything makes progress; else what does not.
    pub stalled: Option<String>,
    /// What the machine has to say, where it is ours: sentences.
    pub notes: Vec<String>,
    /// Resident memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// CPU time used since the start, in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Open file descriptors.
    pub open_files: Option<u64>,
}

/// One Raft group and the PostgreSQL clusters whose keys it holds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterOverview {
    /// Its configured name.
    pub cluster: String,
    /// Whether a failover would work now; of several PostgreSQL clusters the
    /// worst.
    pub failover: Verdict,
    /// The Raft group.
    pub raft: Raft,
    /// What Patroni keeps in it, by scope.
    pub postgresql: Vec<Scope>,
    /// What does not fit together, or should be known.
    pub notes: Vec<Note>,
}

/// The Raft group as this member sees it: a field for each key of the status's JSON.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Raft {
    /// Our own advertised address.
    pub self_addr: String,
    /// Where we stand, as configured.
    pub zone: Option<String>,
    /// `leader`, `follower`, `candidate` or `stopped`; `diverged` or `orphaned`
    /// where it follows nobody for that reason.
    pub state: &'static str,
    /// Whether our word counts: we vote and acknowledge.
    pub votes: bool,
    /// Why it does not, in words.
    pub why: Option<String>,
    /// Why it does not: the name of a [`crate::reason::Reason`].
    pub reason: Option<&'static str>,
    /// What ends that.
    pub remedy: Option<Remedy>,
    /// How bad that is.
    #[serde(skip)]
    pub reason_level: Level,
    /// The current term.
    pub term: u64,
    /// Who leads, as far as heard of lately.
    pub leader: Option<String>,
    /// How long ago the leader was heard of, in milliseconds; 0 if it is us.
    pub leader_heard_ms: Option<u64>,
    /// How long we have known it to lead, in milliseconds. Before that nobody may
    /// have been able to write.
    pub leader_since_ms: Option<u64>,
    /// Committed up to here.
    pub commit_index: u64,
    /// Applied up to here.
    pub applied_index: u64,
    /// The log ends here.
    pub last_index: u64,
    /// Nothing that the leader sends is taken in: what the store says of
    /// PostgreSQL is as old as that.
    pub store_outdated: bool,
    /// All members, ourselves included, by address.
    pub members: Vec<RaftMember>,
    /// How many members make a majority.
    pub needed: usize,
    /// How many are there, seen from here: those with a link, and ourselves.
    pub reachable: usize,
    /// Whether a majority is there and somebody leads it.
    pub quorum: bool,
    /// Whether a majority of votes would be left if any one member went.
    pub survives_one_more_loss: bool,
    /// Since the start or the last rebuild.
    pub counters: CountersOverview,
    /// What its folder's device does.
    pub disk: DiskOverview,
}

/// What was counted; a rebuild of the engine begins some of them anew.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CountersOverview {
    /// Committed entries that harm the Python nodes.
    pub poison_entries: u64,
    /// Keys expired.
    pub keys_expired: u64,
    /// Connections refused, for there were too many or their network may not.
    pub refused_connections: u64,
    /// Connections that sent an unreadable message.
    pub unreadable_connections: u64,
    /// Appends that the engine refused.
    pub refused_appends: u64,
    /// Rebuilds of the engine from disk.
    pub rebuilds: u64,
    /// Keys in the store, and bytes that it takes.
    pub keys: u64,
    /// See `keys`.
    pub key_bytes: u64,
}

/// What is known of the disk, since the folder was opened.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskOverview {
    /// Bytes written, in sectors of 512 bytes, since midnight UTC.
    pub sectors_today: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Syncs completed.
    pub syncs: u64,
    /// How long the last took, in microseconds.
    pub sync_last_us: u64,
    /// How long the slowest took, in microseconds.
    pub sync_max_us: u64,
}

/// One member of the Raft group.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RaftMember {
    /// By which the members know it.
    pub address: String,
    /// Whether it is us.
    pub this: bool,
    /// Whether it leads, as far as we know.
    pub leader: bool,
    /// Whether we have a link to it; true for ourselves.
    pub connected: bool,
    /// The software and version that it told.
    pub version: Option<String>,
    /// What it had committed, or is known to hold, when it last told.
    pub commit_index: Option<u64>,
    /// How long ago it told, in milliseconds.
    pub told_ms: Option<u64>,
}

/// Something that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Note {
    /// How bad it is.
    pub level: Level,
    /// A sentence.
    pub text: String,
    /// The name of a [`crate::reason::Concern`], where it is one.
    pub reason: Option<&'static str>,
    /// What to do about it, where that is known.
    pub remedy: Option<Remedy>,
}

impl Note {
    /// A note of a level.
    pub fn new(level: Level, text: impl Into<String>) -> Self {
        Self {
            level,
            text: text.into(),
            reason: None,
            remedy: None,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }
}

impl Raft {
    /// Counts what follows from the members: `needed`, `reachable`, `quorum`
    /// and `survives_one_more_loss`.
    pub fn count(&mut self) {
        let total = self.members.len();
        let others = self.connected_others();
        let ours = usize::from(self.members.iter().any(|member| member.this));
        self.needed = total / 2 + 1;
        self.reachable = others + ours;
        let votes = others + usize::from(self.votes);
        self.quorum = self.leader.is_some() && votes >= self.needed;
        // Any one: another member, or we ourselves.
        self.survives_one_more_loss = self.quorum && votes > self.needed && others >= self.needed;
    }

    /// Whether we have left the group because it wants no vote of ours: then it is whole
    /// without us.
    pub fn has_withdrawn(&self) -> bool {
        self.reason == Some(Reason::NotWanted.name())
    }

    /// Members other than ourselves that we have a link to.
    pub fn connected_others(&self) -> usize {
        let others = self.members.iter().filter(|member| !member.this);
        others.filter(|member| member.connected).count()
    }
}
