//! Conversations with a node, drawn from a seed.

pub mod dice;
pub mod messages;
#[path = "../../kv/oracle.rs"]
#[allow(dead_code)] // Only its words and how it is started are wanted.
pub mod oracle;
pub mod pair;
pub mod partner;
pub mod real;
