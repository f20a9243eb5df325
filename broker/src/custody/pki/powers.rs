//! What our token may do at the engine beside signing by our roles: nothing that makes the roles no bound at all.
//!
//! The server tells of one path at a time what a token may. So it is asked about every way around the roles that there is by the
//! names that the engine answers to (`default`, the issuer's id and its name; each of our roles, and one that is none), and about
//! those by the names that stand in the token's own policies.

use std::collections::BTreeSet;

use super::PkiError;
use super::role_set::person_prefix;
use crate::domain::ClusterName;
use crate::openbao::Pki;

/// Where the engine signs what is asked, or what a program decides (OpenBao's CEL roles), by its default issuer; where it makes keys, changes
/// its CA, or lets others in by another protocol.
const NEVER: &[&str] = &[
    "sign-verbatim",
    "sign-verbatim/{role}",
    "issue/{role}",
    "cel/roles/{role}",
    "cel/sign/{role}",
    "cel/issue/{role}",
    "root",
    "root/generate/internal",
    "root/generate/exported",
    "root/generate/existing",
    "root/rotate/internal",
    "root/rotate/exported",
    "root/rotate/existing",
    "root/replace",
    "root/sign-intermediate",
    "root/sign-self-issued",
    "intermediate/generate/internal",
    "intermediate/generate/exported",
    "intermediate/generate/existing",
    "intermediate/cross-sign",
    "intermediate/set-signed",
    "issuers/generate/root/internal",
    "issuers/generate/root/exported",
    "issuers/generate/root/existing",
    "issuers/generate/intermediate/internal",
    "issuers/generate/intermediate/exported",
    "issuers/generate/intermediate/existing",
    "config/ca",
    "config/issuers",
    "config/keys",
    "config/acme",
    "config/est",
    "issuers/import/bundle",
    "keys/import",
    "keys/generate/internal",
    "keys/generate/exported",
];

/// The same by an issuer that is named, also by a role: we name none.
const NEVER_BY: &[&str] = &[
    "issuer/{issuer}/sign-verbatim",
    "issuer/{issuer}/sign-verbatim/{role}",
    "issuer/{issuer}/issue/{role}",
    "issuer/{issuer}/sign-intermediate",
    "issuer/{issuer}/sign-self-issued",
    "issuer/{issuer}",
    "issuer/{issuer}/sign/{role}",
];

/// What the engine calls the issuer that signs where none is named.
const DEFAULT: &str = "default";

/// A name of a role that is there or not: where the engine signs what is asked, it wants none.
const ANY: &str = "ichor";

/// Returns if the token may sign by these roles and nothing more than it needs.
///
/// # Errors
/// With the path, and what the policy should say.
pub(super) async fn check(
    pki: &Pki,
    cluster: &ClusterName,
    roles: &[String],
    may_write_roles: bool,
) -> Result<(), PkiError> {
    let mount = pki.mount();
    let rules = pki.client().rules().await?;
    let mut named = Named::default();
    rules.below(mount).for_each(|rest| named.take(rest));
    let never = never(pki, roles, &named).await?;
    // a rule that takes in more than the roles that begin so takes in the name that it ends with; one with a `+` is not told, and takes
    // in any name
    let own = format!("ichor-{cluster}-");
    let names = named.signs.iter().map(String::as_str).filter(|name| !name.starts_with(&own));
    let others: Vec<String> = names.chain([ANY]).map(|name| format!("{mount}/sign/{name}")).collect();
    let sign = roles.iter().map(|role| pki.sign_path(role)).collect::<Result<Vec<_>, _>>()?;
    let at = |role: &str| format!("{mount}/roles/{role}");
    let kept: Vec<String> = roles.iter().map(|role| at(role)).collect();
    // whatever our record names: what may be written now is signed by next
    let elsewhere = [ANY.to_owned(), person_prefix(cluster)].into_iter().chain(named.kept.iter().cloned());
    let elsewhere: Vec<String> = elsewhere.map(|role| at(&role)).collect();
    let asked = never.iter().chain(&others).chain(&sign).chain(&kept).chain(&elsewhere);
    let asked: Vec<&str> = asked.map(String::as_str).collect();
    let may = pki.client().capabilities(&asked).await?;
    if let Some(path) = never.iter().find(|path| may.acts(path)) {
        return Err(PkiError::TooMuch(path.clone()));
    }
    if let Some(path) = others.iter().find(|path| may.acts(path)) {
        return Err(PkiError::OthersRole(path.clone()));
    }
    for path in &kept {
        match (may_write_roles, may.acts(path)) {
            (false, true) => return Err(PkiError::WritesRoles(path.clone())),
            (true, false) => return Err(PkiError::MayNot { path: path.clone(), what: "create, read, update" }),
            _ => {}
        }
    }
    if let Some(path) = elsewhere.iter().find(|path| !may_write_roles && may.acts(path)) {
        return Err(PkiError::WritesRoles(path.clone()));
    }
    match sign.iter().find(|path| !may.may(path, "update")) {
        Some(path) => Err(PkiError::MayNot { path: path.clone(), what: "update" }),
        None => Ok(()),
    }
}

/// The paths that are to be closed to our token.
async fn never(pki: &Pki, roles: &[String], named: &Named) -> Result<Vec<String>, PkiError> {
    let issuer = pki.issuer().await?;
    let issuers: Vec<&str> = std::iter::once(DEFAULT).chain(issuer.all()).collect();
    let roles: Vec<&str> = roles.iter().map(String::as_str).chain([ANY]).collect();
    let mut paths: Vec<String> = Vec::new();
    for role in roles.iter().copied().chain(named.roles.iter().map(String::as_str)) {
        paths.extend(NEVER.iter().map(|path| path.replace("{role}", role)));
    }
    let ours = issuers.iter().flat_map(|issuer| roles.iter().map(move |role| (*issuer, *role)));
    let theirs = named.issuers.iter().map(|(issuer, role)| (issuer.as_str(), role.as_str()));
    for (issuer, role) in ours.chain(theirs) {
        paths.extend(NEVER_BY.iter().map(|path| path.replace("{issuer}", issuer).replace("{role}", role)));
    }
    let mut once = BTreeSet::new();
    paths.retain(|path| once.insert(path.clone()));
    Ok(paths.into_iter().map(|path| format!("{}/{path}", pki.mount())).collect())
}

/// What rules name. Of one that ends in a `*` only the beginning of the last name is left, which is a name that it takes in.
#[derive(Default)]
struct Named {
    roles: BTreeSet<String>,
    /// Those that it may sign by.
    signs: BTreeSet<String>,
    /// Those that it may read or write.
    kept: BTreeSet<String>,
    /// With the role that is named behind the issuer.
    issuers: BTreeSet<(String, String)>,
}

// === impl Named ===

impl Named {
    /// What the rest of a rule's path behind the mount names.
    fn take(&mut self, rest: &str) {
        let or_any = |name: Option<&str>| name.filter(|name| !name.is_empty()).unwrap_or(ANY).to_owned();
        let mut parts = rest.split('/');
        match parts.next() {
            Some("sign") => drop(self.signs.insert(or_any(parts.next()))),
            Some("roles") => drop(self.kept.insert(or_any(parts.next()))),
            Some("cel") => drop(self.roles.insert(or_any(parts.nth(1)))),
            Some("sign-verbatim" | "issue") => drop(self.roles.insert(or_any(parts.next()))),
            Some("issuer") => {
                let issuer = or_any(parts.next());
                self.issuers.insert((issuer, or_any(parts.nth(1))));
            }
            _ => {}
        }
    }
}
