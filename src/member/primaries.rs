//! Who is primary of each PostgreSQL cluster that the store names, since when and
//! after whom; and the servers that were there lately, whose keys are gone.
//!
//! The store only says how things are. Its leader keys and member keys are
//! compared, a few times a second, with how they were. [`Primaries`] is pure; the
//! member reads the store, and logs what is new.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::Member;
use super::nodes::Node;
use crate::limits::{GONE_SERVER_TIME, STATUS_MEMBERS_MAX, STATUS_SCOPES_MAX};
use crate::raft::replica::{Freed, leader_path};
use crate::reactor::Instant;
use crate::status::patroni::name_of;
use crate::status::shown;

/// One PostgreSQL cluster's leader key, by whoever holds or held it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Primary {
    /// Who holds the key; none while it is free.
    pub holder: Option<Rc<str>>,
    /// Who held it last.
    last: Rc<str>,
    /// Who held it before `last`.
    pub before: Option<Rc<str>>,
    /// Since when `last` has held it; none if it did when we began to look.
    pub since: Option<Instant>,
    /// How often another has taken over since we began to look.
    pub changes: u64,
    freed: Option<(Freed, Instant)>,
}

/// What is new of one PostgreSQL cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It has a primary, when we begin to look.
    Found(Rc<str>),
    /// Nobody holds the leader key any more.
    Lost(Rc<str>, Option<Freed>),
    /// The last holder has taken the leader key again.
    Back(Rc<str>),
    /// Another holds the leader key.
    Changed {
        /// Who does.
        to: Rc<str>,
        /// Who did.
        from: Rc<str>,
        /// How that one lost it, and how long ago.
        freed: Option<(Freed, Duration)>,
    },
}

/// A server whose key is gone.
#[derive(Debug, Clone)]
pub struct GoneServer {
    /// As it was.
    pub node: Node,
    /// When its key was last there.
    pub seen: Instant,
}

/// All that was seen.
#[derive(Debug, Default)]
pub struct Primaries {
    /// By the path of the scope's keys.
    scopes: BTreeMap<Rc<str>, Primary>,
    /// By scope and name.
    servers: BTreeMap<(Rc<str>, Rc<str>), GoneServer>,
}

impl Primaries {
    /// Takes notice of who holds the leader key of each path now, and which were
    /// freed since the last call. Returns what is new, by path.
    pub fn observe(
        &mut self,
        holders: &BTreeMap<&str, &str>,
        freed: &[(Rc<str>, Freed)],
        now: Instant,
    ) -> Vec<(Rc<str>, News)> {
        for (path, how) in freed {
            if let Some(known) = self.scopes.get_mut(path) {
                known.freed = Some((*how, now));
            }
        }
        let mut news = Vec::new();
        for (path, known) in &mut self.scopes {
            let holder = holders.get(&**path).map(|holder| Rc::from(*holder));
            news.extend(known.change(holder, now).map(|new| (path.clone(), new)));
        }
        for (path, holder) in holders {
            if self.scopes.contains_key(*path) || self.scopes.len() >= STATUS_SCOPES_MAX {
                continue;
            }
            let (path, holder): (Rc<str>, Rc<str>) = ((*path).into(), (*holder).into());
            let found = Primary {
                holder: Some(holder.clone()),
                last: holder.clone(),
                before: None,
                since: None,
                changes: 0,
                freed: None,
            };
            self.scopes.insert(path.clone(), found);
            news.push((path, News::Found(holder)));
        }
        news
    }

    /// Takes notice of the servers that the store names now.
    pub fn notice(&mut self, nodes: &[Node], now: Instant) {
        self.servers
            .retain(|_, server| now.saturating_duration_since(server.seen) < GONE_SERVER_TIME);
        for node in nodes {
            let key = (node.scope.clone(), node.name.clone());
            let known = self.servers.contains_key(&key);
            if known || self.servers.len() < STATUS_MEMBERS_MAX * STATUS_SCOPES_MAX {
                let node = node.clone();
                self.servers.insert(key, GoneServer { node, seen: now });
            }
        }
    }

    /// The leader key at a path, as it is shown.
    pub fn of(&self, path: &str) -> Option<&Primary> {
        let found = self.scopes.iter().find(|(known, _)| shown(known) == path);
        found.map(|(_, primary)| primary)
    }

    /// The servers of a scope, as it is shown, that were there lately.
    pub fn servers<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = &'a GoneServer> {
        let servers = self.servers.values();
        servers.filter(move |server| shown(&server.node.scope) == scope)
    }
}

impl Primary {
    fn change(&mut self, holder: Option<Rc<str>>, now: Instant) -> Option<News> {
        if holder == self.holder {
            return None;
        }
        self.holder.clone_from(&holder);
        let Some(to) = holder else {
            let how = self.freed.map(|(how, _)| how);
            return Some(News::Lost(self.last.clone(), how));
        };
        let freed = self.freed.take();
        self.since = Some(now);
        if to == self.last {
            return Some(News::Back(to));
        }
        self.changes = self.changes.saturating_add(1);
        let from = std::mem::replace(&mut self.last, to.clone());
        self.before = Some(from.clone());
        let freed = freed.map(|(how, at)| (how, now.saturating_duration_since(at)));
        Some(News::Changed { to, from, freed })
    }
}

fn words(how: Option<Freed>) -> &'static str {
    match how {
        Some(Freed::Expired) => "expired",
        Some(Freed::Released) => "was released",
        None => "is gone",
    }
}

impl Member {
    /// Compares the leader keys with how they were, and logs what is new. Not
    /// while the log is replayed: what it passes through is long over.
    pub(super) fn look_for_primaries(&self) {
        let news = {
            let mut replica = self.replica.borrow_mut();
            if replica.is_replaying() {
                return;
            }
            let freed = std::mem::take(&mut replica.leaders_freed);
            let holders = replica.store.iter().filter_map(|(key, stored)| {
                let path = leader_path(key.as_str()?)?;
                let holder = stored.get("value")?.as_str()?;
                (!holder.is_empty()).then_some((path, holder))
            });
            let (holders, now) = (holders.collect(), Instant::now());
            let mut primaries = self.servers.primaries.borrow_mut();
            primaries.notice(&self.nodes(), now);
            primaries.observe(&holders, &freed, now)
        };
        for (path, news) in news {
            self.report_primary(&shown(name_of(&path)), &news);
        }
    }

    fn report_primary(&self, scope: &str, news: &News) {
        let cluster = &self.name;
        match news {
            News::Found(name) => {
                log::info!(
                    "{cluster}: PostgreSQL {scope}: {} is the primary",
                    shown(name)
                );
            }
            News::Lost(name, how) => log::warn!(
                "{cluster}: PostgreSQL {scope}: there is no primary: the leader key of {} {}",
                shown(name),
                words(*how)
            ),
            News::Back(name) => log::info!(
                "{cluster}: PostgreSQL {scope}: {} is the primary again",
                shown(name)
            ),
            News::Changed { to, from, freed } => {
                let how = words(freed.map(|(how, _)| how));
                let ago = freed.map_or_else(String::new, |(_, ago)| {
                    format!(" {} s before", ago.as_secs())
                });
                log::warn!(
                    "{cluster}: PostgreSQL {scope}: {} is the primary now, after {}, whose leader key {how}{ago}",
                    shown(to),
                    shown(from)
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/service/main";

    fn news(primaries: &mut Primaries, holder: &str, freed: Option<Freed>, s: u64) -> Vec<News> {
        thread_local!(static START: Instant = Instant::now());
        let now = START.with(|start| *start + Duration::from_secs(s));
        let holders = BTreeMap::from([(PATH, holder)]);
        let holders = if holder.is_empty() {
            BTreeMap::new()
        } else {
            holders
        };
        let freed: Vec<_> = freed.map(|how| (PATH.into(), how)).into_iter().collect();
        let news = primaries.observe(&holders, &freed, now);
        news.into_iter().map(|(_, news)| news).collect()
    }

    #[test]
    fn a_failover_is_told_step_by_step() {
        let mut primaries = Primaries::default();
        let mut see = |holder, freed, s| news(&mut primaries, holder, freed, s);
        let (pg1, pg2): (Rc<str>, Rc<str>) = ("pg1".into(), "pg2".into());
        assert_eq!(see("", None, 0), []);
        assert_eq!(see("pg1", None, 1), [News::Found(pg1.clone())]);
        assert_eq!(see("pg1", None, 2), []);
        let expired = Some(Freed::Expired);
        assert_eq!(see("", expired, 3), [News::Lost(pg1.clone(), expired)]);
        assert_eq!(see("", None, 4), []);
        let changed = |freed| News::Changed {
            to: pg2.clone(),
            from: pg1.clone(),
            freed,
        };
        let freed = Some((Freed::Expired, Duration::from_secs(2)));
        assert_eq!(see("pg2", None, 5), [changed(freed)]);
        // A restart of the primary: it releases the key and takes it again.
        let released = Some(Freed::Released);
        assert_eq!(see("", released, 6), [News::Lost(pg2.clone(), released)]);
        assert_eq!(see("pg2", None, 7), [News::Back(pg2)]);
        let known = primaries.of(PATH).unwrap();
        assert_eq!((known.changes, known.before.as_deref()), (1, Some("pg1")));
    }

    #[test]
    fn a_change_between_two_looks_is_told_whole() {
        let mut primaries = Primaries::default();
        news(&mut primaries, "pg1", None, 0);
        let told = news(&mut primaries, "pg2", Some(Freed::Released), 1);
        let expected = News::Changed {
            to: "pg2".into(),
            from: "pg1".into(),
            freed: Some((Freed::Released, Duration::ZERO)),
        };
        assert_eq!(told, [expected]);
    }

    #[test]
    fn keys_of_a_leader_are_told_from_others() {
        for (key, path) in [
            ("/service/main/leader", Some("/service/main")),
            ("/service/main/optime/leader", None),
            ("/service/main/members/leader", None),
            ("leader", None),
        ] {
            assert_eq!(leader_path(key), path);
        }
    }

    #[test]
    fn neither_scopes_nor_servers_are_without_end() {
        let mut primaries = Primaries::default();
        let paths: Vec<String> = (0..1_000).map(|n| format!("/service/{n}")).collect();
        let holders = paths.iter().map(|path| (path.as_str(), "x")).collect();
        let told = primaries.observe(&holders, &[], Instant::now());
        assert_eq!(told.len(), STATUS_SCOPES_MAX);
    }
}
