//! `pg-witness raft`: asks any node of a Raft group by PySyncObj's utility
//! protocol (spec 3.8), as `syncobj_admin` does, and prints what it says.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lexopt::{Arg, Parser};

use self::show::ShownReply;
use super::{Failure, Invocation, UsageError, configured_if_possible, print};
use crate::address::Address;
use crate::config::{self, ConfigSource, Env, nearest, shown};
use crate::limits;
use crate::links::utility_client::ask_or_why;
use crate::reactor;
use crate::secret::Secret;
use crate::wire::utility::{MemberTarget, MembersReply, NodeState, StatusReply, UtilityRequest};
use crate::wire::{Key, Value};

mod show;
#[cfg(test)]
mod tests;

/// What is to be asked of which node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    question: RaftQuestion,
    node: Address,
    json: bool,
    password_file: Option<PathBuf>,
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RaftQuestion {
    Status,
    Members,
    Add(Address),
    Remove(Address),
    Transfer(Option<Address>),
}

/// The words, for "did you mean".
const QUESTIONS: [&str; 5] = ["status", "members", "add", "remove", "transfer"];

/// Longest that a question may take: a node is asked at once.
const QUESTION_TIME: Duration = Duration::from_secs(5);

/// The variable that holds the password for Patroni.
const PASSWORD_VARIABLE: &str = "PATRONI_RAFT_PASSWORD";

/// `pg-witness raft WORD HOST:PORT [MEMBER]`, options anywhere.
pub(super) fn parse(args: &mut Parser) -> Result<Invocation, UsageError> {
    let mut words = Vec::new();
    let (mut json, mut password_file, mut config) = (false, None, None);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Invocation::RaftHelp),
            Arg::Long("json") => json = true,
            Arg::Long("password-file") if password_file.is_none() => {
                password_file = Some(args.value()?.into());
            }
            Arg::Short('c') | Arg::Long("config") if config.is_none() => {
                config = Some(args.value()?.into());
            }
            Arg::Value(value) if words.len() < 3 => words.push(value),
            other => return Err(other.unexpected().into()),
        }
    }
    if password_file.is_some() && config.is_some() {
        return Err(UsageError(
            "the password is named twice, by --password-file and by --config".into(),
        ));
    }
    let mut words = words.into_iter();
    let word = words
        .next()
        .ok_or_else(|| UsageError(format!("raft what? {}", QUESTIONS.join(", "))))?;
    let word = word.to_string_lossy().into_owned();
    if !QUESTIONS.contains(&word.as_str()) {
        return Err(UsageError(match nearest(&word, &QUESTIONS) {
            Some(meant) => format!("no raft {}; did you mean {meant}?", shown(&word)),
            None => format!(
                "no raft {}; there are {}",
                shown(&word),
                QUESTIONS.join(", ")
            ),
        }));
    }
    let node = words
        .next()
        .ok_or_else(|| UsageError(format!("name the node to ask: raft {word} HOST:PORT")))?;
    let node = address(&node)?;
    let member = words.next().map(|word| address(&word)).transpose()?;
    let needed = |member: Option<Address>| {
        member.ok_or_else(|| UsageError(format!("name the member: raft {word} HOST:PORT MEMBER")))
    };
    let question = match (word.as_str(), member) {
        ("add", member) => RaftQuestion::Add(needed(member)?),
        ("remove", member) => RaftQuestion::Remove(needed(member)?),
        ("transfer", member) => RaftQuestion::Transfer(member),
        (_, Some(_)) => return Err(UsageError(format!("raft {word} asks one node only"))),
        ("status", None) => RaftQuestion::Status,
        (_, None) => RaftQuestion::Members,
    };
    Ok(Invocation::Raft(Order {
        question,
        node,
        json,
        password_file,
        config,
    }))
}

/// An address as PySyncObj writes it; the brackets of others are taken off.
fn address(word: &OsString) -> Result<Address, UsageError> {
    let text = word.to_string_lossy();
    let bare = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => format!("{host}{port}"),
        None => text.clone().into_owned(),
    };
    bare.parse()
        .map_err(|error| UsageError(format!("{}: {error}", shown(&text))))
}

/// Asks, and prints the reply.
pub(super) fn main(order: &Order, env: &Env) -> Result<(), Failure> {
    let keys: Vec<Arc<Key>> = password(order, env)?
        .iter()
        .map(|password| Arc::new(Key::derive(password)))
        .collect();
    let shown = reactor::block_on(carry_out(order, &keys)).map_err(Failure::Failed)?;
    print(&if order.json {
        shown.json()
    } else {
        shown.text()
    });
    match shown {
        ShownReply::Outcome {
            success: false,
            why,
        } => Err(Failure::Failed(why)),
        _ => Ok(()),
    }
}

/// The group's password: a file's, a configuration's, or the environment's;
/// never one of the command line, which others can read (S11).
fn password(order: &Order, env: &Env) -> Result<Option<Secret>, Failure> {
    if let Some(file) = &order.password_file {
        return Ok(Some(config::read_password(file, env)?));
    }
    if order.config.is_none()
        && let Some(password) = env.text(PASSWORD_VARIABLE)?
    {
        return Ok(Secret::new(password));
    }
    let source = ConfigSource::named(order.config.clone());
    let Some(config) = configured_if_possible(&source, env)? else {
        return Ok(None);
    };
    let mut knowing = config.clusters.iter().filter(|cluster| {
        cluster.self_addr == order.node || cluster.partner_addrs.contains(&order.node)
    });
    match (knowing.next(), config.clusters.as_slice()) {
        (Some(cluster), _) => Ok(cluster.password.clone()),
        // Not named for this question: the node may be of another cluster.
        (None, _) if order.config.is_none() => Ok(None),
        (None, [cluster]) => Ok(cluster.password.clone()),
        (None, _) => Err(Failure::Failed(format!(
            "{}: no cluster there has {} among its members",
            config.source, order.node
        ))),
    }
}

async fn carry_out(order: &Order, keys: &[Arc<Key>]) -> Result<ShownReply, String> {
    let node = &order.node;
    let ask = async |request, limit| {
        let reply = ask_or_why(node, keys, request, limit).await;
        reply.map_err(|error| format!("{node} {error}"))
    };
    let odd = |_| format!("{node} gave a reply that is not understood");
    match &order.question {
        RaftQuestion::Status => {
            let reply = ask(UtilityRequest::Status, QUESTION_TIME).await?;
            let status = StatusReply::decode(&reply).map_err(odd)?;
            Ok(ShownReply::Status(Box::new(status)))
        }
        RaftQuestion::Members => {
            let reply = ask(UtilityRequest::Members, QUESTION_TIME).await?;
            Ok(ShownReply::Members(
                MembersReply::decode(&reply).map_err(odd)?,
            ))
        }
        RaftQuestion::Add(member) => {
            let request = UtilityRequest::Add(MemberTarget::Address(member.clone()));
            let reply = ask(request, limits::MEMBERSHIP_TIME_MAX).await?;
            Ok(outcome(&reply, "is there a majority, and a leader?"))
        }
        RaftQuestion::Remove(member) if member == node => {
            Err(format!("{node} does not remove itself; ask another member"))
        }
        RaftQuestion::Remove(member) => {
            // A node says SUCCESS, or waits in vain, for one that is no member.
            let reply = ask(UtilityRequest::Members, QUESTION_TIME).await?;
            is_listed(member, node, &MembersReply::decode(&reply).map_err(odd)?)?;
            let request = UtilityRequest::Remove(MemberTarget::Address(member.clone()));
            let reply = ask(request, limits::MEMBERSHIP_TIME_MAX).await?;
            Ok(outcome(&reply, "is there a majority, and a leader?"))
        }
        RaftQuestion::Transfer(to) => {
            let reply = ask(UtilityRequest::Status, QUESTION_TIME).await?;
            let status = StatusReply::decode(&reply).map_err(odd)?;
            may_transfer(node, &status)?;
            let reply = ask(UtilityRequest::Transfer(to.clone()), QUESTION_TIME).await?;
            let why = "is there a connected member that has all of the log?";
            Ok(outcome(&reply, why))
        }
    }
}

/// Whether the node knows the member that it is to remove.
fn is_listed(member: &Address, node: &Address, reply: &MembersReply) -> Result<(), String> {
    let members = || reply.0.iter().map(|member| &member.address);
    if members().any(|listed| listed == member) {
        return Ok(());
    }
    let listed: Vec<&str> = members().map(Address::as_str).collect();
    Err(format!(
        "{member} is not a member, so nothing was removed; the members that {node} lists: {}",
        listed.join(", ")
    ))
}

/// H2: a node that does not know `transfer` dies of it; and only the leader can.
fn may_transfer(node: &Address, status: &StatusReply) -> Result<(), String> {
    if !knows_transfer(&status.version) {
        return Err(format!(
            "{node} runs pysyncobj {}, which has no transfer (0.3.16 has) and would end if asked",
            shown(&status.version)
        ));
    }
    if status.state != NodeState::Leader {
        return Err(match &status.leader {
            Some(leader) => format!("{node} does not lead; ask {leader}"),
            None => format!("{node} does not lead, and knows no leader"),
        });
    }
    Ok(())
}

fn knows_transfer(version: &str) -> bool {
    if version.starts_with("pg-witness ") {
        return true;
    }
    let mut parts = version.split('.').map(str::parse::<u32>);
    let mut part = || parts.next().and_then(Result::ok);
    match (part(), part(), part()) {
        (Some(major), Some(minor), Some(patch)) => (major, minor, patch) >= (0, 3, 16),
        _ => false,
    }
}

/// `SUCCESS ...`, or why not.
fn outcome(reply: &Value, hint: &str) -> ShownReply {
    let said = shown(
        reply
            .as_str()
            .unwrap_or("a reply that is not understood")
            .trim(),
    );
    let success = said.starts_with("SUCCESS");
    let why = if said.starts_with("FAIL") {
        format!("{said}: {hint}")
    } else {
        said
    };
    ShownReply::Outcome { success, why }
}
