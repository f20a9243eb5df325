//! The engine PKI: roles, and certificates that they shape.

mod role;
mod shape;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension};

use super::answer::Answer;
use super::call::{Call, Verb, no_path};
use super::sys::duration;
use crate::authority::{Authority, pem};
use role::Role;
use shape::Names;

/// What a mount without tuning allows at most: 32 days.
const MOUNT_MAX_TTL: SignedDuration = SignedDuration::from_hours(768);

/// The roles of one mount, and its CA.
pub(super) struct Pki {
    authority: Arc<Authority>,
    roles: BTreeMap<String, Role>,
}

/// What is read from a signing request.
struct Csr {
    subject: Vec<u8>,
    common_name: String,
    key: Vec<u8>,
    names: Names,
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

/// A validity, and what had to be clamped for it.
struct Life {
    not_before: Timestamp,
    not_after: Timestamp,
    warnings: Vec<String>,
}

// === impl Pki ===

impl Pki {
    pub(super) fn new(authority: Arc<Authority>) -> Self {
        Self { authority, roles: BTreeMap::new() }
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
                "issuer_id": "7cc80ed1-3b5c-9ffc-850e-0d2ae05da60e", "issuer_name": "",
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
        let life = life(role, call, now)?;
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

// === impl Csr ===

impl Csr {
    fn read(call: &Call) -> Result<Self, Answer> {
        let text = call.text("csr");
        if text.is_empty() {
            return Err(Answer::bad("\"csr\" is empty"));
        }
        let Ok(der) = CertificateSigningRequestDer::from_pem_slice(text.as_bytes()) else {
            return Err(Answer::bad("csr contains no data"));
        };
        let unreadable = || Answer::bad("certificate request could not be parsed");
        let (_, csr) = X509CertificationRequest::from_der(&der).map_err(|_| unreadable())?;
        csr.verify_signature().map_err(|_| Answer::bad("request signature invalid"))?;
        let info = &csr.certification_request_info;
        let mut names = Names::default();
        for extension in csr.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(listed) = extension else { continue };
            for name in &listed.general_names {
                match name {
                    GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                    GeneralName::IPAddress(octets) => names.addresses.extend(address(octets)),
                    _ => {}
                }
            }
        }
        let common_name = info.subject.iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(Self {
            subject: info.subject.as_raw().to_vec(),
            common_name: common_name.unwrap_or_default().to_owned(),
            key: info.subject_pki.raw.to_vec(),
            names,
        })
    }
}

/// The names that the call asks for, which a role refuses only where it names what it allows.
fn asked_names(call: &Call, role: &Role) -> Result<Names, Answer> {
    let listed = |name: &str| -> Vec<String> {
        let joined = match call.body.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        joined.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let addresses: Vec<IpAddr> = listed("ip_sans").iter().filter_map(|text| text.parse().ok()).collect();
    if !addresses.is_empty() && !role.flag("allow_ip_sans") {
        return Err(Answer::bad(
            "IP Subject Alternative Names are not allowed in this role, but was provided via the API",
        ));
    }
    if !listed("uri_sans").is_empty() {
        return Err(Answer::bad(
            "URI Subject Alternative Names are not allowed in this role, but were provided via the API",
        ));
    }
    Ok(Names { dns: listed("alt_names"), addresses })
}

/// The validity: a too long `ttl` is clamped, `not_after` beats `max_ttl` unless the role bounds it, and it all begins
/// `not_before_duration` ago.
fn life(role: &Role, call: &Call, now: Timestamp) -> Result<Life, Answer> {
    let mut warnings = Vec::new();
    let max = match role.span("max_ttl") {
        SignedDuration::ZERO => MOUNT_MAX_TTL,
        max => max,
    };
    let asked = call.body.get("ttl").and_then(duration).filter(|ttl| !ttl.is_zero());
    let mut ttl = asked.unwrap_or_else(|| role.span("ttl"));
    if ttl.is_zero() {
        ttl = max;
    }
    if ttl > max {
        warnings.push(format!(
            "TTL \"{}\" is longer than permitted maxTTL \"{}\", so maxTTL is being used",
            go_duration(ttl),
            go_duration(max)
        ));
        ttl = max;
    }
    let mut not_after = now.saturating_add(ttl).unwrap_or(Timestamp::MAX);
    if let Some(fixed) = call.body.get("not_after").and_then(Value::as_str).filter(|fixed| !fixed.is_empty()) {
        let limit = now.saturating_add(max).unwrap_or(Timestamp::MAX);
        let fixed: Timestamp = fixed.parse().map_err(|_| Answer::bad("not_after is no time"))?;
        not_after = match role.text("not_after_bound") {
            "forbid" => return Err(Answer::bad("not_after_bound is set to forbid. not_after cannot be provided.")),
            "ttl-limited" => fixed.min(limit),
            _ => fixed,
        };
    }
    let not_before = now.saturating_sub(role.span("not_before_duration")).unwrap_or(now);
    Ok(Life { not_before, not_after, warnings })
}

fn ignored(unknown: Vec<String>) -> Vec<String> {
    if unknown.is_empty() {
        return Vec::new();
    }
    vec![format!("Endpoint ignored these unrecognized parameters: [{}]", unknown.join(" "))]
}

/// As Go writes a duration: `1h0m0s`, `1m30s`, `30s`.
pub(super) fn go_duration(span: SignedDuration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets).map(IpAddr::from).ok().or_else(|| <[u8; 16]>::try_from(octets).map(IpAddr::from).ok())
}

/// The serial number as the API tells it: octets in hex with colons.
fn serial(der: &[u8]) -> String {
    let Ok((_, certificate)) = x509_parser::certificate::X509Certificate::from_der(der) else { return String::new() };
    certificate.raw_serial().iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":")
}
