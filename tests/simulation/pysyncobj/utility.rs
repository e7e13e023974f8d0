//! Utility requests (spec 3.8).

use pg_witness::address::Address;
use pg_witness::wire::Value;

use super::commands::Callback;
use super::node::{Node, State};
use super::transport::LinkId;
use super::{NodeId, Raised};

/// What a request came to, before its reply.
enum Answer {
    /// This reply, at once.
    Say(Value),
    /// The request's words with this verdict.
    Verdict(bool),
    /// The reply comes when the command is through.
    Later,
}

impl Node {
    /// Serves a request; false if the list is none that is known here.
    pub(super) fn on_utility(&mut self, link: LinkId, items: &[Value]) -> Result<bool, Raised> {
        let (word, args) = items.split_first().ok_or(Raised("IndexError"))?;
        if !word.py_hashable() {
            return Err(Raised("TypeError"));
        }
        let Some(word) = word.as_str() else {
            return Ok(false);
        };
        let words = words_of(word, args);
        let answer = match word {
            "status" => Answer::Say(self.status()),
            "members" => Answer::Say(self.member_list()),
            "add" => self.ask_change(link, &words, true, args)?,
            "remove" => self.ask_change(link, &words, false, args)?,
            "set_version" => self.set_version(link, &words, args)?,
            "transfer" if self.config.version.transfers() => self.transfer(args)?,
            _ => return Ok(false),
        };
        match answer {
            Answer::Say(reply) => self.send_on(link, reply)?,
            Answer::Verdict(good) => {
                let verdict = if good { "SUCCESS" } else { "FAIL" };
                self.send_on(link, Value::str(&format!("{verdict} {words}")))?;
            }
            Answer::Later => {}
        }
        Ok(true)
    }

    fn ask_change(
        &mut self,
        link: LinkId,
        words: &str,
        add: bool,
        args: &[Value],
    ) -> Result<Answer, Raised> {
        let address = match read_address(args) {
            Ok(address) => address,
            Err(complaint) => return Ok(Answer::Say(Value::str(complaint))),
        };
        if !add && address == self.config.address {
            return Ok(Answer::Verdict(false));
        }
        let word = if add { "add" } else { "rem" };
        let body = Value::list([
            Value::str(word),
            Value::str(address.as_str()),
            Value::Node(address.as_str().into()),
        ]);
        let mut bytes = vec![MEMBERSHIP];
        pg_witness::wire::pickle::encode(&body, &mut bytes);
        let callback = Callback::Utility(link, words.to_owned());
        self.enqueue(bytes.into(), callback)?;
        Ok(Answer::Later)
    }

    fn set_version(&mut self, link: LinkId, words: &str, args: &[Value]) -> Result<Answer, Raised> {
        let wrong = |kind, current, requested| {
            let text = format!(
                "wrong version, {kind} version is {current}, requested version is {requested}"
            );
            Ok(Answer::Say(Value::str(&text)))
        };
        let version = match args.first() {
            None => return Ok(Answer::Say(Value::str(NO_ARGUMENT))),
            Some(Value::Int(version)) => *version,
            Some(_) => return Ok(Answer::Say(Value::str(""))),
        };
        if version > 0 {
            return wrong("current", 0, version);
        }
        if version < self.code_version {
            return wrong("enabled", self.code_version, version);
        }
        let mut bytes = vec![VERSION];
        pg_witness::wire::pickle::encode(&Value::Int(version), &mut bytes);
        let callback = Callback::Utility(link, words.to_owned());
        self.enqueue(bytes.into(), callback)?;
        Ok(Answer::Later)
    }

    /// `transferLeadership` (spec 5.7).
    fn transfer(&mut self, args: &[Value]) -> Result<Answer, Raised> {
        if self.state != State::Leader {
            return Ok(Answer::Verdict(false));
        }
        let matched = |node: &Address| {
            let node = NodeId::Member(node.clone());
            self.matched.get(&node).copied().unwrap_or(0)
        };
        let target = match args.first() {
            Some(named) if named.truthy() => match read_address(args) {
                Ok(address) => Some(address),
                Err(complaint) => return Ok(Answer::Say(Value::str(complaint))),
            },
            _ => {
                let connected = self.members.iter().filter(|member| {
                    let node = NodeId::Member((*member).clone());
                    self.connected.contains(&node)
                });
                connected.max_by_key(|node| (matched(node), *node)).cloned()
            }
        };
        let end = self.last()?.index;
        let target = target
            .filter(|node| self.members.contains(node))
            .filter(|node| matched(node) == end);
        let Some(target) = target else {
            return Ok(Answer::Verdict(false));
        };
        let message = Value::dict([
            ("type", Value::str("timeout_now")),
            ("term", Value::Int(self.term)),
        ]);
        self.send(&NodeId::Member(target), message)?;
        Ok(Answer::Verdict(true))
    }
}

/// The command kinds without a builder of that shape in the crate.
const MEMBERSHIP: u8 = 2;
const VERSION: u8 = 3;

const NO_ARGUMENT: &str = "list index out of range";

/// `TCPNode(args[0])`, or what Python says to it.
fn read_address(args: &[Value]) -> Result<Address, &'static str> {
    let address = args.first().ok_or(NO_ARGUMENT)?;
    let Some(text) = address.as_str() else {
        return Err("'NoneType' object has no attribute 'rsplit'");
    };
    text.parse()
        .map_err(|_| "not enough values to unpack (expected 2, got 1)")
}

/// The request as its reply repeats it.
fn words_of(word: &str, args: &[Value]) -> String {
    let mut words = word.to_uppercase();
    for arg in args {
        words.push(' ');
        match arg {
            Value::None => words.push_str("None"),
            Value::Int(number) => words.push_str(&number.to_string()),
            other => words.push_str(other.as_str().unwrap_or_default()),
        }
    }
    words
}
