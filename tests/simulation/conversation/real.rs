//! `tests/python/pysyncobj_host.py`: the real node, and what it says of itself.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};

use pg_witness::wire::Value;
use pg_witness::wire::value::Str;

use super::oracle::spawn;
use crate::pysyncobj::Version;

/// The process.
pub struct Real {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Real {
    pub fn start(version: Version) -> Self {
        let patroni = match version {
            Version::V0_3_11 => "3.0.2",
            Version::V0_3_14 => "3.3.7",
            Version::V0_3_16 => "4.0.6",
            Version::V0_3_17 => "4.1.5",
        };
        let mut process = spawn(patroni, "pysyncobj_host.py");
        Self {
            input: process.stdin.take(),
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    /// Sends an event; its effects, and the parts of the state that it changed.
    pub fn ask(&mut self, line: &str) -> (Vec<Value>, Vec<(String, Value)>) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
        let mut answer = String::new();
        let read = self.output.read_line(&mut answer).unwrap();
        assert!(read > 0, "the host died; see its words on stderr");
        let Value::Tuple(parts) = decode(answer.trim_end()) else {
            panic!("no tuple: {answer}")
        };
        let [Value::List(effects), Value::Dict(changes)] = &*parts else {
            panic!("no effects and changes: {answer}")
        };
        let named = |(name, value): &(Value, Value)| {
            let name = name.as_str().unwrap().to_owned();
            (name, value.clone())
        };
        (effects.to_vec(), changes.iter().map(named).collect())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// The value of a word of kv_oracle.py.
fn decode(word: &str) -> Value {
    let (value, rest) = take(word);
    assert!(rest.is_empty(), "{rest}");
    value
}

fn take(word: &str) -> (Value, &str) {
    let (letter, rest) = word.split_at(1);
    match letter {
        "N" => return (Value::None, rest),
        "T" => return (Value::Bool(true), rest),
        "F" => return (Value::Bool(false), rest),
        "f" => {
            let (bits, rest) = rest.split_at(16);
            let bits = u64::from_str_radix(bits, 16).unwrap();
            return (Value::Float(f64::from_bits(bits)), rest);
        }
        _ => {}
    }
    let (head, mut rest) = rest.split_once(';').unwrap();
    let value = match letter {
        "i" => Value::Int(head.parse().unwrap()),
        "s" => Value::Str(Str::from_bytes(&hex(head)).unwrap()),
        "b" => Value::bytes(&hex(head)),
        "n" => Value::Node(Str::from_bytes(&hex(head)).unwrap()),
        "t" | "l" | "S" => {
            let mut items = Vec::new();
            for _ in 0..head.parse().unwrap() {
                let (item, behind) = take(rest);
                items.push(item);
                rest = behind;
            }
            match letter {
                "t" => Value::tuple(items),
                "l" => Value::list(items),
                _ => Value::Set(items.into()),
            }
        }
        "d" => {
            let mut pairs = Vec::new();
            for _ in 0..head.parse().unwrap() {
                let (key, behind) = take(rest);
                let (value, behind) = take(behind);
                pairs.push((key, value));
                rest = behind;
            }
            Value::Dict(pairs.into())
        }
        _ => panic!("no word begins with {letter}"),
    };
    (value, rest)
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}
