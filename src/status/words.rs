//! Figures as a person says them, and somebody else's text made harmless.

use crate::limits::STATUS_TEXT_MAX;
use crate::text::is_harmful;

/// Whole seconds, as a person says them.
pub fn seconds(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..=119 => format!("{s} s"),
        120..=7_199 => format!("{} min", s / 60),
        7_200..=172_799 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

/// A size, as a person says it.
pub fn bytes(count: u64) -> String {
    match count {
        0..=9_999 => format!("{count} B"),
        10_000..=9_999_999 => format!("{} kB", count / 1_000),
        10_000_000..=9_999_999_999 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}

/// With a capital letter in front: of our own words, never of a name.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// A probe's answer, or that there is none.
pub fn answer(answer: Option<&str>) -> String {
    answer.unwrap_or("no answer").replace('-', " ")
}

/// Somebody else's text, bounded and without control characters: what is shown
/// must not move a terminal's cursor or fill a page.
pub fn shown(text: &str) -> String {
    let mut short = harmless(text.chars().take(STATUS_TEXT_MAX));
    if text.chars().nth(STATUS_TEXT_MAX).is_some() {
        short.push('…');
    }
    short
}

/// Without control characters: one line, whatever somebody else wrote into it.
pub fn harmless(text: impl Iterator<Item = char>) -> String {
    let harmless = |c: char| {
        if is_harmful(c) { '\u{fffd}' } else { c }
    };
    text.map(harmless).collect()
}
