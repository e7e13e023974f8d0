//! The commands that would stop every Python node for good, by what is wrong with
//! them (S6).

use std::fmt;

/// Why a command must not enter the log: Python raises when it applies it, and
/// a raise there ends the raft thread of every Python node, now and at each
/// restart (H1, H6), or it does harm in another way that is named here.
///
/// Applied all the same, because it came by another leader, it changes nothing
/// wherever Python raises before it has stored or gone through its deletions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Poison {
    /// The command is no `function`, `(function, args)`, `(function, args, kwargs)`.
    Shape,
    /// No replicated method has this number.
    UnknownFunction,
    /// Arguments missing, too many, given twice, or unknown to `_expire`.
    Arguments,
    /// `_doApply` is false: every replica would propose the command again.
    Reproposes,
    /// The key is a list, dict or set, which no dict takes.
    UnhashableKey,
    /// `_delete` of a key that is not there, and no condition that fails (H1).
    MissingKey,
    /// `_delete` by prefix where a key or the prefix is no text.
    Prefix,
    /// The value to set is no dict, or lacks what the method reads from it; or
    /// the value to expire is no dict.
    Value,
    /// The stored value lacks what the method reads from it.
    Stored,
    /// Stored like in Python, but the callback of a data node raises: `created`
    /// or `updated` is missing.
    Callback,
    /// Stored like in Python, but its readers raise: the key is no `str`.
    KeyNotText,
    /// Stored like in Python, but a Python leader raises when it looks for
    /// expired keys: `expire` is no number.
    ExpireNotNumber,
    /// `prevIndex` is false but not None: no condition up to Patroni 3.0.2, one
    /// that never holds since. Replicas of both would part.
    AmbiguousIndex,
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "the command is no call",
            Self::UnknownFunction => "no replicated method has this number",
            Self::Arguments => "the arguments do not fit the method",
            Self::Reproposes => "the command would be proposed again by every replica",
            Self::UnhashableKey => "the key is not hashable",
            Self::MissingKey => "the key to delete is not there",
            Self::Prefix => "a prefix is compared with what is no text",
            Self::Value => "the value is no dict of the expected shape",
            Self::Stored => "the stored value is no dict of the expected shape",
            Self::Callback => "the value lacks `created` or `updated`",
            Self::KeyNotText => "the key is no str",
            Self::ExpireNotNumber => "`expire` is no number",
            Self::AmbiguousIndex => "`prevIndex` means different things to the replicas",
        })
    }
}

impl std::error::Error for Poison {}
