//! Where the witness stands, and whether its vote does good there.
//!
//! A witness that shares a zone with a data node falls with it: the vote that
//! was to survive the node is gone too. And where the others are an odd number
//! already, one more vote raises the majority without a loss more that is
//! survived. Both are decided here, on what the store and the configuration
//! say, without I/O.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::nodes::Node;
use super::{Member, RebuildReason};
use crate::config::{PlacementConfig, VotePolicy, ZonePolicy, shown};
use crate::limits;
use crate::reason::{self, Evidence, Remedy, RemedyContext};

/// What follows from where the members stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The witness' zone.
    pub zone: Option<Rc<str>>,
    /// The zones of the data nodes, as far as known, by name.
    pub zones: BTreeMap<Rc<str>, Rc<str>>,
    /// The data nodes that share the witness' zone.
    pub sharing: Vec<Rc<str>>,
    /// Why it does not vote, if it does not.
    pub withheld: Option<Withheld>,
    /// The votes of the others are odd and three or more, and ours is not withdrawn by
    /// itself: how many they are.
    pub needless_among: Option<usize>,
    /// It is configured never to vote and counts as a member all the same.
    pub counts_though_silent: bool,
}

/// Why a witness that could vote does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// `vote: never`.
    Configured,
    /// `zone_policy: enforce`, and a data node shares its zone.
    SharedZone,
}

/// What is known of the data nodes: it outlasts their keys, which expire when a
/// node is down. A zone that is shared is so also while the other node is away.
#[derive(Debug, Default)]
pub struct Known {
    zones: BTreeMap<Rc<str>, Rc<str>>,
    /// Most servers named at once.
    nodes: usize,
}

impl Known {
    /// Takes notice of the servers that the store names.
    pub fn notice(&mut self, nodes: &[Node]) {
        self.nodes = self.nodes.max(nodes.len());
        for node in nodes {
            let Some(zone) = &node.zone else { continue };
            if self.zones.len() < limits::MEMBERS_MAX || self.zones.contains_key(&node.name) {
                self.zones.insert(node.name.clone(), zone.clone());
            }
        }
    }
}

/// What the others of the Raft group are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voters {
    /// Members but us.
    pub others: usize,
    /// Whether we are one.
    pub are_we: bool,
}

/// What follows.
pub fn judge(config: &PlacementConfig, known: &Known, voters: Voters) -> Placement {
    let mut zones = known.zones.clone();
    for (member, zone) in &config.member_zones {
        zones.insert(member.as_str().into(), zone.as_str().into());
    }
    let shares = |zone: &Rc<str>| config.zone.as_deref() == Some(&**zone);
    let sharing: Vec<Rc<str>> = zones
        .iter()
        .filter(|(_, zone)| shares(zone))
        .map(|(member, _)| member.clone())
        .collect();
    let enforced = config.zone_policy == ZonePolicy::Enforce && !sharing.is_empty();
    let withheld = match config.vote {
        VotePolicy::Never => Some(Withheld::Configured),
        VotePolicy::Always | VotePolicy::Auto if enforced => Some(Withheld::SharedZone),
        VotePolicy::Always | VotePolicy::Auto => None,
    };
    let odd = config.vote == VotePolicy::Always
        && voters.others >= 3
        && voters.others % 2 == 1
        && known.nodes >= 3;
    Placement {
        zone: config.zone.as_deref().map(Into::into),
        zones,
        sharing,
        withheld,
        needless_among: (odd && voters.are_we && withheld.is_none()).then_some(voters.others),
        counts_though_silent: config.vote == VotePolicy::Never && voters.are_we,
    }
}

/// What an operator should know of where the witness stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What is so, without a capital or a full stop.
    pub text: String,
    /// What to do about it.
    pub remedy: Remedy,
}

impl Placement {
    /// What an operator should know; none if all is well.
    pub fn advice(&self, place: &RemedyContext<'_>) -> Vec<Advice> {
        let mut advice = Vec::new();
        let leave = |first: &str| {
            let step = place.member.map(|m| place.commands.remove_this_from(m));
            let and = if step.is_some() { ", and " } else { "" };
            Remedy::new(&format!("{first}{and}"), step)
        };
        if let (Some(zone), [_, ..]) = (&self.zone, self.sharing.as_slice()) {
            let names: Vec<String> = self.sharing.iter().map(|name| shown(name)).collect();
            let outcome = match self.withheld {
                Some(Withheld::SharedZone) => "it does not vote (zone_policy: enforce)",
                _ => "what takes the zone takes the data node and this vote together",
            };
            advice.push(Advice {
                text: format!(
                    "this witness shares zone {} with {}: {outcome}",
                    shown(zone),
                    names.join(", ")
                ),
                remedy: Remedy::new("Move it to a zone of its own", None),
            });
        }
        if let Some(others) = self.needless_among {
            advice.push(Advice {
                text: format!(
                    "the other {others} members are an odd number already: this vote raises the \
                     majority from {} to {} and so lowers partition tolerance",
                    others / 2 + 1,
                    others.div_ceil(2) + 1
                ),
                remedy: leave(
                    "Set vote to never, restart, take this witness out of partner_addrs on the \
                     data nodes",
                ),
            });
        }
        if self.counts_though_silent {
            advice.push(Advice {
                text: "this witness is configured never to vote, but is a member, and the \
                       majority is reckoned with it"
                    .into(),
                remedy: leave("Take it out of partner_addrs on the data nodes"),
            });
        }
        advice
    }
}

impl Member {
    /// What follows from where the members stand.
    pub fn placement(&self) -> Rc<Placement> {
        self.servers.placement.borrow().clone()
    }

    /// Whether we may vote and campaign: our word counts, and nobody told us
    /// not to. That our vote is not wanted forbids none: who asks for it lists us, and
    /// may need it.
    pub(super) fn may_vote(&self) -> bool {
        let evidence = Evidence {
            not_wanted: false,
            ..self.evidence()
        };
        reason::reason(&evidence).is_none()
    }

    /// Judges anew, says what is new, and stops leading if it must not vote.
    pub(super) fn consider_placement(&self) {
        self.look_for_nodes();
        let placement = {
            let mut known = self.servers.known_nodes.borrow_mut();
            known.notice(&self.nodes());
            let replica = self.replica.borrow();
            let members = replica.log.members();
            let are_we = members.contains(&self.me);
            let voters = Voters {
                others: members.len().saturating_sub(usize::from(are_we)),
                are_we,
            };
            judge(&self.config.placement, &known, voters)
        };
        let before = self.servers.placement.replace(Rc::new(placement));
        let now = self.placement();
        if now == before {
            return;
        }
        let (told, advice) =
            self.with_place(None, |place| (before.advice(place), now.advice(place)));
        for Advice { text, remedy } in advice.iter().filter(|advice| !told.contains(advice)) {
            log::warn!("{}: {text}. {remedy}", self.name);
        }
        match (before.withheld, now.withheld) {
            (None, Some(_)) => self.report_silence(),
            (Some(_), None) => log::info!("{}: this witness may vote again", self.name),
            _ => {}
        }
        if now.withheld.is_some() && self.leadership.borrow().is_some() {
            self.report(RebuildReason::VoteWithheld);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, zone: Option<&str>) -> Node {
        Node {
            scope: "main".into(),
            name: name.into(),
            conn_url: None,
            zone: zone.map(Into::into),
        }
    }

    fn config(zone: Option<&str>, policy: ZonePolicy, vote: VotePolicy) -> PlacementConfig {
        PlacementConfig {
            zone: zone.map(Into::into),
            zone_policy: policy,
            vote,
            ..PlacementConfig::default()
        }
    }

    /// All that is advised, a line each.
    fn advice(judged: &Placement) -> String {
        let commands = crate::config::Commands::of_a_test("orders", "W:2222");
        let place = RemedyContext {
            commands: &commands,
            member: Some("A:2222"),
        };
        let advice = judged.advice(&place).into_iter();
        advice
            .map(|Advice { text, remedy }| format!("{text}. {remedy}\n"))
            .collect()
    }

    const TWO: Voters = Voters {
        others: 2,
        are_we: true,
    };

    #[test]
    fn a_shared_zone_is_told_or_refused() {
        use VotePolicy::{Always, Never};
        use ZonePolicy::{Enforce, Warn};
        for (ours, theirs, policy, vote, sharing, withheld) in [
            (None, ["a", "b"], Warn, Always, 0, None),
            (Some("c"), ["a", "b"], Enforce, Always, 0, None),
            (Some("a"), ["a", "b"], Warn, Always, 1, None),
            (
                Some("a"),
                ["a", "b"],
                Enforce,
                Always,
                1,
                Some(Withheld::SharedZone),
            ),
            (
                Some("a"),
                ["a", "a"],
                Enforce,
                Always,
                2,
                Some(Withheld::SharedZone),
            ),
            (
                Some("c"),
                ["a", "b"],
                Warn,
                Never,
                0,
                Some(Withheld::Configured),
            ),
            (
                Some("a"),
                ["a", "b"],
                Enforce,
                Never,
                1,
                Some(Withheld::Configured),
            ),
        ] {
            let mut known = Known::default();
            known.notice(&[node("pg1", Some(theirs[0])), node("pg2", Some(theirs[1]))]);
            let judged = judge(&config(ours, policy, vote), &known, TWO);
            assert_eq!(judged.sharing.len(), sharing);
            assert_eq!(judged.withheld, withheld);
            let told = advice(&judged).contains("shares zone");
            assert_eq!(told, sharing > 0);
        }
    }

    #[test]
    fn a_zone_is_remembered_while_its_node_is_down_and_the_file_goes_over_the_tag() {
        let enforce = config(Some("a"), ZonePolicy::Enforce, VotePolicy::Always);
        let mut known = Known::default();
        known.notice(&[node("pg1", Some("a")), node("pg2", None)]);
        known.notice(&[node("pg2", None)]);
        assert!(judge(&enforce, &known, TWO).withheld.is_some());
        // It has moved.
        known.notice(&[node("pg1", Some("b")), node("pg2", None)]);
        assert!(judge(&enforce, &known, TWO).withheld.is_none());
        let mut said = enforce;
        said.member_zones.insert("pg2".into(), "a".into());
        assert_eq!(*judge(&said, &known, TWO).sharing, ["pg2".into()]);
    }

    #[test]
    fn a_vote_among_an_odd_number_is_needless() {
        let (always, auto) = (
            PlacementConfig::default(),
            config(None, ZonePolicy::Warn, VotePolicy::Auto),
        );
        for (nodes, others, are_we, needless) in [
            (2, 2, true, None),
            (2, 3, true, None),
            (3, 3, true, Some(3)),
            (3, 2, true, None),
            (4, 4, true, None),
            (5, 5, true, Some(5)),
            (3, 3, false, None),
        ] {
            let mut known = Known::default();
            let names: Vec<Node> = (0..nodes).map(|n| node(&n.to_string(), None)).collect();
            known.notice(&names);
            // One of them is down: its key is gone, its vote is not.
            known.notice(&names[1..]);
            let judged = judge(&always, &known, Voters { others, are_we });
            assert_eq!(judged.needless_among, needless, "{nodes} {others}");
            let judged = judge(&auto, &known, Voters { others, are_we });
            assert_eq!(judged.needless_among, None, "{nodes} {others}");
        }
    }

    #[test]
    fn silence_while_it_counts_is_told() {
        let never = config(None, ZonePolicy::Warn, VotePolicy::Never);
        let judged = judge(&never, &Known::default(), TWO);
        assert!(
            advice(&judged).ends_with(
                "Take it out of partner_addrs on the data nodes, and run: pg-witness raft remove \
                 A:2222 W:2222\n"
            ),
            "{}",
            advice(&judged)
        );
        let outside = Voters {
            others: 3,
            are_we: false,
        };
        assert_eq!(advice(&judge(&never, &Known::default(), outside)), "");
    }
}
