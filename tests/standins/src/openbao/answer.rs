//! What is answered, in the shapes that the real server uses.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::random;

/// A status with a body.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    pub(super) location: Option<String>,
}

// === impl Answer ===

impl Answer {
    /// 200 with `data`.
    pub(super) fn data(data: Value) -> Self {
        Self::whole(StatusCode::OK, data, Value::Null, Vec::new())
    }

    /// 200 with `data` and warnings.
    pub(super) fn warned(data: Value, warnings: Vec<String>) -> Self {
        Self::whole(StatusCode::OK, data, Value::Null, warnings)
    }

    /// 200 with an `auth` block.
    pub(super) fn auth(auth: Value, warnings: Vec<String>) -> Self {
        Self::whole(StatusCode::OK, Value::Null, auth, warnings)
    }

    /// 404 that carries `data` all the same: a secret's version that was deleted.
    pub(super) fn gone(data: Value) -> Self {
        Self::whole(StatusCode::NOT_FOUND, data, Value::Null, Vec::new())
    }

    /// 200 with `data` both as `data` and at the top, as most of `sys/` answers.
    pub(super) fn system(data: Map<String, Value>) -> Self {
        let mut body = data.clone();
        if let Value::Object(rest) = envelope(Value::Object(data), Value::Null, Vec::new()) {
            body.extend(rest);
        }
        Self::json(StatusCode::OK, &Value::Object(body))
    }

    /// A body without the usual frame.
    pub(super) fn bare(status: StatusCode, body: &Value) -> Self {
        Self::json(status, body)
    }

    /// A body that is not JSON.
    pub(super) fn text(content_type: &'static str, text: &str) -> Self {
        Self { status: StatusCode::OK, content_type, body: text.as_bytes().to_vec(), location: None }
    }

    /// 204.
    pub(super) fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT, content_type: "application/json", body: Vec::new(), location: None }
    }

    /// 307 to the active node.
    pub(super) fn elsewhere(url: String) -> Self {
        Self { status: StatusCode::TEMPORARY_REDIRECT, location: Some(url), ..Self::empty() }
    }

    /// 404 without a reason.
    pub(super) fn missing() -> Self {
        Self::json(StatusCode::NOT_FOUND, &json!({ "errors": [] }))
    }

    /// 400.
    pub(super) fn bad(reason: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, reason)
    }

    /// 500 in the form that errors of an engine take.
    pub(super) fn failed(reason: &str) -> Self {
        Self::error(StatusCode::INTERNAL_SERVER_ERROR, one_error(reason))
    }

    /// 403: the token is good, and may not.
    pub(super) fn denied() -> Self {
        Self::error(StatusCode::FORBIDDEN, one_error("permission denied"))
    }

    /// 403: no token, or one that is expired, revoked or unknown.
    pub(super) fn bad_token() -> Self {
        Self::error(StatusCode::FORBIDDEN, "permission denied")
    }

    /// A status with a reason. Such bodies carry no request id, and no header has it either.
    pub(super) fn error(status: StatusCode, reason: impl Into<String>) -> Self {
        Self::json(status, &json!({ "errors": [reason.into()] }))
    }

    fn whole(status: StatusCode, data: Value, auth: Value, warnings: Vec<String>) -> Self {
        Self::json(status, &envelope(data, auth, warnings))
    }

    fn json(status: StatusCode, body: &Value) -> Self {
        // The real server ends its bodies with a newline.
        Self { status, content_type: "application/json", body: format!("{body}\n").into_bytes(), location: None }
    }
}

fn envelope(data: Value, auth: Value, warnings: Vec<String>) -> Value {
    json!({
        "request_id": request_id(),
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": data,
        "wrap_info": null,
        "warnings": if warnings.is_empty() { Value::Null } else { json!(warnings) },
        "auth": auth,
    })
}

fn one_error(reason: &str) -> String {
    format!("1 error occurred:\n\t* {reason}\n\n")
}

/// A random id in the shape of a UUID.
pub(super) fn request_id() -> String {
    let octets = random::bytes::<16>().unwrap_or_default();
    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let parts = [hex.get(..8), hex.get(8..12), hex.get(12..16), hex.get(16..20), hex.get(20..)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("-")
}
