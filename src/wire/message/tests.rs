//! What is refused, what is tolerated, and what is written.

use super::*;

fn append(pairs: &[(&'static str, Value)]) -> Result<Append, MessageError> {
    let base = [
        ("type", Value::str("append_entries")),
        ("term", Value::Int(3)),
        ("commit_index", Value::Int(5)),
    ];
    let value = Value::dict(base.into_iter().chain(pairs.iter().cloned()));
    match Message::decode(&value)? {
        Message::AppendEntries(append) => Ok(append),
        other => panic!("{other:?}"),
    }
}

fn entry(index: i64, term: i64) -> Value {
    Value::tuple([Value::bytes(b"\x01"), Value::Int(index), Value::Int(term)])
}

fn entries(prev: Value, list: Vec<Value>) -> Result<Append, MessageError> {
    append(&[
        ("prevLogIdx", prev),
        ("prevLogTerm", Value::Int(2)),
        ("entries", Value::list(list)),
    ])
}

#[test]
fn entries_follow_their_predecessor() {
    // S9: openraft asserts on what is not consecutive.
    assert!(entries(Value::Int(4), vec![entry(5, 2), entry(6, 3)]).is_ok());
    // H7: terms may decrease.
    assert!(entries(Value::Int(4), vec![entry(5, 17), entry(6, 1)]).is_ok());
    for list in [
        vec![entry(6, 3)],
        vec![entry(4, 2)],
        vec![entry(5, 2), entry(5, 2)],
        vec![entry(5, 2), entry(7, 2)],
        vec![entry(5, -1)],
        vec![entry(0, 1)],
        vec![Value::tuple([
            Value::str("x"),
            Value::Int(5),
            Value::Int(2),
        ])],
        vec![Value::None],
    ] {
        let refused = entries(Value::Int(4), list.clone());
        assert_eq!(refused, Err(MessageError::Entry), "{list:?}");
    }
    let unknown = entries(Value::None, vec![entry(9, 2), entry(10, 2)]).unwrap();
    assert!(matches!(
        unknown.body,
        AppendBody::Entries { prev: None, .. }
    ));
    assert!(entries(Value::None, vec![entry(9, 2), entry(11, 2)]).is_err());
}

#[test]
fn odd_indices_and_terms_are_judged() {
    for (odd, expected) in [
        (Value::Int(0), 1),
        (Value::Int(-3), 1),
        (Value::Bool(true), 1),
    ] {
        let value = Value::dict([
            ("type", Value::str("append_entries")),
            ("term", Value::Int(1)),
            ("commit_index", odd),
        ]);
        let Ok(Message::AppendEntries(append)) = Message::decode(&value) else {
            panic!("refused")
        };
        assert_eq!(append.commit.get(), expected);
    }
    for odd in [
        Value::None,
        Value::str("5"),
        Value::Float(1.0),
        Value::Int(i64::MAX),
    ] {
        let value = Value::dict([
            ("type", Value::str("append_entries")),
            ("term", Value::Int(1)),
            ("commit_index", odd),
        ]);
        assert_eq!(
            Message::decode(&value),
            Err(MessageError::Field("commit_index"))
        );
    }
    // Below the first entry there is nothing to compare with.
    let zero = entries(Value::Int(0), vec![]).unwrap();
    assert!(matches!(zero.body, AppendBody::Entries { prev: None, .. }));
}

#[test]
fn what_kills_a_python_node_is_refused_or_harmless_here() {
    // H2
    let missing = Value::dict([("type", Value::str("request_vote"))]);
    assert_eq!(Message::decode(&missing), Err(MessageError::Field("term")));
    assert_eq!(
        Message::decode(&Value::dict([])),
        Err(MessageError::NotMessage)
    );
    assert_eq!(Message::decode(&Value::None), Err(MessageError::NotMessage));
    let word = append(&[
        ("prevLogIdx", Value::Int(1)),
        ("prevLogTerm", Value::Int(0)),
        ("transmission", Value::str("pause")),
        ("data", Value::bytes(b"")),
    ]);
    assert_eq!(word, Err(MessageError::Field("transmission")));
    let broken = append(&[("serialized", Value::Bool(false))]).unwrap();
    assert_eq!(broken.body, AppendBody::Snapshot(None));
    let other = Value::dict([("type", Value::str("from_the_future"))]);
    assert_eq!(Message::decode(&other), Ok(Message::Unknown));
    assert_eq!(Hello::decode(&Value::dict([])), Err(MessageError::NotHello));
    let list = Hello::decode(&Value::list([]));
    assert_eq!(list, Ok(Hello::Utility(utility::UtilityRequest::Unknown)));
}

#[test]
fn unknown_error_codes_leave_the_outcome_open() {
    for (code, expected) in [
        (6, ApplyError::RequestDenied),
        (9, ApplyError::UnknownOutcome),
    ] {
        let value = Value::dict([
            ("type", Value::str("apply_command_response")),
            ("request_id", Value::Int(4)),
            ("error", Value::Int(code)),
        ]);
        let outcome = ApplyOutcome::Refused(expected);
        let request_id = 4;
        assert_eq!(
            Message::decode(&value),
            Ok(Message::ApplyCommandResponse {
                request_id,
                outcome
            })
        );
    }
}
