//! Where a new CA is to live, from the command line.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::config::{Loaded, openbao_client_of, openbao_clients};
use crate::custody::{Place, Target};
use crate::openbao::Client;

/// The kinds of custody that hold a key of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// A file of the vault, sealed to its recipients.
    Age,
    /// A secret of OpenBao's or Vault's KV, version 2; the broker reads the key into memory.
    Kv,
    /// A key of OpenBao's or Vault's Transit; it signs there and never leaves. Recommended.
    Transit,
    /// OpenBao's or Vault's PKI engine, which has a CA of its own and makes the certificates by roles of its own.
    Pki,
}

/// Options that say where.
#[derive(Clone, Debug, Args)]
pub(super) struct Where {
    /// Where the CA's key lives.
    #[arg(long, value_enum, default_value = "age")]
    pub(super) custody: Kind,
    #[command(flatten)]
    pub(super) at: At,
}

/// Options that say where at a server.
#[derive(Clone, Debug, Args)]
pub(super) struct At {
    /// Which [[openbao]] of config.toml, where there are several; a rotation stays at the one that it is at.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// The engine's mount there: `transit`, `secret` or `pki` unless told otherwise.
    #[arg(long, value_name = "PATH")]
    mount: Option<String>,
    /// The Transit key's name, or the KV secret's path: `ichor-CLUSTER` or `ichor/CLUSTER` unless told otherwise, with the
    /// CA's number behind it from the cluster's second on, as `ichor-prod.2`. One that is there already is used if it can be.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Log in there with the token in this file, an operator's, and not as the broker does: the broker's own may not write.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

// === impl Kind ===

impl Kind {
    /// The kind that holds this place's key.
    pub(super) fn of(place: &Place) -> anyhow::Result<Self> {
        match place {
            Place::Age { .. } => Ok(Self::Age),
            Place::Kv { .. } => Ok(Self::Kv),
            Place::Transit { .. } => Ok(Self::Transit),
            other => {
                bail!("no key of ours is there ({}); say where the new one is to live with `--custody`", other.said())
            }
        }
    }
}

// === impl Where ===

impl Where {
    pub(super) fn target(&self, loaded: &Loaded) -> anyhow::Result<Target> {
        self.at.target(self.custody, loaded)
    }
}

impl At {
    /// Where the CA of this place is, unless the command says otherwise or wants another kind of custody.
    pub(super) fn beside(&self, place: &Place, kind: Kind) -> Self {
        let (server, mount) = match place {
            Place::Kv { server, mount, .. } if kind == Kind::Kv => (server, mount),
            Place::Transit { server, mount, .. } if kind == Kind::Transit => (server, mount),
            _ => return self.clone(),
        };
        // another server has mounts of its own
        let is_there = self.server.as_ref().is_none_or(|named| named == server);
        Self {
            server: self.server.clone().or_else(|| Some(server.clone())),
            mount: self.mount.clone().or_else(|| is_there.then(|| mount.clone())),
            ..self.clone()
        }
    }

    pub(super) fn target(&self, kind: Kind, loaded: &Loaded) -> anyhow::Result<Target> {
        let At { server, mount, key, token_file } = self.clone();
        if kind == Kind::Age {
            if server.is_some() || mount.is_some() || key.is_some() || token_file.is_some() {
                bail!(
                    "`--server`, `--mount`, `--key` and `--token-file` are for `kv`, `transit` and `pki`; the vault's files \
                     have their own names"
                );
            }
            return Ok(Target::Age);
        }
        let server = server_name(server, loaded)?;
        let mount = |usual: &str| mount.unwrap_or_else(|| usual.to_owned());
        Ok(match kind {
            Kind::Age => Target::Age,
            Kind::Kv => Target::Kv { server, mount: mount("secret"), path: key },
            Kind::Transit => Target::Transit { server, mount: mount("transit"), key },
            Kind::Pki if key.is_some() => {
                bail!("`--key` is for `kv` and `transit`; a PKI engine has one CA at its mount")
            }
            Kind::Pki => Target::Pki { server, mount: mount("pki"), role_per_person: false, roles: Vec::new() },
        })
    }

    /// The clients of the servers; at the target's the operator's token is used, if one was given.
    pub(super) fn clients(&self, target: &Target, loaded: &Loaded) -> anyhow::Result<BTreeMap<String, Client>> {
        let mut clients = openbao_clients(&loaded.folder, &loaded.file)?;
        if let (Some(token), Some(server)) = (&self.token_file, target.server()) {
            clients.insert(server.to_owned(), operator(loaded, server, token)?);
        }
        Ok(clients)
    }
}

/// A client that logs in with the token in this file, of the folder where the command was called.
pub(in crate::cli) fn operator(loaded: &Loaded, server: &str, token: &Path) -> anyhow::Result<Client> {
    let token = std::path::absolute(token).with_context(|| format!("`{}` is no path", token.display()))?;
    if std::fs::metadata(&token).is_ok_and(|found| found.permissions().mode() & 0o077 != 0) {
        writeln!(
            std::io::stderr(),
            "warning: `{0}` holds an operator's token, and others than its owner may read it; make it 600 (`chmod 600 {0}`)",
            token.display()
        )?;
    }
    Ok(openbao_client_of(&loaded.folder, &loaded.file, server, token)?)
}

/// The server that is meant: the one named, or the only one there is.
pub(in crate::cli) fn server_name(server: Option<String>, loaded: &Loaded) -> anyhow::Result<String> {
    let server = match (server, loaded.file.openbao.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only.name.clone(),
        (None, []) => bail!("config.toml has no [[openbao]]; add the server first, see docs/custody.md"),
        (None, _) => bail!("config.toml has several [[openbao]]; say which with `--server`"),
    };
    let found = loaded.file.openbao.iter().any(|section| section.name == server);
    found.then_some(()).with_context(|| format!("config.toml has no [[openbao]] named `{server}`"))?;
    Ok(server)
}
