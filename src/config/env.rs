//! The environment, taken once and handed on, so that nothing else reads it and
//! tests can bring their own.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::error::{ConfigError, Place};

/// Variables by name. It holds passwords: it has no `Debug`.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, OsString>);

impl Env {
    /// What this process was started with.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect()
    }

    /// With one variable more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// With these variables more, where none of that name is set, not even to nothing.
    #[must_use]
    pub fn over(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut all: BTreeMap<String, OsString> = variables
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        all.append(&mut self.0);
        Self(all)
    }

    /// The value of a variable; none when unset or empty, which is the same to
    /// Patroni. Fails on what is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        value
            .to_str()
            .map(Some)
            .ok_or_else(|| ConfigError::Invalid {
                place: Place::variable(name),
                value: None,
                why: "is not UTF-8".into(),
            })
    }

    /// The value of a variable that holds a path; none when unset or empty.
    pub fn path(&self, name: &str) -> Option<&std::path::Path> {
        let value = self.0.get(name).filter(|value| !value.is_empty())?;
        Some(std::path::Path::new(value))
    }

    /// The names that begin with `prefix` and are not empty, in order.
    pub fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
            .map(|(name, _)| name.as_str())
    }
}

impl<K: Into<String>, V: Into<OsString>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let owned = |(name, value): (K, V)| (name.into(), value.into());
        Self(variables.into_iter().map(owned).collect())
    }
}
