//! Nodes' own logs: who touched which node, without a proxy.
//!
//! ```text
//! TCP │ UDP ─ source? ─ line ─ access ─▶ intake ─ classify ─ findings ◆ ─ batch ◆ (calls + digests in one commit)
//!                                           └─ heartbeat: the line of a probe came back
//! ```
//!
//! A line is a claim that a certificate trusted by the node made a call. It comes without TLS and without authentication, and
//! a caller can bend it; so *explained* never means proven. See `docs/nodelog.md`.

mod access;
mod alarm;
mod batch;
mod board;
mod classify;
mod digest;
mod doubt;
mod findings;
mod grants;
pub mod heartbeat;
mod intake;
mod kits;
mod line;
mod listener;
mod quota_watch;
mod reader;
mod reading_time;
mod sources;
mod split;
mod touched;
mod tries;
mod unkept;
mod verify;

pub use access::{PROBE_KEY, code_name};
pub use board::Board;
pub use intake::{Intake, Parts};
pub use line::LONGEST;
pub use listener::{listen_tcp, listen_udp};
pub use reader::Sink;
pub use sources::{Origin, Source, Sources};
pub use verify::{CallsReport, verify_calls};

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use jiff::SignedDuration;

/// What node logs are taken in, and how.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where nodes send lines over TCP.
    pub tcp: Option<SocketAddr>,
    /// Where nodes send lines over UDP.
    pub udp: Option<SocketAddr>,
    /// Connections at once.
    pub connections: usize,
    /// How many calls are kept.
    pub max_calls: u64,
    /// For how long calls are expected to be kept; `None`: nothing is told where the quota takes younger ones.
    pub kept_for: Option<SignedDuration>,
    /// How often each declared node is probed; `None`: never.
    pub heartbeat: Option<Duration>,
    /// Whose lines are taken.
    pub sources: Sources,
}
