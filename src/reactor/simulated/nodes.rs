//! The processes of a simulation: one executor a host, polled in an order that the
//! seed decides. A kill drops an executor with all its tasks, where a task stands; a
//! frozen one is not polled while time passes. Only built with the feature
//! `test-hooks`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use smol::LocalExecutor;

use crate::reactor::{self, Instant, simulated};

/// Most tasks of one process that are polled before another has its turn.
const TURN_MAX: u32 = 16;

/// So many tasks are not polled at one instant but by a loop that never waits.
const POLLS_MAX: u32 = 10_000_000;

thread_local! {
    /// The executor of the process that is running.
    static RUNNING: RefCell<Option<Rc<LocalExecutor<'static>>>> = const { RefCell::new(None) };
}

/// Starts a task in the process that is running; where none is, the future is given
/// back.
pub(in crate::reactor) fn spawn<F: Future + 'static>(future: F) -> Result<smol::Task<F::Output>, F>
where
    F::Output: 'static,
{
    match RUNNING.with_borrow(Clone::clone) {
        Some(executor) => Ok(executor.spawn(future)),
        None => Err(future),
    }
}

#[derive(Default)]
struct SimulatedProcess {
    executor: Rc<LocalExecutor<'static>>,
    frozen: bool,
}

/// All processes of a simulation, one a host, and its time.
pub struct Processes {
    processes: BTreeMap<IpAddr, SimulatedProcess>,
    polls: u32,
}

impl Processes {
    /// Makes this thread a simulation of this seed, until it ends.
    #[must_use]
    pub fn begin(seed: u64) -> Self {
        simulated::begin(seed);
        Self {
            processes: BTreeMap::new(),
            polls: 0,
        }
    }

    /// Starts a task on a host, in the process that runs there; the first one starts
    /// that process.
    pub fn spawn<T: 'static>(
        &mut self,
        host: IpAddr,
        future: impl Future<Output = T> + 'static,
    ) -> smol::Task<T> {
        let process = self.processes.entry(host).or_default();
        process.executor.spawn(future)
    }

    /// Ends the process of a host, as `SIGKILL` does: its kernel closes what it had
    /// open.
    pub fn kill(&mut self, host: IpAddr) {
        if let Some(process) = self.processes.remove(&host) {
            simulated::on(host, move || drop(process));
            assert!(
                !simulated::network::is_held(host),
                "a process outlives its kill"
            );
        }
    }

    /// Ends the process of a host with its kernel: nobody hears of it.
    pub fn power_off(&mut self, host: IpAddr) {
        simulated::network::power_off(host);
        self.kill(host);
    }

    /// Stops the process of a host, as `SIGSTOP` does: its kernel goes on.
    pub fn freeze(&mut self, host: IpAddr) {
        self.set_frozen(host, true);
    }

    /// Lets the process of a host go on.
    pub fn thaw(&mut self, host: IpAddr) {
        self.set_frozen(host, false);
    }

    fn set_frozen(&mut self, host: IpAddr, frozen: bool) {
        if let Some(process) = self.processes.get_mut(&host) {
            process.frozen = frozen;
        }
    }

    /// Whether the process of a host is frozen.
    #[must_use]
    pub fn is_frozen(&self, host: IpAddr) -> bool {
        self.processes
            .get(&host)
            .is_some_and(|process| process.frozen)
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, || false);
    }

    /// Lets time pass until something is so, at most so much. Whether it is.
    pub fn run_until(&mut self, time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + time;
        loop {
            let busy = self.poll();
            if is_so() {
                return true;
            }
            if busy {
                continue;
            }
            self.polls = 0;
            if !simulated::advance(end) {
                return is_so();
            }
        }
    }

    /// Gives every process a turn. Whether any had something to do.
    fn poll(&mut self) -> bool {
        let mut turns: Vec<(IpAddr, Rc<LocalExecutor<'static>>)> = self
            .processes
            .iter()
            .filter(|(_, process)| !process.frozen && !process.executor.is_empty())
            .map(|(host, process)| (*host, process.executor.clone()))
            .collect();
        turns.shuffle(&mut reactor::rng());
        let mut polled = 0;
        for (host, executor) in turns {
            let turn = reactor::rng().random_range(1..=TURN_MAX);
            polled += simulated::on(host, || {
                enter(&executor, || {
                    (0..turn).take_while(|_| executor.try_tick()).count()
                })
            });
        }
        self.polls = self
            .polls
            .saturating_add(u32::try_from(polled).unwrap_or(u32::MAX));
        assert!(self.polls < POLLS_MAX, "a task never waits");
        polled > 0
    }
}

/// Runs something as part of a process.
fn enter<T>(executor: &Rc<LocalExecutor<'static>>, run: impl FnOnce() -> T) -> T {
    let before = RUNNING.replace(Some(executor.clone()));
    let done = run();
    RUNNING.set(before);
    done
}
