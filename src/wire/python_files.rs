//! Readers for the files of a Python node (spec 7.1-7.3), to take over its
//! directory: journal and meta; its dump is a [`Snapshot`](super::snapshot).
//!
//! The files carry no checksum and Python syncs none of them, so a torn journal
//! is told from an intact one by its own redundancy: lengths that stand twice
//! and indices that follow one another.

use std::fmt;

use super::pickle::{self, PickleError};
use super::value::Value;
use crate::address::Address;
use crate::ids::{Entry, EntryId, LogIndex, Term};
use crate::limits::{ENTRIES_MAX, FRAME_BYTES_MAX};

const MAGIC: &[u8; 24] = b"PYSYNCOBJ\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// Where records begin; also the end offset of an empty journal.
const HEADER_BYTES: usize = 40;
/// Index and term within a record's length.
const IDS_BYTES: usize = 16;

/// A Python node's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Consecutive entries; none when the journal is empty.
    pub entries: Vec<Entry>,
    /// The version of pysyncobj that created the file.
    pub version: String,
}

/// A Python node's meta file. All of it is missing when the file is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Commit index, up to a second old.
    pub commit: Option<LogIndex>,
    /// Term; only since 0.3.16.
    pub term: Option<Term>,
    /// Whom it voted for in that term; only since 0.3.16.
    pub voted_for: Option<Address>,
}

/// Why a file is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileError {
    /// Not a journal of PySyncObj.
    Magic,
    /// The end of the records lies outside the file.
    End,
    /// The record at this offset is torn or does not follow its predecessor.
    Record {
        /// Bytes from the beginning of the file.
        offset: usize,
    },
    /// More entries than the cap.
    TooMany,
    /// The pickle of the meta file does not decode.
    Pickle(PickleError),
    /// A field of the meta file is out of range.
    Field(&'static str),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("no journal of PySyncObj"),
            Self::End => f.write_str("journal ends outside its file"),
            Self::Record { offset } => write!(f, "journal record at byte {offset} is damaged"),
            Self::TooMany => f.write_str("journal holds too many entries"),
            Self::Pickle(error) => write!(f, "meta file: {error}"),
            Self::Field(name) => write!(f, "meta file has a malformed {name}"),
        }
    }
}

impl std::error::Error for FileError {}

impl Journal {
    /// Reads the bytes of `<address>.journal`.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn decode(file: &[u8]) -> Result<Self, FileError> {
        let header = file.first_chunk::<HEADER_BYTES>().ok_or(FileError::Magic)?;
        let (magic, rest) = header.split_at(MAGIC.len());
        let (version, rest) = rest.split_at(8);
        let end = rest.last_chunk().map(|end| u32::from_le_bytes(*end));
        if magic != MAGIC {
            return Err(FileError::Magic);
        }
        let end = end.and_then(|end| usize::try_from(end).ok());
        let records = end.and_then(|end| file.get(HEADER_BYTES..end));
        let mut rest = records.ok_or(FileError::End)?;
        let end = HEADER_BYTES + rest.len();
        let mut entries: Vec<Entry> = Vec::new();
        while !rest.is_empty() {
            let offset = end - rest.len();
            let (entry, behind) = record(rest).ok_or(FileError::Record { offset })?;
            let expected = entries.last().map(|last| last.id.index.next());
            if expected.is_some_and(|expected| expected != entry.id.index) {
                return Err(FileError::Record { offset });
            }
            if entries.len() >= ENTRIES_MAX {
                return Err(FileError::TooMany);
            }
            entries.push(entry);
            rest = behind;
        }
        let version = version.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Self {
            entries,
            version: String::from_utf8_lossy(version).into_owned(),
        })
    }
}

/// `u32 n | u64 index | u64 term | command | u32 n`, with n = 16 + the
/// command's length.
fn record(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (body, rest) = rest.split_at_checked(count)?;
    let (again, rest) = rest.split_first_chunk::<4>()?;
    let (index, body) = body.split_first_chunk::<8>()?;
    let (term, command) = body.split_first_chunk::<8>()?;
    if again != len || !(IDS_BYTES..=FRAME_BYTES_MAX).contains(&count) {
        return None;
    }
    let id = EntryId {
        index: LogIndex::new(u64::from_le_bytes(*index))?,
        term: Term::new(u64::from_le_bytes(*term))?,
    };
    let command = command.into();
    Some((Entry { id, command }, rest))
}

impl Meta {
    /// Reads the bytes of `<address>.journal.meta`.
    ///
    /// # Errors
    /// What does not decode; Python then takes the file for missing.
    pub fn decode(file: &[u8]) -> Result<Self, FileError> {
        let value = pickle::decode(file).map_err(FileError::Pickle)?;
        let number = |name| match value.get(name) {
            None | Some(Value::None) => Ok(None),
            Some(number) => {
                let number = number.as_int().and_then(|n| u64::try_from(n).ok());
                number.map(Some).ok_or(FileError::Field(name))
            }
        };
        let commit = number("raftCommitIndex")?;
        let term = number("currentTerm")?;
        let voted_for = match value.get("votedForNodeId") {
            None | Some(Value::None) => None,
            Some(id) => {
                let id = id.as_str().and_then(|id| id.parse().ok());
                Some(id.ok_or(FileError::Field("votedForNodeId"))?)
            }
        };
        let term = term.map(|term| Term::new(term).ok_or(FileError::Field("currentTerm")));
        Ok(Self {
            commit: commit.and_then(LogIndex::new),
            term: term.transpose()?,
            voted_for,
        })
    }
}
