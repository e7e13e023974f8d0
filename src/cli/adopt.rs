//! `pg-witness adopt --accept-loss CLUSTER`: lets a witness vote that lost its
//! state, when nobody can prove that nothing is lost (S7).

use super::{Failure, with_cluster};
use crate::config::Config;
use crate::member::offline::{self, Adopted};

/// Adopts what the log of the cluster `name` holds now.
pub fn main(config: &Config, name: &str) -> Result<(), Failure> {
    let adopted = with_cluster(config, name, async |cluster, worker| {
        offline::adopt(cluster, worker)
            .await
            .map_err(|error| error.to_string())
    })?;
    match adopted {
        Adopted::Now(last) => println!(
            "{name}: adopted a log that ends with entry {last}. Start the witness: it votes now. \
             Writes that only the lost state or an unreachable data node held are given up."
        ),
        Adopted::Already(last) => println!(
            "{name}: this witness is a voter already, and its log ends with entry {last}. Nothing \
             was lost and nothing is given up; its state is unchanged."
        ),
    }
    Ok(())
}
