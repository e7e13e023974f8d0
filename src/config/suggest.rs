//! "Did you mean": the known word most like a mistyped one.

use super::error::{ConfigError, Located};

/// One of a few words.
pub fn choice<T: Copy>(said: &Located<String>, words: &[(&str, T)]) -> Result<T, ConfigError> {
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == said.value) {
        return Ok(*meaning);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let why = match nearest(&said.value, &known) {
        Some(word) => format!("did you mean {word}?"),
        None => format!("must be {}", known.join(" or ")),
    };
    Err(ConfigError::Invalid {
        place: said.place.clone(),
        value: Some(said.value.clone()),
        why,
    })
}

/// The word of `known` that is nearest to `word`, whatever the case of both; none
/// when all are too far to have been meant.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    known
        .iter()
        .map(|candidate| {
            (
                distance(
                    &word,
                    &candidate
                        .chars()
                        .flat_map(char::to_lowercase)
                        .collect::<Vec<_>>(),
                ),
                *candidate,
            )
        })
        .filter(|(steps, candidate)| *steps <= (candidate.len() / 3).max(1))
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements between two words (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            let steps = (diagonal + usize::from(x != y))
                .min(left + 1)
                .min(above + 1);
            diagonal = *above;
            left = steps;
            next.push(steps);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_what_was_meant_and_stays_silent_otherwise() {
        let known = ["self_addr", "bind_addr", "partner_addrs", "password", "ttl"];
        for (typed, meant) in [
            ("selfaddr", Some("self_addr")),
            ("SELF_ADDR", Some("self_addr")),
            ("partner_addr", Some("partner_addrs")),
            ("passwd", Some("password")),
            ("tll", Some("ttl")),
            ("", None),
            ("hosts", None),
        ] {
            assert_eq!(nearest(typed, &known), meant, "{typed}");
        }
    }
}
