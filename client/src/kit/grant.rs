//! What a kit gives, and to whom by their own word.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use ichor_wire::kit::Facts;
use ichor_wire::profile::{GrantName, user_fits};
use ichor_wire::reason::check_reason;
use ichor_wire::role::Role;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Opened;
use super::opened::Fixed;
use crate::entropy;
use crate::error::Error;

/// What an opener asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The name that they give. Nobody checks it.
    pub name: String,
    /// Why.
    pub reason: String,
    /// The roles; none: the kit's only one.
    pub roles: Vec<Role>,
    /// For how long, in seconds; `None`: as long as the kit allows.
    pub ttl: Option<u64>,
}

/// What a kit gives. Built only by [`Opened::grant`], within what the kit allows.
///
/// An opened kit gives one,
/// ```
/// use ichor_client::kit::{Asked, Grant, Opened};
///
/// fn grant(opened: &Opened, asked: &Asked, now: jiff::Timestamp) -> Result<Grant, ichor_client::Error> {
///     opened.grant(asked, now)
/// }
/// ```
/// nobody makes one up,
/// ```compile_fail,E0451
/// use ichor_client::kit::Grant;
///
/// fn grant() -> Grant {
///     Grant { kit: todo!(), name: todo!(), asked: todo!(), not_after: todo!(), opened: todo!(), serial: todo!(), key: todo!(), spki: todo!() }
/// }
/// ```
/// and what was given once is not given twice.
/// ```compile_fail,E0277
/// fn twice<T: Clone>(value: &T) -> (T, T) {
///     (value.clone(), value.clone())
/// }
/// fn grants(grant: &ichor_client::kit::Grant) -> impl Sized {
///     twice(grant)
/// }
/// ```
pub struct Grant {
    /// The id of the kit that gives it.
    pub(super) kit: Uuid,
    pub(super) name: GrantName,
    pub(super) asked: Asked,
    pub(super) opened: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) serial: [u8; 16],
    /// The private key to be certified, PKCS#8.
    pub(super) key: Zeroizing<Vec<u8>>,
    /// Its SubjectPublicKeyInfo, DER.
    pub(super) spki: Vec<u8>,
}

impl Asked {
    /// Whether the name can stand in a certificate and in a record.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_name(name: &str) -> Result<(), Error> {
        if user_fits(&user(name)) && !name.is_empty() {
            return Ok(());
        }
        Err(Error::usage(
            "the name cannot stand in a certificate",
            "give 1 to 51 printable ASCII characters without blanks and `,;=()`, as `ada.lovelace`",
        ))
    }

    /// Whether the reason says something: by the broker's own rule, since what it would not take in a report must not stand in a
    /// record.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_reason(reason: &str) -> Result<(), Error> {
        check_reason(reason)
            .map_err(|error| Error::usage(error.to_string(), "say why, as `--reason \"INC-42 etcd down\"`"))
    }

    /// The roles to hold, in order, of those that the kit gives.
    ///
    /// # Errors
    /// When it does not give one of them, or none is named and it gives several.
    pub fn choose_roles(asked: &[Role], facts: &Facts) -> Result<Vec<Role>, Error> {
        let has = || facts.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
        let mut roles = match (asked, facts.roles.as_slice()) {
            ([], [only]) => vec![*only],
            // its one certificate has them all
            ([], all) if facts.is_static() => all.to_vec(),
            ([], _) => {
                return Err(Error::usage("which role?", format!("name one with `--role`; this kit has {}", has())));
            }
            (asked, _) => asked.to_vec(),
        };
        roles.sort_unstable();
        roles.dedup();
        match roles.iter().find(|role| !facts.roles.contains(role)) {
            Some(role) => Err(Error::usage(format!("this kit does not give {role}"), format!("it gives {}", has()))),
            None if facts.is_static() && roles.len() != facts.roles.len() => Err(Error::usage(
                format!("this is a static kit: its one certificate holds {}, and nothing less", has()),
                "leave `--role` out",
            )),
            None => Ok(roles),
        }
    }

    /// How long, in seconds, within what the kit allows.
    ///
    /// # Errors
    /// When it is longer.
    pub fn choose_ttl(asked: Option<u64>, facts: &Facts) -> Result<u64, Error> {
        let ttl = asked.unwrap_or(facts.ttl_cap);
        if ttl > facts.ttl_cap {
            return Err(Error::usage(
                format!("this kit gives at most {} seconds", facts.ttl_cap),
                "ask for less with `--ttl`; a kit can be opened again",
            ));
        }
        Ok(ttl)
    }
}

impl Opened {
    /// What the kit gives for this, beginning at `now`, with a key made here; a static kit gives its one certificate's key, roles and
    /// grant, and the time is only what the opener says to need.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate, the reason says nothing, or more is asked for than the kit allows.
    pub fn grant(&self, asked: &Asked, now: Timestamp) -> Result<Grant, Error> {
        let facts = self.facts();
        Asked::check_name(&asked.name)?;
        Asked::check_reason(&asked.reason)?;
        let roles = Asked::choose_roles(&asked.roles, facts)?;
        let ttl = Asked::choose_ttl(asked.ttl, facts)?;
        let ttl = SignedDuration::from_secs(i64::try_from(ttl).unwrap_or(i64::MAX));
        let late = |_| Error::usage("that time cannot be told", "ask for less with `--ttl`");
        let not_after = now.checked_add(ttl).map_err(late)?.min(self.ca().not_after());
        let asked = Asked { roles, ..asked.clone() };
        if let Some(fixed) = self.fixed() {
            let Fixed { serial, key, spki, .. } = fixed;
            let (name, key, spki) = (facts.fixed_grant(), key.clone(), spki.clone());
            return Ok(Grant { kit: facts.id, name, asked, opened: now, not_after, serial: *serial, key, spki });
        }
        let bug = |_| Error::Bug("no key could be made");
        let key = Ed25519KeyPair::generate().map_err(bug)?;
        let pkcs8 = Zeroizing::new(key.to_pkcs8v1().map_err(bug)?.as_ref().to_vec());
        let spki = key.public_key().as_der().map_err(bug)?.as_ref().to_vec();
        let name = GrantName::Kit { number: facts.number, id: entropy::uuid_v7(now)? };
        Ok(Grant { kit: facts.id, name, asked, opened: now, not_after, serial: entropy::bytes()?, key: pkcs8, spki })
    }
}

/// The value behind `user:`.
pub(super) fn user(name: &str) -> String {
    format!("claimed:{name}")
}

// === impl Grant ===

impl Grant {
    /// The grant as its certificate names it.
    #[must_use]
    pub fn name(&self) -> GrantName {
        self.name
    }

    /// When what was granted ends.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The roles.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.asked.roles
    }
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant").field("name", &self.name).field("asked", &self.asked).finish_non_exhaustive()
    }
}
