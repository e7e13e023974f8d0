//! Who the members of a world are.

use std::rc::Rc;

use pg_witness::address::Address;
use pg_witness::reactor::simulated::nodes::Nodes;
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

/// The releases that the model was held against.
const VERSIONS: [Version; 3] = [Version::V0_3_11, Version::V0_3_14, Version::V0_3_17];

/// What kind of members, by how many of three are PySyncObj nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Three witnesses.
    Witnesses,
    /// A PySyncObj node and two witnesses.
    OneDataNode,
    /// Two PySyncObj nodes and a witness: what this is for.
    TwoDataNodes,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Witnesses, Self::OneDataNode, Self::TwoDataNodes];

    const fn data_nodes(self) -> usize {
        match self {
            Self::Witnesses => 0,
            Self::OneDataNode => 1,
            Self::TwoDataNodes => 2,
        }
    }
}

/// The members, and what all of them share.
pub struct Cast {
    pub members: Vec<Box<dyn Node>>,
    pub history: Rc<History>,
    pub registry: Rc<Registry>,
    pub incidents: Rc<Incidents>,
}

impl Cast {
    /// Draws them, of this kind or of any. Witnesses have the highest addresses, as the
    /// README wants it: so they dial, and no attempt of a PySyncObj node that is lost
    /// keeps them apart for two minutes (H22).
    pub fn draw(kind: Option<Kind>, rng: &mut SmallRng, nodes: &mut Nodes) -> Self {
        use Kind::{OneDataNode, TwoDataNodes, Witnesses};
        let drawn = [
            TwoDataNodes,
            TwoDataNodes,
            TwoDataNodes,
            Witnesses,
            Witnesses,
            OneDataNode,
        ];
        let drawn = *drawn.choose(rng).unwrap();
        let kind = kind.unwrap_or(drawn);
        let addresses: Vec<Address> = (1..=3)
            .map(|n| format!("10.0.0.{n}:2222").parse().unwrap())
            .collect();
        let mut cast = Self {
            members: Vec::new(),
            history: Rc::default(),
            registry: Rc::default(),
            incidents: Rc::default(),
        };
        cast.history.refreshing.set(true);
        cast.history.writing.set(true);
        for (n, address) in addresses.iter().enumerate() {
            if n < kind.data_nodes() {
                cast.add_data_node(&format!("d{}", n + 1), address, &addresses, rng);
            } else {
                let name = format!("w{}", n + 1);
                // One that may lead at once is needed by no rule, only by haste.
                let reluctant = n > 0 && rng.random_bool(0.5);
                let witness = Witness::new(&name, address, &addresses, reluctant, rng.random());
                witness.adopt(nodes);
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
        let version = *VERSIONS.choose(rng).unwrap();
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
