use super::*;
use crate::wire::value::Str;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn round_trip(value: &Value) -> Value {
    let mut out = Vec::new();
    encode(value, &mut out);
    decode(&out).unwrap()
}

#[test]
fn decodes_bytes_written_as_latin1_text() {
    // bytes([0x00, 0x7f, 0x80, 0xff]) in protocol 2.
    let pickle = hex(
        "8002 635f636f646563730a656e636f64650a 7100 5806000000 007fc280c3bf 7101
                      5806000000 6c6174696e31 7102 86 7103 52 7104 2e",
    );
    assert_eq!(
        decode(&pickle).unwrap().as_bytes().unwrap()[..],
        [0, 0x7f, 0x80, 0xff]
    );
}

#[test]
fn shared_objects_decode_to_equal_values() {
    // x = [1]; (x, x)
    let value = decode(&hex("8002 5d7100 4b0161 6800 86 2e")).unwrap();
    assert!(value.py_eq(&Value::tuple([
        Value::list([Value::Int(1)]),
        Value::list([Value::Int(1)])
    ])));
}

#[test]
fn recursion_is_refused() {
    // S9: a list, a dict and a tuple in a list that hold themselves.
    for pickle in [
        "80025d71006800612e",
        "80027d71004e6800732e",
        "80025d71006800857101612e",
    ] {
        assert!(decode(&hex(pickle)).is_err(), "{pickle}");
    }
}

#[test]
fn self_multiplying_pickles_are_refused() {
    // S10: t = (t, t), sixty times: 2^60 values in 240 bytes.
    let mut bomb = hex("8002 4e");
    for slot in 0..60u8 {
        bomb.extend_from_slice(&[b'q', slot, b'h', slot, 0x86]);
    }
    bomb.push(b'.');
    assert_eq!(decode(&bomb).unwrap_err(), PickleError::Limit("values"));
}

#[test]
fn costly_work_on_shared_values_is_refused() {
    // S10: a text of 1 MB, made bytes again and again.
    let text = [&b"X\x00\x00\x10\x00"[..], &[b'a'; 1 << 20], b"q\x01"].concat();
    let args = b"X\x06\x00\x00\x00latin1\x86q\x02c_codecs\nencode\nq\x03";
    let again = b"h\x03h\x02R0".repeat(100);
    let pickle = [&text[..], args, &again, b"."].concat();
    assert_eq!(decode(&pickle).unwrap_err(), PickleError::Limit("bytes"));
    // A text, and a tuple of many values, as the key of one dict after another.
    let again = b"}h\x01Ns0".repeat(100);
    let pickle = [&text[..], &again, b"."].concat();
    assert_eq!(decode(&pickle).unwrap_err(), PickleError::Limit("bytes"));
    let tuple = [&b"("[..], &[b'N'; 100_000], b"tq\x01"].concat();
    let pickle = [&tuple[..], &again, b"."].concat();
    assert_eq!(decode(&pickle).unwrap_err(), PickleError::Limit("values"));
}

#[test]
fn depth_is_capped() {
    let nested = |depth: usize| {
        let mut pickle = vec![b'N'];
        pickle.resize(1 + depth, 0x85);
        pickle.push(b'.');
        pickle
    };
    assert!(decode(&nested(63)).is_ok());
    assert_eq!(
        decode(&nested(64)).unwrap_err(),
        PickleError::Limit("depth")
    );
    let lists = [vec![b']'; 100_000], vec![b'a'; 99_999], vec![b'.']].concat();
    assert_eq!(decode(&lists).unwrap_err(), PickleError::Limit("depth"));
}

#[test]
fn values_are_capped_on_the_stack_too() {
    let many = vec![b'N'; crate::limits::PICKLE_VALUES_MAX + 1];
    assert_eq!(decode(&many).unwrap_err(), PickleError::Limit("values"));
    let marks = vec![b'('; crate::limits::PICKLE_VALUES_MAX + 1];
    assert_eq!(decode(&marks).unwrap_err(), PickleError::Limit("values"));
}

#[test]
fn only_known_globals_are_accepted() {
    let run = b"cos\nsystem\n(X\x02\x00\x00\x00lstR.";
    assert_eq!(decode(run).unwrap_err(), PickleError::Global);
    assert_eq!(
        decode(b"cbuiltins\neval\n.").unwrap_err(),
        PickleError::Global
    );
    // A class is no value.
    assert_eq!(decode(b"cbuiltins\nset\n.").unwrap_err(), PickleError::Type);
}

#[test]
fn dict_duplicates_keep_the_first_place_and_the_last_value() {
    // {1: 'a', 2: None, True: 'b', 1.0: 'c'} == {1: 'c', 2: None}
    let pickle = hex("80027d28 4b01 580100000061 4b02 4e 88 580100000062
                      473ff0000000000000 580100000063 752e");
    let Value::Dict(pairs) = decode(&pickle).unwrap() else {
        panic!("no dict")
    };
    assert!(matches!(
        &pairs[..],
        [(Value::Int(1), Value::Str(_)), (Value::Int(2), Value::None)]
    ));
    assert_eq!(pairs[0].1.as_str(), Some("c"));
}

#[test]
fn large_dicts_find_duplicates_and_refuse_unhashable_keys() {
    let mut pickle = hex("80027d28");
    for key in (0..200u8).chain(0..200) {
        pickle.extend_from_slice(&[b'K', key, 0x88]);
    }
    pickle.extend_from_slice(b"u.");
    assert!(matches!(decode(&pickle).unwrap(), Value::Dict(pairs) if pairs.len() == 200));
    assert_eq!(
        decode(&hex("80027d5d4e732e")).unwrap_err(),
        PickleError::Unhashable
    );
}

#[test]
fn lone_surrogates_survive() {
    let pickle = hex("8002 5803000000 eda080 2e");
    let Value::Str(text) = decode(&pickle).unwrap() else {
        panic!("no text")
    };
    assert_eq!(text.as_bytes(), [0xed, 0xa0, 0x80]);
    assert!(text.as_str().is_none());
    assert_eq!(
        decode(&hex("8002 5802000000 eda0 2e")).unwrap_err(),
        PickleError::Text
    );
    let back = round_trip(&Value::Str(text.clone()));
    assert!(back.py_eq(&Value::Str(text)));
}

#[test]
fn numbers_keep_type_and_bits() {
    let wide = Value::int_from_le(&[0, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    let numbers = [
        Value::Bool(true),
        Value::Int(1),
        Value::Float(1.0),
        Value::Int(-1),
        Value::Int(255),
        Value::Int(65_536),
        Value::Int(i64::MIN),
        Value::Int(i64::MAX),
        Value::Float(-0.0),
        Value::Float(1_700_000_000.25),
        wide,
    ];
    for number in &numbers {
        let back = round_trip(number);
        assert_eq!(format!("{number:?}"), format!("{back:?}"));
    }
    let text = b"(I01\nI00\nI-5\nL123456789012345678901234567890L\nF1.5\nL-9223372036854775808\nt.";
    let value = decode(text).unwrap();
    let items = value.as_seq().unwrap();
    assert!(matches!(
        items[..3],
        [Value::Bool(true), Value::Bool(false), Value::Int(-5)]
    ));
    assert!(matches!(
        items[4..],
        [Value::Float(1.5), Value::Int(i64::MIN)]
    ));
    let expected = 123_456_789_012_345_678_901_234_567_890_u128.to_le_bytes();
    assert!(items[3].py_eq(&Value::int_from_le(&expected)));
    assert_eq!(decode(b"I1_0\n.").unwrap_err(), PickleError::Number);
    let wide = [&[b'L'][..], &[b'9'; 2000], b"\n."].concat();
    assert_eq!(
        decode(&wide).unwrap_err(),
        PickleError::Limit("integer width")
    );
}

#[test]
fn newer_protocols_are_read() {
    let nodes = b"\x80\x04\x8c\x0epysyncobj.node\x94\x8c\x07TCPNode\x94\x93\x94)\x81\x94}\x94\
                  (\x8c\x03_id\x94\x8c\x03a:1\x94ub.";
    assert!(decode(nodes).unwrap().py_eq(&Value::Node("a:1".into())));
    let old = b"ccopy_reg\n_reconstructor\n(cpysyncobj.node\nTCPNode\nc__builtin__\nobject\nNtR\
                }(U\x03_idU\x03a:1ub.";
    assert!(decode(old).unwrap().py_eq(&Value::Node("a:1".into())));
    let sets = b"\x80\x04\x8f(K\x01K\x02K\x01\x90(K\x01K\x02\x91\x86.";
    let value = decode(sets).unwrap();
    let items = value.as_seq().unwrap();
    assert!(items[0].py_eq(&items[1]));
    assert!(matches!(&items[0], Value::Set(items) if items.len() == 2));
}

#[test]
fn malformed_pickles_are_named() {
    assert_eq!(decode(b"").unwrap_err(), PickleError::Truncated);
    assert_eq!(decode(b"\x80\x06.").unwrap_err(), PickleError::Protocol(6));
    assert_eq!(decode(b".").unwrap_err(), PickleError::Stack);
    assert_eq!(decode(b"h\x00.").unwrap_err(), PickleError::Memo);
    assert_eq!(
        decode(b"Nr\xff\xff\xff\x7f.").unwrap_err(),
        PickleError::Memo
    );
    assert_eq!(decode(b"P1\n.").unwrap_err(), PickleError::Opcode(b'P'));
    assert_eq!(decode(b"N(.").unwrap_err(), PickleError::Stack);
    assert_eq!(decode(b"](NNu.").unwrap_err(), PickleError::Type);
    assert_eq!(decode(b"}(Nu.").unwrap_err(), PickleError::Stack);
    assert_eq!(
        decode(b"cpysyncobj.node\nTCPNode\n)\x81.").unwrap_err(),
        PickleError::Type
    );
    assert_eq!(decode(b"(u.").unwrap_err(), PickleError::Stack);
    assert_eq!(
        decode(b"X\xff\xff\xff\xffa.").unwrap_err(),
        PickleError::Truncated
    );
}

#[test]
fn containers_and_nodes_round_trip() {
    let value = Value::dict([
        ("none", Value::None),
        ("empty", Value::tuple([])),
        (
            "list",
            Value::list([Value::str("é"), Value::bytes(&[0xff; 300])]),
        ),
        ("node", Value::Node(Str::from("10.0.0.1:5010"))),
        ("set", Value::Set([Value::Int(1), Value::str("x")].into())),
        ("dict", Value::dict([])),
    ]);
    assert!(round_trip(&value).py_eq(&value));
}
