//! What a leader sends in pieces: one large entry in fragments (spec 3.4), or a
//! snapshot in chunks (spec 3.5). A new connection starts with nothing.
//!
//! What has arrived is held on the budget of the members (S16): pieces for which
//! there is no memory are dropped, and the leader sends again.

use crate::ids::Term;
use crate::limits;
use crate::links::budget::Class;
use crate::links::budget::memory::Reservation;
use crate::wire::message::{FragmentPart, SnapshotChunk};

/// The pieces that have arrived on one connection.
#[derive(Debug)]
pub struct Assembly {
    term: Term,
    fragments: Vec<u8>,
    snapshot: Option<Vec<u8>>,
    hold: Reservation,
}

impl Default for Assembly {
    fn default() -> Self {
        Self::new(Class::Member.hold())
    }
}

impl Assembly {
    fn new(hold: Reservation) -> Self {
        Self {
            term: Term::default(),
            fragments: Vec::new(),
            snapshot: None,
            hold,
        }
    }

    /// Pieces of an earlier term do not go with those of a later one.
    fn enter(&mut self, term: Term) {
        if term != self.term {
            self.term = term;
            self.fragments = Vec::new();
            self.snapshot = None;
        }
    }

    fn drop_snapshot(&mut self) {
        self.snapshot = None;
        let _ = self.fits_budget();
    }

    /// Books what is held; whether that was granted.
    fn fits_budget(&mut self) -> bool {
        let snapshot = self.snapshot.as_ref().map_or(0, Vec::capacity);
        let held = self.fragments.capacity().saturating_add(snapshot);
        self.hold.resize(held)
    }

    /// Takes a fragment. On a `finish` it returns all that has arrived, which
    /// may still be incomplete: a 64 KiB boundary in the wrong place makes
    /// Python send `finish` early (H4). Call [`Assembly::entry_done`] when it
    /// was whole.
    pub fn fragment(&mut self, term: Term, part: FragmentPart, data: &[u8]) -> Option<&[u8]> {
        self.enter(term);
        if part == FragmentPart::Start {
            self.fragments.clear();
        }
        if self.fragments.len().saturating_add(data.len()) > limits::FRAME_BYTES_MAX {
            self.entry_done();
            return None;
        }
        extend(&mut self.fragments, data, limits::FRAME_BYTES_MAX);
        if !self.fits_budget() {
            self.entry_done();
            return None;
        }
        (part == FragmentPart::Finish).then_some(self.fragments.as_slice())
    }

    /// The entry was whole.
    pub fn entry_done(&mut self) {
        self.fragments = Vec::new();
        // To hold less is always granted.
        let _ = self.fits_budget();
    }

    /// Takes a chunk. Returns the snapshot with its last one. A chunk without a
    /// first one before it is dropped: Python may go on in mid-file after a
    /// quick reconnect (H12).
    pub fn chunk(&mut self, term: Term, chunk: &SnapshotChunk) -> Option<Vec<u8>> {
        self.enter(term);
        if chunk.first {
            self.snapshot = Some(Vec::new());
        }
        let buffer = self.snapshot.as_mut()?;
        if buffer.len().saturating_add(chunk.data.len()) > limits::INFLATED_BYTES_MAX {
            self.drop_snapshot();
            return None;
        }
        extend(buffer, &chunk.data, limits::INFLATED_BYTES_MAX);
        if !self.fits_budget() {
            self.drop_snapshot();
            return None;
        }
        let whole = chunk.last.then(|| self.snapshot.take()).flatten();
        let _ = self.fits_budget();
        whole
    }
}

/// Appends to a buffer that grows by doubling, but to no more than `max` bytes.
fn extend(buffer: &mut Vec<u8>, data: &[u8], max: usize) {
    let (len, held) = (buffer.len(), buffer.capacity());
    let needed = len.saturating_add(data.len());
    if needed > held {
        let room = needed.max(held.saturating_mul(2).min(max));
        buffer.reserve_exact(room - len);
    }
    buffer.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::budget::memory::Pool;

    fn chunk(data: &[u8], first: bool, last: bool) -> SnapshotChunk {
        SnapshotChunk {
            data: data.into(),
            first,
            last,
        }
    }

    #[test]
    fn premature_finish_keeps_the_buffer() {
        // H4
        let mut assembly = Assembly::default();
        let term = Term::ZERO.next();
        assert!(
            assembly
                .fragment(term, FragmentPart::Start, b"ab")
                .is_none()
        );
        assert_eq!(
            assembly.fragment(term, FragmentPart::Finish, b"c"),
            Some(&b"abc"[..])
        );
        assert_eq!(
            assembly.fragment(term, FragmentPart::Finish, b"d"),
            Some(&b"abcd"[..])
        );
    }

    #[test]
    fn a_snapshot_continued_in_mid_file_is_dropped() {
        // H12
        let mut assembly = Assembly::default();
        let term = Term::ZERO.next();
        assert_eq!(assembly.chunk(term, &chunk(b"tail", false, true)), None);
        assert_eq!(assembly.chunk(term, &chunk(b"he", true, false)), None);
        assert_eq!(
            assembly.chunk(term, &chunk(b"ad", false, true)),
            Some(b"head".to_vec())
        );
    }

    #[test]
    fn snapshots_of_many_members_stay_within_the_memory_for_them() {
        // S16: what does not fit is dropped, and fits when another is done.
        let pool = Pool::new(3_000);
        let hold = || Reservation::new(pool.clone(), 0, 3_000);
        let (mut one, mut other) = (Assembly::new(hold()), Assembly::new(hold()));
        let term = Term::ZERO.next();
        let half = [0; 1_000];
        assert_eq!(one.chunk(term, &chunk(&half, true, false)), None);
        assert_eq!(one.chunk(term, &chunk(&half, false, false)), None);
        assert_eq!(other.chunk(term, &chunk(&half, true, false)), None);
        assert_eq!(other.chunk(term, &chunk(&half, false, true)), None);
        assert!(one.chunk(term, &chunk(b"", false, true)).is_some());
        assert_eq!(pool.used(), 0);
        assert_eq!(other.chunk(term, &chunk(&half, true, false)), None);
        assert!(other.chunk(term, &chunk(&half, false, true)).is_some());
    }

    #[test]
    fn pieces_of_two_terms_do_not_mix() {
        let mut assembly = Assembly::default();
        let first = Term::ZERO.next();
        assert_eq!(assembly.chunk(first, &chunk(b"he", true, false)), None);
        assert_eq!(
            assembly.chunk(first.next(), &chunk(b"ad", false, true)),
            None
        );
    }
}
