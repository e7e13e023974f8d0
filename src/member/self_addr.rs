//! Whether `self_addr` still leads to this machine. Where it does not, the data
//! nodes may be looking for the witness in vain: a lease ran out (DHCP), a name
//! was moved. It is said and never acted upon, for behind a translated address
//! (NAT) it is as it should be.

use std::net::IpAddr;
use std::rc::Rc;

use super::Member;
use crate::address::Address;
use crate::limits;
use crate::reactor::{self, Timer};

/// Where `self_addr` leads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whereabouts {
    /// To an address of this machine.
    Here,
    /// To addresses of which none is this machine's; the first of them.
    Elsewhere(IpAddr),
    /// Its host has no address.
    Nowhere,
}

impl Whereabouts {
    /// Where the address leads now; None if that could not be found out.
    async fn of(address: &Address) -> Option<Self> {
        let Ok(found) = reactor::resolve(address.host(), address.port()).await else {
            return Some(Self::Nowhere);
        };
        for target in &found {
            if reactor::is_ours(target.ip())? {
                return Some(Self::Here);
            }
        }
        let elsewhere = |first: &std::net::SocketAddr| Self::Elsewhere(first.ip());
        Some(found.first().map_or(Self::Nowhere, elsewhere))
    }
}

impl Member {
    /// Looks again every [`limits::SELF_ADDR_PERIOD`] and says what changed.
    pub(super) async fn watch_self_addr(self: Rc<Self>) {
        let mut before = None;
        loop {
            if let Some(now) = Whereabouts::of(&self.me).await
                && before.as_ref() != Some(&now)
            {
                self.report_whereabouts(before.as_ref(), &now);
                before = Some(now);
            }
            Timer::after(limits::SELF_ADDR_PERIOD).await;
        }
    }

    fn report_whereabouts(&self, before: Option<&Whereabouts>, now: &Whereabouts) {
        let (name, me) = (&self.name, &self.me);
        match (before, now) {
            (None, Whereabouts::Here) => {}
            (Some(_), Whereabouts::Here) => {
                log::info!("{name}: self_addr {me} is an address of this machine again");
            }
            (Some(Whereabouts::Here), Whereabouts::Elsewhere(ip)) => log::warn!(
                "{name}: self_addr {me} is no longer an address of this machine ({ip}): did it get another one? The data nodes look for this witness there"
            ),
            (_, Whereabouts::Elsewhere(ip)) => log::info!(
                "{name}: self_addr {me} is no address of this machine ({ip}), which is well if it is translated on the way here"
            ),
            (_, Whereabouts::Nowhere) => log::warn!(
                "{name}: self_addr {me} has no address: the name cannot be resolved here"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_our_addresses_from_others() {
        let of = |text: &str| smol::block_on(Whereabouts::of(&text.parse().unwrap()));
        assert_eq!(of("127.0.0.1:2222"), Some(Whereabouts::Here));
        // RFC 5737: nobody's.
        let nobody = "192.0.2.1".parse().unwrap();
        assert_eq!(of("192.0.2.1:2222"), Some(Whereabouts::Elsewhere(nobody)));
    }
}
