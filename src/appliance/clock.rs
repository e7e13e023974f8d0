//! The wall clock, for the log and the page alone: boards have no battery for it.
//! It is set from a time server, and as long as none has answered that is said.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_settime};

use super::network::KnownNetwork;
use super::notes::{self, Notes, Topic};
use super::sntp;
use crate::config::Ntp;
use crate::limits::SERVERS_MAX;

/// NTP's port.
const PORT: u16 = 123;

/// How long an answer is waited for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// From a round of questions without an answer to the next: doubling.
const AGAIN_MIN: Duration = Duration::from_secs(2);
const AGAIN_MAX: Duration = Duration::from_secs(64);

/// From one answer to the next question. Public servers ask for no more.
const KEEP: Duration = Duration::from_secs(1800);

/// Smaller differences are left: a step would put lines of the log out of order.
const STEP_MIN: Duration = Duration::from_millis(100);

/// How long after the last answer the clock is still trusted.
const TRUST: Duration = Duration::from_secs(86_400);

/// Keeps the clock as long as the machine runs.
pub fn run(config: &Ntp, notes: &Notes, known: &Arc<KnownNetwork>) {
    if *config == Ntp::Servers(Vec::new()) {
        notes.say(Topic::Clock, notes::TIME_OFF);
        return;
    }
    notes.say(Topic::Clock, notes::NO_TIME);
    let mut again = AGAIN_MIN;
    let mut answered = Instant::now();
    loop {
        if let Some(server) = servers(config, known).iter().find(|server| set(server)) {
            notes.clear(Topic::Clock, &format!("the clock is set, by {server}"));
            answered = Instant::now();
            again = AGAIN_MIN;
            std::thread::sleep(KEEP);
            continue;
        }
        if answered.elapsed() > TRUST {
            notes.say(Topic::Clock, notes::NO_TIME);
        }
        std::thread::sleep(again);
        again = (again * 2).min(AGAIN_MAX);
    }
}

/// Whom to ask, in order: the file's, else DHCP's and then the public pool.
fn servers(config: &Ntp, known: &KnownNetwork) -> Vec<String> {
    match config {
        Ntp::Servers(servers) => servers.clone(),
        Ntp::Automatic(pool) => {
            let named = known.ntp.lock().unwrap_or_else(PoisonError::into_inner);
            let named = named.iter().map(ToString::to_string);
            named.chain([(*pool).to_owned()]).collect()
        }
    }
}

/// Sets the clock by a server. Whether that was possible.
fn set(server: &str) -> bool {
    let attempt = || -> io::Result<()> {
        let addresses = (server, PORT).to_socket_addrs()?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses.take(SERVERS_MAX) {
            match ask(address) {
                Ok((time, at)) => return adjust(time, at),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    match attempt() {
        Ok(()) => true,
        Err(error) => {
            log::debug!("time server {server}: {error}");
            false
        }
    }
}

/// The time, and when it was so.
fn ask(server: SocketAddr) -> io::Result<(Duration, Instant)> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0_u16; 8].into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Answers from elsewhere are not even seen.
    socket.connect(server)?;
    socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    let nonce = rand::random::<u64>();
    let sent = Instant::now();
    socket.send(&sntp::question(nonce))?;
    let mut bytes = [0; 128];
    let count = socket.recv(&mut bytes)?;
    let now = Instant::now();
    let answer = bytes.get(..count).unwrap_or_default();
    let time = sntp::time(answer, nonce, now.saturating_duration_since(sent));
    time.map(|time| (time, now))
        .map_err(|why| io::Error::other(format!("{why:?}")))
}

fn adjust(time: Duration, at: Instant) -> io::Result<()> {
    let time = time + at.elapsed();
    let ours = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if ours.abs_diff(time) < STEP_MIN {
        return Ok(());
    }
    let timespec = Timespec {
        tv_sec: i64::try_from(time.as_secs()).map_err(io::Error::other)?,
        tv_nsec: time.subsec_nanos().into(),
    };
    clock_settime(ClockId::Realtime, timespec)?;
    log::info!(
        "the clock went from {} s to {} s since 1970",
        ours.as_secs(),
        time.as_secs()
    );
    Ok(())
}
