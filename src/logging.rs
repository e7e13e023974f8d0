//! Log lines to standard error: for systemd's journal with its priority in
//! front, elsewhere with the time. Ours at the level that was asked for, all
//! others' at warnings and errors, for openraft says much that is no news here.
//! The last hundred lines that matter are kept in memory for whoever looks
//! ([`ring`]); lines that somebody else can cause are counted ([`tally`]).

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use env_logger::{Builder, Logger, Target};
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::fstat;

use self::ring::{Event, KeptEvent, Ring};
use self::utc::utc;
use crate::reactor;
use crate::text::escaped;

pub mod ring;
pub mod tally;
mod utc;

static RING: Mutex<Ring> = Mutex::new(Ring::new());

/// The least important level that is written out.
static WRITTEN: AtomicUsize = AtomicUsize::new(0);

/// The events after number `after` that are still kept, oldest first.
pub fn events(after: u64) -> Vec<Event> {
    let ring = RING.lock().unwrap_or_else(PoisonError::into_inner);
    ring.after(after)
}

/// The last `count` events as they are kept, oldest first.
pub fn kept(count: usize) -> Vec<KeptEvent> {
    let ring = RING.lock().unwrap_or_else(PoisonError::into_inner);
    ring.newest(count)
}

/// Takes PID 1's events in among ours, each once, with their own time.
pub fn take_in(board: Vec<KeptEvent>) {
    let mut ring = RING.lock().unwrap_or_else(PoisonError::into_inner);
    ring.take_in(board);
}

/// The wall clock, RFC 3339.
pub fn now() -> String {
    utc(reactor::wall_clock())
}

fn keep(level: Level, message: &str) {
    let mut ring = RING.lock().unwrap_or_else(PoisonError::into_inner);
    ring.keep(reactor::wall_clock(), level, message);
}

/// Keeps what matters, whatever is written; writes what was asked for.
struct Tee(Logger);

impl Log for Tee {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.0.matches(record) {
            return;
        }
        if record.level() <= Level::Info {
            keep(record.level(), &record.args().to_string());
        }
        if record.level() as usize <= WRITTEN.load(Ordering::Relaxed) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Starts logging. A second call changes the level only.
pub fn start(level: LevelFilter) {
    let journal = is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    let logger = Builder::new()
        .target(Target::Stderr)
        .filter_level(LevelFilter::Warn)
        .filter_module(env!("CARGO_CRATE_NAME"), LevelFilter::Trace)
        .format(move |out, record| {
            let now = (!journal).then(reactor::wall_clock);
            let line = line(record.level(), &record.args().to_string(), now);
            out.write_all(line.as_bytes())
        })
        .build();
    // Fails when logging was started before, as tests do.
    drop(log::set_boxed_logger(Box::new(Tee(logger))));
    set_level(level);
}

/// Changes the level at run time (SIGHUP).
pub fn set_level(level: LevelFilter) {
    WRITTEN.store(level as usize, Ordering::Relaxed);
    log::set_max_level(level.max(LevelFilter::Info));
}

/// One record as one line: what a peer wrote into it cannot begin another.
fn line(level: Level, message: &str, now: Option<SystemTime>) -> String {
    let mut line = String::new();
    // Writing to a String cannot fail.
    let _ = match now {
        Some(now) => write!(line, "{} {level} ", utc(now)),
        None => write!(line, "<{}>{level} ", priority(level)),
    };
    line.push_str(&escaped(message));
    line.push('\n');
    line
}

/// syslog's numbers (`sd-daemon(3)`).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Whether standard error is the journal's: the variable alone is inherited by
/// whatever a service starts on a terminal (`systemd.exec(5)`).
fn is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    fstat(std::io::stderr())
        .is_ok_and(|stat| device == stat.st_dev.to_string() && inode == stat.st_ino.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn one_record_is_one_line_with_a_time_or_a_priority() {
        let hidden = "a\u{202e}b\u{2028}c";
        let expected = "<4>WARN a\\u{202e}b\\u{2028}c\n";
        assert_eq!(line(Level::Warn, hidden, None), expected);
        let message = "peer said \"a\n<0>b\"";
        assert_eq!(
            line(Level::Warn, message, Some(at(0))),
            "1970-01-01T00:00:00.000Z WARN peer said \"a\\n<0>b\"\n"
        );
        assert_eq!(
            line(Level::Info, message, None),
            "<6>INFO peer said \"a\\n<0>b\"\n"
        );
    }

    #[test]
    fn an_inherited_variable_is_no_journal() {
        assert!(!is_journal(None));
        assert!(!is_journal(Some("8:1")));
        let stat = fstat(std::io::stderr()).unwrap();
        assert!(is_journal(Some(&format!(
            "{}:{}",
            stat.st_dev, stat.st_ino
        ))));
    }
}
