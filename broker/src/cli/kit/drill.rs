//! `kit drill`.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use data_encoding::HEXLOWER;
use ichor_wire::kit::{Prover, check_proof};
use ichor_wire::log::{Content, Kind};
use ichor_wire::talosconfig::host_and_port;
use jiff::SignedDuration;

use super::{named, one};
use crate::cli::desk::Desk;
use crate::cli::{FolderArg, block_on};
use crate::clock::{Clock, SystemClock};
use crate::config::{Loaded, load_clusters};
use crate::domain::ClusterName;
use crate::entropy;
use crate::kit::{Standing, probe};

/// How long holders have for their proofs.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24 * 14);

/// `kit drill`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Drill {
    #[command(flatten)]
    folder: FolderArg,
    /// The kit's number.
    number: u16,
    /// A holder's proof, as `ichor kit prove` prints it. Without one a drill begins, and its challenge is printed. May be given
    /// again.
    #[arg(long = "proof", value_name = "PROOF")]
    proofs: Vec<String>,
    /// A node to ask besides the cluster's endpoints and nodes and the kit's own endpoints. May be given again.
    #[arg(long = "node", value_name = "ADDRESS[:PORT]", requires = "proofs")]
    nodes: Vec<String>,
    /// Why; it goes into the audit.
    #[arg(long, default_value = "drill", value_parser = crate::cli::desk::reason)]
    reason: String,
}

impl Drill {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        block_on(async {
            let desk = Desk::open(&loaded).await?;
            let kit = one(&loaded, self.number).await?;
            if kit.revoked.is_some() {
                bail!("kit {} is revoked; there is nothing to drill", kit.number);
            }
            let done = if self.proofs.is_empty() {
                self.begin(&desk, &kit, out).await
            } else {
                self.finish(&loaded, &desk, &kit, out).await
            };
            desk.close().await;
            done
        })
    }

    async fn begin(&self, desk: &Desk, kit: &Standing, out: &mut dyn Write) -> anyhow::Result<()> {
        let challenge = entropy::bytes::<32>()?;
        desk.note_kit(Content {
            challenge: Some(challenge.to_vec()),
            message: Some(format!("a drill of kit {} begins", kit.number)),
            ..self.entry(kit)
        })
        .await?;
        let challenge = HEXLOWER.encode(&challenge);
        let (number, at) = (kit.number, self.folder.said());
        writeln!(
            out,
            "A drill of kit {number} has begun. Each holder runs, with the kit's file and their own share:\n"
        )?;
        writeln!(out, "  ichor kit prove KIT-FILE --share SHARE --identity KEY --challenge {challenge}\n")?;
        writeln!(out, "and sends what it prints, which is no secret. Nothing is combined. Within 14 days:\n")?;
        writeln!(out, "  ichor-broker kit drill {number} --proof … --proof …{at}\n")?;
        let holders: Vec<&str> = kit.holders.iter().map(|holder| holder.name.as_str()).collect();
        writeln!(out, "Holders: {}.", holders.join(", "))?;
        Ok(())
    }

    async fn finish(&self, loaded: &Loaded, desk: &Desk, kit: &Standing, out: &mut dyn Write) -> anyhow::Result<()> {
        let number = kit.number;
        let none =
            || format!("no drill of kit {number} is under way; begin one with `ichor-broker kit drill {number}`");
        let (since, challenge) = kit.challenge.with_context(none)?;
        if SystemClock.now().duration_since(since) > PATIENCE {
            bail!("the drill of kit {number} began at {since:.0}, more than 14 days ago; begin another");
        }
        let keys: Vec<(u8, String)> =
            (1..).zip(&kit.holders).map(|(index, holder)| (index, HEXLOWER.encode(&holder.proof_key))).collect();
        let prover = Prover { number, id: kit.id, keys: &keys };
        let mut proved = BTreeSet::new();
        for proof in &self.proofs {
            proved.insert(check_proof(&prover, &challenge, proof)?);
        }
        for (index, holder) in (1..).zip(&kit.holders) {
            let mark = if proved.contains(&index) { "ok  " } else { "FAIL" };
            let said = if proved.contains(&index) { "proved" } else { "not proved" };
            writeln!(out, "{mark}  share {index} ({}): {said}", holder.name)?;
        }
        let (accepting, asked) = self.ask(loaded, kit, out).await?;
        if let Some(moved) = kit.moved.filter(|_| kit.is_left_behind()) {
            writeln!(out, "FAIL  kit {number} {}", moved.as_str())?;
        }
        let is_whole = proved.len() == kit.holders.len() && asked > 0 && accepting == asked;
        let message = if is_whole { "drilled" } else { "drilled in part: it needs a whole drill still" };
        desk.note_kit(Content {
            challenge: Some(challenge.to_vec()),
            shares: Some(proved.into_iter().collect()),
            accepting: Some((accepting, asked)),
            message: Some(format!("kit {number} was {message}")),
            ..self.entry(kit)
        })
        .await?;
        if !is_whole {
            bail!(
                "the drill is recorded, but kit {number} needs a whole drill still: mend what the lines above name, and give all proofs again"
            );
        }
        if kit.is_left_behind() {
            bail!(
                "the drill is recorded, but kit {number} is due all the same: make another with `ichor-broker kit rotate {number}`"
            );
        }
        writeln!(out, "Kit {number} is drilled and recorded; the next drill is due within 90 days.")?;
        Ok(())
    }

    /// Asks every endpoint and node, and what the kit leads to, whether it accepts the kit's CA; how many do, and how many were asked.
    /// Of the kit's own endpoints one that answers is enough, as for talosctl; where none does, those count that did not.
    async fn ask(&self, loaded: &Loaded, kit: &Standing, out: &mut dyn Write) -> anyhow::Result<(u64, u64)> {
        let clusters = load_clusters(&loaded.settings.clusters)?;
        let cluster = clusters.get(&ClusterName::new(&kit.cluster)?);
        let cluster = cluster.with_context(|| format!("cluster `{}` is declared no more", kit.cluster))?;
        let named: BTreeSet<&String> = cluster.endpoints.iter().chain(&self.nodes).collect();
        // a node that is an endpoint too is asked once, where the endpoint says
        let hosts: BTreeSet<String> = named.iter().map(|endpoint| host_and_port(endpoint).0).collect();
        let others = cluster.nodes.iter().filter(|node| !hosts.contains(&host_and_port(node).0));
        let every: BTreeSet<&String> = named.iter().copied().chain(others).collect();
        let own: BTreeSet<(String, u16)> = kit.leads_to.iter().map(|endpoint| host_and_port(endpoint)).collect();
        let known: BTreeSet<(String, u16)> = every.iter().map(|endpoint| host_and_port(endpoint)).collect();
        let beside: BTreeSet<&String> =
            kit.leads_to.iter().filter(|endpoint| !known.contains(&host_and_port(endpoint))).collect();
        let (mut accepting, mut asked, mut leading, mut silent) = (0, 0, 0, 0);
        for node in every.iter().chain(&beside) {
            let (is_own, is_beside) = (own.contains(&host_and_port(node)), beside.contains(node));
            match probe::accepts(node, &cluster.ca, &kit.ca).await {
                Ok(accepts) => {
                    (asked, leading) = (asked + 1, leading + u64::from(is_own));
                    if accepts {
                        accepting += 1;
                        writeln!(out, "ok    node {node}: accepts the kit's CA")?;
                    } else {
                        writeln!(out, "FAIL  node {node}: does not accept the kit's CA; apply the patch there")?;
                    }
                }
                Err(error) if is_beside => {
                    silent += 1;
                    writeln!(out, "warn  node {node}, to which the kit leads: {error}")?;
                }
                Err(error) => {
                    asked += 1;
                    writeln!(out, "FAIL  node {node}: {error}")?;
                }
            }
        }
        if !own.is_empty() && leading == 0 {
            asked += silent;
            writeln!(
                out,
                "FAIL  what kit {number} opens leads to {}, and no node of the cluster answers there; where that stays so, make another \
                 with `ichor-broker kit rotate {number} --endpoint ADDRESS`",
                kit.leads_to.join(", "),
                number = kit.number
            )?;
        }
        Ok((accepting, asked))
    }

    fn entry(&self, kit: &Standing) -> Content {
        Content {
            cluster: Some(kit.cluster.clone()),
            kit: Some(named(kit)),
            reason: Some(self.reason.clone()),
            ..Content::of(Kind::KitDrill)
        }
    }
}
