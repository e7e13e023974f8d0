//! Mounts: the kernel's own, and the card's two partitions, known by their labels
//! wherever the disk is. Of all that is mounted only the data partition is ever
//! written to.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, chmod};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Where the boot partition is mounted, read-only.
pub const BOOT: &str = "/boot";

/// Where the data partition is mounted.
pub const DATA: &str = crate::config::appliance::DATA;

/// The user and the group that the witness runs as; `image/kit/card.py` gives them
/// the data partition. The options of FAT say the same number.
pub const WITNESS_ID: u32 = 1000;

/// FAT knows no owners: all of it is the witness's alone, for it holds the
/// cluster's password.
const FAT_OPTIONS: &CStr = c"uid=1000,gid=1000,umask=0077,iocharset=ascii";

/// A damaged file system is not written to any more; the witness then says that it
/// cannot write, and gives no vote.
const EXT4_OPTIONS: &CStr = c"errors=remount-ro";

/// How much of a partition tells what it is, in bytes.
const BEGINNING_BYTES: usize = 2048;

/// A partition of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// FAT32, `PGWITNESS`: kernel, firmware, `pg-witness.json`.
    Boot,
    /// ext4, `pgw-data`: the state.
    Data,
}

/// The kernel's file systems. Without them nothing else can be done, and nothing
/// can be said either: what fails shows in what comes after.
pub fn kernel() {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC;
    let strict = plain | MountFlags::NODEV;
    for (kind, at, flags) in [
        ("devtmpfs", "/dev", plain),
        ("proc", "/proc", strict),
        ("sysfs", "/sys", strict),
        ("tmpfs", "/run", strict),
    ] {
        let _ = fs::create_dir_all(at);
        let _ = mount(kind, at, kind, flags, None);
    }
    for folder in ["/etc", "/tmp", BOOT, DATA, "/run/appliance"] {
        let _ = fs::create_dir_all(folder);
    }
    let _ = chmod("/tmp", Mode::from_raw_mode(0o1777));
}

/// Looks for a partition of ours and mounts it. None if there is no such
/// partition yet.
pub fn attach(part: Part) -> Option<io::Result<PathBuf>> {
    let device = find(part)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounted = match part {
        Part::Boot => mount(
            &device,
            BOOT,
            "vfat",
            flags | MountFlags::RDONLY,
            FAT_OPTIONS,
        ),
        Part::Data => mount(
            &device,
            DATA,
            "ext4",
            flags | MountFlags::NOATIME,
            EXT4_OPTIONS,
        ),
    };
    Some(mounted.map(|()| device).map_err(io::Error::from))
}

/// Takes the boot partition off, so that the card may be pulled out.
pub fn detach_boot() {
    let _ = unmount(BOOT, UnmountFlags::empty());
}

/// Takes the data partition off with all that was written to it.
pub fn detach_data() {
    rustix::fs::sync();
    match unmount(DATA, UnmountFlags::empty()) {
        // Never mounted.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => log::warn!("the data partition is in use ({error}); it was synced"),
    }
}

fn find(part: Part) -> Option<PathBuf> {
    let entries = fs::read_dir("/sys/class/block").ok()?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let partition = |name: &&std::ffi::OsString| {
        Path::new("/sys/class/block")
            .join(name)
            .join("partition")
            .exists()
    };
    let devices = names
        .iter()
        .filter(partition)
        .map(|name| Path::new("/dev").join(name));
    devices
        .into_iter()
        .find(|device| beginning(device).is_ok_and(|bytes| identify(&bytes) == Some(part)))
}

fn beginning(device: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; BEGINNING_BYTES];
    File::open(device)?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What a partition is, by its first bytes: the label in FAT32's boot sector, or
/// the one in the superblock of ext4.
fn identify(bytes: &[u8]) -> Option<Part> {
    let at =
        |from: usize, text: &[u8]| bytes.get(from..).is_some_and(|rest| rest.starts_with(text));
    if at(510, &[0x55, 0xaa]) && at(82, b"FAT32") && at(71, b"PGWITNESS  ") {
        return Some(Part::Boot);
    }
    if at(1024 + 56, &[0x53, 0xef]) && at(1024 + 120, b"pgw-data\0") {
        return Some(Part::Data);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_known_by_their_labels() {
        let with = |parts: &[(usize, &[u8])]| {
            let mut bytes = vec![0; BEGINNING_BYTES];
            for (at, text) in parts {
                bytes[*at..*at + text.len()].copy_from_slice(text);
            }
            bytes
        };
        let fat: [(usize, &[u8]); 3] = [
            (71, b"PGWITNESS  "),
            (82, b"FAT32   "),
            (510, &[0x55, 0xaa]),
        ];
        assert_eq!(identify(&with(&fat)), Some(Part::Boot));
        let mut other = fat;
        other[0].1 = b"PGWITNESS2 ";
        assert_eq!(identify(&with(&other)), None);
        let ext4: [(usize, &[u8]); 2] = [(1024 + 56, &[0x53, 0xef]), (1024 + 120, b"pgw-data")];
        assert_eq!(identify(&with(&ext4)), Some(Part::Data));
        assert_eq!(identify(&with(&ext4)[..1100]), None);
        assert_eq!(identify(&[]), None);
    }
}
