//! What is looked at every half second.

use std::rc::Rc;
use std::time::Duration;

use super::{Member, RebuildReason};
use crate::limits;
use crate::reactor::{Instant, Timer};

/// How often a member looks at its housekeeping; a leader sooner, if a key is
/// due.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// The least pause between two looks.
const HOUSEKEEPING_MIN: Duration = Duration::from_millis(20);

impl Member {
    /// E7: a voter that hears a leader and accepts nothing of it for long is
    /// stuck, whatever the cause; link and engine begin anew.
    fn watch_progress(&self) {
        let leader = self.known_leader().filter(|leader| *leader != self.me);
        let due = leader
            .filter(|leader| self.has_voice() && self.elector.peers.borrow().is_verified(leader));
        let Some(leader) = due else {
            self.accepted.set(Instant::now());
            return;
        };
        if self.accepted.get().elapsed() >= limits::STALL_TIME {
            self.accepted.set(Instant::now());
            if self.ends_early(&leader) {
                self.diverge_from_shorter(&leader);
                return;
            }
            if let Some(connection) = self.connection(&leader) {
                connection.abort();
            }
            log::warn!(
                "{}: {} appends were not accepted by the engine since the start",
                self.name,
                self.counts.refused_appends.get()
            );
            self.report(RebuildReason::Stalled);
        }
    }

    /// How long a leader may rest: until a key is due, if that is soon.
    fn until_due(&self) -> Duration {
        let now = Instant::now();
        let leadership = self.leadership.borrow();
        let expiry = leadership.as_ref().map(|l| l.expiry.borrow());
        let under_way = |writing| expiry.as_ref().is_some_and(|e| e.is_under_way(writing));
        let due = self.replica.borrow().store.next_due(now, under_way);
        let rest = due.map_or(HOUSEKEEPING, |due| due.saturating_duration_since(now));
        rest.clamp(HOUSEKEEPING_MIN, HOUSEKEEPING)
    }

    pub(super) async fn tick(self: Rc<Self>) {
        let mut ticked = Instant::now();
        loop {
            let leading = self.leadership.borrow().is_some();
            let pause = if leading {
                self.until_due()
            } else {
                HOUSEKEEPING
            };
            Timer::after(pause).await;
            let now = Instant::now();
            let steady = now.duration_since(ticked) <= limits::TICK_GAP_MAX;
            ticked = now;
            self.replica.borrow_mut().store.tick(now);
            self.keep_alive();
            self.watch_progress();
            self.watch_store();
            self.consider_placement();
            self.look_for_primaries();
            self.review_newcomer();
            self.verify_peers();
            self.restore_members(now);
            self.teach_waiting();
            // S8: after a gap what waits in the sockets is read first.
            if leading && steady {
                self.lead(now).await;
            }
            let long = {
                let replica = self.replica.borrow();
                let log = &replica.log;
                log.len() > limits::LOG_ENTRIES_MAX
                    && replica.applied.get().saturating_sub(log.first().get())
                        > limits::LOG_ENTRIES_KEPT
            };
            if long && let Some(engine) = self.engine() {
                let _ = engine.compact().await;
            }
        }
    }
}
