//! What the machine below the witness has to say, where its PID 1 is this
//! program: sentences that `appliance` writes into a file and `http` shows. A
//! file, because PID 1 and the witness are two processes.

use std::io::Read as _;
use std::path::Path;

use crate::config::limits::{NOTE_CHARS_MAX, NOTES_MAX};

/// The file, one sentence a line. It is there on an appliance alone.
pub const FILE: &str = "/run/appliance/notes";

/// Its sentences; none where there is no such file, or where all is well.
pub fn notes() -> Vec<String> {
    read(Path::new(FILE))
}

fn read(file: &Path) -> Vec<String> {
    let mut text = String::new();
    let bytes_max = u64::try_from(NOTES_MAX * NOTE_CHARS_MAX * 4).unwrap_or(u64::MAX);
    let whole =
        std::fs::File::open(file).and_then(|file| file.take(bytes_max).read_to_string(&mut text));
    if whole.is_err() {
        return Vec::new();
    }
    text.lines().take(NOTES_MAX).map(str::to_owned).collect()
}

/// Replaces the file as a whole.
///
/// # Errors
/// It cannot be written.
pub fn publish(file: &Path, notes: &[String]) -> std::io::Result<()> {
    let line = |note: &String| {
        let note: String = note.chars().take(NOTE_CHARS_MAX).collect();
        note.replace(char::is_control, " ") + "\n"
    };
    let text: String = notes.iter().take(NOTES_MAX).map(line).collect();
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
        assert!(read(&file).is_empty());
        let notes = vec!["one\nline".to_owned(), "x".repeat(9_999)];
        publish(&file, &notes).unwrap();
        let found = read(&file);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], "one line");
        assert_eq!(found[1].len(), NOTE_CHARS_MAX);
        publish(&file, &vec!["x".to_owned(); 99]).unwrap();
        assert_eq!(read(&file).len(), NOTES_MAX);
    }
}
