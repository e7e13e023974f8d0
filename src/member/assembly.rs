//! What a leader sends in pieces: one large entry in fragments (spec 3.4), or a
//! snapshot in chunks (spec 3.5). A new connection starts with nothing.

use crate::config::limits;
use crate::wire::Term;
use crate::wire::message::{FragmentPart, SnapshotChunk};

/// The pieces that have arrived on one connection.
#[derive(Debug, Default)]
pub struct Assembly {
    term: Term,
    fragments: Vec<u8>,
    snapshot: Option<Vec<u8>>,
}

impl Assembly {
    /// Pieces of an earlier term do not go with those of a later one.
    fn enter(&mut self, term: Term) {
        if term != self.term {
            *self = Self {
                term,
                ..Self::default()
            };
        }
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
            self.fragments = Vec::new();
            return None;
        }
        self.fragments.extend_from_slice(data);
        (part == FragmentPart::Finish).then_some(self.fragments.as_slice())
    }

    /// The entry was whole.
    pub fn entry_done(&mut self) {
        self.fragments = Vec::new();
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
            self.snapshot = None;
            return None;
        }
        buffer.extend_from_slice(&chunk.data);
        if chunk.last {
            self.snapshot.take()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
