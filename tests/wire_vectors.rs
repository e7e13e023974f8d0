//! Every golden vector of every captured version decodes to its recorded
//! meaning. The vectors were recorded from pysyncobj 0.3.11, 0.3.14, 0.3.16 and
//! 0.3.17 with Patroni 3.0.2 to 4.1.5.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::fs;
use std::sync::Arc;

use common::{hex, hex_field, json, repr, to_json, vectors, versions};
use pg_witness::ids::LogIndex;
use pg_witness::kv::Call;
use pg_witness::secret::Secret;
use pg_witness::wire::frame::{FrameBuffer, Inflater};
use pg_witness::wire::message::{AppendBody, ApplyOutcome, FragmentPart, Hello};
use pg_witness::wire::python_files::{Journal, Meta};
use pg_witness::wire::utility::{
    MemberTarget, MembersReply, NodeState, StatusReply, UtilityRequest, set_version_reply,
};
use pg_witness::wire::{Codec, Command, Key, Message, Session, Snapshot, Value, command, pickle};

const RANDOM: [u8; 32] = {
    let mut key = [0; 32];
    let mut at = 0u8;
    while at < 32 {
        key[at as usize] = at;
        at += 1;
    }
    key
};

fn key() -> Key {
    Key::derive(&Secret::new("secret").unwrap())
}

/// The value in a frame, opened step by step.
fn unframe(frame: &[u8], key: Option<&Key>) -> Value {
    let mut buffer = FrameBuffer::default();
    buffer.feed(frame);
    let body = buffer.next(1 << 20).unwrap().unwrap().to_vec();
    assert!(buffer.is_empty());
    let mut raw = Vec::new();
    let zlib = match key {
        Some(key) => key.decrypt(&body, &mut raw).unwrap(),
        None => &body,
    };
    let mut pickled = Vec::new();
    Inflater::default()
        .inflate(zlib, 1 << 20, &mut pickled)
        .unwrap();
    pickle::decode(&pickled).unwrap()
}

#[test]
fn keys_and_tokens() {
    for folder in versions() {
        let vector = json(&folder.join("kdf.json"));
        let derived = Key::derive(&Secret::new(vector["password"].as_str().unwrap()).unwrap());
        let bytes: [u8; 32] = hex_field(&vector, "derived_key_hex").try_into().unwrap();
        assert!(derived.same_as(&Key::from_bytes(bytes)));
        let sample = &vector["sample_token"];
        let token = sample["token_ascii"].as_str().unwrap();
        let iv = hex_field(sample, "iv_hex").try_into().unwrap();
        let (mut raw, mut encrypted) = (Vec::new(), Vec::new());
        derived.encrypt(b"hello", 1000, iv, &mut raw, &mut encrypted);
        assert_eq!(encrypted, token.as_bytes());
        let opened = derived.decrypt(token.as_bytes(), &mut raw).unwrap();
        assert_eq!(opened, b"hello");
    }
}

#[test]
fn messages_plain_and_encrypted() {
    let key = key();
    let mut count = 0;
    for folder in versions() {
        let vectors = json(&folder.join("messages.json"));
        for vector in vectors["messages"].as_array().unwrap() {
            let name = vector["name"].as_str().unwrap();
            let meaning = vector["python"].as_str().unwrap();
            let value = pickle::decode(&hex_field(vector, "pickle_hex")).unwrap();
            assert_eq!(repr(&value), meaning, "{name}");
            let plain = unframe(&hex_field(vector, "frame_plain_hex"), None);
            assert_eq!(repr(&plain), meaning, "{name}");
            let encrypted = unframe(&hex_field(vector, "frame_enc_hex"), Some(&key));
            if name == "hello_randkey" {
                assert_eq!(repr(&encrypted), meaning);
            } else {
                let parts = encrypted.as_seq().unwrap();
                assert_eq!(parts[0].as_bytes().unwrap()[..], RANDOM);
                assert_eq!(repr(&parts[1]), meaning, "{name}");
            }
            judge_message(name, &value);
            // What we write has the same meaning.
            let mut ours = Vec::new();
            pickle::encode(&value, &mut ours);
            assert_eq!(repr(&pickle::decode(&ours).unwrap()), meaning, "{name}");
            count += 1;
        }
    }
    assert!(count >= 4 * 30, "{count}");
}

/// The type that a recorded message decodes to.
fn judge_message(name: &str, value: &Value) {
    let address = |text: &str| text.parse().unwrap();
    let target = || MemberTarget::Address(address("10.0.0.3:5010"));
    let hello = |expected: Hello| assert_eq!(Hello::decode(value).unwrap(), expected, "{name}");
    let request = |expected: UtilityRequest| hello(Hello::Utility(expected));
    let message = || Message::decode(value).unwrap();
    let body = || match message() {
        Message::AppendEntries(append) => append.body,
        other => panic!("{name}: {other:?}"),
    };
    match name {
        "hello_address" => hello(Hello::Member(address("10.0.0.1:5010"))),
        "hello_readonly" => hello(Hello::ReadOnly),
        "hello_randkey" => assert!(Hello::decode(value).is_err()),
        "util_status" => request(UtilityRequest::Status),
        "util_members" => request(UtilityRequest::Members),
        "util_add" => request(UtilityRequest::Add(target())),
        "util_remove" => request(UtilityRequest::Remove(target())),
        "util_set_version" => request(UtilityRequest::SetVersion(0)),
        "util_transfer_auto" => request(UtilityRequest::Transfer(None)),
        "util_transfer" => request(UtilityRequest::Transfer(Some(address("10.0.0.3:5010")))),
        "util_reply_ok" | "util_reply_fail" => {
            let text = UtilityRequest::Add(target()).outcome(name == "util_reply_ok");
            assert_eq!(value.as_str(), Some(&text[..]));
        }
        "util_reply_members" => {
            let members = MembersReply::decode(value).unwrap().0;
            assert_eq!(members.len(), 2);
            assert!(members[0].leader && !members[1].leader && members[1].connected);
        }
        "request_vote" => {
            assert!(matches!(message(), Message::RequestVote { term, last }
                if term.get() == 2 && last.index.get() == 1 && last.term.get() == 0));
        }
        "response_vote" => {
            assert!(matches!(message(), Message::ResponseVote { term } if term.get() == 2));
        }
        "append_heartbeat" => {
            assert!(
                matches!(body(), AppendBody::Entries { prev: Some(prev), entries }
                if prev.index.get() == 2 && prev.term.get() == 1 && entries.is_empty())
            );
        }
        "append_one" | "append_many" => {
            let AppendBody::Entries { entries, .. } = body() else {
                panic!("{name}")
            };
            assert_eq!(entries[0].command[..], *b"\x01");
            assert_eq!(entries.len() > 1, name == "append_many");
        }
        "append_prev_none" => {
            assert!(matches!(body(), AppendBody::Entries { prev: None, .. }));
        }
        "append_transmission_start" => {
            assert!(matches!(body(), AppendBody::Fragment {
                part: FragmentPart::Start, data, .. } if data[..] == *b"\x80\x02C-demo"));
        }
        "append_serialized_first" => {
            assert!(matches!(body(), AppendBody::Snapshot(Some(chunk))
                if chunk.first && !chunk.last && chunk.data[..] == *b"\x1f\x8b\x08\x00\xff"));
        }
        "append_serialized_last" => {
            assert!(matches!(body(), AppendBody::Snapshot(Some(chunk))
                if !chunk.first && chunk.last && chunk.data.is_empty()));
        }
        "append_serialized_none" | "append_serialized_false" => {
            assert!(matches!(body(), AppendBody::Snapshot(None)));
        }
        "next_node_idx_ok" => {
            assert!(matches!(message(), Message::NextNodeIdx(reply)
                if reply.next == 5 && !reply.reset && reply.success));
        }
        "next_node_idx_reset" => {
            assert!(matches!(message(), Message::NextNodeIdx(reply)
                if reply.next == 2 && reply.reset && !reply.success));
        }
        "apply_command" | "apply_command_noreply" => {
            let Message::ApplyCommand {
                command,
                request_id,
            } = message()
            else {
                panic!("{name}")
            };
            assert!(matches!(Command::parse(&command), Command::Regular(_)));
            assert_eq!(request_id.is_some(), name == "apply_command");
        }
        "apply_command_response_ok" => {
            assert!(matches!(message(), Message::ApplyCommandResponse {
                request_id: 1, outcome: ApplyOutcome::Appended(id) } if id.index.get() == 3));
        }
        "apply_command_response_err" => {
            assert!(matches!(message(), Message::ApplyCommandResponse {
                request_id: 1, outcome: ApplyOutcome::Refused(error) } if error.code() == 4));
        }
        "timeout_now" => {
            assert!(matches!(message(), Message::TimeoutNow { term } if term.get() == 2));
        }
        other => panic!("no expectation for {other}"),
    }
    // Whatever decodes as a message survives our own encoding.
    if let Ok(mut message) = Message::decode(value) {
        if let Message::AppendEntries(append) = &mut message
            && matches!(append.body, AppendBody::Snapshot(_))
        {
            // Ours carries none: its receiver must not commit.
            append.commit = LogIndex::FIRST;
        }
        let mut ours = Vec::new();
        pickle::encode(&message, &mut ours);
        let back = Message::decode(&pickle::decode(&ours).unwrap());
        assert_eq!(back, Ok(message), "{name}");
    }
}

/// The call that a REGULAR command makes.
fn called(command: &Command) -> Call {
    let Command::Regular(object) = command else {
        panic!("{command:?}")
    };
    Call::from_command(object).unwrap()
}

#[test]
fn command_types() {
    for folder in versions() {
        let vectors = json(&folder.join("command_types.json"));
        let mut seen = 0;
        for vector in vectors["commands"].as_array().unwrap() {
            let parsed = Command::parse(&hex_field(vector, "hex"));
            let fits = match vector["name"].as_str().unwrap() {
                "NO_OP" => matches!(parsed, Command::Noop),
                "REGULAR_set_leader" => {
                    let call = called(&parsed);
                    call.function.as_int() == Some(command::SET)
                        && call.args[0].as_str() == Some("/service/demo/leader")
                        && call.kwargs.iter().any(|(name, value)| {
                            name.as_str() == Some("prevExist")
                                && matches!(value, Value::Bool(false))
                        })
                }
                "MEMBERSHIP_add" => {
                    matches!(parsed, Command::Membership { add: true, address }
                        if address.as_str() == "10.0.0.3:5010")
                }
                "MEMBERSHIP_rem" => {
                    matches!(parsed, Command::Membership { add: false, address }
                        if address.as_str() == "10.0.0.3:5010")
                }
                "VERSION_0" => matches!(parsed, Command::Version(0)),
                other => panic!("no expectation for {other}"),
            };
            assert!(fits, "{vector}");
            seen += 1;
        }
        assert_eq!(seen, 5);
    }
}

#[test]
fn dcs_commands() {
    let mut count = 0;
    for folder in versions() {
        let vectors = json(&folder.join("dcs_commands.json"));
        for vector in vectors["ops"].as_array().unwrap() {
            let Some(command) = vector["command_hex"].as_str() else {
                continue;
            };
            let command = hex(command);
            let meaning = vector["decoded"].as_str().unwrap();
            let value = pickle::decode(&command[1..]).unwrap();
            assert_eq!(repr(&value), meaning);
            let call = called(&Command::parse(&command));
            let parts = value.as_seq().unwrap();
            assert_eq!(call.function.as_int(), parts[0].as_int());
            assert_eq!(repr(&Value::tuple(call.args.clone())), repr(&parts[1]));
            assert_eq!(parts.len() == 3, !call.kwargs.is_empty());
            // Our builder makes a command of the same meaning.
            let Value::Str(key) = &call.args[0] else {
                panic!("{meaning}")
            };
            let kwargs: Vec<(&str, Value)> = call
                .kwargs
                .iter()
                .map(|(name, value)| (name.as_str().unwrap(), value.clone()))
                .collect();
            let ours = match call.function.as_int() {
                Some(command::SET) => command::set(key, &call.args[1], &kwargs),
                Some(command::DELETE) => command::delete(key, &kwargs),
                Some(command::EXPIRE) => command::expire(&call.args[0], &call.args[1]),
                other => panic!("function {other:?}"),
            };
            assert_eq!(repr(&pickle::decode(&ours[1..]).unwrap()), meaning);
            count += 1;
        }
    }
    assert!(count >= 4 * 20, "{count}");
}

#[test]
fn utility_replies() {
    for folder in versions() {
        let vectors = json(&folder.join("utility.json"));
        let this = vectors["self"].as_str().unwrap().parse().unwrap();
        let mut seen = 0;
        for vector in vectors["utility"].as_array().unwrap() {
            let asked = vector["command"].as_array().unwrap();
            let asked = Value::list(asked.iter().map(|word| match word.as_str() {
                Some(text) => Value::str(text),
                None => Value::Int(word.as_i64().unwrap()),
            }));
            let request = UtilityRequest::decode(&asked).unwrap();
            let mut ours = Vec::new();
            pickle::encode(&request, &mut ours);
            assert_eq!(repr(&pickle::decode(&ours).unwrap()), repr(&asked));
            let Some(reply) = vector["reply_pickle_hex"].as_str() else {
                continue;
            };
            let reply = pickle::decode(&hex(reply)).unwrap();
            assert_eq!(repr(&reply), vector["reply_python"].as_str().unwrap());
            seen += 1;
            let text = reply.as_str();
            match &request {
                UtilityRequest::Status => judge_status(&reply, &this),
                UtilityRequest::Members => {
                    let members = MembersReply::decode(&reply).unwrap();
                    assert_eq!(members.0[0].address, this);
                    let mut ours = Vec::new();
                    pickle::encode(&members, &mut ours);
                    assert_eq!(repr(&pickle::decode(&ours).unwrap()), repr(&reply));
                }
                UtilityRequest::SetVersion(version) => {
                    assert_eq!(text, Some(&set_version_reply(*version)[..]));
                }
                UtilityRequest::Add(target) if target.complaint().is_some() => {
                    assert_eq!(text, target.complaint());
                }
                other => {
                    let text = text.unwrap();
                    assert_eq!(text, other.outcome(text.starts_with("SUCCESS")));
                }
            }
        }
        assert!(seen >= 7, "{seen}");
    }
}

fn judge_status(reply: &Value, this: &pg_witness::address::Address) {
    let status = StatusReply::decode(reply).unwrap();
    assert_eq!(status.this.as_ref(), Some(this));
    assert_eq!(status.leader.as_ref(), Some(this));
    assert_eq!(status.state, NodeState::Leader);
    assert!(status.has_quorum);
    assert_eq!(status.raft_term.get(), 1);
    assert_eq!(Some(status.commit_idx), status.leader_commit_idx);
    assert_eq!(status.last_applied, status.commit_idx);
    // Ours has the same keys in the same order, with texts for nodes.
    let mut ours = Vec::new();
    pickle::encode(&status, &mut ours);
    let ours = pickle::decode(&ours).unwrap();
    let strip = |text: String| text.replace("TCPNode(", "").replace("')", "'");
    assert_eq!(repr(&ours), strip(repr(reply)));
    assert_eq!(StatusReply::decode(&ours), Ok(status));
}

#[test]
fn files_of_a_python_node() {
    for folder in versions() {
        let vector = json(&folder.join("disk.json"));
        let dump = hex_field(&vector, "dump_pickle_hex");
        let dump = repr(&pickle::decode(&dump).unwrap());
        assert_eq!(dump, vector["dump_python"].as_str().unwrap());
        let snapshot = Snapshot::decode(&fs::read(folder.join("node.dump")).unwrap()).unwrap();
        let this = vector["self"].as_str().unwrap();
        assert_eq!(snapshot.members, [this.parse().unwrap()]);
        let journal = Journal::decode(&fs::read(folder.join("node.journal")).unwrap()).unwrap();
        // Spec 7.3: after a dump the journal begins with its two entries.
        assert_eq!(
            journal.entries[..2],
            [snapshot.prev.clone(), snapshot.last.clone()]
        );
        assert!(folder.to_str().unwrap().contains(&journal.version));
        let meta = fs::read(folder.join("node.journal.meta")).unwrap();
        let meaning = repr(&pickle::decode(&meta).unwrap());
        assert_eq!(meaning, vector["meta_python"].as_str().unwrap());
        let meta = Meta::decode(&meta).unwrap();
        let has_term = meaning.contains("currentTerm");
        assert_eq!(meta.term.is_some(), has_term);
        assert_eq!(meta.voted_for.is_some(), has_term);
        let last = journal.entries.last().unwrap().id.index;
        assert!(meta.commit.unwrap() <= last);
        // Ours holds the same.
        let again = Snapshot::decode(&snapshot.encode()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{snapshot:?}"));
    }
    let minimal = fs::read(vectors().join("handmade_minimal.dump")).unwrap();
    let minimal = Snapshot::decode(&minimal).unwrap();
    assert_eq!(minimal.prev.id.index.next(), minimal.last.id.index);
    assert!(!minimal.members.is_empty());
}

/// A recorded frame, and who sent it.
struct Sent {
    from: String,
    to: String,
    frame: Vec<u8>,
    message: serde_json::Value,
}

fn conversation(name: &str) -> Vec<Sent> {
    let text = fs::read_to_string(vectors().join("conversation").join(name)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["dir"] == "send" && !event["frame_hex"].is_null())
        .map(|event| Sent {
            from: event["local"].as_str().unwrap().into(),
            to: event["remote"].as_str().unwrap().into(),
            frame: hex_field(&event, "frame_hex"),
            message: event["msg"].clone(),
        })
        .collect()
}

#[test]
fn conversations_frame_by_frame() {
    let key = key();
    for (name, key) in [
        ("plain-0.3.11.jsonl", None),
        ("plain-0.3.17.jsonl", None),
        ("encrypted-0.3.14.jsonl", Some(&key)),
        ("encrypted-0.3.17.jsonl", Some(&key)),
    ] {
        let mut count = 0;
        for sent in conversation(name) {
            let value = unframe(&sent.frame, key);
            // Nodes and sets are recorded by their repr.
            assert_eq!(to_json(&value), sent.message, "{name}");
            let inner = match &value {
                Value::Tuple(parts) if key.is_some() => parts[1].clone(),
                other => other.clone(),
            };
            if inner.get("type").is_some() {
                let message = Message::decode(&inner).unwrap();
                assert_ne!(message, Message::Unknown);
            }
            count += 1;
        }
        assert!(count > 150, "{name}: {count}");
    }
}

#[test]
fn sessions_read_a_recorded_encrypted_link() {
    // Spec 1.4, from the acceptor's side: its random key is known from frame 2.
    let key = Arc::new(key());
    let mut links = 0;
    for name in ["encrypted-0.3.14.jsonl", "encrypted-0.3.17.jsonl"] {
        let sent = conversation(name);
        for (at, first) in sent.iter().enumerate() {
            if first.message.get("$bytes").is_none() {
                continue;
            }
            let back = |s: &&Sent| s.from == first.to && s.to == first.from;
            let Some(second) = sent[at..].iter().find(back) else {
                continue;
            };
            let ours = hex_field(&second.message["$tuple"][1], "$bytes");
            let mut acceptor =
                Session::accept(std::slice::from_ref(&key), ours.try_into().unwrap());
            let (mut codec, mut out) = (Codec::new(), Vec::new());
            let mut values = 0;
            for s in sent[at..].iter() {
                if (&s.from, &s.to) != (&first.from, &first.to) {
                    continue;
                }
                acceptor.feed(&s.frame);
                if let Some(value) = acceptor.next(&mut codec, 5, &mut out).unwrap() {
                    assert_eq!(to_json(&value), s.message["$tuple"][1]);
                    values += 1;
                }
            }
            assert!(!out.is_empty());
            links += usize::from(values > 0);
        }
    }
    assert!(links > 10, "{links}");
}
