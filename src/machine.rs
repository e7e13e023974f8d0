//! The machine below the witness: what its kernel says, and, where its PID 1 is this
//! program, what that says: what is so now, and what has happened. `appliance` writes
//! both into files and `http` shows them; files, because PID 1 and the witness are
//! two processes, and the witness may be started again.

use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::limits::{BOARD_EVENTS_MAX, EVENT_CHARS_MAX, NOTE_CHARS_MAX, NOTES_MAX};
use crate::logging::ring::KeptEvent;

/// The sentences that hold now, one a line. The file is there on an appliance alone.
pub const NOTES: &str = "/run/appliance/notes";

/// PID 1's last events, one a line: `NUMBER MILLISECONDS TIMES LEVEL TEXT`, the time
/// since the epoch. Likewise.
pub const EVENTS: &str = "/run/appliance/events";

/// Longest line of [`EVENTS`] but for its text, in bytes: three numbers and a level.
const EVENT_HEAD_BYTES: usize = 80;

/// The kernel, its load, how long it is up in seconds, and its memory: some lines.
pub fn system() -> String {
    let uname = rustix::system::uname();
    let line = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().next().unwrap_or_default().to_owned()
    };
    format!(
        "{} {} {}\nload {}\nup {}\n{}\n",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy(),
        line("/proc/loadavg"),
        line("/proc/uptime"),
        line("/proc/meminfo"),
    )
}

/// The sentences that hold now; none where there is no such file, or where all is
/// well.
pub fn notes() -> Vec<String> {
    read_notes(Path::new(NOTES))
}

/// PID 1's last events, oldest first; none where there is no such file.
pub fn events() -> Vec<KeptEvent> {
    read_events(Path::new(EVENTS))
}

fn read_notes(file: &Path) -> Vec<String> {
    let text = read(file, NOTES_MAX.saturating_mul(NOTE_CHARS_MAX * 4));
    text.lines().take(NOTES_MAX).map(str::to_owned).collect()
}

fn read_events(file: &Path) -> Vec<KeptEvent> {
    let line_max = EVENT_HEAD_BYTES.saturating_add(EVENT_CHARS_MAX * 4);
    let text = read(file, BOARD_EVENTS_MAX.saturating_mul(line_max));
    text.lines()
        .take(BOARD_EVENTS_MAX)
        .filter_map(event)
        .collect()
}

fn event(line: &str) -> Option<KeptEvent> {
    let mut words = line.splitn(5, ' ');
    let number = words.next()?.parse().ok()?;
    let since = Duration::from_millis(words.next()?.parse().ok()?);
    Some(KeptEvent {
        number,
        time: UNIX_EPOCH.checked_add(since)?,
        times: words.next()?.parse().ok()?,
        level: words.next()?.parse().ok()?,
        text: words.next()?.into(),
    })
}

/// A file's text up to a limit; empty if it cannot be read.
fn read(file: &Path, bytes_max: usize) -> String {
    let bytes_max = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(file).and_then(|file| file.take(bytes_max).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// Replaces the file of the sentences as a whole.
///
/// # Errors
/// It cannot be written.
pub fn publish_notes(file: &Path, notes: &[String]) -> io::Result<()> {
    let line = |note: &String| {
        let note: String = note.chars().take(NOTE_CHARS_MAX).collect();
        note.replace(char::is_control, " ") + "\n"
    };
    replace(file, notes.iter().take(NOTES_MAX).map(line).collect())
}

/// Replaces the file of the events as a whole: at most [`BOARD_EVENTS_MAX`], bounded
/// as they are kept.
///
/// # Errors
/// It cannot be written.
pub fn publish_events(file: &Path, events: &[KeptEvent]) -> io::Result<()> {
    let line = |event: &KeptEvent| {
        let since = event.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (number, ms, times) = (event.number, since.as_millis(), event.times);
        format!("{number} {ms} {times} {} {}\n", event.level, event.text)
    };
    replace(
        file,
        events.iter().take(BOARD_EVENTS_MAX).map(line).collect(),
    )
}

fn replace(file: &Path, text: String) -> io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_pass_from_one_process_to_the_other_and_stay_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notes");
        assert!(read_notes(&file).is_empty());
        let notes = vec!["one\nline".to_owned(), "x".repeat(9_999)];
        publish_notes(&file, &notes).unwrap();
        let found = read_notes(&file);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], "one line");
        assert_eq!(found[1].len(), NOTE_CHARS_MAX);
        publish_notes(&file, &vec!["x".to_owned(); 99]).unwrap();
        assert_eq!(read_notes(&file).len(), NOTES_MAX);
    }

    #[test]
    fn events_pass_likewise_and_what_is_none_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events");
        assert_eq!(read_events(&file), []);
        let event = |number: u64, text: &str| KeptEvent {
            number,
            time: UNIX_EPOCH + Duration::from_millis(1_782_736_496_789),
            level: log::Level::Warn,
            text: text.into(),
            times: 2,
        };
        let events = [event(3, "No link: is the cable in?"), event(4, "")];
        publish_events(&file, &events).unwrap();
        assert_eq!(read_events(&file), events);
        let many: Vec<KeptEvent> = (1..=999)
            .map(|number| event(number, &"\u{1F511}".repeat(EVENT_CHARS_MAX)))
            .collect();
        publish_events(&file, &many).unwrap();
        assert_eq!(read_events(&file), many[..BOARD_EVENTS_MAX]);
        let broken = "x 1 1 WARN text\n1 1 1 LOUD text\n1 1\n2 99999999999999999999 1 WARN x\n5 0 1 INFO y\n";
        std::fs::write(&file, broken).unwrap();
        assert_eq!(read_events(&file).len(), 1);
    }
}
