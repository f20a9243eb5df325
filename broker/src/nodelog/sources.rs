//! Whose lines are taken: networks by cluster, and the names of their nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::{AddressRange, ClusterName};

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
    }
}
