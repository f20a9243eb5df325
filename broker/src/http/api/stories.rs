//! `GET /v1/audit/stories/{id}`: one story from its login to its end.

use axum::Json;
use axum::extract::{Path, State};
use ichor_wire::api::{AuditEntry, StoryAnswer};
use ichor_wire::problem::{Code, Problem};

use super::Api;
use super::audit::{may_read, permit, record};
use crate::audit::{self, StoryId};
use crate::http::error::ApiError;
use crate::http::extract::Fresh;
use crate::identity::Identity;

/// What to do about an id that nothing has.
const WHOLE: &str = "give it whole: an id has 36 characters, a serial number or fingerprint all its digits; `ichor audit log -o json` and \
                     `ichor audit what --user NAME -o json` show them";

/// A whole story by the id of a grant, a session, a break-glass request or an entry, by an entry's index, or by a certificate's serial number or
/// SHA-256 fingerprint. Everyone may read their own. Of others' those entries are told that policy (`audit:read`) lets the asker
/// read, by their cluster or as part of everything; how many were left out is told too. Reading others' is recorded, and so is a refusal.
#[utoipa::path(get, path = "/v1/audit/stories/{id}", tag = "audit",
    params(("id" = String, Path, description = "what names the story")),
    responses(
        (status = 200, description = "the story", body = StoryAnswer),
        (status = 400, description = "the id cannot be read", body = Problem),
        (status = 401, description = "no valid session or proof", body = Problem),
        (status = 403, description = "policy refuses", body = Problem),
        (status = 404, description = "nothing has this id", body = Problem),
    ))]
pub async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
    caller: Fresh,
) -> Result<Json<StoryAnswer>, ApiError> {
    let id: StoryId = id.parse().map_err(|error: audit::NotAnId| ApiError::new(Code::BadRequest, error.to_string()))?;
    let (identity, what) = (&caller.identity, format!("the story of {id}"));
    let Some(story) = audit::story(&*api.store, &id).await? else {
        // who may not read everything is not told whether there is something, by no entry either
        permit(&api, identity, caller.address, None, &what).await?;
        let mut problem = Problem::new(Code::NotFound, format!("the audit has nothing with the {id}"));
        problem.help = vec![WHOLE.into()];
        return Err(problem.into());
    };
    let entry = &story.entry;
    if !is_own(entry, identity) {
        // a cluster that is no longer declared belongs to those who may read everything
        let by_cluster = entry.cluster.as_deref().is_some_and(|name| may_read(&api, identity, Some(name)).is_ok());
        if !by_cluster {
            permit(&api, identity, caller.address, None, &what).await?;
        }
    }
    let mut answer = story.answer;
    let everything = may_read(&api, identity, None).is_ok();
    answer.hidden = hide(&mut answer, |entry| {
        everything
            || is_own(entry, identity)
            || entry.cluster.as_deref().is_some_and(|name| may_read(&api, identity, Some(name)).is_ok())
    });
    if answer.entries().any(|entry| !is_own(entry, identity)) {
        record(&api, identity, caller.address, entry.cluster.as_deref(), what).await?;
    }
    Ok(Json(answer))
}

fn is_own(entry: &AuditEntry, identity: &Identity) -> bool {
    let person = identity.person();
    let provider = entry.detail.get("provider").map(String::as_str);
    entry.issuer.as_deref() == Some(&person.issuer)
        && entry.subject.as_deref() == Some(&person.subject)
        && provider == Some(person.provider.as_str())
}

/// Leaves out what may not be seen and answers how many entries that were.
fn hide(answer: &mut StoryAnswer, may_see: impl Fn(&AuditEntry) -> bool) -> u64 {
    let mut hidden = 0;
    let mut sees = |entry: &AuditEntry| {
        let sees = may_see(entry);
        hidden += u64::from(!sees);
        sees
    };
    for place in [&mut answer.login, &mut answer.end, &mut answer.entry] {
        *place = place.take().filter(&mut sees);
    }
    answer.others.retain(&mut sees);
    for grant in &mut answer.grants {
        grant.grant = grant.grant.take().filter(&mut sees);
        for entries in [&mut grant.outcome, &mut grant.request, &mut grant.afterwards] {
            entries.retain(&mut sees);
        }
    }
    answer.grants.retain(|grant| {
        grant.grant.is_some() || [&grant.outcome, &grant.request, &grant.afterwards].iter().any(|it| !it.is_empty())
    });
    hidden
}
