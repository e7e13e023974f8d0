//! `pg-witness adopt --accept-loss CLUSTER`: lets a witness vote that lost its
//! state, when nobody can prove that nothing is lost.

use std::process::ExitCode;

use super::with_cluster;
use crate::config::ConfigSource;
use crate::member::offline;

/// Adopts what the cluster's log holds now.
pub fn main(cluster: &str, source: &ConfigSource) -> ExitCode {
    with_cluster(cluster, source, async |config, worker| {
        let last = offline::adopt(&config, &worker).await.map_err(|e| e.to_string())?;
        println!(
            "{cluster}: adopted a log that ends with entry {last}. Start the witness: it votes \
             now. Writes that only the lost state or an unreachable data node held are given up."
        );
        Ok(())
    })
}
