//! The PostgreSQL servers that a cluster's store names: what Patroni writes
//! under `/NAMESPACE/SCOPE/members/NAME`, as far as probing them and knowing
//! where they stand needs it.
//!
//! The store is the members' to write: what cannot be read is left out, and
//! nothing here grows beyond what the store itself takes.

use std::rc::Rc;
use std::sync::Arc;

use event_listener::EventListener;

use super::Member;
use crate::kv::Store;
use crate::limits::{CONN_URL_BYTES_MAX, ZONE_BYTES_MAX};
use crate::status::field::Object;
use crate::wire::Value;

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Patroni's scope, with the group in a Citus cluster: `main`, `main/0`.
    pub scope: Rc<str>,
    /// Patroni's name of the member.
    pub name: Rc<str>,
    /// `conn_url`, if it is there.
    pub conn_url: Option<Rc<str>>,
    /// The tag `zone`, if it is there.
    pub zone: Option<Rc<str>>,
}

/// The servers of a store, in its order.
pub fn of_store<'a>(pairs: impl Iterator<Item = (&'a Value, &'a Value)>) -> Vec<Node> {
    let node = |(key, stored): (&Value, &Value)| {
        let (scope, name) = member_key(key.as_str()?)?;
        let json = stored.get("value")?.as_str()?;
        let json = Object::parse(json).unwrap_or_default();
        Some(Node {
            scope: scope.into(),
            name: name.into(),
            conn_url: conn_url(&json).map(Into::into),
            zone: zone(&json).map(Into::into),
        })
    };
    pairs.filter_map(node).collect()
}

/// Scope and name of `/NAMESPACE/SCOPE/members/NAME`.
fn member_key(key: &str) -> Option<(&str, &str)> {
    let (before, name) = key.rsplit_once("/members/")?;
    let before = before.strip_prefix('/').unwrap_or(before);
    // Without a namespace it is all scope.
    let scope = before.split_once('/').map_or(before, |(_, scope)| scope);
    (!name.is_empty() && !name.contains('/') && !scope.is_empty()).then_some((scope, name))
}

fn conn_url(json: &Object<'_>) -> Option<String> {
    json.get(&["conn_url"])
        .filter(|url: &String| url.len() <= CONN_URL_BYTES_MAX)
}

/// The zone, which YAML may have made a number.
fn zone(json: &Object<'_>) -> Option<String> {
    let path = ["tags", "zone"];
    let number = || json.get::<i64>(&path).map(|number| number.to_string());
    let zone = json.get::<String>(&path).or_else(number)?;
    (!zone.is_empty() && zone.len() <= ZONE_BYTES_MAX).then_some(zone)
}

/// The servers as they were found last.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    found: Rc<[Node]>,
    /// The store's mark at that time.
    as_of: Option<Arc<()>>,
}

impl Nodes {
    /// Looks again if the store's servers may have changed. Whether they have.
    fn look(&mut self, store: &Store) -> bool {
        let mark = store.servers_mark();
        if self
            .as_of
            .as_ref()
            .is_some_and(|as_of| Arc::ptr_eq(as_of, mark))
        {
            return false;
        }
        self.as_of = Some(mark.clone());
        let found = of_store(store.iter());
        let changed = *self.found != *found;
        if changed {
            self.found = found.into();
        }
        changed
    }
}

impl Member {
    /// The PostgreSQL servers that the store names, as of a moment ago.
    pub fn nodes(&self) -> Rc<[Node]> {
        self.servers.nodes.borrow().found.clone()
    }

    /// Resolves when [`Member::nodes`] has changed after this call.
    pub fn nodes_changed(&self) -> EventListener {
        self.servers.nodes_changed.listen()
    }

    /// Looks again if the store's servers may have changed.
    pub(super) fn look_for_nodes(&self) {
        let changed = self
            .servers
            .nodes
            .borrow_mut()
            .look(&self.replica.borrow().store);
        if changed {
            self.servers.nodes_changed.notify(usize::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LogIndex;
    use crate::kv::Call;
    use crate::reactor::Instant;

    fn found(key: &str, json: &str) -> Option<Node> {
        let key = Value::str(key);
        let stored = Value::dict([("value", Value::str(json))]);
        of_store([(&key, &stored)].into_iter()).pop()
    }

    #[test]
    fn what_patroni_writes_is_found() {
        // Patroni 4.1.5, a replica, with tags.
        let json = r#"{"conn_url":"postgres://10.0.0.2:5432/postgres","api_url":"http://10.0.0.2:8008/patroni","state":"running","role":"replica","version":"4.1.5","tags":{"nofailover":true,"zone":"b","x":{"y":[1,2.5,null,"\"}"]}},"xlog_location":67108960,"replication_state":"streaming","timeline":3}"#;
        let node = found("/service/main/members/pg2", json).unwrap();
        assert_eq!((&*node.scope, &*node.name), ("main", "pg2"));
        let url = node.conn_url.unwrap();
        assert_eq!(&*url, "postgres://10.0.0.2:5432/postgres");
        assert_eq!(node.zone.as_deref(), Some("b"));
    }

    #[test]
    fn keys_are_taken_apart() {
        for (key, expected) in [
            ("/service/main/members/pg1", Some(("main", "pg1"))),
            ("/service/main/0/members/pg1", Some(("main/0", "pg1"))),
            ("/a/b/main/members/pg1", Some(("b/main", "pg1"))),
            ("main/members/pg1", Some(("main", "pg1"))),
            (
                "/service/members/members/members",
                Some(("members", "members")),
            ),
            ("/service/main/members/", None),
            ("/service/main/members/a/b", None),
            ("/members/a", None),
            ("/service/main/leader", None),
            ("", None),
        ] {
            assert_eq!(member_key(key), expected, "{key}");
        }
    }

    #[test]
    fn nonsense_has_no_address() {
        for (json, url, zone) in [
            ("", None, None),
            ("[]", None, None),
            ("{\"conn_url\":7}", None, None),
            ("{\"conn_url\":\"\\u0041\\n\"}", Some("A\n"), None),
            ("{\"conn_url\":\"x\",\"tags\":7}", Some("x"), None),
            ("{\"tags\":{\"zone\":3}}", None, Some("3")),
            ("{\"tags\":{\"zone\":\"\"}}", None, None),
            ("{\"tags\":{\"zone\":[1]}}", None, None),
        ] {
            let node = found("/service/main/members/pg1", json).unwrap();
            assert_eq!(node.conn_url.as_deref(), url, "{json}");
            assert_eq!(node.zone.as_deref(), zone, "{json}");
        }
        let long = format!(
            "{{\"conn_url\":\"{}\"}}",
            "x".repeat(CONN_URL_BYTES_MAX + 1)
        );
        let node = found("/service/main/members/pg1", &long).unwrap();
        assert_eq!(node.conn_url, None);
        // S9: a reader that follows it into the depth ends the process.
        let deep = format!("{{\"x\":{}", "[".repeat(60_000));
        let node = found("/service/main/members/pg1", &deep).unwrap();
        assert_eq!((node.conn_url, node.zone), (None, None));
    }

    /// A write to any other key, such as the leader key, costs no look at all keys.
    #[test]
    fn it_looks_again_only_where_a_servers_key_changed() {
        const MEMBER: &str = "/service/main/members/pg1";
        let stored = |json: &str| {
            let (updated, created) = (Value::Float(1.0), Value::Float(1.0));
            let pairs = [
                ("value", Value::str(json)),
                ("updated", updated),
                ("created", created),
            ];
            Value::dict(pairs)
        };
        let call = |function, args: Vec<Value>| Call {
            function: Value::Int(function),
            args,
            kwargs: Vec::new(),
        };
        let set = |key: &str, json: &str| call(2, vec![Value::str(key), stored(json)]);
        let url = |host: &str| format!("{{\"conn_url\":\"postgres://{host}:5432/postgres\"}}");
        let (mut store, mut index) = (Store::new(Instant::now()), LogIndex::FIRST);
        let mut nodes = Nodes::default();
        nodes.look(&store);
        for (call, looks, changed) in [
            (set(MEMBER, &url("a")), true, true),
            (set("/service/main/leader", "pg1"), false, false),
            (set(MEMBER, &url("a")), true, false),
            (set(MEMBER, &url("b")), true, true),
            (set("/service/main/status", "1"), false, false),
            (call(0, vec![Value::str(MEMBER)]), true, true),
        ] {
            index = index.next();
            let before = nodes.as_of.clone().unwrap();
            store.apply(index, &call, Instant::now());
            assert_eq!(nodes.look(&store), changed, "{call:?}");
            assert_eq!(
                !Arc::ptr_eq(&before, store.servers_mark()),
                looks,
                "{call:?}"
            );
        }
        assert!(nodes.found.is_empty());
        // A snapshot takes the store's place.
        let pairs = [(Value::str(MEMBER), stored(&url("c")))];
        assert!(nodes.look(&Store::load(pairs, Instant::now())));
    }
}
