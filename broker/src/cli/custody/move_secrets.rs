//! `custody move-secrets`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};

use crate::app;
use crate::cli::ca::{operator, server_name};
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, vault_key};
use crate::custody::{Home, Over, Secret};

/// Where the broker's own secrets can live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// In a file of the vault.
    Age,
    /// As a secret of KV version 2.
    Kv,
    /// Encrypted by a key of Transit, which is asked once at each start.
    Transit,
}

/// The broker's own secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Seals rows of the database.
    #[value(name = "data-key")]
    Data,
    /// Signs the audit log's checkpoints.
    #[value(name = "audit-key")]
    Audit,
}

/// `custody move-secrets`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MoveSecrets {
    #[command(flatten)]
    folder: FolderArg,
    /// Which secret: the key that seals rows of the database, or the one that signs the audit log.
    #[arg(long, value_enum, default_value_t = Which::Data)]
    secret: Which,
    /// Where it is to live.
    #[arg(long, value_enum)]
    to: Kind,
    /// Which [[openbao]] of config.toml, where there are several.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// The engine's mount there: `transit` or `secret` unless told otherwise.
    #[arg(long, value_name = "PATH")]
    mount: Option<String>,
    /// The Transit key's name, or the KV secret's path: `ichor.broker`, or `ichor-broker/data-key` (`ichor-broker/audit-key`),
    /// unless told otherwise.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// A file with an operator's token, for this command alone: the broker's own need not write. It has to read.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Write over another secret that is there: what a broker sealed with that one is lost to it.
    #[arg(long)]
    replace: bool,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

impl MoveSecrets {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let custody = app::custody(&loaded, vault_key::vault(&loaded.settings)?)?;
        let secret = match self.secret {
            Which::Data => Secret::Data,
            Which::Audit => Secret::Audit,
        };
        let before = custody.home(secret)?;
        let (mount, key) = (self.mount.clone(), self.key.clone());
        let to = match self.to {
            Kind::Age if self.server.is_some() || mount.is_some() || key.is_some() || self.replace => bail!(
                "`--server`, `--mount`, `--key` and `--replace` are for `kv` and `transit`; the vault's files have their own names"
            ),
            Kind::Age => Home::AGE,
            Kind::Kv => Home::Kv {
                server: server_name(self.server.clone(), &loaded)?,
                mount: mount.unwrap_or_else(|| "secret".into()),
                path: key.unwrap_or_else(|| format!("ichor-broker/{}", secret.name())),
            },
            Kind::Transit => Home::Transit {
                server: server_name(self.server.clone(), &loaded)?,
                mount: mount.unwrap_or_else(|| "transit".into()),
                key: key.unwrap_or_else(|| "ichor.broker".into()),
                ciphertext: String::new(),
            },
        };
        // the token is for the server that it goes to, or else for the one that it comes from
        let operator = match (&self.token_file, to.server().or(before.server())) {
            (None, _) => None,
            (Some(token), Some(server)) => Some((server.to_owned(), operator(&loaded, server, token)?)),
            (Some(_), None) => bail!("a file of the vault needs no token: leave `--token-file` out"),
        };
        let (name, from, into) = (secret.said(), before.said(secret), to.said(secret));
        let home = block_on(async {
            let desk = Desk::open(&loaded).await?;
            let message = format!("{name} moved from {from} to {into}");
            let deed = Deed { message, reason: self.reason.clone(), ..Deed::default() };
            let operator = operator.as_ref().map(|(server, client)| (server.as_str(), client));
            let over = Over { operator, replace: self.replace };
            let act = async || Ok(custody.move_secret(secret, to, over).await?);
            let moved = desk.act(deed, "it lives where it did", act).await;
            desk.close().await;
            moved
        })?;
        let home = home.said(secret);
        if home == from {
            // sealed anew: with another version of the key there, or to other recipients
            writeln!(out, "the {name} lives where it did, written anew: {home}")?;
        } else {
            writeln!(out, "the {name} now lives here: {home}")?;
            writeln!(out, "the copy before is still there: {from}; remove it once a start was seen to work")?;
        }
        Ok(())
    }
}
