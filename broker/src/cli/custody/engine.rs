//! `custody plan` and `custody apply`: the roles of a PKI engine.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ichor_wire::role::Role;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::app;
use crate::cli::ca::{operator, server_name};
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on};
use crate::config::{self, Loaded};
use crate::custody::{PkiPlan, Place, PlannedRole, Record, RoleSet, plan_pki};
use crate::domain::ClusterName;
use crate::openbao::Pki;

/// What is so where roles could not be written or deleted.
const UNDONE: &str = "the same command goes on";

/// What certificates a PKI engine is to make.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct EngineArgs {
    /// `pki` only: a set of roles that one certificate may hold together, as `reader` or `operator,etcd-backup`. Give it once
    /// for each set. Unless told otherwise: each role that the policies grant, alone.
    #[arg(long, value_name = "ROLES")]
    roles: Vec<RoleSet>,
    /// `pki` only: let the broker make a role for each person, so that the person stands in the nodes' logs. The engine then
    /// bounds nothing against an intruder in the broker.
    #[arg(long, conflicts_with = "roles")]
    pub(in crate::cli) role_per_person: bool,
}

/// Which engine, and for which roles.
#[derive(Debug, Args)]
struct Engine {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// Which [[openbao]] of config.toml: that of the cluster's CA, or the only one, unless told otherwise.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// The engine's mount: that of the cluster's CA, or `pki`, unless told otherwise.
    #[arg(long, value_name = "PATH")]
    mount: Option<String>,
    /// A set of roles that one certificate may hold together, as `reader` or `operator,etcd-backup`. Give it once for each set.
    /// Those that the engine has already are always looked at.
    #[arg(long, value_name = "ROLES")]
    roles: Vec<RoleSet>,
    /// Log in with the token in this file, an operator's, and not as the broker does: the broker's own may not write roles.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// `custody plan`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Plan {
    #[command(flatten)]
    engine: Engine,
    /// How to print it.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

/// `custody apply`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Apply {
    #[command(flatten)]
    engine: Engine,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
    /// Delete the roles that were made for persons, too. The broker makes again those that it needs.
    #[arg(long)]
    clean: bool,
}

/// A form of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Commands, with comments.
    Text,
    /// JSON, for programs.
    Json,
}

/// An engine that was found.
struct Found {
    loaded: Loaded,
    cluster: ClusterName,
    pki: Pki,
    namespace: Option<String>,
    sets: Vec<RoleSet>,
}

// === impl Plan ===

impl Plan {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let (found, plan) = block_on(async {
            let found = self.engine.find()?;
            let plan = plan_pki(&found.pki, &found.cluster, &found.sets).await?;
            anyhow::Ok((found, plan))
        })?;
        if self.output == Output::Json {
            let roles: Vec<_> = plan.roles.iter().map(|role| as_json(&found.pki, role)).collect();
            let json = json!({ "cluster": found.cluster.as_str(), "roles": roles, "roles_of_persons": plan.persons });
            writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
            return Ok(());
        }
        for role in &plan.roles {
            writeln!(out, "# {}: {}", roles_said(&role.set), state(role))?;
            for difference in role.differences.iter().flatten() {
                writeln!(out, "#   {difference}")?;
            }
            let namespace = found.namespace.as_deref().map(|name| format!("-namespace={name} ")).unwrap_or_default();
            let path = format!("{}/roles/{}", found.pki.mount(), role.name);
            writeln!(out, "bao write {namespace}{path} - <<'JSON'")?;
            writeln!(out, "{}\nJSON", serde_json::to_string_pretty(&role.wanted)?)?;
        }
        persons_said(&plan, out)
    }
}

// === impl Apply ===

impl Apply {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        block_on(async {
            let found = self.engine.find()?;
            let plan = plan_pki(&found.pki, &found.cluster, &found.sets).await?;
            let desk = Desk::open(&found.loaded).await?;
            let done = self.apply(&found, &plan, &desk, out).await;
            let checks = desk.reload().await;
            desk.close().await;
            done?;
            checks.map(drop)
        })
    }

    async fn apply(&self, found: &Found, plan: &PkiPlan, desk: &Desk, out: &mut dyn Write) -> anyhow::Result<()> {
        let (pki, cluster) = (&found.pki, &found.cluster);
        for role in &plan.roles {
            if role.is_right() {
                writeln!(out, "{}: is right already", role.name)?;
                continue;
            }
            let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(role.json()));
            let digests = BTreeMap::from([(format!("role {}", role.name), digest)]);
            let message = format!("PKI role {}/{} written for cluster `{cluster}`", pki.mount(), role.name);
            let deed = self.deed(cluster, message, digests);
            desk.act(deed, UNDONE, async || Ok(role.write(pki, cluster).await?)).await?;
            writeln!(out, "{}: written, and read back as it has to be", role.name)?;
        }
        let persons = match (&plan.persons, self.clean) {
            (Some(persons), true) => persons.as_slice(),
            (None, true) => {
                bail!("this token may not list the roles of `{}`; use an operator's `--token-file`", pki.mount())
            }
            (_, false) => return persons_said(plan, out),
        };
        if !persons.is_empty() {
            let message = format!("{} PKI roles of persons deleted for cluster `{cluster}`", persons.len());
            let delete = async || {
                for name in persons {
                    pki.delete_role(name).await?;
                }
                Ok(())
            };
            desk.act(self.deed(cluster, message, BTreeMap::new()), UNDONE, delete).await?;
        }
        writeln!(out, "{} roles of persons deleted", persons.len())?;
        Ok(())
    }

    fn deed(&self, cluster: &ClusterName, message: String, digests: BTreeMap<String, String>) -> Deed {
        Deed { ca: true, cluster: Some(cluster.to_string()), message, reason: self.reason.clone(), digests }
    }
}

// === impl Engine ===

impl Engine {
    /// The engine of the cluster's CA, or the one named: roles are made before the CA is taken up.
    fn find(&self) -> anyhow::Result<Found> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::super::ca::declared(&loaded, &self.cluster)?;
        let record = Record::read(&loaded.settings.vault, &cluster)?;
        let (mut server, mut mount, mut sets) = (self.server.clone(), self.mount.clone(), self.roles.clone());
        match record.map(|record| record.active) {
            Some(Place::Pki { server: s, mount: m, roles, role_per_person, .. }) => {
                server = server.or(Some(s));
                mount = mount.or(Some(m));
                sets.extend(roles);
                if sets.is_empty() && !role_per_person {
                    sets = usual(&loaded)?;
                }
            }
            _ if sets.is_empty() => sets = usual(&loaded)?,
            _ => {}
        }
        let server = server_name(server, &loaded)?;
        let client = match &self.token_file {
            Some(token) => operator(&loaded, &server, token)?,
            None => {
                let clients = config::openbao_clients(&loaded.folder, &loaded.file)?;
                clients.get(&server).cloned().context("there is no such server")?
            }
        };
        let section = loaded.file.openbao.iter().find(|section| section.name == server);
        let namespace = section.and_then(|section| section.namespace.clone());
        let pki = Pki::new(client, mount.as_deref().unwrap_or("pki"))?;
        Ok(Found { loaded, cluster, pki, namespace, sets })
    }
}

// === impl EngineArgs ===

impl EngineArgs {
    /// The sets asked for, or each role that the policies grant.
    pub(in crate::cli) fn role_sets(&self, loaded: &Loaded) -> anyhow::Result<Vec<RoleSet>> {
        if self.role_per_person {
            return Ok(Vec::new());
        }
        if self.roles.is_empty() { usual(loaded) } else { Ok(self.roles.clone()) }
    }

    /// Fails where one was given for another custody.
    pub(in crate::cli) fn check_unused(&self) -> anyhow::Result<()> {
        if self.role_per_person || !self.roles.is_empty() {
            bail!(
                "`--roles` and `--role-per-person` are for `--custody pki`; elsewhere the broker writes every certificate itself"
            );
        }
        Ok(())
    }
}

/// Each role that some policy grants, alone.
fn usual(loaded: &Loaded) -> anyhow::Result<Vec<RoleSet>> {
    let granted: Vec<Role> = app::check_policies(&loaded.settings)?.grantable();
    let sets: Vec<RoleSet> = granted.iter().filter_map(|role| RoleSet::of(&[*role])).collect();
    if sets.is_empty() {
        bail!("the policies grant no role; say which roles the engine is to make with `--roles`");
    }
    Ok(sets)
}

fn roles_said(set: &RoleSet) -> String {
    set.roles().iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" and ")
}

fn state(role: &PlannedRole) -> &'static str {
    match &role.differences {
        None => "is not there",
        Some(found) if found.is_empty() => "is right",
        Some(_) => "differs",
    }
}

fn as_json(pki: &Pki, role: &PlannedRole) -> serde_json::Value {
    let differences: Vec<_> = role.differences.iter().flatten().collect();
    let differences: Vec<_> =
        differences.iter().map(|it| json!({ "field": it.field, "found": it.found, "right": it.right })).collect();
    json!({
        "path": format!("{}/roles/{}", pki.mount(), role.name),
        "certificates": role.set.roles(),
        "state": state(role),
        "differences": differences,
        "role": role.wanted,
    })
}

fn persons_said(plan: &PkiPlan, out: &mut dyn Write) -> anyhow::Result<()> {
    match &plan.persons {
        Some(persons) if !persons.is_empty() => {
            writeln!(out, "# and {} roles of persons, which `custody apply --clean` deletes", persons.len())?;
        }
        _ => {}
    }
    Ok(())
}
