//! Looks at a PySyncObj node after each event: what it has done by which data can be
//! lost, and what a witness has done to it that none may.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use pg_witness::reactor::simulated;
use pg_witness::wire::Value;

use super::Life;
use crate::incidents::Incident;
use crate::journal;
use crate::pysyncobj::{Effect, Node as Model, Raised, Socket, State, Version};
use crate::registry::Held;

/// How long a member is away before a witness must have seen it.
const AWAY: Duration = Duration::from_secs(10);

/// What an event was.
pub(super) enum Cause<'a> {
    /// A message of the member on this host, over this connection.
    Message(Socket, IpAddr, &'a Value),
    /// Its own clock, socket or client.
    Itself,
}

/// The node as it was after the event before.
#[derive(Default)]
pub(super) struct Observer {
    /// Its `.meta` was lost, and with it its vote.
    pub(super) lost_meta: bool,
    state: Option<State>,
    term: i64,
    voted_for: Option<String>,
    commit: i64,
    /// Index and term of each entry.
    log: Vec<(i64, i64)>,
    /// Connections of a witness on which it answered an append of an earlier leadership
    /// after this term of the witness had begun.
    overtaken: BTreeMap<Socket, i64>,
}

impl Observer {
    /// Whether it may vote twice in a term, for it forgets (H7).
    pub(super) fn forgets_terms(&self, version: Version) -> bool {
        self.lost_meta || version < Version::V0_3_16
    }

    /// A process begins.
    pub(super) fn begins(&mut self, model: &Model) {
        self.overtaken.clear();
        self.take(model);
        self.log = ids(model);
    }

    fn take(&mut self, model: &Model) {
        self.state = Some(model.state());
        self.term = model.term();
        self.voted_for = model.voted_for().map(str::to_owned);
        self.commit = model.commit();
    }

    /// Looks at it after an event.
    pub(super) fn look(
        &mut self,
        life: &Life,
        model: &Model,
        cause: &Cause<'_>,
        effects: &[Effect],
    ) {
        let by_witness = match cause {
            Cause::Message(_, host, _) => life.registry.is_witness(*host),
            Cause::Itself => false,
        };
        for effect in effects {
            if let Effect::Raised(Raised(what)) = effect {
                journal::write(&format!("PYSYNCOBJ {}: raised {what}", life.name));
                if by_witness {
                    let name = &life.name;
                    let text = format!("S5, S6: a message of a witness made {name} raise {what}");
                    life.incidents.accuse(text);
                }
            }
        }
        self.look_at_vote(life, model);
        let began_at = self.log.first().copied();
        let cut = self.look_at_log(model);
        if let Cause::Message(socket, host, message) = cause {
            self.look_at_cut(life, *host, message, &cut);
            if by_witness {
                self.look_at_fence(life, (*socket, *host), message, effects);
                look_at_witness(life, model, *host, message, self.commit);
            }
            if message.get("serialized").is_some() && self.log.first().copied() == began_at {
                self.look_at_chunk(life, model, by_witness);
            }
        }
        let host = model.address().host().parse().unwrap();
        if model.state() == State::Leader
            && simulated::skew(host) != 0
            && !life.incidents.has(&Incident::LeadsWithWrongClock)
        {
            life.incidents
                .add(&life.name, Incident::LeadsWithWrongClock);
        }
        if model.state() == State::Leader && model.commit() > self.commit {
            self.look_at_commit(life, model);
        }
        self.take(model);
    }

    /// S4: no leadership begins on a connection on which an append of an earlier one is
    /// under way, for its answer could not be told from one to this (H9). Who answers it
    /// has not given its vote on that connection before: that comes behind.
    fn look_at_fence(
        &mut self,
        life: &Life,
        (socket, host): (Socket, IpAddr),
        message: &Value,
        effects: &[Effect],
    ) {
        let is_append = message.get("type").and_then(Value::as_str) == Some("append_entries");
        let term = message.get("term").and_then(Value::as_int);
        let (Some(term), Some(leads)) = (term.filter(|_| is_append), life.registry.leads(host))
        else {
            return;
        };
        let answers = effects.iter().any(|effect| {
            matches!(effect, Effect::Send { socket: to, message }
                if *to == socket && message.get("next_node_idx").is_some())
        });
        if term < leads && answers {
            self.overtaken.insert(socket, leads);
        } else if self.overtaken.get(&socket).is_some_and(|of| term >= *of) {
            life.incidents.accuse(format!(
                "S4: the witness {host} leads term {term} on a connection on which {} has since \
                 answered an append of an earlier one",
                life.name
            ));
        }
    }

    fn look_at_vote(&self, life: &Life, model: &Model) {
        let changed = model.term() != self.term || model.voted_for() != self.voted_for.as_deref();
        if let Some(candidate) = model.voted_for().filter(|_| changed) {
            let (name, term) = (&life.name, model.term());
            journal::write(&format!(
                "PYSYNCOBJ {name}: votes for {candidate} in term {term}"
            ));
        }
        if model.state() == State::Leader && self.state != Some(State::Leader) {
            let (name, term) = (&life.name, model.term());
            journal::write(&format!("PYSYNCOBJ {name}: leads, term {term}"));
            let terms = model.log().iter().map(|entry| entry.term);
            let last = terms.max().unwrap_or(0);
            if last > term {
                let earlier = Incident::LeadsEarlierTerm { term, last };
                life.incidents.add(name, earlier);
            }
        }
    }

    /// Follows the log; what was cut from it.
    fn look_at_log(&mut self, model: &Model) -> Vec<(i64, i64)> {
        let log = model.log();
        let id = |place: usize| log.get(place).map(|entry| (entry.index, entry.term));
        let grown = self.log.first().copied() == id(0)
            && self.log.len().checked_sub(1).and_then(id) == self.log.last().copied();
        if grown {
            let more = log.iter().skip(self.log.len());
            self.log.extend(more.map(|entry| (entry.index, entry.term)));
            return Vec::new();
        }
        let old = std::mem::replace(&mut self.log, ids(model));
        let first = self.log.first().map_or(0, |(index, _)| *index);
        let gone = |(index, term): &(i64, i64)| {
            let place = usize::try_from(index - first).ok();
            let now = place.and_then(|place| self.log.get(place));
            *index >= first && now != Some(&(*index, *term))
        };
        old.into_iter().filter(gone).collect()
    }

    /// S3 and H8: what a leader holds it must not make another cut.
    fn look_at_cut(&self, life: &Life, leader: IpAddr, message: &Value, cut: &[(i64, i64)]) {
        let name = &life.name;
        let leads = life.registry.leads(leader);
        let speaks = leads.is_some() && leads == message.get("term").and_then(Value::as_int);
        let kept = cut.iter().find(|(index, term)| {
            speaks && life.registry.held(leader, *index) == Held::Term(*term)
        });
        let by_witness = life.registry.is_witness(leader);
        if let Some((index, term)) = kept {
            if by_witness {
                life.incidents.accuse(format!(
                    "S3: an append of the witness {leader} cut entry {index} of term {term} from \
                     {name}, which the witness holds: {message:?}"
                ));
            } else {
                let (index, term) = (*index, *term);
                let cut = Incident::CutWhatItsLeaderHolds { index, term };
                life.incidents.add(name, cut);
            }
        }
        let committed = cut.iter().find(|(index, _)| *index <= self.commit);
        if let Some((index, term)) = committed.filter(|_| kept.is_none()) {
            if by_witness {
                life.incidents.blame(format!(
                    "S13: the witness {leader} made {name} cut entry {index} of term {term}, which \
                     it had committed"
                ));
            } else {
                let (index, term) = (*index, *term);
                let cut = Incident::CutWhatWasCommitted { index, term };
                life.incidents.add(name, cut);
            }
        }
    }

    /// H30: a part of a snapshot that is not installed yet moves the commit index.
    fn look_at_chunk(&self, life: &Life, model: &Model, by_witness: bool) {
        let (from, to) = (self.commit, model.commit());
        if to <= from {
            return;
        }
        if by_witness {
            let name = &life.name;
            life.incidents.accuse(format!(
                "H30: a snapshot of a witness moved the commit index of {name} from {from} to {to}"
            ));
        } else {
            let committed = Incident::CommittedByChunk { from, to };
            life.incidents.add(&life.name, committed);
        }
    }

    /// H9 and H10: what a leader commits.
    fn look_at_commit(&self, life: &Life, model: &Model) {
        let index = model.commit();
        let Held::Term(term) = held(model, index) else {
            return;
        };
        if term != model.term() {
            let committed = Incident::CommittedOtherTerm { index, term };
            life.incidents.add(&life.name, committed);
        }
        if life.registry.lacks_majority(&group(model), index, term) {
            let committed = Incident::CommittedWithoutMajority { index, term };
            life.incidents.add(&life.name, committed);
        }
    }
}

fn ids(model: &Model) -> Vec<(i64, i64)> {
    let log = model.log().iter();
    log.map(|entry| (entry.index, entry.term)).collect()
}

fn held(model: &Model, index: i64) -> Held {
    let log = model.log();
    let found = log.iter().rev().find(|entry| entry.index == index);
    found.map_or(Held::Unknown, |entry| Held::Term(entry.term))
}

/// What a message of a witness claims: that it holds an entry (S7), that one is
/// committed (S4), or that it is to be added (S17). `committed`: what the node knew to be
/// committed before.
fn look_at_witness(life: &Life, model: &Model, host: IpAddr, message: &Value, committed: i64) {
    let Some(witness) = life.registry.witness(host) else {
        return;
    };
    let accuse = |what: String| life.incidents.accuse(what);
    let number = |name| message.get(name).and_then(Value::as_int);
    let success = message.get("success").is_some_and(Value::truthy);
    if let Some(index) = number("next_node_idx").filter(|_| success).map(|i| i - 1)
        && let Held::Term(term) = held(model, index)
        && let Some(wrong) = (life.registry.promises).acknowledges(host, (index, term), &witness)
    {
        accuse(wrong);
    }
    if let Some(commit) = number("commit_index").filter(|commit| *commit > committed)
        && number("term") == life.registry.leads(host)
        && let Held::Term(term) = life.registry.held(host, commit)
        && life.registry.lacks_majority(&group(model), commit, term)
        && life.incidents.told().is_none()
    {
        let (name, index) = (&life.name, commit);
        accuse(format!(
            "S4: the witness {host} told {name} that entry {index} of term {term} is committed, \
             which no majority holds"
        ));
    }
    let adds = message
        .as_seq()
        .and_then(|words| words.first())
        .and_then(Value::as_str);
    if adds == Some("add")
        && let Some(away) = life.registry.away(model.members(), AWAY)
    {
        accuse(format!(
            "S17: the witness {host} asks to be added while {away} is away"
        ));
    }
}

/// The hosts of the members, as this one lists them.
fn group(model: &Model) -> Vec<IpAddr> {
    let members = model.members().chain([model.address()]);
    members
        .map(|member| member.host().parse().unwrap())
        .collect()
}
