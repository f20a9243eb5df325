//! The binary `ichor` against a fake broker: what is typed, what is printed, what is on disk afterwards.

mod agent;
mod audit;
mod doctor;
mod exec;
mod fake;
mod flags;
mod login;
mod talosconfig;
mod usage;
mod world;
