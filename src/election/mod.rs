//! What a member decides: whether its word counts, whom it believes, when it stands
//! for election, how it joins and whom it restores.
//!
//! Pure values: events and instants come in, decisions go out. There is no socket, no
//! disk, no clock and no task in here, and no line of log: all of that is `member`'s,
//! which turns what happens into events and carries out what is decided. So the tests
//! are tables.
//!
//! * [`eligibility`]: what proves that our word counts (S7);
//! * [`beginning`]: how a member without memory begins (S7);
//! * [`peers`]: what each peer has shown of itself, in one record;
//! * [`memory`]: whether the others remember what is committed here;
//! * [`past`]: whether our log is from a past that the group has left (S13);
//! * [`terms`]: which term is believed, and when a leader counts as there;
//! * [`pre_vote`]: what the others say of a leader that we do not hear;
//! * [`election_timer`]: when to stand for election;
//! * [`candidacy`]: whether to;
//! * [`leaders`]: who leads, by what was heard;
//! * [`joining`]: how we get into the group (S17);
//! * [`auto_vote`]: whether the group needs our vote, and how it is withdrawn;
//! * [`expiry`]: which expiries a leader proposes (S8);
//! * [`hand_over`]: when leadership is given back;
//! * [`restoring`]: members that cannot apply what they hold, and how they are restored;
//! * [`lack`], [`applying`]: what a record of a peer is made of.

pub mod applying;
pub mod auto_vote;
pub mod beginning;
pub mod candidacy;
pub mod election_timer;
pub mod eligibility;
pub mod expiry;
pub mod hand_over;
pub mod joining;
pub mod lack;
pub mod leaders;
pub mod memory;
pub mod past;
pub mod peers;
pub mod pre_vote;
pub mod restoring;
pub mod terms;
#[cfg(test)]
mod testing;

use std::cell::RefCell;

use auto_vote::AutoVote;
use election_timer::ElectionTimer;
use eligibility::Eligibility;
use joining::Joining;
use leaders::Leaders;
use peers::PeerTable;
use pre_vote::PreVote;
use restoring::Restoring;

/// What a member of one cluster decides by. Each part in a cell of its own: none is
/// borrowed over an await, and one part may be asked while another changes.
#[derive(Debug)]
pub struct Elector {
    /// What proves that our word counts (S7).
    pub eligibility: RefCell<Eligibility>,
    /// What each peer has shown of itself.
    pub peers: RefCell<PeerTable>,
    /// Who leads.
    pub leaders: RefCell<Leaders>,
    /// When to stand for election.
    pub timer: RefCell<ElectionTimer>,
    /// What others say of a leader that we do not hear.
    pub pre_vote: RefCell<PreVote>,
    /// How far we are with getting into the group.
    pub joining: RefCell<Joining>,
    /// Whether the group needs our vote, where that is to be decided (`vote: auto`).
    pub auto_vote: RefCell<AutoVote>,
    /// The attempts to restore members.
    pub restoring: RefCell<Restoring>,
}

impl Elector {
    /// That of a voter which has heard of nobody yet.
    pub fn new(timer: ElectionTimer) -> Self {
        Self {
            eligibility: RefCell::new(Eligibility::voter()),
            timer: RefCell::new(timer),
            peers: RefCell::default(),
            leaders: RefCell::default(),
            pre_vote: RefCell::default(),
            joining: RefCell::default(),
            auto_vote: RefCell::default(),
            restoring: RefCell::default(),
        }
    }
}
