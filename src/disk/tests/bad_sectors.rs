//! Media that do not give back what they hold (EIO): how SD cards die. Where
//! something is kept that is damage like any other (S7, S15), elsewhere nothing;
//! never an error, and never less than what is said.

use crate::disk::format::BLOCK;
use crate::disk::{Condition, Recovered, Standing};

use super::damage::{FILES, disk_with, open, written};
use super::rig::{Image, Rig};
use crate::disk::simulated::SimulatedDisk;

/// The state is whole, or set aside whole and said to be lost.
fn whole_or_damaged(
    sim: &SimulatedDisk,
    recovered: &Recovered,
    files: &[Vec<u8>],
    image: &Image,
) -> bool {
    let Condition::Damaged { set_aside, .. } = &recovered.condition else {
        assert_eq!(Image::of(recovered), *image);
        return true;
    };
    for (name, bytes) in FILES.iter().zip(files) {
        assert_eq!(sim.bytes(&set_aside.join(name)).as_ref(), Some(bytes));
    }
    let standing = recovered.hard_state.as_ref().map(|h| h.standing);
    assert_eq!(standing, Some(Standing::Recovering));
    assert!(recovered.entries.is_empty() && recovered.checkpoint.is_none());
    false
}

/// What was found, or begun anew and not yet used, is there at the next start.
fn opens_again(sim: &SimulatedDisk, recovered: &Recovered) {
    let again = open(sim).unwrap();
    assert_eq!(Image::of(&again), Image::of(recovered));
    match (&again.condition, &recovered.condition) {
        (Condition::Intact, Condition::Intact) => {}
        (Condition::SetAside { folder }, Condition::Damaged { set_aside, .. }) => {
            assert_eq!(folder, set_aside);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_block_in_turn_is_lost() {
    let (files, image) = written();
    let (mut lost, mut harmless) = (Vec::new(), 0);
    for (name, bytes) in FILES.iter().zip(&files) {
        for block in 0..bytes.len() / BLOCK {
            let sim = disk_with(&files);
            let path = Rig::folder().join(name);
            sim.world().bad_blocks.insert((path, block));
            let recovered = open(&sim).unwrap();
            if whole_or_damaged(&sim, &recovered, &files, &image) {
                harmless += 1;
                // Now the other segment is the live one. Its end may have come to
                // the bad block, which may hold the next frame for all that one
                // can tell.
                sim.world().bad_blocks.clear();
            } else {
                lost.push((*name, block));
            }
            opens_again(&sim, &recovered);
        }
    }
    // The live segment's header, its frames and the block where the next may be, and
    // both slots; neither the spare nor what is reserved behind.
    let live = if lost.contains(&("log-a", 0)) {
        "log-a"
    } else {
        "log-b"
    };
    let slots = [("hard-state", 0), ("hard-state", 1)];
    assert_eq!(lost, [(live, 0), (live, 1), (live, 2), slots[0], slots[1]]);
    assert!(harmless >= 5, "{harmless}");
}

/// What cannot be read at once can be read a moment later, or in smaller pieces.
#[test]
fn every_read_in_turn_fails_once() {
    let (files, image) = written();
    let sim = disk_with(&files);
    open(&sim).unwrap();
    let reads = sim.world().reads;
    assert!(reads >= 4, "{reads}");
    let mut intact = 0;
    for read in 1..=reads {
        let sim = disk_with(&files);
        sim.world().fail_read = Some(read);
        let recovered = open(&sim).unwrap();
        intact += u32::from(whole_or_damaged(&sim, &recovered, &files, &image));
        opens_again(&sim, &recovered);
    }
    assert!(intact > 0);
}

/// A folder of which nothing can be read can be used again.
#[test]
fn all_blocks_are_lost() {
    let (files, image) = written();
    let sim = disk_with(&files);
    for (name, bytes) in FILES.iter().zip(&files) {
        let bad = (0..bytes.len() / BLOCK).map(|block| (Rig::folder().join(name), block));
        sim.world().bad_blocks.extend(bad);
    }
    let recovered = open(&sim).unwrap();
    assert!(!whole_or_damaged(&sim, &recovered, &files, &image));
    opens_again(&sim, &recovered);
}
