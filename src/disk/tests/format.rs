//! The bytes of the hard state: what each format wrote is read for ever.

use crate::disk::format::{HardSlot, Read};
use crate::disk::{Arrival, Diverged, HardState, Reading, Standing};
use crate::ids::{LogIndex, Term};

use super::rig::{entry, vote};

/// A vote for 10.0.0.1:2222 in term 7 by a leader's word, as pg-witness 0.1.0 wrote
/// it: format 1, save 9 after frame 41, epoch 1. `{0}`: checksum of the body, `{1}`:
/// the standing.
const FORMAT_1: [&str; 3] = [
    "7067776974564f540100000006f0d4a8",
    "2f0000000900000000000000290000000000000001000000070000000000000001",
    "0d00000031302e302e302e313a32323232",
];

fn format_1(checksum: &str, standing: &str) -> Vec<u8> {
    let [preamble, numbers, address] = FORMAT_1;
    let hex = [preamble, checksum, numbers, standing, address].concat();
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn slot(standing: Standing, diverged: Option<Diverged>) -> HardSlot {
    HardSlot {
        seq: 9,
        log_seq: 41,
        state: Some(HardState {
            committed: true,
            standing,
            diverged,
            ..vote(7, 2222)
        }),
    }
}

#[test]
fn the_first_format_is_read() {
    for (checksum, byte, standing) in [
        ("a76aceba", "00", Standing::Voter),
        ("8c68a7b5", "01", Standing::Recovering),
        // S7: whether an orphaned member was a voter before was not written down.
        ("f16e1ca4", "02", Standing::Recovering),
    ] {
        let found = HardSlot::decode(&format_1(checksum, byte));
        assert_eq!(found, Read::Valid(slot(standing, None)), "standing {byte}");
    }
}

#[test]
fn the_first_format_is_written_where_it_can_say_all() {
    let diverged = Diverged {
        ours: entry(600, 6, b"").entry.id,
        theirs: entry(600, 8, b"").entry.id,
        leader_term: Term::new(u64::from(u32::MAX)).unwrap(),
    };
    for (standing, diverged, format) in [
        (Standing::Voter, None, 1),
        (Standing::Recovering, None, 1),
        (Standing::Orphaned, None, 2),
        (Standing::Voter, Some(diverged), 2),
        (Standing::Recovering, Some(diverged), 2),
    ] {
        let slot = slot(standing, diverged);
        let block = slot.encode();
        assert_eq!(block[8..12], u32::to_le_bytes(format), "{slot:?}");
        assert_eq!(HardSlot::decode(&block), Read::Valid(slot));
    }
    assert!(
        slot(Standing::Voter, None)
            .encode()
            .starts_with(&format_1("a76aceba", "00"))
    );
}

#[test]
fn what_was_shown_before_a_vote_is_read_back() {
    let end = LogIndex::new(9).unwrap();
    for (saw_data, reading) in [
        (true, None),
        (true, Some(Reading::Listed)),
        (false, Some(Reading::Unlisted { end })),
    ] {
        let mut slot = slot(Standing::Recovering, None);
        if let Some(state) = &mut slot.state {
            state.arrival = Arrival { saw_data, reading };
        }
        let block = slot.encode();
        assert_eq!(block[8..12], 2_u32.to_le_bytes());
        assert_eq!(HardSlot::decode(&block), Read::Valid(slot));
    }
}

/// All that matters is in the first sector, with the longest address too.
#[test]
fn the_longest_slot_fits_one_sector() {
    let longest = format!("{}:65535", "h".repeat(290));
    let mut slot = slot(
        Standing::Voter,
        Some(Diverged {
            ours: entry(1, 1, b"").entry.id,
            theirs: entry(1, 2, b"").entry.id,
            leader_term: Term::ZERO,
        }),
    );
    if let Some(state) = &mut slot.state {
        state.voted_for = Some(longest.parse().unwrap());
        state.arrival.saw_data = true;
    }
    let block = slot.encode();
    assert!(block[512..].iter().all(|byte| *byte == 0));
    assert_eq!(HardSlot::decode(&block), Read::Valid(slot));
}
