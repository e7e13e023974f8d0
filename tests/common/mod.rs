//! What the tests share: the golden vectors and Python's `repr`.
#![allow(dead_code)] // Each test crate uses its part.

use std::fs;
use std::path::{Path, PathBuf};

use pg_witness::wire::Value;
use serde_json::Value as Json;

/// The folder of the vectors.
pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors")
}

/// The folder of each captured version.
pub fn versions() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(vectors())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && !path.ends_with("conversation"))
        .collect();
    folders.sort();
    assert_eq!(folders.len(), 4);
    folders
}

/// A JSON file of vectors.
pub fn json(path: &Path) -> Json {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The bytes of a hex text.
pub fn hex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0);
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The hex text of a JSON field.
pub fn hex_field(json: &Json, name: &str) -> Vec<u8> {
    hex(json[name].as_str().unwrap())
}

/// Python's `repr`, by which the vectors record what a pickle means.
pub fn repr(value: &Value) -> String {
    let join = |items: &[Value]| items.iter().map(repr).collect::<Vec<_>>().join(", ");
    match value {
        Value::None => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Int(i) => i.to_string(),
        Value::BigInt(bytes) => format!("BigInt({bytes:?})"),
        Value::Float(f) => format!("{f:?}"),
        Value::Str(s) => repr_str(s.as_str().unwrap()),
        Value::Bytes(b) => repr_bytes(b),
        Value::Tuple(items) if items.len() == 1 => format!("({},)", repr(&items[0])),
        Value::Tuple(items) => format!("({})", join(items)),
        Value::List(items) => format!("[{}]", join(items)),
        Value::Set(items) => format!("{{{}}}", join(items)),
        Value::Dict(pairs) => {
            let pair = |(key, value): &(Value, Value)| format!("{}: {}", repr(key), repr(value));
            format!(
                "{{{}}}",
                pairs.iter().map(pair).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Node(id) => format!("TCPNode({})", repr_str(id.as_str().unwrap())),
    }
}

fn quote(text: &str) -> char {
    if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    }
}

fn repr_str(text: &str) -> String {
    let quote = quote(text);
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

fn repr_bytes(bytes: &[u8]) -> String {
    let latin: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let quote = quote(&latin);
    let mut out = format!("b{quote}");
    for byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            byte if char::from(*byte) == quote => out.extend(['\\', quote]),
            0x20..=0x7e => out.push(char::from(*byte)),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
    out
}

/// A value in the JSON of the recorded conversations.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(i) => (*i).into(),
        Value::Float(f) => (*f).into(),
        Value::Str(s) => s.as_str().unwrap().into(),
        Value::Bytes(b) => {
            let hex: String = b.iter().map(|byte| format!("{byte:02x}")).collect();
            serde_json::json!({ "$bytes": hex })
        }
        Value::Tuple(items) => {
            serde_json::json!({ "$tuple": items.iter().map(to_json).collect::<Vec<_>>() })
        }
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Dict(pairs) => {
            let pair = |(k, v): &(Value, Value)| (k.as_str().unwrap().to_owned(), to_json(v));
            Json::Object(pairs.iter().map(pair).collect())
        }
        Value::BigInt(_) | Value::Set(_) | Value::Node(_) => {
            serde_json::json!({ "$repr": repr(value) })
        }
    }
}
