//! Frames: `i32 length | body` (spec 2.1), and the zlib stream inside.
//!
//! Python compresses at level 3. We write stored blocks: the largest thing on
//! the wire, a snapshot, is gzip already, and a compressor costs 319 KB and more
//! time than all the rest of a message together. Measured on x86-64 by
//! `tests/bench/wire.rs` (ours against level 3 of miniz_oxide, both reused):
//!
//! | message         | pickle   | stored   | to write, to read | level 3  | to write, to read |
//! |-----------------|----------|----------|-------------------|----------|-------------------|
//! | heartbeat       | 116 B    | 127 B    | 21 ns, 46 ns      | 105 B    | 6.6 us, 4.9 us    |
//! | entry of 1 KB   | 968 B    | 979 B    | 64 ns, 108 ns     | 325 B    | 11 us, 6.0 us     |
//! | snapshot chunk  | 65,624 B | 65,640 B | 22 us, 5.7 us     | 65,645 B | 1.3 ms, 5.5 us    |
//!
//! So a heartbeat costs 22 bytes more and an entry, of which Patroni writes
//! some per ten seconds, three times its bytes; both ends save the time.

use std::fmt;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_COMPUTE_ADLER32, TINFL_FLAG_PARSE_ZLIB_HEADER,
    TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use miniz_oxide::{MZ_ADLER32_INIT, mz_adler32_oxide};

use crate::limits::KEPT_BUFFER_BYTES_MAX;

/// Bytes of the length before each body.
const LENGTH_BYTES: usize = 4;

/// What is wrong with a frame or with its zlib stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// A length of zero or less.
    Length(i32),
    /// A body, or what it inflates to, beyond the cap (H28).
    TooLarge,
    /// The body is no intact zlib stream.
    Zlib,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "frame of {length} bytes"),
            Self::TooLarge => f.write_str("frame is larger than the limit"),
            Self::Zlib => f.write_str("frame is no intact zlib stream"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Splits a stream of bytes into frame bodies. It never holds more than what
/// was fed and not yet taken; who feeds it takes all bodies before feeding
/// more.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// Where the next frame begins.
    start: usize,
}

impl FrameBuffer {
    /// Takes in bytes as they came from the socket.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.compact();
        self.grow(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Makes room for `more` bytes. It grows with what arrives, by doubling, and
    /// never for what was only announced; but to no more than was announced.
    fn grow(&mut self, more: usize) {
        let needed = self.bytes.len().saturating_add(more);
        let held = self.bytes.capacity();
        if needed <= held {
            return;
        }
        let announced = self.bytes.first_chunk().map_or(0, |length| {
            let length = usize::try_from(i32::from_le_bytes(*length)).unwrap_or(0);
            length.saturating_add(LENGTH_BYTES)
        });
        let room = needed.max(announced.min(held.saturating_mul(2)));
        self.bytes.reserve_exact(room - self.bytes.len());
    }

    /// Whether nothing is left, not even a part of a frame.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Bytes of memory that it occupies.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The next complete body of at most `max` bytes.
    ///
    /// # Errors
    /// A length that cannot be; the stream is of no use from then on.
    pub fn next(&mut self, max: usize) -> Result<Option<&[u8]>, FrameError> {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = i32::from_le_bytes(*length);
        let count = match usize::try_from(length) {
            Ok(0) | Err(_) => return Err(FrameError::Length(length)),
            Ok(count) if count > max => return Err(FrameError::TooLarge),
            Ok(count) => count,
        };
        let body = rest.get(..count);
        if body.is_some() {
            self.start += LENGTH_BYTES + count;
        }
        Ok(body)
    }

    /// Moves what is left to the front, and gives memory back that only a huge
    /// frame needed.
    fn compact(&mut self) {
        if self.start == 0 {
            return;
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.len() < KEPT_BUFFER_BYTES_MAX {
            self.bytes.shrink_to(KEPT_BUFFER_BYTES_MAX);
        }
    }
}

/// Appends a frame whose body `write` appends; nothing if it fails.
///
/// # Errors
/// [`FrameError::TooLarge`] for a body beyond `max`, or what `write` fails of.
pub fn write_frame<E: From<FrameError>>(
    out: &mut Vec<u8>,
    max: usize,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let written = write(out).and_then(|()| {
        let count = out.len() - start - LENGTH_BYTES;
        let length = i32::try_from(count).ok().filter(|_| count <= max);
        length.ok_or_else(|| FrameError::TooLarge.into())
    });
    match written {
        Ok(length) => {
            if let Some(head) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
                *head = length.to_le_bytes();
            }
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Appends `bytes` as a zlib stream of stored blocks.
pub fn store(bytes: &[u8], out: &mut Vec<u8>) {
    const BLOCK_BYTES_MAX: u16 = u16::MAX;
    out.extend_from_slice(&[0x78, 0x01]);
    let mut blocks = bytes.chunks(usize::from(BLOCK_BYTES_MAX)).peekable();
    loop {
        let block = blocks.next().unwrap_or_default();
        let last = blocks.peek().is_none();
        let length = u16::try_from(block.len()).unwrap_or(BLOCK_BYTES_MAX);
        out.push(u8::from(last));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
        if last {
            break;
        }
    }
    let adler = mz_adler32_oxide(MZ_ADLER32_INIT, bytes);
    out.extend_from_slice(&adler.to_be_bytes());
}

/// Inflates zlib streams, one after another, straight into the caller's buffer
/// (11 KB of state, no window of its own).
#[derive(Default)]
pub struct Inflater {
    state: Box<DecompressorOxide>,
}

impl Inflater {
    /// Replaces what is in `out` by the plaintext of the stream at the head of
    /// `zlib`; what follows the stream is ignored, as Python does.
    ///
    /// # Errors
    /// A stream that is cut or damaged, or a plaintext beyond `max`.
    pub fn inflate(
        &mut self,
        mut zlib: &[u8],
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        const FLAGS: u32 = TINFL_FLAG_PARSE_ZLIB_HEADER
            | TINFL_FLAG_COMPUTE_ADLER32
            | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        self.state.init();
        out.clear();
        // One byte beyond the cap tells a full buffer from a larger plaintext.
        let ceiling = max.saturating_add(1);
        out.resize(zlib.len().saturating_mul(2).max(256).min(ceiling), 0);
        let mut filled = 0;
        loop {
            let (status, read, written) = decompress(&mut self.state, zlib, out, filled, FLAGS);
            zlib = zlib.get(read..).unwrap_or_default();
            filled += written;
            if filled > max {
                return Err(FrameError::TooLarge);
            }
            match status {
                TINFLStatus::Done => break,
                TINFLStatus::HasMoreOutput if out.len() < ceiling => {
                    let len = out.len().saturating_mul(2).min(ceiling);
                    out.reserve_exact(len - out.len());
                    out.resize(len, 0);
                }
                _ => return Err(FrameError::Zlib),
            }
        }
        out.truncate(filled);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame::<FrameError>(&mut out, 1 << 20, |out| {
            out.extend_from_slice(body);
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn bodies_come_out_however_the_stream_is_cut() {
        let stream = [frame(b"one"), frame(b"2"), frame(&[3; 1000])].concat();
        for cut in 1..stream.len() {
            let mut buffer = FrameBuffer::default();
            let mut bodies = Vec::new();
            for part in stream.chunks(cut) {
                buffer.feed(part);
                while let Some(body) = buffer.next(1000).unwrap() {
                    bodies.push(body.to_vec());
                }
            }
            assert_eq!(bodies, [b"one".to_vec(), b"2".to_vec(), vec![3; 1000]]);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn impossible_lengths_are_refused_before_the_body_comes() {
        // S10
        let mut buffer = FrameBuffer::default();
        buffer.feed(&(-1i32).to_le_bytes());
        assert_eq!(buffer.next(100), Err(FrameError::Length(-1)));
        let mut buffer = FrameBuffer::default();
        buffer.feed(&101i32.to_le_bytes());
        assert_eq!(buffer.next(100), Err(FrameError::TooLarge));
        let mut buffer = FrameBuffer::default();
        buffer.feed(&[0; 4]);
        assert_eq!(buffer.next(100), Err(FrameError::Length(0)));
    }

    #[test]
    fn memory_is_taken_for_what_has_come_and_not_for_what_was_announced() {
        // S16
        let whole = frame(&[7; 1_000_000]);
        let mut buffer = FrameBuffer::default();
        for part in whole.chunks(10_000) {
            let before = buffer.bytes.len();
            buffer.feed(part);
            assert!(buffer.next(1 << 20).is_ok());
            assert!(buffer.capacity() <= (2 * (before + part.len())).min(whole.len()));
        }
        assert!(buffer.is_empty());
    }

    #[test]
    fn memory_of_a_huge_frame_is_given_back() {
        let mut buffer = FrameBuffer::default();
        buffer.feed(&frame(&[7; 1 << 20]));
        assert_eq!(buffer.next(1 << 20).unwrap().unwrap().len(), 1 << 20);
        buffer.feed(&frame(b"x"));
        assert!(buffer.bytes.capacity() <= KEPT_BUFFER_BYTES_MAX);
        assert_eq!(buffer.next(9).unwrap(), Some(&b"x"[..]));
    }

    #[test]
    fn a_refused_frame_leaves_no_trace() {
        let mut out = b"before".to_vec();
        let refused = write_frame::<FrameError>(&mut out, 3, |out| {
            out.extend_from_slice(b"four");
            Ok(())
        });
        assert_eq!(
            (refused, &out[..]),
            (Err(FrameError::TooLarge), &b"before"[..])
        );
    }

    #[test]
    fn stored_streams_inflate_to_what_was_stored() {
        let mut inflater = Inflater::default();
        for len in [0, 1, 255, 65_535, 65_536, 200_000] {
            let bytes: Vec<u8> = (0..=250u8).cycle().take(len).collect();
            let (mut stored, mut back) = (Vec::new(), Vec::new());
            store(&bytes, &mut stored);
            stored.extend_from_slice(b"ignored");
            inflater.inflate(&stored, len, &mut back).unwrap();
            assert_eq!(back, bytes);
            if len > 0 {
                let cut = inflater.inflate(&stored, len - 1, &mut back);
                assert_eq!(cut, Err(FrameError::TooLarge));
            }
        }
    }

    #[test]
    fn damaged_streams_and_bombs_are_refused() {
        // H28
        let mut inflater = Inflater::default();
        let (mut stored, mut back) = (Vec::new(), Vec::new());
        store(b"witness", &mut stored);
        for at in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[at] ^= 0x01;
            assert!(inflater.inflate(&damaged, 100, &mut back).is_err(), "{at}");
            assert!(inflater.inflate(&stored[..at], 100, &mut back).is_err());
        }
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; 10 << 20], 9);
        let refused = inflater.inflate(&bomb, 1 << 20, &mut back);
        assert_eq!(refused, Err(FrameError::TooLarge));
        assert!(back.capacity() <= (1 << 20) + 1);
        inflater.inflate(&bomb, 10 << 20, &mut back).unwrap();
        assert_eq!(back.len(), 10 << 20);
    }
}
