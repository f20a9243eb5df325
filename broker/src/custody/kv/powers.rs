//! What our token may do with a secret beside reading it: nothing that changes or ends what lies there.

use super::super::seen::Seen;
use crate::openbao::{BaoError, Kv};

/// Where a secret is written, deleted, brought back or destroyed.
const CHANGES: [&str; 5] = ["data", "metadata", "delete", "undelete", "destroy"];

/// A sentence if our token may more with this secret than the policy kv.hcl of deploy/openbao gives it.
///
/// # Errors
/// When it cannot be asked.
pub(in crate::custody) async fn warning(seen: &Seen, kv: &Kv, path: &str) -> Result<Option<String>, BaoError> {
    let Some(asking) = seen.ask(kv.client(), &kv.path("data", path)?) else { return Ok(None) };
    let changes = CHANGES.iter().map(|what| kv.path(what, path)).collect::<Result<Vec<_>, _>>()?;
    let asked: Vec<&str> = changes.iter().map(String::as_str).collect();
    let may = kv.client().capabilities(&asked).await?;
    let beyond = changes.iter().find(|path| may.acts(path));
    asking.done(beyond.is_none());
    Ok(beyond.map(|path| {
        format!(
            "our token may write or delete at `{path}` of the server, so whoever takes it over can put another CA there or end this one; \
             give it the policy deploy/openbao/kv.hcl and nothing else there"
        )
    }))
}
