//! Asks another node, Python or ours, one question of the utility protocol
//! (spec 3.8).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::resolve;
use crate::reactor::Timer;
use crate::wire::message::Hello;
use crate::wire::utility::Request;
use crate::wire::{Address, Key, Session, Value};

/// Sends the request and returns the reply, if one comes in time. Only send
/// what every Patroni node knows: `members`, `add`, `remove`, `status` (H2).
pub async fn ask(
    node: &Address,
    keys: &[Arc<Key>],
    request: Request,
    limit: Duration,
) -> Option<Value> {
    let exchange = async {
        // While a password is being changed the node may have the old one.
        let one_each = keys.iter().cloned().map(Some);
        let none = keys.is_empty().then_some(None);
        for key in one_each.chain(none) {
            let reply = exchange(node, key, request.clone()).await;
            if reply.is_some() {
                return reply;
            }
        }
        None
    };
    let limited = smol::future::or(exchange, async {
        Timer::after(limit).await;
        None
    });
    limited.await
}

async fn exchange(node: &Address, key: Option<Arc<Key>>, request: Request) -> Option<Value> {
    let stream = resolve::connect(node).await.ok()?;
    let session = Session::dial(Hello::Utility(request), key, rand::random());
    let connection = Connection::new(stream, session);
    let reply = Rc::new(RefCell::new(None));
    connection
        .serve(|value| {
            *reply.borrow_mut() = Some(value);
            connection.close();
            std::future::ready(())
        })
        .await;
    reply.take()
}
