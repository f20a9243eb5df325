//! What a call asks for: the signing request, and names beside it.

use std::net::IpAddr;

use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension};

use super::super::answer::Answer;
use super::super::call::Call;
use super::role::Role;
use super::shape::Names;

/// What is read from a signing request.
pub(super) struct Csr {
    pub(super) subject: Vec<u8>,
    pub(super) common_name: String,
    pub(super) key: Vec<u8>,
    pub(super) key_type: &'static str,
    pub(super) names: Names,
}

// === impl Csr ===

impl Csr {
    pub(super) fn read(call: &Call) -> Result<Self, Answer> {
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
            key_type: match info.subject_pki.algorithm.algorithm.to_id_string().as_str() {
                "1.2.840.113549.1.1.1" => "rsa",
                "1.2.840.10045.2.1" => "ec",
                "1.3.101.112" => "ed25519",
                _ => "another",
            },
            names,
        })
    }
}

/// The names that the call asks for, which a role refuses only where it names what it allows.
pub(super) fn asked_names(call: &Call, role: &Role) -> Result<Names, Answer> {
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

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets).map(IpAddr::from).ok().or_else(|| <[u8; 16]>::try_from(octets).map(IpAddr::from).ok())
}
