//! Messages as Python's handlers read them: every field that they look for is
//! written, since a missing one kills a peer's Raft thread (H2).

use super::{Append, AppendBody, ApplyOutcome, FragmentPart, Hello, Message, READ_ONLY};
use crate::ids::{Entry, EntryId, LogIndex, Term};
use crate::wire::pickle::{Encode, PickleWriter};

impl Encode for Hello {
    fn encode(&self, writer: &mut PickleWriter<'_>) {
        match self {
            Self::Member(address) => writer.str(address.as_str()),
            Self::ReadOnly => writer.str(READ_ONLY),
            Self::Utility(request) => request.encode(writer),
        }
    }
}

impl Encode for Message {
    fn encode(&self, w: &mut PickleWriter<'_>) {
        match self {
            Self::RequestVote { term, last } => {
                begin(w, "request_vote");
                number(w, "term", term.get());
                number(w, "last_log_index", last.index.get());
                number(w, "last_log_term", last.term.get());
            }
            Self::ResponseVote { term } => {
                begin(w, "response_vote");
                number(w, "term", term.get());
            }
            Self::AppendEntries(append) => return append.encode(w),
            Self::NextNodeIdx(reply) => {
                begin(w, "next_node_idx");
                w.str("next_node_idx");
                w.int(reply.next);
                flag(w, "reset", reply.reset);
                flag(w, "success", reply.success);
            }
            Self::ApplyCommand {
                command,
                request_id,
            } => {
                begin(w, "apply_command");
                w.str("command");
                w.bytes(command);
                if let Some(id) = request_id {
                    w.str("request_id");
                    w.int(*id);
                }
            }
            Self::ApplyCommandResponse {
                request_id,
                outcome,
            } => {
                begin(w, "apply_command_response");
                w.str("request_id");
                w.int(*request_id);
                match outcome {
                    ApplyOutcome::Appended(id) => {
                        number(w, "log_idx", id.index.get());
                        number(w, "log_term", id.term.get());
                    }
                    ApplyOutcome::Refused(error) => {
                        number(w, "error", u64::from(error.code()));
                    }
                }
            }
            Self::TimeoutNow { term } => {
                begin(w, "timeout_now");
                number(w, "term", term.get());
            }
            Self::Keepalive => begin(w, "keepalive"),
            // Never made by us; Python ignores it like any unknown type.
            Self::Unknown => begin(w, "unknown"),
        }
        w.end_dict();
    }
}

/// An append of entries that stay where they are, such as in the leader's log.
#[derive(Debug, Clone)]
pub struct AppendEntries<I> {
    /// The leader's term.
    pub term: Term,
    /// The leader's commit index.
    pub commit: LogIndex,
    /// The entry before the first.
    pub prev: Option<EntryId>,
    /// The entries, consecutive behind `prev`.
    pub entries: I,
}

impl<'a, I> Encode for AppendEntries<I>
where
    I: IntoIterator<Item = &'a Entry> + Clone,
{
    fn encode(&self, w: &mut PickleWriter<'_>) {
        begin_append(w, self.term, self.commit.get());
        write_prev(w, self.prev);
        w.str("entries");
        w.list();
        for entry in self.entries.clone() {
            entry.encode(w);
        }
        w.end_list();
        w.end_dict();
    }
}

impl Encode for Append {
    fn encode(&self, w: &mut PickleWriter<'_>) {
        match &self.body {
            AppendBody::Entries { prev, entries } => {
                let (term, commit, prev) = (self.term, self.commit, *prev);
                return AppendEntries {
                    term,
                    commit,
                    prev,
                    entries,
                }
                .encode(w);
            }
            AppendBody::Fragment { prev, part, data } => {
                begin_append(w, self.term, self.commit.get());
                write_prev(w, *prev);
                w.str("transmission");
                w.str(match part {
                    FragmentPart::Start => "start",
                    FragmentPart::Process => "process",
                    FragmentPart::Finish => "finish",
                });
                w.str("data");
                w.bytes(data);
            }
            AppendBody::Snapshot(chunk) => {
                // H30: Python would commit up to this index whatever its log
                // holds: the tail of a follower that gets a snapshot is unverified.
                begin_append(w, self.term, 0);
                w.str("serialized");
                match chunk {
                    Some(chunk) => {
                        w.mark();
                        w.bytes(&chunk.data);
                        w.bool(chunk.first);
                        w.bool(chunk.last);
                        w.tuple();
                    }
                    None => w.none(),
                }
            }
        }
        w.end_dict();
    }
}

impl Encode for Entry {
    /// A tuple: a list would make Python throw its journal away (H13).
    fn encode(&self, w: &mut PickleWriter<'_>) {
        w.mark();
        w.bytes(&self.command);
        w.uint(self.id.index.get());
        w.uint(self.id.term.get());
        w.tuple();
    }
}

fn begin(w: &mut PickleWriter<'_>, kind: &str) {
    w.dict();
    w.str("type");
    w.str(kind);
}

fn begin_append(w: &mut PickleWriter<'_>, term: Term, commit: u64) {
    begin(w, "append_entries");
    number(w, "term", term.get());
    number(w, "commit_index", commit);
}

fn write_prev(w: &mut PickleWriter<'_>, prev: Option<EntryId>) {
    match prev {
        Some(prev) => {
            number(w, "prevLogIdx", prev.index.get());
            number(w, "prevLogTerm", prev.term.get());
        }
        None => {
            for name in ["prevLogIdx", "prevLogTerm"] {
                w.str(name);
                w.none();
            }
        }
    }
}

fn number(w: &mut PickleWriter<'_>, name: &str, value: u64) {
    w.str(name);
    w.uint(value);
}

fn flag(w: &mut PickleWriter<'_>, name: &str, value: bool) {
    w.str(name);
    w.bool(value);
}
