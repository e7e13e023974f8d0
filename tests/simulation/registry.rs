//! Who is who in a world, and what each holds: what only a simulation can know.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::ids::LogIndex;
use pg_witness::member::Member;

use crate::data_node::Life;
use crate::promises::Promises;

/// The members by their hosts, and what the witnesses among them have promised.
#[derive(Default)]
pub struct Registry {
    members: RefCell<Vec<(IpAddr, Registered)>>,
    pub promises: Promises,
    /// Who may have forgotten, since all were well.
    forgetful: RefCell<Vec<IpAddr>>,
}

/// A member as it is now, if it runs.
#[derive(Clone)]
pub enum Registered {
    /// A pg-witness.
    Witness(Rc<RefCell<Weak<Member>>>),
    /// A PySyncObj node.
    DataNode(Rc<Life>),
}

/// What a member has at an index of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// An entry of this term.
    Term(i64),
    /// Nothing: its log ends before.
    Nothing,
    /// It does not run, or its log begins behind.
    Unknown,
}

impl Registry {
    pub fn add(&self, host: IpAddr, member: Registered) {
        self.members.borrow_mut().push((host, member));
    }

    fn get(&self, host: IpAddr) -> Option<Registered> {
        let members = self.members.borrow();
        let (_, member) = members.iter().find(|(of, _)| *of == host)?;
        Some(member.clone())
    }

    /// Whether a witness lives there.
    pub fn is_witness(&self, host: IpAddr) -> bool {
        matches!(self.get(host), Some(Registered::Witness(_)))
    }

    /// What the member on this host has at an index.
    pub fn held(&self, host: IpAddr, index: i64) -> Held {
        match self.get(host) {
            Some(Registered::Witness(member)) => {
                let member = member.borrow().upgrade();
                member.map_or(Held::Unknown, |member| held_by(&member, index))
            }
            Some(Registered::DataNode(life)) => life.held(index),
            None => Held::Unknown,
        }
    }

    /// The term in which the member on this host leads.
    pub fn leads(&self, host: IpAddr) -> Option<i64> {
        match self.get(host)? {
            Registered::Witness(member) => {
                let term = member.borrow().upgrade()?.leads()?;
                i64::try_from(term.get()).ok()
            }
            Registered::DataNode(life) => life.leads(),
        }
    }

    /// A fault makes the member on this host forget.
    pub fn forgets(&self, host: IpAddr) {
        self.promises.forgets(host);
        self.forgetful.borrow_mut().push(host);
    }

    /// All is well.
    pub fn end(&self) {
        self.forgetful.borrow_mut().clear();
    }

    /// The witness on this host, if it runs.
    pub fn witness(&self, host: IpAddr) -> Option<Rc<Member>> {
        match self.get(host)? {
            Registered::Witness(member) => member.borrow().upgrade(),
            Registered::DataNode(_) => None,
        }
    }

    /// A member with one of these addresses that has not run for a while.
    pub fn away<'a>(
        &self,
        mut members: impl Iterator<Item = &'a Address>,
        since: Duration,
    ) -> Option<&'a Address> {
        members.find(|member| match self.get(member.host().parse().unwrap()) {
            Some(Registered::DataNode(life)) => life.is_away(since),
            Some(Registered::Witness(_)) | None => false,
        })
    }

    /// Whether no majority of the members on these hosts can hold this entry: half of
    /// them or more run and do not, and have not forgotten it.
    pub fn lacks_majority(&self, hosts: &[IpAddr], index: i64, term: i64) -> bool {
        let forgetful = self.forgetful.borrow();
        let lacks = |held| !matches!(held, Held::Unknown) && held != Held::Term(term);
        let without = hosts
            .iter()
            .filter(|host| !forgetful.contains(host) && lacks(self.held(**host, index)));
        2 * without.count() >= hosts.len()
    }
}

/// What a witness has at an index of its log.
pub fn held_by(member: &Member, index: i64) -> Held {
    let replica = member.replica_for_tests();
    let replica = replica.borrow();
    let index = u64::try_from(index).ok().and_then(LogIndex::new);
    let Some(index) = index.filter(|index| *index >= replica.log.first()) else {
        return Held::Unknown;
    };
    let id = replica.log.id_at(index);
    id.map_or(Held::Nothing, |id| {
        Held::Term(i64::try_from(id.term.term.get()).unwrap_or(i64::MAX))
    })
}
