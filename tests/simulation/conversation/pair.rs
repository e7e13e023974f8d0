//! The model and the real node side by side: every event goes to both, and what
//! they do and are afterwards must be the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use flate2::Crc;
use flate2::read::GzDecoder;
use pg_witness::address::Address;
use pg_witness::wire::Value;
use pg_witness::wire::pickle::{self, PickleCaps};

use super::dice::Dice;
use super::oracle::encode;
use super::real::Real;
use crate::pysyncobj::{Config, Effect, Files, Moment, Node, Raised, Socket, StartError};

/// Both nodes.
pub struct Pair<'a> {
    real: &'a mut Real,
    folder: &'a Path,
    pub node: Option<Node>,
    files: Files,
    chance: Dice,
    theirs: BTreeMap<String, Value>,
    pub now: f64,
    /// What was asked so far, for whoever has to find a difference.
    history: Vec<(String, Option<Value>)>,
    /// What happened, and how often.
    pub seen: BTreeMap<String, u32>,
}

/// What an event came to, for the generator.
pub type Happened = Vec<Effect>;

impl<'a> Pair<'a> {
    pub fn new(real: &'a mut Real, folder: &'a Path) -> Self {
        Self {
            real,
            folder,
            node: None,
            files: Files::default(),
            chance: Dice(0),
            theirs: BTreeMap::new(),
            now: 1000.0,
            history: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            monotonic_s: self.now,
            wall_s: 1.7e9 + self.now,
        }
    }

    /// A new process, with the files of the last one except those that are lost.
    pub fn start(&mut self, config: Config, lost: &[&str], seed: u64) {
        if let Some(node) = self.node.take() {
            self.files = node.files();
        }
        for file in lost {
            match *file {
                "journal" => self.files.journal = None,
                "meta" => self.files.meta = None,
                "dump" => self.files.dump = None,
                _ => {
                    let journal = self.files.journal.as_mut();
                    journal
                        .into_iter()
                        .for_each(|journal| journal.truncate(100));
                }
            }
        }
        let members = config.members.iter();
        let members = Value::list(members.map(|member| Value::str(member.as_str())));
        let number = |number: usize| Value::Int(i64::try_from(number).unwrap());
        let limits = Value::dict([
            ("send", Value::Float(config.send_s)),
            ("dump", Value::Float(config.dump_s)),
            ("logCompactionBatchSize", number(config.chunk_bytes)),
            ("appendEntriesBatchSizeBytes", number(config.append_bytes)),
            ("commandsQueueSize", number(config.queue_max)),
            ("logCompactionMinEntries", number(config.compaction_entries)),
            ("logCompactionMinTime", Value::Float(config.compaction_s)),
        ]);
        let arguments = format!(
            "{} {} {seed} {} {} {}",
            self.folder.display(),
            if lost.is_empty() {
                "-".into()
            } else {
                lost.join(",")
            },
            config.address,
            encode(&members),
            encode(&limits)
        );
        self.chance = Dice(seed);
        self.theirs.clear();
        let (now, files) = (self.moment(), self.files.clone());
        let started = Node::start(config, files, now, &mut || self.chance.uniform());
        let raised = match started {
            Ok(node) => {
                self.node = Some(node);
                Vec::new()
            }
            Err(StartError(_)) => vec![Effect::Raised(Raised("error"))],
        };
        self.compare("start", &arguments, &raised, None);
    }

    pub fn accept(&mut self) -> Socket {
        let now = self.moment();
        let socket = self.node.as_mut().unwrap().accept(now);
        self.compare("accept", "", &[], None);
        socket
    }

    pub fn established(&mut self, socket: Socket) -> Happened {
        let now = self.moment();
        let effects = self.node.as_mut().unwrap().established(socket, now);
        self.compare("established", &socket.0.to_string(), &effects, None);
        effects
    }

    pub fn closed(&mut self, socket: Socket) -> Happened {
        let now = self.moment();
        let effects = self.node.as_mut().unwrap().closed(socket, now);
        self.compare("closed", &socket.0.to_string(), &effects, None);
        effects
    }

    pub fn received(&mut self, socket: Socket, message: &Value) -> Happened {
        let (now, chance) = (self.moment(), &mut self.chance);
        let node = self.node.as_mut().unwrap();
        let effects = node.received(socket, message, now, &mut || chance.uniform());
        let arguments = format!("{} {}", socket.0, encode(message));
        self.compare("received", &arguments, &effects, Some(message));
        effects
    }

    pub fn tick(&mut self) -> Happened {
        let (now, chance) = (self.moment(), &mut self.chance);
        let node = self.node.as_mut().unwrap();
        let effects = node.tick(now, &mut || chance.uniform());
        self.compare("tick", "", &effects, None);
        effects
    }

    pub fn propose(&mut self, command: &[u8], ticket: Option<u64>) -> Happened {
        let now = self.moment();
        let node = self.node.as_mut().unwrap();
        let effects = node.propose(command.into(), ticket, now);
        let asked = ticket.map_or("-".to_owned(), |ticket| ticket.to_string());
        let arguments = format!("{} {asked}", encode(&Value::bytes(command)));
        self.compare("propose", &arguments, &effects, None);
        effects
    }

    pub fn compact(&mut self) {
        self.node.as_mut().unwrap().force_compaction();
        self.compare("compact", "", &[], None);
    }

    fn count(&mut self, what: &str) {
        *self.seen.entry(what.to_owned()).or_default() += 1;
    }

    /// Sends the event to the real node and compares.
    fn compare(&mut self, verb: &str, arguments: &str, ours: &[Effect], shown: Option<&Value>) {
        let line = format!("{verb} {:?} {:?} {arguments}", self.now, 1.7e9 + self.now);
        self.history.push((line.clone(), shown.cloned()));
        let (mut theirs, changes) = self.real.ask(&line);
        if shown.is_some_and(|message| says(message, "transmission", "finish")) {
            theirs.iter_mut().for_each(unify_cut_pickle);
        }
        let mut differences = String::new();
        let ours: Vec<_> = ours.iter().map(effect_value).collect();
        let accepts = verb == "accept";
        if (!accepts && !same_list(&ours, &theirs)) || (accepts && !theirs.is_empty()) {
            let _ = writeln!(
                differences,
                "effects:\n ours   {ours:?}\n theirs {theirs:?}"
            );
        }
        for effect in &theirs {
            let words = effect.as_seq().unwrap();
            let kind = words[0].as_str().unwrap();
            let detail = match kind {
                "send" => words[2]
                    .get("type")
                    .and_then(Value::as_str)
                    .unwrap_or("other"),
                "raised" => words[1].as_str().unwrap(),
                _ => "",
            };
            self.count(&format!("{kind} {detail}"));
        }
        let dumped = changes.iter().any(|(name, _)| name == "dump");
        for (name, value) in &changes {
            if name == "state" {
                self.count(&format!("state {}", value.as_int().unwrap()));
            }
        }
        self.theirs.extend(changes);
        if let Some(node) = &self.node {
            for (name, ours) in everything(node, dumped) {
                let theirs = self.theirs.get(name);
                if theirs.is_none_or(|theirs| !same(&ours, theirs)) {
                    let _ = writeln!(differences, "{name}:\n ours   {ours:?}\n theirs {theirs:?}");
                }
            }
        }
        if !differences.is_empty() {
            let told = self.history.iter().map(|(line, message)| match message {
                Some(message) => format!("{line:.40} {message:?}\n"),
                None => format!("{line}\n"),
            });
            panic!("{differences}\nafter\n{}", told.collect::<String>());
        }
        // Compressors differ: from here on both have the same bytes.
        let files = self.node.as_ref().filter(|_| dumped).map(Node::files);
        if let Some(dump) = files.and_then(|files| files.dump) {
            self.count("dump");
            let dump = encode(&Value::Bytes(dump));
            self.real.ask(&format!("dump {:?} 0.0 {dump}", self.now));
        }
    }
}

/// The state with the files; the dump only if it is `dumped` anew.
fn everything(node: &Node, dumped: bool) -> Vec<(&'static str, Value)> {
    let files = node.files();
    let journal = files.journal.unwrap_or_default();
    let mut crc = Crc::new();
    crc.update(&journal);
    let number = |number: usize| Value::Int(i64::try_from(number).unwrap());
    let journal = [number(journal.len()), Value::Int(crc.sum().into())];
    let meta = files
        .meta
        .map_or(Value::None, |meta| pickle::decode(&meta).unwrap());
    let mut all = node.internals();
    all.push(("journal", Value::tuple(journal)));
    all.push(("meta", meta));
    if dumped {
        let dump = files.dump.map_or(Value::None, |dump| dump_value(&dump));
        all.push(("dump", dump));
    }
    all
}

/// What a dump holds, in an order of its own; its bytes if it is none.
fn dump_value(file: &[u8]) -> Value {
    let mut pickled = Vec::new();
    let inflated = GzDecoder::new(file).read_to_end(&mut pickled);
    let decoded = pickle::decode_within(&pickled, PickleCaps::SNAPSHOT);
    let (Ok(_), Ok(Value::Tuple(parts))) = (inflated, decoded) else {
        return Value::bytes(file);
    };
    let [
        Value::Dict(state),
        last,
        prev,
        Value::Set(members) | Value::List(members),
    ] = &*parts
    else {
        return Value::bytes(file);
    };
    let mut state = state.to_vec();
    state.sort_by_key(|(name, _)| name.as_str().map(str::to_owned));
    let mut members: Vec<_> = members
        .iter()
        .map(|member| match member {
            Value::Node(id) => id.clone(),
            other => panic!("{other:?} is no member"),
        })
        .collect();
    members.sort();
    Value::tuple([
        Value::Dict(state.into()),
        last.clone(),
        prev.clone(),
        Value::list(members.into_iter().map(Value::Str)),
    ])
}

fn effect_value(effect: &Effect) -> Value {
    let number = |number: u64| Value::Int(i64::try_from(number).unwrap());
    match effect {
        Effect::Dial { socket, to } => Value::tuple([
            Value::str("dial"),
            number(socket.0),
            Value::str(Address::as_str(to)),
        ]),
        Effect::Send { socket, message } => {
            Value::tuple([Value::str("send"), number(socket.0), message.clone()])
        }
        Effect::Close { socket } => Value::tuple([Value::str("close"), number(socket.0)]),
        Effect::Done { ticket, outcome } => {
            let (error, result) = match outcome {
                Ok(result) => (0, result.clone()),
                Err(error) => (error.code(), Value::None),
            };
            let (ticket, error) = (number(*ticket), number(error.into()));
            Value::tuple([Value::str("done"), ticket, error, result])
        }
        Effect::Raised(Raised(name)) => Value::tuple([Value::str("raised"), Value::str(name)]),
    }
}

fn says(message: &Value, field: &str, word: &str) -> bool {
    message.get(field).and_then(Value::as_str) == Some(word)
}

/// Where a pickle is cut decides which class Python raises for it.
fn unify_cut_pickle(effect: &mut Value) {
    const CUT: [&str; 4] = ["EOFError", "UnpicklingError", "IndexError", "error"];
    if let Some([kind, name]) = effect.as_seq()
        && kind.as_str() == Some("raised")
        && name.as_str().is_some_and(|name| CUT.contains(&name))
    {
        *effect = Value::tuple([Value::str("raised"), Value::str("EOFError")]);
    }
}

fn same_list(ours: &[Value], theirs: &[Value]) -> bool {
    ours.len() == theirs.len()
        && ours
            .iter()
            .zip(theirs)
            .all(|(ours, theirs)| same(ours, theirs))
}

/// Alike in type and value; dicts of messages and replies in any order.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Tuple(a), Value::Tuple(b)) | (Value::List(a), Value::List(b)) => same_list(a, b),
        (Value::Dict(a), Value::Dict(b)) => {
            let found = |(key, ours): &(Value, Value)| {
                let mut pairs = b.iter();
                let pair = pairs.find(|(other, _)| other.py_eq(key));
                pair.is_some_and(|(_, theirs)| same(ours, theirs))
            };
            a.len() == b.len() && a.iter().all(found)
        }
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Str(a), Value::Str(b)) | (Value::Node(a), Value::Node(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        // Sets, wide integers, and what differs in type.
        _ => encode(ours) == encode(theirs),
    }
}
