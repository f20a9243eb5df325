//! The Ichor broker.

pub mod audit;
pub mod clock;
pub mod custody;
pub mod domain;
pub mod entropy;
pub mod http;
pub mod identity;
pub mod issuer;
pub mod login;
pub mod policy;
pub mod store;
