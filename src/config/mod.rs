//! What the operator said: file, environment and flags, parsed once, validated
//! and typed. Nothing outside this module reads the environment or a file of
//! the operator's.

pub mod limits;
