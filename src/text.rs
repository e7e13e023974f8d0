//! Somebody else's text made harmless: which characters of it may reach a terminal,
//! a log or a page, and how it stands in a command for a shell.

/// Whether a character could do more than be shown: control characters (one moves
/// the cursor, another begins a new line), what turns the direction of the text
/// behind it, what some programs take for the end of a line, and what nobody sees.
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Marks, embeddings, overrides and isolates of direction.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Separators of lines and of paragraphs.
            | '\u{2028}' | '\u{2029}'
            // Without width: two names that look alike.
            | '\u{00ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}')
}

/// As one line that can be read back: each harmful character by its number.
pub fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => line.extend(c.escape_default()),
            c if is_harmful(c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    line
}

/// A text as one word of a shell's command line.
pub fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_./:=,@%+-".contains(&b);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_could_deceive_is_told_by_its_number() {
        for (text, expected) in [
            ("pg1 \"é\" 数", "pg1 \"é\" 数"),
            ("a\nb", "a\\nb"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\u{202e}b\u{2028}c", "a\\u{202e}b\\u{2028}c"),
            ("pg\u{200b}1", "pg\\u{200b}1"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn a_shell_reads_a_word_as_it_was() {
        for text in ["", "a b", "it's", "$HOME", "a\"b\\", "orders", "-n", "é;&|"] {
            let line = format!("printf %s {}", shell_word(text));
            let shell = Command::new("sh").arg("-c").arg(line).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&shell.stdout), text);
        }
    }
}
