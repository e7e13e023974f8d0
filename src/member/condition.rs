//! All that is known of one cluster, put into words for whoever looks. Nothing
//! here changes anything, but that peers are asked how they are.

use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use super::Member;
use super::placement::Advice;
use super::standing::told;
use crate::address::Address;
use crate::limits;
use crate::links::utility_client::ask_status;
use crate::probe::MemberReport;
use crate::raft::engine::Role;
use crate::reactor::{self, Instant};
use crate::reason::Reason;
use crate::status::ProbeOverview;
use crate::status::judge::judge;
use crate::status::patroni::{StoreRow, gone, scopes};
use crate::status::{
    ClusterOverview, CountersOverview, DiskOverview, Level, Note, Raft, RaftMember, Scope, Verdict,
    shown,
};

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Member {
    /// The cluster as it is, with what the probes got of its servers; a probe
    /// older than `fresh` is marked as old.
    pub fn condition(&self, reports: &[MemberReport], fresh: Duration) -> ClusterOverview {
        let mut cluster = ClusterOverview {
            cluster: self.name.to_string(),
            failover: Verdict::default(),
            raft: self.raft(),
            postgresql: self.postgresql(reports, fresh),
            notes: self.advice().into_iter().chain(self.concerns()).collect(),
        };
        judge(&mut cluster);
        cluster
    }

    /// Why this member is no voter that is connected to a leader and a majority,
    /// if it is not.
    pub fn unready(&self) -> Option<String> {
        let raft = self.raft();
        // A group that wants no vote of ours is whole without it.
        if !raft.has_withdrawn()
            && let (Some(reason), Some(why), Some(remedy)) = (raft.reason, raft.why, raft.remedy)
        {
            return Some(format!("no vote ({reason}): {why}. {remedy}"));
        }
        if self.known_leader().is_none() {
            return Some(match raft.leader {
                Some(leader) => format!("others follow {leader}, which is unreachable from here"),
                None => {
                    let concerns = self.concerns().into_iter();
                    let worse = concerns.filter(|note| note.level > Level::Advice);
                    let told = worse.map(|note| format!(" {}", note.text));
                    format!("no leader is heard of.{}", told.collect::<String>())
                }
            });
        }
        (!raft.quorum).then(|| {
            format!(
                "{} of {} members are there, and {} are needed",
                raft.reachable,
                raft.members.len(),
                raft.needed
            )
        })
    }

    /// Asks the peers that are there how they are, where what they told is old.
    /// Returns when they have said so, or had time enough.
    pub async fn refresh_peers(self: &Rc<Self>) {
        let members = self.replica.borrow().log.members().clone();
        // Without a leader it may be our own line that is cut.
        let fresh = match self.known_leader() {
            Some(_) => limits::TOLD_FRESH,
            None => limits::TOLD_FRESH_LEADERLESS,
        };
        let now = Instant::now();
        let asked: Vec<_> = members
            .into_iter()
            .filter(|peer| *peer != self.me && self.connection(peer).is_some())
            .filter(|peer| {
                self.elector
                    .peers
                    .borrow_mut()
                    .begin_refresh(peer, fresh, now)
            })
            .map(|peer| {
                // One that was silent before is not waited for.
                let awaited = !self.elector.peers.borrow().is_silent(&peer);
                let member = self.clone();
                let task = reactor::spawn(async move {
                    let keys = member.keys.borrow().clone();
                    let answer = ask_status(&peer, &keys, limits::TOLD_TIME_MAX).await;
                    member.note_responder(&peer, answer.as_ref().err());
                    let told = answer.as_ref().ok().map(told);
                    member.elector.peers.borrow_mut().end_refresh(&peer, told);
                });
                (awaited, Detached(Some(task)))
            })
            .collect();
        for (awaited, task) in asked {
            if awaited {
                task.done().await;
            }
        }
    }

    /// Whether the member is there: we have a link to it, and nothing says that
    /// it only looks so. A machine that lost its power closes no connection.
    fn is_there(&self, peer: &Address, leader: Option<&Address>) -> bool {
        let linked = self.connection(peer).is_some();
        linked && (leader == Some(peer) || !self.elector.peers.borrow().is_silent(peer))
    }

    /// What speaks for another place of this witness.
    fn advice(&self) -> Vec<Note> {
        let placement = self.placement();
        let advice = self.with_place(None, |place| placement.advice(place));
        let sentence = |text: String| {
            let mut chars = text.chars();
            let first = chars
                .next()
                .map(|first| first.to_uppercase().collect::<String>());
            format!("{}{}.", first.unwrap_or_default(), chars.as_str())
        };
        let each = advice.into_iter().map(|Advice { text, remedy }| {
            Note::new(Level::Warning, sentence(text)).with_remedy(remedy)
        });
        each.chain(self.partners_note()).collect()
    }

    fn raft(&self) -> Raft {
        let leader = self.known_leader().or_else(|| self.leader_elsewhere());
        let leads = leader.as_ref() == Some(&self.me);
        let leaders = self.elector.leaders.borrow();
        let reason = self.reason();
        let (why, remedy) = (
            reason.map(|reason| format!("it {}", self.reason_in_words(reason))),
            reason.map(|reason| self.remedy(reason)),
        );
        let replica = self.replica.borrow();
        let log = &replica.log;
        let peers = self.elector.peers.borrow();
        let members = log.members().iter();
        let members = members.map(|address| {
            let this = *address == self.me;
            let told = peers.told(address);
            RaftMember {
                address: address.to_string(),
                this,
                leader: leader.as_ref() == Some(address),
                connected: this || self.is_there(address, leader.as_ref()),
                version: match this {
                    true => Some(concat!("pg-witness ", env!("CARGO_PKG_VERSION")).into()),
                    false => told.as_ref().map(|told| told.version.to_string()),
                },
                commit_index: match this {
                    true => Some(log.commit().get()),
                    false => told.as_ref().map(|told| told.commit),
                },
                told_ms: match this {
                    true => Some(0),
                    // The leader tells with each message, not only when asked.
                    false => told.map(|told| {
                        let heard = self.heard_from(address);
                        ms(told.at.elapsed().min(heard.unwrap_or(Duration::MAX)))
                    }),
                },
            }
        });
        let members = members.collect();
        let mut raft = Raft {
            self_addr: self.me.to_string(),
            zone: self.placement().zone.as_deref().map(shown),
            state: match self.role() {
                _ if matches!(reason, Some(Reason::Diverged | Reason::Orphaned)) => {
                    reason.map_or("follower", Reason::name)
                }
                _ if self.engine().is_none() => "stopped",
                Role::Leader if self.leadership.borrow().is_some() => "leader",
                Role::Candidate => "candidate",
                _ => "follower",
            },
            votes: reason.is_none(),
            why,
            store_outdated: reason.is_some_and(Reason::stops_following),
            reason: reason.map(Reason::name),
            remedy,
            reason_level: reason.map_or(Level::Advice, Reason::level),
            term: self
                .engine()
                .map_or(replica.vote.term.term, |engine| engine.plain_term())
                .get(),
            leader_heard_ms: match leads {
                true => Some(0),
                false => leaders.heard_at().map(|at| ms(at.elapsed())),
            },
            leader_since_ms: leader.as_ref().and_then(|leader| {
                let since = leaders.leads_since(leader);
                since.map(|since| ms(since.elapsed()))
            }),
            leader: leader.map(|leader| leader.to_string()),
            commit_index: log.commit().get(),
            applied_index: replica.applied.get(),
            last_index: log.last().index.get(),
            members,
            counters: self.counters(),
            disk: disk(&replica.disk.stats()),
            ..Raft::default()
        };
        raft.count();
        raft
    }

    /// How long ago the peer was heard as leader, if it was the last to lead.
    fn heard_from(&self, peer: &Address) -> Option<Duration> {
        let heard = self.elector.leaders.borrow().heard_from(peer)?;
        Some(heard.elapsed())
    }

    fn counters(&self) -> CountersOverview {
        let replica = self.replica.borrow();
        CountersOverview {
            poison_entries: replica.counters.poison,
            keys_expired: replica.counters.expired,
            refused_connections: self.counts.refused_connections.get(),
            unreadable_connections: self.counts.unreadable.get(),
            refused_appends: self.counts.refused_appends.get(),
            rebuilds: self.counts.rebuilds.get(),
            keys: count(replica.store.len()),
            key_bytes: replica.store.bytes(),
        }
    }

    fn postgresql(&self, reports: &[MemberReport], fresh: Duration) -> Vec<Scope> {
        let now = Instant::now();
        let wall = reactor::wall_clock().duration_since(UNIX_EPOCH);
        let outdated = self.reason().is_some_and(Reason::stops_following);
        let replica = self.replica.borrow();
        let lives = replica.store.lives(now, wall.unwrap_or_default());
        let rows = lives.filter_map(|life| {
            Some(StoreRow {
                key: life.key.as_str()?,
                value: life.stored.get("value")?.as_str()?,
                age: life.age,
                remaining: life.remaining,
                clock_ahead_ms: life.clock_ahead_ms.filter(|_| !outdated),
            })
        });
        let mut found = scopes(rows);
        let placement = self.placement();
        let primaries = self.servers.primaries.borrow();
        for scope in &mut found {
            if let Some(seen) = primaries.of(&scope.path) {
                scope.previous_primary = seen.before.as_deref().map(shown);
                let since = seen.since.filter(|_| seen.holder.is_some());
                scope.primary_since_ms = since.map(|since| ms(since.elapsed()));
                scope.primary_changes = seen.changes;
            }
            for server in primaries.servers(&scope.scope) {
                let name = shown(&server.node.name);
                let full = scope.members.len() >= limits::STATUS_MEMBERS_MAX;
                if full || scope.members.iter().any(|member| member.name == name) {
                    continue;
                }
                let (url, age) = (server.node.conn_url.as_deref(), server.seen.elapsed());
                let gone = gone(&name, url, age);
                scope.members.push(gone);
            }
            for member in &mut scope.members {
                let report = reports.iter().find(|told| {
                    *told.member == *member.name
                        && (*told.scope == *scope.scope || *told.scope == *scope.path)
                });
                // What the configuration says of a zone counts over the tag.
                if let Some(zone) = placement.zones.get(member.name.as_str()) {
                    member.zone = Some(shown(zone));
                }
                member.probe = report.map(|told| ProbeOverview::of(&told.report, fresh));
            }
        }
        found
    }
}

fn disk(stats: &crate::disk::Stats) -> DiskOverview {
    DiskOverview {
        sectors_today: stats.today_bytes() / 512,
        written_bytes: stats.bytes_written,
        syncs: stats.syncs,
        sync_last_us: us(stats.sync_last),
        sync_max_us: us(stats.sync_max),
    }
}

/// A task that goes on when nobody waits for it any more: cancelled, it would
/// never end what it began.
struct Detached(Option<smol::Task<()>>);

impl Detached {
    async fn done(mut self) {
        if let Some(task) = self.0.as_mut() {
            task.await;
        }
        self.0 = None;
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}
