//! Asks another node, Python or ours, one question of the utility protocol
//! (spec 3.8).

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{Closed, Connection};
use super::resolve;
use crate::reactor::Timer;
use crate::wire::message::Hello;
use crate::wire::utility::Request;
use crate::wire::{Address, Key, Session, Value};

/// Why there was no reply.
#[derive(Debug)]
pub enum NoReply {
    /// There is no connection to the node.
    Unreachable(std::io::Error),
    /// The connection ended first. A PySyncObj node hangs up, without a word, on
    /// what was sealed with another password, and when it dies of a request.
    Ended(Closed),
    /// The time was over.
    Late,
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
        }
    }
}

impl std::error::Error for NoReply {}

/// Sends the request and returns the reply, if one comes in time. Only send
/// what every Patroni node knows: `members`, `add`, `remove`, `status` (H2).
pub async fn ask(
    node: &Address,
    keys: &[Arc<Key>],
    request: Request,
    limit: Duration,
) -> Option<Value> {
    ask_or_why(node, keys, request, limit).await.ok()
}

/// As [`ask`], with the reason when there is no reply.
///
/// # Errors
/// With the last key that was tried there was none.
pub async fn ask_or_why(
    node: &Address,
    keys: &[Arc<Key>],
    request: Request,
    limit: Duration,
) -> Result<Value, NoReply> {
    let attempts = async {
        // While a password is being changed the node may have the old one.
        let one_each = keys.iter().cloned().map(Some);
        let none = keys.is_empty().then_some(None);
        let mut last = NoReply::Late;
        for key in one_each.chain(none) {
            match exchange(node, key, request.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    let limited = smol::future::or(attempts, async {
        Timer::after(limit).await;
        Err(NoReply::Late)
    });
    limited.await
}

async fn exchange(
    node: &Address,
    key: Option<Arc<Key>>,
    request: Request,
) -> Result<Value, NoReply> {
    let stream = resolve::connect(node).await.map_err(NoReply::Unreachable)?;
    let session = Session::dial(Hello::Utility(request), key, rand::random());
    let connection = Connection::new(stream, session);
    let reply = Rc::new(RefCell::new(None));
    let closed = connection
        .serve(|value| {
            *reply.borrow_mut() = Some(value);
            connection.close();
            std::future::ready(())
        })
        .await;
    reply.take().ok_or(NoReply::Ended(closed))
}
