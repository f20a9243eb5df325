//! The HTTP side: router, extraction, errors, one file per resource and page.

pub mod oauth;
pub mod web;

use std::net::IpAddr;

/// The client's address, after trusted proxies: a request extension that the router's layers set on every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);
