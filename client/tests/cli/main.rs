//! The binary `ichor` against a fake broker: what is typed, what is printed, what is on disk afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "all of this crate is tests, its fake broker included"
)]

mod agent;
mod audit;
mod break_glass;
mod doctor;
mod exec;
mod fake;
mod flags;
mod hostile;
mod kit;
mod lock;
mod login;
mod receipts;
mod talosconfig;
mod terminal;
mod trust;
mod usage;
mod world;
