//! The status, the page and the metrics, served over HTTP/1.1.
//!
//! It runs on the thread that votes and must never delay it: an answer is made
//! cluster by cluster with a pause in between, connections, heads and times are
//! capped, and a port that is taken is only said. Nothing is computed unless
//! somebody asks, and no answer holds a secret (S11).
//!
//! `httparse` reads the heads; one request a connection is all we serve. The
//! library around it that would fit, `edge-http` 0.8, was looked at and left:
//! its server reads a head byte by byte (a system call each, on the voting
//! thread), drains a request's body to whatever end, holds `unreachable!` and
//! `unwrap!` on that way (with `panic = "abort"` the end of the vote) and
//! `unsafe`, and brings a WebSocket, `embassy-sync` and `edge-nal`, which we
//! would have to implement for our reactor's sockets.
//!
//! * [`request`]: what was asked, and whether that is allowed;
//! * [`answer`]: what is said to it;
//! * `writer`: the answer on its way; `usage`: what the process takes, for it;
//! * [`page`]: the page, and what a browser may do with it;
//! * [`server`]: sockets and times;
//! * [`slots`]: who is served when many ask;
//! * [`client`]: the other side, for our own commands.

pub mod answer;
pub mod client;
pub mod page;
pub mod request;
pub mod server;
pub mod slots;
mod usage;
mod writer;
