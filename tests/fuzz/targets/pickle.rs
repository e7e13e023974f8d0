//! Any bytes as a pickle: no panic, no growth beyond the caps, and what decodes
//! means the same when we have written it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_witness::wire::pickle::{self, PickleError};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = pickle::decode(bytes) else {
        return;
    };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    pickle::encode(&value, &mut first);
    match pickle::decode(&first) {
        Ok(again) => {
            pickle::encode(&again, &mut second);
            assert_eq!(first, second);
            assert_eq!(value.py_eq(&again), again.py_eq(&value));
        }
        // Written out, shared parts may count for more than the caps allow.
        Err(error) => assert!(matches!(error, PickleError::Limit(_)), "{error}"),
    }
});
