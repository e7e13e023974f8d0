//! Conversations with scripted servers, byte by byte and all at once.

use super::*;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn request(code: i32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], rest].concat())
}

fn error(sqlstate: &str, text: &str) -> Vec<u8> {
    let body = format!("SFATAL\0VFATAL\0C{sqlstate}\0M{text}\0Fx.c\0L1\0Rf\0\0");
    message(b'E', body.as_bytes())
}

fn row(values: &[&str]) -> Vec<u8> {
    let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value.as_bytes());
    }
    message(b'D', &body)
}

fn who(password: Option<&str>) -> Identity {
    Identity {
        user: "postgres".into(),
        database: "postgres".into(),
        password: password.and_then(Secret::new),
        md5: true,
    }
}

/// What comes of a server that says `bytes` whatever it is told, in pieces of
/// `size`, and then hangs up if `ends`; with the farewell.
fn told(identity: &Identity, bytes: &[u8], size: usize, ends: bool) -> (Outcome, Option<Vec<u8>>) {
    let mut conversation = Conversation::new(identity);
    let mut pieces = bytes.chunks(size);
    let mut farewell = None;
    loop {
        match conversation.step() {
            ProbeStep::Read => match pieces.next() {
                Some(piece) => conversation.on_bytes(piece),
                None if ends => conversation.on_end(),
                None => break,
            },
            ProbeStep::Send(_) => {}
            ProbeStep::Derive(derivation) => conversation.derived(derivation.run()),
            ProbeStep::Leave(bytes) => {
                farewell = Some(bytes.to_vec());
                break;
            }
        }
    }
    (conversation.outcome(), farewell)
}

/// The first answer without a password, of the same kind in any pieces.
fn answer(bytes: &[u8], ends: bool) -> Option<ProbeAnswer> {
    let identity = who(None);
    let told = |size| told(&identity, bytes, size, ends).0.answer;
    let whole = told(usize::MAX);
    for size in 1..12 {
        let kinds = [told(size), whole.clone()].map(|answer| answer.map(|a| a.as_str()));
        assert_eq!(kinds[0], kinds[1], "{size}");
    }
    whole
}

fn method(bytes: &[u8]) -> AuthMethod {
    match answer(bytes, false) {
        Some(ProbeAnswer::Accepting(Acceptance::Authentication(method))) => method,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_startup_packet_is_as_the_protocol_has_it() {
    let identity = who(None);
    let ProbeStep::Send(packet) = Conversation::new(&identity).step() else {
        panic!("nothing is sent");
    };
    assert_eq!(
        &packet[..],
        b"\0\0\0\x45\0\x03\0\0user\0postgres\0database\0postgres\0application_name\0pg-witness\0\0"
    );
}

#[test]
fn a_request_for_authentication_proves_that_it_accepts() {
    let scram = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    let welcome = [request(0, b""), message(b'Z', b"I")].concat();
    for (bytes, expected) in [
        (welcome, AuthMethod::Trust),
        (request(3, b""), AuthMethod::Cleartext),
        (request(5, b"salt"), AuthMethod::Md5),
        (request(10, scram), AuthMethod::Scram),
        (request(10, b"OAUTHBEARER\0\0"), AuthMethod::Other(10)),
        (request(7, b""), AuthMethod::Other(7)),
        (request(77, b"of tomorrow"), AuthMethod::Other(77)),
        (
            [message(b'N', b"\0"), request(3, b"")].concat(),
            AuthMethod::Cleartext,
        ),
    ] {
        assert_eq!(method(&bytes), expected);
    }
}

#[test]
fn an_error_is_kept_with_its_code_and_text() {
    let Some(ProbeAnswer::StartingUp(kept)) =
        answer(&error("57P03", "the database system is starting up"), true)
    else {
        panic!("another answer");
    };
    assert_eq!((&*kept.severity, &*kept.sqlstate), ("FATAL", "57P03"));
    assert_eq!(&*kept.message, "the database system is starting up");
    let no_fork = b"Ecould not fork new process for connection: no memory\n\0";
    assert!(matches!(
        answer(no_fork, false),
        Some(ProbeAnswer::NotAccepting(_))
    ));
}

#[test]
fn what_is_no_postgresql_is_told_without_its_words() {
    for (bytes, ends, expected) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            true,
            "it speaks another protocol",
        ),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            false,
            "it speaks another protocol",
        ),
        (
            b"-ERR unknown command\r\n",
            false,
            "it speaks another protocol",
        ),
        (b"ERROR\r\n", false, "a length"),
        (
            b"\x4e\0\0\0\x0a8.0.36\0\x0b\0\0\0abc",
            false,
            "it speaks another",
        ),
        (b"R\0", true, "it hung up in the midst"),
        (b"R\0\0\0\x03", false, "a length"),
        (b"R\0\0\0\x04", false, "it sends what no PostgreSQL"),
        // A request without a code has not that of the next message.
        (
            b"R\0\0\0\x04R\0\0\0\x04",
            false,
            "it sends what no PostgreSQL",
        ),
        (b"R\xff\xff\xff\xff", false, "a length"),
        (b"E\0\0\0\x09abcd\0", false, "its error cannot be read"),
    ] {
        let Some(ProbeAnswer::NotPostgres(why)) = answer(bytes, ends) else {
            panic!("{bytes:?}");
        };
        assert!(why.starts_with(expected), "{why}");
    }
    // It hung up without a word, which a server that dies does too.
    assert_eq!(
        answer(b"", true),
        Some(ProbeAnswer::Silent { connected: true })
    );
    // Not even a whole message: it is silent, in the end.
    assert_eq!(answer(b"R\0\0\0\x08\0\0", false), None);
    assert_eq!(answer(b"", false), None);
}

#[test]
fn bytes_without_end_are_not_read_to_their_end() {
    // S10
    let notices = message(b'N', &[b'x'; 1000]).repeat(1000);
    let (outcome, _) = told(&who(None), &notices, 1000, false);
    let Some(ProbeAnswer::NotPostgres(why)) = outcome.answer else {
        panic!("it was believed");
    };
    assert_eq!(&*why, "it sends without end");
}

#[test]
fn errors_behind_the_authentication_count() {
    let reserved = error("53300", "remaining connection slots are reserved");
    let full = [request(0, b""), reserved].concat();
    assert!(matches!(
        answer(&full, true),
        Some(ProbeAnswer::TooManyConnections(_))
    ));
    let unknown = [request(0, b""), error("3D000", "no such database")].concat();
    assert!(answer(&unknown, true).unwrap().is_accepting());
}

#[test]
fn leaving_is_polite() {
    let welcome = [
        request(0, b""),
        message(b'S', b"a\0b\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    let farewell = told(&who(None), &welcome, 3, false).1;
    assert_eq!(farewell.as_deref(), Some(&b"X\0\0\0\x04"[..]));
    // Asked for a password a server takes `Terminate` for a wrong one.
    let farewell = told(&who(None), &request(3, b""), 3, false).1;
    assert_eq!(farewell.as_deref(), Some(&b""[..]));
}

/// What comes of a login against a server that says this whatever it is told.
fn login(bytes: &[Vec<u8>]) -> (Option<ProbeAnswer>, Login) {
    let (outcome, _) = told(&who(Some("secret")), &bytes.concat(), 7, true);
    (outcome.answer, outcome.login.unwrap())
}

#[test]
fn a_login_tells_a_standby_from_a_primary() {
    let ready = || message(b'Z', b"I");
    let key = || message(b'K', b"12345678");
    let enter = || [request(5, b"salt"), request(0, b""), key(), ready()].concat();
    for (value, in_recovery) in [("t", true), ("f", false)] {
        let rows = [
            message(b'T', b"\0\0"),
            row(&["1", value]),
            message(b'C', b"SELECT 1\0"),
        ];
        let (_, login) = login(&[enter(), rows.concat(), ready()]);
        assert_eq!(login, Login::Queried { in_recovery });
    }
    let failed = |bytes: &[Vec<u8>]| match login(bytes).1 {
        Login::Failed(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(&*failed(&[enter(), ready()]), "its query gave no row");
    for values in [&["2", "t"][..], &["1"], &["1", "x"], &["1", "t", "t"], &[]] {
        let why = failed(&[enter(), row(values), ready()]);
        assert_eq!(&*why, "its row is not what was asked for");
    }
    assert_eq!(&*failed(&[enter()]), "it hung up");
}

#[test]
fn a_refused_login_is_told_and_the_answer_stands() {
    let (answer, refused) = login(&[request(5, b"salt"), error("28P01", "wrong password")]);
    assert!(answer.unwrap().is_accepting());
    let Login::Refused(why) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(&*why.sqlstate, "28P01");
}

/// What the probe says of its login to a server that asks with `bytes`, and whether
/// anything was sent after the startup packet.
fn asked_with(identity: &Identity, bytes: &[u8]) -> (Option<Login>, bool) {
    let mut conversation = Conversation::new(identity);
    let _startup = conversation.step();
    conversation.on_bytes(bytes);
    let sent = matches!(conversation.step(), ProbeStep::Send(_));
    (conversation.outcome().login, sent)
}

#[test]
fn md5_is_answered_only_where_it_is_configured() {
    let with_md5 = who(Some("secret"));
    assert!(asked_with(&with_md5, &request(5, b"salt")).1);
    let without = Identity {
        md5: false,
        ..with_md5
    };
    let (login, sent) = asked_with(&without, &request(5, b"salt"));
    assert!(!sent);
    let Some(Login::Failed(why)) = login else {
        panic!("{login:?}");
    };
    assert!(why.contains("probe.md5"), "{why}");
}

#[test]
fn a_challenge_of_few_rounds_is_not_answered() {
    let scram = request(10, b"SCRAM-SHA-256\0\0");
    for challenge in ["i=1", "i=4095", "i=", "", "i=99999999999"] {
        let challenge = format!("r=theirs,s=AAAA,{challenge}");
        let (_, failed) = login(&[scram.clone(), request(11, challenge.as_bytes())]);
        let Login::Failed(why) = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(&*why, "its SCRAM challenge asks for fewer than 4096 rounds");
    }
    assert_eq!(rounds(b"r=theirs,s=AAAA,i=4096"), Some(4096));
}

#[test]
fn a_password_is_not_given_to_whom_it_does_not_belong() {
    // In clear text to nobody.
    let identity = who(Some("secret"));
    let mut conversation = Conversation::new(&identity);
    let _startup = conversation.step();
    conversation.on_bytes(&request(3, b""));
    let ProbeStep::Leave(farewell) = conversation.step() else {
        panic!("it goes on");
    };
    assert!(farewell.is_empty());
    // SCRAM: a server that skips its own proof does not get a query.
    let scram = request(10, b"SCRAM-SHA-256\0\0");
    for next in [
        request(0, b""),
        request(12, b"v=AAAA"),
        request(11, b"r=not-ours,s=AAAA,i=4096"),
        request(11, b"nonsense"),
    ] {
        let (_, failed) = login(&[scram.clone(), next]);
        assert!(matches!(failed, Login::Failed(_)), "{failed:?}");
    }
    // S11
    assert!(!format!("{:?}", who(Some("hunter2"))).contains("hunter2"));
}
