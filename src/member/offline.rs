//! What an operator may do to a cluster's state while its witness is stopped.

use std::path::PathBuf;
use std::rc::Rc;

use event_listener::Event;

use super::error::StartError;
use super::run::configured_members;
use crate::config::ClusterConfig;
use crate::disk::{self, Arrival, DiskError, Standing, Worker};
use crate::ids::{EntryId, LogIndex};
use crate::raft::replica::{self, Replica};
use crate::reactor::Instant;

/// What came of [`adopt`], with the last entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// It is a voter from now on.
    Now(EntryId),
    /// It was one: nothing was lost, and nothing is changed.
    Already(EntryId),
}

/// Makes a witness that lost its state a voter at once (S7), with what its log
/// holds now; what only the lost state or an unreachable data node held is
/// given up. A voter is left as it is.
///
/// # Errors
///
/// The state is in use by a running witness, or cannot be written.
pub async fn adopt(config: &ClusterConfig, worker: &Worker) -> Result<Adopted, StartError> {
    let (disk, recovered) = replica::open(&config.data_dir, worker).await?;
    let fresh = recovered.checkpoint.is_none();
    let members = configured_members(config);
    let me = config.self_addr.clone();
    let changed = Rc::new(Event::new());
    let mut replica = Replica::new(me, members, disk, recovered, changed, Instant::now())
        .map_err(StartError::Checkpoint)?;
    let end = |replica: &Replica| replica.log.last().entry_id();
    if replica.standing == Standing::Voter && replica.diverged.is_none() {
        let last = end(&replica);
        replica.disk.close().await?;
        return Ok(Adopted::Already(last));
    }
    if fresh {
        let (checkpoint, tail) = replica.checkpoint();
        replica
            .disk
            .install(checkpoint, tail, LogIndex::FIRST)
            .await?;
    }
    replica.standing = Standing::Voter;
    replica.arrival = Arrival::default();
    replica.diverged = None;
    replica.disk.save_hard_state(replica.hard_state()).await?;
    replica.disk.close().await?;
    Ok(Adopted::Now(end(&replica)))
}

/// Sets the cluster's state aside, in a folder beside it whose name is
/// returned; nothing is deleted. The next start is that of a new witness.
///
/// # Errors
///
/// The state is in use by a running witness, or cannot be moved.
pub fn reset(config: &ClusterConfig) -> Result<PathBuf, DiskError> {
    // Nothing is read: it may be what cannot be read that has to go.
    disk::set_aside(&config.data_dir, "reset")
}
