//! The configuration of the package's service for a command that is run by hand: the
//! variables that its unit reads with `EnvironmentFile=`, from the file beside the
//! package's configuration.
//!
//! A command that reads that configuration must mean the cluster, the folder and the
//! password that the service does. The service itself is given the variables by
//! systemd, and often may not read their file.

use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;

use rustix::fs::Access;
use rustix::io::Errno;

use super::env::Env;
use super::error::{ConfigError, Place, shown};
use super::variables::{NOTIFY_SOCKET, PATRONI_CONFIGURATION};
use super::{ConfigSource, file, patroni, variables};

/// The file's name, beside the package's configuration.
const NAME: &str = "environment";

/// What the variables begin with that are ours to read. No other may change what a
/// command does, such as where it finds a program.
const PREFIXES: [&str; 2] = ["PATRONI_", variables::PREFIX];

/// The variable that may hold a password.
const PASSWORD: &str = "PATRONI_RAFT_PASSWORD";

/// What the service is started with.
pub struct Service {
    /// Its configuration, by name: variables go over it and never in its place.
    pub source: ConfigSource,
    /// Its variables, and over them those of this process.
    pub env: Env,
    /// The file that they are in.
    pub file: PathBuf,
    /// What is odd in there.
    pub warnings: Vec<String>,
}

/// What the service is started with, where a command means it: neither the command
/// line nor the environment names another configuration, and there is a file of
/// variables. Fails if that cannot be read, or shows a password to everybody.
pub fn of_command(source: &ConfigSource, env: &Env) -> Result<Option<Service>, ConfigError> {
    let Some(config) = &source.default_file else {
        return Ok(None);
    };
    let path = config.with_file_name(NAME);
    let is_meant = match &source.file {
        Some(named) => named == config,
        None => env.text(PATRONI_CONFIGURATION)?.is_none() && !patroni::names_a_member(env),
    };
    let is_given = env.text(NOTIFY_SOCKET)?.is_some();
    let exists = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    if !is_meant || is_given || !exists(config) || !exists(&path) {
        return Ok(None);
    }
    if rustix::fs::access(&path, Access::READ_OK) == Err(Errno::ACCESS) {
        return Err(ConfigError::Unreadable {
            place: Place::top(path.display().to_string()),
            why: "permission denied; run this as root: the service's variables are in there".into(),
        });
    }
    let read = file::read(&path)?;
    let mut warnings = Vec::new();
    let mut found = Vec::new();
    for (name, value) in assignments(&read.text) {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if !name.bytes().all(is_plain) {
            let name = shown(&name);
            warnings.push(format!(
                "{}: \"{name}\" is no name of a variable, so systemd ignores it",
                read.place
            ));
        } else if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            if name == PASSWORD {
                read.check_private(&read.place.key(PASSWORD), &path, env)?;
            }
            found.push((name, value));
        }
    }
    Ok(Some(Service {
        source: ConfigSource {
            file: Some(config.clone()),
            ..source.clone()
        },
        env: env.clone().over(found),
        file: path,
        warnings,
    }))
}

/// The assignments of such a file, as systemd reads it (systemd.exec(5)): nothing is
/// expanded.
fn assignments(text: &str) -> Vec<(String, String)> {
    let mut chars = text.chars().peekable();
    let mut found = Vec::new();
    while let Some(first) = chars.next() {
        match first {
            '#' | ';' => {
                let _ = until_line_end(&mut chars, |_| false);
            }
            _ if first.is_ascii_whitespace() => {}
            _ => {
                let mut name = String::from(first);
                if first != '=' {
                    name.push_str(&until_line_end(&mut chars, |c| c == '='));
                    if chars.next_if_eq(&'=').is_none() {
                        continue;
                    }
                }
                found.push((name.trim_end().to_owned(), value(&mut chars)));
            }
        }
    }
    found
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

/// What comes before the end of the line, or a character of this kind.
fn until_line_end(chars: &mut Peekable<Chars<'_>>, ends: impl Fn(char) -> bool) -> String {
    std::iter::from_fn(|| chars.next_if(|c| !is_line_end(*c) && !ends(*c))).collect()
}

/// A value, to the end of its line: quotes count where it begins and behind others.
fn value(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    // Its length without the white space at its end, unless that is quoted.
    let mut length = 0;
    let mut is_bare = false;
    while let Some(c) = chars.next() {
        match c {
            _ if is_line_end(c) => break,
            '\'' if !is_bare => value.extend(chars.by_ref().take_while(|c| *c != '\'')),
            '"' if !is_bare => double_quoted(chars, &mut value),
            '\\' => {
                is_bare = true;
                value.extend(chars.next().filter(|c| !is_line_end(*c)));
            }
            _ if c.is_ascii_whitespace() => {
                if is_bare {
                    value.push(c);
                }
                continue;
            }
            _ => {
                is_bare = true;
                value.push(c);
            }
        }
        length = value.len();
    }
    value.truncate(length);
    value
}

/// What stands in double quotes, the first of which was read.
fn double_quoted(chars: &mut Peekable<Chars<'_>>, value: &mut String) {
    while let Some(c) = chars.next() {
        match c {
            '"' => return,
            '\\' => match chars.next() {
                Some(c) if is_line_end(c) => {}
                Some(c @ ('"' | '\\' | '`' | '$')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
                None => {}
            },
            _ => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_systemd_reads_it() {
        for (text, expected) in [
            ("", vec![]),
            ("A=1\nB=2", vec![("A", "1"), ("B", "2")]),
            ("# A=1\n ; B=2\n\n  C = 3 \t\r\n", vec![("C", "3")]),
            ("no assignment\nA=", vec![("A", "")]),
            ("A='a b ' \nB=\" c\"", vec![("A", "a b "), ("B", " c")]),
            ("A='x\"y'\"z'\"", vec![("A", "x\"yz'")]),
            ("A=it's\nB=a\"b\"", vec![("A", "it's"), ("B", "a\"b\"")]),
            ("A=a\\ \nB=$HOME", vec![("A", "a "), ("B", "$HOME")]),
            ("A=a\\\nb", vec![("A", "ab")]),
            ("A=\"1\n2\"\nB='3\n4'", vec![("A", "1\n2"), ("B", "3\n4")]),
            ("A=\"\\$\\\\\\\"\\n\\\n\"", vec![("A", "$\\\"\\n")]),
            ("A='open", vec![("A", "open")]),
            ("A=\"open\\", vec![("A", "open")]),
            ("export A=1", vec![("export A", "1")]),
            ("=1\nA==", vec![("=", "1"), ("A", "=")]),
        ] {
            let found = assignments(text);
            let found: Vec<(&str, &str)> = found.iter().map(|(n, v)| (&**n, &**v)).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
