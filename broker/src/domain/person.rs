//! Who someone is: keyed by provider, issuer and subject, never by a name.

use std::fmt;

use ichor_wire::log;

use super::{BadName, label};

/// A provider's alias at this broker, `[a-z0-9-]+`, pinned to one issuer in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderAlias(String);

/// The alias of the broker itself.
const SYSTEM: &str = "system";

/// A person's key. Two names, spellings or e-mail addresses never make two persons, nor one of two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Person {
    /// The provider's alias.
    pub provider: ProviderAlias,
    /// The provider's issuer URL, byte for byte as in the ID token.
    pub issuer: String,
    /// The subject, byte for byte.
    pub subject: String,
}

/// A group at one provider. Kept as two values: a joined text could be forged from either side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The provider's alias.
    pub provider: ProviderAlias,
    /// The group's name, byte for byte.
    pub name: String,
}

impl ProviderAlias {
    /// An alias from its text.
    ///
    /// # Errors
    /// When the text is not `[a-z0-9-]+`, or is the one kept for the broker itself.
    pub fn new(text: &str) -> Result<Self, BadName> {
        if text == SYSTEM {
            return Err(BadName {
                what: "provider alias",
                rule: "it is kept for the broker itself",
                text: text.into(),
            });
        }
        label("provider alias", text).map(Self)
    }

    /// The alias's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Person {
    /// The broker itself, for what it needs of its own: no provider can have this alias, so no one can be it.
    #[must_use]
    pub fn system() -> Self {
        Self { provider: ProviderAlias(SYSTEM.into()), issuer: "urn:ichor:system".into(), subject: SYSTEM.into() }
    }

    /// The person of an entry or a row of ours, whose alias may be the broker's own.
    ///
    /// # Errors
    /// When the alias is none.
    pub fn recorded(provider: &str, issuer: String, subject: String) -> Result<Self, BadName> {
        let system = Self::system();
        if provider == SYSTEM && issuer == system.issuer && subject == system.subject {
            return Ok(system);
        }
        Ok(Self { provider: ProviderAlias::new(provider)?, issuer, subject })
    }

    /// The person as entries of the log have them, with the names that the provider told.
    #[must_use]
    pub fn logged(&self, name: &str, user: &str) -> log::Person {
        log::Person {
            provider: self.provider.as_str().into(),
            issuer: self.issuer.clone(),
            subject: self.subject.clone(),
            name: name.into(),
            user: user.into(),
        }
    }
}

impl fmt::Display for ProviderAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
