//! The same on the file system of the machine, through the public door: modes,
//! locks, other users, limits, and the worker thread serving many clusters.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures_lite::future::block_on;

use crate::disk::{Condition, Disk, DiskError, Worker, set_aside};

use super::rig::{entry, index, vote};
use crate::disk::simulated::SimulatedDisk;

/// A folder for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pg-witness-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_life_on_the_real_file_system() {
    let folder = Folder::new("life");
    let dir = folder.0.join("demo");
    fs::create_dir(&dir).unwrap();
    // A Python controller's files in the same folder.
    let python = [
        "10.0.0.1:5010.journal",
        "10.0.0.1:5010.journal.meta",
        "10.0.0.1:5010.dump",
    ];
    for name in python {
        fs::write(dir.join(name), name).unwrap();
    }
    let worker = Worker::start().unwrap();
    let (disk, recovered) = Disk::open(&dir, &worker).unwrap();
    assert_eq!(recovered.condition, Condition::Fresh);
    let voted = disk.save_hard_state(vote(1, 1));
    let entries = vec![entry(1, 0, b""), entry(2, 1, &[b'a'; 200])];
    let appended = disk.append(entries.clone(), index(1));
    disk.note_commit(index(2));
    block_on(async {
        voted.await.unwrap();
        appended.await.unwrap();
    });
    let stats = disk.stats();
    assert!(stats.syncs >= 2 && stats.commits == 1, "{stats:?}");
    assert!(stats.bytes_written > 2 << 20 && stats.sync_max >= stats.sync_last);
    // One at a time, also within one process; and nothing moves under its feet.
    let process = Some(std::process::id());
    let in_use = DiskError::InUse {
        path: dir.clone(),
        process,
    };
    assert_eq!(Disk::open(&dir, &worker).unwrap_err(), in_use);
    assert_eq!(set_aside(&dir, "stale-1").unwrap_err(), in_use);
    block_on(disk.close()).unwrap();

    for name in ["log-a", "log-b", "hard-state", "lock"] {
        assert_eq!(mode(&dir.join(name)), 0o600, "{name}");
    }
    // Reserved for real.
    assert!(fs::metadata(dir.join("log-a")).unwrap().blocks() * 512 >= 1 << 20);

    let (disk, recovered) = Disk::open(&dir, &worker).unwrap();
    assert_eq!(recovered.condition, Condition::Intact);
    assert_eq!(recovered.hard_state, Some(vote(1, 1)));
    assert_eq!(recovered.entries, entries);
    assert_eq!(recovered.commit, Some(index(2)));
    // Dropped: the next opening waits for its turn, and then the folder is free.
    drop(disk.append(vec![entry(3, 1, b"late")], index(2)));
    drop(disk);
    let (disk, recovered) = Disk::open(&dir, &worker).unwrap();
    assert_eq!(recovered.entries.len(), 3);
    block_on(disk.close()).unwrap();

    let moved = set_aside(&dir, "stale-1").unwrap();
    assert_eq!(mode(&moved), 0o700);
    assert!(moved.join("log-a").exists() && !dir.join("log-a").exists());
    for name in python {
        assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), name);
    }
    let (_, recovered) = Disk::open(&dir, &worker).unwrap();
    assert_eq!(recovered.condition, Condition::SetAside { folder: moved });
}

/// The other side of the tests below: opens the folder it is told and says what
/// came of it.
#[test]
fn other_process() {
    let Ok(dir) = std::env::var("PG_WITNESS_TEST_DIR") else {
        return;
    };
    let worker = Worker::start().unwrap();
    match Disk::open(Path::new(&dir), &worker) {
        Ok(_) => println!("said: opened"),
        Err(error) => println!("said: {error}"),
    }
}

fn said_by(mut command: Command, dir: &Path) -> String {
    let output = command
        .args(["--exact", "disk::tests::real::other_process", "--nocapture"])
        .env("PG_WITNESS_TEST_DIR", dir)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = text
        .lines()
        .find_map(|line| Some(line.split_once("said: ")?.1));
    said.unwrap_or_else(|| panic!("{text}")).to_owned()
}

/// The words that run this program again. For another board's an emulator comes first
/// (tests/image names it): the kernel does not know of the one that runs us.
fn ourselves(program: PathBuf) -> Vec<OsString> {
    let emulator = std::env::var("PG_WITNESS_TEST_RUNNER").unwrap_or_default();
    let words = emulator.split_whitespace().map(OsString::from);
    words.chain([program.into()]).collect()
}

fn this_program() -> Command {
    program_at(std::env::current_exe().unwrap())
}

fn program_at(program: PathBuf) -> Command {
    let words = ourselves(program);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

#[test]
fn a_second_process_is_refused() {
    let folder = Folder::new("second");
    let worker = Worker::start().unwrap();
    let (disk, _) = Disk::open(&folder.0, &worker).unwrap();
    let said = said_by(this_program(), &folder.0);
    let expected = format!(
        "{} is in use by process {}",
        folder.0.display(),
        std::process::id()
    );
    assert_eq!(said, expected);
    block_on(disk.close()).unwrap();
    assert_eq!(said_by(this_program(), &folder.0), "opened");
}

#[test]
fn another_users_folder_is_refused() {
    let folder = Folder::new("owner");
    // Nobody else may enter a checkout in root's home. Another process makes the copy:
    // ours could still be open in what another test forks, and would not run.
    let reachable = Folder::new("program");
    fs::set_permissions(&reachable.0, fs::Permissions::from_mode(0o755)).unwrap();
    let program = reachable.0.join("program");
    let mut copy = Command::new("cp");
    copy.args([&std::env::current_exe().unwrap(), &program]);
    assert!(copy.status().unwrap().success());
    let mut command = program_at(program);
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
        command.uid(65534).gid(65534).current_dir("/");
    } else {
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o500)).unwrap();
    }
    let said = said_by(command, &folder.0);
    let start = format!("{} is not writable by uid ", folder.0.display());
    assert!(said.starts_with(&start), "{said}");
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o700)).unwrap();
}

/// No space, as a limit on file size makes it.
#[test]
fn no_space_is_named() {
    let folder = Folder::new("space");
    let mut shell = Command::new("sh");
    // The limit's signal is ignored, so that the write fails instead.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""]);
    shell.args(ourselves(std::env::current_exe().unwrap()));
    let said = said_by(shell, &folder.0);
    assert!(said.starts_with("no space left for "), "{said}");
    assert_eq!(said_by(this_program(), &folder.0), "opened");
}

/// When many clusters wait, one sync of the file system serves them; if it fails,
/// each file speaks for itself.
#[test]
fn many_clusters_share_a_sync() {
    let sim = SimulatedDisk::new(1);
    sim.world().shared_sync = true;
    let worker = Worker::start().unwrap();
    let disks: Vec<_> = (0..20)
        .map(|n| {
            let dir = PathBuf::from(format!("/data/{n}"));
            sim.world().unlock();
            block_on(Disk::open_on(&dir, &worker, sim.storage(), |_| Ok(())))
                .unwrap()
                .0
        })
        .collect();
    let append = |n: u64| {
        // The worker is held until all have asked, so that they share a round.
        let held = sim.world();
        let (syncs, shared) = (held.syncs, held.file_system_syncs);
        let waiting = disks
            .iter()
            .map(|d| d.append(vec![entry(n, 1, b"x")], index(1)));
        let waiting: Vec<_> = waiting.collect();
        drop(held);
        let outcomes: Vec<_> = waiting.into_iter().map(block_on).collect();
        let world = sim.world();
        (
            outcomes,
            world.syncs - syncs,
            world.file_system_syncs - shared,
        )
    };
    // A few may run alone while the others still ask.
    let (outcomes, syncs, shared) = append(1);
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(syncs < 8 && shared >= 1, "{syncs} {shared}");
    assert!(disks.iter().all(|d| d.stats().commits == 1));
    // All calls fail from now on.
    let calls = sim.world().calls;
    sim.world().fail = Some((calls + 1, 1_000_000, rustix::io::Errno::IO));
    let (outcomes, ..) = append(2);
    assert!(
        outcomes
            .iter()
            .all(|o| matches!(o, Err(DiskError::Io { .. })))
    );
    // S14: the first failure is the answer from now on; the other cluster's disk
    // that is opened anew works.
    sim.world().fail = None;
    let again = block_on(disks[0].append(vec![entry(2, 1, b"x")], index(1)));
    assert!(again.is_err());
    sim.world().unlock();
    let dir = PathBuf::from("/data/0");
    let (disk, recovered) =
        block_on(Disk::open_on(&dir, &worker, sim.storage(), |_| Ok(()))).unwrap();
    assert!(!recovered.entries.is_empty());
    let next = recovered.entries.len() as u64 + 1;
    block_on(disk.append(vec![entry(next, 1, b"x")], index(1))).unwrap();
}
