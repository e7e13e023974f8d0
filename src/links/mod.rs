//! Links to peers. [`leader`] and [`votes`] translate between Raft and what
//! PySyncObj peers say and expect; they do no I/O and read no clock.

pub mod leader;
pub mod votes;
