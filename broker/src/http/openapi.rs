//! The API's description, generated from the handlers. `docs/openapi.json` is this, committed; a test compares the two.

use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};

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
    let mut text = description.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
