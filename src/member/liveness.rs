//! Whether clusters make progress: each has a pulse that its engine's answers
//! keep going, and its supervisor's attempts where there is no engine.
//!
//! This is not health. A cluster without a quorum, a leader, a disk or a vote of
//! its own is alive as long as somebody works at it: to start the process again
//! would help nobody, and in the middle of a failover it would cost the vote.
//! What is found here is an engine that stands still for good.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::Member;
use crate::limits;
use crate::raft::runtime::SmolRuntime;
use crate::reactor::Timer;
use openraft_rt::AsyncRuntime as _;

/// One cluster's sign of life.
#[derive(Debug)]
pub struct Pulse {
    cluster: Rc<str>,
    /// How long nothing was heard, as [`Vitals::pass`] counts it.
    quiet: Cell<Duration>,
}

impl Pulse {
    /// The pulse of the cluster of this name, as fresh as one can be.
    pub fn new(cluster: Rc<str>) -> Self {
        Self {
            cluster,
            quiet: Cell::default(),
        }
    }

    /// Progress was made.
    pub fn beat(&self) {
        self.quiet.set(Duration::ZERO);
    }

    fn is_alive(&self) -> bool {
        self.quiet.get() < limits::ENGINE_SILENCE_MAX
    }
}

/// The pulses of all clusters of this process.
#[derive(Debug, Default)]
pub struct Vitals(RefCell<Vec<Weak<Pulse>>>);

impl Vitals {
    /// Watches one more cluster, as long as somebody keeps its pulse.
    pub fn watch(&self, pulse: &Rc<Pulse>) {
        self.0.borrow_mut().push(Rc::downgrade(pulse));
    }

    /// Time has passed on this thread: `time` is what was slept for, not what a
    /// clock shows. A process that was stopped, or a board that stalled, has not
    /// been silent in between (S8).
    pub fn pass(&self, time: Duration) {
        self.0.borrow_mut().retain(|pulse| {
            let Some(pulse) = pulse.upgrade() else {
                return false;
            };
            pulse.quiet.set(pulse.quiet.get().saturating_add(time));
            true
        });
    }

    /// The clusters that make no progress; none of them is news as good as it
    /// gets.
    pub fn silent(&self) -> Vec<Rc<str>> {
        let pulses = self.0.borrow();
        let pulses = pulses.iter().filter_map(Weak::upgrade);
        let silent = pulses.filter(|pulse| !pulse.is_alive());
        silent.map(|pulse| pulse.cluster.clone()).collect()
    }
}

impl Member {
    /// The sign of life of this cluster.
    pub fn pulse(&self) -> &Rc<Pulse> {
        &self.pulse
    }

    /// Stops the engine's tasks and nothing else, for the tests.
    #[cfg(feature = "test-hooks")]
    pub fn stop_engine_tasks(&self) {
        if let Some(engine) = self.engine() {
            engine.stand_still();
        }
    }

    /// Asks the engine, again and again, and takes its answers for life. While
    /// there is none, the supervisor's attempts to make one count instead.
    pub(super) async fn monitor_engine(self: Rc<Self>) {
        loop {
            Timer::after(limits::PULSE_PERIOD).await;
            let Some(engine) = self.engine() else {
                continue;
            };
            // One that does not answer in time may have been replaced meanwhile.
            let answer = SmolRuntime::timeout(limits::PULSE_PERIOD, engine.answer()).await;
            if matches!(answer, Ok(Ok(()))) {
                self.pulse.beat();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_in_time_that_this_thread_has_slept() {
        let vitals = Vitals::default();
        let [a, b] = ["a", "b"].map(|name| Rc::new(Pulse::new(name.into())));
        vitals.watch(&a);
        vitals.watch(&b);
        assert!(vitals.silent().is_empty());

        let nearly = limits::ENGINE_SILENCE_MAX - Duration::from_secs(1);
        vitals.pass(nearly);
        assert!(vitals.silent().is_empty());
        a.beat();
        vitals.pass(Duration::from_secs(1));
        assert_eq!(vitals.silent(), [Rc::from("b")]);

        b.beat();
        assert!(vitals.silent().is_empty());
    }

    #[test]
    fn a_cluster_that_ended_is_not_missed() {
        let vitals = Vitals::default();
        let pulse = Rc::new(Pulse::new("a".into()));
        vitals.watch(&pulse);
        vitals.pass(limits::ENGINE_SILENCE_MAX);
        assert_eq!(vitals.silent(), [Rc::from("a")]);
        drop(pulse);
        assert!(vitals.silent().is_empty());
    }
}
