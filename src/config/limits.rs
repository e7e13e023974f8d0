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

/// Size of a log segment as it is reserved, in bytes. Two exist per cluster: the
/// live one and the spare into which the next checkpoint goes. Three quarters
/// full, a segment asks for its checkpoint.
pub const DISK_SEGMENT_BYTES: u64 = 1 << 20;

/// Largest segment accepted or grown to, in bytes; recovery holds one of them in
/// memory.
pub const DISK_SEGMENT_BYTES_MAX: u64 = 512 << 20;

/// Largest frame of the log, in bytes: what one `append` or one checkpoint with
/// its tail may come to. Above any frame a peer can send.
pub const DISK_FRAME_BYTES_MAX: usize = 160 << 20;

/// How much of a cluster's queue one round of the disk thread takes, in bytes;
/// a single larger operation goes alone.
pub const DISK_ROUND_BYTES: usize = 4 << 20;

/// Most bytes that may wait for the disk thread in one cluster's queue; beyond
/// it operations are refused.
pub const DISK_QUEUE_BYTES_MAX: usize = 512 << 20;
