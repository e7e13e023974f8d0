//! Any bytes as a Python node's journal or meta file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_witness::wire::python_files::{Journal, Meta};

fuzz_target!(|bytes: &[u8]| {
    let _ = Meta::decode(bytes);
    if let Ok(journal) = Journal::decode(bytes) {
        let size: usize = journal.entries.iter().map(|entry| entry.command.len() + 24).sum();
        assert!(size + 40 <= bytes.len());
        for pair in journal.entries.windows(2) {
            assert_eq!(pair[0].id.index.next(), pair[1].id.index);
        }
    }
});
