//! Command lines, and replies as they are shown.

use super::*;
use crate::ids::Term;
use crate::wire::utility::{MemberStatus, PartnerStatus};

fn parsed(line: &str) -> Result<Order, String> {
    let words = line.split_whitespace().map(OsString::from);
    match parse(&mut Parser::from_args(words)) {
        Ok(Invocation::Raft(order)) => Ok(order),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

fn addr(text: &str) -> Address {
    text.parse().unwrap()
}

#[test]
fn command_lines_mean_what_help_says() {
    for (line, node, question) in [
        ("status a:1", "a:1", RaftQuestion::Status),
        (
            "members [fd00::1]:2222",
            "fd00::1:2222",
            RaftQuestion::Members,
        ),
        ("add a:1 b:2", "a:1", RaftQuestion::Add(addr("b:2"))),
        (
            "remove a:1 [::1]:2",
            "a:1",
            RaftQuestion::Remove(addr("::1:2")),
        ),
        ("transfer a:1", "a:1", RaftQuestion::Transfer(None)),
        (
            "--json transfer a:1 b:2",
            "a:1",
            RaftQuestion::Transfer(Some(addr("b:2"))),
        ),
    ] {
        let order = parsed(line).unwrap();
        assert_eq!(
            (order.node, order.question),
            (addr(node), question),
            "{line}"
        );
        assert_eq!(order.json, line.starts_with("--json"));
    }
    for (line, complaint) in [
        ("", "raft what? status, members, add, remove, transfer"),
        ("sttus a:1", "no raft sttus; did you mean status?"),
        ("status", "name the node to ask: raft status HOST:PORT"),
        ("status a", "a: an address is host:port"),
        ("status a:1 b:2", "raft status asks one node only"),
        ("add a:1", "name the member: raft add HOST:PORT MEMBER"),
        ("add a:1 b:2 c:3", "unexpected argument"),
        (
            "status a:1 -c x --password-file y",
            "the password is named twice",
        ),
        // S11: not even by mistake.
        ("status a:1 --password secret", "invalid option"),
    ] {
        let told = parsed(line).unwrap_err();
        assert!(told.starts_with(complaint), "{told}");
    }
}

fn status(version: &str, state: NodeState) -> StatusReply {
    StatusReply {
        version: version.into(),
        this: Some(addr("10.0.0.1:2222")),
        state,
        leader: Some(addr("10.0.0.2:2222")),
        has_quorum: true,
        partners: vec![PartnerStatus {
            address: addr("10.0.0.2:2222"),
            connected: true,
            next: Some(8),
            matched: Some(7),
        }],
        readonly: vec![("1".into(), true)],
        log_len: 3,
        last_applied: 7,
        commit_idx: 7,
        raft_term: Term::new(2).unwrap(),
        leader_commit_idx: None,
        uptime_s: 3700,
        self_code_version: 0,
        enabled_code_version: 0,
    }
}

#[test]
fn a_node_that_would_die_of_it_is_not_asked_to_transfer() {
    // H2
    for (version, state, allowed) in [
        ("0.3.17", NodeState::Leader, true),
        ("0.3.16", NodeState::Leader, true),
        ("pg-witness 0.1.0", NodeState::Leader, true),
        ("1.0.0", NodeState::Leader, true),
        ("0.3.14", NodeState::Leader, false),
        ("0.3.11", NodeState::Leader, false),
        ("nonsense", NodeState::Leader, false),
        ("", NodeState::Leader, false),
        ("0.3.17", NodeState::Follower, false),
    ] {
        let judged = may_transfer(&addr("a:1"), &status(version, state));
        assert_eq!(judged.is_ok(), allowed, "{version}");
    }
}

#[test]
fn replies_are_shown_to_people_and_programs() {
    let shown = ShownReply::Status(Box::new(status("0.3.14\u{1b}[2J", NodeState::Follower)));
    let text = shown.text();
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    assert!(
        text.contains("state     follower of 10.0.0.2:2222, term 2\n"),
        "{text}"
    );
    assert!(text.contains("up 1 h 1 min"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&shown.json()).unwrap();
    assert_eq!(json["commit-index"], 7);
    assert_eq!(json["version"], r"0.3.14\u{1b}[2J");
    assert_eq!(json["members"][0]["match-index"], 7);
    let members = ShownReply::Members(MembersReply(vec![MemberStatus {
        address: addr("a:1"),
        leader: true,
        connected: true,
    }]));
    assert_eq!(members.text(), "a:1  connected  leader\n");
    let json: serde_json::Value = serde_json::from_str(&members.json()).unwrap();
    assert_eq!(json["members"][0]["leader"], true);
    let ShownReply::Outcome { success, why } = outcome(&Value::str("FAIL TRANSFER "), "why?")
    else {
        panic!("no outcome");
    };
    assert_eq!((success, why.as_str()), (false, "FAIL TRANSFER: why?"));
}

#[test]
fn only_a_member_can_be_removed() {
    let member = |address: &str| MemberStatus {
        address: addr(address),
        leader: false,
        connected: true,
    };
    let reply = MembersReply(vec![member("a:1"), member("b:2")]);
    assert_eq!(is_listed(&addr("b:2"), &addr("a:1"), &reply), Ok(()));
    let told = is_listed(&addr("B:2"), &addr("a:1"), &reply).unwrap_err();
    let expected =
        "B:2 is not a member, so nothing was removed; the members that a:1 lists: a:1, b:2";
    assert_eq!(told, expected);
}

#[test]
fn a_version_that_could_deceive_is_shown_harmless() {
    let status = status("0.3.17\u{202e}\u{2028}\u{1b}[2J", NodeState::Leader);
    let shown = ShownReply::Status(Box::new(status));
    for text in [shown.json(), shown.text()] {
        let harmful = |c: char| crate::text::is_harmful(c) && c != '\n';
        assert!(!text.contains(harmful), "{text:?}");
    }
}
