//! Which HTTP connections are open and which are answered: ids in, decisions out.
//! Pure.
//!
//! Whoever opens connections and says nothing, says it slowly, or does not read
//! its answer must not make health checks fail, or an orchestrator restarts a
//! healthy witness. So there are more connections than answers, the oldest that is
//! not being answered makes room for a new one, `/readyz` has slots of its own, and
//! `/livez`, which waits for nothing, needs none.

use std::collections::BTreeMap;

use crate::limits::{HTTP_ANSWERS_MAX, HTTP_CONNECTIONS_MAX, HTTP_HEALTH_ANSWERS_MAX};

/// An open connection; a greater one is younger.
pub type Id = u64;

/// What is asked for, by what it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// `/livez`.
    Alive,
    /// `/readyz`.
    Ready,
    /// Everything else.
    Other,
}

impl RequestKind {
    /// Of a path.
    pub fn of(path: &str) -> Self {
        match path {
            "/livez" => Self::Alive,
            "/readyz" => Self::Ready,
            _ => Self::Other,
        }
    }
}

/// The open connections, each with what it is being answered, if it is.
#[derive(Debug, Default)]
pub struct Slots {
    last: Id,
    open: BTreeMap<Id, Option<RequestKind>>,
}

impl Slots {
    /// Takes a new connection; with it the one to be closed in its place, if there
    /// are too many.
    pub fn open(&mut self) -> (Id, Option<Id>) {
        let evicted = (self.open.len() >= HTTP_CONNECTIONS_MAX)
            .then(|| {
                let mut idle = self.open.iter().filter(|(_, kind)| kind.is_none());
                idle.next().or(self.open.iter().next()).map(|(id, _)| *id)
            })
            .flatten();
        if let Some(id) = evicted {
            self.open.remove(&id);
        }
        self.last = self.last.saturating_add(1);
        self.open.insert(self.last, None);
        (self.last, evicted)
    }

    /// Whether the connection may be answered now.
    pub fn begin(&mut self, id: Id, kind: RequestKind) -> bool {
        let answered = self.open.values().filter(|busy| **busy == Some(kind));
        let most = match kind {
            RequestKind::Alive => usize::MAX,
            RequestKind::Ready => HTTP_HEALTH_ANSWERS_MAX,
            RequestKind::Other => HTTP_ANSWERS_MAX,
        };
        if answered.count() >= most {
            return false;
        }
        match self.open.get_mut(&id) {
            Some(slot) => {
                *slot = Some(kind);
                true
            }
            // It was evicted meanwhile.
            None => false,
        }
    }

    /// The connection has its answer; what is left is to say goodbye.
    pub fn finish(&mut self, id: Id) {
        if let Some(slot) = self.open.get_mut(&id) {
            *slot = None;
        }
    }

    /// The connection is closed.
    pub fn close(&mut self, id: Id) {
        self.open.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_says_nothing_makes_room_the_oldest_first() {
        // S16
        let mut slots = Slots::default();
        let (busy, _) = slots.open();
        assert!(slots.begin(busy, RequestKind::Other));
        let crowd: Vec<Id> = (1..HTTP_CONNECTIONS_MAX).map(|_| slots.open().0).collect();
        let evicted: Vec<Id> = (0..1_000).filter_map(|_| slots.open().1).collect();
        assert_eq!(evicted.len(), 1_000);
        assert!(evicted.starts_with(&crowd), "{evicted:?}");
        assert!(!evicted.contains(&busy));
        assert_eq!(slots.open.len(), HTTP_CONNECTIONS_MAX);
        // Who was evicted is not answered.
        assert!(!slots.begin(crowd[0], RequestKind::Alive));
    }

    #[test]
    fn health_is_answered_when_all_else_is_busy() {
        let mut slots = Slots::default();
        for _ in 0..HTTP_ANSWERS_MAX {
            let (id, _) = slots.open();
            assert!(slots.begin(id, RequestKind::Other));
        }
        let (late, _) = slots.open();
        assert!(!slots.begin(late, RequestKind::Other));
        let mut ready = Vec::new();
        for _ in 0..HTTP_HEALTH_ANSWERS_MAX {
            let (id, _) = slots.open();
            assert!(slots.begin(id, RequestKind::Ready));
            ready.push(id);
        }
        assert!(!slots.begin(late, RequestKind::Ready));
        assert!(slots.begin(late, RequestKind::Alive));
        slots.finish(ready[0]);
        let (next, _) = slots.open();
        assert!(slots.begin(next, RequestKind::Ready));
        slots.close(ready[1]);
        let (next, _) = slots.open();
        assert!(slots.begin(next, RequestKind::Ready));
    }

    #[test]
    fn there_are_more_connections_than_answers() {
        const { assert!(HTTP_CONNECTIONS_MAX > HTTP_ANSWERS_MAX + HTTP_HEALTH_ANSWERS_MAX) }
    }
}
