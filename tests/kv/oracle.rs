//! A Python process that answers as the real Patroni does.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pg_witness::wire::Value;

/// Where tests/setup puts the interpreters, unless told otherwise.
const VENVS: &str = "/opt/pg-witness-tests/venvs";

/// Starts a script of `tests/python` under a version of Patroni, to be talked to.
pub fn spawn(patroni: &str, script: &str) -> Child {
    let venvs = std::env::var_os("PG_WITNESS_VENVS").map_or(VENVS.into(), PathBuf::from);
    let python = venvs.join(format!("patroni-{patroni}/bin/python"));
    assert!(
        python.exists(),
        "{} is missing: run tests/setup, or point PG_WITNESS_VENVS to what it made",
        python.display()
    );
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/");
    Command::new(python)
        .args(["-W", "ignore", &format!("{scripts}{script}")])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// `tests/python/kv_oracle.py` under one version of Patroni.
pub struct Oracle {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    pub fn start(patroni: &str) -> Self {
        let mut process = spawn(patroni, "kv_oracle.py");
        Self {
            input: process.stdin.take(),
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    /// Asks line by line; the answers come in the same order.
    pub fn ask(&mut self, questions: &[String]) -> Vec<String> {
        let mut input = self.input.take().unwrap();
        let output = &mut self.output;
        // Both pipes are bounded: write and read at once.
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                for question in questions {
                    writeln!(input, "{question}").unwrap();
                }
                input.flush().unwrap();
                input
            });
            let answer = |_| {
                let mut line = String::new();
                let read = output.read_line(&mut line).unwrap();
                assert!(read > 0, "the oracle died; see its words on stderr");
                line.truncate(line.trim_end().len());
                line
            };
            let answers = questions.iter().map(answer).collect();
            self.input = Some(writer.join().unwrap());
            answers
        })
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// A value as one word: a letter for its type, then what it holds.
pub fn encode(value: &Value) -> String {
    let mut word = String::new();
    encode_into(&mut word, value);
    word
}

/// A dict as one word.
pub fn encode_dict<'a>(pairs: impl ExactSizeIterator<Item = (&'a Value, &'a Value)>) -> String {
    let mut word = format!("d{};", pairs.len());
    for (key, value) in pairs {
        encode_into(&mut word, key);
        encode_into(&mut word, value);
    }
    word
}

fn encode_into(word: &mut String, value: &Value) {
    match value {
        Value::None => word.push('N'),
        Value::Bool(true) => word.push('T'),
        Value::Bool(false) => word.push('F'),
        Value::Int(int) => write!(word, "i{int};").unwrap(),
        Value::BigInt(digits) => hex(word, 'I', digits),
        Value::Float(float) => write!(word, "f{:016x}", float.to_bits()).unwrap(),
        Value::Str(text) => hex(word, 's', text.as_bytes()),
        Value::Bytes(bytes) => hex(word, 'b', bytes),
        Value::Node(id) => hex(word, 'n', id.as_bytes()),
        Value::Tuple(items) => sequence(word, 't', items.iter().map(encode)),
        Value::List(items) => sequence(word, 'l', items.iter().map(encode)),
        Value::Set(items) => {
            let mut items: Vec<_> = items.iter().map(encode).collect();
            items.sort();
            sequence(word, 'S', items.into_iter());
        }
        Value::Dict(pairs) => word.push_str(&encode_dict(pairs.iter().map(|(k, v)| (k, v)))),
    }
}

fn hex(word: &mut String, letter: char, bytes: &[u8]) {
    word.push(letter);
    for byte in bytes {
        write!(word, "{byte:02x}").unwrap();
    }
    word.push(';');
}

fn sequence(word: &mut String, letter: char, items: impl ExactSizeIterator<Item = String>) {
    write!(word, "{letter}{};", items.len()).unwrap();
    items.for_each(|item| word.push_str(&item));
}
