//! One connection's handshake and codec, without its socket: bytes in, values
//! out, and the other way round (spec 1.3, 1.4, 2).
//!
//! The hello leaves first, by construction: a peer dies of anything else (H2).
//! The two random keys of an encrypted connection are checked on every message,
//! so a recorded one does not pass on another connection.

use std::fmt;
use std::sync::Arc;

use super::fernet::{Key, TokenError};
use super::frame::{self, FrameBuffer, FrameError, Inflater};
use super::message::Hello;
use super::pickle::{self, Decoder, Encode, PickleError, PickleWriter};
use super::value::Value;
use crate::limits::{
    FRAME_BYTES_MAX, HELLO_BYTES_MAX, HELLO_VALUES_MAX, KEPT_BUFFER_BYTES_MAX, PASSWORDS_MAX,
    PICKLE_VALUES_MAX, READ_ONLY_BYTES_MAX, READ_ONLY_VALUES_MAX,
};
use crate::reactor;

/// Buffers and states that all connections of a thread share, so that a
/// connection itself costs some hundred bytes.
#[derive(Default)]
pub struct Codec {
    decoder: Decoder,
    inflater: Inflater,
    /// The pickle of a message that comes or goes.
    pickle: Vec<u8>,
    /// Its zlib stream, before it is encrypted.
    zlib: Vec<u8>,
    /// Its token, before base64.
    raw: Vec<u8>,
}

impl Codec {
    /// An unused codec.
    pub fn new() -> Self {
        Self::default()
    }

    fn tidy(&mut self) {
        for buffer in [&mut self.pickle, &mut self.zlib, &mut self.raw] {
            buffer.clear();
            buffer.shrink_to(KEPT_BUFFER_BYTES_MAX);
        }
    }
}

/// Why a connection must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionError {
    /// A frame that cannot be.
    Frame(FrameError),
    /// A frame that does not open with the cluster's password.
    Token(TokenError),
    /// The peer encrypts, but this cluster has no password.
    Encrypted,
    /// A message that does not decode.
    Pickle(PickleError),
    /// A handshake that is not one, or a message of another connection.
    Handshake,
    /// The handshake is not over: nothing can be sent yet.
    NotUp,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Token(error) => error.fmt(f),
            Self::Encrypted => {
                f.write_str("message is encrypted, but this cluster has no password")
            }
            Self::Pickle(error) => error.fmt(f),
            Self::Handshake => f.write_str("peer does not keep to the handshake"),
            Self::NotUp => f.write_str("handshake is not over"),
        }
    }
}

impl std::error::Error for SessionError {}

impl From<FrameError> for SessionError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

/// How far the handshake is.
enum Phase {
    /// Dialler: the hello, to be sent at [`Session::start`] or, encrypted, once
    /// the peer's random key is known.
    Dialling(Hello),
    /// Acceptor, encrypted: nothing has come yet.
    AwaitKey,
    /// Acceptor: messages can come, the first of them is the hello.
    AwaitHello,
    /// Messages flow.
    Up,
}

/// What one message may come to, by who sends it (S16).
#[derive(Debug, Clone, Copy)]
struct Caps {
    /// Of a frame's body, and of what it inflates to.
    bytes: usize,
    /// In its pickle.
    values: usize,
}

impl Caps {
    /// Who has not said who it is.
    const PENDING: Self = Self {
        bytes: HELLO_BYTES_MAX,
        values: HELLO_VALUES_MAX,
    };
    const READ_ONLY: Self = Self {
        bytes: READ_ONLY_BYTES_MAX,
        values: READ_ONLY_VALUES_MAX,
    };
    /// Members, and whom we dialled.
    const MEMBER: Self = Self {
        bytes: FRAME_BYTES_MAX,
        values: PICKLE_VALUES_MAX,
    };
}

/// The keys of a cluster's passwords, the present one first.
pub type Keys = heapless::Vec<Arc<Key>, PASSWORDS_MAX>;

/// Keys of an encrypted connection.
struct Encryption {
    /// Those of the password; the first is in use, the others may replace it
    /// when the first frame comes (acceptor, while a password is changed).
    keys: Keys,
    /// Our random key: what every message to us begins with.
    ours: [u8; 32],
    /// The peer's random key: what every message to it begins with.
    theirs: Option<Arc<[u8]>>,
    /// The greatest timestamp sent: peers from 0.3.12 on refuse a lower one.
    stamp_s: u64,
}

/// One connection.
pub struct Session {
    phase: Phase,
    encryption: Option<Encryption>,
    caps: Caps,
    input: FrameBuffer,
}

impl Session {
    /// A connection that we dial, and what we say first. `random_key` must be
    /// fresh for each connection; it is not used without a password.
    pub fn dial(hello: Hello, key: Option<Arc<Key>>, random_key: [u8; 32]) -> Self {
        let keys = key.into_iter().collect();
        Self::new(Phase::Dialling(hello), keys, random_key)
    }

    /// A connection that was made to us. Without keys it is not encrypted; of
    /// several, the first frame tells which one the peer has.
    pub fn accept(keys: &[Arc<Key>], random_key: [u8; 32]) -> Self {
        let phase = if keys.is_empty() {
            Phase::AwaitHello
        } else {
            Phase::AwaitKey
        };
        Self::new(
            phase,
            keys.iter().take(PASSWORDS_MAX).cloned().collect(),
            random_key,
        )
    }

    fn new(phase: Phase, keys: Keys, ours: [u8; 32]) -> Self {
        let encryption = (!keys.is_empty()).then_some(Encryption {
            keys,
            ours,
            theirs: None,
            stamp_s: 0,
        });
        Self {
            phase,
            encryption,
            caps: Caps::PENDING,
            input: FrameBuffer::default(),
        }
    }

    /// Writes what a dialler sends as soon as it is connected; an acceptor
    /// waits. `now_s`: any clock that does not go back.
    ///
    /// # Errors
    /// When the hello exceeds a frame, which no address can.
    pub fn start(
        &mut self,
        codec: &mut Codec,
        now_s: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        match (&self.phase, &self.encryption) {
            (Phase::Dialling(_), None) => self.say_hello(codec, now_s, out),
            (Phase::Dialling(_), Some(encryption)) => {
                let ours = encryption.ours;
                self.write(codec, &Raw(&ours), now_s, out)
            }
            _ => Ok(()),
        }
    }

    /// Whether it is ours to say hello.
    pub fn is_dialler(&self) -> bool {
        matches!(self.phase, Phase::Dialling(_))
    }

    /// Whether messages may be sent: for a dialler once its hello is out, for
    /// an acceptor once the peer's is in.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up)
    }

    /// Bytes of memory that what was fed occupies.
    pub fn buffered(&self) -> usize {
        self.input.capacity()
    }

    /// Whether a message has begun to arrive and is not whole yet.
    pub fn is_amid_message(&self) -> bool {
        !self.input.is_empty()
    }

    /// Takes in bytes as they came from the socket. Call [`next`](Self::next)
    /// until it has no more before feeding again.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.feed(bytes);
    }

    /// The next message: for an acceptor the first one is the hello. The
    /// handshake's replies are written to `out`.
    ///
    /// # Errors
    /// What makes the connection useless: close it.
    pub fn next(
        &mut self,
        codec: &mut Codec,
        now_s: u64,
        out: &mut Vec<u8>,
    ) -> Result<Option<Value>, SessionError> {
        while let Some(value) = self.receive(codec)? {
            match (&mut self.phase, &mut self.encryption) {
                (Phase::AwaitKey, Some(encryption)) => {
                    encryption.theirs = Some(random_key(&value)?);
                    let ours = encryption.ours;
                    self.write(codec, &Raw(&ours), now_s, out)?;
                    self.phase = Phase::AwaitHello;
                }
                (Phase::Dialling(_), Some(encryption)) => {
                    let payload = unwrap(&encryption.ours, &value)?;
                    encryption.theirs = Some(random_key(&payload)?);
                    self.say_hello(codec, now_s, out)?;
                }
                // A plain dialler is up from the start.
                (Phase::Dialling(_) | Phase::AwaitKey, _) => return Err(SessionError::Handshake),
                // A candidate of PySyncObj asks for votes on a connection whose keys it
                // has not exchanged yet. Hung up on, it would dial again five seconds
                // later. Without our key the request cannot count; the hello follows.
                (Phase::AwaitHello, Some(_)) if matches!(value, Value::Dict(_)) => {}
                (Phase::AwaitHello | Phase::Up, encryption) => {
                    let value = match encryption {
                        Some(encryption) => unwrap(&encryption.ours, &value)?,
                        None => value,
                    };
                    if let Phase::AwaitHello = self.phase {
                        self.judge_first(&value);
                    }
                    return Ok(Some(value));
                }
            }
        }
        Ok(None)
    }

    /// Writes a message.
    ///
    /// # Errors
    /// Before the handshake is over, and for a message beyond a frame.
    pub fn send<T: Encode + ?Sized>(
        &mut self,
        codec: &mut Codec,
        message: &T,
        now_s: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        // A utility request is answered on a connection that never gets up.
        if !matches!(self.phase, Phase::Up | Phase::AwaitHello) {
            return Err(SessionError::NotUp);
        }
        self.write(codec, message, now_s, out)
    }

    /// A text is a hello, after which messages of its sender's size are in order;
    /// a utility request may be followed by more of its kind.
    fn judge_first(&mut self, value: &Value) {
        if let Value::Str(_) = value {
            self.phase = Phase::Up;
        }
        match Hello::decode(value) {
            Ok(Hello::Member(_)) => self.caps = Caps::MEMBER,
            Ok(Hello::ReadOnly) => self.caps = Caps::READ_ONLY,
            Ok(Hello::Utility(_)) | Err(_) => {}
        }
    }

    fn say_hello(
        &mut self,
        codec: &mut Codec,
        now_s: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        let Phase::Dialling(hello) = std::mem::replace(&mut self.phase, Phase::Up) else {
            return Err(SessionError::Handshake);
        };
        self.caps = Caps::MEMBER;
        self.write(codec, &hello, now_s, out)
    }

    /// The next frame's value.
    fn receive(&mut self, codec: &mut Codec) -> Result<Option<Value>, SessionError> {
        let Some(body) = self.input.next(self.caps.bytes)? else {
            return Ok(None);
        };
        let value = decode_body(codec, self.encryption.as_mut(), body, self.caps);
        codec.tidy();
        value.map(Some)
    }

    fn write<T: Encode + ?Sized>(
        &mut self,
        codec: &mut Codec,
        message: &T,
        now_s: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        let Codec {
            pickle, zlib, raw, ..
        } = codec;
        let theirs = self.encryption.as_ref().and_then(|s| s.theirs.as_deref());
        match theirs {
            Some(key) => pickle::encode(&Wrapped { key, message }, pickle),
            None => pickle::encode(message, pickle),
        }
        let written = frame::write_frame(out, FRAME_BYTES_MAX, |out| {
            match &mut self.encryption {
                Some(encryption) => {
                    encryption.stamp_s = encryption.stamp_s.max(now_s);
                    frame::store(pickle, zlib);
                    encryption.encrypt(zlib, raw, out);
                }
                None => frame::store(pickle, out),
            }
            Ok(())
        });
        codec.tidy();
        written
    }
}

/// The value of a frame's body.
fn decode_body(
    codec: &mut Codec,
    encryption: Option<&mut Encryption>,
    body: &[u8],
    caps: Caps,
) -> Result<Value, SessionError> {
    let zlib = match encryption {
        Some(encryption) => encryption
            .decrypt(body, &mut codec.raw)
            .map_err(SessionError::Token)?,
        // The base64 of a token begins with its version.
        None if body.starts_with(b"gAAAA") => return Err(SessionError::Encrypted),
        None => body,
    };
    let pickled = &mut codec.pickle;
    codec.inflater.inflate(zlib, caps.bytes, pickled)?;
    let value = codec.decoder.decode_within(
        pickled,
        pickle::PickleCaps::MESSAGE.with_values(caps.values),
    );
    value.map_err(SessionError::Pickle)
}

impl Encryption {
    /// The plaintext of a token. The first one that opens settles the key.
    fn decrypt<'a>(&mut self, token: &[u8], raw: &'a mut Vec<u8>) -> Result<&'a [u8], TokenError> {
        // `theirs` is known from the first frame on.
        if self.theirs.is_none() && self.keys.len() > 1 {
            let fits = |key: &Arc<Key>| key.decrypt(token, raw).is_ok();
            if let Some(at) = self.keys.iter().position(fits) {
                self.keys.swap(0, at);
                self.keys.truncate(1);
            }
        }
        let key = self.keys.first().ok_or(TokenError::NotToken)?;
        key.decrypt(token, raw)
    }

    fn encrypt(&self, plaintext: &[u8], raw: &mut Vec<u8>, out: &mut Vec<u8>) {
        if let Some(key) = self.keys.first() {
            key.encrypt(plaintext, self.stamp_s, reactor::draw(), raw, out);
        }
    }
}

/// A message with the peer's random key in front: `(key, message)`.
struct Wrapped<'a, T: ?Sized> {
    key: &'a [u8],
    message: &'a T,
}

impl<T: Encode + ?Sized> Encode for Wrapped<'_, T> {
    fn encode(&self, writer: &mut PickleWriter<'_>) {
        writer.bytes(self.key);
        self.message.encode(writer);
        writer.pair();
    }
}

/// A `bytes`.
struct Raw<'a>(&'a [u8]);

impl Encode for Raw<'_> {
    fn encode(&self, writer: &mut PickleWriter<'_>) {
        writer.bytes(self.0);
    }
}

/// The peer's random key. Python's has 32 bytes; what we echo in every message
/// is kept short.
fn random_key(value: &Value) -> Result<Arc<[u8]>, SessionError> {
    let key = value.as_bytes().filter(|key| (1..=64).contains(&key.len()));
    key.cloned().ok_or(SessionError::Handshake)
}

/// The message of a `(key, message)` that carries our random key.
fn unwrap(ours: &[u8; 32], value: &Value) -> Result<Value, SessionError> {
    match value.as_seq() {
        Some([Value::Bytes(key), message]) if **key == ours[..] => Ok(message.clone()),
        _ => Err(SessionError::Handshake),
    }
}

#[cfg(test)]
mod tests;
