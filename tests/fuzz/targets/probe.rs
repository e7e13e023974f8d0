//! Any bytes as a server's words, and any text as a `conn_url`. The first byte
//! chooses the size of the pieces, and whether there is a password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_witness::probe::conn_url;
use pg_witness::probe::conversation::{Conversation, Identity, ProbeStep};
use pg_witness::secret::Secret;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(hosts) = conn_url::hosts(text)
    {
        assert!(!hosts.is_empty() && hosts.iter().all(|host| host.port != 0));
    }
    let [choice, said @ ..] = bytes else { return };
    let identity = Identity {
        user: "user".into(),
        database: "database".into(),
        password: (choice & 1 == 1).then(|| Secret::new("password")).flatten(),
        md5: true,
    };
    let mut conversation = Conversation::new(&identity);
    let mut pieces = said.chunks(1 + usize::from(choice >> 1));
    loop {
        match conversation.step() {
            ProbeStep::Read => match pieces.next() {
                Some(piece) => conversation.on_bytes(piece),
                None if choice & 2 == 2 => conversation.on_end(),
                None => break,
            },
            ProbeStep::Send(sent) => assert!(sent.len() < 4096),
            ProbeStep::Derive(derivation) => conversation.derived(derivation.run()),
            ProbeStep::Leave(_) => break,
        }
    }
    let outcome = conversation.outcome();
    assert!(outcome.login.is_none() || outcome.answer.is_some());
});
