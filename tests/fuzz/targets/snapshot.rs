//! Any bytes as a snapshot, raw or as the pickle inside an intact gzip.
#![no_main]

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;
use pg_witness::wire::Snapshot;

fuzz_target!(|bytes: &[u8]| {
    let _ = Snapshot::decode(bytes);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(bytes).unwrap();
    let Ok(snapshot) = Snapshot::decode(&gzip.finish().unwrap()) else {
        return;
    };
    assert_eq!(snapshot.prev.id.index.next(), snapshot.last.id.index);
    if let Ok(again) = Snapshot::decode(&snapshot.encode()) {
        assert_eq!(again.encode(), snapshot.encode());
    }
});
