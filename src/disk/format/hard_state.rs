//! The slots of the hard state: what this member has promised, and why it may not vote.
//! A slot is one block, in the form of all headers (`format`).

use super::{BLOCK, FORMAT, FORMAT_FIRST, Read, Reader, sealed, size, unseal};
use crate::address::Address;
use crate::disk::{Arrival, Diverged, HardState, Reading, Standing};
use crate::ids::{LogIndex, Term};

const HARD_MAGIC: &[u8; 8] = b"pgwitVOT";
/// Of the fields behind the vote: [`Diverged`].
const FIELD_DIVERGED: u8 = 1;
/// [`Arrival`]: `saw_data` (u8), the kind of the reading
/// (u8; 0 none, 1 listed, 2 unlisted) and its end (u64).
const FIELD_ARRIVAL: u8 = 2;

/// One slot of the hard state's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::disk) struct HardSlot {
    /// Counts the saves.
    pub seq: u64,
    /// The last frame of the log that was durable when this was written.
    pub log_seq: u64,
    /// What was saved; none if nothing was yet.
    pub state: Option<HardState>,
}

impl HardSlot {
    /// The block; an address of 300 bytes still leaves all in the first sector.
    pub(in crate::disk) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(BLOCK);
        body.extend(self.seq.to_le_bytes());
        body.extend(self.log_seq.to_le_bytes());
        let format = match &self.state {
            Some(state) => put_hard_state(&mut body, state),
            None => FORMAT_FIRST,
        };
        sealed(HARD_MAGIC, format, &body)
    }

    /// Reads a slot.
    pub(in crate::disk) fn decode(bytes: &[u8]) -> Read<Self> {
        unseal(HARD_MAGIC, bytes, |r| {
            Some(Self {
                seq: r.u64()?,
                log_seq: r.u64()?,
                state: match r.0 {
                    [] => None,
                    _ => Some(hard_state(r)?),
                },
            })
        })
    }
}

/// Appends a hard state; returns the format that a reader must know for it.
///
/// Behind the vote stand the fields that not every state has, each as a tag (u8),
/// the length of its value (u16) and the value; an absent field has its default.
fn put_hard_state(body: &mut Vec<u8>, state: &HardState) -> u32 {
    body.extend(state.epoch.to_le_bytes());
    body.extend(state.term.get().to_le_bytes());
    body.push(u8::from(state.committed));
    body.push(match state.standing {
        Standing::Voter => 0,
        Standing::Recovering => 1,
        Standing::Orphaned => 3,
    });
    let vote = state.voted_for.as_ref().map_or("", Address::as_str);
    body.extend(size(vote.len()).to_le_bytes());
    body.extend(vote.as_bytes());
    let fields_at = body.len();
    if let Some(diverged) = &state.diverged {
        put_field(body, FIELD_DIVERGED, &encode_diverged(diverged));
    }
    if state.arrival != Arrival::default() {
        put_field(body, FIELD_ARRIVAL, &encode_arrival(state.arrival));
    }
    if body.len() > fields_at || state.standing == Standing::Orphaned {
        FORMAT
    } else {
        FORMAT_FIRST
    }
}

fn put_field(body: &mut Vec<u8>, tag: u8, value: &[u8]) {
    body.push(tag);
    body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend(value);
}

fn hard_state(r: &mut Reader<'_>) -> Option<HardState> {
    let mut state = HardState {
        epoch: r.u32()?,
        term: Term::new(r.u64()?)?,
        committed: r.u8()? == 1,
        standing: match r.u8()? {
            0 => Standing::Voter,
            // Format 1 wrote 2 for an orphaned member and did not say whether it
            // was a voter before: it proves that anew (S7).
            1 | 2 => Standing::Recovering,
            3 => Standing::Orphaned,
            _ => return None,
        },
        voted_for: match r.sized()? {
            [] => None,
            text => Some(std::str::from_utf8(text).ok()?.parse().ok()?),
        },
        diverged: None,
        arrival: Arrival::default(),
    };
    while !r.0.is_empty() {
        let tag = r.u8()?;
        let len = r.u16()?;
        let mut value = Reader(r.take(usize::from(len))?);
        match tag {
            FIELD_DIVERGED => state.diverged = Some(diverged(&mut value)?),
            FIELD_ARRIVAL => state.arrival = arrival(&mut value)?,
            // A new field is a new format, which is refused by its number.
            _ => return None,
        }
    }
    Some(state)
}

fn encode_diverged(diverged: &Diverged) -> heapless::Vec<u8, 40> {
    let Diverged {
        ours,
        theirs,
        leader_term,
    } = diverged;
    let numbers = [
        ours.index.get(),
        ours.term.get(),
        theirs.index.get(),
        theirs.term.get(),
        leader_term.get(),
    ];
    numbers.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn diverged(r: &mut Reader<'_>) -> Option<Diverged> {
    Some(Diverged {
        ours: r.entry_id()?,
        theirs: r.entry_id()?,
        leader_term: Term::new(r.u64()?)?,
    })
}

fn encode_arrival(arrival: Arrival) -> heapless::Vec<u8, 10> {
    let (kind, end) = match arrival.reading {
        None => (0, 0),
        Some(Reading::Listed) => (1, 0),
        Some(Reading::Unlisted { end }) => (2, end.get()),
    };
    let head = [u8::from(arrival.saw_data), kind];
    head.into_iter().chain(end.to_le_bytes()).collect()
}

fn arrival(r: &mut Reader<'_>) -> Option<Arrival> {
    let (saw_data, kind, end) = (r.u8()? == 1, r.u8()?, r.u64()?);
    let reading = match kind {
        0 => None,
        1 => Some(Reading::Listed),
        2 => Some(Reading::Unlisted {
            end: LogIndex::new(end)?,
        }),
        _ => return None,
    };
    Some(Arrival { saw_data, reading })
}
