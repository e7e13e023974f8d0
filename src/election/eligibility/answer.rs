//! What comes of asking a member for its `status`, as far as that proves something (S7 b).

use std::collections::BTreeSet;

use crate::address::Address;
use crate::ids::Term;
use crate::links::utility_client::NoReply;
use crate::wire::utility::StatusReply;

/// What came of asking a member for its `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The member itself answered.
    Status(Shown),
    /// Its host is up, and refused the connection: nothing listens there.
    Refused,
    /// Anything else: no answer in time, no route, no address for the name, an
    /// answer of somebody else. It proves nothing.
    Silent,
}

impl Answer {
    /// What a reply, or that there was none, counts as.
    pub fn of(reply: Result<&StatusReply, &NoReply>) -> Self {
        match reply {
            Ok(status) => Self::Status(Shown::by(status)),
            Err(error) if error.is_refusal() => Self::Refused,
            Err(_) => Self::Silent,
        }
    }
}

/// What a member's `status` shows of what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// `commit_idx`, `log_len` and `last_applied` are at most 1.
    pub holds_nothing: bool,
    /// `raft_term`.
    pub term: Term,
    /// The members it is connected to.
    pub connected: BTreeSet<Address>,
}

impl Shown {
    fn by(status: &StatusReply) -> Self {
        let connected = status.partners.iter().filter(|p| p.connected);
        Self {
            holds_nothing: status.commit_idx <= 1
                && status.log_len <= 1
                && status.last_applied <= 1,
            term: status.raft_term,
            connected: connected.map(|p| p.address.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;
    use crate::election::testing::{address, status};

    #[test]
    fn only_who_has_no_entry_holds_nothing() {
        for (log_len, last_applied, commit_idx, holds_nothing) in [
            (0, 0, 0, true),
            (1, 1, 1, true),
            (1, 0, 1, true),
            // An entry that is not committed is one; so is what only a dump holds.
            (2, 1, 1, false),
            (1, 2, 1, false),
            (1, 1, 2, false),
            (9, 9, 9, false),
        ] {
            let mut status = status("A", "B W", log_len, last_applied, commit_idx);
            status.raft_term = Term::new(7).unwrap();
            status.partners[1].connected = false;
            let shown = Shown {
                holds_nothing,
                term: Term::new(7).unwrap(),
                connected: [address("B")].into(),
            };
            assert_eq!(Answer::of(Ok(&status)), Answer::Status(shown));
        }
    }

    #[test]
    fn only_a_refused_connection_is_a_refusal() {
        let unreachable = |kind: ErrorKind| NoReply::Unreachable(Error::from(kind));
        for (error, answer) in [
            (unreachable(ErrorKind::ConnectionRefused), Answer::Refused),
            (unreachable(ErrorKind::HostUnreachable), Answer::Silent),
            (unreachable(ErrorKind::TimedOut), Answer::Silent),
            (unreachable(ErrorKind::NotFound), Answer::Silent),
            (NoReply::Late, Answer::Silent),
            (NoReply::Malformed, Answer::Silent),
            (NoReply::AnotherNode(Some(address("B"))), Answer::Silent),
            (NoReply::AnotherNode(None), Answer::Silent),
        ] {
            assert_eq!(Answer::of(Err(&error)), answer, "{error}");
        }
    }
}
