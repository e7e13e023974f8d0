//! What is asked of the kernel about interfaces, addresses and routes, over
//! netlink (rtnetlink(7)), one question at a time.
//!
//! Four messages, written out here: `netlink-packet-route` knows them all, each
//! way, and made the program by a megabyte larger.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// `RTNLGRP_LINK`: interfaces come, go, and lose their carrier.
const LINKS: u32 = 1;

/// What is asked (`RTM_*`).
const SET_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;

/// How (`NLM_F_*`): a request that wants an answer; make it, or change what is there.
const ASK: u16 = 0x1 | 0x4;
const CREATE: u16 = 0x100 | 0x400;

/// The answer's type (`NLMSG_ERROR`), which tells of success as well.
const ANSWER: u16 = 2;

/// Length of a message's head.
const HEAD_BYTES: usize = 16;

/// A message while it is written.
struct NetlinkMessage(Vec<u8>);

impl NetlinkMessage {
    /// Its head, with room for the length, and its fixed part.
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((ASK | flags).to_ne_bytes());
        // The number and the sender are of no use where one question is under way.
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        Self(bytes)
    }

    /// An attribute: length, type, value, and padding to four.
    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len()).map_or(u16::MAX, |length| length.saturating_add(4));
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn bytes(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        if let Some(head) = self.0.first_chunk_mut::<4>() {
            *head = length.to_ne_bytes();
        }
        self.0
    }
}

/// The kernel's error number in its answer, 0 for success.
fn error_of(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = answer.get(HEAD_BYTES..HEAD_BYTES.checked_add(4)?)?;
    let code = i32::from_ne_bytes(code.try_into().ok()?);
    (kind == ANSWER).then_some(code.checked_neg()?)
}

/// `AF_INET` or `AF_INET6`, and the address's bytes.
fn family(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (2, v4.octets().into()),
        IpAddr::V6(v6) => (10, v6.octets().into()),
    }
}

/// Switches an interface on or off (`struct ifinfomsg`; `IFF_UP`).
fn link(interface: u32, on: bool) -> NetlinkMessage {
    const UP: u32 = 1;
    let mut fixed = vec![0; 4];
    fixed.extend(interface.to_ne_bytes());
    fixed.extend(if on { UP } else { 0 }.to_ne_bytes());
    fixed.extend(UP.to_ne_bytes());
    NetlinkMessage::new(SET_LINK, 0, &fixed)
}

/// An address of an interface (`struct ifaddrmsg`; `IFA_LOCAL`, `IFA_ADDRESS`).
fn address(kind: u16, flags: u16, interface: u32, address: IpAddr, prefix: u8) -> NetlinkMessage {
    let (family, octets) = family(address);
    let mut fixed = vec![family, prefix, 0, 0];
    fixed.extend(interface.to_ne_bytes());
    NetlinkMessage::new(kind, flags, &fixed)
        .with(2, &octets)
        .with(1, &octets)
}

/// The route to everywhere (`struct rtmsg`: the main table, made at boot, to
/// everywhere, of one machine; `RTA_GATEWAY`, `RTA_OIF`).
fn route(interface: u32, gateway: IpAddr) -> NetlinkMessage {
    let (family, octets) = family(gateway);
    let fixed = [family, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    NetlinkMessage::new(NEW_ROUTE, CREATE, &fixed)
        .with(5, &octets)
        .with(4, &interface.to_ne_bytes())
}

/// A line to the kernel's routing.
pub struct Netlink(Socket);

impl Netlink {
    /// Opens one.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    fn ask(&self, message: NetlinkMessage) -> io::Result<()> {
        self.0.send(&message.bytes(), 0)?;
        let (answer, _) = self.0.recv_from_full()?;
        match error_of(&answer) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Switches an interface on.
    ///
    /// # Errors
    /// It is gone.
    pub fn switch_on(&self, interface: u32) -> io::Result<()> {
        self.ask(link(interface, true))
    }

    /// Switches an interface off; its IPv6 addresses and all its routes go.
    ///
    /// # Errors
    /// It is gone.
    pub fn switch_off(&self, interface: u32) -> io::Result<()> {
        self.ask(link(interface, false))
    }

    /// Gives an interface an address.
    ///
    /// # Errors
    /// The interface is gone, or cannot have it.
    pub fn add_address(&self, interface: u32, ip: IpAddr, prefix: u8) -> io::Result<()> {
        self.ask(address(NEW_ADDRESS, CREATE, interface, ip, prefix))
    }

    /// Takes an address away, and with it the routes that lead through it.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove_address(&self, interface: u32, ip: IpAddr, prefix: u8) -> io::Result<()> {
        self.ask(address(DEL_ADDRESS, 0, interface, ip, prefix))
    }

    /// Sends all that is not near through this gateway.
    ///
    /// # Errors
    /// The gateway is not near.
    pub fn set_gateway(&self, interface: u32, gateway: IpAddr) -> io::Result<()> {
        self.ask(route(interface, gateway))
    }
}

/// Tells that something has happened to an interface. What, the kernel's files say.
pub struct LinkEvents(Socket);

impl LinkEvents {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn listen() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(LINKS)?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Forgets what came so far; it is not read, only that it came counts. A
    /// queue that ran over is news as well.
    pub fn drain(&self) {
        let mut bytes: Vec<u8> = Vec::with_capacity(4096);
        for _ in 0..64 {
            bytes.clear();
            if self.0.recv(&mut bytes, 0).is_err() {
                return;
            }
        }
    }
}

impl AsFd for LinkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_the_kernel_reads_it() {
        let ip = "10.0.3.9".parse().unwrap();
        let bytes = address(NEW_ADDRESS, CREATE, 2, ip, 24).bytes();
        let mut expected = Vec::new();
        expected.extend(40_u32.to_ne_bytes());
        expected.extend(20_u16.to_ne_bytes());
        expected.extend(0x505_u16.to_ne_bytes());
        expected.extend([0; 8]);
        expected.extend([2, 24, 0, 0]);
        expected.extend(2_u32.to_ne_bytes());
        for kind in [2_u16, 1] {
            expected.extend(8_u16.to_ne_bytes());
            expected.extend(kind.to_ne_bytes());
            expected.extend([10, 0, 3, 9]);
        }
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_real_kernel_answers() {
        // What needs no rights: the question is understood, and refused.
        let netlink = Netlink::open().unwrap();
        let nobody = u32::MAX >> 1;
        let refused = netlink.switch_on(nobody).unwrap_err();
        assert!(matches!(refused.raw_os_error(), Some(1 | 19)), "{refused}");
        let ip = "fd00::9".parse().unwrap();
        assert!(netlink.remove_address(nobody, ip, 64).is_err());
        assert!(
            netlink
                .set_gateway(nobody, "192.0.2.1".parse().unwrap())
                .is_err()
        );
        assert_eq!(error_of(&[0; 20]), None);
        assert_eq!(error_of(&[]), None);
    }
}
