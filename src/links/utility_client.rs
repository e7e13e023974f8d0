//! Asks another node, Python or ours, one question of the utility protocol
//! (spec 3.8).

use std::cell::RefCell;
use std::fmt;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{Closed, Connection};
use super::resolve;
use crate::address::Address;
use crate::bugs::{Bug, planted};
use crate::ids::{LogIndex, Term};
use crate::reactor::{self, TcpStream, Timer};
use crate::wire::message::{Append, AppendBody, Hello, Message};
use crate::wire::utility::{MembersReply, StatusReply, UtilityRequest};
use crate::wire::{Key, Session, Value};

/// Why there was no reply.
#[derive(Debug)]
pub enum NoReply {
    /// There is no connection to the node.
    Unreachable(std::io::Error),
    /// The connection ended first. A PySyncObj node hangs up, without a word, on
    /// what was encrypted with another password, and when it dies of a request.
    Ended(Closed),
    /// The time was over.
    Late,
    /// The reply is none to this question.
    Malformed,
    /// Another node answers at this address, or one that does not say who it is.
    AnotherNode(Option<Address>),
}

impl NoReply {
    /// Whether the node's host is up and nothing listens there.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Unreachable(error) if error.kind() == ErrorKind::ConnectionRefused)
    }
}

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "cannot be reached: {error}"),
            Self::Ended(Closed::Lost(_)) => f.write_str(
                "hung up without a reply: is the password right, and a Raft node there?",
            ),
            Self::Ended(closed) => write!(f, "was not understood: {closed}"),
            Self::Late => f.write_str("did not reply in time"),
            Self::Malformed => f.write_str("sent a reply to another question"),
            Self::AnotherNode(Some(other)) => write!(f, "is answered by {other}"),
            Self::AnotherNode(None) => f.write_str("is answered by a node without an address"),
        }
    }
}

impl std::error::Error for NoReply {}

/// Sends the request and returns the reply, if one comes in time. Only send
/// what every Patroni node knows: `members`, `add`, `remove`, `status` (H2).
pub async fn ask(
    node: &Address,
    keys: &[Arc<Key>],
    request: UtilityRequest,
    limit: Duration,
) -> Option<Value> {
    ask_or_why(node, keys, request, limit).await.ok()
}

/// Asks a member for its `status`. Only its own answer counts: at the address of
/// one member another may answer, for names and translated addresses can lead
/// anywhere, to the asker itself too.
///
/// # Errors
/// There was no reply, or not by `node`.
pub async fn ask_status(
    node: &Address,
    keys: &[Arc<Key>],
    limit: Duration,
) -> Result<StatusReply, NoReply> {
    let reply = ask_or_why(node, keys, UtilityRequest::Status, limit).await?;
    let reply = StatusReply::decode(&reply).map_err(|_| NoReply::Malformed)?;
    match &reply.this {
        Some(this) if this == node || planted(Bug::AnothersStatus) => Ok(reply),
        other => Err(NoReply::AnotherNode(other.clone())),
    }
}

/// Asks a member who the members are. Only its own answer counts, see
/// [`ask_status`].
///
/// # Errors
/// There was no reply, or not by `node`.
pub async fn ask_members(
    node: &Address,
    keys: &[Arc<Key>],
    limit: Duration,
) -> Result<MembersReply, NoReply> {
    let reply = ask_or_why(node, keys, UtilityRequest::Members, limit).await?;
    let reply = MembersReply::decode(&reply).map_err(|_| NoReply::Malformed)?;
    match reply.this() {
        Some(this) if this.address == *node || planted(Bug::AnothersStatus) => Ok(reply),
        other => Err(NoReply::AnotherNode(other.map(|m| m.address.clone()))),
    }
}

/// Where the log of the node that leads ends, and its term: what a new read-only
/// client is sent first shows it (spec 3.9). `status` does not, where the log was
/// compacted.
///
/// # Errors
/// The node cannot be reached, or does not lead.
pub async fn ask_log_end(
    node: &Address,
    keys: &[Arc<Key>],
    limit: Duration,
) -> Result<(Term, LogIndex), NoReply> {
    let attempts = each_key(keys, async |key| {
        let stream = resolve::connect(node).await.map_err(NoReply::Unreachable)?;
        let session = Session::dial(Hello::ReadOnly, key, reactor::draw());
        first(stream, session, |value| match Message::decode(&value) {
            Ok(Message::AppendEntries(append)) => end_of(&append),
            _ => None,
        })
        .await
    });
    limited(attempts, limit).await
}

/// The end of the log that an append of its leader shows, and the leader's term.
fn end_of(append: &Append) -> Option<(Term, LogIndex)> {
    let AppendBody::Entries { prev, entries } = &append.body else {
        return None;
    };
    let last = entries.last().map(|entry| entry.id.index);
    let end = last.or(prev.map(|prev| prev.index))?;
    Some((append.term, end))
}

/// As [`ask`], with the reason when there is no reply.
///
/// # Errors
/// With the last key that was tried there was none.
pub async fn ask_or_why(
    node: &Address,
    keys: &[Arc<Key>],
    request: UtilityRequest,
    limit: Duration,
) -> Result<Value, NoReply> {
    let attempts = each_key(keys, async |key| {
        let stream = resolve::connect(node).await.map_err(NoReply::Unreachable)?;
        let session = Session::dial(Hello::Utility(request.clone()), key, reactor::draw());
        first(stream, session, Some).await
    });
    limited(attempts, limit).await
}

/// While a password is being changed the node may have the old one.
async fn each_key<T>(
    keys: &[Arc<Key>],
    attempt: impl AsyncFn(Option<Arc<Key>>) -> Result<T, NoReply>,
) -> Result<T, NoReply> {
    let one_each = keys.iter().cloned().map(Some);
    let none = keys.is_empty().then_some(None);
    let mut last = NoReply::Late;
    for key in one_each.chain(none) {
        match attempt(key).await {
            Ok(reply) => return Ok(reply),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn limited<T>(
    attempts: impl Future<Output = Result<T, NoReply>>,
    limit: Duration,
) -> Result<T, NoReply> {
    let late = async {
        Timer::after(limit).await;
        Err(NoReply::Late)
    };
    smol::future::or(attempts, late).await
}

/// The first value on the connection that `wanted` takes; then it is closed.
async fn first<T>(
    stream: TcpStream,
    session: Session,
    wanted: impl Fn(Value) -> Option<T>,
) -> Result<T, NoReply> {
    let connection = Connection::new(stream, session);
    let found = Rc::new(RefCell::new(None));
    let closed = connection
        .serve(|value| {
            if let Some(value) = wanted(value) {
                *found.borrow_mut() = Some(value);
                connection.close();
            }
            std::future::ready(())
        })
        .await;
    found.take().ok_or(NoReply::Ended(closed))
}
