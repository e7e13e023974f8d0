//! One conversation with a server, without I/O: its bytes go in, what to do
//! next comes out.
//!
//! Startup packet, first answer, goodbye; with a password, login and one query
//! in between. The server is not trusted: a length is looked at before anything
//! is done with it, and all that it can make us hold is bounded (S10).

use std::rc::Rc;

use bytes::{Buf as _, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;

use super::verdict;
use super::{Acceptance, AuthMethod, Login, ProbeAnswer, ServerError};
use crate::limits::{PG_MESSAGE_BYTES_MAX, PG_PROBE_BYTES_MAX};
use crate::secret::Secret;

/// As whom to ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The role of the startup packet.
    pub user: String,
    /// The database of the startup packet.
    pub database: String,
    /// With it the probe goes on behind the first answer.
    pub password: Option<Secret>,
    /// Whether a server that asks for MD5 gets it: one that is not who it seems to be
    /// can try guesses at what it is sent, and fast.
    pub md5: bool,
}

/// Fewest rounds of SCRAM's hash that are answered, PostgreSQL's own number: with
/// fewer a server makes the password cheap to guess.
const SCRAM_ROUNDS_MIN: u32 = 4096;

/// The rounds that a SCRAM challenge asks for (`r=...,s=...,i=4096`).
fn rounds(challenge: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(challenge).ok()?;
    let rounds = text.split(',').find_map(|part| part.strip_prefix("i="))?;
    rounds.parse().ok()
}

/// What is to be done.
pub enum ProbeStep {
    /// Read, and tell what came.
    Read,
    /// Send this, then ask again.
    Send(BytesMut),
    /// Run this, which takes thousands of hash rounds, on another thread, and
    /// bring back what it gives to [`Conversation::derived`].
    Derive(Derivation),
    /// Send this if it is not empty, hang up, and let the server do the same.
    Leave(BytesMut),
}

/// The proof of a SCRAM password, to be computed.
pub struct Derivation {
    scram: ScramSha256,
    challenge: Vec<u8>,
}

impl Derivation {
    /// Computes it. A challenge that asks for more rounds than the library's cap
    /// is refused by it.
    pub fn run(mut self) -> Derived {
        let result = self.scram.update(&self.challenge);
        Derived(result.is_ok().then_some(self.scram))
    }
}

/// A computed [`Derivation`].
pub struct Derived(Option<ScramSha256>);

/// Where a conversation is.
enum ConversationStage {
    /// Nothing has been said to us.
    Greeting,
    /// A password was sent, or the first message of SCRAM.
    Authenticating(Option<ScramSha256>),
    /// A challenge is being answered.
    Deriving,
    /// The proof was sent; the server has to give its own.
    Proving(ScramSha256),
    /// We are in; the session is being prepared.
    Settling,
    /// The query was sent. The row, once it is there.
    Querying(Option<bool>),
    /// All is said, and we are in or not.
    Leaving {
        /// Whether the server waits for a `Terminate`.
        inside: bool,
    },
}

/// What a conversation came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The first answer; none if it was over before one came.
    pub answer: Option<ProbeAnswer>,
    /// What came of logging in; none if that was not wanted or not reached.
    pub login: Option<Login>,
}

/// One conversation, from the startup packet on.
pub struct Conversation<'a> {
    identity: &'a Identity,
    stage: ConversationStage,
    received: BytesMut,
    total: usize,
    to_send: BytesMut,
    answer: Option<ProbeAnswer>,
    login: Option<Login>,
}

/// One row: it proves that queries are answered, and tells a standby.
const QUERY: &str = "SELECT 1, pg_catalog.pg_is_in_recovery()";

/// Bytes before the body of a message: its tag and its length.
const HEADER: usize = 5;

impl<'a> Conversation<'a> {
    /// Begins it; the startup packet is to be sent first.
    pub fn new(identity: &'a Identity) -> Self {
        let mut to_send = BytesMut::new();
        let parameters = [
            ("user", identity.user.as_str()),
            ("database", identity.database.as_str()),
            ("application_name", "pg-witness"),
        ];
        // It fails on zero bytes, which the configuration refuses.
        let _ = frontend::startup_message(parameters, &mut to_send);
        Self {
            identity,
            stage: ConversationStage::Greeting,
            received: BytesMut::new(),
            total: 0,
            to_send,
            answer: None,
            login: None,
        }
    }

    /// The first answer, if it came.
    pub fn answer(&self) -> Option<&ProbeAnswer> {
        self.answer.as_ref()
    }

    /// What it came to, whenever it is over.
    pub fn outcome(mut self) -> Outcome {
        let broken_off = !matches!(
            self.stage,
            ConversationStage::Greeting | ConversationStage::Leaving { .. }
        );
        if broken_off && self.identity.password.is_some() && self.login.is_none() {
            self.login = Some(Login::Failed("no answer in time".into()));
        }
        Outcome {
            answer: self.answer,
            login: self.login,
        }
    }

    /// Takes what was read.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        self.total = self.total.saturating_add(bytes.len());
        if self.total > PG_PROBE_BYTES_MAX {
            return self.give_up("it sends without end");
        }
        self.received.extend_from_slice(bytes);
    }

    /// The server hung up, or the connection broke.
    pub fn on_end(&mut self) {
        if let ConversationStage::Greeting = self.stage {
            // The old form of an error may end with the connection.
            match verdict::read_old(&self.received) {
                Some(error) => self.first(verdict::of_error(error)),
                // A proxy without a server, or a server that dies just now.
                None if self.total == 0 => self.first(ProbeAnswer::Silent { connected: true }),
                None => self.give_up("it hung up in the midst of its first message"),
            }
        } else {
            self.give_up("it hung up");
        }
    }

    /// Takes a computed proof.
    pub fn derived(&mut self, derived: Derived) {
        let Some(scram) = derived.0 else {
            return self.give_up("its SCRAM challenge cannot be answered");
        };
        if frontend::sasl_response(scram.message(), &mut self.to_send).is_err() {
            return self.give_up("its SCRAM challenge cannot be answered");
        }
        self.stage = ConversationStage::Proving(scram);
    }

    /// What is to be done now.
    pub fn step(&mut self) -> ProbeStep {
        loop {
            if !self.to_send.is_empty() {
                return ProbeStep::Send(self.to_send.split());
            }
            if let ConversationStage::Leaving { inside } = self.stage {
                let mut farewell = BytesMut::new();
                if inside {
                    frontend::terminate(&mut farewell);
                }
                return ProbeStep::Leave(farewell);
            }
            let message = match self.message() {
                Some(message) => message,
                None if matches!(self.stage, ConversationStage::Leaving { .. }) => continue,
                None => return ProbeStep::Read,
            };
            if let Some(derivation) = self.on_message(message) {
                return ProbeStep::Derive(derivation);
            }
        }
    }

    /// The next whole message that concerns us. None: there is none yet, or the
    /// conversation is over.
    fn message(&mut self) -> Option<Message> {
        loop {
            let greeting = matches!(self.stage, ConversationStage::Greeting);
            let tag = *self.received.first()?;
            if greeting && !b"RENv".contains(&tag) {
                // What it says is nobody's business: it may be any service.
                self.give_up("it speaks another protocol");
                return None;
            }
            let length = self.received.get(1..HEADER)?.try_into().ok()?;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            // The library would reserve whatever a server says.
            if !(4..=PG_MESSAGE_BYTES_MAX).contains(&length) {
                if greeting && verdict::may_be_old(&self.received) {
                    if self.received.contains(&0) {
                        self.on_end();
                    }
                } else {
                    self.give_up("a length of its message is no length");
                }
                return None;
            }
            if self.received.len() <= length {
                return None;
            }
            match tag {
                // A notice, a parameter, our key, the version of the protocol, a
                // row's description: of no concern.
                b'N' | b'S' | b'K' | b'v' | b'T' | b'C' | b'A' => {
                    self.received.advance(length.saturating_add(1));
                }
                b'R' if let Some(code) = self.unknown_request(length) => {
                    self.received.advance(length.saturating_add(1));
                    self.on_request(AuthMethod::Other(code));
                    return None;
                }
                _ => match Message::parse(&mut self.received) {
                    Ok(message) => return message,
                    Err(_) => {
                        self.give_up("it sends what no PostgreSQL server sends");
                        return None;
                    }
                },
            }
        }
    }

    /// The code of the whole authentication request at hand, of the `length` that
    /// it says itself to have, if the library does not know it.
    fn unknown_request(&self, length: usize) -> Option<i32> {
        let body = self.received.get(HEADER..length.saturating_add(1))?;
        let code = i32::from_be_bytes(*body.first_chunk()?);
        (!matches!(code, 0 | 2 | 3 | 5..=12)).then_some(code)
    }

    fn on_message(&mut self, message: Message) -> Option<Derivation> {
        match message {
            Message::ErrorResponse(body) => match verdict::read(body.fields()) {
                Some(error) => self.on_error(error),
                None => self.give_up("its error cannot be read"),
            },
            Message::AuthenticationOk => self.on_welcome(),
            Message::AuthenticationCleartextPassword => self.on_request(AuthMethod::Cleartext),
            Message::AuthenticationMd5Password(body) => {
                self.on_request(AuthMethod::Md5);
                self.answer_md5(body.salt());
            }
            Message::AuthenticationSasl(body) => {
                let mut mechanisms = body.mechanisms();
                let known = mechanisms.any(|name| Ok(name == SCRAM_SHA_256));
                if known.unwrap_or(false) {
                    self.on_request(AuthMethod::Scram);
                    self.begin_scram();
                } else {
                    self.on_request(AuthMethod::Other(10));
                }
            }
            Message::AuthenticationSaslContinue(body) => return self.on_challenge(body.data()),
            Message::AuthenticationSaslFinal(body) => self.on_proof(body.data()),
            Message::AuthenticationKerberosV5 => self.on_request(AuthMethod::Other(2)),
            Message::AuthenticationScmCredential => self.on_request(AuthMethod::Other(6)),
            Message::AuthenticationGss => self.on_request(AuthMethod::Other(7)),
            Message::AuthenticationGssContinue(_) => self.on_request(AuthMethod::Other(8)),
            Message::AuthenticationSspi => self.on_request(AuthMethod::Other(9)),
            Message::ReadyForQuery(_) => self.on_ready(),
            Message::DataRow(row) => self.on_row(&row),
            _ => self.give_up("it sends what was not asked for"),
        }
        None
    }

    /// Notes the first answer; what comes later does not replace it.
    fn first(&mut self, answer: ProbeAnswer) {
        self.answer.get_or_insert(answer);
        if let ConversationStage::Greeting = self.stage {
            self.stage = ConversationStage::Leaving { inside: false };
        }
    }

    fn on_error(&mut self, error: ServerError) {
        let answer = verdict::of_error(error.clone());
        if let ConversationStage::Greeting = self.stage {
            return self.first(answer);
        }
        // Connections that are reserved, or a shutdown, show only behind the
        // authentication: then it does not accept us after all.
        if !answer.is_accepting() {
            self.answer = Some(answer);
        }
        self.end_login(Login::Refused(error));
    }

    /// An authentication request that is not `Ok`: the answer that was asked
    /// for. What to do about a password is said afterwards.
    fn on_request(&mut self, method: AuthMethod) {
        let greeting = matches!(self.stage, ConversationStage::Greeting);
        if !greeting {
            return self.give_up("it asks for authentication again");
        }
        self.first(ProbeAnswer::Accepting(Acceptance::Authentication(method)));
        if self.identity.password.is_some() {
            let why = match method {
                AuthMethod::Md5 if !self.identity.md5 => {
                    "the password is asked for as MD5 and was not sent: store it as \
                     SCRAM-SHA-256, or set probe.md5"
                }
                AuthMethod::Md5 | AuthMethod::Scram => return,
                // Who listens on the way would have it.
                AuthMethod::Cleartext => "the password is asked for in clear text and was not sent",
                AuthMethod::Trust | AuthMethod::Other(_) => {
                    "its way of authentication is not known here"
                }
            };
            self.login = Some(Login::Failed(why.into()));
        }
    }

    fn answer_md5(&mut self, salt: [u8; 4]) {
        let (Some(password), true) = (&self.identity.password, self.is_asked()) else {
            return;
        };
        let hash = md5_hash(self.identity.user.as_bytes(), password.expose(), salt);
        let _ = frontend::password_message(hash.as_bytes(), &mut self.to_send);
        self.stage = ConversationStage::Authenticating(None);
    }

    fn begin_scram(&mut self) {
        let (Some(password), true) = (&self.identity.password, self.is_asked()) else {
            return;
        };
        let scram = ScramSha256::new(password.expose(), ChannelBinding::unsupported());
        let sent =
            frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut self.to_send);
        if sent.is_ok() {
            self.stage = ConversationStage::Authenticating(Some(scram));
        }
    }

    /// Whether the first request has just come, and may be answered.
    fn is_asked(&self) -> bool {
        matches!(self.stage, ConversationStage::Leaving { inside: false }) && self.login.is_none()
    }

    fn on_challenge(&mut self, challenge: &[u8]) -> Option<Derivation> {
        let asked = matches!(self.stage, ConversationStage::Authenticating(Some(_)));
        if asked && rounds(challenge).is_none_or(|rounds| rounds < SCRAM_ROUNDS_MIN) {
            self.give_up("its SCRAM challenge asks for fewer than 4096 rounds");
            return None;
        }
        match std::mem::replace(&mut self.stage, ConversationStage::Deriving) {
            ConversationStage::Authenticating(Some(scram)) => Some(Derivation {
                scram,
                challenge: challenge.to_vec(),
            }),
            stage => {
                self.stage = stage;
                self.give_up("it sends what was not asked for");
                None
            }
        }
    }

    fn on_proof(&mut self, proof: &[u8]) {
        let proven = match &mut self.stage {
            ConversationStage::Proving(scram) => scram.finish(proof).is_ok(),
            _ => false,
        };
        if proven {
            self.stage = ConversationStage::Authenticating(None);
        } else {
            self.give_up("it does not prove that it knows the password");
        }
    }

    fn on_welcome(&mut self) {
        match self.stage {
            ConversationStage::Greeting => {
                self.first(ProbeAnswer::Accepting(Acceptance::Authentication(
                    AuthMethod::Trust,
                )));
                self.stage = ConversationStage::Settling;
            }
            ConversationStage::Authenticating(None) => self.stage = ConversationStage::Settling,
            _ => self.give_up("it does not prove that it knows the password"),
        }
    }

    fn on_ready(&mut self) {
        match self.stage {
            ConversationStage::Settling if self.identity.password.is_some() => {
                let _ = frontend::query(QUERY, &mut self.to_send);
                self.stage = ConversationStage::Querying(None);
            }
            ConversationStage::Settling => self.stage = ConversationStage::Leaving { inside: true },
            ConversationStage::Querying(Some(in_recovery)) => {
                self.end_login(Login::Queried { in_recovery });
            }
            ConversationStage::Querying(None) => self.give_up("its query gave no row"),
            _ => self.give_up("it sends what was not asked for"),
        }
    }

    fn on_row(&mut self, row: &DataRowBody) {
        let values: Option<Vec<_>> = row
            .ranges()
            .map(|range| Ok(range.and_then(|range| row.buffer().get(range))))
            .collect()
            .ok();
        let in_recovery = match values.as_deref() {
            Some([Some(b"1"), Some(b"t")]) => true,
            Some([Some(b"1"), Some(b"f")]) => false,
            _ => return self.give_up("its row is not what was asked for"),
        };
        if let ConversationStage::Querying(found @ None) = &mut self.stage {
            *found = Some(in_recovery);
        } else {
            self.give_up("it sends what was not asked for");
        }
    }

    fn end_login(&mut self, login: Login) {
        if self.identity.password.is_some() {
            self.login.get_or_insert(login);
        }
        let inside = matches!(self.stage, ConversationStage::Querying(_));
        self.stage = ConversationStage::Leaving { inside };
    }

    /// What it does is none of PostgreSQL's: as a first answer that is the
    /// answer, later it ends the login.
    fn give_up(&mut self, why: &str) {
        let why: Rc<str> = why.into();
        match self.stage {
            ConversationStage::Greeting => self.first(ProbeAnswer::NotPostgres(why)),
            ConversationStage::Leaving { .. } => {}
            _ => self.end_login(Login::Failed(why)),
        }
        self.received.clear();
    }
}

#[cfg(test)]
mod tests;
