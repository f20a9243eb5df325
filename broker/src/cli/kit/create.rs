//! `kit create` and `kit rotate`.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::future::join_all;
use ichor_wire::kit::Facts;
use ichor_wire::log::{Content, Kind, Kit, KitHolder};
use ichor_wire::profile::pem;
use ichor_wire::role::Role;
use ichor_wire::talosconfig::host_and_port;
use jiff::{SignedDuration, Timestamp};

use super::files::{Folders, unwritten};
use super::{all, one, words};
use crate::cli::desk::Desk;
use crate::cli::{FolderArg, block_on, vault_key};
use crate::clock::{Clock, SystemClock};
use crate::config::{Loaded, load_clusters};
use crate::custody::{Holder, KitPlan, MadeKit, Plugins, make_kit};
use crate::domain::ClusterName;
use crate::entropy;
use crate::kit::probe::{self, ProbeError};
use crate::kit::{Place, RegisterError, Standing};

/// `kit create`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    #[arg(long)]
    cluster: String,
    /// How many shares open the kit, and how many there are, as `3-of-5`: as many as `--recipient` and `--paper` together.
    #[arg(long, value_name = "M-of-N", value_parser = of)]
    shares: (u8, u8),
    /// A holder and the age recipient that their share is sealed to, as `ada=age1…`, `bob=ssh-ed25519 …` or a plugin's that the
    /// configuration allows. May be given again.
    #[arg(long = "recipient", value_name = "NAME=RECIPIENT", value_parser = recipient)]
    recipients: Vec<Holder>,
    /// A holder whose share is printed, with a QR code. May be given again.
    #[arg(long = "paper", value_name = "NAME", value_parser = name, requires = "paper_dir")]
    paper: Vec<String>,
    /// Make a static kit: it holds one client certificate and its key, and no signing key. The CA's key signs that certificate and is wiped.
    /// What this gives away is said in docs/kit.md: roles and end are fixed, and whoever opens it looks the same in nodes' logs.
    #[arg(long = "static")]
    is_static: bool,
    /// How many days the certificate of a static kit is good, at most 365.
    #[arg(long, value_name = "DAYS", default_value_t = 90, requires = "is_static", value_parser = clap::value_parser!(i64).range(1..=365))]
    valid_for: i64,
    /// A role that the kit's certificates may hold; that of a static kit holds all of them. May be given again.
    #[arg(long = "role", value_name = "ROLE", required = true)]
    roles: Vec<Role>,
    /// How long one of its certificates is good at most, 1m to 24h; of a static kit, how long an opening explains calls at nodes.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    ttl_cap: SignedDuration,
    /// How many days the kit lasts, at most 1095; for a static one see `--valid-for`.
    #[arg(long, value_name = "DAYS", default_value_t = 365, conflicts_with = "is_static", value_parser = clap::value_parser!(i64).range(1..=1095))]
    days: i64,
    /// An endpoint instead of the cluster's. Addresses: there is no name service in an emergency. May be given again.
    #[arg(long = "endpoint", value_name = "ADDRESS[:PORT]")]
    endpoints: Vec<String>,
    #[command(flatten)]
    ceremony: Ceremony,
}

/// `kit rotate`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rotate {
    #[command(flatten)]
    folder: FolderArg,
    /// The number of the kit whose place the new one takes.
    number: u16,
    /// How many days the new kit lasts, at most 1095 [default: 365]; a static one at most 365 [default: 90].
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(i64).range(1..=1095))]
    days: Option<i64>,
    /// An endpoint instead of the cluster's. May be given again.
    #[arg(long = "endpoint", value_name = "ADDRESS[:PORT]")]
    endpoints: Vec<String>,
    #[command(flatten)]
    ceremony: Ceremony,
}

/// What every ceremony has.
#[derive(Debug, Args)]
struct Ceremony {
    /// Who is present. Name two at least.
    #[arg(long = "witness", value_name = "NAME", required = true, value_parser = name)]
    witnesses: Vec<String>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
    /// The folder for the kit's file and the sealed shares.
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// The folder for the sheets with shares for paper: in memory, as /dev/shm, so that no disk keeps a share.
    #[arg(long, value_name = "DIR")]
    paper_dir: Option<PathBuf>,
}

/// What differs between a first kit and one that takes another's place.
struct Wanted {
    cluster: ClusterName,
    holders: Vec<Holder>,
    threshold: u8,
    is_static: bool,
    roles: Vec<Role>,
    ttl_cap: SignedDuration,
    days: i64,
    endpoints: Vec<String>,
    replaces: Option<u16>,
}

impl Create {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let (threshold, limit) = self.shares;
        let paper = self.paper.into_iter().map(|name| Holder { name, recipient: None });
        let holders: Vec<Holder> = self.recipients.into_iter().chain(paper).collect();
        if holders.len() != usize::from(limit) {
            bail!(
                "`--shares {threshold}-of-{limit}` needs {limit} holders, and {} are named with `--recipient` and `--paper`",
                holders.len()
            );
        }
        let wanted = Wanted {
            cluster: crate::cli::ca::declared(&loaded, &self.cluster)?,
            holders,
            threshold,
            is_static: self.is_static,
            roles: self.roles,
            ttl_cap: self.ttl_cap,
            days: if self.is_static { self.valid_for } else { self.days },
            endpoints: self.endpoints,
            replaces: None,
        };
        make(&loaded, wanted, &self.ceremony, &self.folder.said(), out)
    }
}

impl Rotate {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let old = block_on(one(&loaded, self.number))?;
        can_be_rotated(&old)?;
        let wanted = Wanted::as_before(&loaded, &old, self.days, self.endpoints)?;
        if wanted.holders.iter().any(|holder| holder.recipient.is_none()) && self.ceremony.paper_dir.is_none() {
            bail!("kit {} has shares on paper; name the folder for the new sheets with `--paper-dir`", old.number);
        }
        make(&loaded, wanted, &self.ceremony, &self.folder.said(), out)
    }
}

/// Refuses a kit whose place another has taken: its holders would have one more that nobody needs. One that was revoked first, as after a
/// theft, is replaced as it was.
fn can_be_rotated(old: &Standing) -> anyhow::Result<()> {
    let number = old.number;
    let Some(successor) = old.replaced_by else { return Ok(()) };
    bail!(
        "kit {number} was replaced by kit {successor} already; to replace that one, run `ichor-broker kit rotate {successor}`"
    )
}

impl Wanted {
    fn as_before(loaded: &Loaded, old: &Standing, days: Option<i64>, endpoints: Vec<String>) -> anyhow::Result<Self> {
        let days = days.unwrap_or(if old.is_static() { 90 } else { 365 });
        if old.is_static() && days > 365 {
            bail!("kit {} is static, and so is the one in its place: it lasts at most 365 days", old.number);
        }
        let holder = |holder: &KitHolder| Holder { name: holder.name.clone(), recipient: holder.recipient.clone() };
        Ok(Self {
            cluster: crate::cli::ca::declared(loaded, &old.cluster)?,
            holders: old.holders.iter().map(holder).collect(),
            threshold: old.threshold,
            is_static: old.is_static(),
            roles: old.roles.iter().map(|role| role.parse()).collect::<Result<_, _>>()?,
            ttl_cap: old.ttl_cap,
            days,
            endpoints,
            replaces: Some(old.number),
        })
    }
}

/// Makes the kit in memory, records it, then writes it: nothing leaves this process that nobody recorded.
fn make(loaded: &Loaded, wanted: Wanted, ceremony: &Ceremony, at: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let witnesses: BTreeSet<_> = ceremony.witnesses.iter().map(|name| name.to_lowercase()).collect();
    if witnesses.len() < 2 {
        bail!("a kit is made with two people present: name both, as `--witness Ada --witness Grace`");
    }
    let names: BTreeSet<_> = wanted.holders.iter().map(|holder| holder.name.to_lowercase()).collect();
    if names.len() != wanted.holders.len() {
        bail!("two shares have a holder of the same name; one person holds one share");
    }
    let folders = Folders { output: &ceremony.output, paper: ceremony.paper_dir.as_deref() };
    folders.check()?;
    let plugins = vault_key::plugins(&loaded.settings)?;
    crate::custody::harden_process();
    block_on(async {
        let desk = Desk::open(loaded).await?;
        let number = all(loaded).await?.iter().map(|kit| kit.number).max().unwrap_or(0).checked_add(1);
        let number = number.context("there are 65535 kits; no more can be numbered")?;
        let (made, place) = plan(loaded, &wanted, number, &plugins)?;
        let names = folders.check_names(&made);
        if names.is_err() && all(loaded).await?.iter().any(|kit| kit.number == number) {
            bail!(RegisterError::Taken(number));
        }
        names?;
        let entry = desk.note_made(content(&made, place, &wanted, ceremony)?).await?;
        desk.close().await;
        let kit = made.recorded(entry)?;
        let mut files = Vec::new();
        folders.write(&kit, &mut files).with_context(|| unwritten(number, &files, at))?;
        write!(out, "{}", words::made(&kit.facts, &files, wanted.replaces, at)?)?;
        for (endpoint, error) in unanswered(&kit.facts).await? {
            write!(out, "{}", words::unanswered(endpoint, &error, number))?;
        }
        anyhow::Ok(())
    })
}

/// The endpoints at which no node of the cluster answers from here, and why. That is no reason to make no kit: a ceremony may be held
/// away from the cluster's network.
async fn unanswered(facts: &Facts) -> anyhow::Result<Vec<(&str, ProbeError)>> {
    let ca = facts.kit_certificate()?;
    let asked = facts.endpoints.iter().map(|endpoint| {
        let ca = &ca;
        async move {
            let said = probe::accepts(endpoint, &facts.cluster_ca, ca).await;
            said.err().map(|error| (endpoint.as_str(), error))
        }
    });
    Ok(join_all(asked).await.into_iter().flatten().collect())
}

fn plan(loaded: &Loaded, wanted: &Wanted, number: u16, plugins: &Plugins) -> anyhow::Result<(MadeKit, Place)> {
    let clusters = load_clusters(&loaded.settings.clusters)?;
    let cluster = clusters.get(&wanted.cluster).context("the cluster is declared no more")?;
    let endpoints = if wanted.endpoints.is_empty() { &cluster.endpoints } else { &wanted.endpoints };
    for endpoint in endpoints {
        if host_and_port(endpoint).0.parse::<IpAddr>().is_err() {
            bail!(
                "`{endpoint}` is a name, and there may be no name service in an emergency; give addresses with `--endpoint`"
            );
        }
    }
    // it stands in the kit's plain text
    let now = Timestamp::from_second(SystemClock.now().as_second())?;
    let plan = KitPlan {
        number,
        id: entropy::uuid_v7(now)?,
        cluster: &wanted.cluster,
        is_static: wanted.is_static,
        roles: wanted.roles.clone(),
        ttl_cap: wanted.ttl_cap,
        life: SignedDuration::from_hours(24 * wanted.days),
        threshold: wanted.threshold,
        holders: &wanted.holders,
        endpoints: endpoints.clone(),
        nodes: cluster.nodes.clone(),
        cluster_ca: cluster.ca.clone(),
        instructions: words::instructions(number, wanted.threshold, &wanted.cluster, wanted.is_static),
    };
    Ok((make_kit(&plan, now, plugins)?, Place::of(cluster)))
}

/// The entry: the kit's public facts, who holds it, who was there.
fn content(made: &MadeKit, place: Place, wanted: &Wanted, ceremony: &Ceremony) -> anyhow::Result<Content> {
    let facts = made.facts();
    let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes());
    let mut holders = Vec::new();
    for (recipient, said) in made.recipients().zip(&facts.shares) {
        holders.push(KitHolder {
            name: said.holder.clone(),
            recipient: recipient.map(ToOwned::to_owned),
            commitment: hex(&said.commitment)?,
            proof_key: hex(&said.proof_key)?,
        });
    }
    let ca = facts.kit_certificate()?;
    let certificate = facts.certificate.as_deref().map(pem::blocks).transpose()?;
    let certificate = certificate.and_then(|mut blocks| Some(blocks.pop()?.der.to_vec()));
    Ok(Content {
        cluster: Some(facts.cluster.clone()),
        roles: Some(facts.roles.iter().map(ToString::to_string).collect()),
        reason: Some(ceremony.reason.clone()),
        message: Some(format!("kit {} made for cluster `{}`", facts.number, facts.cluster)),
        fingerprint: Some(ca.fingerprint().to_vec()),
        public_key: Some(ca.key_fingerprint().to_vec()),
        witnesses: Some(ceremony.witnesses.clone()),
        kit: Some(Kit {
            number: facts.number,
            id: Some(facts.id.into_bytes().to_vec()),
            ca: Some(ca.der().to_vec()),
            cluster_ca: place.cluster_ca,
            endpoints: place.endpoints,
            leads_to: Some(facts.endpoints.clone()),
            until: Some(facts.until.as_second()),
            threshold: Some(facts.threshold),
            ttl_cap: Some(facts.ttl_cap),
            holders: Some(holders),
            file: Some(made.digest().to_vec()),
            replaces: wanted.replaces,
            user: certificate.is_some().then(|| facts.fixed_user()),
            certificate,
        }),
        ..Content::of(Kind::KitMade)
    })
}

/// The value of `--shares`.
fn of(text: &str) -> Result<(u8, u8), String> {
    let parsed = text.split_once("-of-").and_then(|(m, n)| Some((m.parse().ok()?, n.parse().ok()?)));
    let fits = |(m, n): &(u8, u8)| *m >= 2 && m <= n && *n <= 16;
    parsed.filter(fits).ok_or_else(|| "write it as `3-of-5`: at least 2 of them, at most 16 in all".to_owned())
}

/// The value of `--recipient`.
fn recipient(text: &str) -> Result<Holder, String> {
    let (holder, recipient) =
        text.split_once('=').ok_or_else(|| "write it as `NAME=RECIPIENT`, as `ada=age1…`".to_owned())?;
    Ok(Holder { name: name(holder)?, recipient: Some(recipient.trim().to_owned()) })
}

/// A person's name: it becomes part of a file's name.
fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    let fits = (1..=40).contains(&text.chars().count())
        && text.chars().all(|letter| letter.is_alphanumeric() || "._@-".contains(letter))
        && !text.starts_with(['.', '-']);
    if fits { Ok(text.to_owned()) } else { Err("a name has 1 to 40 letters, digits, `.`, `_`, `@` and `-`".to_owned()) }
}

/// The value of `--ttl-cap`.
fn duration(text: &str) -> Result<SignedDuration, String> {
    let (least, most) = (SignedDuration::from_mins(1), SignedDuration::from_hours(24));
    let parsed = text.parse::<SignedDuration>().ok().filter(|time| (least..=most).contains(time));
    parsed.ok_or_else(|| "write 1m to 24h, as `1h`".to_owned())
}
