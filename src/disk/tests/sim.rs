//! A disk in memory that misbehaves as real ones do: a power cut leaves any
//! mixture of old and new 512-byte sectors of what was not synced, names not
//! synced are lost from some point on, a failed sync drops what it pleases and
//! calls it clean, and every call can be made to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::io::Errno;

use crate::disk::format::BLOCK;
use crate::disk::storage::{File, Lock, Storage};

const SECTOR: usize = 512;
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
enum Name {
    Folder,
    File(usize),
}

#[derive(Clone)]
enum NameOp {
    Add(PathBuf, Name),
    Move(PathBuf, PathBuf),
}

/// A write as it went by, for histories cut at every byte.
#[derive(Clone)]
pub(super) enum Event {
    Write(PathBuf, usize, Vec<u8>),
    /// Something the test marks, such as "this many operations are acknowledged".
    Mark(usize),
}

pub(super) struct World {
    rng: SmallRng,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, Name>,
    durable_names: BTreeMap<PathBuf, Name>,
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
    pub events: Vec<Event>,
}

#[derive(Clone)]
pub(super) struct Sim(Arc<Mutex<World>>);

impl Sim {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            rng: SmallRng::seed_from_u64(seed),
            inodes: Vec::new(),
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
            events: Vec::new(),
        })))
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(super) fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }

    /// The power goes: what was not synced is old, new or mixed.
    pub(super) fn power_cut(&self) {
        let mut world = self.world();
        let world = &mut *world;
        let kept = world.rng.random_range(0..=world.name_ops.len());
        world.name_ops.truncate(kept);
        world.settle_names();
        world.names = world.durable_names.clone();
        for inode in &mut world.inodes {
            inode.settle(&mut world.rng);
            inode.cached = inode.durable.clone();
        }
        world.locked = false;
    }

    /// The bytes of a file.
    pub(super) fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world();
        match world.names.get(path)? {
            Name::File(inode) => Some(world.inodes[*inode].cached.clone()),
            Name::Folder => None,
        }
    }

    /// Puts bytes into a file, durable.
    pub(super) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.world();
        for folder in path.ancestors().skip(1) {
            world.durable_names.insert(folder.into(), Name::Folder);
        }
        let inode = world.inodes.len();
        world.inodes.push(Inode {
            durable: bytes.to_vec(),
            cached: bytes.to_vec(),
            unsynced: Vec::new(),
        });
        world.durable_names.insert(path.into(), Name::File(inode));
        world.names = world.durable_names.clone();
    }

    /// All paths.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.world().names.keys().cloned().collect()
    }
}

impl Inode {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let to = ((sector + 1) * SECTOR).min(self.cached.len());
            let contents = self.cached[sector * SECTOR..to].to_vec();
            self.unsynced.push((sector, contents));
        }
    }

    fn sync(&mut self) {
        self.durable = self.cached.clone();
        self.unsynced.clear();
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
            if chosen > 0 {
                let contents = &versions[chosen - 1];
                let at = sector * SECTOR;
                if self.durable.len() < at + contents.len() {
                    self.durable.resize(at + contents.len(), 0);
                }
                self.durable[at..at + contents.len()].copy_from_slice(contents);
            }
        }
    }
}

impl World {
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        match self.fail {
            Some((from, count, errno)) if (from..from + count).contains(&self.calls) => {
                Err(errno.into())
            }
            _ => Ok(()),
        }
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
    pub(super) fn unlock(&mut self) {
        self.locked = false;
    }

    fn path_of(&self, inode: usize) -> PathBuf {
        let found = self.names.iter().find(|(_, n)| **n == Name::File(inode));
        found.map(|(path, _)| path.clone()).unwrap_or_default()
    }
}

impl Storage for Sim {
    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        let mut world = self.world();
        world.call()?;
        if world.names.contains_key(dir) {
            return Ok(false);
        }
        world.names.insert(dir.into(), Name::Folder);
        world.name_ops.push(NameOp::Add(dir.into(), Name::Folder));
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
            Some(Name::File(inode)) => *inode,
            Some(Name::Folder) => return Err(Errno::ISDIR.into()),
            None if create => {
                let inode = world.inodes.len();
                world.inodes.push(Inode::default());
                world.names.insert(path.into(), Name::File(inode));
                let added = NameOp::Add(path.into(), Name::File(inode));
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
        Ok(Lock::Taken(Box::new(Guard(self.clone()))))
    }

    fn nonce(&self) -> u64 {
        self.world().rng.random()
    }

    fn segment_bytes(&self) -> u64 {
        SEGMENT
    }
}

struct Guard(Sim);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.world().locked = false;
    }
}

struct SimFile {
    sim: Sim,
    inode: usize,
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut world = self.sim.world();
        world.call()?;
        Ok(world.inodes[self.inode].cached.len() as u64)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut world = self.sim.world();
        world.reading()?;
        let bytes = &world.inodes[self.inode].cached;
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        let end = (start + len).min(bytes.len());
        let path = world.path_of(self.inode);
        let mut blocks = start / BLOCK..end.div_ceil(BLOCK);
        if blocks.any(|block| world.bad_blocks.contains(&(path.clone(), block))) {
            return Err(Errno::IO.into());
        }
        Ok(bytes[start..end].to_vec())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.sim.world();
        let world = &mut *world;
        let offset = usize::try_from(offset).unwrap();
        let mut outcome = world.call();
        let len = world.inodes[self.inode].cached.len();
        let grows = (offset + bytes.len()).saturating_sub(len);
        if outcome.is_ok() && grows > world.free {
            outcome = Err(Errno::NOSPC.into());
        }
        // A failed write may have been made in part, by whole sectors.
        let made = match outcome {
            Ok(()) => bytes,
            Err(_) => {
                let most = bytes.len().min(len.saturating_sub(offset));
                &bytes[..world.rng.random_range(0..=most) / SECTOR * SECTOR]
            }
        };
        if outcome.is_ok() {
            world.free -= grows;
            let path = world.path_of(self.inode);
            for block in offset / BLOCK..(offset + bytes.len()).div_ceil(BLOCK) {
                world.bad_blocks.remove(&(path.clone(), block));
            }
            let event = Event::Write(path, offset, bytes.to_vec());
            world.events.push(event);
        }
        world.inodes[self.inode].write(offset, made);
        outcome
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.sim.world();
        let world = &mut *world;
        world.syncs += 1;
        let outcome = world.call();
        let inode = &mut world.inodes[self.inode];
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
        world.inodes.iter_mut().for_each(Inode::sync);
        Ok(())
    }
}
