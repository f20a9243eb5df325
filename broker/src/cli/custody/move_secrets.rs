//! `custody move-secrets`.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::app;
use crate::cli::ca::{operator, server_name};
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, unlock};
use crate::custody::Home;

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

/// `custody move-secrets`.
#[derive(Debug, Args)]
pub(in crate::cli) struct MoveSecrets {
    #[command(flatten)]
    folder: FolderArg,
    /// Where they are to live.
    #[arg(long, value_enum)]
    to: Kind,
    /// Which [[openbao]] of config.toml, where there are several.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// The engine's mount there: `transit` or `secret` unless told otherwise.
    #[arg(long, value_name = "PATH")]
    mount: Option<String>,
    /// The Transit key's name, or the KV secret's path: `ichor.broker`, or `ichor-broker/data-key`, unless told otherwise.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// A file with an operator's token, for this command alone: the broker's own need not write.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

impl MoveSecrets {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let mut custody = app::custody(&loaded, unlock::vault(&loaded.settings)?)?;
        let before = custody.data_key_home()?;
        let (mount, key) = (self.mount.clone(), self.key.clone());
        let to = match self.to {
            Kind::Age => Home::Age,
            Kind::Kv => Home::Kv {
                server: server_name(self.server.clone(), &loaded)?,
                mount: mount.unwrap_or_else(|| "secret".into()),
                path: key.unwrap_or_else(|| "ichor-broker/data-key".into()),
            },
            Kind::Transit => Home::Transit {
                server: server_name(self.server.clone(), &loaded)?,
                mount: mount.unwrap_or_else(|| "transit".into()),
                key: key.unwrap_or_else(|| "ichor.broker".into()),
                ciphertext: String::new(),
            },
        };
        if let (Some(token), Home::Kv { server, .. } | Home::Transit { server, .. }) = (&self.token_file, &to) {
            custody.use_server(server, operator(&loaded, server, token)?);
        }
        let home = block_on(async {
            let desk = Desk::open(&loaded).await?;
            let message = format!("data key moved from {} to {}", before.said(), to.said());
            let deed = Deed { message, reason: self.reason.clone(), ..Deed::default() };
            let moved = desk.act(deed, "it lives where it did", async || Ok(custody.move_data_key(to).await?)).await;
            desk.close().await;
            moved
        })?;
        writeln!(out, "the data key now lives here: {}", home.said())?;
        writeln!(out, "the copy before is still there: {}; remove it once a start was seen to work", before.said())?;
        Ok(())
    }
}
