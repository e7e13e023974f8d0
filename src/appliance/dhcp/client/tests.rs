//! The state machine against a server whose answers are given by hand.

use super::super::packet::tests::{MAC, answer};
use super::*;

const SERVER: [u8; 4] = [10, 0, 2, 2];
const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;

struct Rig {
    client: Client,
    now: Instant,
}

impl Rig {
    fn new() -> Self {
        let now = Instant::now();
        let mut n = 0;
        let random = move || {
            n += 1;
            n
        };
        Self {
            client: Client::new(MAC, "witness-c", now, random),
            now,
        }
    }

    fn hear(&mut self, say: u8, address: [u8; 4], lease_s: u32) -> Vec<Do> {
        let options: [(u8, &[u8]); 3] = [
            (1, &[255, 255, 255, 0]),
            (51, &lease_s.to_be_bytes()),
            (54, &SERVER),
        ];
        let bytes = answer(say, self.client.xid, address, &options);
        self.client.on_datagram(self.now, &bytes)
    }

    fn bound(lease_s: u32) -> Self {
        let mut rig = Self::new();
        assert!(matches!(
            rig.client.on_time(rig.now)[..],
            [Do::Broadcast(_)]
        ));
        assert!(matches!(
            rig.hear(OFFER, [10, 0, 2, 15], lease_s)[..],
            [Do::Broadcast(_)]
        ));
        let done = rig.hear(ACK, [10, 0, 2, 15], lease_s);
        let [Do::Have(lease)] = &done[..] else {
            panic!("{done:?}");
        };
        assert_eq!((lease.address.octets(), lease.prefix), ([10, 0, 2, 15], 24));
        rig
    }

    /// To the next deadline.
    fn step(&mut self) -> Vec<Do> {
        self.now = self.client.deadline();
        self.client.on_time(self.now)
    }

    fn since(&self, start: Instant) -> u64 {
        self.now.duration_since(start).as_secs()
    }
}

#[test]
fn asks_on_until_a_server_is_there() {
    let mut rig = Rig::new();
    let start = rig.now;
    for _ in 0..20 {
        assert!(matches!(rig.step()[..], [Do::Broadcast(_)]));
    }
    // 2 + 4 + 8 + 16 * 16 s and a second each at most.
    assert!(
        (250..300).contains(&rig.since(start)),
        "{}",
        rig.since(start)
    );
    rig.hear(OFFER, [10, 0, 2, 15], 3600);
    // The server falls silent: four questions, then anew.
    for _ in 0..3 {
        assert!(matches!(rig.step()[..], [Do::Broadcast(_)]));
    }
    rig.step();
    assert!(matches!(rig.client.state, LeaseState::Selecting));
}

#[test]
fn renews_at_half_time_rebinds_and_lets_go_at_the_end() {
    let mut rig = Rig::bound(3600);
    let start = rig.now;
    assert!(matches!(rig.step()[..], [Do::Unicast(server, _)] if server.octets() == SERVER));
    assert_eq!(rig.since(start), 1800);
    // Its server says yes: half an hour more, and nothing changes.
    assert_eq!(rig.hear(ACK, [10, 0, 2, 15], 3600), []);
    rig.step();
    assert_eq!(rig.since(start), 3600);
    // It says nothing: any server, and at the end none is left.
    let start = start + Duration::from_secs(1800);
    let mut rebound = None;
    loop {
        match &rig.step()[..] {
            [Do::Unicast(..)] => assert_eq!(rebound, None),
            [Do::Broadcast(_)] => {
                rebound.get_or_insert(rig.since(start));
            }
            [Do::HaveNone, Do::Broadcast(_)] => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rebound, Some(3150));
    assert_eq!(rig.since(start), 3600);
}

#[test]
fn a_refusal_takes_the_address_at_once() {
    let mut rig = Rig::bound(3600);
    rig.step();
    assert_eq!(rig.hear(NAK, [0; 4], 0), [Do::HaveNone]);
    assert!(
        rig.client.deadline() > rig.now,
        "refused and asked in a loop"
    );
    assert!(matches!(rig.step()[..], [Do::Broadcast(_)]));
}

#[test]
fn the_link_returns_to_the_same_network_or_to_another() {
    let mut rig = Rig::bound(3600);
    rig.now += Duration::from_secs(5);
    let now = rig.now;
    assert!(matches!(rig.client.on_link(now)[..], [Do::Broadcast(_)]));
    assert_eq!(rig.hear(ACK, [10, 0, 2, 15], 3600), []);
    // Another network refuses, and another address is had.
    rig.client.on_link(now);
    assert_eq!(rig.hear(NAK, [0; 4], 0), [Do::HaveNone]);
    rig.step();
    rig.hear(OFFER, [192, 168, 1, 5], 3600);
    assert!(matches!(
        rig.hear(ACK, [192, 168, 1, 5], 3600)[..],
        [Do::Have(_)]
    ));
    // No server answers: what was leased is used until it ends.
    rig.client.on_link(rig.now);
    for _ in 0..4 {
        rig.step();
    }
    assert!(matches!(rig.client.state, LeaseState::Bound(_)));
    // And no longer, though the link comes back only after that.
    rig.now += Duration::from_secs(7200);
    assert!(matches!(
        rig.client.on_link(rig.now)[..],
        [Do::HaveNone, Do::Broadcast(_)]
    ));
}

#[test]
fn an_answer_to_somebody_elses_question_is_not_heard() {
    let mut rig = Rig::new();
    rig.step();
    let forged = answer(OFFER, rig.client.xid ^ 1, [10, 0, 2, 66], &[(54, &SERVER)]);
    assert_eq!(rig.client.on_datagram(rig.now, &forged), []);
    // Nobody asked for this acknowledgement.
    assert_eq!(rig.hear(ACK, [10, 0, 2, 66], 3600), []);
}

#[test]
fn leases_of_no_time_and_of_all_time_do_no_harm() {
    let mut rig = Rig::bound(0);
    let start = rig.now;
    rig.step();
    assert!(rig.since(start) >= 30);
    let mut rig = Rig::bound(u32::MAX);
    let start = rig.now;
    assert_eq!(
        rig.client
            .on_time(start + Duration::from_secs(86_400 * 365)),
        []
    );
    rig.step();
    assert!(rig.since(start) > 86_400 * 365);
}
