//! Whether our word counts, and if not, why and what to do: the evidence for
//! [`crate::reason`], and what the log says of it.

use std::rc::Rc;

use super::Member;
use super::placement::Withheld;
use super::quota::Fill;
use crate::address::Address;
use crate::disk::Standing;
use crate::ids::Term;
use crate::limits;
use crate::reactor::Timer;
use crate::reason::{self, Evidence, Reason, Remedy, RemedyContext, VoteRefusal};

impl Member {
    pub(super) fn evidence(&self) -> Evidence {
        let withheld = self.servers.placement.borrow().withheld;
        let standing = self.standing();
        Evidence {
            disk_unusable: self.machinery.disk_error.borrow().is_some(),
            diverged: self.has_diverged(),
            other_group: self.is_of_other_group(),
            orphaned: standing == Standing::Orphaned,
            store_full: self.store_fill() == Fill::BeyondQuota,
            never_votes: withheld == Some(Withheld::Configured),
            shares_zone: withheld == Some(Withheld::SharedZone),
            not_wanted: self.withdrawn_beside().is_some(),
            no_member: !self.is_member(&self.me),
            recovering: standing == Standing::Recovering,
            restarting: self.machinery.engine.borrow().is_none(),
        }
    }

    /// Why we neither vote nor campaign; none if we may.
    pub fn reason(&self) -> Option<Reason> {
        reason::reason(&self.evidence())
    }

    /// The reason in words, as what follows "it".
    pub(super) fn reason_in_words(&self, reason: Reason) -> String {
        match self.machinery.disk_error.borrow().as_deref() {
            Some(error) if reason == Reason::DiskUnusable => format!("{}: {error}", reason.words()),
            _ => match self.detail(reason) {
                Some(detail) => format!("{}: {detail}", reason.words()),
                None => reason.words().into(),
            },
        }
    }

    /// What the reason is about, where that is known.
    fn detail(&self, reason: Reason) -> Option<String> {
        match reason {
            Reason::NoMember => {
                let joining = self.elector.joining.borrow();
                joining.obstacle().map(ToString::to_string)
            }
            Reason::NotWanted => {
                let data = self.withdrawn_beside()?;
                Some(format!("{data} data nodes"))
            }
            Reason::Recovering => Some(self.elector.eligibility.borrow().awaits().to_string()),
            _ => None,
        }
    }

    /// What ends it.
    pub(super) fn remedy(&self, reason: Reason) -> Remedy {
        let joining = self.elector.joining.borrow();
        if let (Reason::NoMember, Some(obstacle)) = (reason, joining.obstacle()) {
            return obstacle.remedy(&self.config.commands);
        }
        self.with_place(None, |place| reason.remedy(place))
    }

    /// Calls `tell` with what a remedy needs to know of this witness; the member to
    /// be asked is another than `about`.
    pub(super) fn with_place<T>(
        &self,
        about: Option<&Address>,
        tell: impl FnOnce(&RemedyContext<'_>) -> T,
    ) -> T {
        let replica = self.replica.borrow();
        let mut members = replica.log.members().iter();
        let other = members.find(|&member| *member != self.me && Some(member) != about);
        tell(&RemedyContext {
            commands: &self.config.commands,
            member: other.map(Address::as_str),
        })
    }

    /// Says why a candidate gets no vote, unless that was the answer last time.
    pub(super) fn refuse_vote(&self, peer: &Address, term: Term) {
        let refusal = match self.reason() {
            Some(reason) => VoteRefusal::Ours(reason),
            None if !self.hears(peer) => VoteRefusal::NoMember,
            None if !self.elector.peers.borrow().is_verified(peer) => VoteRefusal::Unverified,
            None => VoteRefusal::Led,
        };
        let news = self.elector.peers.borrow_mut().refuse(peer, refusal);
        if news {
            log::info!(
                "{}: no vote for {peer} in term {term}: {refusal}",
                self.name
            );
        }
    }

    /// Says why we do not vote, and what to do.
    pub(super) fn report_silence(&self) {
        let Some(reason) = self.reason() else { return };
        log::log!(
            reason.level().into(),
            "{}: no vote ({}): this witness {}. {}",
            self.name,
            reason.name(),
            self.reason_in_words(reason),
            self.remedy(reason)
        );
    }

    /// Says so as long as it lasts.
    pub(super) async fn watch_silence(self: Rc<Self>) {
        Timer::after(limits::SILENCE_PATIENCE).await;
        loop {
            self.report_silence();
            Timer::after(limits::SILENCE_REMINDER).await;
        }
    }
}
