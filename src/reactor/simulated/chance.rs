//! One generator for all that is drawn on a simulated thread; the thread's own
//! elsewhere.

use std::cell::RefCell;
use std::convert::Infallible;

use rand::rngs::SmallRng;
use rand::{SeedableRng as _, TryRng};

thread_local! {
    static SEEDED: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
}

/// From now on this thread draws what this seed gives.
pub(super) fn seed(seed: u64) {
    SEEDED.set(Some(SmallRng::seed_from_u64(seed)));
}

/// The generator of this thread.
#[derive(Debug, Clone, Copy)]
pub struct Rng;

#[allow(clippy::disallowed_methods, reason = "where nothing is simulated")]
fn with<T>(draw: impl FnOnce(&mut dyn TryRng<Error = Infallible>) -> T) -> T {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(seeded) => draw(seeded),
        None => draw(&mut rand::rng()),
    })
}

impl TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        with(|rng| rng.try_next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        with(|rng| rng.try_next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        with(|rng| rng.try_fill_bytes(bytes))
    }
}
