//! Any bytes on a connection. The first byte chooses the end and whether the
//! bytes are raw, or pickles that we frame (and seal) so that they get past the
//! checksums.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pg_witness::wire::frame::{FrameError, store, write_frame};
use pg_witness::wire::message::Hello;
use pg_witness::wire::{Codec, Key, Message, Session, pickle};

fn frame(pickled: &[u8], key: Option<&Key>, out: &mut Vec<u8>) {
    let mut zlib = Vec::new();
    store(pickled, &mut zlib);
    write_frame::<FrameError>(out, 1 << 24, |out| {
        match key {
            Some(key) => key.seal(&zlib, 1, [3; 16], &mut Vec::new(), out),
            None => out.extend_from_slice(&zlib),
        }
        Ok(())
    })
    .unwrap();
}

fuzz_target!(|bytes: &[u8]| {
    let Some((mode, bytes)) = bytes.split_first() else {
        return;
    };
    let key = (mode & 1 != 0).then(|| Arc::new(Key::from_bytes([7; 32])));
    let keys: Vec<_> = key.clone().into_iter().collect();
    let hello = Hello::Member("10.0.0.9:5010".parse().unwrap());
    let (mut codec, mut out) = (Codec::new(), Vec::new());
    let mut session = if mode & 2 != 0 {
        let mut session = Session::dial(hello, key.clone(), [1; 32]);
        session.start(&mut codec, 1, &mut out).unwrap();
        session
    } else {
        Session::accept(&keys, [1; 32])
    };
    let mut stream = Vec::new();
    if mode & 4 != 0 {
        bytes.chunks(usize::from(*mode >> 3) * 8 + 64).for_each(|part| frame(part, key.as_deref(), &mut stream));
    } else {
        stream.extend_from_slice(bytes);
    }
    for part in stream.chunks(usize::from(*mode) + 1) {
        session.feed(part);
        loop {
            match session.next(&mut codec, 1, &mut out) {
                Ok(Some(value)) => {
                    let _ = (Hello::decode(&value), Message::decode(&value));
                    let mut copy = Vec::new();
                    pickle::encode(&value, &mut copy);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        // What a stranger can make us hold: a hello's answer, no more.
        assert!(out.len() < 4096);
    }
});
