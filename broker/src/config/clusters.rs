//! Cluster files: `clusters/<name>.toml`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ichor_wire::talosconfig::is_endpoint;
use serde::Deserialize;

use super::ConfigError;
use super::folder::read_toml;
use crate::domain::{Cluster, ClusterName, Clusters};

/// One cluster, public facts only. The file's name is the cluster's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    /// Endpoints as a talosconfig has them: `host`, `host:port` or `https://host`.
    pub endpoints: Vec<String>,
    /// Default nodes for new talosconfig contexts. Optional.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// The CA certificate that the nodes' own certificates come from, PEM: what a talosconfig calls `ca`.
    pub ca: String,
    /// Labels that policies speak of, as `env = "prod"`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// All clusters of a folder, as one value.
///
/// # Errors
/// On the first file that is not a cluster: then nothing is loaded.
pub fn load_clusters(folder: &Path) -> Result<Clusters, ConfigError> {
    let mut clusters = BTreeMap::new();
    for path in super::folder::files(folder, "toml")? {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = ClusterName::new(stem).map_err(|bad| ConfigError::Value {
            path: path.clone(),
            key: "the file's name".into(),
            why: bad.to_string(),
        })?;
        let cluster = cluster(&path, name.clone(), read_toml(&path)?)?;
        clusters.insert(name, Arc::new(cluster));
    }
    Ok(Arc::new(clusters))
}

/// Checks the text of a cluster's file before it is written.
///
/// # Errors
/// When it would not load.
pub fn check_cluster(name: &ClusterName, text: &str) -> Result<(), ConfigError> {
    let path = Path::new("new cluster file");
    cluster(path, name.clone(), super::folder::decode(path, text)?).map(drop)
}

fn cluster(path: &Path, name: ClusterName, file: ClusterFile) -> Result<Cluster, ConfigError> {
    let value = |key: &str, why: String| ConfigError::Value { path: path.into(), key: key.into(), why };
    if file.endpoints.is_empty() {
        return Err(value("endpoints", "name at least one endpoint".into()));
    }
    for (key, target) in file.endpoints.iter().map(|e| ("endpoints", e)).chain(file.nodes.iter().map(|n| ("nodes", n)))
    {
        check_target(target).map_err(|why| value(key, why))?;
    }
    for (key, text) in &file.labels {
        if key.is_empty() || key.contains('=') || text.chars().chain(key.chars()).any(char::is_control) {
            return Err(value("labels", format!("`{key}` cannot be a label: a label's name has no `=`")));
        }
    }
    check_bundle(&file.ca).map_err(|why| value("ca", why))?;
    Ok(Cluster { name, labels: file.labels, endpoints: file.endpoints, nodes: file.nodes, ca: file.ca })
}

/// The text of a cluster's file, with comments.
#[must_use]
pub fn render_cluster(cluster: &Cluster) -> String {
    let list = |items: &[String]| items.iter().map(|item| quote(item)).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "# Cluster `{}`. Reloaded when it changes.\nendpoints = [{}]\nnodes = [{}]\nca = \"\"\"\n{}\n\"\"\"\n",
        cluster.name,
        list(&cluster.endpoints),
        list(&cluster.nodes),
        cluster.ca.trim()
    );
    text.push_str("\n[labels]\n");
    for (key, value) in &cluster.labels {
        text.push_str(&format!("{} = {}\n", quote(key), quote(value)));
    }
    text
}

/// SHA-256 digests (hex) of a folder's files by name, for entries.
///
/// # Errors
/// When a file cannot be read.
pub fn digests(folder: &Path, ending: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    use sha2::{Digest, Sha256};
    super::folder::files(folder, ending)?
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let digest = match super::folder::read_bytes(&path) {
                Ok(bytes) => data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)),
                // loading says why; the others are told apart still
                Err(_) => "unreadable".to_owned(),
            };
            Ok((name, digest))
        })
        .collect()
}

fn quote(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

/// Refuses a bundle that is empty or holds anything but CA certificates: a private key here would go to every client.
fn check_bundle(pem: &str) -> Result<(), String> {
    let blocks = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let blocks = blocks.map_err(|_| "it is not PEM; put the cluster's CA certificate here".to_owned())?;
    if blocks.is_empty() {
        return Err("it has no certificate; put the cluster's CA certificate here".into());
    }
    for block in &blocks {
        if block.label != "CERTIFICATE" {
            return Err(format!("it holds a `{}`; only CA certificates belong here", block.label.escape_default()));
        }
        let certificate = block.parse_x509().map_err(|_| "one certificate cannot be read".to_owned())?;
        if !certificate.is_ca() {
            return Err("one certificate is not a CA's".into());
        }
    }
    Ok(())
}

/// The client takes nothing else.
fn check_target(target: &str) -> Result<(), String> {
    let fits = target.len() <= 255 && is_endpoint(target);
    if fits { Ok(()) } else { Err(format!("`{}` is not a host or address", target.escape_default())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_plain_word() {
        for good in ["10.0.0.2", "node.example:50000", "https://talos.example", "[2001:db8::1]:50000"] {
            assert!(check_target(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\nb", "a,b", "x\u{202e}"] {
            assert!(check_target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pipe_or_a_device_among_the_clusters_is_refused_and_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join("prod.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero.toml")).unwrap();
        let (done, answer) = std::sync::mpsc::channel();
        let path = folder.path().to_owned();
        std::thread::spawn(move || done.send((digests(&path, "toml"), load_clusters(&path).map(drop))).unwrap());
        let (digests, loaded) =
            answer.recv_timeout(std::time::Duration::from_secs(10)).expect("nobody waits for who writes to it");
        assert_eq!(digests.unwrap().values().collect::<Vec<_>>(), ["unreadable", "unreadable"]);
        let said = loaded.unwrap_err().to_string();
        assert!(said.contains("prod.toml`: it is no regular file but a pipe"), "{said}");
    }
}
