//! A certificate that exists and matches its grant.

use std::sync::Arc;

use ichor_wire::api::SecretPem;
use ichor_wire::log::{Content, Kind};
use ichor_wire::profile::{Facts, pem};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::audit::{Care, Recordable, Recorded, sealed};
use crate::custody::LockedBytes;
use crate::policy::Grant;
use crate::store::Change;

/// A finished certificate. Its bytes can be read only from a `Recorded<Issued>`.
///
/// Nobody outside this room makes one, and nobody reads it before it is recorded:
///
/// ```
/// # use ichor_broker::audit::Recorded;
/// # use ichor_broker::issuer::Issued;
/// fn answer(issued: &Recorded<Issued>) -> String {
///     issued.certificate_pem()
/// }
/// ```
///
/// ```compile_fail,E0599
/// # use ichor_broker::audit::Recorded;
/// # use ichor_broker::issuer::Issued;
/// fn answer(issued: &Issued) -> String {
///     issued.certificate_pem()
/// }
/// ```
///
/// ```compile_fail,E0616
/// # use ichor_broker::issuer::Issued;
/// fn answer(issued: &Issued) -> Vec<u8> {
///     issued.der.clone()
/// }
/// ```
///
/// ```compile_fail,E0451
/// # use ichor_broker::issuer::Issued;
/// # fn made() -> Issued { unreachable!() }
/// let forged = Issued { der: Vec::new(), ..made() };
/// ```
///
/// The same holds for its private key, where that was made elsewhere than at the client:
///
/// ```
/// # use ichor_broker::audit::Recorded;
/// # use ichor_broker::issuer::Issued;
/// fn has_key(issued: &Recorded<Issued>) -> bool {
///     issued.private_key_pem().is_some()
/// }
/// ```
///
/// ```compile_fail,E0599
/// # use ichor_broker::audit::Recorded;
/// # use ichor_broker::issuer::Issued;
/// fn has_key(issued: &Issued) -> bool {
///     issued.private_key_pem().is_some()
/// }
/// ```
#[derive(Debug)]
pub struct Issued {
    content: Content,
    grant: Recorded<Grant>,
    facts: Facts,
    der: Vec<u8>,
    ca: Arc<str>,
    private_key: Option<LockedBytes>,
}

/// What the entry says of a certificate that does not name its grant.
const UNNAMED: &str = "the certificate does not name its grant: its calls can be matched weakly only";

/// Who made the key, as entries have it, where the client did not.
const KEY_MADE_BY_CLUSTER: &str = "cluster";

// === impl Issued ===

impl Issued {
    /// A certificate that was judged to be what was granted, and the PEM of the CA that signed it.
    pub(super) fn new(grant: Recorded<Grant>, facts: Facts, der: Vec<u8>, ca: Arc<str>) -> Self {
        let granted = grant.value();
        let content = Content {
            kind: Kind::Issued,
            not_after: Some(facts.not_after.as_second()),
            serial: Some(facts.serial.clone()),
            fingerprint: Some(facts.fingerprint.to_vec()),
            // Why it was granted stands in the grant's entry.
            reason: None,
            policies: None,
            policy_digest: None,
            ..granted.content()
        };
        Self { content, grant, facts, der, ca, private_key: None }
    }

    /// As [`Self::new`], of a certificate whose key the cluster made: `public_key` is that key's SubjectPublicKeyInfo, and
    /// `private_key` its PEM. The entry says so.
    pub(super) fn with_key(
        grant: Recorded<Grant>,
        facts: Facts,
        der: Vec<u8>,
        ca: Arc<str>,
        public_key: &[u8],
        private_key: LockedBytes,
    ) -> Self {
        let mut issued = Self::new(grant, facts, der, ca);
        issued.content.public_key = Some(Sha256::digest(public_key).to_vec());
        issued.content.key_made_by = Some(KEY_MADE_BY_CLUSTER.into());
        Self { private_key: Some(private_key), ..issued }
    }

    /// As [`Self::new`], of a certificate that does not name its grant, because whoever made it cannot. The entry says so: a
    /// call with it is later matched by person, roles, cluster and time alone.
    pub(super) fn unnamed(grant: Recorded<Grant>, facts: Facts, der: Vec<u8>, ca: Arc<str>) -> Self {
        let mut issued = Self::new(grant, facts, der, ca);
        issued.content.message = Some(UNNAMED.into());
        issued
    }

    /// The grant that it was made for.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        self.grant.value()
    }

    /// The serial number, big-endian.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.facts.serial
    }

    /// SHA-256 of the certificate's DER.
    #[must_use]
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.facts.fingerprint
    }

    /// The certificate of the CA that signed it, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// The certificate's start.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.facts.not_before
    }

    /// The certificate's end.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.facts.not_after
    }
}

impl sealed::Sealed for Issued {}

impl Recordable for Issued {
    const CARE: Care = Care::Proven;

    fn content(&self) -> Content {
        self.content.clone()
    }

    fn change(&self, now: Timestamp) -> Option<Change> {
        // what was locked since the grant leaves no certificate; the broker's own go on, as for a grant
        let granted = self.grant.value();
        granted.session().map(|_| Change::CertificateMade { keys: Box::new(granted.lock_keys()), now })
    }
}

// === impl Recorded<Issued> ===

impl Recorded<Issued> {
    /// The certificate, PEM. It can be read from here alone: what leaves the broker is in the log.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.value().der).to_string()
    }

    /// The private key, PEM, where the cluster made it; `None` where the client has its own, which is the rule.
    #[must_use]
    pub fn private_key_pem(&self) -> Option<SecretPem> {
        let pem = self.value().private_key.as_ref()?;
        std::str::from_utf8(pem.as_slice()).ok().map(SecretPem::from)
    }
}
