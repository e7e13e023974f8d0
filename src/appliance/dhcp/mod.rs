//! A DHCP client for one interface (RFC 2131): lease, renewal, rebinding and
//! expiry as a state machine without I/O, and the bytes of its messages.
//!
//! Our own, after `edge-dhcp` 0.6 was read: its decoder panics on a router option
//! whose length is no multiple of four (with `panic = "abort"` any machine on the
//! network could stop the vote), takes a padding option for one with a length, and
//! its broadcast flag is written in the wrong byte. `dhcproto` brings a resolver
//! and Unicode tables.
//!
//! * [`packet`]: its bytes;
//! * [`client`]: what is sent when, and what an answer means.

pub mod client;
pub mod packet;

pub use client::{Client, Do, Lease};
