//! `vote: auto`: whether the Raft group needs our vote, and how it is withdrawn and
//! offered again.
//!
//! The rule is that of Canonical's watcher: a witness votes while the data members are
//! fewer than three or an even number. Counted are the members that the group's leader
//! lists, without us and without those that told to be witnesses; whether they are up
//! has no part in it.
//!
//! A vote that is not wanted is withdrawn when nothing can go wrong by it: the group has
//! stayed the same for a while, every member answers and is connected, all follow one
//! leader, which commits, and that is not us. What interrupts this begins the time anew.
//! Outside the group the witness is a reader. It counts as outside only once the removal
//! is committed: no later leader lists us then, so no majority is short of us (Raft 4.1).
//! When the rule says so again it asks to be added (S17), one change at a time (H17).
//!
//! Who removes us by hand while the rule wants our vote means it (H16): we stay outside
//! until we are added by hand, restarted, or the number of data members has passed
//! through one that does not want us.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::joining;
use crate::address::Address;
use crate::config::Commands;
use crate::ids::Term;
use crate::reactor::Instant;
use crate::reason::Remedy;

/// Whether a witness's vote is wanted beside so many data members.
pub const fn is_wanted(data: usize) -> bool {
    data < 3 || data.is_multiple_of(2)
}

/// The group as its leader shows it, which may be us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Who leads, and says so itself.
    pub leader: Address,
    /// All members, as the leader lists them.
    pub members: BTreeSet<Address>,
    /// Those that told to be witnesses.
    pub witnesses: BTreeSet<Address>,
}

impl Group {
    /// How many members are data nodes. `me`: our own address.
    pub fn data(&self, me: &Address) -> usize {
        let others = self.members.iter().filter(|member| *member != me);
        others.filter(|m| !self.witnesses.contains(*m)).count()
    }
}

/// What must stay the same while we wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Who leads in which term.
    pub led: (Address, Term),
    /// Our connection to each other member, by a number that is its own.
    pub links: BTreeMap<Address, u64>,
    /// All members.
    pub members: BTreeSet<Address>,
}

/// Why our vote is not withdrawn yet, though it is not wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// We hear of no leader.
    NoLeader,
    /// We lead, and hand leadership over first.
    Leads,
    /// A member does not answer, or the leader does not commit.
    Group(joining::JoinObstacle),
    /// A member is not connected with us.
    NotConnected(Address),
    /// A member follows another leader, or none.
    NotFollowing(Address),
    /// What the leader lists is not committed here.
    Changing,
    /// The leader was asked to remove us, and lists us still.
    NotDone(Address),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => f.write_str("no leader is heard of"),
            Self::Leads => f.write_str("this witness leads, and hands leadership over first"),
            Self::Group(obstacle) => obstacle.fmt(f),
            Self::NotConnected(member) => write!(f, "{member} is not connected"),
            Self::NotFollowing(member) => write!(f, "{member} does not follow the leader"),
            Self::Changing => f.write_str("the members are being changed"),
            Self::NotDone(leader) => {
                write!(
                    f,
                    "{leader} was asked to remove this witness and has not done so"
                )
            }
        }
    }
}

impl Obstacle {
    /// What ends it.
    pub fn remedy(&self, commands: &Commands) -> Remedy {
        let advice = match self {
            Self::Group(obstacle) => return obstacle.remedy(commands),
            Self::NotConnected(_) | Self::NotFollowing(_) | Self::NoLeader => {
                "Bring up all data nodes and the lines between them"
            }
            Self::Leads | Self::Changing | Self::NotDone(_) => {
                "Nothing; this witness tries again by itself"
            }
        };
        Remedy::new(advice, None)
    }
}

/// What to do after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithdrawalStep {
    /// Look again later.
    Wait,
    /// Ask the leader to remove us.
    AskRemoval,
    /// Ask the leader to add us, if nothing speaks against that (S17).
    AskAdd,
    /// Stop leading, for nobody understands that leadership is handed over.
    StepDown,
}

/// Where we stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum VoteStage {
    /// No leader has said so since the start.
    #[default]
    Unknown,
    /// The leader lists us. `wanted`: so says the rule.
    Inside { wanted: bool },
    /// The leader does not, and that is committed. `by_hand`: somebody wanted that.
    Outside { by_hand: bool },
}

/// What `vote: auto` decides by.
#[derive(Debug, Default)]
pub struct AutoVote {
    place: VoteStage,
    /// Data members as of the last look.
    data: Option<usize>,
    /// What has stayed the same, and since when.
    stable: Option<(Instant, Settled)>,
    /// We have asked to be removed, and the leader lists us as of the last look.
    asked: bool,
    obstacle: Option<Obstacle>,
}

impl AutoVote {
    /// A leader lists us. Whether every member is to be asked for the rest, for
    /// [`Self::on_settled`]: our vote is not wanted.
    pub fn on_listed(&mut self, group: &Group, me: &Address) -> bool {
        let data = group.data(me);
        let wanted = is_wanted(data);
        self.data = Some(data);
        self.place = VoteStage::Inside { wanted };
        if wanted {
            self.asked = false;
            self.wait_for(None);
        }
        !wanted
    }

    /// What every member was asked for, or what speaks against our removal. `after`: how
    /// long it must stay the same.
    pub fn on_settled(
        &mut self,
        settled: Result<Settled, Obstacle>,
        me: &Address,
        after: Duration,
        now: Instant,
    ) -> WithdrawalStep {
        let settled = match settled {
            Ok(settled) if std::mem::take(&mut self.asked) => Err(Obstacle::NotDone(settled.led.0)),
            settled => settled,
        };
        let settled = match settled {
            Ok(settled) => settled,
            Err(obstacle) => {
                self.wait_for(Some(obstacle));
                return WithdrawalStep::Wait;
            }
        };
        let leads = settled.led.0 == *me;
        self.obstacle = leads.then_some(Obstacle::Leads);
        let since = match &self.stable {
            Some((since, before)) if *before == settled => *since,
            _ => now,
        };
        self.stable = Some((since, settled));
        if now.saturating_duration_since(since) < after {
            return WithdrawalStep::Wait;
        }
        self.stable = None;
        if leads {
            return WithdrawalStep::StepDown;
        }
        self.asked = true;
        WithdrawalStep::AskRemoval
    }

    /// A leader does not list us. `commits`: its log, as far as it reached when we had
    /// its list, is committed.
    pub fn on_unlisted(&mut self, group: &Group, me: &Address, commits: bool) -> WithdrawalStep {
        self.wait_for(None);
        if !commits {
            return WithdrawalStep::Wait;
        }
        self.asked = false;
        let data = group.data(me);
        self.data = Some(data);
        let wanted = is_wanted(data);
        let by_hand = match self.place {
            VoteStage::Unknown => false,
            VoteStage::Inside { wanted } => wanted,
            VoteStage::Outside { by_hand } => by_hand,
        };
        let by_hand = by_hand && wanted;
        self.place = VoteStage::Outside { by_hand };
        match wanted && !by_hand {
            true => WithdrawalStep::AskAdd,
            false => WithdrawalStep::Wait,
        }
    }

    /// Nobody leads. `listed`: a member lists us; it may need our vote.
    pub fn on_no_leader(&mut self, listed: bool) {
        self.asked = false;
        let unwanted = matches!(self.place, VoteStage::Inside { wanted: false });
        self.wait_for(unwanted.then_some(Obstacle::NoLeader));
        if listed && self.is_outside() {
            self.place = VoteStage::Unknown;
        }
    }

    /// We ask to be added, or our log shows that we were.
    pub fn enters(&mut self) {
        if self.is_outside() {
            self.place = VoteStage::Unknown;
        }
    }

    fn wait_for(&mut self, obstacle: Option<Obstacle>) {
        self.stable = None;
        self.obstacle = obstacle;
    }

    /// Whether the group is known not to count us: then we only read.
    pub fn is_outside(&self) -> bool {
        matches!(self.place, VoteStage::Outside { .. })
    }

    /// Whether nothing is to be awaited from one moment to the next.
    pub fn is_at_rest(&self) -> bool {
        !self.asked
            && match self.place {
                VoteStage::Unknown => false,
                VoteStage::Inside { .. } => true,
                VoteStage::Outside { by_hand } => by_hand || !self.data.is_none_or(is_wanted),
            }
    }

    /// The number of data members if we are outside the group because that wants no
    /// vote of ours. `log`: as our own log has it, before any look: whether it lists us,
    /// and how many others.
    pub fn withdrawn(&self, log: (bool, usize)) -> Option<usize> {
        let (listed, others) = log;
        let data = match self.place {
            VoteStage::Outside { .. } => self.data?,
            VoteStage::Unknown if !listed => self.data.unwrap_or(others),
            _ => return None,
        };
        (!is_wanted(data)).then_some(data)
    }

    /// The number of data members if we are a member whose vote is not wanted.
    pub fn unwanted(&self) -> Option<usize> {
        match self.place {
            VoteStage::Inside { wanted: false } => self.data,
            _ => None,
        }
    }

    /// Why our vote is not withdrawn yet.
    pub fn obstacle(&self) -> Option<&Obstacle> {
        self.obstacle.as_ref()
    }

    /// How much longer everything must stay the same; none while it does not.
    pub fn remaining(&self, after: Duration, now: Instant) -> Option<Duration> {
        let (since, _) = self.stable.as_ref()?;
        Some(after.saturating_sub(now.saturating_duration_since(*since)))
    }
}

#[cfg(test)]
mod tests;
