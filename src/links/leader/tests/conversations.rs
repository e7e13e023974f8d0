//! The model of Python's follower against real ones: the appends of captured
//! conversations are fed to it, and what the real followers answered must be
//! what it answers.
//!
//! The captures leave out repetitions of equal heartbeats and answers, so an
//! answer may belong to a message a few places behind the last one.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::Entry;
use super::follower::{Follower, Message, Snapshot, Version};
use crate::wire::message::NextNodeIdx;

/// As much of JSON as the captures have.
#[derive(Debug, Clone, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    fn parse(text: &str) -> Self {
        let mut rest = text.trim();
        let value = Self::value(&mut rest);
        assert!(rest.is_empty(), "{rest}");
        value
    }

    fn value(rest: &mut &str) -> Self {
        *rest = rest.trim_start();
        match rest.as_bytes()[0] {
            b'{' => Self::Object(
                Self::items(rest, '}', |rest| {
                    let Self::Text(key) = Self::value(rest) else {
                        panic!("{rest}")
                    };
                    *rest = rest.trim_start().strip_prefix(':').unwrap();
                    (key, Self::value(rest))
                })
                .into_iter()
                .collect(),
            ),
            b'[' => Self::List(Self::items(rest, ']', Self::value)),
            b'"' => Self::text(rest),
            _ => {
                let end = rest.find([',', '}', ']']).unwrap_or(rest.len());
                let (word, tail) = rest.split_at(end);
                *rest = tail;
                match word.trim() {
                    "null" => Self::Null,
                    "true" => Self::Bool(true),
                    "false" => Self::Bool(false),
                    number => Self::Number(number.to_owned()),
                }
            }
        }
    }

    fn items<T>(rest: &mut &str, end: char, item: impl Fn(&mut &str) -> T) -> Vec<T> {
        *rest = rest[1..].trim_start();
        let mut items = Vec::new();
        while !rest.starts_with(end) {
            items.push(item(rest));
            *rest = rest.trim_start().trim_start_matches(',').trim_start();
        }
        *rest = &rest[1..];
        items
    }

    fn text(rest: &mut &str) -> Self {
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        loop {
            match chars.next().unwrap() {
                (at, '"') => {
                    *rest = &rest[at + 1..];
                    return Self::Text(text);
                }
                // What is escaped does not matter here, only where it ends.
                (_, '\\') => text.push(chars.next().unwrap().1),
                (_, other) => text.push(other),
            }
        }
    }

    fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(object) = self else {
            return None;
        };
        object.get(key)
    }

    fn number(&self, key: &str) -> u64 {
        let Some(Self::Number(number)) = self.get(key) else {
            panic!("no {key} in {self:?}")
        };
        number.parse().unwrap()
    }

    fn str(&self, key: &str) -> &str {
        let Some(Self::Text(text)) = self.get(key) else {
            panic!("no {key} in {self:?}")
        };
        text
    }

    fn tuple(&self) -> &[Self] {
        let Some(Self::List(items)) = self.get("$tuple") else {
            panic!("no tuple: {self:?}")
        };
        items
    }
}

/// One end of a connection, by the address of its side.
type End = (String, String);

#[derive(Default)]
struct Replay {
    version: Option<Version>,
    /// Its answers to entries look like earlier ones, and may be left out.
    of_0311: bool,
    nodes: BTreeMap<String, Follower>,
    /// Who sends from this end.
    senders: BTreeMap<End, String>,
    /// Messages sent from this end that are not taken yet, and the last taken.
    ways: BTreeMap<End, (VecDeque<Message>, Option<Message>)>,
    answers: usize,
    resets: usize,
    snapshots: usize,
}

impl Replay {
    /// Feeds the capture to models of this version; an error tells the first
    /// answer that none of them gives.
    fn of(capture: &str, version: Version) -> Result<Self, String> {
        let mut lines = capture.lines().map(Json::parse);
        let meta = lines.next().unwrap();
        let of_0311 = meta.get("meta").unwrap().str_is("pysyncobj", "0.3.11");
        let sends: Vec<Json> = lines.filter(|line| line.str_is("dir", "send")).collect();
        let mut replay = Self {
            version: Some(version),
            of_0311,
            ..Self::default()
        };
        for send in &sends {
            replay
                .senders
                .insert(end_of(send), send.str("node").to_owned());
        }
        for send in &sends {
            replay.take(send)?;
        }
        Ok(replay)
    }

    fn node(&mut self, name: &str) -> &mut Follower {
        let version = self.version.unwrap();
        self.nodes
            .entry(name.to_owned())
            .or_insert_with(|| Follower::new(version))
    }

    fn take(&mut self, send: &Json) -> Result<(), String> {
        let mut message = send.get("msg").unwrap();
        if message.get("$tuple").is_some() {
            message = &message.tuple()[1]; // with the random key before it
        }
        if message.str_is("type", "append_entries") {
            let sender = send.str("node").to_owned();
            let message = self.append(&sender, message);
            self.ways
                .entry(end_of(send))
                .or_default()
                .0
                .push_back(message);
        } else if message.str_is("type", "next_node_idx") {
            let answer = NextNodeIdx {
                next: i64::try_from(message.number("next_node_idx")).unwrap(),
                reset: message.get("reset") == Some(&Json::Bool(true)),
                success: message.get("success") == Some(&Json::Bool(true)),
            };
            let (local, remote) = end_of(send);
            return self.answer(send.str("node"), &(remote, local), answer);
        }
        Ok(())
    }

    /// What a leader sends it has.
    fn append(&mut self, sender: &str, message: &Json) -> Message {
        let term = message.number("term");
        if message.get("prevLogIdx").is_none() {
            let Some(chunk @ Json::Object(_)) = message.get("serialized") else {
                return Message::Idle { term };
            };
            let &[ref data, Json::Bool(first), Json::Bool(last)] = chunk.tuple() else {
                panic!("{chunk:?}")
            };
            // Its entries are inside the pickle; the answer will tell.
            let none = Entry {
                index: 0,
                term: 0,
                len: 0,
            };
            let snapshot = Rc::new(Snapshot {
                len: 0,
                before: none,
                last: none,
            });
            assert_eq!(last, data.str("$bytes").is_empty());
            return Message::Chunk {
                term,
                snapshot,
                data: 0..0,
                first,
                last,
            };
        }
        let Some(Json::List(entries)) = message.get("entries") else {
            panic!("{message:?}")
        };
        let entries: Vec<Entry> = entries.iter().map(entry).collect();
        let leader = self.node(sender);
        leader.term = term;
        for entry in &entries {
            if entry.index == leader.last().index + 1 {
                leader.log.push(*entry);
            }
            assert_eq!(leader.at(entry.index), Some(*entry));
        }
        let prev = Some((message.number("prevLogIdx"), message.number("prevLogTerm")));
        Message::Append {
            term,
            prev,
            entries,
            commit: message.number("commit_index"),
        }
    }

    /// The answer must be one to the next messages on the way there.
    fn answer(&mut self, name: &str, from: &End, answer: NextNodeIdx) -> Result<(), String> {
        let leader = self.senders[from].clone();
        let (mut way, mut last) = self.ways.remove(from).unwrap_or_default();
        let mut repeated = false;
        loop {
            let message = way.pop_front().or_else(|| {
                let omitted = if repeated { None } else { last.take() };
                repeated = true;
                omitted.and_then(repetition)
            });
            let Some(message) = message else {
                return Err(format!(
                    "{name} answers {answer:?}, not {:?}",
                    self.node(name)
                ));
            };
            let message = self.with_snapshot(&leader, message, answer);
            let is_snapshot = matches!(message, Message::Chunk { .. });
            let told = match &message {
                Message::Append { entries, .. } => !entries.is_empty() && !self.of_0311,
                Message::Chunk { last, .. } => *last,
                Message::Idle { .. } => false,
            };
            let model = self.node(name).receive(&message);
            last = Some(message);
            if model == Some(answer) {
                self.snapshots += usize::from(is_snapshot);
                break;
            }
            if told {
                return Err(format!("{name} answers {answer:?}, not {model:?}"));
            }
        }
        self.answers += 1;
        self.resets += usize::from(answer.reset);
        self.ways.insert(from.clone(), (way, last));
        Ok(())
    }

    fn with_snapshot(&mut self, leader: &str, message: Message, answer: NextNodeIdx) -> Message {
        let Message::Chunk {
            term,
            data,
            first,
            last,
            ..
        } = message
        else {
            return message;
        };
        let end = u64::try_from(answer.next - 1).unwrap();
        let log = self.node(leader);
        let (before, newest) = (log.at(end - 1).unwrap(), log.at(end).unwrap());
        let snapshot = Rc::new(Snapshot {
            len: 0,
            before,
            last: newest,
        });
        Message::Chunk {
            term,
            snapshot,
            data,
            first,
            last,
        }
    }
}

impl Json {
    fn str_is(&self, key: &str, text: &str) -> bool {
        self.get(key) == Some(&Self::Text(text.to_owned()))
    }
}

fn end_of(send: &Json) -> End {
    (send.str("local").to_owned(), send.str("remote").to_owned())
}

fn entry(tuple: &Json) -> Entry {
    let [command, Json::Number(index), Json::Number(term)] = tuple.tuple() else {
        panic!("{tuple:?}")
    };
    Entry {
        index: index.parse().unwrap(),
        term: term.parse().unwrap(),
        len: command.str("$bytes").len() / 2,
    }
}

/// The heartbeat that follows on this message, left out of the capture.
fn repetition(message: Message) -> Option<Message> {
    let Message::Append {
        term,
        prev,
        entries,
        commit,
    } = message
    else {
        return None;
    };
    let prev = entries
        .last()
        .map(|entry| (entry.index, entry.term))
        .or(prev);
    Some(Message::Append {
        term,
        prev,
        entries: Vec::new(),
        commit,
    })
}

macro_rules! capture {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/vectors/conversation/",
            $name,
            ".jsonl"
        ))
    };
}

#[test]
fn real_followers_answer_as_the_model_does() {
    for (capture, version) in [
        (capture!("plain-0.3.11"), Version::Upto0311),
        (capture!("encrypted-0.3.14"), Version::Since0312),
        (capture!("plain-0.3.17"), Version::Since0316),
        (capture!("encrypted-0.3.17"), Version::Since0316),
    ] {
        let replay = Replay::of(capture, version).unwrap();
        // The late joiner and the reader each need a snapshot.
        assert!(replay.answers > 60, "{}", replay.answers);
        assert_eq!((replay.resets, replay.snapshots), (2, 2));
    }
}

#[test]
fn a_model_of_another_version_is_told_apart() {
    // H10
    assert!(Replay::of(capture!("plain-0.3.11"), Version::Since0312).is_err());
    assert!(Replay::of(capture!("plain-0.3.17"), Version::Upto0311).is_err());
}
