//! (see links/mod.rs)
