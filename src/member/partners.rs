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
use crate::address::Address;
use crate::config::Commands;
use crate::election::eligibility::List;
use crate::raft::types::Members;
use crate::reason::Remedy;
use crate::status::{Level, Note};

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
        Ok(())
    }
}

/// What ends a difference: the file follows the members, or they follow the file.
fn remedy(partners: &[Address], members: &Members, me: &Address, commands: &Commands) -> Remedy {
    let members: Vec<Address> = members.iter().filter(|m| *m != me).cloned().collect();
    match commands.replace(&members, partners) {
        Some(step) => Remedy::new(
            "Correct partner_addrs and restart; if partner_addrs is right, ",
            Some(step),
        ),
        None => Remedy::new(
            "Correct partner_addrs and restart, or change the members one by one, by raft add and \
             raft remove",
            None,
        ),
    }
}

impl Member {
    fn difference(&self) -> Option<Difference> {
        let replica = self.replica.borrow();
        difference(&self.config.partner_addrs, replica.log.members(), &self.me)
    }

    fn difference_remedy(&self) -> Remedy {
        let replica = self.replica.borrow();
        let (members, config) = (replica.log.members(), &self.config);
        remedy(&config.partner_addrs, members, &self.me, &config.commands)
    }

    /// Compares at the start, when the file is read, and says what differs.
    pub(super) fn compare_partners(&self) {
        let Some(difference) = self
            .difference()
            .filter(|_| !self.own_state().has_yet_to_begin())
        else {
            return;
        };
        self.other_group.set(difference.disjoint);
        if difference.disjoint {
            self.report_silence();
        } else {
            let remedy = self.difference_remedy();
            log::warn!("{}: {difference}. {remedy}", self.name);
        }
    }

    /// Whether our state is of a group to which no configured partner belongs. It
    /// ends by itself when one becomes a member.
    pub(super) fn is_of_other_group(&self) -> bool {
        self.other_group.get() && self.difference().is_some_and(|d| d.disjoint)
    }

    /// What differs, for the page.
    pub(super) fn partners_note(&self) -> Option<Note> {
        let difference = self
            .difference()
            .filter(|_| !self.own_state().has_yet_to_begin())?;
        let note = Note::new(Level::Warning, format!("{difference}."));
        Some(note.with_remedy(self.difference_remedy()))
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

    #[test]
    fn the_remedy_is_a_command_where_one_does() {
        let commands = Commands::of_a_test("orders", "W:2222");
        let members = addresses("A B W").into_iter().collect();
        for (partners, wanted) in [
            (
                "A C",
                "if partner_addrs is right, run: pg-witness raft remove A:2222 B:2222 && \
                 pg-witness raft add A:2222 C:2222",
            ),
            ("C D", "one by one, by raft add and raft remove"),
        ] {
            let remedy = remedy(
                &addresses(partners),
                &members,
                &addresses("W")[0],
                &commands,
            );
            assert!(remedy.to_string().ends_with(wanted), "{remedy}");
        }
    }
}
