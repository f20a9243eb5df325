//! `ca import`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use zeroize::Zeroizing;

use super::keep::Keeping;
use super::target::Where;
use crate::cli::FolderArg;
use crate::cli::custody::EngineArgs;
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::custody::Target;
use crate::custody::ca::{self, CaFacts};
use crate::domain::ClusterName;

/// `ca import`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Import {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// The file; `-` reads standard input. Certificate and key in two files: give the option twice. Not for `pki`, whose engine
    /// has its CA already.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["custody"])]
    from: Vec<PathBuf>,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    engine: EngineArgs,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
    /// Replace the CA that is in custody.
    #[arg(long)]
    replace: bool,
}

impl Import {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let target = self.place.target(&loaded)?;
        let is_engine = matches!(target, Target::Pki { .. });
        match (is_engine, self.from.is_empty()) {
            (true, true) => return self.take_up(&loaded, &cluster, target, out),
            (true, false) => bail!("a PKI engine has its CA already, so there is no `--from`; see docs/custody.md"),
            (false, true) => bail!("say which CA to import: `--from FILE`"),
            (false, false) => self.engine.check_unused()?,
        }
        let mut text = Zeroizing::new(String::new());
        for path in &self.from {
            text.push_str(&super::read(path)?);
            text.push('\n');
        }
        let (material, kind) = ca::import(&text, SystemClock.now())?;
        let facts = material.facts();
        let keeping = Keeping {
            loaded: &loaded,
            cluster: &cluster,
            target: &target,
            at: &self.place.at,
            message: format!("CA imported for cluster `{cluster}` from {kind}"),
            reason: self.reason,
            replace: self.replace,
        };
        let settled = keeping.keep(&material)?;
        settled.remarks.iter().try_for_each(|remark| writeln!(out, "{remark}"))?;
        writeln!(
            out,
            "imported from {kind}: {} ({}), valid until {}",
            facts.subject, facts.algorithm, facts.not_after
        )?;
        writeln!(out, "certificate sha256 {}", facts.fingerprint)?;
        writeln!(out, "its key is now in custody: {}", settled.place.said())?;
        writeln!(out, "this is the cluster's own CA: whoever has its key has the cluster until `talosctl rotate-ca`")?;
        Ok(())
    }

    /// Takes up the CA of a PKI engine.
    fn take_up(
        self,
        loaded: &Loaded,
        cluster: &ClusterName,
        target: Target,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let Target::Pki { server, mount, .. } = target else { bail!("this is no PKI engine") };
        let role_per_person = self.engine.role_per_person;
        let roles = self.engine.role_sets(loaded)?;
        let settled = Keeping {
            loaded,
            cluster,
            target: &Target::Pki { server, mount, role_per_person, roles },
            at: &self.place.at,
            message: format!("CA of a PKI engine taken up for cluster `{cluster}`"),
            reason: self.reason,
            replace: self.replace,
        }
        .take_up()?;
        settled.remarks.iter().try_for_each(|remark| writeln!(out, "{remark}"))?;
        let facts = CaFacts::of(&settled.certificate);
        writeln!(out, "taken up: {} ({}), valid until {}", facts.subject, facts.algorithm, facts.not_after)?;
        writeln!(out, "certificate sha256 {}", facts.fingerprint)?;
        writeln!(out, "its key stays in the {}", settled.place.said())?;
        if role_per_person {
            writeln!(
                out,
                "the broker makes a role for each person: the engine bounds nothing against an intruder in the broker"
            )?;
        } else {
            writeln!(out, "its certificates name the roles alone: no user, no grant; see docs/custody.md")?;
        }
        writeln!(
            out,
            "nodes accept them once they have its certificate: ichor-broker ca patch {cluster}{}",
            self.folder.said()
        )?;
        Ok(())
    }
}
