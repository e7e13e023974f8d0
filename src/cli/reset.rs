//! `pg-witness reset CLUSTER`: sets a cluster's state aside.

use std::process::ExitCode;

use super::with_cluster;
use crate::config::ConfigSource;
use crate::member::offline;

/// Sets the state aside and says where it is.
pub fn main(cluster: &str, source: &ConfigSource) -> ExitCode {
    with_cluster(cluster, source, async |config, worker| {
        let folder = offline::reset(&config, &worker).await.map_err(|e| e.to_string())?;
        println!(
            "{cluster}: the state is kept in {}. Start the witness: it begins anew, and votes \
             once an entry was committed without it.",
            folder.display()
        );
        Ok(())
    })
}
