//! Who writes: one client that finds whoever leads, as Patroni does, and writes
//! through it on the real wire, one write after the other.
//!
//! What it knows for sure it writes down: a value is acknowledged when the leader
//! that appended it has committed it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use event_listener::Event;
use pg_witness::address::Address;
use pg_witness::ids::{Entry, EntryId};
use pg_witness::links::connection::Connection;
use pg_witness::links::{resolve, utility_client};
use pg_witness::reactor::{self, Timer, draw, rng, simulated};
use pg_witness::wire::message::{Append, AppendBody, ApplyOutcome, Hello, Message, NextNodeIdx};
use pg_witness::wire::utility::{MemberTarget, NodeState, UtilityRequest};
use pg_witness::wire::{Session, Value, command};
use rand::RngExt as _;

use crate::incidents::Incidents;
use crate::registry::{Held, Registry};

/// Keys that are written in turn.
const KEYS: u64 = 20;

/// The key that lives only while it is refreshed.
pub const LEASE: &str = "/service/demo/leader";

/// How long it lives.
pub const LEASE_TTL: Duration = Duration::from_secs(30);

/// How long all other keys live.
pub const FOR_EVER: Duration = Duration::from_secs(1_000_000);

/// How often it is refreshed.
const LEASE_REFRESH: Duration = Duration::from_secs(10);

/// How long a member may take to say whether it leads.
const STATUS_TIME: Duration = Duration::from_millis(500);

/// How long a change of members may take before it is tried again.
const CHANGE_TIME: Duration = Duration::from_secs(10);

/// How long a write may take before its fate counts as unknown.
const WRITE_TIME: Duration = Duration::from_secs(2);

/// What became of the writes of one key.
#[derive(Debug, Clone, Default)]
pub struct Fate {
    /// The last value that was acknowledged; 0 if none was.
    pub acknowledged: u64,
    /// Values whose fate is unknown: each may be written, and late too.
    pub unknown: BTreeSet<u64>,
}

impl Fate {
    /// Whether this value may be the one that is there.
    pub fn allows(&self, value: u64) -> bool {
        value == self.acknowledged || self.unknown.contains(&value)
    }
}

/// What all who write know.
#[derive(Default)]
pub struct History {
    values: Cell<u64>,
    pub keys: RefCell<BTreeMap<String, Fate>>,
    /// How many writes were acknowledged.
    pub acknowledged: Cell<u64>,
    /// When the last refresh of the lease was sent that was acknowledged, and at which
    /// index the log holds it.
    pub refreshed: Cell<Option<(Duration, u64)>>,
    /// When the last refresh was tried, acknowledged or not.
    pub tried_refresh: Cell<Option<Duration>>,
    /// Whether those write that are in the processes of members.
    pub writing: Cell<bool>,
    /// Whether to refresh the lease.
    pub refreshing: Cell<bool>,
}

impl History {
    /// A value that nobody has written.
    pub fn next_value(&self) -> u64 {
        self.values.set(self.values.get() + 1);
        self.values.get()
    }

    /// A write begins.
    pub fn begins(&self, key: &str, value: u64) {
        let mut keys = self.keys.borrow_mut();
        keys.entry(key.to_owned())
            .or_default()
            .unknown
            .insert(value);
    }

    /// A write was acknowledged. The writer of a key has one under way at a time.
    pub fn acknowledges(&self, key: &str, value: u64) {
        let mut keys = self.keys.borrow_mut();
        let fate = keys.entry(key.to_owned()).or_default();
        fate.unknown.remove(&value);
        fate.acknowledged = value;
        self.acknowledged.set(self.acknowledged.get() + 1);
    }

    /// All is quiet: what is there now is what the writes of unknown fate have come to.
    pub fn settles(&self, held: impl Fn(&str) -> u64) {
        for (key, fate) in self.keys.borrow_mut().iter_mut() {
            fate.acknowledged = held(key);
            fate.unknown.clear();
        }
    }
}

/// Writes for ever.
pub async fn run(reader: Rc<Reader>, members: Vec<Address>) {
    loop {
        if let Some(leader) = find_leader(&members).await
            && let Ok(stream) = resolve::connect(&leader).await
        {
            let session = Session::dial(Hello::ReadOnly, None, draw());
            let link = Link::new(Connection::new(stream, session), reader.clone(), &leader);
            // It comes and goes.
            let mut stays = !rng().random_bool(0.1);
            while stays && write(&reader.history, &link).await {
                let pause = rng().random_range(50..700);
                Timer::after(Duration::from_millis(pause)).await;
                stays = !rng().random_bool(0.02);
            }
            if !stays {
                link.is_shown_something().await;
            }
            link.connection.close();
        }
        Timer::after(Duration::from_millis(200)).await;
    }
}

/// Has a member added or removed, as an operator does: until that is done.
pub async fn change_members(members: Vec<Address>, who: Address, add: bool) {
    loop {
        if let Some(leader) = find_leader(&members).await {
            let target = MemberTarget::Address(who.clone());
            let request = if add {
                UtilityRequest::Add(target)
            } else {
                UtilityRequest::Remove(target)
            };
            let done = request.outcome(true);
            let answer = utility_client::ask(&leader, &[], request, CHANGE_TIME).await;
            if answer.is_some_and(|answer| answer.as_str() == Some(&done)) {
                return;
            }
        }
        Timer::after(Duration::from_secs(1)).await;
    }
}

async fn find_leader(members: &[Address]) -> Option<Address> {
    for member in members {
        let status = utility_client::ask_status(member, &[], STATUS_TIME).await;
        if status.is_ok_and(|status| status.state == NodeState::Leader) {
            return Some(member.clone());
        }
    }
    None
}

/// Writes the lease if it is due, else the next value. Whether it was acknowledged.
async fn write(history: &History, link: &Rc<Link>) -> bool {
    let now = simulated::passed();
    let tried = history.tried_refresh.get();
    let due = tried.is_none_or(|tried| now >= tried + LEASE_REFRESH);
    if history.refreshing.get() && due {
        history.tried_refresh.set(Some(now));
        let written = link.write(LEASE, history.next_value(), LEASE_TTL).await;
        if let Some(id) = written {
            history.refreshed.set(Some((now, id.index.get())));
        }
        return written.is_some();
    }
    let value = history.next_value();
    let key = format!("/service/demo/k{}", value % KEYS);
    history.begins(&key, value);
    let written = link.write(&key, value, FOR_EVER).await;
    if written.is_some() {
        history.acknowledges(&key, value);
    }
    written.is_some()
}

/// A read-only client, as Patroni's tools are: it keeps the leader's log as a PySyncObj
/// node does, over all its connections (spec 3.3).
pub struct Reader {
    history: Rc<History>,
    registry: Rc<Registry>,
    incidents: Rc<Incidents>,
    /// The term of each entry that it holds.
    log: RefCell<BTreeMap<i64, i64>>,
}

impl Reader {
    pub fn new(history: Rc<History>, registry: Rc<Registry>, incidents: Rc<Incidents>) -> Self {
        Self {
            history,
            registry,
            incidents,
            log: RefCell::default(),
        }
    }

    /// Takes what a leader sends; what to answer.
    fn take(&self, leader: IpAddr, prev: EntryId, entries: &[Entry]) -> NextNodeIdx {
        let prev = number(prev);
        let mut log = self.log.borrow_mut();
        let end = log.last_key_value().map(|(index, _)| *index);
        let begun = log
            .first_key_value()
            .is_some_and(|(first, _)| *first <= prev.0);
        if let Some(end) = end.filter(|end| begun && *end < prev.0) {
            return refused(end + 1);
        }
        if begun && log.get(&prev.0) != Some(&prev.1) {
            self.cut(&mut log, leader, prev.0);
            return refused(prev.0);
        }
        let entries: Vec<_> = entries.iter().map(|entry| number(entry.id)).collect();
        self.cut(&mut log, leader, prev.0 + 1);
        log.insert(prev.0, prev.1);
        log.extend(entries);
        let end = log.last_key_value().map_or(prev.0, |(index, _)| *index);
        NextNodeIdx {
            next: end + 1,
            reset: false,
            success: true,
        }
    }

    /// Deletes all entries from one on. A witness makes nobody cut what it holds (S3),
    /// even if it sends it again.
    fn cut(&self, log: &mut BTreeMap<i64, i64>, leader: IpAddr, from: i64) {
        let cut = log.split_off(&from);
        if !self.registry.is_witness(leader) {
            return;
        }
        let held = |(index, term): &(&i64, &i64)| {
            self.registry.held(leader, **index) == Held::Term(**term)
        };
        if let Some((index, term)) = cut.iter().find(held) {
            self.incidents.accuse(format!(
                "S3: the witness {leader} cut entry {index} of term {term} from a reader, which \
                 it holds"
            ));
        }
    }
}

/// Index and term as numbers.
fn number(id: EntryId) -> (i64, i64) {
    (id.index.get().cast_signed(), id.term.get().cast_signed())
}

const fn refused(next: i64) -> NextNodeIdx {
    NextNodeIdx {
        next,
        reset: true,
        success: false,
    }
}

/// A read-only client's connection.
struct Link {
    connection: Rc<Connection>,
    reader: Rc<Reader>,
    leader: IpAddr,
    over: Cell<bool>,
    /// What the leader has shown: its term, and how far it has committed.
    shown: Cell<(u64, u64)>,
    outcome: Cell<Option<(i64, ApplyOutcome)>>,
    request: Cell<i64>,
    news: Event,
}

impl Link {
    fn new(connection: Rc<Connection>, reader: Rc<Reader>, leader: &Address) -> Rc<Self> {
        let link = Rc::new(Self {
            connection,
            reader,
            leader: leader.host().parse().unwrap(),
            over: Cell::new(false),
            shown: Cell::new((0, 0)),
            outcome: Cell::new(None),
            request: Cell::new(0),
            news: Event::new(),
        });
        let served = link.clone();
        reactor::spawn(async move {
            let handle = |value| {
                served.on_value(&value);
                std::future::ready(())
            };
            served.connection.serve(handle).await;
            served.over.set(true);
            served.news.notify(usize::MAX);
        })
        .detach();
        link
    }

    fn on_value(&self, value: &Value) {
        match Message::decode(value).unwrap() {
            Message::AppendEntries(append) => self.on_append(&append),
            Message::ApplyCommandResponse {
                request_id,
                outcome,
            } => self.outcome.set(Some((request_id, outcome))),
            _ => {}
        }
        self.news.notify(usize::MAX);
    }

    fn on_append(&self, append: &Append) {
        self.shown.set((append.term.get(), append.commit.get()));
        match &append.body {
            AppendBody::Entries {
                prev: Some(prev),
                entries,
            } => {
                let answer = self.reader.take(self.leader, *prev, entries);
                self.connection.send(&Message::NextNodeIdx(answer));
            }
            // What it wants was compacted: it begins anew.
            AppendBody::Snapshot(Some(_)) => {
                self.reader.log.borrow_mut().clear();
                self.connection.close();
            }
            _ => {}
        }
    }

    /// Resolves at the first append, or when it is clear that none comes.
    async fn is_shown_something(&self) {
        let shown = async {
            while self.shown.get() == (0, 0) && !self.over.get() {
                self.news.listen().await;
            }
        };
        let late = async {
            Timer::after(STATUS_TIME).await;
        };
        smol::future::or(shown, late).await;
    }

    /// Where the value is committed; none if that is not known.
    async fn write(&self, key: &str, value: u64, ttl: Duration) -> Option<EntryId> {
        let written = async {
            let request = self.request.get() + 1;
            self.request.set(request);
            self.connection.send(&Message::ApplyCommand {
                command: set(key, value, ttl),
                request_id: Some(request),
            });
            let mut appended = None;
            loop {
                let news = self.news.listen();
                match self.outcome.take() {
                    Some((id, ApplyOutcome::Appended(at))) if id == request => appended = Some(at),
                    Some((id, _)) if id == request => return None,
                    _ => {}
                }
                let (term, commit) = self.shown.get();
                // The leader that appended it holds it until it is overwritten by
                // another, of a greater term.
                let id: Option<EntryId> = appended;
                let committed = |id: &EntryId| term == id.term.get() && commit >= id.index.get();
                if let Some(id) = id.filter(committed) {
                    return Some(id);
                }
                if self.over.get() {
                    return None;
                }
                news.await;
            }
        };
        let late = async {
            Timer::after(WRITE_TIME).await;
            None
        };
        smol::future::or(written, late).await
    }
}

/// A value as Patroni sets it.
pub fn set(key: &str, value: u64, ttl: Duration) -> std::sync::Arc<[u8]> {
    let now = 1_767_225_600.0 + simulated::passed().as_secs_f64();
    let value = Value::dict([
        ("value", Value::str(&value.to_string())),
        ("created", Value::Float(now)),
        ("updated", Value::Float(now)),
        ("expire", Value::Float(now + ttl.as_secs_f64())),
    ]);
    match Value::str(key) {
        Value::Str(key) => command::set(&key, &value, &[]),
        _ => unreachable!(),
    }
}
