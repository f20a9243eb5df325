//! The API's description, generated from the handlers. `docs/openapi.json` is this, committed; a test compares the two.

use ichor_wire::problem::{MEDIA_TYPE, Problem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response};
use utoipa::{OpenApi, ToSchema};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ichor broker",
        description = "Short-lived Talos client certificates by policy. Requests carry a session's token (`Authorization: DPoP …`) and a proof of possession (`DPoP: …`, RFC 9449) with `ath`, the last `DPoP-Nonce`, and for requests that change state `body_sha256`. Errors are problem documents (RFC 9457) with stable codes.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        super::api::session::show,
        super::api::locks::set,
        super::api::locks::list,
        super::api::locks::unlock,
        super::api::locks::people,
        super::api::clusters::list,
        super::api::clusters::show,
        super::api::certificates::create,
        super::api::audit::list,
        super::api::log::checkpoint,
        super::api::log::key,
        super::api::log::entries_tile,
        super::tlog::checkpoint,
        super::tlog::tile,
        super::api::proofs::receipt,
        super::api::proofs::consistency,
        super::api::proofs::proof,
        super::api::proofs::export,
        super::api::lines::list,
        super::api::stories::show,
        super::api::drops::ask,
        super::api::drops::show,
        super::api::drops::approve,
        super::api::calls::list,
        super::api::kits::report,
        super::api::break_glass::list,
        super::api::break_glass::ask,
        super::api::break_glass::show,
        super::api::break_glass::approve,
        super::api::break_glass::deny,
        super::api::break_glass::cancel,
        super::api::break_glass::revoke,
        super::api::break_glass::review,
        super::api::elevated::create,
        super::api::elevated::report,
    ),
    security(("dpop" = []))
)]
struct Description;

/// The description as pretty JSON with a final newline.
#[must_use]
pub fn document() -> String {
    let mut description = Description::openapi();
    if let Some(components) = description.components.as_mut() {
        // OpenAPI knows no DPoP; the header is what a client sends
        let header = ApiKeyValue::with_description("Authorization", "`DPoP <token>`, with a `DPoP` header beside it");
        let scheme = SecurityScheme::ApiKey(ApiKey::Header(header));
        components.add_security_scheme("dpop", scheme);
    }
    // what any of them may say: too many requests, something is out, a lock, a clash
    let mut problem = Response::new("any other problem; its code says which");
    problem.content.insert(MEDIA_TYPE.into(), Content::new(Some(Ref::from_schema_name(Problem::name()))));
    for path in description.paths.paths.values_mut() {
        for operation in [&mut path.get, &mut path.post].into_iter().flatten() {
            operation.responses.responses.insert("default".into(), RefOr::T(problem.clone()));
        }
    }
    let mut text = description.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{api, tlog};

    #[test]
    fn every_route_is_described_with_what_goes_wrong() {
        let described: serde_json::Value = serde_json::from_str(&document()).unwrap();
        let api = api::ROUTES.iter().map(|route| (route.method, route.path));
        let tlog = tlog::ROUTES.iter().map(|route| (route.method, route.path));
        for (method, path) in api.chain(tlog) {
            let operation = &described["paths"][path.replace("{*", "{")][method.to_lowercase()];
            assert!(operation["responses"]["default"]["content"][MEDIA_TYPE].is_object(), "{method} {path}");
        }
    }
}
