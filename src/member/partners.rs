//! The configured partners against the members of the group.
//!
//! `partner_addrs` says whom to ask at the first start. As soon as the log holds
//! something the members are the Raft group's, changed by `raft add` and `raft
//! remove` alone; a file that says otherwise must not pass for one that counts.
//! So a difference is said. If no partner at all is a member, the state is most
//! likely of another cluster than the one that the file means: such a witness
//! does not vote in either until an operator has decided.

use std::fmt;

use super::Member;
use super::eligibility::List;
use crate::raft::types::Members;
use crate::wire::Address;

/// How the configured partners differ from the group's other members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Configured, and no member.
    outsiders: Vec<Address>,
    /// A member, and not configured.
    unnamed: Vec<Address>,
    /// No partner is a member.
    disjoint: bool,
}

/// Compares them; nothing differs where there is nobody to compare.
fn difference(partners: &[Address], members: &Members, me: &Address) -> Option<Difference> {
    let others: Vec<&Address> = members.iter().filter(|member| *member != me).collect();
    if partners.is_empty() || others.is_empty() {
        return None;
    }
    let (inside, outside): (Vec<_>, Vec<_>) = partners.iter().partition(|p| members.contains(*p));
    let unnamed = others.into_iter().filter(|other| !partners.contains(other));
    let difference = Difference {
        outsiders: outside.into_iter().cloned().collect(),
        unnamed: unnamed.cloned().collect(),
        disjoint: inside.is_empty(),
    };
    let differs = !difference.outsiders.is_empty() || !difference.unnamed.is_empty();
    differs.then_some(difference)
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("partner_addrs differs from the members of the Raft group, which count")?;
        if !self.outsiders.is_empty() {
            write!(f, "; not a member: {}", List(&self.outsiders))?;
        }
        if !self.unnamed.is_empty() {
            write!(f, "; not in partner_addrs: {}", List(&self.unnamed))?;
        }
        f.write_str(
            ". Correct the file, or change the members with pg-witness raft add and raft remove",
        )
    }
}

impl Member {
    fn difference(&self) -> Option<Difference> {
        let replica = self.replica.borrow();
        difference(&self.config.partner_addrs, replica.log.members(), &self.me)
    }

    /// Compares at the start, when the file is read, and says what differs.
    pub(super) fn compare_partners(&self) {
        let Some(difference) = self.difference().filter(|_| !self.has_yet_to_begin()) else {
            return;
        };
        self.other_group.set(difference.disjoint);
        if difference.disjoint {
            self.report_silence();
        } else {
            log::warn!("{}: {difference}", self.name);
        }
    }

    /// Whether our state is of a group to which no configured partner belongs. It
    /// ends by itself when one becomes a member.
    pub(super) fn is_of_other_group(&self) -> bool {
        self.other_group.get() && self.difference().is_some_and(|d| d.disjoint)
    }

    /// What differs, for the page.
    pub(super) fn partners_note(&self) -> Option<String> {
        let difference = self.difference().filter(|_| !self.has_yet_to_begin())?;
        Some(difference.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(names: &str) -> Vec<Address> {
        let names = names.split_whitespace();
        names
            .map(|n| format!("{n}:2222").parse().unwrap())
            .collect()
    }

    #[test]
    fn what_differs_is_named() {
        for (partners, members, wanted) in [
            ("A B", "A B W", None),
            ("", "A B W", None),
            ("A B", "W", None),
            ("A", "A B W", Some(("", "B", false))),
            ("A C", "A B W", Some(("C", "B", false))),
            ("A B C", "A B W", Some(("C", "", false))),
            ("C D", "A B W", Some(("C D", "A B", true))),
        ] {
            let members = addresses(members).into_iter().collect();
            let found = difference(&addresses(partners), &members, &addresses("W")[0]);
            let wanted = wanted.map(|(outsiders, unnamed, disjoint)| Difference {
                outsiders: addresses(outsiders),
                unnamed: addresses(unnamed),
                disjoint,
            });
            assert_eq!(found, wanted, "{partners} beside {members:?}");
        }
    }
}
