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

/// Most values one pickle may push or hold once its shared parts are written
/// out: the guard against pickles that multiply themselves. A value costs about
/// 100 bytes while it is decoded; a Patroni cluster's snapshot has some hundred.
pub const PICKLE_VALUES_MAX: usize = 1 << 20;

/// Most bytes of text and `bytes` one pickle may hold once its shared parts are
/// written out.
pub const PICKLE_BYTES_MAX: usize = INFLATED_BYTES_MAX;

/// Most memo slots of one pickle.
pub const PICKLE_MEMO_MAX: usize = 1 << 20;

/// Widest `int` of a pickle, in bytes of two's complement. PySyncObj's fit 8.
pub const PICKLE_INT_BYTES_MAX: usize = 256;

/// Largest frame body, and largest plaintext, of a connection that has not said
/// who it is: a hello or a utility request is a few hundred bytes.
pub const HELLO_BYTES_MAX: usize = 16 << 10;

/// Buffers of a codec or a connection that grew beyond this are given back when
/// they are empty again.
pub const KEPT_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Most entries one message, snapshot or journal may carry.
pub const ENTRIES_MAX: usize = 1 << 18;
