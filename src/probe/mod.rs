//! Whether PostgreSQL accepts connections: asked with a startup packet, which a
//! server answers without a password.
//!
//! For every server that a cluster's replicated store names (Patroni's
//! `conn_url`): connect, send the startup packet, read the first answer, leave.
//! "Accepting connections" is what that proves, and all that is said of it.
//!
//! Without TLS: a pure-Rust one (rustls 0.23 with rustls-rustcrypto 0.0.2-alpha,
//! which nobody has audited) adds 818 KB to a program that has 2.34 MB, and its
//! limit is 2.5 MB. The first answer needs none. The login, which is asked for by
//! configuration alone, never sends a password as it is; who listens could try
//! guesses at what SCRAM and MD5 show, so the role should have no rights. A server
//! that takes `hostssl` only refuses the login, and that is what is shown.
//!
//! Here are the words in which the answers are told; a [`Prober`] keeps them.
//! Single-threaded; a borrow of a cell never spans an await.

use std::rc::Rc;
use std::time::Duration;

use crate::reactor::Instant;

pub mod ask;
pub mod conn_url;
pub mod conversation;
mod prober;
pub mod schedule;
mod verdict;

pub use prober::Prober;

/// One PostgreSQL server to be asked, as a cluster's store names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Patroni's scope; one store may hold several.
    pub scope: Rc<str>,
    /// Patroni's name of the member.
    pub member: Rc<str>,
    /// The member's `conn_url` as stored, not to be trusted.
    pub conn_url: Rc<str>,
}

/// What is known of one member's server.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberReport {
    /// Patroni's scope.
    pub scope: Rc<str>,
    /// Patroni's name of the member.
    pub member: Rc<str>,
    /// What was learned.
    pub report: Report,
}

/// What the probe of one server told.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// `host:port` (`[host]:port` for IPv6) of the host that answered, else of
    /// the first host of the `conn_url`; empty if that cannot be read. Never
    /// more of the URL than this.
    pub target: Rc<str>,
    /// When the last probe ended; none before the first.
    pub asked: Option<Instant>,
    /// From the beginning of the connection to the first answer, of the last
    /// probe that got one.
    pub latency: Option<Duration>,
    /// What the last probe got.
    pub answer: Option<ProbeAnswer>,
    /// What came after it, where a password is configured.
    pub login: Option<Login>,
    /// Probes in a row that did not find it accepting; 0 while it does.
    pub tries: u32,
    /// What follows from that.
    pub health: Health,
    /// Since when it has this health.
    pub since: Option<Instant>,
}

/// What the answers add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not asked yet, or the probe is switched off.
    Unknown,
    /// The last probe found it accepting connections.
    Healthy,
    /// The last probe did not, and it is being asked again.
    Suspect,
    /// As many probes in a row as `probe.tries` did not.
    Unhealthy,
}

impl Health {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Suspect => "suspect",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What a server said, or that it said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// It accepts connections.
    Accepting(Acceptance),
    /// It runs and has no connection left (53300).
    TooManyConnections(ServerError),
    /// 57P03: it starts.
    StartingUp(ServerError),
    /// 57P03: it is being stopped.
    ShuttingDown(ServerError),
    /// 57P03 of another text (in recovery after a crash, or without hot standby,
    /// not yet consistent, or in a language that we do not read), and any other
    /// error that does not show a running server.
    NotAccepting(ServerError),
    /// Nobody listens there.
    Refused,
    /// No way there: the name has no address, or the network says so. The text
    /// is ours or the system's.
    Unreachable(Rc<str>),
    /// The time was over before a whole answer came, or it hung up without a
    /// word.
    Silent {
        /// Whether the connection was made, so that something listens.
        connected: bool,
    },
    /// Something answers there that is no PostgreSQL server. The text says what
    /// it did.
    NotPostgres(Rc<str>),
    /// The `conn_url` names no server that can or may be asked; the text says why.
    NoTarget(Rc<str>),
}

/// How a server showed that it accepts connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// It asks for this authentication, or lets us in (`trust`).
    Authentication(AuthMethod),
    /// An error that only a running server gives, such as 28000 (no entry in
    /// `pg_hba.conf`), 28P01 or 3D000.
    Error(ServerError),
}

/// What an authentication request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// Nothing: `trust`, `peer`, a certificate.
    Trust,
    /// The password as it is.
    Cleartext,
    /// MD5 of the password.
    Md5,
    /// SCRAM-SHA-256.
    Scram,
    /// Another one (GSSAPI, SSPI ...), by its number in the protocol.
    Other(i32),
}

/// An error as the server sent it, bounded and without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// Field `V`, else `S`: `FATAL`, `ERROR` or `PANIC`.
    pub severity: Rc<str>,
    /// Field `C`: five characters.
    pub sqlstate: Rc<str>,
    /// Field `M`, in the server's language.
    pub message: Rc<str>,
    /// Field `D`, if there is one.
    pub detail: Option<Rc<str>>,
}

/// What came of logging in, where user and password are configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// `SELECT 1` was answered.
    Queried {
        /// `pg_is_in_recovery()`: a standby, or a server on its way up.
        in_recovery: bool,
    },
    /// The server refused, or an error came instead of rows.
    Refused(ServerError),
    /// It was not tried or broken off; the text says why.
    Failed(Rc<str>),
}

impl ProbeAnswer {
    /// Whether it proves that the server accepts connections.
    pub fn is_accepting(&self) -> bool {
        matches!(self, Self::Accepting(_))
    }

    /// In one hyphenated word, for JSON and for tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepting(_) => "accepting",
            Self::TooManyConnections(_) => "too-many-connections",
            Self::StartingUp(_) => "starting-up",
            Self::ShuttingDown(_) => "shutting-down",
            Self::NotAccepting(_) => "not-accepting",
            Self::Refused => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::Silent { .. } => "silent",
            Self::NotPostgres(_) => "not-postgresql",
            Self::NoTarget(_) => "no-target",
        }
    }

    /// The server's own error, where it sent one.
    pub fn error(&self) -> Option<&ServerError> {
        match self {
            Self::Accepting(Acceptance::Error(error))
            | Self::TooManyConnections(error)
            | Self::StartingUp(error)
            | Self::ShuttingDown(error)
            | Self::NotAccepting(error) => Some(error),
            _ => None,
        }
    }
}

impl Report {
    /// Before the first probe.
    pub fn unknown(target: Rc<str>) -> Self {
        Self {
            target,
            asked: None,
            latency: None,
            answer: None,
            login: None,
            tries: 0,
            health: Health::Unknown,
            since: None,
        }
    }
}
