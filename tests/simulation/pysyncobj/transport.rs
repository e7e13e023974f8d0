//! `TCPTransport` and `TcpConnection`: who dials, who is who, and when a
//! connection is given up (spec 1.2 to 1.6), without encryption.

use std::collections::{BTreeMap, BTreeSet};

use pg_witness::address::Address;
use pg_witness::wire::Value;

use super::node::{Chance, Node};
use super::{Effect, NodeId, Raised, Socket};

/// Silence after which a connection is given up, at the next event on it.
const CONNECTION_TIMEOUT_S: f64 = 3.5;
/// Between two dials to one peer.
const RETRY_S: f64 = 5.0;

/// A `TcpConnection`: it may be connected anew and again, by another socket each
/// time.
#[derive(Debug)]
pub(super) struct Link {
    pub socket: Option<Socket>,
    pub state: LinkState,
    pub last_read_s: f64,
    /// Whether this node was to dial it: only such a link says hello.
    dials: bool,
    receiver: Receiver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkState {
    Disconnected = 0,
    Connecting = 1,
    Connected = 2,
}

/// To whom a link's messages go.
#[derive(Debug, Clone)]
enum Receiver {
    /// The next one is a hello or a utility request.
    Hello,
    /// They come from this node.
    From(NodeId),
}

/// Names a [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(u64);

/// The links, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Transport {
    links: BTreeMap<LinkId, Link>,
    links_made: u64,
    sockets_made: u64,
    connections: BTreeMap<NodeId, LinkId>,
    nodes: BTreeSet<Address>,
    last_dial_s: BTreeMap<NodeId, f64>,
    /// While this one is dropped it is not dialled.
    dropping: Option<Address>,
    clients_seen: u64,
}

impl Transport {
    fn add_link(&mut self, link: Link) -> LinkId {
        self.links_made += 1;
        let id = LinkId(self.links_made);
        self.links.insert(id, link);
        id
    }

    fn new_socket(&mut self) -> Socket {
        self.sockets_made += 1;
        Socket(self.sockets_made)
    }

    fn link_of(&self, socket: Socket) -> Option<LinkId> {
        let mut links = self.links.iter();
        links
            .find(|(_, link)| link.socket == Some(socket))
            .map(|(id, _)| *id)
    }

    fn node_of(&self, link: LinkId) -> Option<NodeId> {
        let mut connections = self.connections.iter();
        connections
            .find(|(_, of)| **of == link)
            .map(|(node, _)| node.clone())
    }

    /// The current connection of each node.
    pub fn connections(&self) -> impl Iterator<Item = (&NodeId, &Link)> {
        let connections = self.connections.iter();
        connections.filter_map(|(node, id)| Some((node, self.links.get(id)?)))
    }

    fn state(&self, link: LinkId) -> LinkState {
        self.links
            .get(&link)
            .map_or(LinkState::Disconnected, |link| link.state)
    }
}

impl Node {
    pub(super) fn on_accept(&mut self) -> Socket {
        let socket = self.transport.new_socket();
        self.transport.add_link(Link {
            socket: Some(socket),
            state: LinkState::Connected,
            last_read_s: self.now_s,
            dials: false,
            receiver: Receiver::Hello,
        });
        socket
    }

    /// A dial succeeded.
    pub(super) fn on_established(&mut self, socket: Socket) -> Result<(), Raised> {
        let Some(id) = self.transport.link_of(socket) else {
            return Ok(());
        };
        self.on_event(id).map(|_| ())
    }

    /// What every event on a connection begins with; whether there is something
    /// to read.
    fn on_event(&mut self, id: LinkId) -> Result<bool, Raised> {
        // H11: asked before the data is read.
        if self.check_timer(id)? && !self.config.version.goes_on_after_timeout() {
            return Ok(false);
        }
        match self.transport.state(id) {
            LinkState::Disconnected => Ok(false),
            LinkState::Connecting => self.on_connected(id).map(|()| false),
            LinkState::Connected => Ok(true),
        }
    }

    fn on_connected(&mut self, id: LinkId) -> Result<(), Raised> {
        if self.transport.links.get(&id).is_some_and(|link| link.dials) {
            self.send_on(id, Value::str(self.config.address.as_str()))?;
            match self.transport.node_of(id) {
                Some(node) => {
                    self.connected.insert(node);
                }
                // Another connection took its place meanwhile. Python then counts
                // `None` as connected, for good.
                None => self.connected_to_none = true,
            }
        }
        // A link that was accepted once and is dialled now has no hook that says
        // hello: the pair is dead (spec 1.6).
        let now_s = self.now_s;
        if let Some(link) = self.transport.links.get_mut(&id)
            && link.state != LinkState::Disconnected
        {
            link.state = LinkState::Connected;
            link.last_read_s = now_s;
        }
        Ok(())
    }

    /// A dial failed, or the connection was reset or ended.
    pub(super) fn on_closed(&mut self, socket: Socket) -> Result<(), Raised> {
        match self.transport.link_of(socket) {
            Some(id) => self.disconnect(id),
            None => Ok(()),
        }
    }

    /// A message arrived.
    pub(super) fn on_received(
        &mut self,
        socket: Socket,
        message: &Value,
        chance: &mut Chance<'_>,
    ) -> Result<(), Raised> {
        let Some(id) = self.transport.link_of(socket) else {
            return Ok(());
        };
        let readable = self.on_event(id)?;
        let now_s = self.now_s;
        let link = self.transport.links.get_mut(&id).filter(|_| readable);
        let Some(link) = link else {
            return Ok(());
        };
        link.last_read_s = now_s;
        // `None` is how Python's reader says that there is no message.
        if matches!(message, Value::None) {
            return Ok(());
        }
        match link.receiver.clone() {
            Receiver::Hello => self.on_hello(id, message),
            Receiver::From(node) => self.on_message(&node, message, chance),
        }
    }

    fn on_hello(&mut self, id: LinkId, message: &Value) -> Result<(), Raised> {
        if let Value::List(items) = message
            && self.on_utility(id, items)?
        {
            return Ok(());
        }
        // H2
        if !message.py_hashable() {
            return Err(Raised("TypeError"));
        }
        let text = message.as_str().unwrap_or_default();
        let mut nodes = self.transport.nodes.iter();
        let member = nodes.find(|node| node.as_str() == text).cloned();
        let node = match member {
            Some(address) => NodeId::Member(address),
            None if text == "readonly" => {
                let node = NodeId::Client(self.transport.clients_seen);
                self.transport.clients_seen += 1;
                node
            }
            None => return self.disconnect(id),
        };
        // What was connected before stays open, and its messages count.
        self.transport.connections.insert(node.clone(), id);
        if let Some(link) = self.transport.links.get_mut(&id) {
            link.receiver = Receiver::From(node.clone());
        }
        self.connected.insert(node.clone());
        if let NodeId::Client(_) = node {
            self.clients.insert(node.clone());
            let next = self.last()?.index + 1;
            self.next.insert(node.clone(), next);
            self.matched.insert(node, 0);
        }
        Ok(())
    }

    /// `send` of the transport: to a member or client that is connected.
    pub(super) fn send(&mut self, to: &NodeId, message: Value) -> Result<(), Raised> {
        match self.transport.connections.get(to).copied() {
            Some(id) if self.transport.state(id) == LinkState::Connected => {
                self.send_on(id, message)
            }
            _ => Ok(()),
        }
    }

    /// `send` of a connection.
    pub(super) fn send_on(&mut self, id: LinkId, message: Value) -> Result<(), Raised> {
        if self.config.version.checks_timer_on_send() && self.check_timer(id)? {
            return Ok(());
        }
        match self.transport.links.get(&id).and_then(|link| link.socket) {
            Some(socket) => {
                self.now_s += self.config.send_s;
                self.effects.push(Effect::Send { socket, message });
                Ok(())
            }
            None if self.config.version.checks_timer_on_send() => Ok(()),
            // The reply to a utility client that has gone.
            None => Err(Raised("AttributeError")),
        }
    }

    /// Gives the connection up if nothing came over it for too long; whether it
    /// did.
    fn check_timer(&mut self, id: LinkId) -> Result<bool, Raised> {
        let link = self.transport.links.get(&id);
        let silent = link.is_some_and(|link| self.now_s - link.last_read_s > CONNECTION_TIMEOUT_S);
        if silent {
            self.disconnect(id)?;
        }
        Ok(silent)
    }

    fn disconnect(&mut self, id: LinkId) -> Result<(), Raised> {
        let Some(link) = self.transport.links.get_mut(&id) else {
            return Ok(());
        };
        let was = std::mem::replace(&mut link.state, LinkState::Disconnected);
        if let Some(socket) = link.socket.take() {
            self.effects.push(Effect::Close { socket });
        }
        if was == LinkState::Disconnected {
            return Ok(());
        }
        match self.transport.node_of(id) {
            Some(NodeId::Member(address)) if self.transport.nodes.contains(&address) => {
                self.connected.remove(&NodeId::Member(address.clone()));
                self.dial_if_needed(&address);
            }
            Some(node) => {
                self.transport.connections.remove(&node);
                self.transport.links.remove(&id);
                self.clients.remove(&node);
                self.connected.remove(&node);
                self.next.remove(&node);
                self.matched.remove(&node);
            }
            None => {
                self.transport.links.remove(&id);
            }
        }
        Ok(())
    }

    /// Whether this node is the one that dials.
    fn should_dial(&self, to: &Address) -> bool {
        self.transport.dropping.as_ref() != Some(to) && self.config.address > *to
    }

    fn dial_if_needed(&mut self, to: &Address) {
        let node = NodeId::Member(to.clone());
        let Some(id) = self.transport.connections.get(&node).copied() else {
            return;
        };
        let idle = self.transport.state(id) == LinkState::Disconnected;
        if !idle || !self.should_dial(to) {
            return;
        }
        let last = self.transport.last_dial_s.get(&node);
        if last.is_some_and(|last| self.now_s - last < RETRY_S) {
            return;
        }
        self.transport.last_dial_s.insert(node, self.now_s);
        let socket = self.transport.new_socket();
        if let Some(link) = self.transport.links.get_mut(&id) {
            link.socket = Some(socket);
            link.state = LinkState::Connecting;
            link.last_read_s = self.now_s;
            let to = to.clone();
            self.effects.push(Effect::Dial { socket, to });
        }
    }

    /// Once a tick.
    pub(super) fn dial_all(&mut self) {
        for node in self.transport.nodes.clone() {
            self.dial_if_needed(&node);
        }
    }

    pub(super) fn add_to_transport(&mut self, address: &Address) {
        self.transport.nodes.insert(address.clone());
        if self.should_dial(address) {
            let node = NodeId::Member(address.clone());
            let id = self.transport.add_link(Link {
                socket: None,
                state: LinkState::Disconnected,
                last_read_s: self.now_s,
                dials: true,
                receiver: Receiver::From(node.clone()),
            });
            self.transport.connections.insert(node, id);
        }
    }

    /// Its connection is closed without word to the Raft part: a dropped member
    /// stays among the connected ones.
    pub(super) fn drop_from_transport(&mut self, address: &Address) -> Result<(), Raised> {
        let node = NodeId::Member(address.clone());
        if let Some(id) = self.transport.connections.remove(&node) {
            self.transport.dropping = Some(address.clone());
            let disconnected = self.disconnect(id);
            self.transport.dropping = None;
            disconnected?;
        }
        self.transport.nodes.remove(address);
        self.transport.last_dial_s.remove(&node);
        Ok(())
    }
}
