//! The disk thread's work as a task, under simulated time: between a write and its
//! sync the time passes that the disk takes, and whatever else happens then, a power
//! cut too. Only built with the feature `test-hooks`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use event_listener::Event;

use super::SimulatedDisk;
use super::worker::{Job, Members, Part, is_dirty, release, sync, take, write};

/// What the task is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Inbox(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    jobs: Mutex<VecDeque<Job>>,
    more: Event,
}

impl Inbox {
    pub(super) fn push(&self, job: Job) {
        let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.push_back(job);
        drop(jobs);
        self.0.more.notify(1);
    }

    fn pop(&self) -> Option<Job> {
        let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.pop_front()
    }
}

/// Does what is asked for, until it is dropped.
pub(super) async fn work(inbox: Inbox, disk: SimulatedDisk) {
    let mut members = Members::new();
    loop {
        let more = inbox.0.more.listen();
        while let Some(job) = inbox.pop() {
            take(&mut members, job);
        }
        if !write(&mut members, Part::Log) {
            more.await;
            continue;
        }
        for part in [Part::Log, Part::Hard] {
            if part == Part::Hard {
                write(&mut members, Part::Hard);
            }
            if is_dirty(&members) {
                disk.pass().await;
                sync(&mut members, part);
            }
        }
        release(&mut members);
    }
}
