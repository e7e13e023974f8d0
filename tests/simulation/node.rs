//! The members of a world, whoever they are: what the world does to them and what
//! its oracle sees of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use pg_witness::address::Address;
use pg_witness::disk::{self, SimulatedDisk};
use pg_witness::reactor::simulated::nodes::Processes;

use crate::faults::LostFile;
use crate::pysyncobj::Files;

/// What is seen of a member that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The term in which it leads, if it does.
    pub leads: Option<u64>,
    /// The members of its log.
    pub members: BTreeSet<Address>,
    /// Whether its vote counts.
    pub votes: bool,
    /// How far its log is committed and applied.
    pub commit: u64,
    pub applied: u64,
    /// Term and index of its last entry.
    pub end: (u64, u64),
    /// What its store holds: keys with their values.
    pub store: BTreeMap<String, String>,
    /// Entries that it holds in memory.
    pub log_len: usize,
}

/// A copy of what a member has stored.
pub enum Backup {
    /// The disk of a witness.
    Disk(Box<disk::Backup>),
    /// The files of a PySyncObj node.
    Files(Files),
}

/// A member of a world. Its process is started by the world, and killed by dropping
/// the tasks of its host; what outlives that is what this holds.
pub trait Node {
    /// How the world calls it, and how its lines in the log begin.
    fn name(&self) -> &str;

    /// The address by which the others know it; its host is an IP address.
    fn address(&self) -> &Address;

    /// Starts its process on its host.
    fn start(&self, nodes: &mut Processes);

    /// What is seen of it; none while no process runs.
    fn view(&self) -> Option<View>;

    /// The vote that a line of its log tells: the term, and for whom.
    fn vote_of(&self, line: &str) -> Option<(u64, String)>;

    /// The term in which it began to lead, if a line of its log tells so.
    fn leads_of(&self, line: &str) -> Option<u64>;

    /// Whether a line of its log tells that it opens what it has on disk anew: what it
    /// held and was not durable may be gone.
    fn opens_state(&self, _line: &str) -> bool {
        false
    }

    /// The term that the group is in, if a line of its log tells that it sets its state
    /// aside because the others have begun again below its own terms (S13): a later term
    /// will come a second time, and is another.
    fn past_left_in(&self, _line: &str) -> Option<u64> {
        None
    }

    /// Whether it may vote twice in a term, for it forgets its vote (H7).
    fn may_vote_twice(&self) -> bool {
        false
    }

    /// Its disk, for what only a medium can do to it; none if it has another kind.
    fn disk(&self) -> Option<&SimulatedDisk>;

    /// Its process is about to be killed; with `power`, by that of its host, which
    /// takes with it what was not durable.
    fn dies(&self, power: bool);

    /// A copy of what it has stored by now.
    fn backup(&self) -> Backup;

    /// It does not run, and has stored again what it had when the copy was made.
    fn restore(&self, backup: &Backup);

    /// Whether there is a later release of it.
    fn can_upgrade(&self) -> bool {
        false
    }

    /// It does not run, and its program is replaced by its next release.
    fn upgrade(&self) {}

    /// It does not run, and a file of it is lost. Whether it has such files.
    fn loses(&self, _file: LostFile) -> bool {
        false
    }

    /// Its process lives and does nothing any more: whoever looks after it starts it
    /// again.
    fn is_dead(&self) -> bool {
        false
    }

    /// The host of its address.
    fn host(&self) -> IpAddr {
        self.address().host().parse().unwrap()
    }
}
