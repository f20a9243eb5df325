//! The broker's rooms against stand-ins of what they talk to: real HTTP on loopback, a frozen clock. And the broker as a
//! process, ended and starved from outside, in the host's time; and its commands as an operator types them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code, also outside of the test functions that clippy.toml exempts"
)]

mod cli;
mod login;
mod openbao;
mod process;
