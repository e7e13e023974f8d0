//! Being PID 1 on a board of one's own: the whole of its user space is this
//! program. It sets the machine up, keeps the witness running as a process below
//! it, and says in plain sentences what is amiss.
//!
//! * [`mounts`], [`modules`], [`console`], [`power`]: the machine;
//! * [`data`]: the data partition, recreated when it is damaged;
//! * [`network`], [`netlink`], [`dhcp`]: an address;
//! * [`clock`], [`sntp`]: the wall clock, for the log alone;
//! * [`witness`]: the process that votes;
//! * [`watchdog`]: the hardware's, fed while that one makes progress;
//! * [`notes`], [`page`]: what is shown of all this.
//!
//! Nothing here decides anything in a Raft group, and nothing here may end: PID 1
//! that ends is a kernel panic. What fails is said and tried again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{self, ApplianceConfig, Config, ConfigSource, Env, shown};
use crate::limits::BOARD_EVENTS_MAX;
use crate::logging;
use crate::machine;

pub mod clock;
pub mod console;
pub mod data;
pub mod dhcp;
pub mod modules;
pub mod mounts;
pub mod netlink;
pub mod network;
pub mod notes;
pub mod page;
pub mod power;
pub mod sntp;
pub mod watchdog;
pub mod witness;

use data::{Data, Mounted};
use notes::{Notes, Topic};
use page::Page;
use power::{EndRequest, Power};
use watchdog::{FeedPolicy, Watchdog};
use witness::WitnessProcess;

/// The configuration on the boot partition.
const FILE: &str = "pg-witness.json";

/// How often PID 1 looks around.
const TICK: Duration = Duration::from_secs(1);

/// How often what is missing is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long a board may take to find its card.
const CARD_PATIENCE: Duration = Duration::from_secs(60);

/// Whether this process is to be the appliance: called `init`, as the kernel calls
/// it. In a container it is PID 1 too, but by its own name.
pub fn is_called(argv0: &std::ffi::OsStr) -> bool {
    std::process::id() == 1
        && Path::new(argv0)
            .file_name()
            .is_some_and(|name| name == "init")
}

/// Runs the machine, for good.
pub fn main() -> ! {
    mounts::kernel();
    let console = console::start();
    logging::start(log::LevelFilter::Info);
    if let Err(error) = console {
        log::warn!("console: {error}");
    }
    log::info!(
        "pg-witness {} is PID 1, {} s after the kernel",
        env!("CARGO_PKG_VERSION"),
        since_the_kernel()
    );
    modules::load();
    let mut machine = Machine::new();
    loop {
        machine.look_around();
    }
}

/// What the machine has come to.
enum Stage {
    /// The boot partition is looked for.
    NoCard,
    /// Its configuration is refused; it is read again and again.
    Refused,
    /// The configuration is good; the data partition is looked for.
    NoData,
    /// The witness is kept running.
    Running,
}

/// All that PID 1 looks after, a field for each duty and what it was found to be last.
struct Machine {
    stage: Stage,
    notes: Arc<Notes>,
    known: Arc<network::KnownNetwork>,
    env: Env,
    networked: bool,
    page: Option<Page>,
    power: Power,
    buttons: bool,
    watchdog: Option<Watchdog>,
    data: Data,
    mounted: Option<Mounted>,
    witness: Option<WitnessProcess>,
    look_again: Instant,
    started: Instant,
    announced: bool,
    /// The number of the last event that was handed on.
    shown: u64,
}

impl Machine {
    fn new() -> Self {
        let now = Instant::now();
        let notes = Arc::new(Notes::default());
        let power = Power::default();
        power.listen();
        let witness = WitnessProcess::new(now);
        if let Err(error) = &witness {
            notes.say(
                Topic::Witness,
                format!("The witness cannot be started: {error}."),
            );
        }
        Self {
            stage: Stage::NoCard,
            notes,
            known: Arc::default(),
            env: Env::of_process().with(config::ON_A_BOARD, "1"),
            networked: false,
            page: None,
            power,
            buttons: false,
            watchdog: None,
            data: Data::default(),
            mounted: None,
            witness: witness.ok(),
            look_again: now,
            started: now,
            announced: false,
            shown: 0,
        }
    }

    /// One round: what ended, what is missing, what was asked for; and the
    /// watchdog, if all that is well.
    fn look_around(&mut self) {
        let now = Instant::now();
        self.reap(now);
        if now >= self.look_again {
            // Boot is a matter of fractions of a second, a card in the hand is not.
            let hurry = now.saturating_duration_since(self.started) < 4 * LOOK_AGAIN;
            self.look_again = now + if hurry { TICK / 10 } else { LOOK_AGAIN };
            self.advance(now);
        }
        if let Some(end) = self.power.asked() {
            self.end(end);
        }
        self.feed(now);
        self.show_events();
        let pause = match self.stage {
            Stage::Running => TICK,
            _ => TICK / 10,
        };
        match &mut self.witness {
            Some(witness) => witness.listen(pause),
            None => thread::sleep(pause),
        }
    }

    /// Has the witness show what has happened here.
    fn show_events(&mut self) {
        let events = logging::kept(BOARD_EVENTS_MAX);
        let last = events.last().map_or(0, |event| event.number);
        if std::mem::replace(&mut self.shown, last) == last {
            return;
        }
        if let Err(error) = machine::publish_events(Path::new(machine::EVENTS), &events) {
            log::debug!("{}: {error}", machine::EVENTS);
        }
    }

    fn feed(&mut self, now: Instant) {
        let policy = self
            .witness
            .as_ref()
            .map(WitnessProcess::policy)
            .unwrap_or_default();
        if matches!(policy, FeedPolicy::Progress(_)) && !self.announced {
            self.announced = true;
            let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
            log::info!(
                "the witness makes progress, {} s after the kernel; {} MB of memory in use",
                since_the_kernel(),
                memory_in_use(&memory).unwrap_or(0)
            );
        }
        if matches!(policy, FeedPolicy::Progress(_)) {
            self.notes.clear(Topic::Witness, "the witness is back");
        }
        if policy.feeds(now) {
            feed(&mut self.watchdog);
        }
    }

    /// Says why the witness ended, until it is back and makes progress; its page, while
    /// it is not there to serve it.
    fn reap(&mut self, now: Instant) {
        let Some(witness) = &mut self.witness else {
            return;
        };
        let Some(how) = witness.reap(now) else {
            return;
        };
        let sentence = notes::ended(&how, witness.due_in(now));
        self.notes.say(Topic::Witness, sentence);
        self.show_page();
    }

    fn advance(&mut self, now: Instant) {
        self.find_watchdog();
        // Their drivers come late.
        if !self.buttons && self.started.elapsed() > LOOK_AGAIN {
            self.buttons = true;
            self.power.find_buttons();
        }
        match self.stage {
            Stage::NoCard | Stage::Refused => self.read_card(),
            Stage::NoData => self.attach_data(),
            Stage::Running => self.keep_running(now),
        }
    }

    /// Boot partition and configuration. It is taken off again while it is no
    /// good, so that the card can be pulled out.
    fn read_card(&mut self) {
        // For a broken one, or for none.
        let before = self.networked;
        let file = Path::new(mounts::BOOT).join(FILE);
        match mounts::attach_boot() {
            None => return self.miss(Topic::Card, notes::NO_CARD),
            Some(Err(error)) => {
                return self.miss(Topic::Card, &format!("{} ({error})", notes::NO_CARD));
            }
            Some(Ok(device)) => {
                self.notes.clear(
                    Topic::Card,
                    &format!("the boot partition is {}", device.display()),
                );
            }
        }
        match self.configuration(&file) {
            // What was set up for a broken one is not taken back piece by piece.
            Ok(_) if before => {
                log::info!("the configuration is good now: starting again with it");
                mounts::detach_boot();
                self.end(EndRequest::Restart);
            }
            Ok(config) => {
                logging::set_level(config.log.level);
                self.set_up(config.appliance.unwrap_or_default());
                self.stage = Stage::NoData;
                self.look_again = self.started;
            }
            Err(error) => {
                let settings = config::appliance_alone(&file, &self.env);
                mounts::detach_boot();
                self.notes.say(Topic::Configuration, notes::refused(&error));
                self.set_up(settings);
                self.show_page();
                self.stage = Stage::Refused;
            }
        }
    }

    /// Reads it, and says it as the file is called on the card.
    fn configuration(&self, file: &Path) -> Result<Config, String> {
        let source = ConfigSource::named(Some(PathBuf::from(file)));
        let config = config::load(&source, &self.env);
        config.map_err(|error| error.to_string().replace(&file.display().to_string(), FILE))
    }

    fn attach_data(&mut self) {
        let watchdog = &mut self.watchdog;
        let attached = self.data.attach(|| feed(watchdog));
        match attached {
            Some(Ok(mounted)) => {
                let device = mounted.device.display();
                match mounted.recreated {
                    0 => self
                        .notes
                        .clear(Topic::Data, &format!("the data partition is {device}")),
                    count => self.notes.say(Topic::Data, notes::recreated(count)),
                }
                self.mounted = Some(mounted);
                self.stage = Stage::Running;
                self.look_again = self.started;
            }
            Some(Err(error)) => self.miss(Topic::Data, &format!("{} ({error}).", notes::NO_DATA)),
            None => self.miss(Topic::Data, &format!("{} (none found).", notes::NO_DATA)),
        }
    }

    /// Its driver may come late; a board without one says so.
    fn find_watchdog(&mut self) {
        if self.watchdog.is_some() {
            return;
        }
        self.watchdog = Watchdog::open();
        if self.watchdog.is_some() {
            self.notes.clear(Topic::Watchdog, "there is a watchdog");
        } else if self.started.elapsed() > LOOK_AGAIN {
            self.notes.say(Topic::Watchdog, notes::NO_WATCHDOG);
        }
    }

    fn keep_running(&mut self, now: Instant) {
        let damaged = |mounted: &Mounted| data::error_count(&mounted.device) > 0;
        if self.mounted.as_ref().is_some_and(damaged) {
            log::error!("the kernel has found the data partition damaged: taking it off");
            self.detach_data();
            self.look_again = now;
            return;
        }
        self.look_again = now + TICK;
        let Some(witness) = self.witness.as_mut().filter(|witness| witness.is_due(now)) else {
            return;
        };
        // Its port is the witness's now.
        self.page = None;
        let file = Path::new(mounts::BOOT).join(FILE);
        let lost = self
            .mounted
            .as_ref()
            .is_some_and(|mounted| mounted.recreated > 0);
        if let Err(error) = witness.start(&file, lost, now) {
            let sentence = format!("The witness cannot be started: {error}.");
            self.notes.say(Topic::Witness, sentence);
        }
    }

    /// Ends the witness and takes its data off.
    fn detach_data(&mut self) {
        let watchdog = &mut self.watchdog;
        if let Some(witness) = &mut self.witness {
            witness.end(|| feed(watchdog));
        }
        mounts::detach_data();
        self.mounted = None;
        // No witness runs without its data.
        self.stage = Stage::NoData;
    }

    /// Disks take a moment to appear; what is still missing then is said. Without
    /// a configuration the network is set up late: it would have to be undone.
    fn miss(&mut self, topic: Topic, sentence: &str) {
        let waited = self.started.elapsed();
        if waited > LOOK_AGAIN {
            self.notes.say(topic, sentence);
        }
        if waited > CARD_PATIENCE || (self.networked && waited > LOOK_AGAIN) {
            self.set_up(ApplianceConfig::default());
            self.show_page();
        }
    }

    fn show_page(&mut self) {
        if self.page.is_none() {
            let probe = config::ProbeConfig::default();
            self.page = Some(Page::serve(probe));
        }
    }

    /// Name, network and clock, once: from then on their threads go on by
    /// themselves.
    fn set_up(&mut self, settings: ApplianceConfig) {
        if std::mem::replace(&mut self.networked, true) {
            return;
        }
        if let Err(error) = rustix::system::sethostname(settings.hostname.as_bytes()) {
            log::warn!("hostname {}: {error}", shown(&settings.hostname));
        }
        let ntp = settings.ntp.clone();
        let (notes, known) = (self.notes.clone(), self.known.clone());
        self.spawn("network", move || network::run(&settings, &notes, &known));
        let (notes, known) = (self.notes.clone(), self.known.clone());
        self.spawn("clock", move || clock::run(&ntp, &notes, &known));
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) {
        let spawned: io::Result<_> = thread::Builder::new().name(name.into()).spawn(work);
        if let Err(error) = spawned {
            self.notes
                .say(Topic::Network, format!("No thread for {name}: {error}."));
        }
    }

    /// Ends the witness, takes the data partition off, and the machine with it.
    fn end(&mut self, end: EndRequest) {
        log::info!("ending: {end:?}");
        self.detach_data();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.disarm();
        }
        // The last lines are on their way to the console.
        thread::sleep(TICK / 4);
        power::end(end);
    }
}

fn feed(watchdog: &mut Option<Watchdog>) {
    if let Some(watchdog) = watchdog {
        watchdog.feed();
    }
}

/// Seconds since the kernel began, as it writes them itself.
fn since_the_kernel() -> String {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    uptime.split(' ').next().unwrap_or_default().to_owned()
}

/// What of the memory is neither free nor a cache that can be dropped, in megabytes.
/// `MemAvailable` would count in what the kernel keeps free.
fn memory_in_use(meminfo: &str) -> Option<u64> {
    let kib = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    let caches = kib("Cached:")?.checked_sub(kib("Shmem:")?)?;
    let unused = [
        kib("MemFree:")?,
        kib("Buffers:")?,
        kib("SReclaimable:")?,
        caches,
    ];
    let unused = unused.into_iter().fold(0, u64::saturating_add);
    let used = kib("MemTotal:")?.checked_sub(unused)?;
    Some(used.saturating_mul(1024) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_is_neither_free_nor_cache() {
        let meminfo = "MemTotal: 250000 kB\nMemFree: 190000 kB\nMemAvailable: 1 kB\n\
                       Buffers: 1000 kB\nCached: 10000 kB\nSwapCached: 7 kB\n\
                       Shmem: 5000 kB\nSReclaimable: 4000 kB\n";
        assert_eq!(memory_in_use(meminfo), Some(51));
        assert_eq!(memory_in_use(""), None);
        assert_eq!(memory_in_use(&meminfo.replace("190000", "many")), None);
        assert_eq!(memory_in_use(&meminfo.replace("190000", "990000")), None);
    }
}
