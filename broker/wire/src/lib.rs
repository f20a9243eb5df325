//! What the broker and its client must agree on, and nothing else.
//!
//! The crate is pure: no runtime, no sockets, no database, no clock. A value goes in, a value comes out, so the broker,
//! the client and an offline verifier share one definition of each format.
//!
//! - [`api`]: requests and answers of the HTTP API.
//! - [`dpop`]: proof-of-possession claims, key thumbprints, and the number that a terminal and a confirmation page share.
//! - [`kit`]: the break-glass kit: its file, its shares, proofs of a drill, the record of an opening.
//! - [`problem`]: stable error codes (RFC 9457).
//! - [`reason`]: what passes for a reason.
//! - [`role`]: the closed list of Talos roles.
//! - [`profile`]: the certificate profile, to build and to judge.
//! - [`talosconfig`]: the talosconfig file, to read and to edit without damage.
//! - [`log`]: audit entries and leaf records.
//! - [`loopback`]: which hosts are this machine.

pub mod api;
pub mod dpop;
pub mod kit;
pub mod log;
pub mod loopback;
pub mod problem;
pub mod profile;
pub mod reason;
pub mod role;
pub mod talosconfig;
