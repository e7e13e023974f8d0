//! What an operator should know of this member beside its vote: each is a note of
//! the answer, with its remedy, as long as it holds.

use std::net::IpAddr;

use super::Member;
use crate::config::limits;
use crate::reason::Concern;
use crate::status::Note;
use crate::status::words::harmless;
use crate::wire::Address;

impl Member {
    /// All that holds now.
    pub(super) fn concerns(&self) -> Vec<Note> {
        let port = self.listen_error.borrow().clone();
        let port = port.map(|error| (Concern::PortUnusable, error.to_string()));
        let mismatches = self.mismatched().into_iter();
        let mismatches = mismatches.map(|told| (Concern::PasswordMismatch, told));
        let plain = self
            .is_open()
            .then(|| (Concern::NoPassword, self.me.to_string()));
        let witnesses = self.other_witnesses().into_iter();
        let witnesses = witnesses.map(|peer| (Concern::SecondWitness, peer.to_string()));
        let all = port.into_iter().chain(mismatches).chain(plain);
        all.chain(witnesses)
            .map(|(concern, about)| Note {
                reason: Some(concern.name()),
                ..Note::new(concern.level(), concern.sentence(&harmless(about.chars())))
                    .with_remedy(concern.remedy())
            })
            .collect()
    }

    /// The members without a link whose last connection was not understood, and why;
    /// and whoever sent what cannot be read meanwhile.
    fn mismatched(&self) -> Vec<String> {
        let links = self.links.borrow();
        let refused = links.iter().filter_map(|(peer, link)| {
            let why = link.mismatch.as_ref()?;
            Some(format!("{peer} is not connected: {why}"))
        });
        let missing = links.values().any(|link| link.connection.is_none());
        let last = self.last_unreadable.get().filter(|_| missing);
        let unreadable = last
            .filter(|(_, at)| at.elapsed() <= limits::UNREADABLE_NEWS_TIME)
            .map(|(ip, _)| format!("{ip} sends what cannot be read: password mismatch?"));
        refused.chain(unreadable).collect()
    }

    /// Notes why a connection that we made to the peer was not understood.
    pub(super) fn note_mismatch(&self, peer: &Address, why: &str) {
        if let Some(link) = self.links.borrow_mut().get_mut(peer)
            && link.connection.is_none()
        {
            link.mismatch = Some(why.into());
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
        let is_witness = |peer: &&Address| {
            let told = self.peerage.told(peer);
            told.is_some_and(|told| told.version.starts_with("pg-witness"))
        };
        others.filter(is_witness).cloned().collect()
    }
}
