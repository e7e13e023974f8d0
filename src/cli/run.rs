//! `run`: serve the clusters until told to stop.

use super::Failure;
use crate::config::{Config, ConfigSource};

/// Serves `config`, which came from `source`.
pub fn main(_config: Config, _source: &ConfigSource) -> Result<(), Failure> {
    Err(Failure::Failed("run: not built in this branch".into()))
}
