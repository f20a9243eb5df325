//! `[nodelog]` and `[[nodelog_source]]`. The comments here are the reference, as in [`super::file`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde::Deserialize;

use super::ConfigError;
use super::file::File;
use super::settings::parse_duration;
use crate::domain::{AddressRange, ClusterName};
use crate::nodelog::{Settings, Source, Sources};

/// The shortest time between two probes of a node. Each takes a call, and each certificate two entries.
const SHORTEST: std::time::Duration = std::time::Duration::from_secs(30);

/// Where nodes send their own logs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeLog {
    /// `address:port` for `tcp://` destinations. There is no TLS and no authentication in what Talos sends: listen on a
    /// network that only the nodes reach.
    #[serde(default)]
    pub tcp: Option<SocketAddr>,
    /// `address:port` for `udp://` destinations. Packets are lost without a trace; prefer TCP.
    #[serde(default)]
    pub udp: Option<SocketAddr>,
    /// Connections of nodes at once, eight of one address at most; more are closed.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// So many calls are kept; beyond, the oldest go of the node that holds most. A call takes some 200 bytes on disk.
    #[serde(default = "default_max_calls")]
    pub max_calls: u64,
    /// Calls are expected to be kept for so long. Where the quota takes one that came later, an entry `node-alarm` with the code
    /// `quota` says so, once an hour and cluster at most. `off`: never.
    #[serde(default = "default_kept_for")]
    pub kept_for: String,
    /// How often each node named in a source is called, to see that the lines of its services come; at least 30s. `off`: never.
    #[serde(default = "default_heartbeat")]
    pub heartbeat: String,
}

/// Whose node logs are taken.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeLogSource {
    /// The cluster's name.
    pub cluster: String,
    /// Addresses or networks that its nodes send from, as `10.0.0.0/24`. Whoever can send from there can say what they like.
    #[serde(default)]
    pub from: Vec<String>,
    /// Its nodes by address, as `{ "10.0.0.5" = "cp-1" }`: the name in the audit, and the address that is probed. A node that
    /// is not named has its address for a name and is not probed.
    #[serde(default)]
    pub nodes: BTreeMap<String, String>,
}

fn default_connections() -> usize {
    512
}

fn default_max_calls() -> u64 {
    10_000_000
}

fn default_kept_for() -> String {
    "168h".into()
}

fn default_heartbeat() -> String {
    "5m".into()
}

impl Default for NodeLog {
    fn default() -> Self {
        Self {
            tcp: None,
            udp: None,
            connections: default_connections(),
            max_calls: default_max_calls(),
            kept_for: default_kept_for(),
            heartbeat: default_heartbeat(),
        }
    }
}

/// The settings of the sections of `file`, which lies at `path`.
///
/// # Errors
/// On the first value that does not fit.
pub(super) fn check(path: &Path, file: &File) -> Result<Settings, ConfigError> {
    let value = |key: &str, why: &str| ConfigError::Value { path: path.into(), key: key.into(), why: why.into() };
    let section = &file.nodelog;
    if section.connections == 0 {
        return Err(value("nodelog.connections", "it must be at least 1"));
    }
    if section.max_calls == 0 {
        return Err(value("nodelog.max_calls", "it must be at least 1"));
    }
    let heartbeat = match section.heartbeat.as_str() {
        "off" => None,
        text => {
            let period = parse_duration(text).map(|period| period.unsigned_abs()).filter(|period| *period >= SHORTEST);
            Some(
                period
                    .ok_or_else(|| value("nodelog.heartbeat", "write a duration of at least 30s, as `5m`, or `off`"))?,
            )
        }
    };
    let kept_for = match section.kept_for.as_str() {
        "off" => None,
        text => Some(
            parse_duration(text).ok_or_else(|| value("nodelog.kept_for", "write a duration, as `168h`, or `off`"))?,
        ),
    };
    let mut sources = Vec::new();
    for source in &file.nodelog_source {
        sources.push(source.check().map_err(|(key, why)| value(&format!("nodelog_source.{key}"), &why))?);
    }
    let listens = section.tcp.is_some() || section.udp.is_some();
    if listens && sources.is_empty() {
        return Err(value("nodelog_source", "nobody's lines would be taken; name a cluster and its nodes' addresses"));
    }
    if !listens && !sources.is_empty() {
        return Err(value("nodelog.tcp", "sources are named, but nothing listens; give `tcp` or `udp`"));
    }
    Ok(Settings {
        tcp: section.tcp,
        udp: section.udp,
        connections: section.connections,
        max_calls: section.max_calls,
        kept_for,
        heartbeat,
        sources: Sources(sources),
    })
}

impl NodeLogSource {
    fn check(&self) -> Result<Source, (&'static str, String)> {
        let cluster = ClusterName::new(&self.cluster).map_err(|error| ("cluster", error.to_string()))?;
        let mut from = Vec::new();
        for text in &self.from {
            let range = AddressRange::parse(text);
            from.push(range.ok_or(("from", "write addresses or networks, as `10.0.0.0/24`".to_owned()))?);
        }
        let mut nodes = BTreeMap::new();
        for (address, name) in &self.nodes {
            let address: IpAddr =
                address.parse().map_err(|_| ("nodes", format!("`{}` is no address", address.escape_debug())))?;
            let fits = !name.is_empty() && name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_graphic());
            if !fits {
                return Err(("nodes", "a node's name has 1 to 63 printable ASCII characters without blanks".into()));
            }
            nodes.insert(address.to_canonical(), name.clone());
        }
        if from.is_empty() && nodes.is_empty() {
            return Err(("from", "name a network, or nodes".into()));
        }
        Ok(Source { cluster, from, nodes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, String> {
        let server = "[server]\npublic_url = \"http://127.0.0.1:8080\"\nlisten = \"127.0.0.1:8080\"\n";
        let file: File = toml::from_str(&format!("{server}{text}")).map_err(|error| error.to_string())?;
        check(Path::new("config.toml"), &file).map_err(|error| error.to_string())
    }

    const SOURCE: &str = "[[nodelog_source]]\ncluster = \"prod\"\nfrom = [\"10.0.0.0/24\"]\n";

    #[test]
    fn the_heartbeat_is_as_written() {
        let beat =
            |text: &str| settings(&format!("[nodelog]\ntcp = \"127.0.0.1:0\"\n{text}\n{SOURCE}")).map(|s| s.heartbeat);
        assert_eq!(beat(""), Ok(Some(std::time::Duration::from_secs(300))));
        assert_eq!(beat("heartbeat = \"30s\""), Ok(Some(std::time::Duration::from_secs(30))));
        assert_eq!(beat("heartbeat = \"off\""), Ok(None));
        assert!(beat("heartbeat = \"29s\"").is_err() && beat("heartbeat = \"on\"").is_err());
    }

    #[test]
    fn calls_are_expected_to_be_kept_for_as_long_as_is_written() {
        let kept =
            |text: &str| settings(&format!("[nodelog]\ntcp = \"127.0.0.1:0\"\n{text}\n{SOURCE}")).map(|s| s.kept_for);
        assert_eq!(kept(""), Ok(Some(jiff::SignedDuration::from_hours(168))));
        assert_eq!(kept("kept_for = \"36h\""), Ok(Some(jiff::SignedDuration::from_hours(36))));
        assert_eq!(kept("kept_for = \"off\""), Ok(None));
        assert!(kept("kept_for = \"0s\"").is_err() && kept("kept_for = \"long\"").is_err());
    }

    #[test]
    fn what_would_take_nothing_or_everything_is_refused() {
        assert!(settings("").is_ok(), "no node logs at all");
        for bad in [
            "[nodelog]\ntcp = \"127.0.0.1:0\"\n",
            SOURCE,
            "[nodelog]\nudp = \"127.0.0.1:0\"\n[[nodelog_source]]\ncluster = \"prod\"\n",
            "[nodelog]\nudp = \"127.0.0.1:0\"\n[[nodelog_source]]\ncluster = \"Prod\"\nfrom = [\"10.0.0.1\"]\n",
            "[nodelog]\nudp = \"127.0.0.1:0\"\n[[nodelog_source]]\ncluster = \"prod\"\nfrom = [\"everyone\"]\n",
            "[nodelog]\nudp = \"127.0.0.1:0\"\n[[nodelog_source]]\ncluster = \"prod\"\nnodes = { \"cp-1\" = \"cp-1\" }\n",
            "[nodelog]\nudp = \"127.0.0.1:0\"\n[[nodelog_source]]\ncluster = \"prod\"\nnodes = { \"10.0.0.1\" = \"cp 1\" }\n",
        ] {
            assert!(settings(bad).is_err(), "{bad}");
        }
        for zero in ["connections = 0", "max_calls = 0"] {
            assert!(settings(&format!("[nodelog]\ntcp = \"127.0.0.1:0\"\n{zero}\n{SOURCE}")).is_err(), "{zero}");
        }
    }
}
