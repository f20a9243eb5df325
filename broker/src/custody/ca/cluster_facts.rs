//! The public facts of a cluster, from a file that someone has: a talosconfig or a machine config.

use ichor_wire::profile::pem::{self, PemError};
use url::Url;

use super::documents::{self, Context, Document, DocumentError};

/// Endpoints, nodes and the CA certificate that nodes present themselves with. Nothing secret is taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Endpoints, as a talosconfig has them.
    pub endpoints: Vec<String>,
    /// Nodes, if the file declares any.
    pub nodes: Vec<String>,
    /// The CA certificates, PEM; only certificates, whatever else stood beside them.
    pub ca_pem: String,
}

/// Why a file gave no facts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// The YAML cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The CA certificate cannot be read.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Neither a talosconfig nor a machine config.
    #[error("this is neither a talosconfig nor a machine config")]
    Unknown,
    /// No such context.
    #[error("the talosconfig has no context `{wanted}`; it has: {there}")]
    NoContext {
        /// The one asked for.
        wanted: String,
        /// Those that are there.
        there: String,
    },
    /// Several contexts, none chosen.
    #[error("the talosconfig has several contexts and none is current; name one of: {0}")]
    Choose(String),
    /// No CA certificate in it.
    #[error("the file holds no CA certificate; take another, or give the certificate on its own")]
    NoCa,
}

// === impl ClusterFacts ===

impl ClusterFacts {
    /// Reads a talosconfig (`context`, else its current one, else its only one) or a machine config.
    ///
    /// Of a machine config the host of `cluster.controlPlane.endpoint` is taken as endpoint: it is where Kubernetes answers,
    /// and often a load balancer, so an operator should look at it.
    ///
    /// # Errors
    /// When it is neither, or holds no CA certificate.
    pub fn read(text: &str, context: Option<&str>) -> Result<Self, FactsError> {
        let documents = documents::read(text)?;
        if let Some(document) = documents.iter().find(|d| d.contexts.is_some()) {
            return Self::of_context(chosen(document, context)?);
        }
        let machine = documents.iter().find_map(|d| d.machine.as_ref()).ok_or(FactsError::Unknown)?;
        let ca = machine.ca.as_ref().and_then(|ca| ca.crt.as_deref());
        let endpoint = documents.iter().find_map(|d| d.cluster.as_ref()?.control_plane.as_ref()?.endpoint.as_deref());
        let host = endpoint.and_then(|e| Url::parse(e).ok()).and_then(|url| url.host_str().map(str::to_owned));
        Ok(Self { endpoints: host.into_iter().collect(), nodes: Vec::new(), ca_pem: certificates(ca)? })
    }

    fn of_context(context: &Context) -> Result<Self, FactsError> {
        Ok(Self {
            endpoints: context.endpoints.clone().unwrap_or_default(),
            nodes: context.nodes.clone().unwrap_or_default(),
            ca_pem: certificates(context.ca.as_deref())?,
        })
    }
}

/// The context `wanted` of a talosconfig, else its current one, else its only one.
pub(super) fn chosen<'a>(document: &'a Document, wanted: Option<&str>) -> Result<&'a Context, FactsError> {
    let contexts = document.contexts.iter().flatten().collect::<Vec<_>>();
    choose(&contexts, wanted.or(document.context.as_deref()))
}

fn choose<'a>(contexts: &[(&'a String, &'a Context)], wanted: Option<&str>) -> Result<&'a Context, FactsError> {
    let there = || contexts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    match (wanted.filter(|w| !w.is_empty()), contexts) {
        (Some(wanted), _) => contexts
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, context)| *context)
            .ok_or_else(|| FactsError::NoContext { wanted: wanted.to_owned(), there: there() }),
        (None, [(_, only)]) => Ok(only),
        (None, _) => Err(FactsError::Choose(there())),
    }
}

/// Only the certificates of the field: `machine.ca.crt` should hold nothing else, but this is written to public places.
fn certificates(base64: Option<&str>) -> Result<String, FactsError> {
    let base64 = base64.filter(|text| !text.is_empty()).ok_or(FactsError::NoCa)?;
    let text = documents::pem_text("ca", base64)?;
    let blocks = pem::blocks(&text)?;
    let certificates = blocks.iter().filter(|block| block.label == "CERTIFICATE");
    let pem: String = certificates.map(|block| pem::encode("CERTIFICATE", &block.der).to_string()).collect();
    if pem.is_empty() { Err(FactsError::NoCa) } else { Ok(pem) }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    fn ca() -> String {
        pem::encode("CERTIFICATE", &[0x30; 70]).to_string()
    }

    #[test]
    fn reads_a_talosconfig() {
        let ca64 = BASE64.encode(ca().as_bytes());
        let text = format!(
            "context: prod\ncontexts:\n  prod:\n    endpoints: [10.0.0.2, 10.0.0.3]\n    nodes: [10.0.0.5]\n    ca: {ca64}\n    crt: AAAA\n    key: c2VjcmV0\n  other:\n    endpoints: [a]\n    ca: {ca64}\n  roots:\n    endpoints: [b]\n"
        );
        let facts = ClusterFacts::read(&text, None).unwrap();
        assert_eq!(facts.endpoints, ["10.0.0.2", "10.0.0.3"]);
        assert_eq!(facts.nodes, ["10.0.0.5"]);
        assert_eq!(facts.ca_pem, ca());
        assert_eq!(ClusterFacts::read(&text, Some("other")).unwrap().endpoints, ["a"]);
        assert!(matches!(ClusterFacts::read(&text, Some("x")), Err(FactsError::NoContext { .. })));
        assert_eq!(ClusterFacts::read(&text, Some("roots")), Err(FactsError::NoCa));
        let none_current = text.replace("context: prod\n", "");
        assert_eq!(ClusterFacts::read(&none_current, None), Err(FactsError::Choose("other, prod, roots".into())));
    }

    #[test]
    fn reads_a_machine_config_and_takes_no_key() {
        let both = format!("{}{}", ca(), *pem::encode("ED25519 PRIVATE KEY", b"secret"));
        let text = format!(
            "machine:\n  type: controlplane\n  ca:\n    crt: {}\n    key: AAAA\ncluster:\n  controlPlane:\n    endpoint: https://10.0.0.9:6443\n---\nkind: HostnameConfig\n",
            BASE64.encode(both.as_bytes())
        );
        let facts = ClusterFacts::read(&text, None).unwrap();
        assert_eq!(facts, ClusterFacts { endpoints: vec!["10.0.0.9".into()], nodes: vec![], ca_pem: ca() });
        assert_eq!(ClusterFacts::read("a: 1\n", None), Err(FactsError::Unknown));
    }
}
