//! Why this witness's word does not count, and what ends that: its vote is
//! withheld, it starts no election, and for most reasons it acknowledges nothing.
//!
//! One list for every face: the log, `status`, JSON, the page, the metrics and
//! `/readyz` say the same name, words and remedy. Pure, and below all that use
//! it: the member gathers the [`Evidence`], [`reason`] judges it.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::config::{Commands, RemedyStep};

/// How bad something is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Good to know.
    #[default]
    Advice,
    /// Look at it.
    Warning,
    /// Look at it now.
    Alarm,
}

impl From<Level> for log::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Advice => Self::Info,
            Level::Warning => Self::Warn,
            Level::Alarm => Self::Error,
        }
    }
}

/// What an operator can do about something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// In words, without a full stop before a command.
    pub advice: String,
    /// A command line that works when pasted, where there is one.
    pub command: Option<String>,
}

impl Remedy {
    /// `advice`, followed by the step that it leads to, if there is one.
    pub fn new(advice: &str, step: Option<RemedyStep>) -> Self {
        let how = step.as_ref().map_or("", |step| step.how);
        Self {
            advice: format!("{advice}{how}"),
            command: step.and_then(|step| step.command),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.command {
            Some(command) => write!(f, "{}: {command}", self.advice),
            None => f.write_str(&self.advice),
        }
    }
}

/// As one string, in the words of [`fmt::Display`].
impl Serialize for Remedy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a remedy needs to know of this witness.
#[derive(Debug, Clone, Copy)]
pub struct RemedyContext<'a> {
    /// The commands for its cluster.
    pub commands: &'a Commands,
    /// Another member of the Raft group, to be asked.
    pub member: Option<&'a str>,
}

/// What decides whether this witness's word counts. The default is a voter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Its state could not be opened when that was tried last.
    pub disk_unusable: bool,
    /// A leader contradicted what is committed here (S2).
    pub diverged: bool,
    /// Its state is of a group to which no configured partner belongs.
    pub other_group: bool,
    /// All other members have forgotten what is committed here.
    pub orphaned: bool,
    /// The store is beyond its quota (S15).
    pub store_full: bool,
    /// `vote: never`.
    pub never_votes: bool,
    /// `zone_policy: enforce`, and a data node shares its zone.
    pub shares_zone: bool,
    /// `vote: auto`, and it is outside the Raft group, which wants no vote of it.
    pub not_wanted: bool,
    /// The Raft group does not list it.
    pub no_member: bool,
    /// Its state is new, or was lost, and it is not yet safe to vote (S7).
    pub recovering: bool,
    /// Its engine is stopped, to be rebuilt from disk (S14).
    pub restarting: bool,
}

impl Evidence {
    /// Whether an entry may be acknowledged. A vote that is withheld for where
    /// the witness stands takes no durability from the group.
    pub const fn may_acknowledge(&self) -> bool {
        let foreign = self.other_group || self.no_member;
        !self.diverged && !self.orphaned && !self.recovering && !foreign
    }
}

/// Why this witness does not vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// See [`Evidence::disk_unusable`].
    DiskUnusable,
    /// See [`Evidence::diverged`].
    Diverged,
    /// See [`Evidence::other_group`].
    OtherGroup,
    /// See [`Evidence::orphaned`].
    Orphaned,
    /// See [`Evidence::store_full`].
    StoreFull,
    /// See [`Evidence::never_votes`].
    NeverVotes,
    /// See [`Evidence::shares_zone`].
    SharedZone,
    /// See [`Evidence::not_wanted`].
    NotWanted,
    /// See [`Evidence::no_member`].
    NoMember,
    /// See [`Evidence::recovering`].
    Recovering,
    /// See [`Evidence::restarting`].
    Restarting,
}

/// Why the word does not count; none if it does. Of several reasons the one that
/// has to be dealt with first: what cannot be read says nothing else, then what
/// an operator must decide, then what passes by itself.
pub const fn reason(evidence: &Evidence) -> Option<Reason> {
    Some(if evidence.disk_unusable {
        Reason::DiskUnusable
    } else if evidence.diverged {
        Reason::Diverged
    } else if evidence.other_group {
        Reason::OtherGroup
    } else if evidence.orphaned {
        Reason::Orphaned
    } else if evidence.store_full {
        Reason::StoreFull
    } else if evidence.never_votes {
        Reason::NeverVotes
    } else if evidence.shares_zone {
        Reason::SharedZone
    } else if evidence.not_wanted {
        Reason::NotWanted
    } else if evidence.no_member {
        Reason::NoMember
    } else if evidence.recovering {
        Reason::Recovering
    } else if evidence.restarting {
        Reason::Restarting
    } else {
        return None;
    })
}

impl Reason {
    /// For scripts: the same in JSON and as a label of the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DiskUnusable => "disk-unusable",
            Self::Diverged => "diverged",
            Self::OtherGroup => "other-group",
            Self::Orphaned => "orphaned",
            Self::StoreFull => "store-full",
            Self::NeverVotes => "never-votes",
            Self::SharedZone => "shared-zone",
            Self::NotWanted => "not-wanted",
            Self::NoMember => "no-member",
            Self::Recovering => "recovering",
            Self::Restarting => "restarting",
        }
    }

    /// In words, as what follows "this witness" or "it".
    pub const fn words(self) -> &'static str {
        match self {
            Self::DiskUnusable => "cannot use its disk",
            Self::Diverged => {
                "has diverged: the leader has other entries in the place of some that are committed \
                 here"
            }
            Self::OtherGroup => {
                "holds the state of another Raft group: no member of it is among partner_addrs"
            }
            Self::Orphaned => {
                "is the only member that holds the cluster's log; all others have forgotten it"
            }
            Self::StoreFull => {
                "holds more keys and values than its quota allows, because another leader let them in"
            }
            Self::NeverVotes => "is configured never to vote",
            Self::SharedZone => "shares its zone with a data node, and zone_policy is enforce",
            Self::NotWanted => "has left the Raft group, which wants no vote of it (vote: auto)",
            Self::NoMember => "is not a member of the Raft group",
            Self::Recovering => "has new or lost state, and no proof yet that its vote is safe",
            Self::Restarting => "is restarting its Raft engine from disk",
        }
    }

    /// Whether nothing that a leader sends is taken in: what the store says is
    /// then as old as that.
    pub const fn stops_following(self) -> bool {
        matches!(self, Self::DiskUnusable | Self::Diverged | Self::Orphaned)
    }

    /// How bad it is.
    pub const fn level(self) -> Level {
        match self {
            Self::DiskUnusable
            | Self::Diverged
            | Self::OtherGroup
            | Self::Orphaned
            | Self::StoreFull
            | Self::NoMember => Level::Alarm,
            Self::SharedZone | Self::Recovering => Level::Warning,
            Self::NeverVotes | Self::NotWanted | Self::Restarting => Level::Advice,
        }
    }

    /// What ends it.
    pub fn remedy(self, place: &RemedyContext<'_>) -> Remedy {
        let commands = place.commands;
        let (advice, step) = match self {
            Self::DiskUnusable => (
                "Free space in data_dir or replace the medium; pg-witness retries every second",
                None,
            ),
            Self::Diverged => (
                "If the data nodes hold the data that counts, ",
                Some(commands.reset()),
            ),
            Self::OtherGroup => (
                "If the state is the right one, correct partner_addrs and restart; if \
                 partner_addrs is right, ",
                Some(commands.reset()),
            ),
            Self::Orphaned => ("If the cluster was made anew, ", Some(commands.reset())),
            Self::StoreFull => (
                "Delete from the Raft store what Patroni did not write; the vote then comes back by \
                 itself",
                None,
            ),
            Self::NeverVotes => (
                "Nothing, if that is intended; else set vote to always and restart",
                None,
            ),
            Self::SharedZone => (
                "Move this witness to a zone of its own, or set zone_policy to warn",
                None,
            ),
            Self::NotWanted => (
                "Nothing: it asks to be added when the data nodes are fewer than three or an even \
                 number; if it is to vote all the same, set vote to always and restart",
                None,
            ),
            Self::NoMember => match place.member {
                Some(member) => (
                    "Restart this witness, which then asks to be added, or ",
                    Some(commands.add_to(member)),
                ),
                None => ("Restart this witness, which then asks to be added", None),
            },
            Self::Recovering => (
                "Bring up all data nodes; if one will never come back, ",
                Some(commands.adopt()),
            ),
            Self::Restarting => ("Nothing; this takes a moment", None),
        };
        Remedy::new(advice, step)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this witness {}", self.words())
    }
}

/// Why a candidate gets no vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoteRefusal {
    /// We give none to anybody.
    Ours(Reason),
    /// It is not in our log's list of members.
    NoMember,
    /// It has not told its status since it connected (S13).
    Unverified,
    /// Another leads, and is heard.
    Led,
}

impl fmt::Display for VoteRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(reason) => reason.fmt(f),
            Self::NoMember => f.write_str("the candidate is not a member"),
            Self::Unverified => f.write_str("the candidate has not told its status yet"),
            Self::Led => f.write_str("the leader is heard from here"),
        }
    }
}

/// What an operator should know and that takes no vote away by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// The Raft port cannot be opened.
    PortUnusable,
    /// What a member sends cannot be decrypted, or it hangs up on what we send.
    PasswordMismatch,
    /// The group has no password, and the port can be reached by others.
    NoPassword,
    /// A member holds the log and cannot apply it.
    CannotApply,
    /// Another member is a witness too.
    SecondWitness,
    /// `vote: auto`, and this member's vote is not wanted.
    VoteNotWanted,
}

impl Concern {
    /// For scripts, as [`Reason::name`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::PortUnusable => "port-unusable",
            Self::PasswordMismatch => "password-mismatch",
            Self::NoPassword => "no-password",
            Self::CannotApply => "cannot-apply",
            Self::SecondWitness => "second-witness",
            Self::VoteNotWanted => "vote-not-wanted",
        }
    }

    /// How bad it is.
    pub const fn level(self) -> Level {
        match self {
            Self::PortUnusable => Level::Alarm,
            Self::PasswordMismatch | Self::CannotApply | Self::SecondWitness => Level::Warning,
            Self::NoPassword | Self::VoteNotWanted => Level::Advice,
        }
    }

    /// A sentence. `about`: the port and the error; what became of which connection;
    /// our port and who may reach it; that member; the other witness; the data nodes, and
    /// when the vote is withdrawn or why it is not.
    pub fn sentence(self, about: &str) -> String {
        match self {
            Self::PortUnusable => format!("Members cannot connect to this witness: {about}."),
            Self::PasswordMismatch => about.into(),
            Self::NoPassword => format!(
                "This Raft group has no password: whoever reaches {about} can write and change the \
                 members."
            ),
            Self::CannotApply => format!(
                "{about} cannot apply what is committed: its Raft dump is lost or damaged, and Patroni \
                 waits there."
            ),
            Self::SecondWitness => format!(
                "{about} is a second witness: with both, one more member must be up for a majority."
            ),
            Self::VoteNotWanted => format!("No vote of this witness is wanted: {about}."),
        }
    }

    /// What ends it. `about`: as in [`Self::sentence`].
    pub fn remedy(self, about: &str, place: &RemedyContext<'_>) -> Remedy {
        let advice = match self {
            Self::PortUnusable => {
                "Stop the program that uses the port, or correct bind_addr; pg-witness retries \
                 every second"
            }
            Self::PasswordMismatch => {
                "Set the same raft password on all nodes, and restart those that were changed"
            }
            Self::NoPassword => {
                "Set the same raft password on all nodes and restart them, or let only the members \
                 reach the Raft ports: this one's with allow_from, all others' with a firewall"
            }
            Self::CannotApply => {
                return Remedy::new(
                    "This witness tries to lead and to restore it. If this stays, stop Patroni on \
                     that node, delete the node's files in its raft data_dir, and start it again, \
                     but only while another data node is well. If none is, do so on all of them, \
                     and Patroni writes its keys anew; to begin anew here too, ",
                    Some(place.commands.reset()),
                );
            }
            Self::SecondWitness => {
                let advice = "Stop the witness that is not needed, and take it out of partner_addrs \
                              on the data nodes";
                return match place.member {
                    Some(member) => Remedy::new(
                        &format!("{advice}; if it is {about}, then "),
                        Some(place.commands.remove_from(member, about)),
                    ),
                    None => Remedy::new(advice, None),
                };
            }
            Self::VoteNotWanted => "Nothing; it asks to be removed from the Raft group by itself",
        };
        Remedy::new(advice, None)
    }
}

#[cfg(test)]
mod tests;
