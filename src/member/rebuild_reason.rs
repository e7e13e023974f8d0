//! Why the engine must be rebuilt from disk (S14), and what of it a rebuild does
//! not mend. Pure: the supervisor in [`super::run`] acts.

use std::collections::BTreeMap;
use std::fmt;

use crate::address::Address;
use crate::election::past::OtherLeader;

/// What makes the supervisor rebuild the engine from disk.
#[derive(Debug, Clone)]
pub enum RebuildReason {
    /// The engine or its storage stopped.
    Stopped(String),
    /// Leading without a majority (S12).
    NoQuorum,
    /// Our log is from a past that the cluster has left (S13).
    StalePast {
        /// Who showed it.
        peer: Address,
        /// Whom it follows, or is.
        other: OtherLeader,
    },
    /// Membership changes were truncated (E10).
    MembersTruncated,
    /// A leader is heard of, but nothing that it sends is accepted (E7).
    Stalled,
    /// Leading, and told not to vote, or not wanted to.
    VoteWithheld,
    /// No other member holds what is committed here.
    Orphaned,
    /// What a log that is still empty begins with has changed (S7).
    NewFoundation,
}

/// The kinds of trouble, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    StalePast,
    Orphaned,
    VoteWithheld,
    NoQuorum,
    MembersTruncated,
    Stopped,
    Stalled,
    NewFoundation,
}

impl RebuildReason {
    fn kind(&self) -> Kind {
        match self {
            Self::StalePast { .. } => Kind::StalePast,
            Self::Orphaned => Kind::Orphaned,
            Self::VoteWithheld => Kind::VoteWithheld,
            Self::NoQuorum => Kind::NoQuorum,
            Self::MembersTruncated => Kind::MembersTruncated,
            Self::Stopped(_) => Kind::Stopped,
            Self::Stalled => Kind::Stalled,
            Self::NewFoundation => Kind::NewFoundation,
        }
    }

    /// Whether it is about the log itself: then to read it again mends nothing.
    pub fn is_of_the_log(&self) -> bool {
        self.kind() == Kind::StalePast
    }
}

impl fmt::Display for RebuildReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(why) => f.write_str(why),
            Self::NoQuorum => f.write_str("no majority answers any more"),
            Self::StalePast { peer, other } => write!(
                f,
                "{peer} shows {} to lead term {}, committed up to {}",
                other.address, other.term, other.commit
            ),
            Self::Orphaned => f.write_str("no other member holds what is committed here"),
            Self::Stalled => f.write_str("the leader is heard of, but nothing of it is accepted"),
            Self::NewFoundation => f.write_str("the group is known now"),
            Self::VoteWithheld => f.write_str("this witness must not lead"),
            Self::MembersTruncated => f.write_str("changes of the members were undone"),
        }
    }
}

/// What was reported and not acted on yet: the latest of each kind, for a disk
/// that fails is reported with every message, perhaps for days (S10).
#[derive(Debug, Default)]
pub struct Reports(BTreeMap<Kind, RebuildReason>);

impl Reports {
    /// Adds one.
    pub fn add(&mut self, trouble: RebuildReason) {
        self.0.insert(trouble.kind(), trouble);
    }

    /// Takes all, the worst first.
    pub fn take(&mut self) -> Vec<RebuildReason> {
        std::mem::take(&mut self.0).into_values().collect()
    }

    /// Drops what a rebuild has mended: all but what is about the log.
    pub fn rebuilt(&mut self) {
        self.0.retain(|_, trouble| trouble.is_of_the_log());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Term;

    fn stale_past(commit: u64) -> RebuildReason {
        let address: Address = "10.0.0.1:5010".parse().unwrap();
        RebuildReason::StalePast {
            peer: address.clone(),
            other: OtherLeader {
                address,
                term: Term::ZERO,
                commit,
            },
        }
    }

    fn taken(reports: &mut Reports) -> Vec<String> {
        reports
            .take()
            .iter()
            .map(RebuildReason::to_string)
            .collect()
    }

    #[test]
    fn a_later_report_hides_no_earlier_one() {
        // S13: a stale past, and a disk that fails right behind it.
        let mut reports = Reports::default();
        reports.add(stale_past(7));
        reports.add(RebuildReason::Stopped("no space".into()));
        reports.add(RebuildReason::Stalled);
        let all = taken(&mut reports);
        assert_eq!(all.len(), 3);
        assert!(all[0].ends_with("committed up to 7"), "{all:?}");
        assert_eq!(all[1], "no space");
        assert!(taken(&mut reports).is_empty());
    }

    #[test]
    fn a_rebuild_mends_all_but_the_log() {
        let mut reports = Reports::default();
        for report in [
            RebuildReason::NoQuorum,
            stale_past(7),
            RebuildReason::Stalled,
        ] {
            reports.add(report);
        }
        reports.rebuilt();
        assert_eq!(taken(&mut reports).len(), 1);
    }

    #[test]
    fn reports_do_not_pile_up() {
        // S10
        let mut reports = Reports::default();
        for count in 0..1000 {
            reports.add(RebuildReason::Stopped(count.to_string()));
            reports.add(stale_past(count));
        }
        let all = taken(&mut reports);
        assert_eq!(all.len(), 2);
        assert_eq!(all[1], "999");
    }
}
