//! The engine PKI: roles, and certificates that they shape.

mod life;
mod request;
mod role;
mod shape;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;

use super::answer::Answer;
use super::call::{Call, Verb, no_path};
use crate::authority::{Authority, pem};
use life::{Life, life};
use request::{Csr, asked_names};
use role::Role;
use shape::Names;

/// What `sign` may be told. Whatever else a call says is passed over, with a warning.
const PARAMETERS: [&str; 16] = [
    "csr",
    "ttl",
    "common_name",
    "alt_names",
    "ip_sans",
    "uri_sans",
    "other_sans",
    "user_ids",
    "serial_number",
    "not_after",
    "not_before",
    "exclude_cn_from_sans",
    "format",
    "private_key_format",
    "remove_roots_from_chain",
    "issuer_ref",
];

/// The roles of one mount, and its CA.
pub(super) struct Pki {
    authority: Arc<Authority>,
    roles: BTreeMap<String, Role>,
    /// What someone called the one issuer.
    issuer_name: String,
}

/// What is to be signed.
struct Wanted {
    subject: Vec<u8>,
    key: Vec<u8>,
    key_usage: Vec<String>,
    extended_usage: Vec<String>,
    names: Names,
    not_a_ca: bool,
}

/// The one issuer's id.
pub const ISSUER_ID: &str = "7cc80ed1-3b5c-9ffc-850e-0d2ae05da60e";

// === impl Pki ===

impl Pki {
    pub(super) fn new(authority: Arc<Authority>) -> Self {
        Self { authority, roles: BTreeMap::new(), issuer_name: String::new() }
    }

    pub(super) fn name_issuer(&mut self, name: &str) {
        name.clone_into(&mut self.issuer_name);
    }

    pub(super) fn ca(&self) -> String {
        self.authority.certificate()
    }

    pub(super) fn answer(&mut self, call: &Call, rest: &str, now: Timestamp) -> Answer {
        match (rest, call.verb) {
            ("ca/pem", Verb::Read) => Answer::text("application/pem-certificate-chain", &self.ca()),
            ("cert/ca", Verb::Read) => {
                let certificate = self.ca();
                let certificate = certificate.trim_end();
                Answer::data(json!({ "certificate": certificate, "revocation_time": 0, "revocation_time_rfc3339": "" }))
            }
            ("issuer/default/json" | "issuer/default", Verb::Read) => Answer::data(json!({
                "ca_chain": [self.ca()], "certificate": self.ca(),
                "issuer_id": ISSUER_ID, "issuer_name": self.issuer_name,
            })),
            ("roles", Verb::List) if self.roles.is_empty() => Answer::missing(),
            ("roles", Verb::List) => Answer::data(json!({ "keys": self.roles.keys().collect::<Vec<_>>() })),
            _ => match rest.split_once('/').unwrap_or((rest, "")) {
                ("roles", name) => self.role(call, name),
                ("sign", name) if call.verb == Verb::Write => self.sign(call, name, now),
                ("sign-verbatim", name) if call.verb == Verb::Write => self.sign_verbatim(call, name, now),
                _ => no_path(),
            },
        }
    }

    fn role(&mut self, call: &Call, name: &str) -> Answer {
        match call.verb {
            Verb::Read => self.roles.get(name).map_or_else(Answer::missing, |role| Answer::data(role.told())),
            Verb::Write => {
                let (role, unknown) = Role::new(&call.body);
                let told = role.told();
                self.roles.insert(name.to_owned(), role);
                Answer::warned(told, ignored(unknown))
            }
            Verb::Delete => {
                self.roles.remove(name);
                Answer::empty()
            }
            Verb::List => no_path(),
        }
    }

    fn sign(&self, call: &Call, name: &str, now: Timestamp) -> Answer {
        let Some(role) = self.roles.get(name) else { return Answer::bad(format!("unknown role: {name}")) };
        self.signed_by(role, call, now).unwrap_or_else(|refused| refused)
    }

    fn signed_by(&self, role: &Role, call: &Call, now: Timestamp) -> Result<Answer, Answer> {
        let csr = Csr::read(call)?;
        let wanted = role.text("key_type");
        if wanted != "any" && wanted != csr.key_type {
            return Err(Answer::bad(format!("role requires keys of type {wanted}")));
        }
        let from_csr = role.flag("use_csr_common_name") && !csr.common_name.is_empty();
        let common_name = if from_csr { &csr.common_name } else { call.text("common_name") };
        if common_name.is_empty() && role.flag("require_cn") {
            return Err(Answer::bad(
                "the common_name field is required, or must be provided in a CSR with \"use_csr_common_name\" set to true, \
                 unless \"require_cn\" is set to false",
            ));
        }
        if !common_name.is_empty() && !role.allows_name(common_name) {
            return Err(Answer::bad(format!("common name {common_name} not allowed by this role")));
        }
        let mut names = if role.flag("use_csr_sans") { csr.names } else { asked_names(call, role)? };
        if let Some(name) = names.dns.iter().find(|name| !role.allows_name(name)) {
            return Err(Answer::bad(format!("subject alternate name {name} not allowed by this role")));
        }
        let excluded = call.body.get("exclude_cn_from_sans").and_then(Value::as_bool).unwrap_or_default();
        if !excluded && !common_name.is_empty() && !names.dns.iter().any(|name| name == common_name) {
            names.dns.push(common_name.to_owned());
        }
        let flags = [
            ("server_flag", "ServerAuth"),
            ("client_flag", "ClientAuth"),
            ("code_signing_flag", "CodeSigning"),
            ("email_protection_flag", "EmailProtection"),
        ];
        let flagged = flags.into_iter().filter(|(flag, _)| role.flag(flag)).map(|(_, purpose)| purpose.to_owned());
        let mut extended_usage: Vec<String> = flagged.collect();
        extended_usage.extend(role.list("ext_key_usage"));
        let mut life = life(role, call, now)?;
        let asked = call.body.as_object().into_iter().flatten().map(|(name, _)| name.clone());
        let mut unknown: Vec<String> = asked.filter(|name| !PARAMETERS.contains(&name.as_str())).collect();
        unknown.sort();
        life.warnings.extend(ignored(unknown));
        let wanted = Wanted {
            subject: shape::subject(&role.list("organization"), common_name),
            key: csr.key,
            key_usage: role.list("key_usage"),
            extended_usage,
            names,
            not_a_ca: role.flag("basic_constraints_valid_for_non_ca"),
        };
        self.certificate(wanted, life)
    }

    /// The trap: subject and names as the request wants them, and an extended key usage only where the call names one.
    fn sign_verbatim(&self, call: &Call, name: &str, now: Timestamp) -> Answer {
        let (plain, _) = Role::new(&json!({ "not_before_duration": 30 }));
        let role = self.roles.get(name).unwrap_or(&plain);
        let signed = Csr::read(call).and_then(|csr| {
            let listed = |field: &str| call.body.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
            let texts =
                |values: Vec<Value>| values.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
            let key_usage = texts(listed("key_usage"));
            let wanted = Wanted {
                subject: csr.subject,
                key: csr.key,
                key_usage: if key_usage.is_empty() { plain.list("key_usage") } else { key_usage },
                extended_usage: texts(listed("ext_key_usage")),
                names: csr.names,
                not_a_ca: false,
            };
            self.certificate(wanted, life(role, call, now)?)
        });
        signed.unwrap_or_else(|refused| refused)
    }

    fn certificate(&self, wanted: Wanted, life: Life) -> Result<Answer, Answer> {
        let mut extensions: Vec<Vec<u8>> = Vec::new();
        extensions.extend(shape::key_usage(&wanted.key_usage));
        extensions.extend(shape::extended_usage(&wanted.extended_usage));
        extensions.extend(wanted.not_a_ca.then(shape::not_a_ca));
        extensions.extend(shape::identifiers(&wanted.key, self.authority.key_id()));
        extensions.extend(shape::alternative_names(&wanted.names));
        let signed = self.authority.sign(&wanted.subject, (life.not_before, life.not_after), wanted.key, extensions);
        let der = signed.map_err(|error| Answer::failed(&error.to_string()))?;
        let ca = self.ca();
        let data = json!({
            "ca_chain": [ca.trim_end()],
            "certificate": pem("CERTIFICATE", &der).trim_end(),
            "expiration": life.not_after.as_second(),
            "issuing_ca": ca.trim_end(),
            "not_before": life.not_before.as_second(),
            "serial_number": serial(&der),
        });
        Ok(Answer::warned(data, life.warnings))
    }
}

fn ignored(unknown: Vec<String>) -> Vec<String> {
    if unknown.is_empty() {
        return Vec::new();
    }
    vec![format!("Endpoint ignored these unrecognized parameters: [{}]", unknown.join(" "))]
}

/// The serial number as the API tells it: octets in hex with colons.
fn serial(der: &[u8]) -> String {
    let Ok((_, certificate)) = x509_parser::certificate::X509Certificate::from_der(der) else { return String::new() };
    certificate.raw_serial().iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":")
}
