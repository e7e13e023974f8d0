//! What can go wrong with durable state, and what the operator does about it:
//! one line each, with the path.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::text::shell_word;

/// Why a cluster's state could not be read or written. Clones are handed to
/// every completion that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskError {
    /// Another process, or another [`super::Disk`] of this one, has the folder.
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that has it, if the lock file tells.
        process: Option<u32>,
    },
    /// The folder or a file in it belongs to someone else.
    NotWritable {
        /// What could not be opened or created.
        path: PathBuf,
        /// Our own user id.
        uid: u32,
        /// Whether it is not there, and could not be created.
        missing: bool,
    },
    /// The file system is mounted read-only (or went so after an error).
    ReadOnly {
        /// What could not be written.
        path: PathBuf,
    },
    /// No space, no quota, or a file size limit reached.
    Full {
        /// What could not be written.
        path: PathBuf,
    },
    /// A later version of this program wrote the file.
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The latest format that we know.
        known: u32,
    },
    /// Any other failure of the operating system.
    Io {
        /// What it concerns.
        path: PathBuf,
        /// What we were doing: `read`, `write`, `sync` ...
        action: &'static str,
        /// The operating system's words.
        error: String,
    },
    /// Something exceeds its cap in `src/limits.rs`.
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The cap in bytes.
        max: u64,
    },
    /// The caller asked for what would lose an entry or leave a gap; nothing was
    /// written.
    Order {
        /// The rule that it would break.
        what: String,
    },
    /// The disk thread is gone or this `Disk` was closed.
    Stopped,
}

impl DiskError {
    /// Sorts an error of the operating system by what the operator has to do.
    pub(super) fn io(path: &Path, action: &'static str, error: &io::Error) -> Self {
        let path = path.to_path_buf();
        match Errno::from_io_error(error) {
            // A limit on file size (RLIMIT_FSIZE) leaves no space either.
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::Full { path },
            Some(Errno::ROFS) => Self::ReadOnly { path },
            Some(Errno::ACCESS | Errno::PERM) => Self::NotWritable {
                missing: matches!(path.try_exists(), Ok(false)),
                path,
                uid: rustix::process::geteuid().as_raw(),
            },
            _ => Self::Io {
                path,
                action,
                error: error.to_string(),
            },
        }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path, process } => {
                write!(f, "{} is in use by ", path.display())?;
                match process {
                    Some(id) => write!(f, "process {id}"),
                    None => f.write_str("another process"),
                }
            }
            Self::NotWritable { path, uid, missing } => {
                let (name, word) = (path.display(), shell_word(&path.display().to_string()));
                match missing {
                    true => write!(
                        f,
                        "{name} does not exist, and uid {uid} may not create it: run, as root: \
                         mkdir -p {word} && chown {uid} {word}"
                    ),
                    false => write!(
                        f,
                        "{name} is not writable by uid {uid}: run, as root: chown -R {uid} {word}"
                    ),
                }
            }
            Self::ReadOnly { path } => write!(
                f,
                "{} is read-only here: remount it (after an error: check the medium), or choose a data_dir that the service or container may write, such as /var/lib/pg-witness",
                path.display()
            ),
            Self::Full { path } => write!(
                f,
                "no space left for {}: free some, or raise the quota or file size limit",
                path.display()
            ),
            Self::NewerFormat { path, found, known } => write!(
                f,
                "{} was written by a newer pg-witness (format {found}, this one knows {known}): upgrade this one, or `reset` to begin anew without its state",
                path.display()
            ),
            Self::Io {
                path,
                action,
                error,
            } => write!(
                f,
                "cannot {action} {}: {error}; if it persists replace the medium",
                path.display()
            ),
            Self::TooLarge { what, bytes, max } => {
                write!(f, "{what} of {bytes} bytes exceeds the cap of {max}")
            }
            Self::Order { what } => write!(f, "refused to write: {what}"),
            Self::Stopped => f.write_str("the disk was closed"),
        }
    }
}

impl std::error::Error for DiskError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_given_away_is_made_first() {
        let folder = tempfile::tempdir().unwrap();
        let denied = |path: &Path| {
            let error = io::Error::from(Errno::ACCESS);
            DiskError::io(path, "create", &error).to_string()
        };
        let uid = rustix::process::geteuid().as_raw();
        let missing = folder.path().join("a b/raft");
        let word = format!("'{}'", missing.display());
        let told = denied(&missing);
        let remedy = format!("as root: mkdir -p {word} && chown {uid} {word}");
        assert!(told.ends_with(&remedy), "{told}");
        let told = denied(folder.path());
        let remedy = format!("as root: chown -R {uid} {}", folder.path().display());
        assert!(told.ends_with(&remedy), "{told}");
    }
}
