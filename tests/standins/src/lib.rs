//! Stand-ins for what Ichor talks to: an OpenID provider ([`provider::Provider`]), a Talos node ([`node::Node`]) and an OpenBao
//! server ([`openbao::OpenBao`]), each a real server on a loopback address, in this process.
//!
//! They know neither broker nor client, so that tests and the demo meet them as they would meet the real ones. Besides them:
//! a [`browser::Browser`] that follows redirects and submits forms, a [`node::client::NodeClient`] that calls a node with any
//! certificate, an [`authority::Authority`] that signs certificates of any shape, wrong ones too, addresses ([`address`]), and the command
//! lines that the documents have people type ([`documents`]).
//!
//! Time is injected ([`clock::Now`]), so that a test with a frozen clock meets peers with the same clock.

pub mod address;
pub mod authority;
pub mod browser;
pub mod clock;
mod der;
pub mod documents;
pub mod node;
pub mod openbao;
pub mod provider;
mod random;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Makes aws-lc-rs the process's TLS provider unless one is installed. Every stand-in calls it when it starts.
pub fn install_tls_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Locks `mutex`, also after another thread panicked: a failed test must not hide behind a second panic here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
