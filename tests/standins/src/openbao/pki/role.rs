//! A role: what may be signed in its name.

use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::super::sys::duration;

/// The fields of a role, with the values that the real engine fills in.
#[derive(Clone)]
pub(super) struct Role(Map<String, Value>);

/// Fields that hold a duration and are told in seconds.
const DURATIONS: [&str; 3] = ["ttl", "max_ttl", "not_before_duration"];

/// Fields that hold a list, and may be given as text with commas.
const LISTS: [&str; 7] =
    ["organization", "ou", "key_usage", "ext_key_usage", "ext_key_usage_oids", "allowed_domains", "allowed_uri_sans"];

// === impl Role ===

impl Role {
    /// The role that `body` describes, and the names of what it says that a role has not.
    pub(super) fn new(body: &Value) -> (Self, Vec<String>) {
        let mut fields = defaults();
        let mut unknown = Vec::new();
        for (name, value) in body.as_object().into_iter().flatten() {
            if !fields.contains_key(name) {
                unknown.push(name.clone());
            } else if DURATIONS.contains(&name.as_str()) {
                let seconds = duration(value).map_or(0, |span| span.as_secs());
                fields.insert(name.clone(), json!(seconds));
            } else if let (true, Some(text)) = (LISTS.contains(&name.as_str()), value.as_str()) {
                let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
                fields.insert(name.clone(), json!(parts));
            } else {
                fields.insert(name.clone(), value.clone());
            }
        }
        unknown.sort();
        if body.get("key_bits").is_none() {
            match fields.get("key_type").and_then(Value::as_str) {
                Some("any" | "ed25519") => fields.insert("key_bits".into(), json!(0)),
                Some("ec") => fields.insert("key_bits".into(), json!(256)),
                _ => None,
            };
        }
        (Self(fields), unknown)
    }

    pub(super) fn told(&self) -> Value {
        Value::Object(self.0.clone())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let items = self.0.get(name).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Zero where it is not set.
    pub(super) fn span(&self, name: &str) -> SignedDuration {
        SignedDuration::from_secs(self.0.get(name).and_then(Value::as_i64).unwrap_or_default())
    }

    /// Whether a name may stand in a certificate: any, or one of the allowed domains, exactly or (where allowed) below.
    pub(super) fn allows_name(&self, name: &str) -> bool {
        let allowed = self.list("allowed_domains");
        self.flag("allow_any_name")
            || (self.flag("allow_localhost") && matches!(name, "localhost" | "localdomain"))
            || (self.flag("allow_bare_domains") && allowed.iter().any(|domain| domain == name))
            || (self.flag("allow_subdomains") && allowed.iter().any(|domain| name.ends_with(&format!(".{domain}"))))
    }
}

/// What the real engine fills in.
const DEFAULTS: &str = r#"{
    "allow_any_name": false, "allow_bare_domains": false, "allow_glob_domains": false,
    "allow_globs_in_identity_templates": false, "allow_ip_sans": true, "allow_localhost": true,
    "allow_subdomains": false, "allow_token_displayname": false, "allow_wildcard_certificates": true,
    "allowed_domains": [], "allowed_domains_template": false, "allowed_ip_sans_cidr": [], "allowed_other_sans": [],
    "allowed_serial_numbers": [], "allowed_uri_sans": [], "allowed_uri_sans_template": false, "allowed_user_ids": [],
    "basic_constraints_valid_for_non_ca": false, "client_flag": true, "cn_validations": ["email", "hostname"],
    "code_signing_flag": false, "country": [], "email_protection_flag": false, "enforce_hostnames": true,
    "ext_key_usage": [], "ext_key_usage_oids": [], "generate_lease": false, "issuer_ref": "default", "key_bits": 2048,
    "key_type": "rsa", "key_usage": ["DigitalSignature", "KeyAgreement", "KeyEncipherment"], "locality": [],
    "max_ttl": 0, "no_store": false, "not_after": "", "not_after_bound": "permit", "not_before": "",
    "not_before_bound": "permit", "not_before_duration": 30, "organization": [], "ou": [], "policy_identifiers": [],
    "postal_code": [], "province": [], "require_cn": true, "server_flag": true, "signature_bits": 0,
    "street_address": [], "ttl": 0, "use_csr_common_name": true, "use_csr_sans": true, "use_pss": false
}"#;

fn defaults() -> Map<String, Value> {
    serde_json::from_str(DEFAULTS).unwrap_or_default()
}
