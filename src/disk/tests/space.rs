//! Space: what a commit costs, a disk that is full, a log that is not
//! checkpointed, syncs that are shared.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::disk::format::BLOCK;
use crate::disk::storage::File;
use crate::disk::worker::sync_files;
use crate::disk::{Checkpoint, DiskError};

use super::rig::{Rig, entry, vote};
use crate::disk::simulated::{DiskEvent, SEGMENT, SimulatedDisk};

fn checkpoint(last: u64, body: &[u8]) -> Checkpoint {
    Checkpoint {
        last: (0, entry(last, 1, b"").entry.id),
        body: body.into(),
    }
}

/// A commit of a small entry writes one block, once, and syncs once.
#[test]
fn a_small_commit_is_one_block() {
    let mut rig = Rig::new(1);
    rig.open().unwrap().unwrap();
    for n in 1..=40 {
        rig.sim.world().events.clear();
        let syncs = rig.sim.world().syncs;
        rig.append(vec![entry(n, 1, &[7; 200])], n);
        assert!(rig.settle());
        let world = rig.sim.world();
        let sizes = world.events.iter().map(|e| match e {
            DiskEvent::Write(_, offset, bytes) => (offset % BLOCK, bytes.len()),
            DiskEvent::Mark(_) => unreachable!(),
        });
        let sizes: Vec<_> = sizes.collect();
        assert_eq!(sizes, [(0, BLOCK)], "entry {n}");
        assert_eq!(world.syncs, syncs + 1);
    }
}

/// Nothing is written while nothing is appended; the commit index goes with the
/// close.
#[test]
fn an_idle_member_writes_nothing() {
    let mut rig = Rig::new(1);
    rig.open().unwrap().unwrap();
    rig.append(vec![entry(1, 1, b"a"), entry(2, 1, b"b")], 1);
    assert!(rig.settle());
    rig.sim.world().events.clear();
    rig.note_commit(2);
    assert!(rig.settle());
    assert_eq!(rig.sim.world().events.len(), 0);
    rig.close();
    assert!(rig.settle());
    assert_eq!(rig.sim.world().events.len(), 1);
    rig.expect_commit(2);
    rig.open().unwrap().unwrap();
}

/// What waits while a sync runs shares the next: ten appends, one sync.
#[test]
fn waiting_appends_share_a_sync() {
    let mut rig = Rig::new(1);
    rig.open().unwrap().unwrap();
    let syncs = rig.sim.world().syncs;
    for n in 1..=10 {
        rig.append(vec![entry(n, 1, b"x")], 1);
    }
    rig.save(vote(1, 1));
    rig.save(vote(2, 1));
    rig.append(vec![entry(11, 2, b"x")], 1);
    assert!(rig.one_round());
    // E7: the append behind the votes is not yet written.
    assert_eq!(rig.sim.world().syncs, syncs + 2);
    assert_eq!(rig.acknowledged(), 12);
    assert!(rig.settle());
    assert_eq!(rig.acknowledged(), 13);
}

/// A sync of the whole file system that fails condemns nobody: each file is asked
/// for itself, and only those fail that lost something.
#[test]
fn a_failed_shared_sync_asks_each_file() {
    let sim = SimulatedDisk::new(1);
    sim.world().shared_sync = true;
    let storage = sim.storage();
    let open = |n: u8| storage.open(&PathBuf::from(format!("/{n}")), true).unwrap();
    let files: Vec<_> = (0..8).map(open).collect();
    let files: Vec<&dyn File> = files.iter().map(AsRef::as_ref).collect();
    assert!(sync_files(&files).iter().all(Result::is_ok));
    assert!(sync_files(&files[..7]).iter().all(Result::is_ok));
    let counts = |sim: &SimulatedDisk| {
        let world = sim.world();
        (world.file_system_syncs, world.syncs)
    };
    assert_eq!(counts(&sim), (1, 7));
    // The shared one fails, and the first of those that follow.
    let mut world = sim.world();
    world.fail = Some((world.calls + 1, 2, Errno::IO));
    drop(world);
    let failed = sync_files(&files).iter().filter(|o| o.is_err()).count();
    assert_eq!((failed, counts(&sim)), (1, (2, 15)));
}

/// A full disk can still be checkpointed: the spare is there. S14.
#[test]
fn a_full_disk_is_checkpointed() {
    let mut rig = Rig::new(1);
    rig.open().unwrap().unwrap();
    rig.sim.world().free = 0;
    let mut n = 0;
    for _ in 0..20 {
        while !rig.wants_checkpoint() {
            n += 1;
            rig.append(vec![entry(n, 1, &[1; 300])], n);
            assert!(rig.settle());
        }
        rig.begin_segment(checkpoint(n, &[2; 3000]), vec![], n, false);
        assert!(rig.settle());
        assert!(!rig.wants_checkpoint());
    }
    rig.sim.power_cut();
    rig.open().unwrap().unwrap();
}

/// A full disk whose log is not checkpointed fails by name, loses nothing, can be
/// opened again and then checkpointed.
#[test]
fn a_full_log_on_a_full_disk_recovers() {
    let mut rig = Rig::new(1);
    rig.open().unwrap().unwrap();
    rig.sim.world().free = 0;
    let mut n = 1;
    rig.append(vec![entry(n, 1, &[1; 300])], n);
    while rig.settle() {
        n += 1;
        rig.append(vec![entry(n, 1, &[1; 300])], n);
    }
    assert!(matches!(rig.failure(), Some(DiskError::Full { .. })));
    assert!(n > 30);
    rig.open().unwrap().unwrap();
    let last = rig.latest().last();
    assert!(last >= n - 1);
    assert!(rig.wants_checkpoint());
    rig.begin_segment(checkpoint(last, b"state"), vec![], last, false);
    assert!(rig.settle());
    rig.append(vec![entry(last + 1, 1, &[1; 300])], last);
    assert!(rig.settle());
}

/// A log that is not checkpointed grows; a checkpoint larger than a segment
/// makes larger segments.
#[test]
fn segments_grow() {
    let mut rig = Rig::new(1);
    rig.open().unwrap().unwrap();
    for n in 1..=20 {
        rig.append(vec![entry(n, 1, &vec![3; 9000])], n);
        assert!(rig.settle());
    }
    let large = vec![9; 300_000];
    rig.begin_segment(checkpoint(20, &large), vec![], 20, false);
    assert!(rig.settle());
    assert!(!rig.wants_checkpoint());
    let mut n = 20;
    while !rig.wants_checkpoint() {
        n += 1;
        rig.append(vec![entry(n, 1, &vec![3; 9000])], n);
        assert!(rig.settle());
    }
    // The log grew by about the checkpoint's size before it asks for the next.
    assert!((40..70).contains(&n), "{n}");
    rig.sim.power_cut();
    rig.open().unwrap().unwrap();
    let sizes = ["log-a", "log-b"].map(|f| rig.sim.bytes(&Rig::folder().join(f)).unwrap().len());
    assert!(
        sizes
            .iter()
            .all(|s| *s as u64 >= 600_000 && (*s as u64).is_multiple_of(SEGMENT))
    );
}

/// An append beyond the cap of a frame is refused by name. S10.
#[test]
fn an_append_has_a_cap() {
    let mut rig = Rig::new(1);
    rig.open().unwrap().unwrap();
    let huge: std::sync::Arc<[u8]> = vec![0; 20 << 20].into();
    let entries = (1..=9).map(|n| {
        let mut stored = entry(n, 1, b"");
        stored.entry.command = std::sync::Arc::clone(&huge);
        stored
    });
    rig.append(entries.collect(), 1);
    assert!(!rig.settle());
    let refused =
        matches!(rig.failure(), Some(DiskError::TooLarge { what, .. }) if *what == "an append");
    assert!(refused);
}

/// S15: a tail beyond what one frame takes opens the next segment all the same, and
/// is read back, wherever the power goes meanwhile.
#[test]
fn a_long_tail_opens_a_segment_in_several_frames() {
    let large: std::sync::Arc<[u8]> = vec![7; 3 << 20].into();
    for calls in 0..12 {
        let mut rig = Rig::new(calls);
        rig.open().unwrap().unwrap();
        for n in 1..=5 {
            let mut stored = entry(n, 1, b"");
            stored.entry.command = std::sync::Arc::clone(&large);
            rig.append(vec![stored], 1);
            assert!(rig.settle());
        }
        let tail = rig.latest().entries[1..].to_vec();
        let mut world = rig.sim.world();
        world.fail = (calls > 0).then_some((world.calls + calls, 1000, Errno::IO));
        drop(world);
        rig.begin_segment(checkpoint(1, b"state"), tail, 1, false);
        assert!(rig.settle() || calls > 0);
        rig.sim.power_cut();
        rig.sim.world().fail = None;
        rig.open().unwrap().unwrap();
        assert_eq!(rig.latest().last(), 5);
    }
}
