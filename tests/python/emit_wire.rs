//! Writes all that we encode, one JSON object per line, for
//! `decode_ours.py` to read back with the real pysyncobj: the golden vectors,
//! decoded and encoded again, and what we make ourselves.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::sync::Arc;

use common::{hex_field, json, repr, versions};
use pg_witness::ids::{Entry, EntryId, LogIndex, Term};
use pg_witness::kv::Call;
use pg_witness::secret::Secret;
use pg_witness::wire::message::{AppendEntries, Hello};
use pg_witness::wire::pickle::Encode;
use pg_witness::wire::utility::{MembersReply, StatusReply, UtilityRequest};
use pg_witness::wire::{Codec, Key, Message, Session, Snapshot, Value, command, pickle};
use serde_json::json;

/// The random key of the Python end; `decode_ours.py` knows both.
const THEIRS: [u8; 32] = [0x22; 32];

fn main() {
    let key = Arc::new(Key::derive(&Secret::new("secret").unwrap()));
    let mut emitter = Emitter::new(&key);
    for folder in versions() {
        let file = |name: &str| json(&folder.join(name));
        for vector in file("messages.json")["messages"].as_array().unwrap() {
            let value = pickle::decode(&hex_field(vector, "pickle_hex")).unwrap();
            let meaning = vector["python"].as_str().unwrap();
            emitter.frames(&value, meaning);
            let typed = vector["name"] != "append_serialized_false";
            if let (Ok(message), true) = (Message::decode(&value), typed) {
                emitter.frames(&message, meaning);
            }
            if let Ok(hello @ (Hello::Member(_) | Hello::ReadOnly)) = Hello::decode(&value) {
                emitter.frames(&hello, meaning);
            }
        }
        for vector in file("utility.json")["utility"].as_array().unwrap() {
            let Some(reply) = vector["reply_pickle_hex"].as_str().map(common::hex) else {
                continue;
            };
            let reply = pickle::decode(&reply).unwrap();
            emitter.frames(&reply, &repr(&reply));
            if let Ok(status) = StatusReply::decode(&reply) {
                let text = repr(&reply).replace("TCPNode(", "(");
                emitter.frames(&status, &text);
            }
            if let Ok(members) = MembersReply::decode(&reply) {
                emitter.frames(&members, &repr(&reply));
            }
        }
        for vector in file("dcs_commands.json")["ops"].as_array().unwrap() {
            // Some operations propose nothing.
            let Some(bytes) = vector["command_hex"].as_str().map(common::hex) else {
                continue;
            };
            let command::Command::Regular(object) = command::Command::parse(&bytes) else {
                panic!("{vector}")
            };
            let call = Call::from_command(&object).unwrap();
            let Value::Str(key) = &call.args[0] else {
                panic!("{vector}")
            };
            let kwargs: Vec<_> = call
                .kwargs
                .iter()
                .map(|(k, v)| (k.as_str().unwrap(), v.clone()))
                .collect();
            let ours = match call.function.as_int() {
                Some(command::SET) => command::set(key, &call.args[1], &kwargs),
                Some(command::DELETE) => command::delete(key, &kwargs),
                _ => command::expire(&call.args[0], &call.args[1]),
            };
            emit("command", &ours, vector["decoded"].as_str().unwrap());
        }
        let dump = fs::read(folder.join("node.dump")).unwrap();
        let snapshot = Snapshot::decode(&dump).unwrap();
        emit("snapshot", &snapshot.encode(), &snapshot_repr(&snapshot));
    }
    ours(&mut emitter);
}

/// What no Python node has sent.
fn ours(emitter: &mut Emitter) {
    emitter.frames(&Message::Keepalive, "{'type': 'keepalive'}");
    emitter.frames(&Hello::Utility(UtilityRequest::Status), "['status']");
    for add in [true, false] {
        let address = "10.0.0.3:5010".parse().unwrap();
        let word = if add { "add" } else { "rem" };
        let meaning = format!("['{word}', '10.0.0.3:5010']");
        emit("command", &command::membership(add, &address), &meaning);
    }
    let odd = Value::dict([
        ("", Value::Int(i64::MIN)),
        ("wide", Value::int_from_le(&[0, 0, 0, 0, 0, 0, 0, 0, 0x80])),
        ("é☃😀", Value::Float(-0.0)),
        ("long", Value::str(&"x".repeat(70_000))),
        ("bytes", Value::bytes(&[0xff; 300])),
        (
            "nested",
            Value::tuple([Value::list([]), Value::tuple([]), Value::dict([])]),
        ),
    ]);
    let text = "x".repeat(70_000);
    let meaning = format!(
        "{{'': -2**63, 'wide': -2**71, 'é☃😀': -0.0, 'long': '{text}', 'bytes': b'\\xff'*300, \
         'nested': ([], (), {{}})}}"
    );
    emitter.frames(&odd, &meaning);
    // Spec 3.4: one plain append with a large entry, from a log of ours.
    let id = |index| EntryId {
        index: LogIndex::new(index).unwrap(),
        term: Term::new(3).unwrap(),
    };
    let entries: Vec<Entry> = (5..8u8)
        .map(|index| Entry {
            id: id(u64::from(index)),
            command: vec![index; 100_000].into(),
        })
        .collect();
    let append = AppendEntries {
        term: Term::new(3).unwrap(),
        commit: LogIndex::FIRST,
        prev: Some(id(4)),
        entries: &entries,
    };
    let meaning = "{'type': 'append_entries', 'term': 3, 'commit_index': 1, 'prevLogIdx': 4, \
                   'prevLogTerm': 3, 'entries': [(bytes([i])*100000, i, 3) for i in (5, 6, 7)]}";
    emitter.frames(&append, meaning);
}

fn snapshot_repr(snapshot: &Snapshot) -> String {
    let entry = |entry: &Entry| {
        repr(&Value::tuple([
            Value::bytes(&entry.command),
            Value::Int(entry.id.index.get().try_into().unwrap()),
            Value::Int(entry.id.term.get().try_into().unwrap()),
        ]))
    };
    let data: Vec<_> = snapshot
        .data
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    format!(
        "({{'_SyncObj__enabledCodeVersion': 0, '_KVStoreTTL__data': {}}}, {}, {}, [{}])",
        repr(&Value::Dict(data.into())),
        entry(&snapshot.last),
        entry(&snapshot.prev),
        snapshot
            .members
            .iter()
            .map(|member| format!("TCPNode('{member}')"))
            .collect::<Vec<_>>()
            .join(", "),
    )
}

fn emit(kind: &str, bytes: &[u8], meaning: &str) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{}", json!({ "kind": kind, "hex": hex, "means": meaning }));
}

/// Sessions that have shaken hands with a Python node that is played here.
struct Emitter {
    codec: Codec,
    plain: Session,
    sealed: Session,
    now_s: u64,
}

impl Emitter {
    fn new(key: &Arc<Key>) -> Self {
        let mut codec = Codec::new();
        let mut plain = Session::accept(&[], THEIRS);
        let hello = || Hello::Member("10.0.0.9:5010".parse().unwrap());
        let mut peer = Session::dial(hello(), None, THEIRS);
        let (mut wire, mut back) = (Vec::new(), Vec::new());
        peer.start(&mut codec, 0, &mut wire).unwrap();
        plain.feed(&wire);
        plain.next(&mut codec, 0, &mut back).unwrap().unwrap();
        let mut sealed = Session::dial(hello(), Some(key.clone()), [0x11; 32]);
        let mut peer = Session::accept(std::slice::from_ref(key), THEIRS);
        wire.clear();
        sealed.start(&mut codec, 0, &mut wire).unwrap();
        emit("first", &wire, &repr(&Value::bytes(&[0x11; 32])));
        peer.feed(&wire);
        peer.next(&mut codec, 0, &mut back).unwrap();
        // As the answer of a Python acceptor to us; here to see that ours reads.
        emit("second", &back, &repr(&Value::bytes(&THEIRS)));
        sealed.feed(&back);
        wire.clear();
        sealed.next(&mut codec, 0, &mut wire).unwrap();
        emit("sealed", &wire, "'10.0.0.9:5010'");
        let now_s = 0;
        Self {
            codec,
            plain,
            sealed,
            now_s,
        }
    }

    fn frames<T: Encode + ?Sized>(&mut self, message: &T, meaning: &str) {
        self.now_s += 1;
        for (kind, session) in [("plain", &mut self.plain), ("sealed", &mut self.sealed)] {
            let mut wire = Vec::new();
            let sent = session.send(&mut self.codec, message, self.now_s, &mut wire);
            sent.unwrap();
            emit(kind, &wire, meaning);
        }
    }
}
