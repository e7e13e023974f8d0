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

/// Largest configuration file or variable, in bytes; Patroni's take a few
/// thousand.
pub const CONFIG_BYTES_MAX: usize = 256 << 10;

/// Deepest nesting of a configuration, aliases included.
pub const CONFIG_DEPTH_MAX: usize = 64;

/// Values plus bytes of text that YAML anchors may copy: the guard against
/// aliases that multiply themselves.
pub const CONFIG_COPIED_MAX: usize = 256 << 10;

/// Most files read from a configuration folder.
pub const CONFIG_FILES_MAX: usize = 64;

/// Most clusters one process serves.
pub const CLUSTERS_MAX: usize = 1024;

/// Most partners of one cluster.
pub const PARTNERS_MAX: usize = 64;

/// Longest cluster name, in bytes.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;

/// Largest password file, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 4096;

/// Longest time that may be configured, in seconds: a day.
pub const SECONDS_MAX: f64 = 86_400.0;
