//! What a kit says of itself, plain and sealed alike.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::profile::{CaCertificate, CaError, MAX_KEPT, MAX_TTL, Mismatch};
use crate::role::Role;

/// The newest version of the kit's format that this build writes and reads: that of a static kit.
pub const VERSION: u8 = 2;

/// The version of a kit that holds its CA's key.
pub const VERSION_WITH_CA_KEY: u8 = 1;

/// The fewest shares that open a kit: one person alone never does.
pub const MIN_SHARES: u8 = 2;

/// The most shares that a kit has.
pub const MAX_SHARES: u8 = 16;

/// How long a kit lasts at most.
pub const MAX_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365 * 3);

/// What a share on paper is sealed to, among the facts.
pub const PAPER: &str = "paper";

/// The longest name of a holder, in characters.
const MAX_HOLDER: usize = 64;

/// The most endpoints, and the longest, in bytes.
const MAX_ENDPOINTS: usize = 32;

/// The facts of a kit. Nothing in them is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The format's version.
    pub version: u8,
    /// The kit's number, which people call it by.
    pub number: u16,
    /// The kit's id, which tells it from every other.
    pub id: Uuid,
    /// The cluster's name.
    pub cluster: String,
    /// When it was made.
    pub made: Timestamp,
    /// When its CA ends.
    pub until: Timestamp,
    /// The roles that its certificates may hold.
    pub roles: Vec<Role>,
    /// How long one of its certificates is good at most, in seconds; of a static kit, how long an opening is said to last.
    pub ttl_cap: u64,
    /// How many shares open it.
    pub threshold: u8,
    /// Where talosctl connects.
    pub endpoints: Vec<String>,
    /// The default targets of a call; may be empty.
    pub nodes: Vec<String>,
    /// What to do, for whoever holds nothing but this file.
    pub instructions: String,
    /// The CA that the nodes' own certificates come from, PEM.
    pub cluster_ca: String,
    /// The kit's own CA, PEM: what nodes list in `machine.acceptedCAs`.
    pub kit_ca: String,
    /// The one certificate of a static kit, PEM; absent where the kit holds its CA's key. Version 2 and later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The shares, by index from 1.
    pub shares: Vec<ShareFacts>,
}

/// What is said of one share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareFacts {
    /// Its index, from 1.
    pub index: u8,
    /// Who holds it.
    pub holder: String,
    /// SHA-256 of the recipient that it is sealed to, lower-case hex; or [`PAPER`].
    pub sealed_to: String,
    /// What the commitment is salted with: 16 random bytes, lower-case hex.
    pub salt: String,
    /// The salted hash of the share, lower-case hex.
    pub commitment: String,
    /// The Ed25519 key with which its holder proves to have it, lower-case hex.
    pub proof_key: String,
}

/// Why facts are not those of a kit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// Made by a newer program.
    #[error("the kit has version {0}; this program reads up to 2: use a newer `ichor`")]
    Version(u8),
    /// One of the CAs is none.
    #[error("`{0}` is not a CA certificate: {1}")]
    Ca(&'static str, CaError),
    /// The certificate of a static kit is none, or not the one that its facts tell of.
    #[error("the kit's certificate is not what its facts say: {0}")]
    Certificate(Mismatch),
    /// Another rule of the format is broken.
    #[error("{0}")]
    Rule(&'static str),
}

// === impl Facts ===

impl Facts {
    /// Checks everything that the format fixes.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), FactsError> {
        if !(VERSION_WITH_CA_KEY..=VERSION).contains(&self.version) {
            return Err(FactsError::Version(self.version));
        }
        self.kit_certificate()?;
        let shares = u8::try_from(self.shares.len()).unwrap_or(u8::MAX);
        let rules = [
            (self.number > 0, "a kit's number is 1 or more"),
            (fits_name(&self.cluster), "the cluster's name has 1 to 63 lower-case letters, digits and hyphens"),
            (self.until > self.made && self.until.duration_since(self.made) <= MAX_LIFE, "a kit lasts at most 3 years"),
            (
                (self.version == VERSION) == self.is_static(),
                "a kit of version 2 has a certificate, and one of version 1 has none",
            ),
            (
                !self.is_static() || self.until.duration_since(self.made) <= MAX_KEPT,
                "a static kit lasts at most 365 days",
            ),
            (!self.roles.is_empty() && is_a_set(&self.roles), "a kit has at least one role, and none twice"),
            (
                (60..=MAX_TTL.as_secs()).contains(&i64::try_from(self.ttl_cap).unwrap_or(i64::MAX)),
                "a kit's certificates are good for 1 minute to 24 hours",
            ),
            (shares <= MAX_SHARES, "a kit has at most 16 shares"),
            (
                (MIN_SHARES..=shares).contains(&self.threshold),
                "2 or more of the shares must be needed, and no more than there are",
            ),
            (
                self.shares.iter().enumerate().all(|(at, share)| usize::from(share.index) == at + 1),
                "the shares are numbered from 1, in order",
            ),
            (
                self.shares.iter().all(|share| (1..=MAX_HOLDER).contains(&share.holder.chars().count())),
                "a holder's name has 1 to 64 characters",
            ),
            (
                (1..=MAX_ENDPOINTS).contains(&self.endpoints.len()) && self.nodes.len() <= MAX_ENDPOINTS,
                "a kit has 1 to 32 endpoints and at most 32 nodes",
            ),
            (
                self.endpoints.iter().chain(&self.nodes).all(|at| is_address_text(at)),
                "an endpoint or node is a host or an address, in printable ASCII without blanks",
            ),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(FactsError::Rule(rule)))
    }

    /// The kit's own CA.
    ///
    /// # Errors
    /// When it is none.
    pub fn kit_certificate(&self) -> Result<CaCertificate, FactsError> {
        CaCertificate::parse(&self.kit_ca).map_err(|error| FactsError::Ca("kit_ca", error))
    }

    /// The share of this index.
    #[must_use]
    pub fn share(&self, index: u8) -> Option<&ShareFacts> {
        self.shares.iter().find(|share| share.index == index)
    }

    /// The first field in which the two differ, with what each says; `None` where they are the same.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let of = |facts: &Self| serde_json::to_value(facts).unwrap_or_default();
        let (ours, theirs) = (of(self), of(other));
        // one that only one of them has differs too
        let names = [&ours, &theirs].into_iter().filter_map(|facts| facts.as_object()).flat_map(|facts| facts.keys());
        let names: BTreeSet<&str> = names.map(String::as_str).collect();
        let differs = names.into_iter().filter(|name| ours.get(name) != theirs.get(name));
        Some(differs.collect::<Vec<_>>().join("`, `"))
    }
}

fn is_a_set(roles: &[Role]) -> bool {
    let mut sorted = roles.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len() == roles.len()
}

fn fits_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_address_text(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
