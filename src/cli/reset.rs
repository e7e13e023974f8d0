//! `pg-witness reset CLUSTER`: sets a cluster's state aside.

use super::{Failure, with_cluster};
use crate::config::Config;
use crate::member::offline;

/// Sets the state of the cluster `name` aside and says where it is.
pub fn main(config: &Config, name: &str) -> Result<(), Failure> {
    let folder = with_cluster(config, name, async |cluster, _| {
        offline::reset(cluster).map_err(|error| error.to_string())
    })?;
    println!(
        "{name}: the state is kept in {}. Start the witness: it begins anew, and votes once an \
         entry was committed without it.",
        folder.display()
    );
    Ok(())
}
