//! What an operator should know of this member beside its vote: each is a note of
//! the answer, with its remedy, as long as it holds.

use std::net::IpAddr;

use super::Member;
use crate::address::Address;
use crate::config::Subnet;
use crate::limits;
use crate::reason::Concern;
use crate::status::Note;
use crate::status::words::harmless;

/// Most networks of `allow_from` that are shown.
const NETWORKS_SHOWN_MAX: usize = 4;

/// What has to be reached to write where no password is asked for. `allow_from` is of
/// our port alone: the other members' ports are theirs to close.
fn reach(me: &Address, allow_from: &[Subnet]) -> String {
    if allow_from.is_empty() {
        return me.to_string();
    }
    let shown = allow_from.iter().take(NETWORKS_SHOWN_MAX);
    let shown: Vec<String> = shown.map(ToString::to_string).collect();
    let more = match allow_from.len().saturating_sub(NETWORKS_SHOWN_MAX) {
        0 => String::new(),
        more => format!(" and {more} more networks"),
    };
    format!(
        "{me} from {}{more}, or another member's Raft port,",
        shown.join(", ")
    )
}

impl Member {
    /// All that holds now.
    pub(super) fn concerns(&self) -> Vec<Note> {
        let port = self.sockets.listen_error.borrow().clone();
        let port = port.map(|error| (Concern::PortUnusable, error.to_string()));
        let mismatches = self.mismatched().into_iter();
        let mismatches = mismatches.map(|told| (Concern::PasswordMismatch, told));
        let plain = self.is_open().then(|| {
            (
                Concern::NoPassword,
                reach(&self.me, &self.config.allow_from),
            )
        });
        let of_this = port.into_iter().chain(mismatches).chain(plain);
        let of_this = of_this.map(|(concern, about)| self.note(concern, &about, None));
        let witnesses = self.other_witnesses().into_iter();
        let witnesses =
            witnesses.map(|peer| self.note(Concern::SecondWitness, peer.as_str(), Some(&peer)));
        let unable = self.unable_to_apply().into_iter();
        let unable = unable.map(|peer| self.note(Concern::CannotApply, peer.as_str(), Some(&peer)));
        let unwanted = self.unwanted_vote().into_iter();
        let unwanted = unwanted.map(|about| self.note(Concern::VoteNotWanted, &about, None));
        of_this
            .chain(unable)
            .chain(witnesses)
            .chain(unwanted)
            .collect()
    }

    /// The concern as a note. `peer`: the member that it is about.
    fn note(&self, concern: Concern, about: &str, peer: Option<&Address>) -> Note {
        let about = harmless(about.chars());
        let remedy = self.with_place(peer, |place| concern.remedy(&about, place));
        Note {
            reason: Some(concern.name()),
            ..Note::new(concern.level(), concern.sentence(&about)).with_remedy(remedy)
        }
    }

    /// The members without a link whose last connection was not understood, and why;
    /// and whoever sent an unreadable message meanwhile.
    fn mismatched(&self) -> Vec<String> {
        let links = self.sockets.links.borrow();
        let refused = links.iter().filter_map(|(peer, link)| {
            let why = link.report.mismatch.as_ref()?;
            Some(format!("{peer} is not connected: {why}"))
        });
        let missing = links.values().any(|link| link.connection.is_none());
        let last = self.counts.last_unreadable.get().filter(|_| missing);
        let unreadable = last
            .filter(|(_, at)| at.elapsed() <= limits::UNREADABLE_NEWS_TIME)
            .map(|(ip, _)| format!("{ip} sends unreadable messages: password mismatch?"));
        refused.chain(unreadable).collect()
    }

    /// Notes why a connection that we made to the peer was not understood.
    pub(super) fn note_mismatch(&self, peer: &Address, why: &str) {
        if let Some(link) = self.sockets.links.borrow_mut().get_mut(peer)
            && link.connection.is_none()
        {
            link.report.mismatch = Some(why.into());
        }
    }

    /// The member that is known by this IP address, where that is its host.
    pub(super) fn member_at(&self, ip: IpAddr) -> Option<Address> {
        let replica = self.replica.borrow();
        let mut members = replica.log.members().iter();
        let at = |address: &&Address| address.host().parse() == Ok(ip.to_canonical());
        members.find(at).cloned()
    }

    /// Whether there is no password, though others than this host can connect.
    fn is_open(&self) -> bool {
        let host = self.me.host().parse::<IpAddr>();
        let on_loopback = host.is_ok_and(|ip| ip.is_loopback());
        self.keys.borrow().is_empty() && !on_loopback && !self.config.partner_addrs.is_empty()
    }

    /// The other members that told to be witnesses.
    fn other_witnesses(&self) -> Vec<Address> {
        let replica = self.replica.borrow();
        let others = replica.log.members().iter().filter(|a| **a != self.me);
        let peers = self.elector.peers.borrow();
        others
            .filter(|peer| peers.is_witness(peer))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_said_as_far_as_it_is() {
        let me: Address = "10.0.3.9:2222".parse().unwrap();
        for (allow_from, open_to) in [
            ("", "10.0.3.9:2222"),
            (
                "10.0.1.1 10.0.2.1",
                "10.0.3.9:2222 from 10.0.1.1/32, 10.0.2.1/32, or another member's Raft port,",
            ),
            (
                "10.1.0.0/16 10.2.0.0/16 10.3.0.0/16 10.4.0.0/16 fd00::/8 fe80::/10",
                "10.0.3.9:2222 from 10.1.0.0/16, 10.2.0.0/16, 10.3.0.0/16, 10.4.0.0/16 and 2 more \
                 networks, or another member's Raft port,",
            ),
        ] {
            let networks = allow_from.split_whitespace();
            let networks: Vec<Subnet> = networks.map(|n| n.parse().unwrap()).collect();
            let sentence = Concern::NoPassword.sentence(&reach(&me, &networks));
            let wanted = format!(
                "This Raft group has no password: whoever reaches {open_to} can write and change \
                 the members."
            );
            assert_eq!(sentence, wanted);
        }
    }
}
