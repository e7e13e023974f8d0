//! DHCP's messages as bytes (RFC 2131, 2132). Anybody on the network can send
//! them: whatever comes, decoding ends, allocates a bounded list and refuses what
//! no server says.

use std::net::Ipv4Addr;

use crate::limits::SERVERS_MAX;

/// The hardware address of an Ethernet interface.
pub type Mac = [u8; 6];

/// The fixed part of a message, up to and with the cookie.
const HEAD_BYTES: usize = 240;

/// What opens the options.
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Least length of a message that old relays pass on.
const BYTES_MIN: usize = 300;

/// What a server must be able to take: 576 bytes with their headers. All that we
/// can say is 531.
pub type Datagram = heapless::Vec<u8, 548>;

/// Options' numbers (RFC 2132).
mod option {
    pub const PAD: u8 = 0;
    pub const MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOSTNAME: u8 = 12;
    pub const NTP: u8 = 42;
    pub const ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const KIND: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const WANTED: u8 = 55;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const CLIENT: u8 = 61;
    pub const END: u8 = 255;
}

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ask {
    /// Who has an address for me?
    Discover = 1,
    /// I want this one, or want to keep it.
    Request = 3,
}

/// A client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMessage<'a> {
    /// What it says.
    pub ask: Ask,
    /// Told back by the answer.
    pub xid: u32,
    /// Since the client began, in seconds.
    pub secs: u16,
    /// Who asks.
    pub mac: Mac,
    /// The address that the client has and answers at; else 0.0.0.0.
    pub ciaddr: Ipv4Addr,
    /// The address wanted.
    pub address: Option<Ipv4Addr>,
    /// The server that offered it.
    pub server: Option<Ipv4Addr>,
    /// The client's name, of at most 63 bytes.
    pub hostname: &'a str,
}

impl ClientMessage<'_> {
    /// Its bytes.
    pub fn encode(&self) -> Datagram {
        // Ethernet, six bytes of address, no relay yet.
        let mut out = Datagram::new();
        out.extend([1, 1, 6, 0]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        // Without an address we only hear what is sent to all (section 4.1).
        let broadcast: u16 = if self.ciaddr.is_unspecified() {
            0x8000
        } else {
            0
        };
        out.extend(broadcast.to_be_bytes());
        out.extend(self.ciaddr.octets());
        out.extend([0; 12]);
        out.extend(self.mac);
        out.extend([0; 10 + 64 + 128]);
        out.extend(COOKIE);
        let mut add = |code: u8, value: &[u8]| {
            if let Ok(length) = u8::try_from(value.len()) {
                out.extend([code, length]);
                out.extend(value.iter().copied());
            }
        };
        add(option::KIND, &[self.ask as u8]);
        let [a, b, c, d, e, f] = self.mac;
        add(option::CLIENT, &[1, a, b, c, d, e, f]);
        if let Some(address) = self.address {
            add(option::ADDRESS, &address.octets());
        }
        if let Some(server) = self.server {
            add(option::SERVER, &server.octets());
        }
        add(option::HOSTNAME, self.hostname.as_bytes());
        let wanted = [
            option::MASK,
            option::ROUTER,
            option::DNS,
            option::NTP,
            option::LEASE_TIME,
            option::RENEWAL_TIME,
            option::REBINDING_TIME,
        ];
        add(option::WANTED, &wanted);
        out.extend([option::END]);
        while out.len() < BYTES_MIN && out.push(option::PAD).is_ok() {}
        out
    }
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// You could have this.
    Offer,
    /// You have it.
    Ack,
    /// You have it not.
    Nak,
}

/// Addresses of servers; more than these are not needed.
pub type Hosts = heapless::Vec<Ipv4Addr, SERVERS_MAX>;

/// A server's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerMessage {
    /// What it says.
    pub say: Say,
    /// The question's.
    pub xid: u32,
    /// The address for us.
    pub address: Ipv4Addr,
    /// Who says so.
    pub server: Option<Ipv4Addr>,
    /// How many bits of the address name the network; None if it was not said.
    pub prefix: Option<u8>,
    /// The first router.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Hosts,
    /// Time servers.
    pub ntp: Hosts,
    /// For how long, in seconds.
    pub lease_s: Option<u32>,
    /// When to ask the server for more, in seconds (T1).
    pub renewal_s: Option<u32>,
    /// When to ask any server (T2).
    pub rebinding_s: Option<u32>,
}

impl ServerMessage {
    /// Reads a datagram; None for all that is no server's answer to this client.
    pub fn decode(bytes: &[u8], mac: Mac) -> Option<Self> {
        let (head, mut options) = bytes.split_at_checked(HEAD_BYTES)?;
        let addressed = head.starts_with(&[2, 1, 6]) && head.get(28..34) == Some(&mac);
        if !addressed || head.get(236..) != Some(&COOKIE) {
            return None;
        }
        let mut answer = Self {
            say: Say::Nak,
            xid: number(head.get(4..8)?)?,
            address: four(head.get(16..20)?)?,
            server: None,
            prefix: None,
            gateway: None,
            dns: Hosts::new(),
            ntp: Hosts::new(),
            lease_s: None,
            renewal_s: None,
            rebinding_s: None,
        };
        let mut say = None;
        while let Some((&code, rest)) = options.split_first() {
            match code {
                option::PAD => {
                    options = rest;
                    continue;
                }
                option::END => break,
                _ => {}
            }
            let (&length, rest) = rest.split_first()?;
            let (value, rest) = rest.split_at_checked(length.into())?;
            options = rest;
            match code {
                option::KIND => {
                    say = match value {
                        [2] => Some(Say::Offer),
                        [5] => Some(Say::Ack),
                        [6] => Some(Say::Nak),
                        _ => return None,
                    }
                }
                option::MASK => answer.prefix = four(value).and_then(prefix),
                option::SERVER => answer.server = four(value),
                option::ROUTER => answer.gateway = hosts(value).first().copied(),
                option::DNS => answer.dns = hosts(value),
                option::NTP => answer.ntp = hosts(value),
                option::LEASE_TIME => answer.lease_s = number(value),
                option::RENEWAL_TIME => answer.renewal_s = number(value),
                option::REBINDING_TIME => answer.rebinding_s = number(value),
                _ => {}
            }
        }
        answer.say = say?;
        (answer.say == Say::Nak || is_host(answer.address)).then_some(answer)
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn four(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(<[u8; 4]>::try_from(bytes).ok()?.into())
}

/// A list of addresses without those that nobody has.
fn hosts(bytes: &[u8]) -> Hosts {
    let all = bytes.chunks_exact(4).filter_map(four);
    all.filter(|address| is_host(*address))
        .take(SERVERS_MAX)
        .collect()
}

fn is_host(address: Ipv4Addr) -> bool {
    let nobody = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast();
    !nobody
}

/// The length of a mask's prefix, if it is one.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let length = bits.leading_ones();
    let whole = bits.count_ones() == length && length > 0;
    u8::try_from(length).ok().filter(|_| whole)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub const MAC: Mac = [2, 0, 0, 0, 0, 9];

    /// A server's answer as bytes, with these options.
    pub fn answer(say: u8, xid: u32, address: [u8; 4], options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = vec![0; HEAD_BYTES];
        out[..3].copy_from_slice(&[2, 1, 6]);
        out[4..8].copy_from_slice(&xid.to_be_bytes());
        out[16..20].copy_from_slice(&address);
        out[28..34].copy_from_slice(&MAC);
        out[236..].copy_from_slice(&COOKIE);
        out.extend([0, option::KIND, 1, say]);
        for (code, value) in options {
            out.extend([*code, u8::try_from(value.len()).unwrap()]);
            out.extend(*value);
        }
        out.push(option::END);
        out
    }

    #[test]
    fn an_answer_is_read_with_padding_and_odd_lengths() {
        let bytes = answer(
            5,
            7,
            [10, 0, 3, 9],
            &[
                (1, &[255, 255, 254, 0]),
                // Not a multiple of four: edge-dhcp panics here.
                (3, &[10, 0, 2, 1, 9]),
                (6, &[10, 0, 2, 53, 0, 0, 0, 0, 1, 1, 1, 1]),
                (51, &[0, 0, 14, 16]),
                (54, &[10, 0, 2, 2]),
                (58, &[1]),
            ],
        );
        let answer = ServerMessage::decode(&bytes, MAC).unwrap();
        assert_eq!((answer.say, answer.xid), (Say::Ack, 7));
        assert_eq!(answer.address, Ipv4Addr::new(10, 0, 3, 9));
        assert_eq!(answer.prefix, Some(23));
        assert_eq!(answer.gateway, Some(Ipv4Addr::new(10, 0, 2, 1)));
        assert_eq!(
            answer.dns,
            [Ipv4Addr::new(10, 0, 2, 53), Ipv4Addr::new(1, 1, 1, 1)]
        );
        assert_eq!((answer.lease_s, answer.renewal_s), (Some(3600), None));
    }

    #[test]
    fn what_is_not_for_us_is_nothing() {
        let ours = answer(2, 7, [10, 0, 3, 9], &[]);
        assert!(ServerMessage::decode(&ours, MAC).is_some());
        assert_eq!(ServerMessage::decode(&ours, [2, 0, 0, 0, 0, 8]), None);
        for nobody in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
            assert_eq!(ServerMessage::decode(&answer(2, 7, nobody, &[]), MAC), None);
        }
        // A request of another client, sent to all, is no answer.
        let mut request = ours;
        request[0] = 1;
        assert_eq!(ServerMessage::decode(&request, MAC), None);
    }

    #[test]
    fn a_mask_with_holes_is_none() {
        assert_eq!(prefix(Ipv4Addr::new(255, 255, 0, 0)), Some(16));
        assert_eq!(prefix(Ipv4Addr::new(255, 0, 255, 0)), None);
        assert_eq!(prefix(Ipv4Addr::UNSPECIFIED), None);
    }

    #[test]
    fn a_question_asks_for_a_broadcast_until_it_has_an_address() {
        let mut question = ClientMessage {
            ask: Ask::Discover,
            xid: 0x0102_0304,
            secs: 3,
            mac: MAC,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            address: None,
            server: None,
            hostname: "witness-c",
        };
        let bytes = question.encode();
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 3, 0x80, 0]);
        assert!(bytes.len() >= BYTES_MIN);
        question.ciaddr = Ipv4Addr::new(10, 0, 3, 9);
        assert_eq!(question.encode()[10..16], [0, 0, 10, 0, 3, 9]);
    }

    proptest! {
        // S9
        #[test]
        fn no_bytes_stop_the_decoder(
            options in proptest::collection::vec(any::<u8>(), 0..600),
            cut in 0usize..900,
        ) {
            let mut bytes = answer(5, 7, [10, 0, 3, 9], &[]);
            bytes.truncate(HEAD_BYTES);
            bytes.extend(options);
            bytes.truncate(cut);
            if let Some(answer) = ServerMessage::decode(&bytes, MAC) {
                prop_assert!(answer.dns.len() <= SERVERS_MAX);
            }
        }
    }
}
