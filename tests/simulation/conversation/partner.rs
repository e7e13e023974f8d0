//! The partner in the conversation: the network, the other members, clients and
//! the operator, all from one seed.

use std::collections::BTreeMap;
use std::path::Path;

use pg_witness::address::Address;
use pg_witness::wire::Value;

use super::dice::Dice;
use super::messages;
use super::pair::{Happened, Pair};
use super::real::Real;
use crate::pysyncobj::{Config, Effect, Host, Node, Socket, State, Version};

const EVENTS: usize = 120;

/// What is at the other end of a socket.
#[derive(Debug, Clone, PartialEq)]
enum End {
    /// The node dials.
    Dialled,
    /// A member or read-only client that has said who it is.
    Known,
    /// Somebody who has said nothing yet, or asks.
    Unknown,
}

struct Partner<'a> {
    pair: Pair<'a>,
    dice: Dice,
    config: Config,
    sockets: BTreeMap<Socket, End>,
    /// Parts of one message that are still to come.
    pending: Vec<(Socket, Value)>,
    clients: usize,
    tickets: u64,
}

/// Has one conversation; what happened in it, and how often. A difference panics
/// and tells the whole of it.
pub fn converse(version: Version, real: &mut Real, seed: u64) -> BTreeMap<String, u32> {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice(seed.wrapping_mul(0x1234_5678_9abc_def1));
    let config = config(version, &mut dice);
    let mut partner = Partner {
        pair: Pair::new(real, Path::new(folder.path())),
        dice,
        config,
        sockets: BTreeMap::new(),
        pending: Vec::new(),
        clients: 0,
        tickets: 0,
    };
    partner.start(&[]);
    for _ in 0..EVENTS {
        partner.step();
    }
    partner.pair.seen
}

fn config(version: Version, dice: &mut Dice) -> Config {
    let all = messages::universe();
    let address = dice.pick(&all);
    let mut members = all;
    members.retain(|member| *member != address);
    while members.len() > dice.pick(&[2, 2, 2, 1, 3]) {
        let place = dice.below(members.len());
        members.remove(place);
    }
    let mut config = Config::new(version, address, members);
    // Exceptions end the event and not the conversation.
    config.host = Host::Controller;
    config.dump_s = 0.0625;
    // A round of appends is over after a dozen messages.
    config.send_s = 1.0 / 128.0;
    config.chunk_bytes = dice.pick(&[1 << 16, 100]);
    config.append_bytes = dice.pick(&[1 << 16, 300, 900]);
    config.queue_max = dice.pick(&[100_000, 3, 1]);
    config.compaction_entries = dice.pick(&[5000, 12]);
    config.compaction_s = dice.pick(&[300.0, 2.0]);
    config
}

impl Partner<'_> {
    fn node(&self) -> &Node {
        self.pair.node.as_ref().unwrap()
    }

    fn start(&mut self, lost: &[&'static str]) {
        self.sockets.clear();
        self.pending.clear();
        self.clients = 0;
        let seed = self.dice.roll();
        self.pair.start(self.config.clone(), lost, seed);
        if self.pair.node.is_none() {
            // A torn journal: only a new one helps.
            self.start(&["journal"]);
        }
    }

    /// Takes note of what the node did with its sockets.
    fn note(&mut self, happened: Happened) {
        for effect in happened {
            match effect {
                Effect::Dial { socket, .. } => {
                    self.sockets.insert(socket, End::Dialled);
                }
                Effect::Close { socket } => {
                    self.sockets.remove(&socket);
                }
                Effect::Send { .. } | Effect::Done { .. } | Effect::Raised(_) => {}
            }
        }
    }

    fn any(&mut self, end: &End) -> Option<Socket> {
        let sockets = self.sockets.iter().filter(|(_, is)| *is == end);
        let sockets: Vec<_> = sockets.map(|(socket, _)| *socket).collect();
        (!sockets.is_empty()).then(|| self.dice.pick(&sockets))
    }

    fn step(&mut self) {
        if self.node().log().is_empty() {
            // A dump that was begun before a truncation removed all of it: the node
            // raises at every turn.
            let happened = self.pair.tick();
            self.note(happened);
            return self.start(&[]);
        }
        let pass = match self.node().state() {
            _ if self.dice.one_in(60) => self.dice.pick(&[5.0, 4.0, 31.0]),
            State::Leader => self.dice.pick(&[0.0, 0.015625, 0.0625, 0.125]),
            _ => self.dice.pick(&[0.0, 0.015625, 0.125, 0.5, 1.0]),
        };
        self.pair.now += pass;
        if !self.pending.is_empty() && !self.dice.one_in(8) {
            let (socket, message) = self.pending.remove(0);
            return self.receive(socket, &message);
        }
        let kinds = [
            (34, Step::Tick),
            (10, Step::Connect),
            (40, Step::Message),
            (6, Step::Propose),
            (5, Step::Ask),
            (2, Step::Close),
            (1, Step::Compact),
            (1, Step::Restart),
        ];
        match self.dice.weighted(&kinds) {
            Step::Tick => {
                let happened = self.pair.tick();
                self.note(happened);
            }
            Step::Connect => self.connect(),
            Step::Message => self.message(),
            Step::Propose => {
                let wall = 1.7e9 + self.pair.now;
                let node = self.pair.node.as_ref().unwrap();
                let command = messages::command(&mut self.dice, node, wall);
                self.tickets += 1;
                let ticket = (!self.dice.one_in(6)).then_some(self.tickets);
                let happened = self.pair.propose(&command, ticket);
                self.note(happened);
            }
            Step::Ask => {
                let socket = match self.any(&End::Unknown) {
                    Some(socket) if self.dice.one_in(2) => socket,
                    _ => self.accept(),
                };
                let request = messages::utility(&mut self.dice);
                self.receive(socket, &request);
            }
            Step::Close => {
                let ends = [End::Dialled, End::Known, End::Unknown];
                let end = self.dice.pick(&ends);
                if let Some(socket) = self.any(&end) {
                    self.sockets.remove(&socket);
                    let happened = self.pair.closed(socket);
                    self.note(happened);
                }
            }
            Step::Compact => self.pair.compact(),
            Step::Restart => {
                let lost = self.dice.pick(&[
                    &[][..],
                    &[],
                    &[],
                    &["journal"],
                    &["meta"],
                    &["dump"],
                    &["journal", "meta", "dump"],
                    &["torn"],
                ]);
                self.start(lost);
            }
        }
    }

    fn accept(&mut self) -> Socket {
        let socket = self.pair.accept();
        self.sockets.insert(socket, End::Unknown);
        socket
    }

    fn receive(&mut self, socket: Socket, message: &Value) {
        let happened = self.pair.received(socket, message);
        self.note(happened);
    }

    /// A dial comes to an end, or somebody connects and says who it is.
    fn connect(&mut self) {
        if let Some(socket) = self.any(&End::Dialled)
            && !self.dice.one_in(6)
        {
            let happened = if self.dice.one_in(6) {
                self.sockets.remove(&socket);
                self.pair.closed(socket)
            } else {
                self.sockets.insert(socket, End::Known);
                self.pair.established(socket)
            };
            return self.note(happened);
        }
        let socket = self.accept();
        if self.dice.one_in(20) {
            return;
        }
        let hello = match self.dice.below(12) {
            0 if self.clients < 3 => {
                self.clients += 1;
                Value::str("readonly")
            }
            1 => Value::str("10.9.9.9:1"),
            2 => self
                .dice
                .pick(&[Value::Int(5), Value::None, Value::tuple([])]),
            3 if self.dice.one_in(4) => Value::dict([]),
            4 => Value::str(self.dice.pick(&messages::universe()).as_str()),
            _ => {
                let members: Vec<Address> = self.node().members().cloned().collect();
                match members.as_slice() {
                    [] => Value::str("10.9.9.9:1"),
                    members => Value::str(self.dice.pick(members).as_str()),
                }
            }
        };
        self.sockets.insert(socket, End::Known);
        self.receive(socket, &hello);
    }

    fn message(&mut self) {
        let Some(socket) = self.any(&End::Known) else {
            return self.connect();
        };
        let wall = 1.7e9 + self.pair.now;
        let node = self.pair.node.as_ref().unwrap();
        let follows = node.state() == State::Follower;
        let dice = &mut self.dice;
        let parts = match dice.below(25) {
            0 if follows => messages::snapshot(dice, node, wall),
            1 if follows => messages::fragments(dice, node, wall),
            _ => {
                let replies = node.internals();
                let replies = replies.iter().find(|(name, _)| *name == "replies");
                let replies = replies
                    .and_then(|(_, ids)| ids.as_seq())
                    .unwrap_or_default();
                let replies: Vec<_> = replies.iter().filter_map(Value::as_int).collect();
                vec![messages::from_peer(dice, node, wall, &replies)]
            }
        };
        self.pending = parts.into_iter().map(|part| (socket, part)).collect();
        let (socket, message) = self.pending.remove(0);
        self.receive(socket, &message);
    }
}

#[derive(Clone, Copy)]
enum Step {
    Tick,
    Connect,
    Message,
    Propose,
    Ask,
    Close,
    Compact,
    Restart,
}
