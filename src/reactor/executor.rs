//! The executor of this thread: every task of the process runs on it, in turns.
//! One thread runs everything, so nothing here is `Send`. Nothing that blocks may
//! be spawned.

use std::future::Future;

use smol::LocalExecutor;

use super::epoll;
#[cfg(feature = "test-hooks")]
use super::simulated::nodes;

thread_local! {
    static EXECUTOR: &'static LocalExecutor<'static> = Box::leak(Box::new(LocalExecutor::new()));
}

/// Starts a task on this thread's executor, or on that of the simulated process
/// that is running. Dropping the handle cancels the task.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> smol::Task<T> {
    #[cfg(feature = "test-hooks")]
    let future = match nodes::spawn(future) {
        Ok(task) => return task,
        Err(future) => future,
    };
    EXECUTOR.with(|executor| executor.spawn(future))
}

/// Runs this thread's tasks, and waits for their events, until `future` is done.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let executor = EXECUTOR.with(|executor| *executor);
    epoll::block_on(executor.run(future))
}
