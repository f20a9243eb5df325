//! Clusters as the config folder declares them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{BadName, label};

/// A cluster's name, `[a-z0-9-]+`. CA material lies in custody under it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

/// A cluster, public facts only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// Labels that policies speak of, as `env` → `prod`.
    pub labels: BTreeMap<String, String>,
    /// Endpoints as a talosconfig has them.
    pub endpoints: Vec<String>,
    /// Default nodes to write into a talosconfig, if declared.
    pub nodes: Vec<String>,
    /// The CA certificates that the nodes' own certificates come from, PEM.
    pub ca: String,
}

/// All clusters, published as one value.
pub type Clusters = Arc<BTreeMap<ClusterName, Arc<Cluster>>>;

impl ClusterName {
    /// A name from its text.
    ///
    /// # Errors
    /// When the text is not `[a-z0-9-]+`.
    pub fn new(text: &str) -> Result<Self, BadName> {
        label("cluster name", text).map(Self)
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
