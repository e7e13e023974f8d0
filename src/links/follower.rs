//! The follower's side towards a PySyncObj leader or candidate, as a pure
//! decision: a message and a view of the local log come in; out comes what to
//! answer and what, if anything, the engine must be told (spec 3.1, 3.3-3.5).
//!
//! The engine trusts what it is given: it does not compare terms inside the
//! committed prefix and asserts on terms that decrease. So everything a peer
//! can say is checked here first (S2, S9, E1-E4). No I/O, no clock.
//!
//! To Raft, and to PySyncObj, index and term name an entry. That fails where a
//! term comes twice (H7): two entries of one name then stand in two logs, and
//! neither side would ever notice. So entries are compared whole, and what a
//! leader has not shown yet is asked for ([`Vouched`]).

use super::epoch::{EpochId, EpochTerm};
use crate::address::Address;
use crate::ids::{Entry, EntryId, LogIndex, Term};
use crate::wire::message::NextNodeIdx;

/// What this side needs to know of the local log.
pub trait LocalLog {
    /// The first entry that is retained.
    fn first(&self) -> LogIndex;
    /// The last entry.
    fn last(&self) -> EpochId;
    /// Term of a retained entry.
    fn term_at(&self, index: LogIndex) -> Option<EpochTerm>;
    /// Command of a retained entry.
    fn command_at(&self, index: LogIndex) -> Option<&[u8]>;
    /// What is known to be committed; the log holds it.
    fn commit(&self) -> LogIndex;
}

/// Our vote: whom we gave it to, or whom we follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteView {
    /// Its term.
    pub term: EpochTerm,
    /// The candidate or leader.
    pub node: Address,
    /// It is an established leader's.
    pub committed: bool,
}

/// What to do with an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendVerdict {
    /// Say nothing: Python expects no answer.
    Ignore(Ignored),
    /// Answer at once; the engine has nothing to learn.
    Answer(NextNodeIdx),
    /// Hand this to the engine, then send the answer.
    Append(EngineAppend),
    /// Hand the snapshot to the engine, then send the answer.
    Install(EngineInstall),
    /// The leader contradicts what is committed here (S2).
    Diverged(Divergence),
}

/// Why an append is left unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Its term is over (spec 3.3, step 0).
    StaleTerm,
    /// Another node leads this term: one of the two was elected by a double
    /// vote (H7, H25).
    SecondLeader,
}

/// An append as the engine takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineAppend {
    /// Term of the leader's vote (E2).
    pub leader: EpochTerm,
    /// The entry before the first.
    pub prev: EpochId,
    /// Consecutive entries behind `prev`, each with its epoch.
    pub entries: Vec<(u32, Entry)>,
    /// What is committed now.
    pub commit: Option<EpochId>,
    /// What to say when the engine has accepted it and all is durable.
    pub answer: NextNodeIdx,
}

impl EngineAppend {
    /// The last entry that it vouches for.
    pub fn end(&self) -> EpochId {
        let id = |(epoch, entry): &(u32, Entry)| EpochId {
            term: EpochTerm {
                epoch: *epoch,
                term: entry.id.term,
            },
            index: entry.id.index,
        };
        self.entries.last().map_or(self.prev, id)
    }
}

/// A snapshot as the engine takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInstall {
    /// Term of the leader's vote (E2).
    pub leader: EpochTerm,
    /// The last entry that the snapshot covers.
    pub last: EpochId,
    /// What to say when it is installed and durable.
    pub answer: NextNodeIdx,
}

/// A leader's log and ours differ where ours is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Divergence {
    /// The entry as committed here.
    pub ours: EntryId,
    /// The entry as the leader has it; or, below ours, where its log ends at the most.
    pub theirs: EntryId,
}

/// How far a leader has shown that its log is ours, by what one connection
/// brought in one term. What is committed here needs no such word.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vouched {
    term: Term,
    /// None: not at all.
    upto: Option<LogIndex>,
}

impl Vouched {
    /// The last entry that a leader of `term` has vouched for.
    pub fn upto(&self, term: Term) -> Option<LogIndex> {
        self.upto.filter(|_| self.term == term)
    }

    /// Notes that the entry at `index`, and so all before it, is the leader's.
    pub fn extend(&mut self, term: Term, index: LogIndex) {
        self.upto = self.upto(term).max(Some(index));
        self.term = term;
    }
}

/// An append with entries or without, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Who sent it.
    pub from: &'a Address,
    /// The leader's term.
    pub term: Term,
    /// The entry before the first.
    pub prev: Option<EntryId>,
    /// Consecutive entries behind `prev`.
    pub entries: &'a [Entry],
    /// The leader's commit index.
    pub commit: LogIndex,
    /// What its connection vouched for before.
    pub vouched: Vouched,
}

impl Incoming<'_> {
    /// The last entry that it names.
    pub fn last(&self) -> Option<LogIndex> {
        let last = self.entries.last().map(|entry| entry.id.index);
        last.or_else(|| self.prev.map(|prev| prev.index))
    }
}

const fn success(next: LogIndex) -> NextNodeIdx {
    NextNodeIdx {
        next: next.get().cast_signed(),
        reset: false,
        success: true,
    }
}

const fn reset(next: LogIndex) -> NextNodeIdx {
    NextNodeIdx {
        next: next.get().cast_signed(),
        reset: true,
        success: false,
    }
}

/// The answer that keeps a leader's link alive and promises nothing: to a
/// fragment, and to everything while we are no voter (S7).
pub const fn noncommittal(next: LogIndex) -> NextNodeIdx {
    NextNodeIdx {
        next: next.get().cast_signed(),
        reset: false,
        success: false,
    }
}

/// Whether the message is one of a term that is over, or of a second leader of
/// our term (E3).
pub fn outdated(vote: &VoteView, from: &Address, term: Term) -> Option<Ignored> {
    if term < vote.term.term {
        return Some(Ignored::StaleTerm);
    }
    let other = vote.committed && vote.node != *from;
    (term == vote.term.term && other).then_some(Ignored::SecondLeader)
}

/// Term of the vote of a leader or candidate of `term` whose log, or ours after
/// it, ends in `top` (E2).
fn vote_term(vote: &VoteView, term: Term, top: EpochTerm) -> EpochTerm {
    let mut result = top.succeeded_by(term);
    result.epoch = result.epoch.max(vote.term.epoch);
    result
}

fn follows(vote: &VoteView, from: &Address, term: Term) -> bool {
    vote.committed && vote.node == *from && vote.term.term == term
}

/// Decides on a regular append, or on the entry that a `finish` fragment
/// completed.
///
/// `durable`: no write of ours is under way, so an answer that promises what is
/// in the log already may be given at once.
pub fn append(
    log: &impl LocalLog,
    vote: &VoteView,
    message: Incoming<'_>,
    durable: bool,
) -> AppendVerdict {
    let Incoming {
        from,
        term,
        prev,
        entries,
        commit,
        vouched,
    } = message;
    if let Some(why) = outdated(vote, from, term) {
        return AppendVerdict::Ignore(why);
    }
    let local = match locate(log, prev, vouched.upto(term)) {
        Ok(local) => local,
        Err(verdict) => return verdict,
    };
    let merged = match merge(log, local, entries) {
        Ok(merged) => merged,
        Err(divergence) => return AppendVerdict::Diverged(divergence),
    };

    let last_index = entries.last().map_or(local.index, |e| e.id.index);
    // Never beyond what this message vouches for: a longer tail of ours may
    // still be truncated (spec 3.3).
    let commit_index = commit.min(last_index);
    let answer = success(last_index.next());
    let follows = follows(vote, from, term);
    if durable && follows && !merged.grows && commit_index <= log.commit() {
        return AppendVerdict::Answer(answer);
    }

    let top = if merged.grows {
        merged.last
    } else {
        merged.last.max(log.last().term)
    };
    let mut leader = vote_term(vote, term, top);
    if merged.rewrites && follows {
        // E2: to the engine a leader never rewrites its own entries.
        leader.epoch = leader.epoch.max(vote.term.epoch.saturating_add(1));
    }
    let commit = term_in(log, &merged.entries, commit_index).map(|term| EpochId {
        term,
        index: commit_index,
    });
    AppendVerdict::Append(EngineAppend {
        leader,
        prev: local,
        entries: merged.entries,
        commit,
        answer,
    })
}

/// The local entry at `prev`, or the answer that makes the leader look further
/// back: to what is committed, where the logs meet for certain.
///
/// A step back for each append that does not fit, as Python answers, need never
/// end: a leader that is far ahead sends several appends at once, and the last
/// of them, which begins beyond our log, would undo the step of the first.
fn locate(
    log: &impl LocalLog,
    prev: Option<EntryId>,
    vouched: Option<LogIndex>,
) -> Result<EpochId, AppendVerdict> {
    let meeting = AppendVerdict::Answer(reset(log.commit().next()));
    let Some(prev) = prev else {
        // H21: an answer beyond the leader's log would repeat for ever.
        return Err(meeting);
    };
    if prev.index < log.first() {
        return Err(AppendVerdict::Answer(reset(log.first().next())));
    }
    let Some(ours) = log.term_at(prev.index) else {
        return Err(meeting);
    };
    let known = prev.index <= log.commit() || Some(prev.index) <= vouched;
    if ours.term == prev.term && known {
        return Ok(EpochId {
            term: ours,
            index: prev.index,
        });
    }
    if prev.index <= log.commit() {
        let ours = EntryId {
            index: prev.index,
            term: ours.term,
        };
        return Err(AppendVerdict::Diverged(Divergence { ours, theirs: prev }));
    }
    Err(meeting)
}

struct Merged {
    entries: Vec<(u32, Entry)>,
    /// Term of the last of them, or of `prev`.
    last: EpochTerm,
    /// They bring something that our log does not hold.
    grows: bool,
    /// They replace something that our log holds.
    rewrites: bool,
}

/// Gives each entry its epoch: the one it has here, if it is the same entry.
fn merge(log: &impl LocalLog, prev: EpochId, entries: &[Entry]) -> Result<Merged, Divergence> {
    let mut merged = Merged {
        entries: Vec::with_capacity(entries.len()),
        last: prev.term,
        grows: false,
        rewrites: false,
    };
    for entry in entries {
        let ours = log.term_at(entry.id.index);
        let term = match ours {
            Some(ours) if !merged.grows && is_same(log, ours, entry) => ours,
            Some(ours) if !merged.grows && entry.id.index <= log.commit() => {
                let ours = EntryId {
                    index: entry.id.index,
                    term: ours.term,
                };
                return Err(Divergence {
                    ours,
                    theirs: entry.id,
                });
            }
            _ => {
                let mut term = merged.last.succeeded_by(entry.id.term);
                if !merged.grows && ours == Some(term) {
                    // To the engine one name is one entry.
                    term.epoch = term.epoch.saturating_add(1);
                }
                merged.grows = true;
                term
            }
        };
        merged.rewrites |= ours.is_some_and(|ours| ours != term);
        merged.entries.push((term.epoch, entry.clone()));
        merged.last = term;
    }
    Ok(merged)
}

/// Whether an entry is the one that stands in its place here, in term `ours`.
pub(super) fn is_same(log: &impl LocalLog, ours: EpochTerm, entry: &Entry) -> bool {
    ours.term == entry.id.term && log.command_at(entry.id.index) == Some(&*entry.command)
}

fn term_in(log: &impl LocalLog, entries: &[(u32, Entry)], index: LogIndex) -> Option<EpochTerm> {
    let new = entries.iter().find(|(_, e)| e.id.index == index);
    match new {
        Some((epoch, entry)) => Some(EpochTerm {
            epoch: *epoch,
            term: entry.id.term,
        }),
        None => log.term_at(index),
    }
}

/// Decides on a snapshot that has arrived whole and been found sound: `last` is
/// the last entry it covers, `prev` the one before, which it carries too.
pub fn snapshot(
    log: &impl LocalLog,
    vote: &VoteView,
    from: &Address,
    term: Term,
    [prev, last]: [&Entry; 2],
) -> AppendVerdict {
    if let Some(why) = outdated(vote, from, term) {
        return AppendVerdict::Ignore(why);
    }
    let index = last.id.index;
    let ours = log.term_at(index);
    // Two entries, for a NO_OP of a term that came twice is the same in both.
    let follows_same = log
        .term_at(prev.id.index)
        .is_none_or(|ours| is_same(log, ours, prev));
    let matching = ours.filter(|ours| is_same(log, *ours, last) && follows_same);
    if index <= log.commit() {
        // E4, H12: never backwards.
        return match (ours, matching) {
            (Some(ours), None) => AppendVerdict::Diverged(Divergence {
                ours: EntryId {
                    index,
                    term: ours.term,
                },
                theirs: last.id,
            }),
            _ => AppendVerdict::Answer(success(index.next())),
        };
    }
    if let Some(ours) = matching {
        // E4: we hold all it covers; that much of our log is committed now.
        let prev = EpochId { term: ours, index };
        return AppendVerdict::Append(EngineAppend {
            leader: vote_term(vote, term, log.last().term.max(ours)),
            prev,
            entries: Vec::new(),
            commit: Some(prev),
            answer: success(index.next()),
        });
    }
    let mut top = log
        .last()
        .term
        .succeeded_by(prev.id.term)
        .succeeded_by(last.id.term);
    if ours == Some(top) {
        // To the engine one name is one entry.
        top.epoch = top.epoch.saturating_add(1);
    }
    let mut leader = vote_term(vote, term, top);
    if follows(vote, from, term) && ours.is_some() {
        leader.epoch = leader.epoch.max(vote.term.epoch.saturating_add(1));
    }
    AppendVerdict::Install(EngineInstall {
        leader,
        last: EpochId { term: top, index },
        answer: success(index.next()),
    })
}

/// A vote request as the engine takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineVote {
    /// Term of the candidate's vote (E2).
    pub candidate: EpochTerm,
    /// The end of its log.
    pub last: EpochId,
}

/// Decides on a vote request: none if the term is over or ours already, for
/// then its vote may be given. Python never answers a candidate twice (spec 3.1), and neither do
/// we.
pub fn vote_request(
    log: &impl LocalLog,
    vote: &VoteView,
    term: Term,
    last: EntryId,
) -> Option<EngineVote> {
    if term <= vote.term.term {
        return None;
    }
    let ours = log.last().term;
    // Compared by plain terms, as Python does: the epoch of a log that is not
    // ours is unknown.
    let theirs = match last.term.cmp(&ours.term) {
        std::cmp::Ordering::Equal => ours,
        std::cmp::Ordering::Less => EpochTerm {
            epoch: 0,
            term: last.term,
        },
        std::cmp::Ordering::Greater => EpochTerm {
            epoch: ours.epoch,
            term: last.term,
        },
    };
    Some(EngineVote {
        candidate: vote_term(vote, term, ours),
        last: EpochId {
            term: theirs,
            index: last.index,
        },
    })
}

#[cfg(test)]
mod tests;
