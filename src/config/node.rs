//! A configuration as a tree, after scalars were resolved as PyYAML does and
//! before anything is understood. It may hold secrets: it has no `Debug`.

use std::collections::BTreeMap;

/// A value as `yaml.safe_load` would return it.
#[derive(Clone, PartialEq)]
pub enum YamlNode {
    /// `None`.
    Null,
    /// `True` or `False`.
    Bool(bool),
    /// An `int`; none when it does not fit 128 bits.
    Int(Option<i128>),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Text(String),
    /// `bytes`, from `!!binary`.
    Bytes(Vec<u8>),
    /// A `date` or `datetime`; no setting is one, so its value is not kept.
    Time,
    /// A `list`.
    List(Vec<YamlNode>),
    /// A `dict`.
    Map(BTreeMap<YamlKey, YamlNode>),
}

/// A key of a `dict`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum YamlKey {
    /// A `str`.
    Text(String),
    /// Any other kind, as Python would show it: `True`, `1`, `None`.
    Other(String),
}

impl YamlKey {
    /// The key as a person reads it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Other(text) => text,
        }
    }
}

impl YamlNode {
    /// What this is, for a message, without its value.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Bool(_) => "read as yes or no, not as a text",
            Self::Int(_) | Self::Float(_) => "read as a number, not as a text",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "bytes, not a text",
            Self::Time => "read as a date, not as a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a section with keys",
        }
    }

    /// What this was read as, with its value: for what is no secret.
    pub fn reading(&self) -> String {
        match self {
            Self::Bool(value) => format!("YAML reads this as {value}, not as a text"),
            Self::Int(Some(value)) => format!("YAML reads this as the number {value}"),
            Self::Float(value) => format!("YAML reads this as the number {value}"),
            Self::Text(value) => format!("\"{}\" is a text", super::error::shown(value)),
            other => other.kind().into(),
        }
    }
}
