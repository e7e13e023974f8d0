//! The log with its journal file, byte for byte, and the `.meta` beside it
//! (spec 5.8, 7.1, 7.2).

use std::sync::Arc;

use pg_witness::wire::{Value, pickle};

use super::{Entry, Raised, StartError, Version};

/// Where records begin.
const FIRST_RECORD: usize = 40;
/// Where the end of the records is written.
const END_AT: usize = 36;
/// The size to which a new file is brought.
const INITIAL_BYTES: usize = 1024;

/// What `.meta` holds; a field that is not there was never written.
#[derive(Debug, Clone, Default)]
struct Meta {
    commit: Option<i64>,
    term: Option<i64>,
    voted_for: Option<String>,
}

/// `FileJournal`.
#[derive(Debug)]
pub(super) struct Journal {
    version: Version,
    file: Vec<u8>,
    /// Where the next record goes.
    offset: usize,
    log: Vec<Entry>,
    meta: Meta,
    meta_file: Option<Vec<u8>>,
    meta_saved: bool,
}

impl Journal {
    /// Reads what is there; a missing journal begins empty.
    pub fn open(
        version: Version,
        file: Option<Vec<u8>>,
        meta_file: Option<Vec<u8>>,
    ) -> Result<Self, StartError> {
        let mut file = file.unwrap_or_else(|| header(version));
        if file.is_empty() {
            return Err(StartError("an empty journal cannot be mapped"));
        }
        if file.len() < INITIAL_BYTES {
            file.resize(INITIAL_BYTES, 0);
        }
        let end = word(&file, END_AT).ok_or(StartError("the journal has no header"))?;
        let mut log = Vec::new();
        let mut offset = FIRST_RECORD;
        while offset < end {
            let (entry, behind) =
                record(&file, offset).ok_or(StartError("a record of the journal is torn"))?;
            log.push(entry);
            offset = behind;
        }
        let meta = meta_file.as_deref().map(read_meta).unwrap_or_default();
        Ok(Self {
            version,
            file,
            offset,
            log,
            meta,
            meta_file,
            meta_saved: true,
        })
    }

    pub fn log(&self) -> &[Entry] {
        &self.log
    }

    pub fn file(&self) -> &[u8] {
        &self.file
    }

    pub fn meta_file(&self) -> Option<&[u8]> {
        self.meta_file.as_deref()
    }

    /// Appends in memory first: if the file cannot take it, the two differ (H5).
    pub fn add(&mut self, entry: Entry) -> Result<(), Raised> {
        let mut body = Vec::with_capacity(entry.command.len() + 24);
        let length = u32::try_from(entry.command.len() + 16).map_err(|_| Raised("error"))?;
        body.extend_from_slice(&length.to_le_bytes());
        for number in [entry.index, entry.term] {
            let number = u64::try_from(number).map_err(|_| Raised("error"))?;
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&entry.command);
        body.extend_from_slice(&length.to_le_bytes());
        self.log.push(entry);
        self.write(self.offset, &body)?;
        self.offset += body.len();
        self.write_end(self.offset)
    }

    pub fn clear(&mut self) -> Result<(), Raised> {
        self.log.clear();
        self.offset = FIRST_RECORD;
        self.write_end(FIRST_RECORD)
    }

    /// Removes the entries from place `from` of the log on.
    pub fn delete_from(&mut self, from: usize) -> Result<(), Raised> {
        let count = self.log.len().saturating_sub(from);
        self.log.truncate(from);
        for _ in 0..count {
            let length = self
                .offset
                .checked_sub(4)
                .and_then(|at| word(&self.file, at));
            let behind = length.and_then(|length| self.offset.checked_sub(length + 8));
            self.offset = behind.ok_or(Raised("error"))?;
        }
        self.write_end(self.offset)
    }

    /// Removes the entries before place `to`: the file is written anew.
    pub fn delete_to(&mut self, to: usize) -> Result<(), Raised> {
        let kept = self.log.get(to..).unwrap_or_default().to_vec();
        self.clear()?;
        kept.into_iter().try_for_each(|entry| self.add(entry))
    }

    fn write_end(&mut self, end: usize) -> Result<(), Raised> {
        let end = u32::try_from(end).map_err(|_| Raised("error"))?;
        self.write(END_AT, &end.to_le_bytes())
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), Raised> {
        let end = at + bytes.len();
        if end > self.file.len() {
            let doubled = self.file.len() * 2;
            let size = if self.version.grows_journal() {
                doubled.max(end)
            } else {
                doubled
            };
            self.file.resize(size, 0);
        }
        // H5: what does not fit after one doubling raises.
        let place = self.file.get_mut(at..end).ok_or(Raised("IndexError"))?;
        place.copy_from_slice(bytes);
        Ok(())
    }

    pub fn commit(&self) -> i64 {
        self.meta.commit.unwrap_or(1)
    }

    pub fn term(&self) -> i64 {
        self.meta.term.unwrap_or(0)
    }

    pub fn voted_for(&self) -> Option<String> {
        self.meta.voted_for.clone()
    }

    /// Written within a second ([`Journal::save`]).
    pub fn set_commit(&mut self, commit: i64) {
        self.meta.commit = Some(commit);
        self.meta_saved = false;
    }

    /// Written at once, before any message that tells of it.
    pub fn set_term(&mut self, term: i64, voted_for: Option<String>) {
        self.meta.term = Some(term);
        self.meta.voted_for = voted_for;
        self.meta_saved = false;
        self.save();
    }

    /// Writes `.meta` if it changed.
    pub fn save(&mut self) {
        if std::mem::replace(&mut self.meta_saved, true) {
            return;
        }
        let mut pairs = Vec::new();
        if let Some(commit) = self.meta.commit {
            pairs.push(("raftCommitIndex", Value::Int(commit)));
        }
        if let Some(term) = self.meta.term {
            let voted_for = self.meta.voted_for.as_deref();
            pairs.push(("currentTerm", Value::Int(term)));
            pairs.push(("votedForNodeId", voted_for.map_or(Value::None, Value::str)));
        }
        let mut file = Vec::new();
        pickle::encode(&Value::dict(pairs), &mut file);
        self.meta_file = Some(file);
    }
}

fn header(version: Version) -> Vec<u8> {
    let mut header = vec![0; FIRST_RECORD];
    let mut put = |at: usize, bytes: &[u8]| {
        let place = header.get_mut(at..at + bytes.len());
        place
            .into_iter()
            .for_each(|place| place.copy_from_slice(bytes));
    };
    put(0, b"PYSYNCOBJ");
    put(24, version.text().as_bytes());
    put(32, &1u32.to_le_bytes());
    put(END_AT, &40u32.to_le_bytes());
    header
}

fn word(file: &[u8], at: usize) -> Option<usize> {
    let bytes = file.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}

/// The record at `offset` and where the next one begins. The length behind the
/// record is not looked at, and a record cut by the end of the file is taken.
fn record(file: &[u8], offset: usize) -> Option<(Entry, usize)> {
    let length = word(file, offset)?;
    let start = offset + 4;
    let body = file.get(start..file.len().min(start.checked_add(length)?))?;
    let (index, body) = body.split_first_chunk()?;
    let (term, command) = body.split_first_chunk()?;
    let entry = Entry {
        command: Arc::from(command),
        index: i64::try_from(u64::from_le_bytes(*index)).ok()?,
        term: i64::try_from(u64::from_le_bytes(*term)).ok()?,
    };
    Some((entry, offset + length + 8))
}

/// What cannot be read counts as missing.
fn read_meta(file: &[u8]) -> Meta {
    let Ok(value) = pickle::decode(file) else {
        return Meta::default();
    };
    let int = |name| value.get(name).and_then(Value::as_int);
    let voted_for = value.get("votedForNodeId").and_then(Value::as_str);
    Meta {
        commit: int("raftCommitIndex"),
        term: int("currentTerm"),
        voted_for: voted_for.map(str::to_owned),
    }
}
