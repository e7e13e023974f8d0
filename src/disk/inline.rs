//! The disk thread's work as a task, under simulated time: between a write and its
//! sync the time passes that the disk takes, and whatever else happens then, a power
//! cut too. Only built with the feature `test-hooks`.

use std::sync::Arc;

use smol::channel::{Receiver, unbounded};

use super::SimulatedDisk;
use super::worker::{
    ClusterFile, Job, Jobs, OpenClusters, Worker, is_dirty, release, sync, take, write,
};

impl Worker {
    /// Without a thread, on a simulated disk: whoever calls this runs the task, which
    /// does what the thread does and takes the time that the disk takes. What is asked
    /// for after the task was dropped is not done any more.
    pub fn simulated(disk: SimulatedDisk) -> (Self, impl Future<Output = ()> + 'static) {
        let (jobs, inbox) = unbounded();
        let worker = Self::served_by(Jobs::Task(jobs), Arc::new(disk.clone()));
        (worker, work(inbox, disk))
    }
}

/// Does what is asked for, until nobody can ask any more.
async fn work(inbox: Receiver<Job>, disk: SimulatedDisk) {
    let mut members = OpenClusters::new();
    while let Ok(job) = inbox.recv().await {
        take(&mut members, job);
        loop {
            while let Ok(job) = inbox.try_recv() {
                take(&mut members, job);
            }
            if !write(&mut members, ClusterFile::Log) {
                break;
            }
            pass_and_sync(&mut members, ClusterFile::Log, &disk).await;
            write(&mut members, ClusterFile::Hard);
            pass_and_sync(&mut members, ClusterFile::Hard, &disk).await;
            release(&mut members);
        }
    }
}

async fn pass_and_sync(members: &mut OpenClusters, part: ClusterFile, disk: &SimulatedDisk) {
    if is_dirty(members) {
        disk.pass().await;
        sync(members, part);
    }
}
