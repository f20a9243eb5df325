//! What our token may do with a secret beside reading it: nothing that changes or ends what lies there.

use super::super::vetted::Vetted;
use crate::openbao::{BaoError, Kv};

/// Where a secret is written, deleted, brought back or destroyed.
const CHANGES: [&str; 5] = ["data", "metadata", "delete", "undelete", "destroy"];

/// A sentence if our token may change or end what lies in this secret.
///
/// # Errors
/// When it cannot be asked.
pub(in crate::custody) async fn warning(vetted: &Vetted, kv: &Kv, path: &str) -> Result<Option<String>, BaoError> {
    let Some(asking) = vetted.ask(kv.client(), &kv.path("data", path)?) else { return Ok(None) };
    let changes = CHANGES.iter().map(|what| kv.path(what, path)).collect::<Result<Vec<_>, _>>()?;
    // the server holds a path with a slash behind it against other rules, and deletes the same
    let changes: Vec<String> = changes.into_iter().flat_map(|path| [format!("{path}/"), path]).collect();
    let asked: Vec<&str> = changes.iter().map(String::as_str).collect();
    let may = kv.client().capabilities(&asked).await?;
    let beyond = changes.iter().find(|path| may.acts(path));
    asking.was_right(beyond.is_none());
    Ok(beyond.map(|path| {
        format!(
            "our token may write or delete at `{path}` of the server, so whoever takes it over can put another CA there or end this one; \
             give it the policy deploy/openbao/kv.hcl and nothing else there"
        )
    }))
}
