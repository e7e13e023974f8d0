//! The witness as a process of its own, below PID 1: this program again, as
//! `pg-witness run`, with the rights of an ordinary user. A panic of its own is
//! not the kernel's, and it is back in a fraction of a second, where a board takes
//! twenty. It tells how it is by systemd's protocol, as under systemd.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::mounts::WITNESS_ID;
use super::watchdog::{PATIENCE, Policy};
use crate::config::appliance::VARIABLE;

/// The name, in Linux's abstract space, at which news of the witness are heard:
/// there are no permissions to get wrong, and nobody else on this machine.
const NEWS: &str = "pg-witness-pid1";

/// First and longest pause before a witness that ended is started again.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// One that ran for so long did not fail at its start.
const STEADY: Duration = Duration::from_secs(120);

/// How long it may take to end when it is told to.
const END_TIME_MAX: Duration = Duration::from_secs(10);

/// The process, its news, and when it is started again.
pub struct Witness {
    news: UnixDatagram,
    running: Option<(Pid, Instant)>,
    policy: Policy,
    pauses: Pauses,
    next: Instant,
}

impl Witness {
    /// Nothing runs yet.
    ///
    /// # Errors
    /// There is no socket to be had.
    pub fn new(now: Instant) -> io::Result<Self> {
        Ok(Self {
            news: UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(NEWS)?)?,
            running: None,
            policy: Policy::Unwatched,
            pauses: Pauses::default(),
            next: now,
        })
    }

    /// Whether it has a process.
    pub fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the hardware watchdog is to be fed for its sake.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Starts it if it does not run and it is time to.
    pub fn keep_running(&mut self, config: &Path, now: Instant) -> io::Result<()> {
        if self.running.is_some() || now < self.next {
            return Ok(());
        }
        self.next = now + self.pauses.next();
        let child = Command::new("/proc/self/exe")
            .arg0("pg-witness")
            .arg("run")
            .arg(config)
            .env("NOTIFY_SOCKET", format!("@{NEWS}"))
            .env("WATCHDOG_USEC", PATIENCE.as_micros().to_string())
            .env(VARIABLE, "1")
            .uid(WITNESS_ID)
            .gid(WITNESS_ID)
            .current_dir("/")
            .stdin(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        self.running = pid.map(|pid| (pid, now));
        self.policy = Policy::Starting(now);
        Ok(())
    }

    /// Waits for news of it, at most so long.
    pub fn listen(&mut self, limit: Duration) {
        let mut bytes = [0; 512];
        if self.news.set_read_timeout(Some(limit)).is_err() {
            std::thread::sleep(limit);
            return;
        }
        let Ok(count) = self.news.recv(&mut bytes) else {
            return;
        };
        let news = bytes.get(..count).unwrap_or_default();
        if self.running.is_some() && is_sign_of_life(news) {
            self.policy = Policy::Progress(Instant::now());
        }
    }

    /// Collects every process that has ended. How the witness did, if it is one of
    /// them.
    pub fn reap(&mut self, now: Instant) -> Option<String> {
        let mut fate = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some((_, since)) = self.running.filter(|(witness, _)| *witness == pid) else {
                continue;
            };
            self.running = None;
            self.policy = Policy::Unwatched;
            if now.saturating_duration_since(since) > STEADY {
                self.pauses = Pauses::default();
            }
            self.next = self.next.min(now + AGAIN_MAX);
            fate = Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (_, Some(signal)) => format!("signal {signal}"),
                _ => "no status".into(),
            });
        }
        fate
    }

    /// Ends it in good order, or, when that takes too long, at once.
    pub fn end(&mut self, mut meanwhile: impl FnMut()) {
        for signal in [Signal::TERM, Signal::KILL] {
            let Some((pid, _)) = self.running else { return };
            let _ = kill_process(pid, signal);
            let deadline = Instant::now() + END_TIME_MAX;
            while self.runs() && Instant::now() < deadline {
                meanwhile();
                self.listen(Duration::from_millis(50));
                self.reap(Instant::now());
            }
        }
    }
}

/// Doubling pauses.
#[derive(Debug, Default)]
struct Pauses(u32);

impl Pauses {
    fn next(&mut self) -> Duration {
        let pause = AGAIN_MIN.saturating_mul(1 << self.0.min(8)).min(AGAIN_MAX);
        self.0 = self.0.saturating_add(1);
        pause
    }
}

fn is_sign_of_life(news: &[u8]) -> bool {
    let mut lines = news.split(|byte| *byte == b'\n');
    lines.any(|line| line == b"WATCHDOG=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_watchdogs_own_word_is_a_sign_of_life() {
        assert!(is_sign_of_life(b"WATCHDOG=1"));
        assert!(is_sign_of_life(b"STATUS=well\nWATCHDOG=1\n"));
        assert!(!is_sign_of_life(b"READY=1"));
        assert!(!is_sign_of_life(b"STATUS=WATCHDOG=1"));
        assert!(!is_sign_of_life(b"WATCHDOG=trigger"));
    }

    #[test]
    fn a_witness_that_fails_is_started_again_ever_more_slowly() {
        let mut pauses = Pauses::default();
        let seconds: Vec<u64> = (0..9).map(|_| pauses.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
