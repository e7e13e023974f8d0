//! Real members in this process, each test with loopback addresses, a folder and
//! an executor of its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::config::{
    Bind, Bootstrap, ClusterConfig, Commands, Election, PlacementConfig, Timing,
};
use pg_witness::disk::{Faults, Worker};
use pg_witness::links::utility_client::ask;
use pg_witness::member::{Member, offline};
use pg_witness::reactor::{self, Instant};
use pg_witness::wire::utility::{MembersReply, NodeState, StatusReply, UtilityRequest};
use pg_witness::wire::{Key, Value};

/// Longest that anything here may take, on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Runs a test on this thread's executor.
pub fn run(test: impl Future<Output = ()>) {
    LOGGER.get_or_init(|| {
        log::set_boxed_logger(Box::new(Lines)).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
    reactor::block_on(test);
}

static LOGGER: OnceLock<()> = OnceLock::new();

thread_local! {
    /// A test has a thread of its own, and its members' lines are those of no other.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what the members log, and shows it when a test fails.
struct Lines;

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("pg_witness")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {}", record.level(), record.args());
            println!("{line}");
            LINES.with_borrow_mut(|lines| lines.push(line));
        }
    }

    fn flush(&self) {}
}

/// `N` addresses that no other test uses, in ascending order: the later one
/// dials the earlier. All of 127.0.0.0/8 is this machine; the process id keeps
/// test runs apart.
pub fn addresses<const N: usize>() -> [Address; N] {
    // Addresses are compared as texts, so all have as many digits.
    const FIRST_HOST: u32 = 100;
    const HOSTS: u32 = 150;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let taken = u32::try_from(N).unwrap();
    // Those of one call share a port, so that their order is that of their hosts.
    let next = |first: u32| {
        let fits = first % HOSTS + taken <= HOSTS;
        if fits {
            first
        } else {
            first.next_multiple_of(HOSTS)
        }
    };
    let update = |first: u32| Some(next(first) + taken);
    let first = NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    let first = next(first.unwrap());
    let port = 5010 + first / HOSTS;
    let net = (1 + (pid >> 8) % 254, pid & 0xff);
    std::array::from_fn(|n| {
        let host = FIRST_HOST + first % HOSTS + u32::try_from(n).unwrap();
        format!("127.{}.{}.{host}:{port}", net.0, net.1)
            .parse()
            .unwrap()
    })
}

#[test]
fn addresses_ascend_as_the_wire_compares_them() {
    for _ in 0..100 {
        assert!(addresses::<2>().is_sorted() && addresses::<3>().is_sorted());
    }
}

/// Times short enough for a test and long enough for a busy machine.
pub fn quick() -> Timing {
    let ms = Duration::from_millis;
    Timing {
        append_entries_period: ms(50),
        min_timeout: ms(300),
        max_timeout: ms(700),
        connection_timeout: ms(2_000),
        connection_retry_time: ms(100),
        leader_fallback_timeout: ms(1_500),
        ..Timing::default()
    }
}

/// What the members of one test share.
pub struct Rig {
    folder: tempfile::TempDir,
    pub worker: Worker,
    pub faults: Faults,
}

impl Rig {
    pub fn new() -> Self {
        let faults = Faults::default();
        Self {
            folder: tempfile::tempdir().unwrap(),
            worker: Worker::start_with(faults.clone()).unwrap(),
            faults,
        }
    }

    /// A member's configuration: equal among equals, its state empty.
    pub fn config(&self, me: &Address, partners: &[&Address]) -> ClusterConfig {
        ClusterConfig {
            name: me.host().into(),
            self_addr: me.clone(),
            bind_addr: Some(Bind {
                host: me.host().into(),
                port: me.port(),
            }),
            partner_addrs: partners.iter().map(|a| (*a).clone()).collect(),
            data_dir: self.folder.path().join(me.host()),
            password: None,
            password_file: None,
            bootstrap: Bootstrap::Unset,
            election: Election::Equal,
            timing: quick(),
            placement: PlacementConfig::default(),
            allow_from: Vec::new(),
            commands: Commands::default(),
        }
    }

    /// A member whose vote counts from the start: its folder, if it has none, holds
    /// the empty state of a voter.
    pub fn voter(&self, me: &Address, partners: &[&Address]) -> ClusterConfig {
        let config = ClusterConfig {
            bootstrap: Bootstrap::New,
            ..self.config(me, partners)
        };
        if !config.data_dir.exists() {
            smol::block_on(offline::adopt(&config, &self.worker)).unwrap();
        }
        config
    }

    pub async fn start(&self, config: ClusterConfig) -> Running {
        self.start_with(config, Vec::new()).await
    }

    pub async fn start_with(&self, config: ClusterConfig, keys: Vec<Arc<Key>>) -> Running {
        let address = config.self_addr.clone();
        let member = Member::start(config, keys.clone(), &self.worker)
            .await
            .unwrap();
        let task = reactor::spawn(member.clone().run());
        Running {
            address,
            keys,
            member,
            task: RefCell::new(Some(task)),
        }
    }
}

/// A member that runs.
pub struct Running {
    pub address: Address,
    keys: Vec<Arc<Key>>,
    pub member: Rc<Member>,
    task: RefCell<Option<smol::Task<()>>>,
}

impl Running {
    /// Ends it; its links are gone when this returns.
    pub async fn stop(&self) {
        self.member.stop();
        let task = self.task.borrow_mut().take();
        in_time("stopping", task.unwrap()).await;
    }

    /// The lines of its log that hold `what`.
    pub fn logged(&self, what: &str) -> Vec<String> {
        let name = format!(" {}: ", self.address.host());
        let about = |line: &&String| line.contains(&name) && line.contains(what);
        LINES.with_borrow(|lines| lines.iter().filter(about).cloned().collect())
    }

    /// Asks it, as an operator would.
    pub async fn ask(&self, request: UtilityRequest) -> Option<Value> {
        ask(&self.address, &self.keys, request, Duration::from_secs(15)).await
    }

    pub async fn status(&self) -> Option<StatusReply> {
        StatusReply::decode(&self.ask(UtilityRequest::Status).await?).ok()
    }

    /// Waits until its status satisfies `wanted`.
    pub async fn shows(&self, what: &str, wanted: impl Fn(&StatusReply) -> bool) -> StatusReply {
        let shown = Rc::new(RefCell::new(None));
        let poll = async {
            loop {
                let status = self.status().await;
                if let Some(status) = status.clone().filter(&wanted) {
                    return Some(status);
                }
                *shown.borrow_mut() = status;
                pg_witness::reactor::Timer::after(Duration::from_millis(20)).await;
            }
        };
        let end = async {
            pg_witness::reactor::Timer::after(LIMIT).await;
            None
        };
        smol::future::or(poll, end)
            .await
            .unwrap_or_else(|| panic!("{} never shows {what}: {:?}", self.address, shown.borrow()))
    }

    /// Waits until it has no link to a member.
    pub async fn loses(&self, peer: &Address) {
        let lost = |status: &StatusReply| {
            let mut partners = status.partners.iter();
            partners.any(|partner| partner.address == *peer && !partner.connected)
        };
        self.shows("a lost link", lost).await;
    }

    /// The members as it tells them.
    pub async fn members(&self) -> Vec<Address> {
        let reply = self.ask(UtilityRequest::Members).await.unwrap();
        let mut members: Vec<Address> = MembersReply::decode(&reply)
            .unwrap()
            .0
            .into_iter()
            .map(|member| member.address)
            .collect();
        members.sort();
        members
    }
}

/// Waits for a condition, asked every few milliseconds.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    in_time(what, async {
        while !condition().await {
            pg_witness::reactor::Timer::after(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// What must happen within [`LIMIT`].
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = async {
        pg_witness::reactor::Timer::after(LIMIT).await;
        panic!("never: {what}");
    };
    smol::future::or(future, limit).await
}

/// Waits until all of `members` name one of themselves as leader, all the same
/// one; returns it.
pub async fn leader_of<'a>(members: &[&'a Running]) -> &'a Running {
    let found = RefCell::new(None);
    until("one leader", async || {
        let mut named = Vec::new();
        for member in members {
            let status = member.status().await;
            named.push(status.and_then(|status| status.leader));
        }
        let first = named[0].clone();
        let all = first.is_some() && named.iter().all(|name| *name == first);
        let leader = members.iter().find(|m| Some(&m.address) == first.as_ref());
        if let Some(leader) = leader.filter(|_| all) {
            let leads = leader.status().await.map(|s| s.state) == Some(NodeState::Leader);
            *found.borrow_mut() = leads.then_some(*leader);
        }
        found.borrow().is_some()
    })
    .await;
    found.take().unwrap()
}

/// What is expected not to happen while `time` passes.
pub async fn during(time: Duration, mut check: impl AsyncFnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        check().await;
        pg_witness::reactor::Timer::after(Duration::from_millis(20)).await;
    }
}
