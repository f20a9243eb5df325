//! `GET /v1/session`: who am I, and until when.

use axum::Json;
use ichor_wire::api::SessionAnswer;
use ichor_wire::problem::Problem;

use crate::http::extract::Caller;

/// Who the session belongs to and how long it lasts.
#[utoipa::path(get, path = "/v1/session", tag = "session", responses(
    (status = 200, description = "the session", body = SessionAnswer),
    (status = 401, description = "no valid session or proof", body = Problem),
))]
pub async fn show(caller: Caller) -> Json<SessionAnswer> {
    let row = caller.session;
    Json(SessionAnswer {
        session_id: row.id.0,
        provider: row.person.provider.as_str().into(),
        issuer: row.person.issuer,
        subject: row.person.subject,
        name: row.name,
        user: row.user,
        groups: row.groups.into_iter().map(|group| group.name).collect(),
        groups_at: row.groups_at,
        acr: row.acr,
        auth_time: row.auth_time,
        expires_at: row.expires_at,
    })
}
