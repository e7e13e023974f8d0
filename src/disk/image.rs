//! What a file holds, as far as the medium gives it back: a block that cannot be
//! read is a hole in it, and no error. What a hole means, `recover` decides.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::Path;

use rustix::io::Errno;

use super::DiskError;
use super::folder::at;
use super::format::BLOCK;
use super::storage::{File, Storage};

/// Bytes asked for at once, a multiple of [`BLOCK`].
const CHUNK: usize = 64 * BLOCK;

/// A file's bytes.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// From the file's start; zeros in the holes.
    pub bytes: Vec<u8>,
    holes: Vec<Range<usize>>,
}

impl Image {
    /// Reads a file from its start, `max` bytes at most; a missing file has none.
    pub(super) fn read(storage: &dyn Storage, path: &Path, max: usize) -> Result<Self, DiskError> {
        let file = match storage.open(path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) if is_medium(&error) => return Ok(Self::lost()),
            Err(error) => return Err(DiskError::io(path, "open", &error)),
        };
        let len = file.len().map_err(at(path, "read"))?;
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(max);
        let mut image = Self::default();
        while image.bytes.len() < len {
            let wanted = CHUNK.min(len - image.bytes.len());
            if !image
                .take(file.as_ref(), wanted)
                .map_err(at(path, "read"))?
            {
                break;
            }
        }
        Ok(image)
    }

    /// Of a file that cannot be opened for what the medium has lost.
    fn lost() -> Self {
        Self {
            bytes: Vec::new(),
            holes: std::iter::once(0..usize::MAX).collect(),
        }
    }

    /// Takes in the next `wanted` bytes, block by block if they cannot be read
    /// together. False at the end of the file.
    fn take(&mut self, file: &dyn File, wanted: usize) -> io::Result<bool> {
        let start = self.bytes.len();
        match file.read_at(start as u64, wanted) {
            Ok(bytes) => {
                self.bytes.extend_from_slice(&bytes);
                return Ok(!bytes.is_empty());
            }
            Err(error) if is_medium(&error) && wanted > BLOCK => {}
            Err(error) if is_medium(&error) => {
                let end = start.saturating_add(wanted);
                self.bytes.resize(end, 0);
                self.holes.push(start..end);
                return Ok(true);
            }
            Err(error) => return Err(error),
        }
        let end = start.saturating_add(wanted);
        while self.bytes.len() < end {
            let left = end - self.bytes.len();
            if !self.take(file, BLOCK.min(left))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether any of these bytes could not be read.
    pub(super) fn is_lost(&self, range: &Range<usize>) -> bool {
        let meets = |hole: &Range<usize>| hole.start < range.end && range.start < hole.end;
        self.holes.iter().any(meets)
    }

    /// One block; none if it could not be read.
    pub(super) fn block(&self, number: usize) -> Option<&[u8]> {
        let start = number.saturating_mul(BLOCK);
        let end = start.saturating_add(BLOCK);
        let bytes = self.bytes.get(start..).unwrap_or_default();
        (!self.is_lost(&(start..end))).then(|| bytes.get(..BLOCK).unwrap_or(bytes))
    }
}

/// Whether the medium, or the file system on it, has lost what was asked for. All
/// else (no memory, too many open files, no permission) says nothing about the
/// state.
fn is_medium(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::IO
                | Errno::NODATA
                | Errno::BADMSG
                | Errno::UCLEAN
                | Errno::ILSEQ
                | Errno::REMOTEIO
        )
    )
}
