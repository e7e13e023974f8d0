//! A client that is faster than what it measures: it follows the leader as
//! `patronictl` does, keeps a number of `set()` under way and counts those that
//! it has seen committed.
//!
//! `native_client ADDRESS CLIENTS SECONDS`, the password in `RAFT_PASSWORD`. Prints one
//! line of JSON: writes per second, and their latency's median in milliseconds.
//! `tests/bench/run` runs it against three witnesses of each kind.

// A benchmark fails by panicking.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pg_witness::address::Address;
use pg_witness::ids::LogIndex;
use pg_witness::links::connection::Connection;
use pg_witness::links::resolve;
use pg_witness::reactor::{self, Timer};
use pg_witness::secret::Secret;
use pg_witness::wire::message::{Append, AppendBody, ApplyOutcome, Hello, Message, NextNodeIdx};
use pg_witness::wire::value::Str;
use pg_witness::wire::{Key, Session, Value, command};

fn main() {
    let mut args = std::env::args().skip(1);
    let leader = args.next().unwrap().parse().unwrap();
    let clients = args.next().unwrap().parse().unwrap();
    let time = Duration::from_secs_f64(args.next().unwrap().parse().unwrap());
    reactor::block_on(measure(leader, clients, time));
}

/// What is under way, and how long what is done has taken.
#[derive(Default)]
struct Writes {
    sent: BTreeMap<i64, Instant>,
    appended: BTreeMap<LogIndex, Instant>,
    next: i64,
    took: Vec<Duration>,
}

impl Writes {
    fn send(&mut self, connection: &Connection) {
        let key = Str::from(format!("/bench/{}", self.next % 100).as_str());
        let value = Value::dict([
            ("value", Value::str(&"x".repeat(100))),
            ("updated", Value::Float(1.0)),
            ("created", Value::Float(1.0)),
        ]);
        let command = command::set(&key, &value, &[]);
        connection.send(&Message::ApplyCommand {
            command,
            request_id: Some(self.next),
        });
        self.sent.insert(self.next, Instant::now());
        self.next += 1;
    }

    /// Notes what is committed, and puts as much under way again.
    fn committed(&mut self, commit: LogIndex, connection: &Connection) {
        let rest = self.appended.split_off(&commit.next());
        for (_, sent) in std::mem::replace(&mut self.appended, rest) {
            self.took.push(sent.elapsed());
            self.send(connection);
        }
    }
}

async fn measure(leader: Address, clients: usize, time: Duration) {
    let stream = resolve::connect(&leader).await.unwrap();
    let password = std::env::var("RAFT_PASSWORD").ok();
    let key = password.map(|password| Arc::new(Key::derive(&Secret::verbatim(&password))));
    let connection = Connection::new(stream, Session::dial(Hello::ReadOnly, key, rand::random()));
    let writes = Rc::new(RefCell::new(Writes::default()));
    let started = RefCell::new(None::<Instant>);
    let serve = connection.serve(|value| {
        let message = Message::decode(&value).unwrap();
        let mut writes = writes.borrow_mut();
        match message {
            Message::AppendEntries(Append { commit, body, .. }) => {
                // It is told whatever keeps it sending: its log is not ours to keep.
                let next = match body {
                    AppendBody::Entries { prev, entries } => entries
                        .last()
                        .map(|entry| entry.id.index)
                        .or(prev.map(|prev| prev.index))
                        .unwrap_or(commit)
                        .next(),
                    _ => commit.next(),
                };
                connection.send(&Message::NextNodeIdx(NextNodeIdx {
                    next: next.get().cast_signed(),
                    reset: false,
                    success: true,
                }));
                if started.borrow().is_none() {
                    *started.borrow_mut() = Some(Instant::now());
                    for _ in 0..clients {
                        writes.send(&connection);
                    }
                }
                writes.committed(commit, &connection);
            }
            Message::ApplyCommandResponse {
                request_id,
                outcome: ApplyOutcome::Appended(id),
            } => {
                if let Some(sent) = writes.sent.remove(&request_id) {
                    writes.appended.insert(id.index, sent);
                }
            }
            Message::ApplyCommandResponse { outcome, .. } => {
                panic!("the leader refuses a write: {outcome:?}");
            }
            _ => {}
        }
        std::future::ready(())
    });
    smol::future::or(
        async {
            panic!("the leader closed the connection: {}", serve.await);
        },
        async {
            Timer::after(time).await;
        },
    )
    .await;
    let measured = started.borrow().expect("no append came").elapsed();
    let mut took = std::mem::take(&mut writes.borrow_mut().took);
    took.sort();
    println!(
        "{{\"writes\": {}, \"rate\": {:.1}, \"p50_ms\": {:.3}}}",
        took.len(),
        took.len() as f64 / measured.as_secs_f64(),
        took[took.len() / 2].as_secs_f64() * 1e3
    );
}
