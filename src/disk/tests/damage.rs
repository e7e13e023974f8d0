//! What is read from bytes that no power cut leaves: cut at any byte, rotten,
//! swapped, a newer version's, another program's. Never a panic, never an older
//! state passed off as the last, always a name for the damage.

use std::path::PathBuf;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::disk::cluster::Cluster;
use crate::disk::folder;
use crate::disk::{Condition, DiskError, Recovered, Standing};

use super::crash::history;
use super::rig::{Image, Rig, entry, index, vote};
use crate::disk::simulated::{DiskEvent, SimulatedDisk};

pub(super) const FILES: [&str; 3] = ["log-a", "log-b", "hard-state"];

pub(super) fn open(sim: &SimulatedDisk) -> Result<Recovered, DiskError> {
    Cluster::open(sim.storage(), Rig::folder(), |_| Ok(())).map(|(_, recovered)| recovered)
}

/// The files after a history, and the state in them.
pub(super) fn written() -> (Vec<Vec<u8>>, Image) {
    let mut rig = Rig::new(1);
    rig.open().unwrap().unwrap();
    history(&mut rig, Rig::settle);
    let bytes = FILES.map(|f| rig.sim.bytes(&Rig::folder().join(f)).unwrap());
    (bytes.to_vec(), rig.latest().clone())
}

pub(super) fn disk_with(files: &[Vec<u8>]) -> SimulatedDisk {
    let sim = SimulatedDisk::new(9);
    for (name, bytes) in FILES.iter().zip(files) {
        sim.put(&Rig::folder().join(name), bytes);
    }
    sim
}

/// S1: a history of writes, cut off behind each of its bytes: what was
/// acknowledged by then is there, or the loss is named.
#[test]
fn a_history_cut_at_every_byte() {
    let mut rig = Rig::new(3);
    let mut book = Vec::new();
    rig.open().unwrap().unwrap();
    history(&mut rig, |rig| {
        let healthy = rig.settle();
        let mark = DiskEvent::Mark(rig.acknowledged());
        rig.sim.world().events.push(mark);
        book = rig.book().to_vec();
        healthy
    });
    let events = rig.sim.world().events.clone();
    let mut files: std::collections::BTreeMap<PathBuf, Vec<u8>> = Default::default();
    let (mut acknowledged, mut cuts, mut damaged) = (0, 0, 0);
    for event in events {
        let (path, offset, bytes) = match event {
            DiskEvent::Mark(place) => {
                acknowledged = place;
                continue;
            }
            DiskEvent::Write(path, offset, bytes) => (path, offset, bytes),
        };
        for (n, byte) in bytes.iter().enumerate() {
            let file = files.entry(path.clone()).or_default();
            file.resize(file.len().max(offset + n + 1), 0);
            let changed = std::mem::replace(&mut file[offset + n], *byte) != *byte;
            if !changed && n + 1 < bytes.len() {
                continue; // The same as the cut before.
            }
            cuts += 1;
            let sim = SimulatedDisk::new(5);
            for (path, bytes) in &files {
                sim.put(path, bytes);
            }
            let recovered = open(&sim).unwrap();
            if let Condition::Damaged { what, set_aside } = &recovered.condition {
                // A sector cut in itself, which no medium leaves. The slot of a vote
                // cannot tell that from the loss of the vote, nor the very first
                // header from the loss of a log.
                assert!(
                    what.starts_with("hard-state") || acknowledged == 0,
                    "{what}"
                );
                assert!(sim.bytes(&set_aside.join("hard-state")).is_some());
                damaged += 1;
                continue;
            }
            let expected = &book[acknowledged..];
            let image = Image::of(&recovered);
            assert!(expected.contains(&image), "cut {cuts}: {image:?}");
        }
    }
    assert!(cuts > 6000, "{cuts}");
    assert!(damaged < 200, "{damaged}");
}

/// S7: any byte changed, in what was acknowledged, is either of no importance or
/// named; the files are kept.
#[test]
fn every_rotten_byte_is_named_or_harmless() {
    let (files, image) = written();
    let (mut named, mut harmless) = (0, 0);
    for (number, bytes) in files.iter().enumerate() {
        for at in 0..bytes.len() {
            // Of the spare's and the reserve's bytes a sample does.
            if bytes[at] == 0 && at % 61 != 0 {
                continue;
            }
            let mut rotten = files.clone();
            rotten[number][at] ^= 0x40;
            let sim = disk_with(&rotten);
            let recovered = match open(&sim) {
                Ok(recovered) => recovered,
                Err(error) => panic!("{error}"),
            };
            match recovered.condition {
                Condition::Damaged { set_aside, .. } => {
                    named += 1;
                    let kept = sim.bytes(&set_aside.join(FILES[number])).unwrap();
                    assert_eq!(kept, rotten[number]);
                    let standing = recovered.hard_state.map(|h| h.standing);
                    assert_eq!(standing, Some(Standing::Recovering));
                    assert!(recovered.entries.is_empty());
                }
                _ => {
                    harmless += 1;
                    let found = Image::of(&recovered);
                    // The last frame holds a commit index alone: its loss shows
                    // nowhere and costs nothing.
                    assert_eq!(found, image, "{} byte {at}", FILES[number]);
                }
            }
        }
    }
    assert!(named > 500 && harmless > 500, "{named} {harmless}");
}

/// Files of random bytes, files cut, files of one another's names.
#[test]
fn nonsense_never_panics() {
    let (files, image) = written();
    let mut rng = SmallRng::seed_from_u64(11);
    for _ in 0..3000 {
        let mut bad = files.clone();
        for _ in 0..rng.random_range(1..4) {
            let number = rng.random_range(0..3);
            let file = &mut bad[number];
            let at = rng.random_range(0..=file.len());
            match rng.random_range(0..5) {
                0 => file.truncate(at),
                1 => file[at..].fill(0),
                2 => rng.fill(&mut file[at..]),
                3 => bad.swap(0, 1),
                _ => bad[number] = files[rng.random_range(0..3)].clone(),
            }
        }
        let sim = disk_with(&bad);
        match open(&sim) {
            Ok(recovered) => match recovered.condition {
                Condition::Damaged { .. } => {}
                // Only cuts to nothing at all look like nothing.
                Condition::Fresh => assert!(bad.iter().all(|f| f.iter().all(|b| *b == 0))),
                _ => {
                    let found = Image::of(&recovered);
                    assert_eq!(
                        (found.hard, found.checkpoint),
                        (image.hard.clone(), image.checkpoint.clone())
                    );
                    assert!(image.entries.starts_with(&found.entries));
                }
            },
            Err(error) => assert!(matches!(error, DiskError::NewerFormat { .. }), "{error}"),
        }
    }
}

/// S7: state that was set aside leaves an amnesic, also if the process ends
/// before anything is saved; a saved standing ends that.
#[test]
fn amnesia_outlives_a_crash() {
    let (mut files, _) = written();
    files[0].fill(0xee);
    files[1].fill(0xee);
    let sim = disk_with(&files);
    let recovered = open(&sim).unwrap();
    assert!(
        matches!(&recovered.condition, Condition::Damaged { what, set_aside }
        if what.contains("log-a") && set_aside.ends_with("damaged-1"))
    );
    sim.power_cut();
    let (mut cluster, recovered) = Cluster::open(sim.storage(), Rig::folder(), |_| Ok(())).unwrap();
    assert!(
        matches!(&recovered.condition, Condition::SetAside { folder }
        if folder.ends_with("damaged-1"))
    );
    assert_eq!(recovered.hard_state.unwrap().standing, Standing::Recovering);
    cluster.append(&[entry(5, 5, b"x")], index(5)).unwrap();
    assert!(cluster.write_log(false).unwrap());
    cluster.log_file().0.sync().unwrap();
    cluster.log_synced();
    drop(cluster);
    // Entries alone make no voter.
    let (mut cluster, recovered) = Cluster::open(sim.storage(), Rig::folder(), |_| Ok(())).unwrap();
    assert_eq!(recovered.condition, Condition::Intact);
    assert_eq!(recovered.hard_state.unwrap().standing, Standing::Recovering);
    cluster.write_hard_state(&vote(6, 1)).unwrap();
    cluster.hard_file().0.sync().unwrap();
    drop(cluster);
    let recovered = open(&sim).unwrap();
    assert_eq!(recovered.hard_state, Some(vote(6, 1)));
}

/// S13, S7: what is set aside is kept whole, names never collide, and a crash
/// between the moves never leaves an older state that passes for a voter's.
#[test]
fn setting_aside_keeps_all_of_it() {
    let (files, image) = written();
    for failing in 1..40 {
        let sim = disk_with(&files);
        sim.world().fail = Some((failing, 1000, rustix::io::Errno::IO));
        let outcome = folder::set_aside(&sim, Rig::folder(), "stale-a/b");
        sim.power_cut();
        sim.world().fail = None;
        let recovered = open(&sim).unwrap();
        let voter = recovered.hard_state.as_ref().map(|h| h.standing) == Some(Standing::Voter);
        if outcome.is_ok() || voter {
            assert_eq!(voter, outcome.is_err());
            assert!(!voter || Image::of(&recovered) == image);
        }
        // Every file is still somewhere.
        let paths = sim.paths();
        let all: Vec<_> = paths.iter().filter_map(|p| sim.bytes(p)).collect();
        let kept = files.iter().filter(|f| all.contains(f)).count();
        assert!(voter || kept == 3, "{failing}: {kept} {paths:?}");
    }
    let sim = disk_with(&files);
    let first = folder::set_aside(&sim, Rig::folder(), "stale-x").unwrap();
    let again = folder::set_aside(&sim, Rig::folder(), "stale-x").unwrap();
    let other = folder::set_aside(&sim, Rig::folder(), "a/b").unwrap();
    assert!(first.ends_with("stale-x") && again.ends_with("stale-x-2"));
    assert!(other.ends_with("stale-a_b"));
}

/// A newer version's files are refused by name and left alone.
#[test]
fn a_newer_format_is_refused() {
    for number in 0..3 {
        let (mut files, _) = written();
        let magic = files[number][..8].to_vec();
        let mut preamble = [magic.as_slice(), &3u32.to_le_bytes()].concat();
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&preamble);
        preamble.extend(crc.to_le_bytes());
        files[number][..16].copy_from_slice(&preamble);
        let sim = disk_with(&files);
        let error = open(&sim).unwrap_err();
        let path = Rig::folder().join(FILES[number]);
        let text = error.to_string();
        let known = "was written by a newer pg-witness (format 3, this one knows 2)";
        assert!(
            text.starts_with(&format!("{} {known}", path.display())),
            "{text}"
        );
        assert_eq!(sim.bytes(&path).unwrap(), files[number]);
    }
}

/// Appends with a gap, truncation of what is committed (S2), checkpoints that
/// would lose entries: refused before anything is written.
#[test]
fn what_would_lose_entries_is_refused() {
    let refused: [fn(&mut Rig); 5] = [
        |r| r.append(vec![entry(9, 1, b"")], 1),
        |r| r.append(vec![entry(3, 1, b""), entry(3, 1, b"")], 1),
        |r| {
            r.truncate(1);
            r.save(vote(9, 1));
        },
        |r| {
            let last = (0, entry(1, 1, b"").entry.id);
            let body = b"k".as_slice().into();
            r.begin_segment(crate::disk::Checkpoint { last, body }, vec![], 2, false);
        },
        |r| {
            let last = (0, entry(1, 1, b"").entry.id);
            let body = b"k".as_slice().into();
            let tail = vec![entry(3, 1, b"")];
            r.begin_segment(crate::disk::Checkpoint { last, body }, tail, 2, true);
        },
    ];
    for ask in refused {
        let mut rig = Rig::new(2);
        rig.open().unwrap().unwrap();
        rig.append(vec![entry(1, 1, b""), entry(2, 1, b"")], 2);
        assert!(rig.settle());
        let before = rig.latest().clone();
        ask(&mut rig);
        assert!(!rig.settle());
        assert!(matches!(rig.failure(), Some(DiskError::Order { .. })));
        let recovered = {
            rig.forget();
            open(&rig.sim).unwrap()
        };
        assert_eq!(Image::of(&recovered), before);
    }
}

/// S15: a state whose bytes are sound and make no sense to its owner is damage too.
#[test]
fn what_its_owner_cannot_read_is_set_aside() {
    let (files, _) = written();
    let sim = disk_with(&files);
    let opened = Cluster::open(sim.storage(), Rig::folder(), |recovered| {
        let checkpoint = recovered.checkpoint.as_ref().unwrap();
        assert_eq!((checkpoint.body.len(), recovered.entries.len()), (700, 2));
        Err("the checkpoint is a riddle".into())
    });
    let (cluster, recovered) = opened.unwrap();
    let hard_state = recovered.hard_state.unwrap();
    assert_eq!(hard_state.standing, Standing::Recovering);
    assert_eq!(
        recovered.condition,
        Condition::Damaged {
            what: "the checkpoint is a riddle".into(),
            set_aside: Rig::folder().join("damaged-1"),
        }
    );
    for (name, bytes) in FILES.iter().zip(&files) {
        let kept = sim.bytes(&Rig::folder().join("damaged-1").join(name));
        assert_eq!(kept.as_ref(), Some(bytes));
    }
    drop(cluster);
    assert!(open(&sim).unwrap().entries.is_empty());
}
