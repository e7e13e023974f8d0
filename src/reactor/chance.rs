//! The one source of chance: the thread's generator, seeded by the kernel, or that
//! of a simulation, seeded by who began it.

use rand::RngExt as _;
use rand::distr::{Distribution, StandardUniform};

/// The generator of [`rng`].
#[cfg(not(feature = "test-hooks"))]
pub type Rng = rand::rngs::ThreadRng;
#[cfg(feature = "test-hooks")]
pub use super::simulated::chance::Rng;

/// The thread's generator.
#[must_use]
#[allow(
    clippy::disallowed_methods,
    reason = "this is what is to be called instead"
)]
pub fn rng() -> Rng {
    #[cfg(not(feature = "test-hooks"))]
    let rng = rand::rng();
    #[cfg(feature = "test-hooks")]
    let rng = Rng;
    rng
}

/// A value, drawn uniformly from all of its type.
#[must_use]
pub fn draw<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    rng().random()
}
