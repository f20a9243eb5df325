//! What our token may do with a Transit key beside having it sign: nothing that lets the key out, or ends it.

use super::super::vetted::Vetted;
use super::TransitKeyError;
use crate::openbao::{BaoError, TransitEngine};

/// Where the key is made one that can be let out, changed, replaced or taken away.
const CHANGES: [&str; 7] = [
    "keys/{key}/config",
    "keys/{key}",
    "keys/{key}/rotate",
    "keys/{key}/trim",
    "keys/{key}/soft-delete",
    "restore/{key}",
    "restore",
];

/// Where it is given out, to whoever may read there. An RSA key is one that encrypts, too.
const GIVES: [&str; 9] = [
    "export/signing-key/{key}",
    "export/signing-key/{key}/{version}",
    "export/signing-key/{key}/latest",
    "export/encryption-key/{key}",
    "export/encryption-key/{key}/{version}",
    "export/encryption-key/{key}/latest",
    "backup/{key}",
    "byok-export/{any}/{key}",
    "byok-export/{any}/{key}/{version}",
];

/// The name of a key that it could be wrapped with.
const ANY: &str = "ichor";

/// What our token may do with one key.
#[derive(Debug)]
pub(in crate::custody) struct Powers {
    /// Where the key signs.
    sign: String,
    may_sign: bool,
    /// The first path that it needs not, and may use.
    beyond: Option<String>,
}

// === impl Powers ===

impl Powers {
    /// As [`Self::ask`], or what is known to be right still. Anything else is asked anew each time.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(in crate::custody) async fn unless_vetted(
        vetted: &Vetted,
        transit: &TransitEngine,
        key: &str,
        version: u32,
    ) -> Result<Self, BaoError> {
        let sign = transit.sign_path(key)?;
        let Some(asking) = vetted.ask(transit.client(), &format!("{sign} {version}")) else {
            return Ok(Self { sign, may_sign: true, beyond: None });
        };
        let powers = Self::ask(transit, key, version).await?;
        asking.was_right(powers.may_sign && powers.beyond.is_none());
        Ok(powers)
    }

    /// What the server says of this version of the key, in one call. A path that its answer lacks is not allowed.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(in crate::custody) async fn ask(transit: &TransitEngine, key: &str, version: u32) -> Result<Self, BaoError> {
        let sign = transit.sign_path(key)?;
        let version = version.to_string();
        let at = |path: &str| {
            let rest = path.replace("{key}", key).replace("{version}", &version).replace("{any}", ANY);
            format!("{}/{rest}", transit.mount())
        };
        let changes: Vec<String> = CHANGES.iter().map(|path| at(path)).collect();
        let gives: Vec<String> = GIVES.iter().map(|path| at(path)).collect();
        let asked: Vec<&str> = std::iter::once(&sign).chain(&changes).chain(&gives).map(String::as_str).collect();
        let may = transit.client().capabilities(&asked).await?;
        let changed = changes.iter().find(|path| may.acts(path));
        let beyond = changed.or_else(|| gives.iter().find(|path| may.acts(path) || may.may(path, "read"))).cloned();
        Ok(Self { may_sign: may.may(&sign, "update"), sign, beyond })
    }

    /// Returns if the token may sign.
    ///
    /// # Errors
    /// When it may not, with the path.
    pub(in crate::custody) fn check(&self) -> Result<(), TransitKeyError> {
        if self.may_sign { Ok(()) } else { Err(TransitKeyError::MayNotSign(self.sign.clone())) }
    }

    /// A sentence if it may more than this policy of deploy/openbao gives it.
    pub(in crate::custody) fn warning(&self, policy: &str) -> Option<String> {
        let path = self.beyond.as_ref()?;
        Some(format!(
            "our token may use `{path}` of the server, so whoever takes it over can let the key out or end it; give it the \
             policy deploy/openbao/{policy} and nothing else there"
        ))
    }
}
