//! Who the members of a world are.

use std::rc::Rc;
use std::time::Duration;

use pg_witness::address::Address;
use pg_witness::reactor::simulated::nodes::Processes;
use rand::RngExt as _;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;

use crate::client::History;
use crate::data_node::DataNode;
use crate::incidents::Incidents;
use crate::node::Node;
use crate::pysyncobj::{Config, Version};
use crate::registry::{Registered, Registry};
use crate::witness::Witness;

/// How long all must be well before the witness of such a world withdraws: shorter than
/// a world is calm, and long enough for faults to interrupt it.
const WITHDRAWS_AFTER: Duration = Duration::from_secs(20);

/// What kind of members: how many of three are PySyncObj nodes, or four of which one
/// comes and goes or comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Three witnesses.
    Witnesses,
    /// A PySyncObj node and two witnesses.
    OneDataNode,
    /// Two PySyncObj nodes and a witness: what this is for.
    TwoDataNodes,
    /// Two PySyncObj nodes and a witness with `vote: auto`, and a third node that is
    /// added and removed again: beside three the witness withdraws.
    ThirdDataNode,
    /// Three PySyncObj nodes and a witness that nobody of them lists, and that is set up
    /// anew at times: it asks to be added, while any of them may be away (S17).
    NewWitness,
    /// Three PySyncObj nodes that do not reach each other most of the time, and a witness
    /// that reaches one over a slow line and the others over lines that come and go: only
    /// it can lead, loses that and leads again while answers are on their way (S4).
    BadLines,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Witnesses,
        Self::OneDataNode,
        Self::TwoDataNodes,
        Self::ThirdDataNode,
        Self::NewWitness,
        Self::BadLines,
    ];

    const fn data_nodes(self) -> usize {
        match self {
            Self::Witnesses => 0,
            Self::OneDataNode => 1,
            Self::TwoDataNodes => 2,
            Self::ThirdDataNode | Self::NewWitness | Self::BadLines => 3,
        }
    }

    /// How many hosts it has.
    const fn hosts(self) -> usize {
        match self {
            Self::ThirdDataNode | Self::NewWitness | Self::BadLines => 4,
            _ => 3,
        }
    }

    /// The one that is no member at first.
    const fn third(self) -> Option<usize> {
        match self {
            Self::ThirdDataNode => Some(2),
            _ => None,
        }
    }
}

/// The members, and what all of them share.
pub struct Cast {
    pub members: Vec<Box<dyn Node>>,
    /// The one that comes and goes, by its place among them; not there at first.
    pub third: Option<usize>,
    /// Whether the witness is set up anew at times.
    pub renews: bool,
    /// Whether the lines are bad most of the time.
    pub bad_lines: bool,
    pub history: Rc<History>,
    pub registry: Rc<Registry>,
    pub incidents: Rc<Incidents>,
}

impl Cast {
    /// Draws them, of this kind or of any. Witnesses have the highest addresses, as the
    /// README wants it: so they dial, and no attempt of a PySyncObj node that is lost
    /// keeps them apart for two minutes (H22).
    pub fn draw(kind: Option<Kind>, rng: &mut SmallRng, nodes: &mut Processes) -> Self {
        use Kind::{BadLines, NewWitness, OneDataNode, TwoDataNodes, Witnesses};
        let drawn = [
            TwoDataNodes,
            TwoDataNodes,
            TwoDataNodes,
            Witnesses,
            Witnesses,
            OneDataNode,
            NewWitness,
        ];
        let drawn = *drawn.choose(rng).unwrap();
        let kind = kind.unwrap_or(drawn);
        let addresses: Vec<Address> = (1..=kind.hosts())
            .map(|n| format!("10.0.0.{n}:2222").parse().unwrap())
            .collect();
        // Who is no member yet is told the others, and they are not told it.
        let third = kind.third().map(|third| addresses[third].clone());
        let first: Vec<Address> = addresses
            .iter()
            .filter(|address| Some(*address) != third.as_ref())
            .cloned()
            .collect();
        let mut cast = Self {
            members: Vec::new(),
            third: kind.third(),
            renews: kind == NewWitness,
            bad_lines: kind == BadLines,
            history: Rc::default(),
            registry: Rc::default(),
            incidents: Rc::default(),
        };
        cast.history.refreshing.set(true);
        cast.history.writing.set(true);
        // Before its first start nobody knows of the witness: it has to get in (S17).
        let unlisted = kind == NewWitness || kind == TwoDataNodes && rng.random_bool(0.2);
        let listed = if unlisted {
            kind.data_nodes()
        } else {
            first.len()
        };
        let listed = &first[..listed];
        for (n, address) in addresses.iter().enumerate() {
            if n < kind.data_nodes() {
                cast.add_data_node(&format!("d{}", n + 1), address, listed, rng);
            } else {
                let name = format!("w{}", n + 1);
                // One that may lead at once is needed by no rule, only by haste.
                let reluctant = n > 0 && rng.random_bool(0.5);
                let mut witness = Witness::new(
                    &name,
                    address,
                    &first,
                    reluctant,
                    rng.random(),
                    (cast.registry.clone(), cast.incidents.clone()),
                );
                if third.is_some() {
                    witness.withdraws(WITHDRAWS_AFTER);
                }
                if !unlisted {
                    witness.adopt(nodes);
                }
                let member = Registered::Witness(witness.member());
                cast.registry.add(witness.host(), member);
                cast.members.push(Box::new(witness));
            }
        }
        cast
    }

    fn add_data_node(
        &mut self,
        name: &str,
        address: &Address,
        members: &[Address],
        rng: &mut SmallRng,
    ) {
        let version = *Version::ALL.choose(rng).unwrap();
        let others = members.iter().filter(|member| *member != address);
        let mut config = Config::new(version, address.clone(), others.cloned().collect());
        // Patroni's 300 s would leave most worlds without a dump.
        config.compaction_s = *[20.0, 60.0, 300.0].choose(rng).unwrap();
        config.compaction_entries = *[40, 5_000].choose(rng).unwrap();
        let node = DataNode::new(
            name,
            config,
            self.history.clone(),
            self.registry.clone(),
            self.incidents.clone(),
        );
        self.registry
            .add(node.host(), Registered::DataNode(node.life()));
        self.members.push(Box::new(node));
    }
}
