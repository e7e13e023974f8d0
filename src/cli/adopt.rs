//! `pg-witness adopt --accept-loss CLUSTER`: lets a witness vote that lost its
//! state, when nobody can prove that nothing is lost (S7).

use super::{Failure, with_cluster};
use crate::config::Config;
use crate::member::offline;

/// Adopts what the log of the cluster `name` holds now.
pub fn main(config: &Config, name: &str) -> Result<(), Failure> {
    let last = with_cluster(config, name, async |cluster, worker| {
        offline::adopt(cluster, worker)
            .await
            .map_err(|error| error.to_string())
    })?;
    println!(
        "{name}: adopted a log that ends with entry {last}. Start the witness: it votes now. \
         Writes that only the lost state or an unreachable data node held are given up."
    );
    Ok(())
}
