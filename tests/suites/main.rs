//! Suites by feature, in one binary: real HTTP and TLS in-process, frozen clocks.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected fails where it stands"
)]

mod acceptance;
mod asking;
mod audit;
mod break_glass;
mod certificates;
mod config_keys;
mod doctor;
mod edges;
mod emergencies;
mod faults;
mod flood;
mod generated;
mod http;
mod kit;
mod locks;
mod main_job;
mod metrics;
mod named;
mod notify;
mod openbao;
mod pages;
mod pki;
mod places;
mod policies;
mod receipts;
mod refusals;
mod reload;
mod secrets;
mod talos_api;
