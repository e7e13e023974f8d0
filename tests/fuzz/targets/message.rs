//! Any pickle as a message, hello, status or entry; what is accepted means the
//! same when we have written it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_witness::wire::message::{AppendBody, Hello, decode_entry};
use pg_witness::wire::utility::{MembersReply, StatusReply};
use pg_witness::ids::LogIndex;
use pg_witness::wire::{Message, pickle};

fn again<T: pickle::Encode>(value: &T) -> Option<pg_witness::wire::Value> {
    let mut out = Vec::new();
    pickle::encode(value, &mut out);
    pickle::decode(&out).ok()
}

fuzz_target!(|bytes: &[u8]| {
    let _ = decode_entry(bytes);
    let Ok(value) = pickle::decode(bytes) else {
        return;
    };
    if let Ok(mut message) = Message::decode(&value)
        && let Some(back) = again(&message)
    {
        // What carries a snapshot is written without its commit index, on purpose.
        if let Message::AppendEntries(append) = &mut message
            && matches!(append.body, AppendBody::Snapshot(_))
        {
            append.commit = LogIndex::FIRST;
        }
        assert_eq!(Message::decode(&back), Ok(message));
    }
    if let Ok(hello) = Hello::decode(&value)
        && !matches!(hello, Hello::Utility(pg_witness::wire::utility::UtilityRequest::Unknown))
        && let Some(back) = again(&hello)
    {
        assert_eq!(Hello::decode(&back), Ok(hello));
    }
    if let Ok(status) = StatusReply::decode(&value)
        && let Some(back) = again(&status)
    {
        assert!(StatusReply::decode(&back).is_ok());
    }
    if let Ok(members) = MembersReply::decode(&value)
        && let Some(back) = again(&members)
    {
        assert_eq!(MembersReply::decode(&back), Ok(members));
    }
});
