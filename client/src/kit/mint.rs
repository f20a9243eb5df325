//! A certificate from a kit's CA, for what was recorded: made here, or in a static kit made at its ceremony.

use ichor_wire::profile::{DEFAULT_BACKDATE, Expected, Names, Profile, assemble, judge, pem, span, tbs};
use ichor_wire::talosconfig::{NewContext, Talosconfig};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::grant::user;
use super::{Grant, LocallyRecorded, Opened};
use crate::error::Error;

/// A certificate and its key, as a talosconfig.
pub struct Minted {
    /// The talosconfig's only context.
    pub context: String,
    /// The talosconfig. It holds the private key.
    pub talosconfig: Talosconfig,
}

impl Opened {
    /// A certificate for what was recorded, by the profile that the broker's have, read anew and held against the grant. A static kit
    /// makes none: it hands out its own.
    ///
    /// # Errors
    /// When it cannot be made, or is not what was granted.
    pub fn mint(&self, grant: LocallyRecorded<Grant>, now: Timestamp) -> Result<Minted, Error> {
        if grant.value().kit != self.facts().id {
            return Err(failed(&"another kit gives what was recorded"));
        }
        let der = match self.fixed() {
            Some(fixed) => fixed.certificate.clone(),
            None => self.certify(grant.value(), now)?,
        };
        let facts = self.facts();
        let context = format!("{}-kit-{}", facts.cluster, facts.number);
        let new = NewContext {
            endpoints: facts.endpoints.clone(),
            nodes: facts.nodes.clone(),
            ca: facts.cluster_ca.clone(),
            crt: pem::encode("CERTIFICATE", &der).to_string(),
            key: Zeroizing::new(pem::encode("ED25519 PRIVATE KEY", &grant.value().key).to_string()),
        };
        let file = Talosconfig::empty().put_context(&context, &new).and_then(|file| file.set_current(&context));
        Ok(Minted { talosconfig: file.map_err(|error| failed(&error))?, context })
    }

    fn certify(&self, grant: &Grant, now: Timestamp) -> Result<Vec<u8>, Error> {
        let Grant { name, asked, not_after, serial, spki, .. } = grant;
        let user = user(&asked.name);
        let span = span(self.ca(), now, DEFAULT_BACKDATE, *not_after).map_err(|error| failed(&error))?;
        let profile = Profile {
            ca: self.ca(),
            serial: *serial,
            public_key: spki,
            roles: &asked.roles,
            user: &user,
            grant: *name,
            span,
        };
        let tbs = tbs(&profile).map_err(|error| failed(&error))?;
        let signature = self.sign(&tbs).ok_or_else(|| failed(&"the key does not sign"))?;
        let algorithm = self.ca().algorithm().signature_algorithm();
        let der = assemble(&tbs, algorithm, &signature).map_err(|error| failed(&error))?;
        let names = Names::Whole { user: &user, grant: *name };
        let expected = Expected { public_key: spki, roles: &asked.roles, names, until: *not_after, now };
        judge(&der, &expected, self.ca()).map_err(|error| failed(&error))?;
        Ok(der)
    }
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::failed(format!("no certificate was made: {error}"), "check this machine's clock, and try again")
}

impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted").field("context", &self.context).finish_non_exhaustive()
    }
}
