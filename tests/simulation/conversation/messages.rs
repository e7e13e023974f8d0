//! What peers and clients may say to a node, good and bad, as its state suggests.

use pg_witness::address::Address;
use pg_witness::ids::{Entry as WireEntry, EntryId, LogIndex, Term};
use pg_witness::wire::{Snapshot, Value, command, pickle};

use super::dice::Dice;
use crate::pysyncobj::{Entry, Node, State};

/// All addresses that there are.
pub fn universe() -> Vec<Address> {
    let address = |n| format!("10.0.0.{n}:5010").parse().unwrap();
    (1..=5).map(address).collect()
}

fn message<const N: usize>(kind: &str, fields: [(&str, Value); N]) -> Value {
    Value::dict([("type", Value::str(kind))].into_iter().chain(fields))
}

fn int(number: i64) -> Value {
    Value::Int(number)
}

const KEYS: [&str; 4] = ["leader", "members/a", "status", "sync"];

/// A command, mostly one that Patroni makes.
pub fn command(dice: &mut Dice, node: &Node, wall: f64) -> Vec<u8> {
    let key = format!("/service/demo/{}", dice.pick(&KEYS));
    let stored = node
        .data()
        .iter()
        .find(|(known, _)| known.as_str() == Some(&key));
    let stored = stored.map(|(_, value)| value.clone());
    let key = Value::str(&key);
    let regular = |call: Value| command::regular(&call).to_vec();
    let call = |function, args: Vec<Value>, kwargs: Vec<(&str, Value)>| {
        let mut parts = vec![int(function), Value::tuple(args)];
        if !kwargs.is_empty() {
            parts.push(Value::dict(kwargs));
        }
        regular(Value::tuple(parts))
    };
    let index = stored
        .as_ref()
        .and_then(|stored| stored.get("index"))
        .cloned();
    let index = index.filter(|_| !dice.one_in(3)).unwrap_or(Value::None);
    let conditions = match dice.below(7) {
        0 => vec![("prevExist", Value::Bool(dice.one_in(2)))],
        1 => vec![("prevValue", Value::str(dice.pick(&["a", "b"])))],
        2 => vec![("prevIndex", index)],
        3 if dice.one_in(4) => vec![("prevIndex", int(0))],
        _ => Vec::new(),
    };
    match dice.below(100) {
        0..=59 => {
            let created = stored.as_ref().and_then(|stored| stored.get("created"));
            let created = created.filter(|_| !dice.one_in(3)).cloned();
            let mut value = vec![
                ("value", Value::str(&text(dice))),
                ("updated", Value::Float(wall)),
                ("created", created.unwrap_or(Value::Float(wall))),
            ];
            if dice.one_in(2) {
                let ttl = dice.pick(&[0.0, 0.5, 3.0, 30.0]);
                value.push(("expire", Value::Float(wall + ttl)));
            }
            if dice.one_in(60) {
                value.truncate(2);
            }
            call(command::SET, vec![key, Value::dict(value)], conditions)
        }
        60..=69 if stored.is_some() => call(command::DELETE, vec![key], conditions),
        70..=73 => {
            let conditions = vec![("recursive", Value::Bool(true))];
            let prefix = dice.pick(&["/service/demo/", "/service/demo/m", "/none"]);
            call(command::DELETE, vec![Value::str(prefix)], conditions)
        }
        74..=79 => match stored {
            Some(stored) => call(command::EXPIRE, vec![key, stored], Vec::new()),
            None => vec![1],
        },
        80..=92 => {
            let address = dice.pick(&universe());
            command::membership(dice.one_in(2), &address).to_vec()
        }
        93 => {
            let mut command = vec![3];
            pickle::encode(&int(i64::from(dice.one_in(3))), &mut command);
            command
        }
        94 => vec![9, 9],
        // H1, H6
        95 if dice.one_in(3) => call(command::DELETE, vec![key], Vec::new()),
        96 if dice.one_in(3) => regular(int(7)),
        _ => vec![1],
    }
}

/// A value; now and then one that is large.
fn text(dice: &mut Dice) -> String {
    let length = match dice.below(12) {
        0 => dice.below(700),
        1 if dice.one_in(4) => 2000 + dice.below(4000),
        _ => return dice.pick(&["a", "b"]).to_owned(),
    };
    // Bytes of a command above 0x7f take two in Python's pickle (H4).
    let letter = |dice: &mut Dice| dice.pick(&['x', 'y', 'z', 'ä']);
    (0..length).map(|_| letter(dice)).collect()
}

/// What a peer may say once it is known.
pub fn from_peer(dice: &mut Dice, node: &Node, wall: f64, replies: &[i64]) -> Value {
    let (append, vote, voted, next, apply, applied, odd) = match node.state() {
        State::Follower => (60, 12, 2, 2, 6, 6, 2),
        State::Candidate => (10, 10, 50, 2, 4, 2, 2),
        State::Leader => (4, 4, 2, 60, 15, 1, 2),
    };
    let kinds = [
        (append, 0),
        (vote, 1),
        (voted, 2),
        (next, 3),
        (apply, 4),
        (applied, 5),
        (odd, 6),
        (1, 7),
    ];
    let term = node.term();
    let last = node.log().last().unwrap();
    match dice.weighted(&kinds) {
        0 => append_entries(dice, node, wall),
        1 => message(
            "request_vote",
            [
                ("term", int((term + dice.between(-1, 2)).max(0))),
                (
                    "last_log_index",
                    int((last.index + dice.between(-1, 2)).max(1)),
                ),
                (
                    "last_log_term",
                    int((last.term + dice.pick(&[0, 0, 0, 1, -1])).max(0)),
                ),
            ],
        ),
        2 => {
            let term = if dice.one_in(6) { term - 1 } else { term };
            message("response_vote", [("term", int(term.max(0)))])
        }
        3 => {
            let next = match dice.below(8) {
                0..=4 => last.index + 1,
                5 => dice.between(1, last.index + 3),
                6 => last.index,
                _ => dice.between(-1, 3),
            };
            let (reset, success) = dice.pick(&[
                (false, true),
                (false, true),
                (false, true),
                (true, false),
                (false, false),
                (true, true),
            ]);
            message(
                "next_node_idx",
                [
                    ("next_node_idx", int(next)),
                    ("reset", Value::Bool(reset)),
                    ("success", Value::Bool(success)),
                ],
            )
        }
        4 => {
            let command = Value::bytes(&command(dice, node, wall));
            if dice.one_in(4) {
                return message("apply_command", [("command", command)]);
            }
            let request = ("request_id", int(dice.between(1, 9)));
            message("apply_command", [("command", command), request])
        }
        5 => {
            let request = if replies.is_empty() {
                1
            } else {
                dice.pick(replies)
            };
            let request = ("request_id", int(request));
            if dice.one_in(3) {
                let error = int(dice.between(1, 6));
                return message("apply_command_response", [request, ("error", error)]);
            }
            let index = node.applied() + dice.pick(&[1, 1, 2, 3, 0]);
            message(
                "apply_command_response",
                [
                    request,
                    ("log_idx", int(index.max(1))),
                    ("log_term", int(term)),
                ],
            )
        }
        6 => {
            let term = int(term + dice.between(0, 1));
            dice.pick(&[
                message("timeout_now", [("term", term)]),
                message("keepalive", []),
                message("whatever", []),
            ])
        }
        // H2
        _ if dice.one_in(3) => dice.pick(&[
            Value::dict([("term", int(1))]),
            message("request_vote", [("last_log_index", int(1))]),
            message("next_node_idx", [("reset", Value::Bool(true))]),
        ]),
        _ => message("keepalive", []),
    }
}

fn append_term(dice: &mut Dice, node: &Node) -> i64 {
    (node.term() + dice.pick(&[0, 0, 0, 0, 0, 1, 1, -1, 3])).max(0)
}

fn append_entries(dice: &mut Dice, node: &Node, wall: f64) -> Value {
    let term = append_term(dice, node);
    let log = node.log();
    let (first, last) = (log[0].index, log[log.len() - 1].index);
    let prev = match dice.below(16) {
        0..=7 => last,
        8..=10 => dice.between(first, last),
        11 => last - 1,
        12 => first - 1,
        13 => last + dice.between(1, 3),
        _ => dice.between((last - 3).max(first), last),
    };
    let known = log.iter().find(|entry| entry.index == prev);
    let prev_term = match known.map(|entry| entry.term) {
        Some(known) if !dice.one_in(10) => known,
        Some(known) => (known + dice.pick(&[1, -1])).max(0),
        None => term,
    };
    let count = dice.pick(&[0, 0, 1, 1, 2, 4]);
    let entries: Vec<Entry> = (prev + 1..=prev + count)
        .map(
            |index| match log.iter().find(|entry| entry.index == index) {
                Some(known) if !dice.one_in(3) => known.clone(),
                _ => Entry {
                    command: command(dice, node, wall).into(),
                    index,
                    term: if dice.one_in(5) {
                        (term - 1).max(0)
                    } else {
                        term
                    },
                },
            },
        )
        .filter(|entry| entry.index > 0)
        .collect();
    let commit = match dice.below(8) {
        0 => 0,
        1 => node.commit() - 1,
        2 => prev + count + 3,
        3 => node.commit(),
        _ => prev + count,
    };
    let (prev, prev_term) = if dice.one_in(25) {
        (Value::None, Value::None)
    } else {
        (int(prev), int(prev_term))
    };
    let entries = entries.iter().map(entry_value);
    message(
        "append_entries",
        [
            ("term", int(term)),
            ("commit_index", int(commit.max(0))),
            ("prevLogIdx", prev),
            ("prevLogTerm", prev_term),
            ("entries", Value::list(entries)),
        ],
    )
}

fn entry_value(entry: &Entry) -> Value {
    let command = Value::Bytes(entry.command.clone());
    Value::tuple([command, int(entry.index), int(entry.term)])
}

/// A large entry in parts, right or wrong.
pub fn fragments(dice: &mut Dice, node: &Node, wall: f64) -> Vec<Value> {
    let term = append_term(dice, node);
    let last = node.log().last().unwrap();
    let entry = Entry {
        command: command(dice, node, wall).into(),
        index: last.index + 1,
        term,
    };
    let mut pickled = Vec::new();
    pickle::encode(&entry_value(&entry), &mut pickled);
    let parts = 1 + dice.below(4);
    let size = pickled.len().div_ceil(parts);
    let count = pickled.chunks(size).count();
    let mut messages = Vec::new();
    for (place, data) in pickled.chunks(size).enumerate() {
        let word = match place {
            0 if count > 1 => "start",
            _ if place + 1 == count || dice.one_in(12) => "finish",
            _ => "process",
        };
        messages.push(message(
            "append_entries",
            [
                ("term", int(term)),
                ("commit_index", int(node.commit())),
                ("prevLogIdx", int(last.index)),
                ("prevLogTerm", int(last.term)),
                ("transmission", Value::str(word)),
                ("data", Value::bytes(data)),
            ],
        ));
    }
    messages
}

/// A snapshot in parts, newer or older than the log, whole or broken.
pub fn snapshot(dice: &mut Dice, node: &Node, wall: f64) -> Vec<Value> {
    let term = append_term(dice, node);
    let log = node.log();
    let at = node.commit() + dice.between(-3, 6);
    let index = at.max(2);
    let entry = |index: i64| {
        let known = log.iter().find(|entry| entry.index == index);
        WireEntry {
            id: EntryId {
                index: LogIndex::new(u64::try_from(index).unwrap()).unwrap(),
                term: Term::new(known.map_or(1, |entry| entry.term.unsigned_abs())).unwrap(),
            },
            command: known.map_or([1].into(), |entry| entry.command.clone()),
        }
    };
    let mut members = universe();
    members.retain(|member| member == node.address() || !dice.one_in(3));
    let stored = |n: usize| {
        Value::dict([
            ("value", Value::str(&"v".repeat(n))),
            ("updated", Value::Float(wall)),
            ("created", Value::Float(wall)),
            ("index", int(1)),
            ("expire", Value::Float(wall + 3.0)),
        ])
    };
    let data = KEYS[..dice.below(KEYS.len())].iter();
    let data = data.map(|key| {
        (
            Value::str(&format!("/service/demo/{key}")),
            stored(dice.below(300)),
        )
    });
    let snapshot = Snapshot {
        data: data.collect(),
        last: entry(index),
        prev: entry(index - 1),
        members,
    };
    let mut bytes = snapshot.encode();
    if dice.one_in(10) {
        bytes.truncate(bytes.len() / 2);
    }
    let size = bytes.len().div_ceil(1 + dice.below(3)).max(1);
    let commit = dice.pick(&[0, node.commit(), node.commit() + 4, index]);
    let part = |serialized: Value| {
        message(
            "append_entries",
            [
                ("term", int(term)),
                ("commit_index", int(commit)),
                ("serialized", serialized),
            ],
        )
    };
    let chunk = |data: &[u8], first, last| {
        part(Value::tuple([
            Value::bytes(data),
            Value::Bool(first),
            Value::Bool(last),
        ]))
    };
    let chunks = bytes.chunks(size).enumerate();
    let mut messages: Vec<_> = chunks
        .map(|(place, data)| chunk(data, place == 0, false))
        .collect();
    messages.push(chunk(b"", false, true));
    if dice.one_in(6) {
        messages.remove(0);
    }
    if dice.one_in(6) {
        messages.insert(0, part(Value::None));
    }
    messages
}

/// A utility request.
pub fn utility(dice: &mut Dice) -> Value {
    let address = Value::str(dice.pick(&universe()).as_str());
    let request = |word: &str, argument: Option<Value>| {
        Value::list([Value::str(word)].into_iter().chain(argument))
    };
    match dice.below(24) {
        0..=3 => request("status", None),
        4..=6 => request("members", None),
        7..=11 => request("add", Some(address)),
        12..=15 => request("remove", Some(address)),
        16 => request("add", Some(Value::None)),
        17 => request("add", Some(Value::str("bogus"))),
        18 => request("set_version", Some(int(dice.between(-1, 1)))),
        19 => request("add", None),
        20 => request("transfer", Some(Value::str(""))),
        21 => request("transfer", Some(address)),
        22 if dice.one_in(4) => request("unknown", None),
        _ => request("status", None),
    }
}
