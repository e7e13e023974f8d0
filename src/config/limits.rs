//! Every cap in one place (S10): what a peer, a disk or an operator can make
//! this program hold, in bytes, counts or time. A cap that is reached is a
//! counted, logged refusal, never a panic and never silent growth.

/// Largest frame body accepted from a peer, in bytes (spec 2.1).
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Largest zlib or gzip plaintext accepted, in bytes: the guard against
/// compression bombs (H28).
pub const INFLATED_BYTES_MAX: usize = 64 << 20;

/// Deepest nesting of containers in a pickle.
pub const PICKLE_DEPTH_MAX: usize = 64;

/// Most values one pickle may build, memo copies included: the guard against
/// pickles that multiply themselves.
pub const PICKLE_VALUES_MAX: usize = 4 << 20;

/// Longest step of the clock between two of our own ticks that counts towards
/// the age of a key (S8): a process that was stopped, or a board that stalled,
/// has not heard the refreshes that came meanwhile.
pub const TICK_GAP_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// Key-value state above this many bytes is worth a warning in `status`. It is
/// no refusal: what is committed must be applied, or the replicas part.
pub const KV_BYTES_WARN: u64 = 16 << 20;
