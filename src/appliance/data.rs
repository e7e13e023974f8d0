//! The data partition: mounted if its file system is sound, recreated if it is
//! damaged. Nobody is at the board to repair it, and a repaired file system could hold
//! a part of the state that passes for the whole. An empty one is known to be lost
//! (S7); with both data nodes up the witness has caught up within seconds.
//!
//! The empty file system is the image's own, kept compressed in the initramfs. Sector
//! 0 of the partition, which ext4 does not use, holds a [`SectorZero`]: it shows that a
//! power cut interrupted the work, and how often it was done.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::mounts::{self, Partition};

/// The empty file system, as `image/kit/card.py` puts it there.
const EMPTY: &str = "/lib/pgw-data.gz";

/// Where ext4 has its superblock, in bytes. What is before it is ours.
const SUPERBLOCK: usize = 1024;

/// Written last of all: superblock and what may lie around it.
const HEAD_BYTES: usize = 4096;

/// Written at once, and synced, before the watchdog is fed.
const PART_BYTES: usize = 1 << 20;

const SECTOR_BYTES: usize = 512;

/// How long read errors must last until the partition counts as damaged: the bus may
/// be at fault.
const UNREADABLE_MAX: Duration = Duration::from_secs(30);

/// Shortest pause between two times that it is recreated.
const RECREATE_PAUSE: Duration = Duration::from_secs(60);

/// Files and folders that are looked at, at most.
const ENTRIES_MAX: usize = 100_000;

/// A partition that is mounted.
#[derive(Debug)]
pub struct Mounted {
    /// Its device.
    pub device: PathBuf,
    /// How often it was recreated since the card was written.
    pub recreated: u32,
}

/// Mounts the partition, and decides what to do when that fails.
#[derive(Debug, Default)]
pub struct Data {
    unreadable_since: Option<Instant>,
    recreated_at: Option<Instant>,
}

impl Data {
    /// Finds and mounts the partition, and recreates its file system first if that is
    /// damaged. None if there is no such partition yet. `meanwhile` is called about
    /// once a second: all this may take longer than a watchdog waits.
    ///
    /// # Errors
    /// It can neither be mounted nor recreated; or not yet.
    pub fn attach(&mut self, mut meanwhile: impl FnMut()) -> Option<io::Result<Mounted>> {
        let device = mounts::find(Partition::Data)?;
        Some(self.attach_device(device, &mut meanwhile))
    }

    fn attach_device(
        &mut self,
        device: PathBuf,
        meanwhile: &mut dyn FnMut(),
    ) -> io::Result<Mounted> {
        let now = Instant::now();
        let record = SectorZero::of(&device).unwrap_or_default();
        let damage = if record.finished {
            match mount_sound(&device, meanwhile) {
                Ok(()) => {
                    self.unreadable_since = None;
                    let recreated = record.count;
                    return Ok(Mounted { device, recreated });
                }
                Err(error) if !self.is_damage(&error, now) => return Err(error),
                Err(error) => error,
            }
        } else {
            io::Error::other("recreating it was interrupted")
        };
        if !self.may_recreate(now) {
            return Err(damage);
        }
        log::error!("the data partition is damaged; recreating its file system: {damage}");
        let empty = GzDecoder::new(File::open(EMPTY)?);
        let recreated = recreate(&device, empty, meanwhile)?.count;
        mount_sound(&device, meanwhile)?;
        self.unreadable_since = None;
        Ok(Mounted { device, recreated })
    }

    /// Whether this error of the kernel's means that the file system is damaged. A read
    /// error, and an invalid journal or superblock (`INVAL`), do once they have lasted.
    fn is_damage(&mut self, error: &io::Error, now: Instant) -> bool {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // ext4's "structure needs cleaning", and its checksums.
            Some(Errno::UCLEAN | Errno::BADMSG) => true,
            Some(Errno::IO | Errno::INVAL) => {
                let since = *self.unreadable_since.get_or_insert(now);
                now.saturating_duration_since(since) >= UNREADABLE_MAX
            }
            _ => false,
        }
    }

    /// Whether it may be recreated now: a worn-out card would be written to without a
    /// pause.
    fn may_recreate(&mut self, now: Instant) -> bool {
        let paused = |at: Instant| now.saturating_duration_since(at) < RECREATE_PAUSE;
        if self.recreated_at.is_some_and(paused) {
            return false;
        }
        self.recreated_at = Some(now);
        true
    }
}

/// Mounts it, and unmounts it again if it is not sound.
fn mount_sound(device: &Path, meanwhile: &mut dyn FnMut()) -> io::Result<()> {
    mounts::mount_data(device)?;
    let result = look_through(Path::new(mounts::DATA), meanwhile).and_then(|()| {
        match error_count(device) {
            // Found just now, or before the start.
            1.. => Err(Errno::UCLEAN.into()),
            0 => Ok(()),
        }
    });
    if result.is_err() {
        mounts::detach_data();
    }
    result
}

/// Errors that the kernel has found in the structure of this file system since it
/// was made; it counts them in the superblock.
pub fn error_count(device: &Path) -> u64 {
    let Some(name) = device.file_name() else {
        return 0;
    };
    let file = Path::new("/sys/fs/ext4").join(name).join("errors_count");
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Has the kernel read every folder and every inode. What is inside of the files is
/// the witness's to judge: they have checksums of their own.
fn look_through(root: &Path, meanwhile: &mut dyn FnMut()) -> io::Result<()> {
    let mut folders = vec![root.to_path_buf()];
    let mut entries = 0_usize;
    while let Some(folder) = folders.pop() {
        meanwhile();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if fs::symlink_metadata(&path)?.is_dir() {
                folders.push(path);
            }
            entries = entries.saturating_add(1);
            if entries > ENTRIES_MAX {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What sector 0 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SectorZero {
    /// How often the file system was recreated.
    count: u32,
    /// Whether the last time went through.
    finished: bool,
}

impl Default for SectorZero {
    /// A card as it was written.
    fn default() -> Self {
        Self {
            count: 0,
            finished: true,
        }
    }
}

impl SectorZero {
    /// None if there is no record.
    fn parse(sector: &[u8]) -> Option<Self> {
        let rest = sector.strip_prefix(mounts::RECORD)?;
        let line = rest.split(|byte| *byte == b'\n').next()?;
        let words = std::str::from_utf8(line).ok()?;
        let (count, state) = words.split_once(' ')?;
        Some(Self {
            count: count.parse().ok()?,
            finished: state == "whole",
        })
    }

    fn of(device: &Path) -> Option<Self> {
        let mut sector = [0; SECTOR_BYTES];
        File::open(device).ok()?.read_exact(&mut sector).ok()?;
        Self::parse(&sector)
    }

    /// The sector: `pgw-data recreated COUNT whole` or `begun`, and a line end.
    fn sector(self) -> Vec<u8> {
        let state = if self.finished { "whole" } else { "begun" };
        let mut sector = mounts::RECORD.to_vec();
        sector.extend(format!("{} {state}\n", self.count).into_bytes());
        sector.resize(SECTOR_BYTES, 0);
        sector
    }

    fn write(self, device: &mut File) -> io::Result<()> {
        let sector = self.sector();
        device.rewind()?;
        device.write_all(&sector)?;
        device.sync_data()
    }
}

/// Writes the empty file system over a partition that is not mounted, in an order that
/// leaves it complete, or marked as incomplete, whenever the power fails.
fn recreate(
    device: &Path,
    mut empty: impl Read,
    meanwhile: &mut dyn FnMut(),
) -> io::Result<SectorZero> {
    let before = SectorZero::of(device).unwrap_or_default();
    let count = match before.finished {
        true => before.count.saturating_add(1),
        false => before.count,
    };
    // EXCL: the kernel refuses what is mounted.
    let flags = i32::try_from(OFlags::EXCL.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    let mut out = options
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(device)?;
    let begun = SectorZero {
        count,
        finished: false,
    };
    begun.write(&mut out)?;
    let mut head = [0; HEAD_BYTES];
    empty.read_exact(&mut head)?;
    out.seek(SeekFrom::Start(HEAD_BYTES as u64))?;
    loop {
        meanwhile();
        let mut part = Vec::with_capacity(PART_BYTES);
        if empty
            .by_ref()
            .take(PART_BYTES as u64)
            .read_to_end(&mut part)?
            == 0
        {
            break;
        }
        out.write_all(&part)?;
        out.sync_data()?;
    }
    let (_, superblock) = head.split_at(SUPERBLOCK);
    out.seek(SeekFrom::Start(SUPERBLOCK as u64))?;
    out.write_all(superblock)?;
    out.sync_data()?;
    let whole = SectorZero {
        count,
        finished: true,
    };
    whole.write(&mut out)?;
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three parts and a bit, no two bytes in a row alike.
    fn empty() -> Vec<u8> {
        let bytes = (0..251).cycle();
        bytes.take(3 * PART_BYTES + 4096).collect()
    }

    fn device(folder: &Path) -> PathBuf {
        let device = folder.join("partition");
        let mut damaged = vec![0xee; empty().len()];
        damaged[..SUPERBLOCK].fill(0);
        fs::write(&device, damaged).unwrap();
        device
    }

    fn is_recreated(device: &Path) -> bool {
        fs::read(device).unwrap()[SUPERBLOCK..] == empty()[SUPERBLOCK..]
    }

    #[test]
    fn a_partition_is_recreated_and_says_how_often() {
        let folder = tempfile::tempdir().unwrap();
        let device = device(folder.path());
        assert_eq!(SectorZero::of(&device), None);
        let mut fed = 0;
        for count in 1..=2 {
            let whole = SectorZero {
                count,
                finished: true,
            };
            assert_eq!(
                recreate(&device, &*empty(), &mut || fed += 1).unwrap(),
                whole
            );
            assert_eq!(SectorZero::of(&device), Some(whole));
            assert!(is_recreated(&device));
        }
        assert!(fed >= 6, "{fed}");
    }

    /// The power goes while a part is read, which is as good as while it is written.
    #[test]
    fn an_interrupted_one_is_known_and_recreated_again() {
        struct Cut;
        impl Read for Cut {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let device = device(folder.path());
        let old = fs::read(&device).unwrap();
        for bytes in [0, HEAD_BYTES, HEAD_BYTES + 1, 2 * PART_BYTES, empty().len()] {
            let cut = empty()[..bytes].to_vec();
            assert!(recreate(&device, cut.chain(Cut), &mut || ()).is_err());
            let begun = SectorZero {
                count: 1,
                finished: false,
            };
            assert_eq!(SectorZero::of(&device), Some(begun), "{bytes}");
            // The superblock is still the old one.
            let now = fs::read(&device).unwrap();
            assert_eq!(now[SUPERBLOCK..HEAD_BYTES], old[SUPERBLOCK..HEAD_BYTES]);
        }
        assert_eq!(recreate(&device, &*empty(), &mut || ()).unwrap().count, 1);
        assert!(is_recreated(&device));
    }

    #[test]
    fn a_read_error_is_damage_once_it_has_lasted_and_a_missing_device_is_none() {
        let mut data = Data::default();
        let start = Instant::now();
        let mut damage = |errno: Errno, at: Duration| data.is_damage(&errno.into(), start + at);
        for errno in [Errno::NODEV, Errno::NOMEM, Errno::BUSY] {
            assert!(!damage(errno, UNREADABLE_MAX), "{errno:?}");
        }
        assert!(damage(Errno::BADMSG, Duration::ZERO));
        assert!(damage(Errno::UCLEAN, Duration::ZERO));
        assert!(!damage(Errno::IO, Duration::ZERO));
        assert!(!damage(Errno::INVAL, UNREADABLE_MAX / 2));
        assert!(damage(Errno::IO, UNREADABLE_MAX));
    }

    #[test]
    fn it_is_recreated_once_a_minute_at_most() {
        let mut data = Data::default();
        let start = Instant::now();
        let may: Vec<bool> = [0, 1, 59, 60, 61]
            .map(|seconds| data.may_recreate(start + Duration::from_secs(seconds)))
            .to_vec();
        assert_eq!(may, [true, false, false, true, false]);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for text in [
            "",
            "\0\0",
            "pgw-data recreated x whole\n",
            "pgw-data recreated 1\n",
        ] {
            assert_eq!(SectorZero::parse(text.as_bytes()), None, "{text:?}");
        }
        let record = SectorZero {
            count: 7,
            finished: false,
        };
        assert_eq!(SectorZero::parse(&record.sector()), Some(record));
    }

    #[test]
    fn all_that_is_there_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("main/stale")).unwrap();
        fs::write(folder.path().join("main/log-a"), "x").unwrap();
        let mut folders = 0;
        look_through(folder.path(), &mut || folders += 1).unwrap();
        assert_eq!(folders, 3);
        assert!(look_through(&folder.path().join("none"), &mut || ()).is_err());
    }
}
