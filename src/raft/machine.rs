//! The replica as openraft's state machine: committed entries are applied to
//! the key-value store, one by one, in order. There is no other way in.

use std::io;
use std::rc::Rc;

use futures_lite::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::SnapshotOf;
use openraft::{OptionalSend, storage::Snapshot};

use super::checkpoint::CheckpointState;
use super::replica::Shared;
use super::types::{LogId, SnapshotMeta, StoredMembership, TypeConfig, epoch_id, log_id};
use crate::disk::StoredEntry;
use crate::kv::Change;
use crate::reactor::Instant;

/// A snapshot as it passes through openraft. One of ours is empty: what a peer
/// needs is encoded when it is sent.
pub type SnapshotData = Option<Rc<CheckpointState>>;

/// openraft's handle of the state machine.
#[derive(Clone)]
pub struct StateMachine {
    /// The replica.
    pub replica: Shared,
    /// The cluster's name, for the log.
    pub name: Rc<str>,
}

impl StateMachine {
    fn meta(&self) -> SnapshotMeta {
        let replica = self.replica.borrow();
        SnapshotMeta {
            last_log_id: replica.log.id_at(replica.applied).map(log_id),
            last_membership: replica.stored_membership(),
        }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
        Ok(Snapshot {
            meta: self.meta(),
            snapshot: None,
        })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let SnapshotMeta {
            last_log_id,
            last_membership,
            ..
        } = self.meta();
        Ok((last_log_id, last_membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let index = epoch_id(&entry.log_id).index;
            let applied = self.replica.borrow_mut().apply(index, Instant::now());
            match applied.map(|applied| (applied.poison, applied.change)) {
                Some((Some(poison), _)) => log::error!(
                    "{}: entry {index} stops Python nodes: {poison}; it changes nothing here",
                    self.name
                ),
                Some((None, Change::Expired(key))) => {
                    log::info!(
                        "{}: key expired: {}",
                        self.name,
                        key.as_str().unwrap_or("?")
                    );
                }
                _ => {}
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        self.replica.borrow().notify();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let (Some(state), Some(last)) = (snapshot, &meta.last_log_id) else {
            return Err(io::Error::other("a snapshot without content"));
        };
        let epoch = last.committed_leader_id().term.epoch;
        let mut state = CheckpointState::clone(&state);
        state.last.epoch = epoch;
        let installed = {
            let mut replica = self.replica.borrow_mut();
            replica.install(state, Instant::now());
            let (checkpoint, tail): (_, Vec<StoredEntry>) = replica.checkpoint();
            let commit = replica.log.commit();
            replica.disk.install(checkpoint, tail, commit)
        };
        installed.await.map_err(io::Error::other)?;
        self.replica.borrow().notify();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotData>>> {
        let meta = self.meta();
        let purged = self.replica.borrow().purged.is_some();
        Ok(purged.then_some(Snapshot {
            meta,
            snapshot: None,
        }))
    }
}
