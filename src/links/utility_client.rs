//! Asks another node, Python or ours, one question of the utility protocol
//! (spec 3.8).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::resolve;
use crate::wire::seal::Key;
use crate::wire::session::{Role, Session};
use crate::wire::utility::Request;
use crate::wire::{Address, Value};

/// Sends the request and returns the reply, if one comes in time. Only send
/// what every Patroni node knows: `members`, `add`, `remove`, `status` (H2).
pub async fn ask(
    node: &Address,
    keys: &[Arc<Key>],
    request: Request,
    limit: Duration,
) -> Option<Value> {
    let exchange = async {
        let stream = resolve::connect(node).await.ok()?;
        let session = Session::new(Role::Dialler, keys, rand::random());
        let connection = Connection::new(stream, session);
        let reply = Rc::new(RefCell::new(None));
        let asked = std::cell::Cell::new(false);
        let send = || {
            if connection.is_up() && !asked.replace(true) {
                connection.send(&request);
            }
        };
        if keys.is_empty() {
            send();
        }
        connection
            .serve_with(&send, |value| {
                *reply.borrow_mut() = Some(value);
                connection.close();
                std::future::ready(())
            })
            .await;
        reply.take()
    };
    let limited = smol::future::or(exchange, async {
        smol::Timer::after(limit).await;
        None
    });
    limited.await
}
