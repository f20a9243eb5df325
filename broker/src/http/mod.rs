//! The HTTP side: router, extraction, errors, one file per resource and page.

pub mod admin;
pub mod admin_locks;
pub mod api;
mod bodies;
pub mod error;
pub mod extract;
pub mod health;
pub mod layers;
pub mod limits;
pub mod oauth;
pub mod openapi;
pub mod pages;
pub mod route;
pub mod router;
pub mod tlog;
pub mod web;

use std::net::IpAddr;

/// The client's address, after trusted proxies: a request extension that [`layers`] sets on every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);
