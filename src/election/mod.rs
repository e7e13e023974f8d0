//! What a member decides: whether its word counts, whom it believes, when it stands
//! for election, how it joins and whom it restores.
//!
//! Pure values: events and instants come in, decisions go out. There is no socket, no
//! disk, no clock and no task in here, and no line of log: all of that is `member`'s,
//! which turns what happens into events and carries out what is decided. So the tests
//! are tables.
//!
//! * [`eligibility`]: what proves that our word counts (S7);
//! * [`peers`]: what each peer has shown of itself, in one record;
//! * [`memory`]: whether the others remember what is committed here;
//! * [`past`]: whether our log is from a past that the group has left (S13);
//! * [`terms`]: which term is believed, and when a leader counts as there;
//! * [`canvass`]: what the others say of a leader that we do not hear;
//! * [`candidacy`]: whether to stand for election;
//! * [`applying`]: members that cannot apply what they hold, and how they are restored.

pub mod applying;
pub mod candidacy;
pub mod canvass;
pub mod eligibility;
pub mod memory;
pub mod past;
pub mod peers;
pub mod terms;
#[cfg(test)]
mod testing;
