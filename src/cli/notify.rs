//! systemd's notification protocol (`sd_notify`): ready, reloading, stopping,
//! and the watchdog. Silent when no service manager listens; never blocks and
//! never fails, for it is news and no duty.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use crate::config::Env;

/// A way to the service manager, or to nobody.
#[derive(Debug, Default)]
pub struct ServiceNotifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl ServiceNotifier {
    /// As `NOTIFY_SOCKET` and `WATCHDOG_USEC` say.
    pub fn new(env: &Env) -> Self {
        let manager = env.path("NOTIFY_SOCKET").and_then(|path| {
            let address = address(path)?;
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        let watchdog = manager.as_ref().and_then(|_| watchdog(env));
        Self { manager, watchdog }
    }

    /// How often to call [`ServiceNotifier::watchdog`]: half of what the manager
    /// waits. None when it does not watch.
    pub fn watchdog_period(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The start is complete, or the reload is.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// SIGHUP was heard; [`ServiceNotifier::ready`] must follow (`Type=notify-reload`).
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The stop has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Still alive.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        let line = line.lines().next().unwrap_or("");
        self.send(&format!("STATUS={line}"));
    }

    fn send(&self, state: &str) {
        if let Some((socket, address)) = &self.manager {
            // A manager that does not read loses news, not us.
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

/// A path, or with `@` in front a name in Linux's abstract space.
fn address(path: &Path) -> Option<SocketAddr> {
    match path.as_os_str().as_bytes().split_first()? {
        (b'@', name) => SocketAddr::from_abstract_name(name).ok(),
        (b'/', _) => SocketAddr::from_pathname(path).ok(),
        _ => None,
    }
}

/// The manager's patience, if it is with this process.
fn watchdog(env: &Env) -> Option<Duration> {
    let number = |name| env.text(name).ok()??.parse::<u64>().ok();
    let ours = match number("WATCHDOG_PID") {
        Some(pid) => pid == u64::from(std::process::id()),
        None => true,
    };
    let usec = number("WATCHDOG_USEC").filter(|usec| *usec > 0 && ours)?;
    Some(Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 200];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn speaks_to_a_socket_of_either_kind_and_to_none() {
        let folder = std::env::temp_dir().join(format!("pg-witness-notify-{}", std::process::id()));
        let abstract_name = format!("pg-witness-test-{}", std::process::id());
        let here = UnixDatagram::bind(&folder).unwrap();
        let there =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap())
                .unwrap();
        let path = folder.to_str().unwrap().to_owned();
        for (name, socket) in [(path, here), (format!("@{abstract_name}"), there)] {
            let notifier = ServiceNotifier::new(&[("NOTIFY_SOCKET", name)].into_iter().collect());
            notifier.ready();
            assert_eq!(receive(&socket), "READY=1");
            notifier.reloading();
            assert!(receive(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
            notifier.status("leading\nREADY=1");
            assert_eq!(receive(&socket), "STATUS=leading");
            notifier.watchdog();
            notifier.stopping();
            assert_eq!(receive(&socket), "WATCHDOG=1");
            assert_eq!(receive(&socket), "STOPPING=1");
        }
        std::fs::remove_file(folder).unwrap();
        for nobody in ["", "relative", "/no/such/socket", "@"] {
            ServiceNotifier::new(&[("NOTIFY_SOCKET", nobody)].into_iter().collect()).ready();
        }
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_asks() {
        let env = |pid: u32| -> Env {
            [
                ("NOTIFY_SOCKET", "/run/systemd/notify".to_owned()),
                ("WATCHDOG_USEC", "30000000".to_owned()),
                ("WATCHDOG_PID", pid.to_string()),
            ]
            .into_iter()
            .collect()
        };
        let ours = std::process::id();
        let period = |pid| ServiceNotifier::new(&env(pid)).watchdog_period();
        assert_eq!(period(ours), Some(Duration::from_secs(15)));
        assert_eq!(period(ours + 1), None);
    }
}
