//! Reads the config folder and builds each room's checked settings. Only `app` and `cli` read it.
//!
//! The folder as `ichor-broker init` makes it:
//!
//! ```text
//! config.toml      this module's `File`
//! clusters/*.toml  one file a cluster
//! policies/*.cedar one policy set, with cases.toml beside it
//! vault/           sealed CA keys and secrets
//! tls/             the broker's own certificate
//! data/            the database
//! ```

mod audit;
mod clusters;
mod file;
mod folder;
mod forward;
mod limits;
mod login;
mod modes;
mod nodelog;
mod notify;
mod openbao;
mod provider;
mod settings;
mod store;

use std::path::PathBuf;

pub use audit::{AnchorKv, Audit, AuditSettings, Witness};
pub use clusters::{ClusterFile, check_cluster, digests, load_clusters, render_cluster};
pub use file::{Certificates, ClustersFolder, Custody, File, Identity, Log, LogFormat, Policies, Server, Session};
pub use folder::{Folder, Loaded, load_policies};
pub use forward::{Forward, ForwardKind, forwards};
pub use limits::Limits;
pub use login::{group_files, load_groups, login_settings};
pub use modes::too_open;
pub use nodelog::{NodeLog, NodeLogSource};
pub use notify::{BreakGlass, Notify, NotifyKind, sink_files, sinks};
pub use openbao::{AuthMethod, OpenBao, openbao_client_of, openbao_clients};
pub use provider::{GroupsFrom, Provider, Recheck};
pub use settings::{Listen, Settings, parse_duration};
pub use store::{Postgres, Store};

/// What is wrong with the configuration: which file, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no `config.toml` in the folder.
    #[error("there is no `{}`; make the folder with `ichor-broker init`, or name another with `--dir`", .0.display())]
    NoConfig(PathBuf),
    /// The file cannot be read.
    #[error("cannot read `{}`: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
    /// The file is not what its format says.
    #[error("`{}`{place}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// `:line:column`, or nothing.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// A value does not fit its key.
    #[error("`{key}` in `{}`: {why}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, as `server.public_url`.
        key: String,
        /// What is wrong and what would be right.
        why: String,
    },
}
