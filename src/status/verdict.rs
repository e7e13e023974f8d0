//! The answer to whether a failover would work now, and why. `judge` gives it.

use std::fmt;

use serde::Serialize;

use super::Remedy;

/// Whether a failover would work now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailoverAnswer {
    /// It would.
    Yes,
    /// We cannot know.
    #[default]
    Unknown,
    /// One is going on, so that another would not.
    UnderWay,
    /// It would not.
    No,
}

impl FailoverAnswer {
    /// As JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Unknown => "unknown",
            Self::UnderWay => "under-way",
            Self::No => "no",
        }
    }
}

impl fmt::Display for FailoverAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer, why, and in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// In one word.
    pub answer: FailoverAnswer,
    /// Why, in one hyphenated word that does not change between versions.
    pub reason: &'static str,
    /// A plain sentence.
    pub sentence: String,
    /// What to do about it, where that is known.
    pub remedy: Option<Remedy>,
}

impl Verdict {
    /// A verdict.
    pub fn new(answer: FailoverAnswer, reason: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            answer,
            reason,
            sentence: sentence.into(),
            remedy: None,
        }
    }
}
