//! What the witness knows, as one model: who votes, who is primary, and whether
//! a failover would work now.
//!
//! Made when somebody asks, from what is held anyway; nothing here runs by
//! itself, does I/O or reads a clock. Below `member` and `http`, which fill and
//! serve it. The types are the JSON face: a field's name is its key.
//!
//! * `overview`, `scope`, `probe`, `verdict`: the model;
//! * [`patroni`]: what Patroni wrote into the replicated store;
//! * [`judge`]: the one sentence, from who could take over (`candidacy`), with
//!   what does not fit together (`notes`);
//! * [`words`]: how a person says figures, and somebody else's text made harmless;
//! * [`table`], [`json`], [`metrics`]: its faces;
//! * [`field`]: the fields of a JSON text that somebody else wrote.
//!
//! Names, states and messages come from the network: [`shown`] bounds them, and
//! every face escapes them.

mod candidacy;
pub mod field;
pub mod json;
pub mod judge;
pub mod metrics;
mod notes;
mod overview;
pub mod patroni;
mod probe;
mod scope;
pub mod table;
mod verdict;
pub mod words;

pub use crate::reason::{Level, Remedy};
pub use overview::{
    ClusterOverview, CountersOverview, DiskOverview, Note, Overview, Raft, RaftMember, Watcher,
};
pub use probe::ProbeOverview;
pub use scope::{Candidacy, PgMember, Scope, Sync, SyncMode};
pub use verdict::{FailoverAnswer, Verdict};
pub use words::shown;
