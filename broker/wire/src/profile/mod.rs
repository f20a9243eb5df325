//! The certificate profile: what Ichor's client certificates look like, to build and to judge.
//!
//! ```text
//! subject       one RDN with every O value (the roles, `user:<user>`, `grant:<id>`), one RDN with CN = the user
//! public key    Ed25519, P-256, P-384 or RSA 2048–4096, from a request whose signature was checked
//! serial        128 random bits
//! validity      backdated for nodes whose clocks are behind; within the CA's and the grant's; at most 24 h ahead
//! extensions    CA:FALSE critical, key usage digitalSignature critical, extended key usage exactly clientAuth,
//!               authority key identifier = the CA's subject key identifier; no others, no alternative names
//! ```
//!
//! Others that make certificates for us, a PKI engine or the cluster itself, cannot name person and grant; [`Names`] says what
//! each of them writes, as exactly.
//!
//! [`tbs`] and [`assemble`] build one with an encoder, [`judge`] reads the finished one with a parser that shares no code
//! with it, so that one wrong field is not written and approved by the same mistake.

mod build;
mod build_ca;
mod ca;
mod csr;
mod grant;
mod judge;
mod key;
pub mod pem;
mod user;

pub use build::{
    BuildError, DEFAULT_BACKDATE, MAX_BACKDATE, MAX_KEPT, MAX_TTL, Profile, Span, assemble, kept_span, span, tbs,
};
pub use build_ca::{CaProfile, ca_tbs};
pub use ca::{CaCertificate, CaError};
pub use csr::{CsrError, CsrKey, MAX_CSR, read_csr};
pub use grant::{BadGrantName, GrantName};
pub use judge::{CLOCK_SLACK, Expected, Facts, Mismatch, Names, judge, subject_key};
pub use key::{ED25519_HEAD, KeyAlgorithm, KeyError, SignatureAlgorithm, ed25519_key};
pub use user::{MAX_USER, user_fits, user_value};

/// Organization values of a certificate: the roles, and the user and the grant where whoever makes it can name them.
fn organizations(roles: &[crate::role::Role], user: Option<&str>, grant: Option<GrantName>) -> Vec<String> {
    let mut values: Vec<String> = roles.iter().map(|role| role.as_str().to_owned()).collect();
    values.extend(user.map(|user| format!("user:{user}")));
    values.extend(grant.map(|grant| format!("grant:{grant}")));
    values
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod made_elsewhere;
