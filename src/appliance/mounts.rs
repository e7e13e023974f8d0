//! Mounts: the kernel's own, and the card's two partitions, known by their labels
//! wherever the disk is. Of all that is mounted only the data partition is ever
//! written to.

use std::ffi::{CStr, OsStr, OsString};
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

/// The beginning of the record that `data` writes in front of the file system.
pub const RECORD: &[u8] = b"pgw-data recreated ";

/// How much of a partition tells what it is, in bytes.
const BEGINNING_BYTES: usize = 2048;

/// A partition of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partition {
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

/// What is mounted from a card is data.
const CARD: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// Looks for the boot partition and mounts it. None if there is none yet.
pub fn attach_boot() -> Option<io::Result<PathBuf>> {
    let device = find(Partition::Boot)?;
    let flags = CARD | MountFlags::RDONLY;
    let mounted = mount(&device, BOOT, "vfat", flags, FAT_OPTIONS);
    Some(mounted.map(|()| device).map_err(io::Error::from))
}

/// Mounts the data partition.
///
/// # Errors
/// The kernel's: it is damaged, or cannot be read.
pub fn mount_data(device: &Path) -> io::Result<()> {
    let flags = CARD | MountFlags::NOATIME;
    Ok(mount(device, DATA, "ext4", flags, EXT4_OPTIONS)?)
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

/// Where the kernel lists disks and their partitions.
const BLOCK: &str = "/sys/class/block";

/// Sectors of the data partition, as `image/kit/card.py` makes it.
const DATA_SECTORS: u64 = 23 * 2048;

/// The partition's device, once it is there: by its label; the data partition without
/// one, as the second on the disk of the boot partition, if it has the size of ours.
pub fn find(part: Partition) -> Option<PathBuf> {
    let labelled = |part| {
        let devices = partitions(Path::new(BLOCK)).into_iter();
        let mut devices = devices.map(|name| Path::new("/dev").join(name));
        devices.find(|device| beginning(device).is_ok_and(|bytes| identify(&bytes) == Some(part)))
    };
    let found = labelled(part);
    if found.is_some() || part == Partition::Boot {
        return found;
    }
    let boot = labelled(Partition::Boot)?;
    let name = second(Path::new(BLOCK), boot.file_name()?.as_ref())?;
    Some(Path::new("/dev").join(name))
}

/// Names of all partitions, in order.
fn partitions(block: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(block).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    let mut names: Vec<_> = names
        .filter(|name| block.join(name).join("partition").exists())
        .collect();
    names.sort();
    names
}

/// The second partition of the disk of `boot`, if it can be ours.
fn second(block: &Path, boot: &Path) -> Option<OsString> {
    let number = |name: &OsStr, what: &str| -> Option<u64> {
        let text = fs::read_to_string(block.join(name).join(what)).ok()?;
        text.trim().parse().ok()
    };
    // Partitions are listed by links into the folder of their disk.
    let disk = |name: &OsStr| {
        Some(
            fs::canonicalize(block.join(name))
                .ok()?
                .parent()?
                .to_owned(),
        )
    };
    let of_boot = disk(boot.as_ref())?;
    partitions(block).into_iter().find(|name| {
        number(name, "partition") == Some(2)
            && number(name, "size") == Some(DATA_SECTORS)
            && disk(name).as_ref() == Some(&of_boot)
    })
}

fn beginning(device: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; BEGINNING_BYTES];
    File::open(device)?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What a partition is, by its first bytes: the label in FAT32's boot sector, the one
/// in the superblock of ext4, or the record of a recreated file system.
fn identify(bytes: &[u8]) -> Option<Partition> {
    let at =
        |from: usize, text: &[u8]| bytes.get(from..).is_some_and(|rest| rest.starts_with(text));
    if at(510, &[0x55, 0xaa]) && at(82, b"FAT32") && at(71, b"PGWITNESS  ") {
        return Some(Partition::Boot);
    }
    let labelled = at(1024 + 56, &[0x53, 0xef]) && at(1024 + 120, b"pgw-data\0");
    if labelled || at(0, RECORD) {
        return Some(Partition::Data);
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
        assert_eq!(identify(&with(&fat)), Some(Partition::Boot));
        let mut other = fat;
        other[0].1 = b"PGWITNESS2 ";
        assert_eq!(identify(&with(&other)), None);
        let ext4: [(usize, &[u8]); 2] = [(1024 + 56, &[0x53, 0xef]), (1024 + 120, b"pgw-data")];
        assert_eq!(identify(&with(&ext4)), Some(Partition::Data));
        assert_eq!(identify(&with(&ext4)[..1100]), None);
        assert_eq!(identify(&with(&[(0, RECORD)])), Some(Partition::Data));
        assert_eq!(identify(&[]), None);
    }

    /// As sysfs has them: the disk's folder holds those of its partitions.
    #[test]
    fn the_data_partition_without_a_label_is_the_second_beside_boot() {
        let folder = tempfile::tempdir().unwrap();
        let block = folder.path().join("class");
        fs::create_dir(&block).unwrap();
        let ours = DATA_SECTORS.to_string();
        for (disk, name, number, sectors) in [
            ("sda", "sda1", "1", "81920"),
            ("sda", "sda2", "2", &*ours),
            ("sdb", "sdb1", "1", "81920"),
            ("sdb", "sdb2", "2", "99999"),
            ("sdc", "sdc1", "1", &*ours),
        ] {
            let real = folder.path().join(disk).join(name);
            fs::create_dir_all(&real).unwrap();
            fs::write(real.join("partition"), format!("{number}\n")).unwrap();
            fs::write(real.join("size"), format!("{sectors}\n")).unwrap();
            std::os::unix::fs::symlink(&real, block.join(name)).unwrap();
        }
        let second = |boot: &str| second(&block, Path::new(boot));
        assert_eq!(second("sda1"), Some("sda2".into()));
        for boot in ["sdb1", "sdc1", "sdd1"] {
            assert_eq!(second(boot), None, "{boot}");
        }
    }
}
