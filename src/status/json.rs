//! The model as JSON, by `serde-json-core` into buffers that grow to a cap.

use serde::Serialize;

use super::scope::PgMember;
use super::table::is_healthy;
use super::{ClusterOverview, Overview, Raft, Verdict, Watcher};
use crate::limits::{JSON_BYTES_FIRST, JSON_BYTES_MAX};

/// A value as JSON, unless it is beyond the cap.
pub fn encode<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    let mut size = JSON_BYTES_FIRST;
    while size <= JSON_BYTES_MAX {
        let mut buffer = vec![0; size];
        if let Ok(length) = serde_json_core::to_slice(value, &mut buffer) {
            buffer.truncate(length);
            return Some(buffer);
        }
        size *= 2;
    }
    None
}

/// A server of PostgreSQL's as `topology` and `health-check` list it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Endpoint<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// Patroni's name of the PostgreSQL cluster.
    pub scope: &'a str,
    /// Whether the probe found it accepting connections.
    pub healthy: bool,
    /// All that is known of it.
    #[serde(rename = "member")]
    pub member: &'a PgMember,
}

/// Every PostgreSQL server.
pub fn endpoints(overview: &Overview) -> impl Iterator<Item = Endpoint<'_>> {
    overview.clusters.iter().flat_map(|cluster| {
        let scopes = cluster.postgresql.iter();
        scopes.flat_map(|scope| {
            scope.members.iter().map(|member| Endpoint {
                cluster: &cluster.cluster,
                scope: &scope.scope,
                healthy: is_healthy(member),
                member,
            })
        })
    })
}

/// A Raft group as `topology` lists it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RaftStatus<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The group.
    pub raft: &'a Raft,
}

/// Writes an object piece by piece, so that only one cluster is held at a time.
/// `part` is told each piece.
///
/// # Errors
/// What `part` returns.
pub async fn status<E>(
    overview: &Overview,
    worst: &Verdict,
    part: &mut impl AsyncFnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    part(b"{\"success\":true,\"status\":{\"failover\":").await?;
    part(&piece(worst)).await?;
    part(b",\"watcher\":").await?;
    part(&piece::<Watcher>(&overview.watcher)).await?;
    part(b",\"clusters\":[").await?;
    list(overview.clusters.iter(), part).await?;
    part(b"]}}\n").await
}

/// `topology`, with the keys that the watcher's `show-topology` has.
///
/// # Errors
/// What `part` returns.
pub async fn topology<E>(
    overview: &Overview,
    part: &mut impl AsyncFnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    part(b"{\"success\":true,\"topology\":{\"watcher\":").await?;
    part(&piece::<Watcher>(&overview.watcher)).await?;
    part(b",\"postgresql-endpoints\":[").await?;
    list(endpoints(overview), part).await?;
    part(b"],\"raft-status\":[").await?;
    let groups = overview
        .clusters
        .iter()
        .map(|cluster: &ClusterOverview| RaftStatus {
            cluster: &cluster.cluster,
            raft: &cluster.raft,
        });
    list(groups, part).await?;
    part(b"]}}\n").await
}

/// `health-check`, with the keys that the watcher's `trigger-health-check` has.
///
/// # Errors
/// What `part` returns.
pub async fn health<E>(
    overview: &Overview,
    part: &mut impl AsyncFnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let total = endpoints(overview).count();
    let healthy = endpoints(overview)
        .filter(|endpoint| endpoint.healthy)
        .count();
    let head = format!(
        "{{\"success\":{},\"healthy-count\":{healthy},\"total-count\":{total},\"endpoints\":[",
        total > 0 && healthy == total
    );
    part(head.as_bytes()).await?;
    list(endpoints(overview), part).await?;
    part(b"]}\n").await
}

/// `members`: both kinds.
///
/// # Errors
/// What `part` returns.
pub async fn members<E>(
    overview: &Overview,
    part: &mut impl AsyncFnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    part(b"{\"success\":true,\"raft-members\":[").await?;
    let raft = overview.clusters.iter().flat_map(|cluster| {
        let members = cluster.raft.members.iter();
        members.map(|member| Tagged {
            cluster: &cluster.cluster,
            member,
        })
    });
    list(raft, part).await?;
    part(b"],\"postgresql-members\":[").await?;
    list(endpoints(overview), part).await?;
    part(b"]}\n").await
}

/// Something of a cluster.
#[derive(Serialize)]
struct Tagged<'a, T> {
    cluster: &'a str,
    member: &'a T,
}

async fn list<T: Serialize, E>(
    items: impl Iterator<Item = T>,
    part: &mut impl AsyncFnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    for (number, item) in items.enumerate() {
        if number > 0 {
            part(b",").await?;
        }
        part(&piece(&item)).await?;
    }
    Ok(())
}

fn piece<T: Serialize>(value: &T) -> Vec<u8> {
    encode(value).unwrap_or_else(|| b"{\"error\":\"too large to show\"}".to_vec())
}
