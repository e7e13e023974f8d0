//! How much of the one thread a connection may use: charges and instants in,
//! pauses out. Pure.

use std::time::Duration;

use crate::limits::CpuShare;
use crate::reactor::Instant;

/// What was used of a [`CpuShare`] and is not paid back yet. Time pays it back.
#[derive(Debug)]
pub struct Account {
    share: CpuShare,
    debt: Duration,
    /// Up to when `debt` is reckoned.
    settled: Instant,
}

impl Account {
    /// An account without debt.
    pub fn new(share: CpuShare, now: Instant) -> Self {
        Self {
            share,
            debt: Duration::ZERO,
            settled: now,
        }
    }

    /// Books `cost`. A debt that would mean a longer pause than the share's is
    /// forgiven, so that nobody is forgotten for one expensive message.
    pub fn charge(&mut self, now: Instant, cost: Duration) {
        let most = self.share.burst + self.repaid_in(self.share.pause_max);
        self.debt = self.debt(now).saturating_add(cost).min(most);
        self.settled = self.settled.max(now);
    }

    /// What is owed.
    pub fn debt(&self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.settled);
        self.debt.saturating_sub(self.repaid_in(passed))
    }

    /// How long to pause until the debt is within the burst again.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        let over = self.debt(now).checked_sub(self.share.burst)?;
        let pause = over.saturating_mul(1_000) / self.share.per_mille.max(1);
        (!pause.is_zero()).then_some(pause)
    }

    fn repaid_in(&self, time: Duration) -> Duration {
        time.saturating_mul(self.share.per_mille) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PAUSE_MAX: Duration = Duration::from_secs(10);
    const TENTH: CpuShare = CpuShare {
        per_mille: 100,
        burst: Duration::from_millis(50),
        pause_max: PAUSE_MAX,
    };

    #[test]
    fn a_flood_gets_its_share_and_no_more() {
        // S16: what each message costs does not matter.
        for cost in [MS / 10, MS, MS * 70] {
            let start = Instant::now();
            let mut account = Account::new(TENTH, start);
            let (mut now, mut used) = (start, Duration::ZERO);
            while now < start + MS * 60_000 {
                account.charge(now, cost);
                used += cost;
                now += cost + account.pause(now + cost).unwrap_or_default();
            }
            assert!(
                (MS * 5_900..=MS * 6_200).contains(&used),
                "{used:?} of 60 s"
            );
        }
    }

    #[test]
    fn the_burst_is_free_and_idleness_pays_it_back() {
        let start = Instant::now();
        let mut account = Account::new(TENTH, start);
        account.charge(start, MS * 50);
        assert_eq!(account.pause(start), None);
        account.charge(start, MS);
        assert_eq!(account.pause(start), Some(MS * 10));
        assert_eq!(account.pause(start + MS * 10), None);
        // No more than the burst is saved up.
        let later = start + MS * 3_600_000;
        account.charge(later, MS * 60);
        assert_eq!(account.pause(later), Some(MS * 100));
    }

    #[test]
    fn no_pause_is_longer_than_the_cap() {
        let start = Instant::now();
        let mut account = Account::new(TENTH, start);
        account.charge(start, MS * 3_600_000);
        account.charge(start, Duration::MAX);
        assert_eq!(account.pause(start), Some(PAUSE_MAX));
        assert_eq!(account.pause(start + PAUSE_MAX), None);
    }

    #[test]
    fn an_earlier_instant_changes_nothing() {
        let start = Instant::now();
        let mut account = Account::new(TENTH, start + MS * 100);
        account.charge(start + MS * 100, MS * 60);
        account.charge(start, MS);
        assert_eq!(account.pause(start + MS * 100), Some(MS * 110));
    }
}
