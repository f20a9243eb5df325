//! OpenTelemetry logs over HTTP, in the JSON encoding of OTLP 1.

use ichor_wire::api::AuditEntry;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{ForwardError, http};

/// A collector.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Where it is; `/v1/logs` is added where there is no path.
    pub url: Url,
    /// The CA of its certificate, PEM, and then no other.
    pub ca: Option<Vec<u8>>,
    /// The bearer token.
    pub token: Option<SecretString>,
}

/// The way to it.
pub(super) struct Otlp {
    http: reqwest::Client,
    url: Url,
    token: Option<SecretString>,
}

/// `ExportLogsServiceResponse`, as far as it matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    partial_success: Partial,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Partial {
    /// A 64-bit number, which JSON may have as a text.
    rejected_log_records: Value,
    error_message: String,
}

// === impl Otlp ===

impl Otlp {
    pub(super) fn new(collector: Collector) -> Result<Self, ForwardError> {
        let http = http::client(&collector.url, collector.ca.as_deref())?;
        let mut url = collector.url;
        if url.path() == "/" {
            url.set_path("/v1/logs");
        }
        Ok(Self { http, url, token: collector.token })
    }

    /// Returns once the collector said that it took every entry. One that took only some is asked again with all of them:
    /// here an entry that is left out is worse than one that comes twice.
    pub(super) async fn send(&self, log: &str, entries: &[AuditEntry]) -> Result<(), ForwardError> {
        let mut request = self.http.post(self.url.clone()).json(&logs(log, entries));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let http::Answered { status, body, .. } = http::send(request, "the collector").await?;
        if status.as_u16() != 200 {
            return Err(ForwardError(format!("the collector answers {}", status.as_u16())));
        }
        // a login page of a proxy is a 200 too
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| ForwardError("what answers 200 is no collector of OpenTelemetry logs".into()))?;
        let partial = answer.partial_success;
        let rejected = match &partial.rejected_log_records {
            Value::Null => 0,
            Value::String(text) => text.parse().unwrap_or(u64::MAX),
            number => number.as_u64().unwrap_or(u64::MAX),
        };
        if rejected > 0 {
            let why: String = partial.error_message.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(ForwardError(format!("the collector rejects {rejected} of {} entries: {why}", entries.len())));
        }
        Ok(())
    }
}

/// `ExportLogsServiceRequest`: the body of each record is the entry as the API has it, its attributes what people look for; those of all
/// name the log.
fn logs(log: &str, entries: &[AuditEntry]) -> Value {
    let text = |value: &str| json!({ "stringValue": value });
    let records: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let attribute = |key: &str, value: Option<String>| Some(json!({ "key": key, "value": text(&value?) }));
            let attributes = [
                Some(json!({ "key": "ichor.index", "value": { "intValue": entry.index.to_string() } })),
                attribute("ichor.id", Some(entry.id.to_string())),
                attribute("ichor.kind", Some(entry.kind.clone())),
                attribute("ichor.leaf_hash", Some(entry.leaf_hash.clone())),
                attribute("ichor.cluster", entry.cluster.clone()),
                attribute("ichor.grant", entry.grant_id.map(|id| id.to_string())),
                attribute("session.id", entry.session_id.map(|id| id.to_string())),
                attribute("user.name", entry.user.clone()),
                attribute("user.id", entry.subject.clone()),
                attribute("client.address", entry.detail.get("address").cloned()),
            ];
            let is_bad = matches!(entry.kind.as_str(), "refusal" | "login-refused" | "issue-failed" | "node-alarm");
            json!({
                "timeUnixNano": entry.time.as_nanosecond().max(0).to_string(),
                "severityNumber": if is_bad { 13 } else { 9 },
                "severityText": if is_bad { "WARN" } else { "INFO" },
                "eventName": format!("ichor.audit.{}", entry.kind),
                "body": text(&serde_json::to_string(entry).unwrap_or_default()),
                "attributes": attributes.into_iter().flatten().collect::<Vec<_>>(),
            })
        })
        .collect();
    let service = json!([
        { "key": "service.name", "value": text("ichor-broker") },
        { "key": "ichor.log", "value": text(log) },
    ]);
    json!({ "resourceLogs": [{
        "resource": { "attributes": service },
        "scopeLogs": [{ "scope": { "name": "ichor.audit" }, "logRecords": records }],
    }] })
}
