//! The engine is built anew from the disk when it must be (S14); the links live on.

use std::rc::Rc;

use super::error::StartError;
use super::run::report_condition;
use super::{Member, RebuildReason};
use crate::limits;
use crate::links::follower::Vouched;
use crate::raft::replica::{self, Replica};
use crate::reactor::{Instant, Timer};

impl Member {
    /// Rebuilds the engine when it must be (S14); the links live on.
    pub(super) async fn supervise(self: &Rc<Self>) {
        loop {
            let listener = self.machinery.reported.listen();
            if self.machinery.stopping.get() {
                return;
            }
            let mut troubles = self.machinery.reports.borrow_mut().take();
            troubles.retain(|trouble| match trouble {
                // Two peers showed it one after the other: it is set aside already.
                RebuildReason::StalePast { peer, other } => self.is_stale(peer, other),
                _ => true,
            });
            // It may have been found while the engine was rebuilt for another reason.
            if troubles.is_empty() && self.machinery.foundation.borrow().is_some() {
                troubles.push(RebuildReason::NewFoundation);
            }
            if troubles.is_empty() {
                listener.await;
                continue;
            }
            for trouble in &troubles {
                let level = match trouble {
                    RebuildReason::NewFoundation => log::Level::Info,
                    _ => log::Level::Warn,
                };
                log::log!(level, "{}: starting again from disk: {trouble}", self.name);
            }
            self.rebuild(&troubles).await;
        }
    }

    async fn rebuild(self: &Rc<Self>, troubles: &[RebuildReason]) {
        self.counts
            .rebuilds
            .set(self.counts.rebuilds.get().saturating_add(1));
        self.stop_leading();
        self.stop_engine().await;
        self.lay_foundation().await;
        let closed = self.replica.borrow().disk.close();
        let _ = closed.await;
        let mut stale = troubles.iter().any(RebuildReason::is_of_the_log);
        let mut attempts = 0_u64;
        loop {
            attempts = attempts.saturating_add(1);
            self.pulse.beat();
            match self.recover(&mut stale).await {
                Ok(()) => {
                    self.machinery.disk_error.take();
                    return;
                }
                Err(error) => {
                    *self.machinery.disk_error.borrow_mut() = Some(error.to_string().into());
                    // Every second, perhaps for days.
                    if attempts.is_power_of_two() {
                        self.report_silence();
                    }
                }
            }
            if self.machinery.stopping.get() {
                return;
            }
            Timer::after(limits::REBUILD_PAUSE).await;
        }
    }

    /// Opens the state again; a log that is `stale` (S13) is set aside first,
    /// and never opened.
    async fn recover(self: &Rc<Self>, stale: &mut bool) -> Result<(), StartError> {
        if *stale {
            let folder =
                crate::disk::set_aside_of(&self.worker, &self.config.data_dir, "stale-past")?;
            *stale = false;
            log::error!(
                "{}: our log belongs to a history that the cluster has replaced; keeping it in {} and starting empty",
                self.name,
                folder.display()
            );
        }
        self.reopen().await
    }

    async fn reopen(self: &Rc<Self>) -> Result<(), StartError> {
        let (disk, recovered) = replica::open(&self.config.data_dir, &self.worker).await?;
        report_condition(&self.name, &recovered);
        let lost = recovered.set_aside;
        let fresh = recovered.checkpoint.is_none() && recovered.entries.is_empty();
        let members = self.replica.borrow().log.members().clone();
        let replica = Replica::new(
            self.me.clone(),
            members.clone(),
            disk,
            recovered,
            self.changed.clone(),
            Instant::now(),
        )
        .map_err(StartError::Checkpoint)?;
        *self.replica.borrow_mut() = replica;
        // What was reported meanwhile is about what is gone, and so is what was
        // compared with a leader's log but not durable.
        self.machinery.reports.borrow_mut().rebuilt();
        for link in self.sockets.links.borrow_mut().values_mut() {
            link.exchange.vouched = Vouched::default();
        }
        if fresh {
            self.found(members).await?;
        }
        // S7: what we listened to before, we may have helped to commit.
        self.begin_recovery(lost);
        self.start_engine().await
    }
}
