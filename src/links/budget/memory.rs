//! How many bytes all connections of one kind may hold together for what is half
//! received or not yet sent. Pure.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes that several holders share.
#[derive(Debug)]
pub struct Pool {
    limit: usize,
    used: Cell<usize>,
}

impl Pool {
    /// A pool of `limit` bytes.
    pub fn new(limit: usize) -> Rc<Self> {
        let used = Cell::new(0);
        Rc::new(Self { limit, used })
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.get()
    }
}

/// What one holder has of a pool; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    pool: Rc<Pool>,
    /// Bytes that are this holder's own and not the pool's.
    reserve: usize,
    /// The most that it may have of the pool.
    most: usize,
    /// Bytes taken from the pool.
    taken: usize,
}

impl Reservation {
    /// A holder of nothing yet. It has `reserve` bytes of its own, and at most
    /// `most` bytes of the pool.
    pub fn new(pool: Rc<Pool>, reserve: usize, most: usize) -> Self {
        Self {
            pool,
            reserve,
            most,
            taken: 0,
        }
    }

    /// Holds `bytes` in all from now on, or refuses; then nothing changes, and
    /// the holder must let go of what it holds.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let wanted = bytes.saturating_sub(self.reserve);
        let others = self.pool.used.get().saturating_sub(self.taken);
        let used = others.saturating_add(wanted);
        // To shrink is always in order.
        if wanted > self.taken && (wanted > self.most || used > self.pool.limit) {
            return false;
        }
        self.pool.used.set(used);
        self.taken = wanted;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let used = self.pool.used.get().saturating_sub(self.taken);
        self.pool.used.set(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_stay_within_the_pool() {
        // S16
        let pool = Pool::new(100);
        let mut one = Reservation::new(pool.clone(), 0, 100);
        let mut other = Reservation::new(pool.clone(), 0, 100);
        assert!(one.resize(60) && other.resize(40));
        assert!(!other.resize(41) && !one.resize(61));
        assert_eq!(pool.used(), 100);
        assert!(one.resize(20) && other.resize(80));
        drop(one);
        assert!(other.resize(100));
        drop(other);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn one_alone_cannot_have_it_all() {
        let pool = Pool::new(100);
        let mut greedy = Reservation::new(pool.clone(), 0, 25);
        assert!(greedy.resize(25) && !greedy.resize(26));
        assert_eq!(pool.used(), 25);
    }

    #[test]
    fn a_reserve_is_there_when_the_pool_is_empty() {
        let pool = Pool::new(100);
        let mut crowd = Reservation::new(pool.clone(), 0, 100);
        let mut known = Reservation::new(pool.clone(), 10, 100);
        assert!(crowd.resize(100));
        assert!(known.resize(10) && !known.resize(11));
        assert!(crowd.resize(50) && known.resize(60));
        assert_eq!(pool.used(), 100);
    }
}
