//! What must hold whatever a server says, and whatever stands in a `conn_url`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use pg_witness::limits;
use pg_witness::probe::conn_url;
use pg_witness::probe::conversation::{Conversation, Identity, Outcome, ProbeStep};
use pg_witness::secret::Secret;
use proptest::collection::vec;
use proptest::prelude::*;

/// What comes of a server that says `bytes` in pieces of `size`; with how much
/// of it was read.
fn told(bytes: &[u8], size: usize, password: bool) -> (Outcome, usize) {
    let identity = Identity {
        user: "user".into(),
        database: "database".into(),
        password: password.then(|| Secret::new("password")).flatten(),
        md5: true,
    };
    let mut conversation = Conversation::new(&identity);
    let mut read = 0;
    // Each piece brings at most a few steps; more would be a loop without end.
    for _ in 0..10 * bytes.len() + 10 {
        match conversation.step() {
            ProbeStep::Read => match bytes.get(read..(read + size).min(bytes.len())) {
                None | Some([]) => conversation.on_end(),
                Some(piece) => {
                    read += piece.len();
                    conversation.on_bytes(piece);
                }
            },
            ProbeStep::Send(_) => {}
            ProbeStep::Derive(derivation) => conversation.derived(derivation.run()),
            ProbeStep::Leave(_) => return (conversation.outcome(), read),
        }
    }
    panic!("it never ends");
}

/// Bytes that look like messages more often than chance has it.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let message = (
        prop::sample::select(b"RRRREENSKZDTCv1".to_vec()),
        prop_oneof![
            vec(any::<u8>(), 0..40),
            (0i32..14, vec(any::<u8>(), 0..20)).prop_map(|(code, rest)| [
                &code.to_be_bytes()[..],
                &rest
            ]
            .concat()),
            Just(b"\0\0\0\x0aSCRAM-SHA-256\0\0".to_vec()),
            Just(b"SFATAL\0VFATAL\0C57P03\0Mthe text\0\0".to_vec()),
        ],
        -2i64..3,
    )
        .prop_map(|(tag, body, off)| {
            let length =
                i64::try_from(body.len()).unwrap() + 4 + if off == 2 { 1 << 30 } else { 0 };
            let length = u32::try_from(length).unwrap();
            [&[tag][..], &length.to_be_bytes(), &body].concat()
        });
    prop_oneof![
        vec(any::<u8>(), 0..200),
        vec(message, 0..6).prop_map(|messages| messages.concat()),
    ]
}

proptest! {
    #[test]
    fn every_conversation_ends_and_is_the_same_in_any_pieces(
        bytes in words(), size in 1usize..50, password in any::<bool>(),
    ) {
        let (whole, _) = told(&bytes, bytes.len().max(1), password);
        let (pieces, _) = told(&bytes, size, password);
        let kind = |outcome: &Outcome| outcome.answer.as_ref().map(|answer| answer.as_str());
        prop_assert_eq!(kind(&whole), kind(&pieces));
        prop_assert!(whole.answer.is_some(), "it ended, and nothing is said of it");
        prop_assert!(whole.login.is_none() || password);
    }

    /// S10
    #[test]
    fn a_server_without_end_is_left(piece in vec(any::<u8>(), 1..40), password in any::<bool>()) {
        let endless = piece.repeat(4 * limits::PG_PROBE_BYTES_MAX / piece.len());
        let (_, read) = told(&endless, 1024, password);
        prop_assert!(read <= limits::PG_PROBE_BYTES_MAX + 1024);
    }

    #[test]
    fn any_text_is_a_url_or_none(text in ".{0,200}", odd in "postgres(ql)?://[a-z0-9:,@/%?&=\\[\\].-]{0,60}") {
        for text in [text, odd] {
            if let Ok(hosts) = conn_url::hosts(&text) {
                prop_assert!((1..=limits::CONN_URL_HOSTS_MAX).contains(&hosts.len()));
                for host in hosts {
                    prop_assert!(host.port != 0 && !host.name.is_empty());
                    // What is shown of it leads to the same place.
                    let name = host.name.replace('%', "%25");
                    let shown = host.to_string().replace(&*host.name, &name);
                    let again = conn_url::hosts(&format!("postgres://{shown}/"));
                    if !host.name.contains(':') || host.name.contains("::") {
                        prop_assert_eq!(again, Ok(vec![host]));
                    }
                }
            }
        }
    }
}
