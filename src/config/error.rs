//! What can be wrong with a configuration, told so that it can be mended: the
//! file, the path of the key inside it, the value and the remedy. A secret's
//! value never stands in an error (S11).

use std::fmt;

use crate::text::escaped;

/// Where a value was said: a file and the path inside it, or a variable of the
/// environment. Displays as `pg-witness.json: clusters[1].self_addr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    origin: String,
    path: String,
    /// Whether keys inside are variables that begin with the path.
    variables: bool,
}

impl Place {
    /// The top of a file, or the environment.
    pub fn top(origin: impl Into<String>) -> Self {
        Self {
            origin: origin.into(),
            path: String::new(),
            variables: false,
        }
    }

    /// A variable of the environment.
    pub fn variable(name: impl Into<String>) -> Self {
        Self {
            origin: "environment".into(),
            path: name.into(),
            variables: false,
        }
    }

    /// The variables of the environment that begin with `prefix`.
    pub fn variables(prefix: &str) -> Self {
        Self {
            variables: true,
            ..Self::variable(prefix)
        }
    }

    /// The place of `key` inside this one.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let path = if self.variables {
            format!("{}{}", self.path, key.to_ascii_uppercase())
        } else if self.path.is_empty() {
            shown(key)
        } else {
            format!("{}.{}", self.path, shown(key))
        };
        self.at(path)
    }

    /// The place of the element `index`, counted from 0, inside this one.
    #[must_use]
    pub fn element(&self, index: usize) -> Self {
        self.at(format!("{}[{index}]", self.path))
    }

    /// The place `path` in the same file.
    #[must_use]
    pub fn at(&self, path: String) -> Self {
        Self {
            origin: self.origin.clone(),
            path,
            variables: false,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.origin)
        } else {
            write!(f, "{}: {}", self.origin, self.path)
        }
    }
}

/// A value together with where it was said.
#[derive(Clone)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was said.
    pub place: Place,
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// The file cannot be opened or read.
    Unreadable {
        /// The file or folder.
        place: Place,
        /// What the system said, and what to do.
        why: String,
    },
    /// The file is larger than any configuration is.
    TooLarge {
        /// The file.
        place: Place,
        /// The cap, in bytes.
        bytes_max: usize,
    },
    /// The text is neither YAML nor JSON.
    Syntax {
        /// The file.
        place: Place,
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// A value that is needed was not given.
    Missing {
        /// Where it belongs.
        place: Place,
        /// What to write there.
        remedy: String,
    },
    /// A value of another kind is needed.
    WrongType {
        /// Where it was said.
        place: Place,
        /// What it was read as, such as "the number 83"; never a secret's value.
        found: String,
        /// What is needed, and how to write it.
        remedy: String,
    },
    /// A key that means nothing here.
    Unknown {
        /// The place of the key.
        place: Place,
        /// The known key most like it.
        nearest: Option<&'static str>,
        /// All keys that may stand here.
        known: &'static [&'static str],
    },
    /// A value that cannot be right.
    Invalid {
        /// Where it was said.
        place: Place,
        /// The value; none for a secret.
        value: Option<String>,
        /// Why it cannot be, and what to do.
        why: String,
    },
    /// Two values that exclude one another.
    Conflict {
        /// Where the second was said.
        place: Place,
        /// What it collides with, and what to do.
        why: String,
    },
    /// A secret that others can read.
    Exposed {
        /// Where the file was named.
        place: Place,
        /// The file with the secret.
        file: String,
        /// Its permission bits.
        mode: u32,
        /// The commands that hide it.
        remedy: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { place, why } => write!(f, "{place}: cannot be read: {why}"),
            Self::TooLarge { place, bytes_max } => write!(
                f,
                "{place}: larger than {bytes_max} bytes; is this the right file?"
            ),
            Self::Syntax {
                place,
                line,
                column,
                what,
            } => write!(f, "{place}: line {line}, column {column}: {what}"),
            Self::Missing { place, remedy } => write!(f, "{place}: missing; {remedy}"),
            Self::WrongType {
                place,
                found,
                remedy,
            } => write!(f, "{place}: {found}; {remedy}"),
            Self::Unknown {
                place,
                nearest: Some(nearest),
                ..
            } => write!(f, "{place}: unknown key; did you mean {nearest}?"),
            Self::Unknown { place, known, .. } => {
                write!(f, "{place}: unknown key; remove it (known here: ")?;
                f.write_str(&known.join(", "))?;
                f.write_str(")")
            }
            Self::Invalid {
                place,
                value: Some(value),
                why,
            } => write!(f, "{place}: \"{}\": {why}", shown(value)),
            Self::Invalid { place, why, .. } | Self::Conflict { place, why } => {
                write!(f, "{place}: {why}")
            }
            Self::Exposed {
                place,
                file,
                mode,
                remedy,
            } => write!(
                f,
                "{place}: {file} has mode {mode:03o}, so others can read or change the password; \
                 make it its owner's alone: {remedy}"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A text from outside as one harmless line of bounded length.
pub fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 100;
    let mut line = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == CHARS_MAX {
            line.push_str("...");
            break;
        }
        line.push_str(&escaped(c.encode_utf8(&mut [0; 4])));
    }
    line
}
