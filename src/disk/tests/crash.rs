//! Power cuts and failing calls, at every point and at random ones.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::io::Errno;

use super::rig::{Rig, entry, vote};

/// Lives of random operations, each ended by a close, a crash of the process or
/// a power cut, some with failing calls. S1, E7.
fn lives(seed: u64, lying: bool) -> Result<(), String> {
    let mut rng = SmallRng::seed_from_u64(seed ^ 0x5eed);
    let mut rig = Rig::new(seed);
    rig.sim.world().lying = lying;
    for _ in 0..rng.random_range(2..6) {
        if rng.random_bool(0.3) {
            let errno = [Errno::IO, Errno::NOSPC][rng.random_range(0..2)];
            let count = [1, 1, 3, 1000][rng.random_range(0..4)];
            let mut world = rig.sim.world();
            let first = world.calls + rng.random_range(1..60);
            world.fail = Some((first, count, errno));
        }
        let mut healthy = rig.open()?.is_ok();
        for _ in 0..rng.random_range(0..40) {
            if !healthy {
                break;
            }
            rig.something(&mut rng);
            if rng.random_bool(0.6) {
                healthy = if rng.random_bool(0.5) {
                    rig.settle()
                } else {
                    rig.one_round()
                };
            }
        }
        match rng.random_range(0..4) {
            0 if healthy => {
                rig.close();
                rig.settle();
            }
            1 => {}
            _ => rig.sim.power_cut(),
        }
        rig.sim.world().fail = None;
    }
    rig.open()?.map_err(|error| error.to_string())
}

/// `DISK_SEEDS=60000 cargo test nothing_acknowledged` for more of them.
#[test]
fn nothing_acknowledged_is_lost_whatever_happens() {
    let seeds = std::env::var("DISK_SEEDS").map_or(600, |s| s.parse().unwrap());
    for seed in 0..seeds {
        if let Err(broken) = lives(seed, false) {
            panic!("seed {seed}: {broken}");
        }
    }
}

/// The simulation above can tell: on a medium whose syncs do nothing it fails.
#[test]
fn the_simulation_notices_a_lying_medium() {
    let broken = (0..50).filter(|seed| lives(*seed, true).is_err()).count();
    assert!(broken > 25, "{broken} of 50");
}

/// A short history with everything in it.
pub(super) fn history(rig: &mut Rig, mut after: impl FnMut(&mut Rig) -> bool) {
    let steps: [fn(&mut Rig); 12] = [
        |r| r.save(vote(1, 1)),
        |r| r.append(vec![entry(1, 0, b""), entry(2, 1, &[b'a'; 200])], 1),
        |r| r.append(vec![entry(3, 1, &[b'b'; 200])], 2),
        |r| r.truncate(2),
        |r| r.save(vote(2, 2)),
        |r| r.append(vec![entry(3, 2, &[b'c'; 5000])], 2),
        |r| r.append(vec![entry(4, 2, &[b'd'; 200])], 3),
        |r| {
            r.truncate(3);
            r.append(vec![entry(4, 3, b"e")], 3);
        },
        |r| {
            let last = (2, entry(3, 2, b"").entry.id);
            let body = [b'k'; 700].as_slice().into();
            let tail = vec![entry(4, 3, b"e")];
            r.begin_segment(crate::disk::Checkpoint { last, body }, tail, 3, false);
        },
        |r| r.append(vec![entry(5, 3, &[b'f'; 200])], 4),
        |r| r.save(vote(3, 1)),
        |r| r.close(),
    ];
    for step in steps {
        step(rig);
        if !after(rig) {
            return;
        }
    }
}

/// Every call of a history fails in turn, for a moment or for good, and the
/// process starts again, with or without a power cut. S14.
#[test]
fn every_call_may_fail() {
    let calls = {
        let mut rig = Rig::new(0);
        rig.open().unwrap().unwrap();
        history(&mut rig, Rig::settle);
        rig.calls()
    };
    assert!(calls > 40, "{calls}");
    for call in 1..=calls {
        for (errno, count) in [(Errno::IO, 1), (Errno::NOSPC, 1), (Errno::ROFS, 10_000)] {
            for cut in [false, true] {
                let mut rig = Rig::new(call);
                rig.sim.world().fail = Some((call, count, errno));
                let opened = rig.open().unwrap();
                if opened.is_ok() {
                    history(&mut rig, Rig::settle);
                }
                if cut {
                    rig.sim.power_cut();
                }
                rig.sim.world().fail = None;
                rig.open()
                    .unwrap_or_else(|broken| panic!("call {call} {errno} {cut}: {broken}"))
                    .unwrap();
            }
        }
    }
}

/// A power cut at every boundary, and once more in the recovery from it.
#[test]
fn a_power_cut_at_every_boundary() {
    for seed in 0..20 {
        for cut_after in 0..12 {
            let mut rig = Rig::new(seed);
            rig.open().unwrap().unwrap();
            let mut step = 0;
            history(&mut rig, |rig| {
                step += 1;
                if step > cut_after {
                    // Asked for, written perhaps, not waited for.
                    rig.one_round();
                    return false;
                }
                rig.settle()
            });
            for failing in 1..40 {
                rig.sim.power_cut();
                let mut world = rig.sim.world();
                world.fail = Some((world.calls + failing, 1000, Errno::IO));
                drop(world);
                drop(
                    rig.open()
                        .unwrap_or_else(|b| panic!("{seed}/{cut_after}: {b}")),
                );
            }
            rig.sim.power_cut();
            rig.sim.world().fail = None;
            rig.open().unwrap().unwrap();
        }
    }
}
