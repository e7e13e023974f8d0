//! A cluster's folder: its files by name, its lock, and the folders inside it into which state is
//! set aside. Moves files whole, never reads or deletes one.

use std::io;
use std::path::{Path, PathBuf};

use super::DiskError;
use super::storage::{Lock, Storage};

/// The two segments of the log.
pub(super) const SEGMENTS: [&str; 2] = ["log-a", "log-b"];
/// Term and vote.
pub(super) const HARD_STATE: &str = "hard-state";
const LOCK: &str = "lock";
const DAMAGED: &str = "damaged-";
const STALE: &str = "stale-";

/// Creates the folder if need be and locks it.
pub(super) fn take_lock(storage: &dyn Storage, dir: &Path) -> Result<Box<dyn Send>, DiskError> {
    if storage.create_dir(dir).map_err(at(dir, "create"))?
        && let Some(parent) = parent(dir)
    {
        storage.sync_dir(parent).map_err(at(parent, "sync"))?;
    }
    let path = dir.join(LOCK);
    match storage.lock(&path) {
        Ok(Lock::Taken(guard)) => Ok(guard),
        Ok(Lock::Held(process)) => Err(DiskError::InUse {
            path: dir.to_path_buf(),
            process,
        }),
        // The folder is what the operator has to give us.
        Err(error) => Err(DiskError::io(dir, "lock", &error)),
    }
}

/// The folder that holds `dir`: the current one, if it is a bare name.
fn parent(dir: &Path) -> Option<&Path> {
    match dir.parent()? {
        none if none.as_os_str().is_empty() => Some(Path::new(".")),
        parent => Some(parent),
    }
}

/// Moves our files into a folder of their own, under the lock. The log goes
/// first: cut off in between, what remains is damage, never an older state.
pub(super) fn set_aside(
    storage: &dyn Storage,
    dir: &Path,
    name: &str,
) -> Result<PathBuf, DiskError> {
    let mut name = name.replace(['/', '\0'], "_");
    if !is_set_aside(&name) {
        name.insert_str(0, STALE);
    }
    let present = storage.list(dir).map_err(at(dir, "list"))?;
    let taken = |candidate: &String| present.contains(candidate);
    let name = std::iter::once(name.clone())
        .chain((2..=u32::MAX).map(|n| format!("{name}-{n}")))
        .find(|candidate| !taken(candidate))
        .unwrap_or(name);
    let folder = dir.join(name);
    storage.create_dir(&folder).map_err(at(&folder, "create"))?;
    // The folder's name must be there before any of our files is not (S7).
    storage.sync_dir(dir).map_err(at(dir, "sync"))?;
    for file in SEGMENTS.into_iter().chain([HARD_STATE]) {
        if present.iter().any(|p| p == file) {
            let from = dir.join(file);
            storage
                .rename(&from, &folder.join(file))
                .map_err(at(&from, "move"))?;
        }
    }
    storage.sync_dir(&folder).map_err(at(&folder, "sync"))?;
    storage.sync_dir(dir).map_err(at(dir, "sync"))?;
    Ok(folder)
}

fn is_set_aside(name: &str) -> bool {
    name.starts_with(STALE) || name.starts_with(DAMAGED)
}

/// A folder in which state was set aside before, if there is one: of a name with
/// numbers behind it the last.
pub(super) fn set_aside_before(
    storage: &dyn Storage,
    dir: &Path,
) -> Result<Option<PathBuf>, DiskError> {
    let mut names = storage.list(dir).map_err(at(dir, "list"))?;
    names.retain(|name| is_set_aside(name));
    let last = names
        .into_iter()
        .max_by_key(|name| (name.len(), name.clone()));
    Ok(last.map(|name| dir.join(name)))
}

/// The first free name for damage.
pub(super) fn free_damaged(storage: &dyn Storage, dir: &Path) -> Result<String, DiskError> {
    let names = storage.list(dir).map_err(at(dir, "list"))?;
    Ok((1..=u32::MAX)
        .map(|n| format!("{DAMAGED}{n}"))
        .find(|name| !names.contains(name))
        .unwrap_or_else(|| DAMAGED.into()))
}

/// Turns an I/O error into ours.
pub(super) fn at<'a>(
    path: &'a Path,
    action: &'static str,
) -> impl FnOnce(io::Error) -> DiskError + 'a {
    move |error| DiskError::io(path, action, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_held_by_the_current_folder() {
        for (dir, holder) in [
            ("raft", Some(".")),
            ("a/raft", Some("a")),
            ("/raft", Some("/")),
            ("/", None),
        ] {
            assert_eq!(parent(Path::new(dir)), holder.map(Path::new), "{dir}");
        }
    }
}
