//! A Talos node.
pub mod client;
