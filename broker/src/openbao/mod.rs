//! One authenticated, renewing client for OpenBao and HashiCorp Vault.
//!
//! - [`Client`] logs in by itself, renews its token, makes calls within a deadline, and tries again where that is safe.
//! - [`TransitEngine`], [`Kv`] and [`Pki`] are the engines behind it, as far as custody needs them.
//! - [`BaoError`] says which server failed in which way; no token and no answer's body is in it.
//!
//! It is small code of ours over the HTTP client that everything else uses: what custody needs (several signatures in one
//! call, bounded answers, request ids, wiped tokens, renewal, one login for many waiting calls) is what the crates at hand
//! do not have.

mod answer;
mod client;
mod error;
mod gate;
mod keeper;
mod key;
mod kv;
mod login;
mod pki;
mod seal;
mod settings;
mod state;
mod sys;
mod transit;
mod transport;

pub use answer::Answer;
pub use client::{Client, Retry, TokenStanding};
pub use error::{BaoError, Kind};
pub use key::{KeyKind, TransitKey};
pub use kv::{Kv, Version};
pub use pki::{IssuerRef, Pki, Role, Signed};
pub use settings::{Auth, DEADLINE, NameError, PACE, Settings, SettingsError, check_mount, check_name};
pub use state::State;
pub use sys::{Capabilities, Rules};
pub use transit::{LARGEST_BATCH, TransitEngine};
