//! The network: one Ethernet interface, its address from the file or from DHCP,
//! its loss and its return. On a thread of its own that sleeps until something
//! happens.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::dhcp::packet::{Hosts, Mac};
use super::dhcp::{Client, Do, Lease};
use super::netlink::{LinkEvents, Netlink};
use super::notes::{self, Notes, Topic};
use crate::config::{Addressing, ApplianceConfig};

/// DHCP's ports (RFC 2131, section 4.1).
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// Where interfaces are listed.
const INTERFACES: &str = "/sys/class/net";

/// From one look for an interface to the next, at the latest.
const LOOK: Duration = Duration::from_secs(1);

/// What the C library resolves names by.
const RESOLVER: &str = "/etc/resolv.conf";

/// What others want to know of the network.
#[derive(Default)]
pub struct KnownNetwork {
    /// The time servers that DHCP named.
    pub ntp: Mutex<Hosts>,
}

/// One Ethernet interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    name: String,
    index: u32,
    mac: Mac,
}

impl Interface {
    fn has_carrier(&self) -> bool {
        let file = Path::new(INTERFACES).join(&self.name).join("carrier");
        fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
    }

    fn is_there(&self) -> bool {
        Path::new(INTERFACES).join(&self.name).exists()
    }
}

/// The interfaces of a kind that we use, in the kernel's order.
fn interfaces() -> Vec<Interface> {
    let mut found: Vec<Interface> = fs::read_dir(INTERFACES)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let text = |file: &str| fs::read_to_string(entry.path().join(file)).ok();
            // ARPHRD_ETHER, and a device behind it: no bridge, no tunnel, no radio.
            let wired = text("type")?.trim() == "1"
                && entry.path().join("device").exists()
                && !entry.path().join("wireless").exists();
            wired.then_some(())?;
            Some(Interface {
                name: entry.file_name().into_string().ok()?,
                index: text("ifindex")?.trim().parse().ok()?,
                mac: mac(text("address")?.trim())?,
            })
        })
        .collect();
    found.sort_by_key(|interface| interface.index);
    found
}

/// `02:00:00:00:00:09`
fn mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes?.try_into().ok()
}

/// Runs the network as long as the machine does.
pub fn run(config: &ApplianceConfig, notes: &Notes, known: &Arc<KnownNetwork>) {
    let network = loop {
        match NetworkTask::new(config.clone(), known.clone()) {
            Ok(network) => break network,
            Err(error) => notes.say(Topic::Network, format!("No network: {error}.")),
        }
        std::thread::sleep(LOOK);
    };
    loop {
        let interface = network.find(notes);
        if let Err(error) = network.serve(&interface, notes) {
            notes.say(Topic::Network, cannot(&interface, &error));
            std::thread::sleep(LOOK);
        }
    }
}

/// The sentence for a network that the kernel does not take.
fn cannot(interface: &Interface, error: &io::Error) -> String {
    format!("{} cannot be set up: {error}.", interface.name)
}

struct NetworkTask {
    config: ApplianceConfig,
    known: Arc<KnownNetwork>,
    netlink: Netlink,
    events: LinkEvents,
}

impl NetworkTask {
    fn new(config: ApplianceConfig, known: Arc<KnownNetwork>) -> io::Result<Self> {
        let network = Self {
            config,
            known,
            netlink: Netlink::open()?,
            events: LinkEvents::listen()?,
        };
        // The loopback is always the first.
        network.netlink.switch_on(1)?;
        Ok(network)
    }

    /// Switches an interface on, its IPv6 set up before: only what is on knows its
    /// carrier.
    fn switch_on(&self, interface: &Interface) -> io::Result<()> {
        let (knob, value) = match self.config.ipv6 {
            Addressing::Automatic => ("disable_ipv6", "0"),
            Addressing::Static { .. } => ("accept_ra", "0"),
            Addressing::Off => ("disable_ipv6", "1"),
        };
        let file = format!("/proc/sys/net/ipv6/conf/{}/{knob}", interface.name);
        if let Err(error) = fs::write(&file, value) {
            log::debug!("{file}: {error}");
        }
        self.netlink.switch_on(interface.index)
    }

    /// Waits for an interface with a cable in it.
    fn find(&self, notes: &Notes) -> Interface {
        let start = Instant::now();
        loop {
            let all = interfaces();
            for interface in &all {
                if let Err(error) = self.switch_on(interface) {
                    log::debug!("{}: {error}", interface.name);
                }
            }
            if let Some(found) = all.iter().find(|interface| interface.has_carrier()) {
                notes.clear(Topic::Link, &format!("{}: the link is up", found.name));
                return found.clone();
            }
            // Drivers and cables take a moment that is no news.
            if start.elapsed() > 3 * LOOK {
                let why = if all.is_empty() {
                    notes::NO_INTERFACE
                } else {
                    notes::NO_LINK
                };
                notes.say(Topic::Link, why);
            }
            let pause = if start.elapsed() < 30 * LOOK {
                LOOK / 4
            } else {
                LOOK
            };
            let _ = wait(&self.events, None, Instant::now() + pause);
            self.events.drain();
        }
    }

    /// Serves one interface until it is gone.
    fn serve(&self, interface: &Interface, notes: &Notes) -> io::Result<()> {
        if let Addressing::Static {
            address,
            prefix,
            gateway,
        } = self.config.ipv6
        {
            self.have(interface, address.into(), prefix, gateway.map(Into::into))?;
        }
        let mut dhcp = None;
        match self.config.ipv4 {
            Addressing::Static {
                address,
                prefix,
                gateway,
            } => {
                self.have(interface, address.into(), prefix, gateway.map(Into::into))?;
                self.name_servers(&[]);
                notes.clear(Topic::Network, "there is an address");
            }
            Addressing::Automatic => {
                let client = Client::new(
                    interface.mac,
                    &self.config.hostname,
                    Instant::now(),
                    rand::random::<u32>,
                );
                dhcp = Some(Dhcp {
                    client,
                    socket: socket(&interface.name)?,
                    lease: None,
                });
            }
            Addressing::Off => {
                self.name_servers(&[]);
                notes.clear(Topic::Network, "no IPv4 address is wanted");
            }
        }
        let mut linked = true;
        let start = Instant::now();
        while interface.is_there() {
            let now = Instant::now();
            let link = interface.has_carrier();
            if !link && interfaces().iter().any(Interface::has_carrier) {
                log::info!("{}: the cable is in another one now", interface.name);
                return self.leave(interface, dhcp.and_then(|dhcp| dhcp.lease));
            }
            if link && !linked {
                notes.clear(
                    Topic::Link,
                    &format!("{}: the link is back", interface.name),
                );
                if let Some(dhcp) = &mut dhcp {
                    let done = dhcp.client.on_link(now);
                    self.carry_out(interface, dhcp, done, notes);
                }
            } else if !link && linked {
                notes.say(Topic::Link, notes::NO_LINK);
            }
            linked = link;
            let mut deadline = now + Duration::from_secs(3600);
            if let Some(dhcp) = dhcp.as_mut().filter(|_| link) {
                let done = dhcp.client.on_time(now);
                self.carry_out(interface, dhcp, done, notes);
                if dhcp.lease.is_none() && start.elapsed() > 5 * LOOK {
                    notes.say(Topic::Network, notes::NO_LEASE);
                }
                deadline = dhcp.client.deadline();
            }
            wait(
                &self.events,
                dhcp.as_ref().map(|dhcp| &dhcp.socket),
                deadline,
            )?;
            self.events.drain();
            if let Some(dhcp) = &mut dhcp {
                self.hear(interface, dhcp, notes);
            }
        }
        Ok(())
    }

    /// Takes our addresses off an interface, so that another can have them.
    fn leave(&self, interface: &Interface, lease: Option<Lease>) -> io::Result<()> {
        // Those of IPv6, and all routes, go with it.
        self.netlink.switch_off(interface.index)?;
        let ours = match self.config.ipv4 {
            Addressing::Static {
                address, prefix, ..
            } => Some((address, prefix)),
            _ => lease.map(|lease| (lease.address, lease.prefix)),
        };
        ours.map_or(Ok(()), |(address, prefix)| {
            self.netlink
                .remove_address(interface.index, address.into(), prefix)
        })
    }

    /// Takes what came, so much of it that a flood cannot hold us.
    fn hear(&self, interface: &Interface, dhcp: &mut Dhcp, notes: &Notes) {
        let mut bytes = [0; 1500];
        for _ in 0..64 {
            let Ok((count, _)) = dhcp.socket.recv_from(&mut bytes) else {
                return;
            };
            let datagram = bytes.get(..count).unwrap_or_default();
            let done = dhcp.client.on_datagram(Instant::now(), datagram);
            self.carry_out(interface, dhcp, done, notes);
        }
    }

    fn carry_out(&self, interface: &Interface, dhcp: &mut Dhcp, done: Vec<Do>, notes: &Notes) {
        for what in done {
            let result = match what {
                Do::Broadcast(bytes) => dhcp.send(&bytes, Ipv4Addr::BROADCAST),
                Do::Unicast(server, bytes) => dhcp.send(&bytes, server),
                Do::Have(lease) => {
                    let had = dhcp.lease.replace(lease.clone());
                    let changed = self.change(interface, had, &lease);
                    match &changed {
                        Ok(()) => notes.clear(Topic::Network, "there is an address"),
                        Err(error) => notes.say(Topic::Network, cannot(interface, error)),
                    }
                    changed
                }
                Do::HaveNone => {
                    notes.say(Topic::Network, notes::NO_LEASE);
                    dhcp.lease.take().map_or(Ok(()), |lease| {
                        self.netlink.remove_address(
                            interface.index,
                            lease.address.into(),
                            lease.prefix,
                        )
                    })
                }
            };
            if let Err(error) = result {
                log::warn!("{}: {error}", interface.name);
            }
        }
    }

    fn change(&self, interface: &Interface, had: Option<Lease>, lease: &Lease) -> io::Result<()> {
        if let Some(had) = had
            && (had.address, had.prefix) != (lease.address, lease.prefix)
        {
            let address = had.address.into();
            self.netlink
                .remove_address(interface.index, address, had.prefix)?;
        }
        let gateway = lease.gateway.map(Into::into);
        self.have(interface, lease.address.into(), lease.prefix, gateway)?;
        self.name_servers(&lease.dns);
        *self
            .known
            .ntp
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = lease.ntp.clone();
        Ok(())
    }

    fn have(
        &self,
        interface: &Interface,
        address: IpAddr,
        prefix: u8,
        gateway: Option<IpAddr>,
    ) -> io::Result<()> {
        self.netlink.add_address(interface.index, address, prefix)?;
        log::info!("{}: the address is {address}/{prefix}", interface.name);
        if let Some(gateway) = gateway {
            self.netlink.set_gateway(interface.index, gateway)?;
        }
        Ok(())
    }

    /// Those of the file, else those that were learned.
    fn name_servers(&self, learned: &[Ipv4Addr]) {
        let learned = learned.iter().map(|address| IpAddr::from(*address));
        let servers: Vec<IpAddr> = match self.config.dns.as_slice() {
            [] => learned.collect(),
            said => said.to_vec(),
        };
        if let Err(error) = fs::write(RESOLVER, resolver(&servers)) {
            log::warn!("{RESOLVER}: {error}");
        }
    }
}

/// `resolv.conf`: musl asks the first three at once.
fn resolver(servers: &[IpAddr]) -> String {
    let lines = servers
        .iter()
        .take(3)
        .map(|server| format!("nameserver {server}\n"));
    lines.collect::<String>() + "options timeout:1 attempts:2\n"
}

struct Dhcp {
    client: Client,
    socket: UdpSocket,
    lease: Option<Lease>,
}

impl Dhcp {
    fn send(&self, bytes: &[u8], to: Ipv4Addr) -> io::Result<()> {
        self.socket
            .send_to(bytes, SocketAddr::from((to, SERVER_PORT)))
            .map(drop)
    }
}

/// An ordinary socket that hears and speaks on this interface before it has an
/// address: no raw packets are needed as long as servers answer to everybody.
fn socket(interface: &str) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_broadcast(true)?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, CLIENT_PORT)).into())?;
    Ok(socket.into())
}

/// Waits until something has come, or for the deadline.
fn wait(events: &LinkEvents, socket: Option<&UdpSocket>, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    let events = events.as_fd();
    let mut watched = vec![PollFd::from_borrowed_fd(events, PollFlags::IN)];
    if let Some(socket) = socket {
        watched.push(PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN));
    }
    match poll(&mut watched, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_is_told_three_servers() {
        let servers: Vec<IpAddr> = ["10.0.0.1", "fd00::1", "10.0.0.2", "10.0.0.3"]
            .map(|a| a.parse().unwrap())
            .to_vec();
        assert_eq!(
            resolver(&servers),
            "nameserver 10.0.0.1\nnameserver fd00::1\nnameserver 10.0.0.2\n\
             options timeout:1 attempts:2\n"
        );
    }

    #[test]
    fn hardware_addresses_are_read() {
        assert_eq!(mac("02:00:00:00:00:fe"), Some([2, 0, 0, 0, 0, 254]));
        assert_eq!(mac("02:00:00:00:00"), None);
        assert_eq!(mac(""), None);
    }
}
