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

/// Commands in one append, in bytes; the entry that crosses it is included, as
/// in Python's `appendEntriesBatchSizeBytes` (spec 5.5).
pub const APPEND_BATCH_BYTES: usize = 64 << 10;

/// Most entries in one append: bounds the frame when commands are tiny.
pub const APPEND_BATCH_ENTRIES: usize = 1024;

/// Most appends to one peer that wait for their reply; at the cap no heartbeat
/// is sent until the peer reads again or its reply timeout closes the link.
pub const UNANSWERED_APPENDS_MAX: usize = 64;

/// One chunk of a snapshot in transfer, in bytes: Python's own size (spec 3.5).
pub const SNAPSHOT_CHUNK_BYTES: usize = 64 << 10;

/// Bytes of a snapshot that may be queued to one peer before its connection
/// reports that it takes more.
pub const SNAPSHOT_WINDOW_BYTES: usize = 256 << 10;
