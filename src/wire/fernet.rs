//! Encryption: the key derived from a cluster's password and Fernet tokens
//! (spec 2.2, 2.3).
//!
//! Tokens are judged by their MAC alone, in constant time and before anything
//! else of them is looked at. Their timestamps are not: peers up to 0.3.11 send
//! a wall clock that may step back.

use std::fmt;

use aes::Aes128;
use aes::cipher::block_padding::{NoPadding, Pkcs7};
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, InnerIvInit, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::secret::Secret;

const SALT: [u8; 16] = [
    0x15, 0x25, 0x71, 0xe6, 0xbb, 0x02, 0xa6, 0xf8, 0x13, 0x71, 0x90, 0xcf, 0x36, 0x2b, 0x1e, 0xeb,
];
const ROUNDS: u32 = 100_000;

const TOKEN_VERSION: u8 = 0x80;
const IV_BYTES: usize = 16;
const BLOCK_BYTES: usize = 16;
const MAC_BYTES: usize = 32;
/// Version, timestamp, IV.
const HEAD_BYTES: usize = 1 + 8 + IV_BYTES;

/// Why a body is no token of this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Not the URL-safe base64 of a Fernet token: the peer does not encrypt.
    NotToken,
    /// The MAC does not fit: another password, or damage.
    Mac,
    /// Encrypted with our key, yet no proper plaintext inside.
    Padding,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotToken => "message is not encrypted, but this cluster has a password",
            Self::Mac => "message is encrypted with another password",
            Self::Padding => "message is encrypted, but malformed",
        })
    }
}

impl std::error::Error for TokenError {}

/// A cluster's key, with all that can be computed once.
#[derive(Clone)]
pub struct Key {
    mac: Hmac<Sha256>,
    cipher: Aes128,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

impl Key {
    /// Derives the key: 100,000 rounds, seconds on a small board, so not for
    /// the thread that serves links.
    pub fn derive(password: &Secret) -> Self {
        let bytes: [u8; 32] =
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.expose(), &SALT, ROUNDS);
        Self::from_bytes(bytes)
    }

    /// A key from its 32 bytes: 16 to sign, 16 to encrypt.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let [signing, encryption] = halves(bytes);
        Self {
            // The key block of HMAC is the key padded with zeros.
            mac: <Hmac<Sha256> as KeyInit>::new(&mac_block(signing).into()),
            cipher: Aes128::new(&encryption.into()),
        }
    }

    /// Appends `plaintext` as a token. `stamp_s` must not decrease within a
    /// connection, and `iv` must be random.
    pub fn encrypt(
        &self,
        plaintext: &[u8],
        stamp_s: u64,
        iv: [u8; IV_BYTES],
        raw: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        raw.clear();
        raw.push(TOKEN_VERSION);
        raw.extend_from_slice(&stamp_s.to_be_bytes());
        raw.extend_from_slice(&iv);
        raw.extend_from_slice(plaintext);
        // PKCS#7: one to sixteen bytes, each the count.
        let padding = BLOCK_BYTES - plaintext.len() % BLOCK_BYTES;
        let padded = raw.len() + padding;
        raw.resize(padded, u8::try_from(padding).unwrap_or_default());
        if let Some(blocks) = raw.get_mut(HEAD_BYTES..) {
            let count = blocks.len();
            let cbc = cbc::Encryptor::inner_iv_init(self.cipher.clone(), &iv.into());
            // Cannot fail: the blocks are whole.
            let _ = cbc.encrypt_padded_mut::<NoPadding>(blocks, count);
        }
        let mac = self.mac.clone().chain_update(&raw).finalize();
        raw.extend_from_slice(&mac.into_bytes());
        let start = out.len();
        // Four characters for each three bytes begun.
        out.resize(start + raw.len().div_ceil(3) * 4, 0);
        if let Some(text) = out.get_mut(start..) {
            // Cannot fail: the room is exact.
            let _ = URL_SAFE.encode_slice(raw, text);
        }
    }

    /// The plaintext of a token, in `raw`.
    ///
    /// # Errors
    /// What tells that it was not encrypted with this key.
    pub fn decrypt<'a>(&self, token: &[u8], raw: &'a mut Vec<u8>) -> Result<&'a [u8], TokenError> {
        raw.clear();
        raw.resize(token.len().div_ceil(4) * 3, 0);
        let count = URL_SAFE.decode_slice(token, raw);
        raw.truncate(count.map_err(|_| TokenError::NotToken)?);
        let Some(split) = raw.len().checked_sub(MAC_BYTES) else {
            return Err(TokenError::NotToken);
        };
        let (signed, mac) = raw
            .split_at_mut_checked(split)
            .ok_or(TokenError::NotToken)?;
        if signed.len() < HEAD_BYTES || signed.first() != Some(&TOKEN_VERSION) {
            return Err(TokenError::NotToken);
        }
        let expected = self.mac.clone().chain_update(&*signed);
        expected.verify_slice(mac).map_err(|_| TokenError::Mac)?;
        let (head, blocks) = signed.split_at_mut(HEAD_BYTES);
        let iv: &[u8; IV_BYTES] = head.last_chunk().ok_or(TokenError::NotToken)?;
        let cbc = cbc::Decryptor::inner_iv_init(self.cipher.clone(), iv.into());
        let plaintext = cbc.decrypt_padded_mut::<Pkcs7>(blocks);
        plaintext.map_err(|_| TokenError::Padding)
    }

    /// Whether this is the same key, told in constant time.
    pub fn same_as(&self, other: &Self) -> bool {
        let proof = other.mac.clone().finalize().into_bytes();
        self.mac.clone().verify_slice(&proof).is_ok()
    }
}

fn halves(bytes: [u8; 32]) -> [[u8; 16]; 2] {
    let mut both = [[0; 16]; 2];
    for (to, from) in both.as_flattened_mut().iter_mut().zip(bytes) {
        *to = from;
    }
    both
}

fn mac_block(key: [u8; 16]) -> [u8; 64] {
    let mut block = [0; 64];
    for (to, from) in block.iter_mut().zip(key) {
        *to = from;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(password: &str) -> Key {
        Key::derive(&Secret::new(password).unwrap())
    }

    #[test]
    fn the_published_token_is_reproduced_and_opened() {
        // vectors: kdf.json
        let token = "gAAAAAAAAAPoAAECAwQFBgcICQoLDA0OD6WNbRmLz_EncFm2b9aux7vPjUgRr8I9BUSQ9Z2fxU5s\
                     LrIt5qKh9zNTNQF_WYY7uw==";
        let iv = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let (mut raw, mut out) = (Vec::new(), Vec::new());
        let key = key("secret");
        key.encrypt(b"hello", 1000, iv, &mut raw, &mut out);
        assert_eq!(std::str::from_utf8(&out).unwrap(), token);
        assert_eq!(key.decrypt(token.as_bytes(), &mut raw).unwrap(), b"hello");
    }

    #[test]
    fn any_change_and_any_other_key_are_refused() {
        let (ours, other) = (Key::from_bytes([1; 32]), Key::from_bytes([2; 32]));
        let (mut raw, mut token) = (Vec::new(), Vec::new());
        ours.encrypt(&[5; 33], 7, [9; 16], &mut raw, &mut token);
        assert_eq!(other.decrypt(&token, &mut raw), Err(TokenError::Mac));
        for at in 0..token.len() {
            let mut damaged = token.clone();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            assert!(ours.decrypt(&damaged, &mut raw).is_err(), "{at}");
            assert!(ours.decrypt(&token[..at], &mut raw).is_err(), "{at}");
        }
        assert_eq!(ours.decrypt(&token, &mut raw).unwrap(), [5; 33]);
        assert_eq!(
            ours.decrypt(b"\x78\x5e", &mut raw),
            Err(TokenError::NotToken)
        );
        assert!(ours.same_as(&ours.clone()) && !ours.same_as(&other));
    }

    #[test]
    fn a_key_never_prints() {
        // S11
        assert_eq!(format!("{:?}", Key::from_bytes([1; 32])), "[key]");
    }
}
