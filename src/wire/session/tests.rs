use super::*;
use crate::ids::{EntryId, LogIndex, Term};
use crate::wire::Message;

fn key(byte: u8) -> Arc<Key> {
    Arc::new(Key::from_bytes([byte; 32]))
}

fn hello() -> Hello {
    Hello::Member("10.0.0.9:5010".parse().unwrap())
}

/// Two ends of a connection and what the wire carries between them.
struct Link {
    dialler: Session,
    acceptor: Session,
    codec: Codec,
}

impl Link {
    fn new(dialler: Option<Arc<Key>>, acceptor: &[Arc<Key>]) -> Self {
        Self {
            dialler: Session::dial(hello(), dialler, [1; 32]),
            acceptor: Session::accept(acceptor, [2; 32]),
            codec: Codec::new(),
        }
    }

    /// Runs the handshake; the hello as the acceptor got it.
    fn shake(&mut self) -> Result<Hello, SessionError> {
        let codec = &mut self.codec;
        let (mut there, mut back) = (Vec::new(), Vec::new());
        self.dialler.start(codec, 100, &mut there)?;
        loop {
            assert!(!there.is_empty(), "the handshake stands still");
            self.acceptor.feed(&there);
            there.clear();
            if let Some(value) = self.acceptor.next(codec, 50, &mut back)? {
                return Ok(Hello::decode(&value).unwrap());
            }
            self.dialler.feed(&back);
            back.clear();
            assert!(self.dialler.next(codec, 100, &mut there)?.is_none());
        }
    }
}

#[test]
fn the_hello_arrives_first_and_messages_flow_both_ways() {
    // H2, spec 1.3 and 1.4
    for keys in [&[][..], &[key(7)]] {
        let mut link = Link::new(keys.first().cloned(), keys);
        assert_eq!(link.shake(), Ok(hello()));
        assert!(link.dialler.is_up() && link.acceptor.is_up());
        let mut wire = Vec::new();
        for _ in 0..2 {
            let codec = &mut link.codec;
            let (from, to) = (&mut link.dialler, &mut link.acceptor);
            wire.clear();
            from.send(codec, &Message::Keepalive, 1, &mut wire).unwrap();
            to.feed(&wire);
            let mut out = Vec::new();
            let value = to.next(codec, 1, &mut out).unwrap().unwrap();
            assert_eq!(Message::decode(&value), Ok(Message::Keepalive));
            assert!(to.next(codec, 1, &mut out).unwrap().is_none());
            assert!(out.is_empty());
            std::mem::swap(&mut link.dialler, &mut link.acceptor);
        }
    }
}

#[test]
fn an_acceptor_takes_the_old_and_the_new_password() {
    for dialler in [key(1), key(2)] {
        let mut link = Link::new(Some(dialler), &[key(1), key(2)]);
        assert_eq!(link.shake(), Ok(hello()));
    }
    let mut link = Link::new(Some(key(3)), &[key(1), key(2)]);
    assert_eq!(link.shake(), Err(SessionError::Token(TokenError::Mac)));
}

#[test]
fn one_sided_passwords_are_named() {
    let mut link = Link::new(Some(key(1)), &[]);
    assert_eq!(link.shake(), Err(SessionError::Encrypted));
    let mut link = Link::new(None, &[key(1)]);
    assert_eq!(link.shake(), Err(SessionError::Token(TokenError::NotToken)));
}

#[test]
fn messages_of_another_connection_are_refused() {
    // Spec 1.4: a replayed message carries another random key.
    let mut link = Link::new(Some(key(1)), &[key(1)]);
    link.shake().unwrap();
    let mut recorded = Vec::new();
    let codec = &mut link.codec;
    let message = &Message::Keepalive;
    link.dialler.send(codec, message, 1, &mut recorded).unwrap();
    let mut other = Link::new(Some(key(1)), &[key(1)]);
    other.acceptor = Session::accept(&[key(1)], [3; 32]);
    other.shake().unwrap();
    other.acceptor.feed(&recorded);
    let refused = other.acceptor.next(codec, 1, &mut Vec::new());
    assert_eq!(refused.unwrap_err(), SessionError::Handshake);
}

#[test]
fn a_candidate_that_speaks_before_the_keys_are_exchanged_is_not_hung_up_on() {
    let mut link = Link::new(Some(key(1)), &[key(1)]);
    let (mut there, mut back) = (Vec::new(), Vec::new());
    let codec = &mut link.codec;
    link.dialler.start(codec, 1, &mut there).unwrap();
    // What `TcpConnection.send` of PySyncObj writes as long as it has no key.
    let early = &Message::RequestVote {
        term: Term::new(3).unwrap(),
        last: EntryId {
            index: LogIndex::FIRST,
            term: Term::ZERO,
        },
    };
    link.dialler.write(codec, early, 1, &mut there).unwrap();
    link.acceptor.feed(&there);
    let nothing = link.acceptor.next(codec, 1, &mut back).unwrap();
    assert!(nothing.is_none() && !link.acceptor.is_up());

    there.clear();
    link.dialler.feed(&back);
    link.dialler.next(codec, 1, &mut there).unwrap();
    link.acceptor.feed(&there);
    let said = link.acceptor.next(codec, 1, &mut back).unwrap().unwrap();
    assert_eq!(Hello::decode(&said), Ok(hello()));
    // Afterwards every message carries the key.
    let mut link = Link::new(Some(key(1)), &[key(1)]);
    link.shake().unwrap();
    let mut wire = Vec::new();
    link.dialler.encryption.as_mut().unwrap().theirs = None;
    let codec = &mut link.codec;
    link.dialler.send(codec, early, 1, &mut wire).unwrap();
    link.acceptor.feed(&wire);
    let refused = link.acceptor.next(codec, 1, &mut Vec::new());
    assert_eq!(refused.unwrap_err(), SessionError::Handshake);
}

#[test]
fn timestamps_never_decrease_on_a_connection() {
    // Spec 2.3: peers from 0.3.12 on close it otherwise.
    let mut link = Link::new(Some(key(1)), &[key(1)]);
    link.shake().unwrap();
    let mut last = 0;
    for now_s in [200, 150, 300, 0] {
        let mut wire = Vec::new();
        let codec = &mut link.codec;
        link.dialler
            .send(codec, &Message::Keepalive, now_s, &mut wire)
            .unwrap();
        let mut raw = Vec::new();
        key(1).decrypt(&wire[4..], &mut raw).unwrap();
        let stamp = u64::from_be_bytes(raw[1..9].try_into().unwrap());
        assert!(stamp >= last && stamp >= now_s);
        last = stamp;
    }
}

#[test]
fn who_has_not_said_hello_gets_little_memory() {
    // S10
    for keys in [&[][..], &[key(1)]] {
        let mut acceptor = Session::accept(keys, [2; 32]);
        acceptor.feed(&i32::try_from(HELLO_BYTES_MAX + 1).unwrap().to_le_bytes());
        let refused = acceptor.next(&mut Codec::new(), 1, &mut Vec::new());
        assert_eq!(
            refused.unwrap_err(),
            SessionError::Frame(FrameError::TooLarge)
        );
    }
    let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; 1 << 20], 9);
    let mut wire = Vec::new();
    frame::write_frame::<FrameError>(&mut wire, bomb.len(), |out| {
        out.extend_from_slice(&bomb);
        Ok(())
    })
    .unwrap();
    let mut acceptor = Session::accept(&[], [2; 32]);
    acceptor.feed(&wire);
    let refused = acceptor.next(&mut Codec::new(), 1, &mut Vec::new());
    assert_eq!(
        refused.unwrap_err(),
        SessionError::Frame(FrameError::TooLarge)
    );
}

#[test]
fn a_message_may_hold_what_its_sender_needs() {
    // S16: a frame of a hundred bytes can stand for half a million values.
    let reader = Hello::ReadOnly;
    let question = Hello::Utility(crate::wire::utility::UtilityRequest::Status);
    for (hello, most) in [
        (question, HELLO_VALUES_MAX),
        (reader, READ_ONLY_VALUES_MAX),
        (self::hello(), PICKLE_VALUES_MAX),
    ] {
        for (values, accepted) in [(most - 2, true), (most + 1, false)] {
            let mut codec = Codec::new();
            let mut pickled = vec![b'('];
            pickled.resize(values, b'N');
            pickled.extend_from_slice(b"t.");
            let mut wire = Vec::new();
            let mut dialler = Session::dial(hello.clone(), None, [1; 32]);
            dialler.start(&mut codec, 1, &mut wire).unwrap();
            let zlib = miniz_oxide::deflate::compress_to_vec_zlib(&pickled, 9);
            frame::write_frame::<FrameError>(&mut wire, zlib.len(), |out| {
                out.extend_from_slice(&zlib);
                Ok(())
            })
            .unwrap();
            let mut acceptor = Session::accept(&[], [2; 32]);
            acceptor.feed(&wire);
            let first = acceptor.next(&mut codec, 1, &mut Vec::new()).unwrap();
            assert_eq!(Hello::decode(&first.unwrap()).as_ref(), Ok(&hello));
            let second = acceptor.next(&mut codec, 1, &mut Vec::new());
            assert_eq!(second.is_ok(), accepted, "{hello:?}: {values}");
        }
    }
}

#[test]
fn nothing_can_be_sent_before_the_handshake_is_over() {
    let mut codec = Codec::new();
    let mut acceptor = Session::accept(&[key(1)], [2; 32]);
    let mut dialler = Session::dial(hello(), Some(key(1)), [1; 32]);
    for session in [&mut acceptor, &mut dialler] {
        let refused = session.send(&mut codec, &Message::Keepalive, 1, &mut Vec::new());
        assert_eq!(refused, Err(SessionError::NotUp));
    }
}

#[test]
fn a_utility_client_is_answered_again_and_again() {
    let mut codec = Codec::new();
    let mut acceptor = Session::accept(&[], [2; 32]);
    for _ in 0..2 {
        let (mut wire, mut out) = (Vec::new(), Vec::new());
        let request = Hello::Utility(crate::wire::utility::UtilityRequest::Status);
        let mut client = Session::dial(request.clone(), None, [1; 32]);
        client.start(&mut codec, 1, &mut wire).unwrap();
        acceptor.feed(&wire);
        let value = acceptor.next(&mut codec, 1, &mut out).unwrap().unwrap();
        assert_eq!(Hello::decode(&value), Ok(request));
        assert!(!acceptor.is_up());
        acceptor.send(&mut codec, "FAIL", 1, &mut out).unwrap();
        client.feed(&out);
        let reply = client.next(&mut codec, 1, &mut Vec::new()).unwrap();
        assert_eq!(reply.unwrap().as_str(), Some("FAIL"));
    }
}
