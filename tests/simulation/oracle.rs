//! What must hold in every world, whatever happens in it.

use std::collections::BTreeMap;
use std::time::Duration;

use pg_witness::limits;
use pg_witness::reactor::simulated;

use crate::client::{History, LEASE, LEASE_TTL};
use crate::node::{Node, View};

/// How long a key may outlive its time: while nobody leads nothing expires, and a new
/// leader counts its age anew at the worst (S8).
const LEASE_BOUND: Duration = Duration::from_secs(40);

/// Connections of a whole world; more are a leak.
const CONNECTIONS_MAX: usize = 200;

/// Why a world is wrong.
#[derive(Debug)]
pub struct Violation(pub String);

/// What is said to be wrong, unless the condition holds.
pub fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation(what()))
    }
}

/// The memory of the oracle.
#[derive(Default)]
pub struct Oracle {
    /// By term and member: for whom it voted.
    votes: BTreeMap<(u64, String), String>,
    /// By term: who leads.
    leaders: BTreeMap<u64, String>,
}

impl Oracle {
    /// Looks at what the members have logged.
    pub fn read(&mut self, lines: &[String], nodes: &[Box<dyn Node>]) -> Result<(), Violation> {
        for line in lines {
            for node in nodes {
                if let Some((term, candidate)) = node.vote_of(line) {
                    self.voted(node.name(), term, candidate)?;
                }
                if let Some(term) = node.leads_of(line) {
                    self.leads(node.as_ref(), term)?;
                }
            }
        }
        Ok(())
    }

    /// S1: nobody votes twice in a term, whatever crashes between.
    fn voted(&mut self, voter: &str, term: u64, candidate: String) -> Result<(), Violation> {
        let vote = (term, voter.to_owned());
        let first = self.votes.entry(vote).or_insert_with(|| candidate.clone());
        ensure(*first == candidate, || {
            format!("{voter} voted twice in term {term}: for {first}, then for {candidate}")
        })
    }

    /// Raft 5.2: at most one leads in a term; who does has voted for itself.
    fn leads(&mut self, node: &dyn Node, term: u64) -> Result<(), Violation> {
        let first = self
            .leaders
            .entry(term)
            .or_insert_with(|| node.name().to_owned());
        ensure(*first == node.name(), || {
            format!("two lead in term {term}: {first} and {}", node.name())
        })?;
        self.voted(node.name(), term, node.address().to_string())
    }

    /// What holds at every moment.
    pub fn watch(&self, views: &[View], history: &History) -> Result<(), Violation> {
        for view in views {
            early_expiry(view, history)?;
            // What is not applied everywhere is kept, and a checkpoint takes its time.
            let most = 4 * limits::LOG_ENTRIES_MAX;
            ensure(view.log_len <= most, || {
                format!("a log holds {} entries in memory", view.log_len)
            })?;
        }
        let connections = simulated::network::connections();
        ensure(connections <= CONNECTIONS_MAX, || {
            format!("{connections} connections")
        })
    }
}

/// S8: a key that was refreshed is there for its time.
fn early_expiry(view: &View, history: &History) -> Result<(), Violation> {
    let Some((sent, index)) = history.refreshed.get() else {
        return Ok(());
    };
    let lives = simulated::passed() < sent + LEASE_TTL;
    let gone = view.applied >= index && !view.store.contains_key(LEASE);
    ensure(!(lives && gone), || {
        format!("the key that was refreshed at {sent:?} has expired before its time")
    })
}

/// What holds once all is well again, has been for a while and nobody writes: all
/// hold the same, and all that was acknowledged.
pub fn settled(views: &[View], history: &History) -> Result<(), Violation> {
    let Some(first) = views.first() else {
        return Ok(());
    };
    for view in views {
        ensure(view.store == first.store, || {
            format!("stores differ: {:?}\n{:?}", first.store, view.store)
        })?;
    }
    for (key, fate) in history.keys.borrow().iter() {
        let held = first
            .store
            .get(key)
            .and_then(|value| value.parse::<u64>().ok());
        let held = held.unwrap_or_default();
        ensure((fate.acknowledged..=fate.tried).contains(&held), || {
            format!("{key} holds {held}, of writes {fate:?}")
        })?;
    }
    Ok(())
}

/// S8: a key that nobody refreshes expires. How long to wait for it, from its last
/// refresh on.
pub const fn lease_wait() -> Duration {
    LEASE_TTL.saturating_add(LEASE_BOUND)
}
