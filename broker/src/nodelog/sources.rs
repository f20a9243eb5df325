//! Whose lines are taken: networks by cluster, and the names of their nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::{AddressRange, ClusterName};
use crate::store::NodeName;

/// The addresses of one cluster's nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The cluster.
    pub cluster: ClusterName,
    /// Where its nodes send from.
    pub from: Vec<AddressRange>,
    /// Its nodes' names by address; one without a name has its address for one. These are probed.
    pub nodes: BTreeMap<IpAddr, String>,
}

/// All sources. The first that has an address is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(pub Vec<Source>);

/// Whose line it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// The node's name.
    pub node: Arc<str>,
}

// === impl Sources ===

impl Sources {
    /// Whose lines come from this address; `None`: nobody's.
    #[must_use]
    pub fn origin(&self, address: IpAddr) -> Option<Origin> {
        let address = address.to_canonical();
        let source = self.0.iter().find(|source| source.has(address))?;
        Some(source.origin(address))
    }

    /// The nodes that are meant by a name or an address, as calls may be kept of them: a call of a node without a name is kept under its
    /// address, and goes on to be once it is given one. A name that no source has stands for itself, in any cluster.
    #[must_use]
    pub fn meant(&self, text: &str) -> Vec<NodeName> {
        let mut meant = vec![NodeName { cluster: None, node: text.to_owned() }];
        let named = |cluster: &ClusterName, node: String| NodeName { cluster: Some(cluster.to_string()), node };
        if let Ok(address) = text.parse::<IpAddr>().map(|address| address.to_canonical()) {
            meant.extend(self.0.iter().find(|source| source.has(address)).map(|source| {
                let origin = source.origin(address);
                named(&source.cluster, origin.node.to_string())
            }));
        }
        for source in &self.0 {
            let known_as = source.nodes.iter().filter(|(_, name)| *name == text);
            meant.extend(known_as.map(|(address, _)| named(&source.cluster, address.to_string())));
        }
        meant
    }

    /// Every declared node, with its address.
    pub fn nodes(&self) -> impl Iterator<Item = (&ClusterName, IpAddr, Origin)> {
        self.0
            .iter()
            .flat_map(|source| source.nodes.keys().map(|address| (&source.cluster, *address, source.origin(*address))))
    }
}

// === impl Source ===

impl Source {
    fn has(&self, address: IpAddr) -> bool {
        self.nodes.contains_key(&address) || self.from.iter().any(|range| range.contains(address))
    }

    fn origin(&self, address: IpAddr) -> Origin {
        let node = self.nodes.get(&address).cloned().unwrap_or_else(|| address.to_string());
        Origin { cluster: self.cluster.as_str().into(), node: node.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_node_of_one_cluster_or_nobody() {
        let source = |cluster: &str, from: &str, nodes: &[(&str, &str)]| Source {
            cluster: ClusterName::new(cluster).unwrap(),
            from: AddressRange::parse(from).into_iter().collect(),
            nodes: nodes.iter().map(|(at, name)| (at.parse().unwrap(), (*name).into())).collect(),
        };
        let sources = Sources(vec![
            source("prod", "10.0.0.0/24", &[("10.0.0.5", "cp-1"), ("2001:db8::5", "cp-2")]),
            source("lab", "10.0.0.0/16", &[]),
        ]);
        let of =
            |text: &str| sources.origin(text.parse().unwrap()).map(|o| (o.cluster.to_string(), o.node.to_string()));
        assert_eq!(of("10.0.0.5"), Some(("prod".into(), "cp-1".into())));
        assert_eq!(of("::ffff:10.0.0.5"), Some(("prod".into(), "cp-1".into())));
        assert_eq!(of("2001:db8::5"), Some(("prod".into(), "cp-2".into())), "a named node needs no network");
        assert_eq!(of("10.0.0.6"), Some(("prod".into(), "10.0.0.6".into())));
        assert_eq!(of("10.0.1.6"), Some(("lab".into(), "10.0.1.6".into())));
        assert_eq!(of("192.0.2.1"), None);
        assert_eq!(sources.nodes().count(), 2);

        let meant = |text: &str| {
            let meant = sources.meant(text).into_iter();
            meant.map(|name| format!("{} {}", name.cluster.unwrap_or_default(), name.node)).collect::<Vec<_>>()
        };
        assert_eq!(meant("10.0.0.5"), [" 10.0.0.5", "prod cp-1"]);
        assert_eq!(meant("::ffff:10.0.0.5"), [" ::ffff:10.0.0.5", "prod cp-1"]);
        assert_eq!(meant("2001:DB8::5"), [" 2001:DB8::5", "prod cp-2"]);
        assert_eq!(meant("10.0.1.6"), [" 10.0.1.6", "lab 10.0.1.6"]);
        assert_eq!(meant("cp-1"), [" cp-1", "prod 10.0.0.5"]);
        assert_eq!(meant("cp-9"), [" cp-9"]);
    }
}
