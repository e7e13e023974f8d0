//! Any bytes as a command.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_witness::wire::{Command, command};

fuzz_target!(|bytes: &[u8]| {
    match Command::parse(bytes) {
        Command::Membership { add, address } => {
            assert!(Command::is_membership(bytes));
            let ours = Command::parse(&command::membership(add, &address));
            assert!(
                matches!(ours, Command::Membership { add: a, address: b } if a == add && b == address)
            );
        }
        _ => {}
    }
});
