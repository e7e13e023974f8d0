//! A disk in memory that misbehaves as real ones do: a power cut leaves any
//! mixture of old and new 512-byte sectors of what was not synced, names not
//! synced are lost from some point on, a failed sync drops what it pleases and
//! calls it clean, and every call can be made to fail.
//!
//! Only built with the feature `test-hooks`, for the tests of this room and for
//! simulations of whole members, which [`Worker::simulated`] serves.
//!
//! [`Worker::simulated`]: super::Worker::simulated

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::Event as Notice;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::io::Errno;

use crate::reactor::Timer;

use super::format::BLOCK;
use super::storage::{File, Lock, Storage};

const SECTOR: usize = 512;
/// Bytes that a segment reserves here.
pub(super) const SEGMENT: u64 = 16 << 10;

/// A file's contents: what the medium has, what the page cache has, and the
/// versions of sectors in between.
#[derive(Default, Clone)]
struct Inode {
    durable: Vec<u8>,
    cached: Vec<u8>,
    /// Sector number and contents, in the order of writing.
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq)]
enum FileName {
    Folder,
    File(usize),
}

impl FileName {
    const fn inode(&self) -> Option<usize> {
        match self {
            Self::Folder => None,
            Self::File(inode) => Some(*inode),
        }
    }
}

#[derive(Clone)]
enum NameOp {
    Add(PathBuf, FileName),
    Move(PathBuf, PathBuf),
}

/// A write as it went by, for histories cut at every byte.
#[cfg(test)]
#[derive(Clone)]
pub(super) enum DiskEvent {
    Write(PathBuf, usize, Vec<u8>),
    /// Something a test marks, such as "this many operations are acknowledged".
    Mark(usize),
}

/// All that a simulated disk is: its files, what of them is durable, and every fault
/// that it shall have.
#[derive(Clone)]
pub(super) struct World {
    rng: SmallRng,
    /// By number; one that has no name any more may still be open.
    inodes: BTreeMap<usize, Inode>,
    names: BTreeMap<PathBuf, FileName>,
    durable_names: BTreeMap<PathBuf, FileName>,
    name_ops: Vec<NameOp>,
    locked: bool,
    /// Calls so far.
    pub calls: u64,
    /// From which call on, how many calls fail, and with what.
    pub fail: Option<(u64, u64, Errno)>,
    /// Reads and openings to read so far, and which of them fails.
    pub reads: u64,
    pub fail_read: Option<u64>,
    /// Blocks that the medium does not give back until they are written again.
    pub bad_blocks: BTreeSet<(PathBuf, usize)>,
    /// Syncs report success and do nothing: a broken medium.
    pub lying: bool,
    /// Free space in bytes.
    pub free: usize,
    pub shared_sync: bool,
    pub syncs: u64,
    pub file_system_syncs: u64,
    /// What was written, for the tests of this room.
    #[cfg(test)]
    pub events: Vec<DiskEvent>,
    /// How long writes and syncs take, at least and at most, where the time is
    /// simulated.
    delay: (Duration, Duration),
    /// Every write fails so.
    failing: Option<Errno>,
}

/// A disk in memory. Clones share it.
#[derive(Clone)]
pub struct SimulatedDisk {
    world: Arc<Mutex<World>>,
    /// It takes another time from now on.
    hurried: Arc<Notice>,
}

/// What a disk held durably once; see [`SimulatedDisk::backup`].
#[derive(Clone)]
pub struct Backup(World);

impl SimulatedDisk {
    /// An empty one, whose chance comes from this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let world = Arc::new(Mutex::new(World {
            rng: SmallRng::seed_from_u64(seed),
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_ops: Vec::new(),
            locked: false,
            calls: 0,
            fail: None,
            reads: 0,
            fail_read: None,
            bad_blocks: BTreeSet::new(),
            lying: false,
            free: usize::MAX,
            shared_sync: false,
            syncs: 0,
            file_system_syncs: 0,
            #[cfg(test)]
            events: Vec::new(),
            delay: (Duration::ZERO, Duration::ZERO),
            failing: None,
        }));
        Self {
            world,
            hurried: Arc::default(),
        }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on what is written is durable after at least and at most so long. A
    /// sync that is under way is over.
    pub fn set_delay(&self, least: Duration, most: Duration) {
        self.world().delay = (least, most.max(least));
        self.hurried.notify(usize::MAX);
    }

    /// Takes the time that a sync takes.
    pub(super) async fn pass(&self) {
        let hurried = self.hurried.listen();
        let delay = {
            let mut world = self.world();
            let (least, most) = world.delay;
            world.rng.random_range(least..=most)
        };
        let timer = async {
            Timer::after(delay).await;
        };
        smol::future::or(timer, hurried).await;
    }

    /// From now on every write fails for want of space.
    pub fn fill(&self) {
        self.world().failing = Some(Errno::NOSPC);
    }

    /// From now on every write fails, as on a medium that is worn out.
    pub fn fail(&self) {
        self.world().failing = Some(Errno::IO);
    }

    /// The read after so many others fails, once.
    pub fn fail_read(&self, after: u64) {
        let mut world = self.world();
        world.fail_read = Some(world.reads.saturating_add(after).saturating_add(1));
    }

    /// Every call succeeds again.
    pub fn heal(&self) {
        let mut world = self.world();
        world.failing = None;
        world.fail = None;
        world.fail_read = None;
    }

    /// Whether a power cut now would leave it open what was written.
    #[must_use]
    pub fn has_unsynced(&self) -> bool {
        let world = self.world();
        let mut inodes = world.inodes.values();
        !world.name_ops.is_empty() || inodes.any(|inode| !inode.unsynced.is_empty())
    }

    /// Everything is gone. No process may have it open.
    pub fn wipe(&self) {
        let mut world = self.world();
        world.inodes.clear();
        world.names.clear();
        world.durable_names.clear();
        world.name_ops.clear();
        world.bad_blocks.clear();
        world.locked = false;
    }

    /// A copy of all that is durable, as of a card that was put away.
    #[must_use]
    pub fn backup(&self) -> Backup {
        let mut copy = self.world().clone();
        copy.names = copy.durable_names.clone();
        copy.name_ops.clear();
        for inode in copy.inodes.values_mut() {
            inode.unsynced.clear();
            inode.cached = inode.durable.clone();
        }
        Backup(copy)
    }

    /// The disk holds again what it held when the copy was made. No process may
    /// have it open.
    pub fn restore(&self, backup: &Backup) {
        let mut world = self.world();
        world.inodes = backup.0.inodes.clone();
        world.names = backup.0.names.clone();
        world.durable_names = backup.0.durable_names.clone();
        world.name_ops.clear();
        world.bad_blocks.clear();
        world.locked = false;
    }

    #[cfg(test)]
    pub(super) fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// The power goes: what was not synced is old, new or mixed.
    pub fn power_cut(&self) {
        let mut world = self.world();
        let world = &mut *world;
        let kept = world.rng.random_range(0..=world.name_ops.len());
        world.name_ops.truncate(kept);
        world.settle_names();
        world.names = world.durable_names.clone();
        // What has no name is open no more.
        let kept: BTreeSet<usize> = world.names.values().filter_map(FileName::inode).collect();
        world.inodes.retain(|number, _| kept.contains(number));
        for inode in world.inodes.values_mut() {
            inode.settle(&mut world.rng);
            inode.cached = inode.durable.clone();
        }
        world.locked = false;
    }

    /// The bytes of a file.
    #[cfg(test)]
    pub(super) fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world();
        match world.names.get(path)? {
            FileName::File(inode) => Some(world.inodes.get(inode)?.cached.clone()),
            FileName::Folder => None,
        }
    }

    /// Puts bytes into a file, durable.
    #[cfg(test)]
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.world();
        for folder in path.ancestors().skip(1) {
            world.durable_names.insert(folder.into(), FileName::Folder);
        }
        let inode = world.add(Inode {
            durable: bytes.to_vec(),
            cached: bytes.to_vec(),
            unsynced: Vec::new(),
        });
        world
            .durable_names
            .insert(path.into(), FileName::File(inode));
        world.names = world.durable_names.clone();
    }

    /// All paths.
    #[cfg(test)]
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.world().names.keys().cloned().collect()
    }
}

impl Inode {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        overwrite(&mut self.cached, offset, bytes);
        for sector in offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR) {
            let contents = part(&self.cached, sector * SECTOR, (sector + 1) * SECTOR);
            self.unsynced.push((sector, contents.to_vec()));
        }
    }

    fn sync(&mut self) {
        for (sector, contents) in self.unsynced.drain(..) {
            overwrite(&mut self.durable, sector * SECTOR, &contents);
        }
    }

    /// Lets each unsynced sector end as any of its versions.
    fn settle(&mut self, rng: &mut SmallRng) {
        let mut versions: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for (sector, contents) in self.unsynced.drain(..) {
            versions.entry(sector).or_default().push(contents);
        }
        // Often all of it or nothing; else every sector for itself.
        let mood = rng.random_range(0..4);
        for (sector, versions) in versions {
            let chosen = match mood {
                0 => 0,
                1 => versions.len(),
                _ => rng.random_range(0..=versions.len()),
            };
            let contents = chosen.checked_sub(1).and_then(|last| versions.get(last));
            if let Some(contents) = contents {
                overwrite(&mut self.durable, sector * SECTOR, contents);
            }
        }
    }
}

/// Writes into a file, which grows as far as needed.
fn overwrite(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(place) = file.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

/// What a file has of these bytes.
fn part(file: &[u8], from: usize, to: usize) -> &[u8] {
    let to = to.min(file.len());
    file.get(from.min(to)..to).unwrap_or_default()
}

/// A place in a file: none here is beyond the address space.
fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

impl World {
    fn add(&mut self, inode: Inode) -> usize {
        let number = self.inodes.last_key_value().map_or(0, |(last, _)| last + 1);
        self.inodes.insert(number, inode);
        number
    }

    fn inode(&mut self, number: usize) -> &mut Inode {
        self.inodes.entry(number).or_default()
    }

    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        match self.fail {
            Some((from, count, errno)) if (from..from + count).contains(&self.calls) => {
                Err(errno.into())
            }
            _ => Ok(()),
        }
    }

    /// A call that writes or syncs.
    fn writing(&mut self) -> io::Result<()> {
        self.call()?;
        self.failing.map_or(Ok(()), |errno| Err(errno.into()))
    }

    /// A call that reads. What the medium has lost is told by `fail_read` and
    /// `bad_blocks`; any other failure says nothing of it.
    fn reading(&mut self) -> io::Result<()> {
        self.reads += 1;
        if self.fail_read == Some(self.reads) {
            return Err(Errno::IO.into());
        }
        self.call().map_err(|_| Errno::NOMEM.into())
    }

    fn settle_names(&mut self) {
        for op in self.name_ops.drain(..) {
            match op {
                NameOp::Add(path, name) => {
                    self.durable_names.insert(path, name);
                }
                NameOp::Move(from, to) => {
                    if let Some(name) = self.durable_names.remove(&from) {
                        self.durable_names.insert(to, name);
                    }
                }
            }
        }
    }

    /// Lets the next opening have the lock.
    #[cfg(test)]
    pub(super) fn unlock(&mut self) {
        self.locked = false;
    }

    fn path_of(&self, inode: usize) -> PathBuf {
        let found = self
            .names
            .iter()
            .find(|(_, n)| **n == FileName::File(inode));
        found.map(|(path, _)| path.clone()).unwrap_or_default()
    }
}

impl Storage for SimulatedDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        let mut world = self.world();
        world.call()?;
        if world.names.contains_key(dir) {
            return Ok(false);
        }
        world.names.insert(dir.into(), FileName::Folder);
        world
            .name_ops
            .push(NameOp::Add(dir.into(), FileName::Folder));
        Ok(true)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.call()?;
        let inside = world.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(inside
            .filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn File>> {
        let mut world = self.world();
        if create {
            world.call()?;
        } else {
            world.reading()?;
        }
        let inode = match world.names.get(path) {
            Some(FileName::File(inode)) => *inode,
            Some(FileName::Folder) => return Err(Errno::ISDIR.into()),
            None if create => {
                let inode = world.add(Inode::default());
                world.names.insert(path.into(), FileName::File(inode));
                let added = NameOp::Add(path.into(), FileName::File(inode));
                world.name_ops.push(added);
                inode
            }
            None => return Err(Errno::NOENT.into()),
        };
        Ok(Box::new(SimFile {
            sim: self.clone(),
            inode,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        let name = world.names.remove(from).ok_or(Errno::NOENT)?;
        world.names.insert(to.into(), name);
        world.name_ops.push(NameOp::Move(from.into(), to.into()));
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        world.settle_names();
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Lock> {
        let mut world = self.world();
        world.call()?;
        if std::mem::replace(&mut world.locked, true) {
            return Ok(Lock::Held(Some(4711)));
        }
        Ok(Lock::Taken(Box::new(FolderLock(self.clone()))))
    }

    fn nonce(&self) -> u64 {
        self.world().rng.random()
    }

    fn segment_bytes(&self) -> u64 {
        SEGMENT
    }
}

struct FolderLock(SimulatedDisk);

impl Drop for FolderLock {
    fn drop(&mut self) {
        self.0.world().locked = false;
    }
}

struct SimFile {
    sim: SimulatedDisk,
    inode: usize,
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut world = self.sim.world();
        world.call()?;
        Ok(world.inode(self.inode).cached.len() as u64)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut world = self.sim.world();
        world.reading()?;
        let start = place(offset);
        let bytes = part(&world.inode(self.inode).cached, start, start + len).to_vec();
        let path = world.path_of(self.inode);
        let mut blocks = start / BLOCK..(start + bytes.len()).div_ceil(BLOCK);
        if blocks.any(|block| world.bad_blocks.contains(&(path.clone(), block))) {
            return Err(Errno::IO.into());
        }
        Ok(bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.sim.world();
        let world = &mut *world;
        let offset = place(offset);
        let mut outcome = world.writing();
        let len = world.inode(self.inode).cached.len();
        let grows = (offset + bytes.len()).saturating_sub(len);
        if outcome.is_ok() && grows > world.free {
            outcome = Err(Errno::NOSPC.into());
        }
        // A failed write may have been made in part, by whole sectors.
        let made = match outcome {
            Ok(()) => bytes,
            Err(_) => {
                let most = bytes.len().min(len.saturating_sub(offset));
                part(bytes, 0, world.rng.random_range(0..=most) / SECTOR * SECTOR)
            }
        };
        if outcome.is_ok() {
            world.free -= grows;
            let path = world.path_of(self.inode);
            for block in offset / BLOCK..(offset + bytes.len()).div_ceil(BLOCK) {
                world.bad_blocks.remove(&(path.clone(), block));
            }
            #[cfg(test)]
            world
                .events
                .push(DiskEvent::Write(path, offset, bytes.to_vec()));
        }
        world.inode(self.inode).write(offset, made);
        outcome
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.sim.world();
        let world = &mut *world;
        world.syncs += 1;
        let outcome = world.writing();
        let inode = world.inodes.entry(self.inode).or_default();
        match outcome {
            Ok(()) if world.lying => {}
            Ok(()) => inode.sync(),
            // The pages are clean from now on, whatever reached the medium.
            Err(_) => inode.settle(&mut world.rng),
        }
        outcome
    }

    fn file_system(&self) -> Option<u64> {
        self.sim.world().shared_sync.then_some(1)
    }

    fn sync_file_system(&self) -> io::Result<()> {
        let mut world = self.sim.world();
        world.file_system_syncs += 1;
        world.call()?;
        world.inodes.values_mut().for_each(Inode::sync);
        Ok(())
    }
}
