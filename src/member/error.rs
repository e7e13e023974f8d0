//! Why a member cannot start.

use std::fmt;

use crate::disk::DiskError;
use crate::raft::checkpoint::CheckpointError;
use crate::raft::engine::Stopped;

/// Why a member cannot start.
#[derive(Debug)]
pub enum StartError {
    /// Its state cannot be opened.
    Disk(DiskError),
    /// Its state can be opened and not understood.
    Checkpoint(CheckpointError),
    /// The engine refuses to run.
    Engine(Stopped),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(f),
            Self::Checkpoint(error) => error.fmt(f),
            Self::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<DiskError> for StartError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}
