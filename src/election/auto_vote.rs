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
mod tests {
    use super::*;
    use crate::election::testing::{address, addresses};

    const AFTER: Duration = Duration::from_secs(600);

    #[test]
    fn canonicals_rule() {
        let wanted = (0..9).filter(|data| is_wanted(*data));
        assert_eq!(wanted.collect::<Vec<_>>(), [0, 1, 2, 4, 6, 8]);
    }

    /// The members by name; W is us, V another witness.
    fn group(members: &str, leader: &str) -> Group {
        Group {
            leader: address(leader),
            members: addresses(members).into_iter().collect(),
            witnesses: addresses("V").into_iter().collect(),
        }
    }

    fn settled(members: &str, leader: &str, term: u64, link: u64) -> Settled {
        let others = addresses(members)
            .into_iter()
            .filter(|a| *a != address("W"));
        Settled {
            led: (address(leader), Term::new(term).unwrap()),
            links: others.map(|other| (other, link)).collect(),
            members: addresses(members).into_iter().collect(),
        }
    }

    /// A look: `members leader term link` or what speaks against it.
    fn listed(
        auto: &mut AutoVote,
        seen: &str,
        bad: Option<Obstacle>,
        now: Instant,
    ) -> WithdrawalStep {
        let words: Vec<&str> = seen.split('/').collect();
        let [members, leader, term, link] = words[..] else {
            panic!("{seen}");
        };
        let all = settled(
            members,
            leader,
            term.parse().unwrap(),
            link.parse().unwrap(),
        );
        let found = bad.map_or(Ok(all), Err);
        match auto.on_listed(&group(members, leader), &address("W")) {
            true => auto.on_settled(found, &address("W"), AFTER, now),
            false => WithdrawalStep::Wait,
        }
    }

    /// Each row: seconds, the group (members, leader, term, connections), whether
    /// something is wrong, and what follows.
    #[test]
    fn a_vote_is_withdrawn_when_all_has_been_well_for_long() {
        use WithdrawalStep::{AskRemoval, StepDown, Wait};
        let start = Instant::now();
        let mut auto = AutoVote::default();
        let gone = || Some(Obstacle::NotConnected(address("C")));
        for (second, seen, bad, step) in [
            // Two data nodes: for ever.
            (0, "A B W/A/1/1", None, Wait),
            (900, "A B W/A/1/1", None, Wait),
            // A third.
            (1_000, "A B C W/A/1/1", None, Wait),
            (1_599, "A B C W/A/1/1", None, Wait),
            // A connection that was made anew.
            (1_600, "A B C W/A/1/2", None, Wait),
            (2_199, "A B C W/A/1/2", None, Wait),
            // A new leader; the same in a later term.
            (2_200, "A B C W/B/2/2", None, Wait),
            (2_800, "A B C W/B/3/2", None, Wait),
            // A member is missing for a moment.
            (3_399, "A B C W/B/3/2", gone(), Wait),
            (3_400, "A B C W/B/3/2", None, Wait),
            // We lead, and nobody takes it over.
            (3_500, "A B C W/W/4/2", None, Wait),
            (4_099, "A B C W/W/4/2", None, Wait),
            (4_100, "A B C W/W/4/2", None, StepDown),
            (4_101, "A B C W/A/5/2", None, Wait),
            // Four are even, and with a witness beside them still.
            (4_200, "A B C D W/A/5/2", None, Wait),
            (9_000, "A B C D W/A/5/2", None, Wait),
            (9_001, "A B C D V W/A/5/2", None, Wait),
            (9_901, "A B C D V W/A/5/2", None, Wait),
            // Three and two witnesses.
            (10_000, "A B C V W/A/5/2", None, Wait),
            (10_600, "A B C V W/A/5/2", None, AskRemoval),
            // It was not done: once more, after as long.
            (10_601, "A B C V W/A/5/2", None, Wait),
            (10_602, "A B C V W/A/5/2", None, Wait),
            (11_201, "A B C V W/A/5/2", None, Wait),
            (11_202, "A B C V W/A/5/2", None, AskRemoval),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(
                listed(&mut auto, seen, bad, now),
                step,
                "{second} s: {seen}"
            );
        }
        assert!(!auto.is_at_rest());
    }

    /// Each row: the members without us, whether that is committed, and what follows:
    /// are we outside, and why is no vote wanted.
    #[test]
    fn outside_the_rule_alone_says_whether_it_asks() {
        use WithdrawalStep::{AskAdd, Wait};
        let mut auto = AutoVote::default();
        let start = Instant::now();
        listed(&mut auto, "A B C W/A/1/1", None, start);
        listed(&mut auto, "A B C W/A/1/1", None, start + AFTER);
        for (members, commits, step, outside, withdrawn) in [
            ("A B C", false, Wait, false, None),
            ("A B C", true, Wait, true, Some(3)),
            ("A B C V", true, Wait, true, Some(3)),
            ("A B", false, Wait, true, Some(3)),
            ("A B", true, AskAdd, true, None),
            ("A B", true, AskAdd, true, None),
            ("A B C D", true, AskAdd, true, None),
            ("A B C D E", true, Wait, true, Some(5)),
        ] {
            let group = group(members, "A");
            let found = auto.on_unlisted(&group, &address("W"), commits);
            assert_eq!(found, step, "{members} {commits}");
            assert_eq!(auto.is_outside(), outside, "{members} {commits}");
            assert_eq!(auto.withdrawn((true, 9)), withdrawn, "{members} {commits}");
            assert_eq!(
                auto.is_at_rest(),
                outside && withdrawn.is_some() && step == Wait
            );
        }
        auto.enters();
        assert!(!auto.is_outside());
    }

    /// H16: who was removed by hand though its vote is wanted stays outside, until the
    /// rule has once wanted no vote; a restart forgets it.
    #[test]
    fn a_removal_by_hand_is_respected() {
        use WithdrawalStep::{AskAdd, Wait};
        let me = address("W");
        let mut auto = AutoVote::default();
        listed(&mut auto, "A B W/A/1/1", None, Instant::now());
        for (members, step) in [
            ("A B", Wait),
            ("A B", Wait),
            ("A", Wait),
            ("A B C", Wait),
            ("A B", AskAdd),
        ] {
            let found = auto.on_unlisted(&group(members, "A"), &me, true);
            assert_eq!(found, step, "{members}");
        }
        let mut restarted = AutoVote::default();
        assert_eq!(restarted.on_unlisted(&group("A B", "A"), &me, true), AskAdd);
    }

    /// Whoever lists us while nobody leads may need our vote.
    #[test]
    fn without_a_leader_a_member_that_lists_us_is_one_of_ours() {
        for (listed, outside) in [(false, true), (true, false)] {
            let mut auto = AutoVote::default();
            auto.on_unlisted(&group("A B C", "A"), &address("W"), true);
            auto.on_no_leader(listed);
            assert_eq!(auto.is_outside(), outside);
        }
    }

    /// A start: what the log says holds until a leader has said more.
    #[test]
    fn before_the_first_look_the_log_says_whether_it_withdrew() {
        let auto = AutoVote::default();
        for (log, withdrawn) in [
            ((true, 3), None),
            ((false, 3), Some(3)),
            ((false, 2), None),
            ((false, 4), None),
        ] {
            assert_eq!(auto.withdrawn(log), withdrawn, "{log:?}");
        }
        assert!(!auto.is_at_rest());
    }

    #[test]
    fn it_says_why_it_waits_and_how_long() {
        let start = Instant::now();
        let mut auto = AutoVote::default();
        let (seen, half) = ("A B C W/A/1/1", Duration::from_secs(300));
        listed(&mut auto, seen, None, start);
        assert_eq!((auto.unwanted(), auto.obstacle()), (Some(3), None));
        assert_eq!(auto.remaining(AFTER, start + half), Some(half));
        auto.on_no_leader(false);
        assert_eq!(auto.obstacle(), Some(&Obstacle::NoLeader));
        assert_eq!(auto.remaining(AFTER, start), None);
        let silent = Obstacle::Group(joining::JoinObstacle::Silent {
            member: address("C"),
            other: None,
            ourselves: false,
            leader: address("A"),
        });
        listed(&mut auto, seen, Some(silent), start);
        let told = auto.obstacle().map(ToString::to_string);
        assert_eq!(
            told.as_deref(),
            Some("the group expects C:2222, and nobody answers there")
        );
        listed(&mut auto, "A B C W/W/1/1", None, start);
        assert_eq!(auto.obstacle(), Some(&Obstacle::Leads));
    }
}
