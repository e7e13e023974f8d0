//! `reset`: set a cluster's state aside and begin anew.

use super::Failure;
use crate::config::Config;

/// Sets the state of the cluster `name` aside.
pub fn main(_config: &Config, _name: &str) -> Result<(), Failure> {
    Err(Failure::Failed("reset: not built in this branch".into()))
}
