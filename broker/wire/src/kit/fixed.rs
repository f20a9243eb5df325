//! A static kit: one certificate, made at the ceremony, that it gives to whoever opens it. The key of its CA is nowhere.

use jiff::Timestamp;

use super::facts::{Facts, FactsError};
use crate::profile::{self, Expected, GrantName, Mismatch, Names, judge, pem};

impl Facts {
    /// Whether the kit holds one certificate and its key, rather than its CA's key.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.certificate.is_some()
    }

    /// The value behind `user:` in the certificate of a static kit: whoever opens it, nodes log the same.
    #[must_use]
    pub fn fixed_user(&self) -> String {
        format!("kit-{}", self.number)
    }

    /// The grant in the certificate of a static kit: the kit itself.
    #[must_use]
    pub fn fixed_grant(&self) -> GrantName {
        GrantName::Kit { number: self.number, id: self.id }
    }

    /// The certificate of a static kit, DER, and what it says; `None` where the kit holds its CA's key. It is this kit's CA's, about
    /// this public key, good at `now`, and names roles, user, grant and end as these facts do.
    ///
    /// # Errors
    /// When it is not.
    pub fn fixed_certificate(
        &self,
        public_key: &[u8],
        now: Timestamp,
    ) -> Result<Option<(Vec<u8>, profile::Facts)>, FactsError> {
        let Some(text) = &self.certificate else { return Ok(None) };
        let malformed = FactsError::Certificate(Mismatch::Malformed);
        let blocks = pem::blocks(text).map_err(|_| malformed.clone())?;
        let [block] = blocks.as_slice() else { return Err(malformed) };
        let user = self.fixed_user();
        let expected = Expected {
            public_key,
            roles: &self.roles,
            names: Names::Kept { user: &user, grant: self.fixed_grant() },
            until: self.until,
            now,
        };
        let said = judge(&block.der, &expected, &self.kit_certificate()?).map_err(FactsError::Certificate)?;
        Ok(Some((block.der.to_vec(), said)))
    }
}
