//! The log of a world: every line that its members write, with the simulated time.
//! Equal seeds give equal bytes, which their digest shows.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::OnceLock;

use pg_witness::reactor::simulated;
use sha2::{Digest as _, Sha256};

/// Lines that are kept to be shown with a failure.
const KEPT: usize = 400;

#[derive(Default)]
struct Journal {
    digest: Sha256,
    kept: VecDeque<String>,
    /// What nobody has looked at yet.
    news: Vec<String>,
    shown: bool,
}

thread_local! {
    static JOURNAL: RefCell<Journal> = RefCell::default();
}

struct Writer;

impl log::Log for Writer {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("pg_witness")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            write(&format!("{} {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}

/// Begins the log of this thread's world. `shown`: its lines are printed as they come.
pub fn begin(shown: bool) {
    static LOGGER: OnceLock<()> = OnceLock::new();
    LOGGER.get_or_init(|| {
        log::set_boxed_logger(Box::new(Writer)).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
    JOURNAL.set(Journal {
        shown,
        ..Journal::default()
    });
}

/// Writes a line of the world's own.
pub fn write(text: &str) {
    let passed = simulated::passed();
    let line = format!(
        "{:>10}.{:06} {text}",
        passed.as_secs(),
        passed.subsec_micros()
    );
    JOURNAL.with_borrow_mut(|journal| {
        if journal.shown {
            println!("{line}");
        }
        journal.digest.update(line.as_bytes());
        journal.digest.update(b"\n");
        if journal.kept.len() >= KEPT {
            journal.kept.pop_front();
        }
        journal.kept.push_back(line);
        journal.news.push(text.to_owned());
    });
}

/// The lines since it was asked last, without their time.
pub fn news() -> Vec<String> {
    JOURNAL.with_borrow_mut(|journal| std::mem::take(&mut journal.news))
}

/// The digest of all that was written, in hexadecimal.
pub fn digest() -> String {
    let digest = JOURNAL.with_borrow(|journal| journal.digest.clone().finalize());
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The last lines.
pub fn end() -> String {
    JOURNAL.with_borrow(|journal| {
        let lines: Vec<&str> = journal.kept.iter().map(String::as_str).collect();
        lines.join("\n")
    })
}
