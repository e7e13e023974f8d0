//! The few system calls that the disk room needs, behind two small traits: the
//! real file system here, a simulated one in the tests (torn, reordered and
//! dropped writes, failures at every call).
//!
//! Nothing outside this file touches the file system, and nothing in this file
//! knows what the bytes mean.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::format::BLOCK;

use crate::limits::DISK_SEGMENT_BYTES;

/// A folder's own mode: commands hold what the operator stores, for no one else.
const FOLDER_MODE: u32 = 0o700;
/// A file's mode.
const FILE_MODE: u32 = 0o600;

/// Folder operations. Paths are absolute or relative to the process.
pub(super) trait Storage: Send + Sync {
    /// Creates a folder with its parents, mode 0700; one that exists is fine.
    /// True if it was created.
    fn create_dir(&self, dir: &Path) -> io::Result<bool>;
    /// The names of all that a folder holds.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens a file for reading and writing; creates it, mode 0600, if asked.
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn File>>;
    /// Renames a file or folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes names created, renamed or removed in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock file for this process, until the guard is dropped.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
    /// A random number that no peer can know.
    fn nonce(&self) -> u64;
    /// Bytes to reserve for a segment, at least.
    fn segment_bytes(&self) -> u64 {
        DISK_SEGMENT_BYTES
    }
}

impl std::fmt::Debug for dyn Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Storage")
    }
}

/// One open file.
pub(super) trait File: Send {
    /// Its size in bytes.
    fn len(&self) -> io::Result<u64>;
    /// `len` of its bytes from `offset` on, fewer where the file ends.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Writes at a byte offset; beyond the end the file grows.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the contents, and the size, durable.
    fn sync(&self) -> io::Result<()>;
    /// The file system it lives on, if one [`File::sync_file_system`] may stand
    /// for the `sync` of several of its files.
    fn file_system(&self) -> Option<u64>;
    /// Makes all files of the file system durable.
    fn sync_file_system(&self) -> io::Result<()>;
}

/// What came of taking a lock.
pub(super) enum Lock {
    /// It is ours until the guard is dropped.
    Taken(Box<dyn Send>),
    /// Another process has it; its id if the file tells.
    Held(Option<u32>),
}

/// The file system of the machine.
#[derive(Debug, Default)]
pub(super) struct RealStorage;

impl Storage for RealStorage {
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        if dir.is_dir() {
            return Ok(false);
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(dir)?;
        Ok(true)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "not a file"));
        }
        Ok(Box::new(RealFile {
            direct: open_direct(path),
            file,
            device: meta.dev(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        use rustix::fs::{FlockOperation, flock};
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // For the operator's eyes only: the lock is flock's, not the text's.
                file.set_len(0)?;
                file.write_all(std::process::id().to_string().as_bytes())?;
                Ok(Lock::Taken(Box::new(file)))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let read = file.take(16).read_to_string(&mut text);
                Ok(Lock::Held(read.ok().and_then(|_| text.trim().parse().ok())))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn nonce(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        // The hasher's keys come from the kernel's random source, in the way that
        // neither fails nor waits for entropy when a board has only just booted.
        std::hash::RandomState::new().build_hasher().finish()
    }
}

/// A way to the file that leaves the page cache out: there a write of one block
/// may make a whole folio of many dirty, of which the kernel then writes and
/// counts more than was changed. Not every file system has one (tmpfs has not).
fn open_direct(path: &Path) -> Option<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    fs::OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)
        .ok()
}

/// Bytes that start at a multiple of a block in memory, as a direct write wants.
struct Aligned {
    buffer: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer: Vec<u8> = Vec::with_capacity(bytes.len().saturating_add(BLOCK));
        let start = buffer.as_ptr().align_offset(BLOCK).min(BLOCK);
        buffer.resize(start, 0);
        buffer.extend_from_slice(bytes);
        Self { buffer, start }
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }
}

/// A file of the machine.
struct RealFile {
    file: fs::File,
    /// The same file, for whole blocks.
    direct: Option<fs::File>,
    device: u64,
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self
                .file
                .read_at(rest, offset.saturating_add(filled as u64))
            {
                Ok(0) => break,
                Ok(count) => filled = filled.saturating_add(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let block = BLOCK as u64;
        let whole = offset.is_multiple_of(block) && bytes.len().is_multiple_of(BLOCK);
        match &self.direct {
            Some(direct) if whole => direct.write_all_at(Aligned::copy_of(bytes).bytes(), offset),
            _ => self.file.write_all_at(bytes, offset),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn file_system(&self) -> Option<u64> {
        syncfs_tells_errors().then_some(self.device)
    }

    fn sync_file_system(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.file)?)
    }
}

/// Whether `syncfs` reports failed writes: Linux 5.8 was the first to do so.
fn syncfs_tells_errors() -> bool {
    static KNOWN: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *KNOWN.get_or_init(|| {
        let system = rustix::system::uname();
        let release = system.release().to_string_lossy();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next()?.parse::<u32>().ok();
        matches!((number(), number()), (Some(major), Some(minor)) if (major, minor) >= (5, 8))
    })
}
