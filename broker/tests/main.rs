//! The broker's rooms against stand-ins of what they talk to: real HTTP on loopback, a frozen clock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code, also outside of the test functions that clippy.toml exempts"
)]

mod login;
