//! The witness as a process of its own, below PID 1: this program again, as
//! `pg-witness run`, with the rights of an ordinary user. A panic of its own is
//! not the kernel's, and it is back in a fraction of a second, where a board takes
//! twenty. It tells how it is by systemd's protocol, as under systemd.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::mounts::WITNESS_ID;
use super::watchdog::{FeedPolicy, PATIENCE};
use crate::config::ON_A_BOARD;
use crate::limits::CONSOLE_LINE_BYTES_MAX;

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
pub struct WitnessProcess {
    news: UnixDatagram,
    running: Option<(Pid, Instant)>,
    /// Passes on what it logs, and ends with it.
    log: Option<JoinHandle<String>>,
    policy: FeedPolicy,
    pauses: Pauses,
    next: Instant,
}

impl WitnessProcess {
    /// Nothing runs yet.
    ///
    /// # Errors
    /// There is no socket to be had.
    pub fn new(now: Instant) -> io::Result<Self> {
        Ok(Self {
            news: UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(NEWS)?)?,
            running: None,
            log: None,
            policy: FeedPolicy::Unwatched,
            pauses: Pauses::default(),
            next: now,
        })
    }

    /// Whether it has a process.
    pub fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the hardware watchdog is to be fed for its sake.
    pub fn policy(&self) -> FeedPolicy {
        self.policy
    }

    /// Whether it is time to start it.
    pub fn is_due(&self, now: Instant) -> bool {
        self.running.is_none() && now >= self.next
    }

    /// How long it is until then.
    pub fn due_in(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// Starts it. `lost`: its state was lost on this card, so that it must not found a
    /// cluster, whoever else is silent (S7).
    ///
    /// # Errors
    /// There is no process, pipe or thread to be had.
    pub fn start(&mut self, config: &Path, lost: bool, now: Instant) -> io::Result<()> {
        self.next = now + self.pauses.next();
        let mut command = Command::new("/proc/self/exe");
        if lost {
            command.env("PG_WITNESS_BOOTSTRAP", "join");
        }
        let mut child = command
            .arg0("pg-witness")
            .arg("run")
            .arg(config)
            .env("NOTIFY_SOCKET", format!("@{NEWS}"))
            .env("WATCHDOG_USEC", PATIENCE.as_micros().to_string())
            .env(ON_A_BOARD, "1")
            .uid(WITNESS_ID)
            .gid(WITNESS_ID)
            .current_dir("/")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        self.running = pid.map(|pid| (pid, now));
        self.policy = FeedPolicy::Starting(now);
        if let Some(lines) = child.stderr.take() {
            let thread = thread::Builder::new().name("log".into());
            self.log = Some(thread.spawn(move || pass_on(lines, io::stderr()))?);
        }
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
            self.policy = FeedPolicy::Progress(Instant::now());
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
            self.policy = FeedPolicy::Unwatched;
            if now.saturating_duration_since(since) > STEADY {
                self.pauses = Pauses::default();
            }
            self.next = self.next.min(now + AGAIN_MAX);
            let how = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (_, Some(signal)) => format!("signal {signal}"),
                _ => "no status".into(),
            };
            // The pipe has ended with the process.
            let said = self.log.take().and_then(|log| log.join().ok());
            fate = Some(match said.unwrap_or_default().as_str() {
                "" => how,
                said => format!("{how}, {said}"),
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

/// Passes on what the witness logs, line by line. The last of it, bounded, which tells
/// why it ended.
fn pass_on(lines: impl io::Read, mut out: impl io::Write) -> String {
    let mut lines = BufReader::new(lines);
    let mut last = String::new();
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(CONSOLE_LINE_BYTES_MAX).unwrap_or(u64::MAX);
        match lines.by_ref().take(limit).read_until(b'\n', &mut line) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return last,
            Ok(_) => {}
        }
        let _ = out.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        text.trim_end()
            .trim_start_matches("pg-witness: ")
            .clone_into(&mut last);
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
    fn what_it_logs_is_passed_on_and_its_last_line_is_kept() {
        let log = "2026-01-01T00:00:00.000Z INFO well\npg-witness: main: cannot open it\n";
        let mut out = Vec::new();
        assert_eq!(pass_on(log.as_bytes(), &mut out), "main: cannot open it");
        assert_eq!(out, log.as_bytes());
        let long = "x".repeat(CONSOLE_LINE_BYTES_MAX + 1);
        assert_eq!(pass_on(long.as_bytes(), io::sink()), "x");
        assert_eq!(pass_on(io::empty(), io::sink()), "");
    }

    #[test]
    fn a_witness_that_fails_is_started_again_ever_more_slowly() {
        let mut pauses = Pauses::default();
        let seconds: Vec<u64> = (0..9).map(|_| pauses.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
