//! What must hold in every world, whatever happens in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pg_witness::limits;
use pg_witness::reactor::simulated;

use crate::client::{History, LEASE, LEASE_TTL};
use crate::incidents::{Incident, Incidents};
use crate::node::{Node, View};
use crate::registry::{Held, Registry};

/// How long a key may outlive its time: while nobody leads nothing expires, and a new
/// leader counts its age anew at the worst (S8).
const LEASE_BOUND: Duration = Duration::from_secs(40);

/// Connections of a whole world; more are a leak. A frozen process has those in its
/// backlog whose other end has long given up, 128 at the most.
const CONNECTIONS_MAX: usize = 600;

/// The same once all is well: the links, the clients and questions under way.
const SETTLED_CONNECTIONS_MAX: usize = 60;

/// Why a world is wrong.
#[derive(Debug)]
pub struct Violation {
    pub what: String,
    /// Whether it is what an incident of PySyncObj leads to, whatever a witness does:
    /// written data that is not there, or not everywhere. Where there was one, this is
    /// no violation, and the end of the world: nothing is promised from there on.
    pub may_be_loss: bool,
}

impl Violation {
    /// Nothing that a PySyncObj node does excuses it.
    pub const fn always(what: String) -> Self {
        Self {
            what,
            may_be_loss: false,
        }
    }
}

/// What is said to be wrong, unless the condition holds.
pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation::always(what()))
    }
}

/// The same for what an incident of PySyncObj leads to.
pub fn ensure_data(holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    ensure(holds, what).map_err(|violation| Violation {
        may_be_loss: true,
        ..violation
    })
}

/// The memory of the oracle.
#[derive(Default)]
pub struct Oracle {
    /// By term and member: for whom it voted.
    votes: BTreeMap<(u64, String), String>,
    /// By term: who leads.
    leaders: BTreeMap<u64, String>,
    /// By witness: index and term of what it had committed when it was looked at last,
    /// since it opened its state.
    committed: BTreeMap<String, (i64, i64)>,
    /// Terms in which a PySyncObj node voted twice: two may lead in them.
    twice: BTreeSet<u64>,
}

impl Oracle {
    /// Looks at what the members have logged.
    pub fn read(
        &mut self,
        lines: &[String],
        nodes: &[Box<dyn Node>],
        incidents: &Incidents,
    ) -> Result<(), Violation> {
        for line in lines {
            for node in nodes {
                if node.opens_state(line) {
                    self.committed.remove(node.name());
                }
                if let Some(now) = node.past_left_in(line) {
                    self.votes
                        .retain(|(term, name), _| *term <= now || name != node.name());
                    // Whoever led them: this vote may make another lead.
                    self.leaders.retain(|term, _| *term <= now);
                }
                if let Some((term, candidate)) = node.vote_of(line) {
                    self.voted(node.as_ref(), term, candidate, incidents)?;
                }
                if let Some(term) = node.leads_of(line) {
                    self.leads(node.as_ref(), term, incidents)?;
                }
            }
        }
        Ok(())
    }

    /// S1: nobody votes twice in a term, whatever crashes between; but for a PySyncObj
    /// node that forgets its term, which is an incident.
    fn voted(
        &mut self,
        voter: &dyn Node,
        term: u64,
        candidate: String,
        incidents: &Incidents,
    ) -> Result<(), Violation> {
        let name = voter.name();
        let vote = (term, name.to_owned());
        let first = self.votes.entry(vote).or_insert_with(|| candidate.clone());
        if *first != candidate && voter.may_vote_twice() {
            self.twice.insert(term);
            incidents.add(name, Incident::VotedTwice { term });
            return Ok(());
        }
        ensure(*first == candidate, || {
            format!("S1: {name} voted twice in term {term}: for {first}, then for {candidate}")
        })
    }

    /// Raft 5.2: at most one leads in a term, unless somebody voted twice in it; who
    /// does has voted for itself.
    fn leads(
        &mut self,
        node: &dyn Node,
        term: u64,
        incidents: &Incidents,
    ) -> Result<(), Violation> {
        let own = node.address().to_string();
        self.voted(node, term, own, incidents)?;
        let first = self
            .leaders
            .entry(term)
            .or_insert_with(|| node.name().to_owned());
        ensure(*first == node.name() || self.twice.contains(&term), || {
            format!("two lead in term {term}: {first} and {}", node.name())
        })
    }

    /// S2: what a witness has committed stays in its log as long as it has its state
    /// open, whoever contradicts it.
    pub fn watch_committed(
        &mut self,
        node: &dyn Node,
        view: &View,
        registry: &Registry,
    ) -> Result<(), Violation> {
        let (name, host) = (node.name(), node.host());
        if let Some((index, term)) = self.committed.get(name).copied() {
            let held = registry.held(host, index);
            ensure(held == Held::Term(term) || held == Held::Unknown, || {
                format!("S2: {name} had committed entry {index} of term {term}, and has {held:?}")
            })?;
        }
        let index = i64::try_from(view.commit).unwrap_or(i64::MAX);
        if let Held::Term(term) = registry.held(host, index) {
            self.committed.insert(name.to_owned(), (index, term));
        }
        Ok(())
    }

    /// What holds at every moment.
    pub fn watch(
        &self,
        views: &[View],
        history: &History,
        incidents: &Incidents,
    ) -> Result<(), Violation> {
        for view in views {
            if incidents.has(&Incident::LeadsWithWrongClock) {
                // Until it is refreshed under another.
                history.refreshed.set(None);
            }
            early_expiry(view, history)?;
            // What is not applied everywhere is kept, and a checkpoint takes its time.
            let most = 4 * limits::LOG_ENTRIES_MAX;
            ensure(view.log_len <= most, || {
                format!("a log holds {} entries in memory", view.log_len)
            })?;
        }
        few_connections(CONNECTIONS_MAX)
    }
}

fn few_connections(most: usize) -> Result<(), Violation> {
    let connections = simulated::network::connections();
    ensure(connections <= most, || format!("{connections} connections"))
}

/// S8: a key that was refreshed is there for its time.
fn early_expiry(view: &View, history: &History) -> Result<(), Violation> {
    let Some((sent, index)) = history.refreshed.get() else {
        return Ok(());
    };
    let lives = simulated::passed() < sent + LEASE_TTL;
    let gone = view.applied >= index && !view.store.contains_key(LEASE);
    ensure_data(!(lives && gone), || {
        format!("the key that was refreshed at {sent:?} has expired before its time")
    })
}

/// Whether all hold the same.
pub fn are_level(views: &[View]) -> bool {
    views
        .iter()
        .all(|view| view.store == views[0].store && view.applied == views[0].applied)
}

/// What holds once all is well again, has been for a while and nobody writes: all
/// hold the same, and all that was acknowledged.
pub fn settled(views: &[View], history: &History) -> Result<(), Violation> {
    few_connections(SETTLED_CONNECTIONS_MAX)?;
    let Some(first) = views.first() else {
        return Ok(());
    };
    for view in views {
        ensure_data(view.store == first.store, || {
            let place = |view: &View| (view.applied, view.commit, view.end);
            let places: Vec<_> = views.iter().map(place).collect();
            format!("stores differ, applied, committed and held: {places:?}")
        })?;
    }
    for (key, fate) in history.keys.borrow().iter() {
        let held = first
            .store
            .get(key)
            .and_then(|value| value.parse::<u64>().ok());
        let held = held.unwrap_or_default();
        ensure_data(fate.allows(held), || {
            format!("{key} holds {held}, its writes: {fate:?}")
        })?;
    }
    history.settles(|key| {
        let held = first.store.get(key);
        held.and_then(|value| value.parse().ok())
            .unwrap_or_default()
    });
    Ok(())
}

/// S8: a key that nobody refreshes expires. How long to wait for it, from its last
/// refresh on.
pub const fn lease_wait() -> Duration {
    LEASE_TTL.saturating_add(LEASE_BOUND)
}
