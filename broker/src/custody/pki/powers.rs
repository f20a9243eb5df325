//! What our token may do at the engine beside signing by our roles: nothing that makes the roles no bound at all.

use super::PkiError;
use crate::openbao::{Capabilities, Pki};

/// Where the engine signs what is asked, makes keys, or changes its CA.
pub(super) const NEVER: &[&str] = &[
    "sign-verbatim",
    "sign-verbatim/{role}",
    "issue/{role}",
    "issuer/default/sign-verbatim",
    "issuer/default/sign-verbatim/{role}",
    "issuer/default/issue/{role}",
    "issuer/default/sign-intermediate",
    "issuer/default/sign-self-issued",
    "issuer/default",
    "root",
    "root/generate/internal",
    "root/generate/exported",
    "root/rotate/internal",
    "root/replace",
    "root/sign-intermediate",
    "root/sign-self-issued",
    "intermediate/set-signed",
    "config/ca",
    "config/issuers",
    "issuers/import/bundle",
    "keys/import",
];

/// What changes something, or has it signed.
const ACTS: [&str; 5] = ["create", "update", "patch", "delete", "sudo"];

/// Returns if the token may sign by these roles and nothing more than it needs.
///
/// # Errors
/// With the path, and what the policy should say.
pub(super) async fn check(pki: &Pki, roles: &[String], may_write_roles: bool) -> Result<(), PkiError> {
    let mount = pki.mount();
    let role = roles.first().map_or("ichor", String::as_str);
    let never: Vec<String> = NEVER.iter().map(|path| format!("{mount}/{}", path.replace("{role}", role))).collect();
    let sign = roles.iter().map(|role| pki.sign_path(role)).collect::<Result<Vec<_>, _>>()?;
    let kept: Vec<String> = roles.iter().map(|role| format!("{mount}/roles/{role}")).collect();
    let asked: Vec<&str> = never.iter().chain(&sign).chain(&kept).map(String::as_str).collect();
    let may = pki.client().capabilities(&asked).await?;
    if let Some(path) = never.iter().find(|path| acts(&may, path)) {
        return Err(PkiError::TooMuch(path.clone()));
    }
    for path in &kept {
        match (may_write_roles, acts(&may, path)) {
            (false, true) => return Err(PkiError::WritesRoles(path.clone())),
            (true, false) => return Err(PkiError::MayNot { path: path.clone(), what: "create, read, update" }),
            _ => {}
        }
    }
    match sign.iter().find(|path| !may.may(path, "update")) {
        Some(path) => Err(PkiError::MayNot { path: path.clone(), what: "update" }),
        None => Ok(()),
    }
}

fn acts(may: &Capabilities, path: &str) -> bool {
    ACTS.iter().any(|act| may.may(path, act))
}
