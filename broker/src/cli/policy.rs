//! `policy test` and `policy explain`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use ichor_wire::role::UnknownRole;
use jiff::SignedDuration;

use super::FolderArg;
use crate::clock::{Clock, SystemClock};
use crate::config;
use crate::domain::{ClusterName, Group, Person, ProviderAlias, Role};
use crate::regular::{self, Links};
use crate::{app, policy};

/// The largest file of cases, in bytes.
const LARGEST_CASES: u64 = 4 << 20;

/// Commands on policies.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Validate the policies and run the cases beside them (`cases.toml`): who, cluster, asks → expects.
    Test(Test),
    /// Say in words what the policies decide for someone, which policy decides, and what would help.
    Explain(Explain),
}

/// `policy test`.
#[derive(Debug, Args)]
pub(super) struct Test {
    #[command(flatten)]
    folder: FolderArg,
    /// Test this folder of policies and cases instead of the configured one.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
}

/// `policy explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// A group that the person is in, as `corp/sre`. May be given again.
    #[arg(long = "group", value_name = "ALIAS/NAME")]
    groups: Vec<String>,
    /// The person, as `alias/subject`.
    #[arg(long, value_name = "ALIAS/SUBJECT", default_value = "any/someone")]
    person: String,
    /// A role asked for, with or without `os:`. May be given again; none asks for os:reader.
    #[arg(long = "role", value_parser = role)]
    roles: Vec<Role>,
    /// The lifetime asked for, as `8h`.
    #[arg(long)]
    ttl: Option<String>,
    /// The reason given.
    #[arg(long)]
    reason: Option<String>,
    /// The authentication context that the provider vouched for.
    #[arg(long)]
    acr: Option<String>,
    /// The address that the request comes from.
    #[arg(long, value_name = "IP")]
    address: Option<std::net::IpAddr>,
    /// How long ago the person authenticated, as `5m`.
    #[arg(long, value_name = "AGE")]
    auth_age: Option<String>,
    /// How many others would have approved, in break-glass.
    #[arg(long, value_name = "N", default_value_t = 0)]
    approvals: u64,
    /// As self-service break-glass, which nobody approves, once someone outside was told
    #[arg(long, conflicts_with = "approvals")]
    self_service: bool,
}

/// A role as people type it to `ichor`.
fn role(text: &str) -> Result<Role, UnknownRole> {
    if text.starts_with("os:") { text.parse() } else { format!("os:{text}").parse() }
}

impl PolicyCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Test(command) => command.run(out),
            Self::Explain(command) => command.run(out),
        }
    }
}

impl Test {
    fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut loaded = self.folder.folder().load()?;
        if let Some(policies) = self.policies {
            loaded.settings.policies = policies;
        }
        let set = app::check_policies(&loaded.settings)?;
        writeln!(out, "{} policies are valid", set.len())?;
        for warning in set.warnings() {
            writeln!(out, "warning: {warning}")?;
        }
        let clusters = config::load_clusters(&loaded.settings.clusters)?;
        let path = loaded.settings.policies.join("cases.toml");
        let cases = regular::read_text(&path, LARGEST_CASES, Links::Followed)
            .with_context(|| format!("cannot read `{}`: write cases beside the policies", path.display()))?;
        let report = policy::run_cases(&set, &clusters, &cases, "cases.toml")?;
        write!(out, "{report}")?;
        if !report.passed() {
            bail!("some cases did not come out as expected; mend the policies or the cases");
        }
        Ok(())
    }
}

impl Explain {
    fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let set = app::check_policies(&loaded.settings)?;
        let clusters = config::load_clusters(&loaded.settings.clusters)?;
        let name = ClusterName::new(&self.cluster)?;
        let Some(cluster) = clusters.get(&name) else {
            bail!("there is no cluster `{name}`; `ichor-broker cluster list` names them")
        };
        let split = |text: &str| -> anyhow::Result<(ProviderAlias, String)> {
            let (alias, name) = text.split_once('/').with_context(|| format!("write `{text}` as alias/name"))?;
            Ok((ProviderAlias::new(alias)?, name.to_owned()))
        };
        let (provider, subject) = split(&self.person)?;
        let duration = |text: &str| -> anyhow::Result<SignedDuration> {
            config::parse_duration(text).with_context(|| format!("`{text}` is not a duration; write `30m` or `8h`"))
        };
        let groups = self.groups.iter().map(|text| split(text)).collect::<anyhow::Result<Vec<_>>>()?;
        let issuer = loaded.file.provider.iter().find(|known| known.alias == provider.as_str());
        let who = policy::Who {
            person: Person { provider, issuer: issuer.map(|known| known.issuer.clone()).unwrap_or_default(), subject },
            groups: groups.into_iter().map(|(provider, name)| Group { provider, name }).collect(),
            acr: self.acr,
            auth_age: self.auth_age.as_deref().map(duration).transpose()?,
        };
        let asks = policy::Asks {
            roles: self.roles,
            ttl: self.ttl.as_deref().map(duration).transpose()?,
            reason: self.reason,
            address: self.address,
            approvals: self.approvals,
            self_service: self.self_service,
        };
        write!(out, "{}", policy::explain(&set, &who, cluster, &asks, SystemClock.now()))?;
        Ok(())
    }
}
