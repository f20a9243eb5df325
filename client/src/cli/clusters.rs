//! `ichor clusters`

use ichor_wire::api::{ClusterAnswer, ClustersAnswer, RoleAnswer};

use super::{Here, block_on};
use crate::error::Error;

/// Which clusters there are for you, with which roles, for how long, and why not
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this one
    cluster: Option<String>,
    /// Only those with this label; several must all match
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    let session = here.session()?;
    let waiting = here.around.terminal.waiting("asking the broker".into());
    let answer = block_on(async {
        match &args.cluster {
            Some(name) => {
                Ok(ClustersAnswer { clusters: vec![session.broker().get(&session, &["clusters", name], &[]).await?] })
            }
            None => session.broker().get(&session, &["clusters"], &[]).await,
        }
    });
    drop(waiting);
    let mut answer: ClustersAnswer = answer?;
    answer.clusters.retain(|cluster| has_labels(cluster, &args.labels));
    let mut rows = vec![["CLUSTER", "LABELS", "ROLE", "ALLOWED", "FOR", "WHY NOT"].map(str::to_owned).to_vec()];
    rows.extend(answer.clusters.iter().flat_map(rows_of));
    here.print(&answer, |terminal| match rows.len() {
        1 => terminal.line("no cluster is visible to you"),
        _ => terminal.table(&rows),
    })
}

/// Whether a cluster has every one of these labels.
pub(super) fn has_labels(cluster: &ClusterAnswer, labels: &[(String, String)]) -> bool {
    labels.iter().all(|(name, value)| cluster.labels.get(name) == Some(value))
}

/// Reads `NAME=VALUE`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write a label as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn rows_of(cluster: &ClusterAnswer) -> Vec<Vec<String>> {
    let labels: Vec<String> = cluster.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let lines = cluster.roles.iter().enumerate().map(|(number, role)| {
        let (name, labels) = if number == 0 { (cluster.name.clone(), labels.join(",")) } else { Default::default() };
        let ttl = role.max_ttl.filter(|_| role.allowed).map(duration).unwrap_or_default();
        let allowed = match (role.allowed, role.by_request) {
            (true, _) => "yes",
            (false, true) => "by request",
            (false, false) => "no",
        };
        vec![name, labels, role.role.to_string(), allowed.into(), ttl, why_not(cluster, role)]
    });
    lines.collect()
}

fn why_not(cluster: &ClusterAnswer, role: &RoleAnswer) -> String {
    let mut parts: Vec<&str> = cluster.unavailable.as_deref().into_iter().collect();
    if !role.allowed {
        parts.extend(role.why.as_deref().filter(|why| !parts.contains(why)).into_iter().collect::<Vec<_>>());
        parts.extend(role.help.iter().map(String::as_str));
    }
    parts.join("; ")
}

fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, _) => format!("{minutes}m"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        assert_eq!([30, 900, 3600, 5400].map(duration), ["30s", "15m", "1h", "1h30m"]);
    }
}
