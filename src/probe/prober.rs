//! Who is asked, and what was learned of each.

use std::rc::Rc;

use super::{MemberReport, Target};

/// Asks the servers of all clusters, each on its own schedule and never twice at
/// once. A handle: clones share one prober.
#[derive(Clone, Default)]
pub struct Prober {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {}

impl Prober {
    /// Replaces the servers of `cluster`; those that stay keep what is known of
    /// them. Beyond [`limits`](crate::config::limits) the rest is left out, with
    /// a line in the log. No targets: the cluster is forgotten.
    pub fn set_targets(&self, cluster: &str, targets: Vec<Target>) {
        let _ = (&self.inner, cluster, targets);
    }

    /// What is known of the servers of `cluster`, by scope and member.
    pub fn reports(&self, cluster: &str) -> Vec<MemberReport> {
        let _ = cluster;
        Vec::new()
    }

    /// Asks all servers of `cluster` now; resolves when each has been asked
    /// after this call. Dropped, the probes go on.
    pub async fn probe_now(&self, cluster: &str) {
        let _ = cluster;
    }
}
