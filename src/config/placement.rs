//! Where the witness stands, where the data nodes stand, and what follows from
//! it: `zone`, `zone_policy`, `member_zones`, `vote` and `vote_withdraws_after` of our
//! own file, and for Patroni's users `PG_WITNESS_ZONE`, `PG_WITNESS_ZONE_POLICY`,
//! `PG_WITNESS_MEMBER_ZONES` (`name=zone,name=zone`), `PG_WITNESS_VOTE` and
//! `PG_WITNESS_VOTE_WITHDRAWS_AFTER`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::env::Env;
use super::error::{ConfigError, Located, Place};
use super::suggest::choice;
use crate::limits::{MEMBERS_MAX, SECONDS_MAX, ZONE_BYTES_MAX};

/// How long a group must be stable before a vote that it does not need is withdrawn.
const WITHDRAWS_AFTER: Duration = Duration::from_secs(600);

/// The least of it, in seconds: a look at every member takes a moment.
const WITHDRAWS_AFTER_MIN_S: f64 = 10.0;

/// Where the members of a cluster stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementConfig {
    /// The failure domain of this witness, such as an availability zone.
    pub zone: Option<String>,
    /// Those of Patroni's members, by their names; what stands here goes over
    /// the tag `zone` that a member shows.
    pub member_zones: BTreeMap<String, String>,
    /// What to do when a data node has ours.
    pub zone_policy: ZonePolicy,
    /// Whether to vote at all.
    pub vote: VotePolicy,
    /// With [`VotePolicy::Auto`]: how long a group must have been stable before a vote
    /// that it does not need is withdrawn.
    pub vote_withdraws_after: Duration,
}

impl Default for PlacementConfig {
    fn default() -> Self {
        Self {
            zone: None,
            member_zones: BTreeMap::new(),
            zone_policy: ZonePolicy::default(),
            vote: VotePolicy::default(),
            vote_withdraws_after: WITHDRAWS_AFTER,
        }
    }
}

/// What to do when a data node is in the witness' zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ZonePolicy {
    /// Say so.
    #[default]
    Warn,
    /// Say so, and neither vote nor campaign.
    Enforce,
}

impl std::fmt::Display for ZonePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Warn => "warn",
            Self::Enforce => "enforce",
        })
    }
}

/// Whether the witness votes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VotePolicy {
    /// As any other member.
    #[default]
    Always,
    /// While the data nodes are fewer than three or an even number; else it leaves the
    /// Raft group and only reads.
    Auto,
    /// Never: it stores and shows, and neither votes nor campaigns.
    Never,
}

impl std::fmt::Display for VotePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Auto => "auto",
            Self::Never => "never",
        })
    }
}

/// What was written; all of it optional.
#[derive(Clone, Default)]
pub struct RawPlacement {
    /// `zone`
    pub zone: Option<Located<String>>,
    /// `member_zones`
    pub member_zones: Option<Located<BTreeMap<String, String>>>,
    /// `zone_policy`
    pub zone_policy: Option<Located<String>>,
    /// `vote`
    pub vote: Option<Located<String>>,
    /// `vote_withdraws_after`, in seconds
    pub vote_withdraws_after: Option<Located<f64>>,
}

impl RawPlacement {
    /// The environment's words over what is there. `alone`: this is the only
    /// cluster, so that what concerns one cluster is not ambiguous.
    pub fn overlay(&mut self, env: &Env, alone: bool) -> Result<(), ConfigError> {
        let variable = |name: &str| -> Result<Option<Located<String>>, ConfigError> {
            Ok(env.text(name)?.map(|text| Located {
                value: text.into(),
                place: Place::variable(name),
            }))
        };
        if let Some(said) = variable("PG_WITNESS_ZONE")? {
            self.zone = Some(said);
        }
        if let Some(said) = variable("PG_WITNESS_ZONE_POLICY")? {
            self.zone_policy = Some(said);
        }
        let of_one = [
            variable("PG_WITNESS_VOTE")?,
            variable("PG_WITNESS_MEMBER_ZONES")?,
            variable("PG_WITNESS_VOTE_WITHDRAWS_AFTER")?,
        ];
        if let Some(said) = of_one.iter().flatten().next().filter(|_| !alone) {
            return Err(ConfigError::Conflict {
                place: said.place.clone(),
                why: "ambiguous: there are several clusters; write it in the file".into(),
            });
        }
        let [vote, member_zones, withdraws_after] = of_one;
        if let Some(said) = vote {
            self.vote = Some(said);
        }
        if let Some(said) = member_zones {
            self.member_zones = Some(pairs(&said)?);
        }
        if let Some(said) = withdraws_after {
            self.vote_withdraws_after = Some(number(&said)?);
        }
        Ok(())
    }

    /// Checks and types all of it.
    pub fn validate(self) -> Result<PlacementConfig, ConfigError> {
        let policies = [("warn", ZonePolicy::Warn), ("enforce", ZonePolicy::Enforce)];
        let votes = [
            ("always", VotePolicy::Always),
            ("auto", VotePolicy::Auto),
            ("never", VotePolicy::Never),
        ];
        let zone_policy = self
            .zone_policy
            .as_ref()
            .map(|said| choice(said, &policies))
            .transpose()?
            .unwrap_or_default();
        if let (Some(said), None, ZonePolicy::Enforce) =
            (&self.zone_policy, &self.zone, zone_policy)
        {
            return Err(ConfigError::Missing {
                place: said.place.clone(),
                remedy: "without a zone of the witness there is nothing to enforce: give zone"
                    .into(),
            });
        }
        let vote = self
            .vote
            .as_ref()
            .map(|said| choice(said, &votes))
            .transpose()?
            .unwrap_or_default();
        let vote_withdraws_after = match &self.vote_withdraws_after {
            None => WITHDRAWS_AFTER,
            Some(said) => withdraws_after(said)?,
        };
        if let Some(said) = &self.zone {
            check(&said.value, &said.place)?;
        }
        let member_zones = match self.member_zones {
            None => BTreeMap::new(),
            Some(said) => {
                if said.value.len() > MEMBERS_MAX {
                    return Err(invalid(
                        &said.place,
                        &format!("more than {MEMBERS_MAX} members"),
                    ));
                }
                for (member, zone) in &said.value {
                    check(zone, &said.place.key(member))?;
                }
                said.value
            }
        };
        Ok(PlacementConfig {
            zone: self.zone.map(|said| said.value),
            member_zones,
            zone_policy,
            vote,
            vote_withdraws_after,
        })
    }
}

/// `name=zone,name=zone`
fn pairs(said: &Located<String>) -> Result<Located<BTreeMap<String, String>>, ConfigError> {
    let mut zones = BTreeMap::new();
    for pair in said.value.split(',') {
        let Some((name, zone)) = pair.split_once('=') else {
            return Err(invalid(&said.place, "write it as pg1=zone-a,pg2=zone-b"));
        };
        zones.insert(name.trim().to_owned(), zone.trim().to_owned());
    }
    Ok(Located {
        value: zones,
        place: said.place.clone(),
    })
}

/// Seconds, as a variable says them.
fn number(said: &Located<String>) -> Result<Located<f64>, ConfigError> {
    let value = said.value.trim().parse();
    let value = value.map_err(|_| ConfigError::Invalid {
        place: said.place.clone(),
        value: Some(said.value.clone()),
        why: "must be seconds, such as 600".into(),
    })?;
    Ok(Located {
        value,
        place: said.place.clone(),
    })
}

fn withdraws_after(said: &Located<f64>) -> Result<Duration, ConfigError> {
    let fits = (WITHDRAWS_AFTER_MIN_S..=SECONDS_MAX).contains(&said.value);
    Duration::try_from_secs_f64(said.value)
        .ok()
        .filter(|_| fits)
        .ok_or_else(|| ConfigError::Invalid {
            place: said.place.clone(),
            value: Some(said.value.to_string()),
            why: format!("must be seconds from {WITHDRAWS_AFTER_MIN_S} to {SECONDS_MAX}"),
        })
}

fn check(zone: &str, place: &Place) -> Result<(), ConfigError> {
    let fits = !zone.is_empty() && zone.len() <= ZONE_BYTES_MAX;
    if fits && !zone.chars().any(char::is_control) {
        return Ok(());
    }
    Err(invalid(
        place,
        &format!("a zone has a name of 1 to {ZONE_BYTES_MAX} bytes"),
    ))
}

fn invalid(place: &Place, why: &str) -> ConfigError {
    ConfigError::Invalid {
        place: place.clone(),
        value: None,
        why: why.into(),
    }
}
