//! A disk that fails or dawdles when told to, for the tests of what stands above
//! this room. Only built with the feature `test-hooks`, which nothing but the
//! tests asks for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::storage::{File, Lock, RealStorage, Storage};

/// What the disk does wrong now. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<FaultState>>);

#[derive(Debug, Default)]
struct FaultState {
    sync_delay: Duration,
    failing: Option<PathBuf>,
}

impl Faults {
    /// Every sync takes this much longer.
    pub fn delay_syncs(&self, delay: Duration) {
        self.state().sync_delay = delay;
    }

    /// Nothing can be written in this folder, for want of space.
    pub fn fill(&self, folder: &Path) {
        self.state().failing = Some(folder.to_path_buf());
    }

    /// Writing works again.
    pub fn heal(&self) {
        self.state().failing = None;
    }

    fn state(&self) -> MutexGuard<'_, FaultState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, path: &Path) -> io::Result<()> {
        let state = self.state();
        let failing = state.failing.as_ref();
        if failing.is_some_and(|folder| path.starts_with(folder)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Storage for Faults {
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        RealStorage.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealStorage.list(dir)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn File>> {
        Ok(Box::new(FaultyFile {
            file: RealStorage.open(path, create)?,
            path: path.to_path_buf(),
            faults: self.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealStorage.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealStorage.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        RealStorage.lock(path)
    }

    fn nonce(&self) -> u64 {
        RealStorage.nonce()
    }
}

struct FaultyFile {
    file: Box<dyn File>,
    path: PathBuf,
    faults: Faults,
}

impl File for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.file.read_at(offset, len)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.faults.check(&self.path)?;
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        let delay = self.faults.state().sync_delay;
        thread::sleep(delay);
        self.faults.check(&self.path)?;
        self.file.sync()
    }

    fn file_system(&self) -> Option<u64> {
        // Each file by itself: a fault is of one folder.
        None
    }

    fn sync_file_system(&self) -> io::Result<()> {
        self.file.sync_file_system()
    }
}
