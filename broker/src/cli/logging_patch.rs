//! `cluster logging-patch`: what makes a cluster's nodes send their logs to this broker.

use std::io::Write;

use anyhow::bail;
use url::Url;

use crate::config::{Loaded, load_clusters};
use crate::domain::ClusterName;

/// A log destination as Talos takes it.
///
/// # Errors
/// When it is none, in a sentence that says what to write.
pub(super) fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; write `tcp://HOST:PORT`"))?;
    let has_more = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
    if !matches!(url.scheme(), "tcp" | "udp") || url.host().is_none() || url.port().is_none() || has_more {
        return Err("write `tcp://HOST:PORT` or `udp://HOST:PORT`".into());
    }
    Ok(url)
}

/// Prints the patch for a declared cluster.
pub(super) fn print(loaded: &Loaded, name: &str, endpoint: &Url, out: &mut dyn Write) -> anyhow::Result<()> {
    let name = ClusterName::new(name)?;
    if !load_clusters(&loaded.settings.clusters)?.contains_key(&name) {
        bail!("there is no cluster `{name}`; `ichor-broker cluster list` names them");
    }
    if !loaded.settings.nodelog.sources.0.iter().any(|source| source.cluster == name) {
        // to whom a node's line belongs is told by its address, never by what the line says
        writeln!(
            out,
            "# This broker takes no lines of cluster `{name}` yet: name its nodes in a `[[nodelog_source]]`."
        )?;
    }
    write!(out, "{}", patch(&name, endpoint))?;
    Ok(())
}

fn patch(name: &ClusterName, endpoint: &Url) -> String {
    // a host of a `tcp` URL is taken as it was written, so it is quoted
    let endpoint = endpoint.as_str().trim_end_matches('/').replace('\'', "%27");
    format!(
        "machine:\n  logging:\n    destinations:\n      - endpoint: '{endpoint}/'\n        format: json_lines\n        extraTags:\n          cluster: {name}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_is_what_talos_takes() {
        let name = ClusterName::new("prod").unwrap();
        let printed = patch(&name, &endpoint("tcp://10.0.0.9:7410").unwrap());
        assert_eq!(
            printed,
            "machine:\n  logging:\n    destinations:\n      - endpoint: 'tcp://10.0.0.9:7410/'\n        format: json_lines\n        extraTags:\n          cluster: prod\n"
        );
        assert!(patch(&name, &endpoint("udp://[2001:db8::9]:7410/").unwrap()).contains("'udp://[2001:db8::9]:7410/'"));
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for bad in ["", "10.0.0.9:7410", "https://a:1", "tcp://a", "tcp://:1", "tcp://a:1/x", "tcp://a:1?x"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
