//! A password that never prints (S11).

use std::fmt;

/// A cluster's password. Neither `Debug` nor `Display` shows it; only the key
/// derivation reads it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a password; an empty one is none (as in Patroni's environment,
    /// where an empty variable counts as unset).
    pub fn new(password: &str) -> Option<Self> {
        (!password.is_empty()).then(|| Self(password.into()))
    }

    /// Wraps a password that may be empty: `password: ''` in Patroni's file
    /// encrypts, with a key derived from no bytes at all.
    pub fn verbatim(password: &str) -> Self {
        Self(password.into())
    }

    /// The bytes, for the key derivation alone.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
