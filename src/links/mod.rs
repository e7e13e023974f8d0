//! Connections to the other members, in two halves: pure translation
//! ([`follower`], [`leader`], [`reconcile`]), which does no I/O, reads no clock and spawns
//! nothing, and the sockets that carry it.

pub mod budget;
pub mod connection;
pub mod epoch;
pub mod follower;
pub mod leader;
pub mod reconcile;
pub mod resolve;
pub mod utility_client;
