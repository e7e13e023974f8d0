//! The documents are true: every rule, hazard and section that the code cites
//! stands in one of them, and every file and test that they name exists.
//!
//! * `S7`: a safety rule, in src/ARCHITECTURE.md;
//! * `E3`: a rule of the engine, in src/raft/OPENRAFT.md;
//! * `H8`, and `spec 3.5` or `§3.5`: a hazard and a section of src/wire/PROTOCOL.md.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 3] = [
    "src/ARCHITECTURE.md",
    "src/raft/OPENRAFT.md",
    "src/wire/PROTOCOL.md",
];

/// Where rules are cited. Recorded bytes, tables of texts and what a fuzzer leaves
/// behind cite none.
const CITING: [&str; 4] = ["src", "tests", "image", ".github"];
const CITING_NOTHING: [&str; 2] = ["tests/data", "tests/fuzz/target"];
const KINDS: [&str; 5] = ["rs", "py", "md", "html", "sh"];

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files below `folder`, by their paths from the root.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(root().join(folder)) else {
        return found;
    };
    for entry in entries {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if CITING_NOTHING.contains(&&*path) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path));
        } else if Path::new(&path)
            .extension()
            .is_some_and(|kind| KINDS.contains(&kind.to_str().unwrap()))
        {
            found.push(path);
        }
    }
    found
}

/// What a pure file may not name outside its tests: clocks, chance, tasks, sockets,
/// disks and the log.
const WORLD: [&str; 11] = [
    "Instant::now(",
    ".elapsed()",
    "wall_clock(",
    "reactor::draw",
    "reactor::rng",
    "runtime::",
    "Timer::",
    "log::info",
    "log::warn",
    "log::error",
    "Stream",
];

#[test]
fn what_decides_touches_nothing() {
    let decides = files("src/election").into_iter();
    let decides = decides.filter(|path| path.ends_with(".rs") && !path.ends_with("/tests.rs"));
    let mut seen = 0;
    for path in decides {
        let text = read(&path);
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for word in WORLD {
            assert!(!text.contains(word), "{path} is pure, and names {word}");
        }
        seen += 1;
    }
    assert!(seen > 5, "too few files: {seen}");
}

/// The calls of the log's macros in a file: from the macro's name to its last parenthesis.
fn log_calls(text: &str) -> Vec<&str> {
    let mut calls = Vec::new();
    for level in ["error!(", "warn!(", "info!(", "debug!(", "trace!("] {
        for (at, macro_name) in text.match_indices(&format!("log::{level}")) {
            let (mut depth, mut quoted, mut escaped) = (0, false, false);
            let end = text[at + macro_name.len()..].find(|c| {
                match (quoted, escaped, c) {
                    (true, true, _) => escaped = false,
                    (true, false, '\\') => escaped = true,
                    (_, _, '"') => quoted = !quoted,
                    (false, _, '(') => depth += 1,
                    (false, _, ')') => depth -= 1,
                    _ => {}
                }
                depth < 0
            });
            let end = at + macro_name.len() + end.unwrap();
            calls.push(&text[at..end]);
        }
    }
    calls
}

/// `grep` with a part of a line of the log finds who wrote it.
#[test]
fn a_log_message_is_one_literal_on_one_line() {
    let mut seen = 0;
    for path in files("src").iter().filter(|path| path.ends_with(".rs")) {
        let text = read(path);
        for call in log_calls(&text) {
            assert!(!call.contains("\\\n"), "{path}: {call}");
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen} calls seen");
}

/// The real thing and the simulated one, of which a build has one.
const MIRRORED: [&str; 3] = ["Rng", "TcpListener", "TcpStream"];

/// The types that a file defines for others to see, outside its tests.
fn types(text: &str) -> impl Iterator<Item = &str> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter_map(|line| {
        let mut words = line.split([' ', '(', '<', ';', '{']);
        let first = words.find(|word| !word.starts_with("pub") && !word.ends_with(')'))?;
        let name = words.next()?;
        let defines = ["struct", "enum", "trait", "type"].contains(&first);
        defines.then(|| name.trim_end_matches(':'))
    })
}

#[test]
fn a_type_name_stands_for_one_thing() {
    let mut found = std::collections::BTreeMap::new();
    let rust = files("src").into_iter().filter(|path| {
        path.ends_with(".rs") && !path.ends_with("/tests.rs") && !path.contains("/tests/")
    });
    for path in rust {
        let text = read(&path);
        for name in types(&text) {
            let elsewhere = found.insert(name.to_owned(), path.clone());
            assert!(
                elsewhere.is_none() || MIRRORED.contains(&name),
                "{name}: {path} and {elsewhere:?}"
            );
        }
    }
    assert!(found.len() > 300, "{} types seen", found.len());
}

/// Whether a word names a rule: `S7`, `H30`.
fn is_rule(word: &str) -> bool {
    let number = word.strip_prefix(['S', 'H', 'E']);
    number.is_some_and(|number| {
        (1..=2).contains(&number.len())
            && !number.starts_with('0')
            && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// Whether a word names a section: `3`, `3.5`.
fn is_section(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 5
        && word
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()))
}

/// What the headings of the documents define. A section is written `§3.5`.
fn defined() -> BTreeSet<String> {
    let mut defined = BTreeSet::new();
    for document in DOCUMENTS {
        let text = read(document);
        let headings = text.lines().filter(|line| line.starts_with('#'));
        for heading in headings {
            let name = heading.split_whitespace().nth(1).unwrap_or_default();
            let name = match (is_rule(name), is_section(name)) {
                (true, _) => name.to_owned(),
                (_, true) => format!("§{name}"),
                _ => continue,
            };
            assert!(
                defined.insert(name.clone()),
                "{document}: {name} stands there twice"
            );
        }
    }
    defined
}

/// What a text cites, each with its line. A citation may go over the end of a line
/// of comment.
fn cited(text: &str) -> Vec<(usize, String)> {
    let words = text.lines().enumerate().flat_map(|(line, text)| {
        let words = text.split_whitespace();
        let words = words.filter(|word| !["//", "///", "//!", "#", "*"].contains(word));
        words.map(move |word| (line + 1, word))
    });
    let mut cited = Vec::new();
    // Whether section numbers may follow.
    let mut spec = false;
    for (line, word) in words {
        let parts = word.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '§' && c != '.');
        let mut numbers = 0;
        for part in parts {
            let part = part.trim_end_matches('.');
            if is_rule(part) {
                cited.push((line, part.to_owned()));
            }
            let number = part.strip_prefix('§').unwrap_or(part);
            if (spec || part.starts_with('§')) && is_section(number) {
                cited.push((line, format!("§{number}")));
                numbers += 1;
            }
        }
        let ends = word.ends_with([')', ':', ';', '.']);
        spec = match word.trim_start_matches('(') {
            "spec" | "Spec" => true,
            "and" | "or" => spec,
            _ => spec && numbers > 0 && !ends,
        };
    }
    cited
}

#[test]
fn every_citation_leads_to_a_heading() {
    let defined = defined();
    let files: Vec<String> = CITING.iter().flat_map(|folder| files(folder)).collect();
    let mut count = 0;
    let mut lost = Vec::new();
    for file in &files {
        for (line, name) in cited(&read(file)) {
            count += 1;
            if !defined.contains(&name) {
                lost.push(format!("{file}:{line}: {name} stands in no document"));
            }
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
    // That many there are: or it looks in the wrong place.
    assert!(files.len() > 200 && count > 500, "{} {count}", files.len());
}

#[test]
fn a_citation_is_seen_however_it_is_written() {
    let text = "//! one (spec\n//! 7.3), two (S7 a, H9/H10), E1-E4; spec 1.3, 1.4, 2).\n\
                // Spec 3.3-3.5: three. spec 6 and 6.1. Not Raft 5.4.2, E402, 0.3.17 or 2.\n\
                /// §3.8, `S18`.";
    let names: Vec<String> = cited(text).into_iter().map(|(_, name)| name).collect();
    let expected = "§7.3 S7 H9 H10 E1 E4 §1.3 §1.4 §2 §3.3 §3.5 §6 §6.1 §3.8 S18";
    assert_eq!(names.join(" "), expected);
}

/// What stands in backticks, each with its line.
fn code(text: &str) -> Vec<(usize, &str)> {
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(line, text)| {
            let spans = text.split('`').skip(1).step_by(2);
            spans.map(move |span| (line + 1, span))
        })
        .collect()
}

/// The documents that name files: those of the code and those for people.
fn naming() -> Vec<String> {
    let files = ["src", ".github", "tests"].iter().flat_map(|f| files(f));
    let mut documents: Vec<String> = files.filter(|file| file.ends_with(".md")).collect();
    documents.push("README.md".to_owned());
    documents
}

#[test]
fn every_file_and_test_that_is_named_exists() {
    let (mut tests, mut lost) = (0, Vec::new());
    for document in naming() {
        let text = read(&document);
        for (line, span) in code(&text) {
            let (path, test) = match span.split_once("::") {
                Some((path, test)) => (path, Some(test)),
                None => (span, None),
            };
            let ours = ["src/", "tests/", "image/", ".ci/", ".github/"];
            if !ours.iter().any(|folder| path.starts_with(folder)) || path.contains(' ') {
                continue;
            }
            if !root().join(path).exists() {
                lost.push(format!("{document}:{line}: there is no {path}"));
                continue;
            }
            let Some(test) = test else { continue };
            tests += 1;
            let python = format!("def {test}(");
            let rust = format!("fn {test}(");
            let source = read(path);
            if !source.contains(&python) && !source.contains(&rust) {
                lost.push(format!("{document}:{line}: {path} has no test {test}"));
            }
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
    assert!(tests > 80, "{tests}");
}

#[test]
fn every_safety_rule_names_who_holds_it_and_what_proves_it() {
    let text = read("src/ARCHITECTURE.md");
    let rules = text.split("\n### ").skip(1);
    let mut expected = 1..;
    for rule in rules {
        let name = rule.split(' ').next().unwrap();
        assert_eq!(name, format!("S{}", expected.next().unwrap()));
        let (held, proved) = rule.split_once("Proved by").unwrap_or((rule, ""));
        let held = held.split_once("Held by").map_or("", |(_, held)| held);
        assert!(held.contains("`src/"), "{name}: held by no file");
        assert!(proved.contains("::"), "{name}: proved by no test");
    }
}

/// A link of Markdown to a file, `[name](path)` or `[name]: path`, from where it
/// stands.
#[test]
fn every_relative_link_leads_to_a_file() {
    for document in naming() {
        let text = read(&document);
        let here = root().join(&document);
        for (line, text) in text.lines().enumerate() {
            let inline = text.split("](").skip(1).filter_map(|s| s.split(')').next());
            let referred = text
                .strip_prefix('[')
                .and_then(|text| text.split_once("]: "))
                .map(|(_, target)| target);
            for target in inline.chain(referred) {
                let path = target.split('#').next().unwrap();
                if path.is_empty() || path.contains("://") {
                    continue;
                }
                let found = here.parent().unwrap().join(path).exists();
                assert!(found, "{document}:{}: no {path}", line + 1);
            }
        }
    }
}
