//! Why the vault could not do it: each error one sentence with the next step.

use std::path::PathBuf;

use ichor_wire::profile::CaError;

use super::PluginError;
use crate::custody::ca::KeyMismatch;
use crate::custody::{KeyLoadError, SealError, StandingError};
use crate::entropy::EntropyError;
use crate::regular::ReadError;

/// Why the vault could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The file system said no.
    #[error("`{path}`: {reason}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A vault, or a file in it, is there already.
    #[error("`{0}` exists already and is not overwritten; ask to replace it if that is meant")]
    Exists(PathBuf),
    /// What was to open it ended before it did.
    #[error("a file of the vault could not be opened, for what opens it ended; the broker's own log says why")]
    Unopened,
    /// No such file in the vault.
    #[error("`{0}` does not exist; if it did, bring it back with `ichor-broker custody restore`")]
    Missing(PathBuf),
    /// The folder has no recipients.
    #[error(
        "`{0}` is not a vault (no recipients.txt); if it was, bring it back with `ichor-broker custody restore`, and `ichor-broker \
         init` makes a new one"
    )]
    NotAVault(PathBuf),
    /// A line of `recipients.txt`, or a recipient given, is not one.
    #[error("`{0}` is not a recipient; write `age1…`, `ssh-ed25519 …`, `ssh-rsa …`, or a plugin's `age1NAME1…`")]
    Recipient(String),
    /// The identity's file is not there.
    #[error("no identity at `{0}`; give the passphrase's file, or the identity as a systemd credential")]
    NoIdentity(PathBuf),
    /// The identity's text is not one.
    #[error(
        "the identity is none that opens a vault: give `AGE-SECRET-KEY-1…`, an OpenSSH private key, or an allowed plugin's \
         `AGE-PLUGIN-…`"
    )]
    Identity,
    /// An OpenSSH key that is sealed with a passphrase.
    #[error(
        "the OpenSSH key is sealed with a passphrase, and nobody is there to type it; take the passphrase off a copy \
         (`ssh-keygen -p -N '' -f COPY`) and hand that over as an encrypted systemd credential"
    )]
    SshPassphrase,
    /// An OpenSSH key that age cannot open files with.
    #[error("this kind of SSH key cannot open a vault; use an `ssh-ed25519` or `ssh-rsa` key in OpenSSH's format")]
    SshKind,
    /// `identity.age` is not sealed with a passphrase.
    #[error("`{0}` is not sealed with a passphrase")]
    NotPassphrase(PathBuf),
    /// The passphrase does not open the identity.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The passphrase is too short to protect the vault.
    #[error("the passphrase is too short; use at least twelve characters")]
    ShortPassphrase,
    /// Opening the identity would take too much work: nothing of ours asks for so much.
    #[error("`{0}` asks for too much work; it was not made by this program")]
    Work(PathBuf),
    /// The identity is none of the recipients, so what is sealed from now on could not be opened.
    #[error("the identity's recipient `{0}` is not in recipients.txt; add it, or give the right identity")]
    NotARecipient(String),
    /// The file is sealed, but not to this identity.
    #[error("`{0}` is not sealed to this identity; open it with another, or seal it again")]
    NoMatch(PathBuf),
    /// The file was changed or cut, or is no age file.
    #[error("`{0}` is damaged; restore it from a backup")]
    Damaged(PathBuf),
    /// The file was sealed for something else.
    #[error("`{path}` was sealed as `{found}`; it was moved or renamed")]
    Mislabelled {
        /// Which file.
        path: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// A CA's record is none.
    #[error("`{0}` is no record of a CA; restore it from a backup")]
    Record(PathBuf),
    /// A CA's key without the record that says that it is in force.
    #[error(
        "`{path}` holds a CA's key, but no record says that it is in force: it may be one that was moved or retired. Restore \
         `ca/{cluster}.toml` from a backup, or, where an earlier version made this CA, run `ichor-broker ca record {cluster} --reason …`"
    )]
    NoRecord {
        /// The key's file.
        path: PathBuf,
        /// The cluster that it is named after.
        cluster: String,
    },
    /// A CA's record is another cluster's.
    #[error(
        "`{path}` is the record of cluster `{owner}`'s CA, copied; restore this cluster's own from a backup, or remove the file and \
         make a CA with `ichor-broker ca create`"
    )]
    OthersRecord {
        /// The file.
        path: PathBuf,
        /// Whose record it is.
        owner: String,
    },
    /// A CA's record is another than the one that a command began with.
    #[error(
        "`{0}` was changed by another command meanwhile, and stays as that left it; look at `ichor-broker ca show`, then try again"
    )]
    RecordChanged(PathBuf),
    /// The recipients are others than when a command began.
    #[error("`{0}` was changed by another command meanwhile, so nothing was sealed; run this again")]
    RecipientsChanged(PathBuf),
    /// A secret's name does not fit.
    #[error("`{0}` is not a secret's name: use lower-case letters, digits and inner hyphens")]
    Name(String),
    /// With such recipients the broker could open nothing any more.
    #[error(
        "with these recipients the broker's own identity would open nothing any more; keep its recipient in the list"
    )]
    LocksOut,
    /// A recipient that is to be taken out is not there.
    #[error("`{0}` is not in recipients.txt; nothing was changed")]
    NotListed(String),
    /// A folder to restore into has files.
    #[error("`{0}` is not empty, and a restore overwrites nothing; move it away, or name another folder with `--to`")]
    NotEmpty(PathBuf),
    /// A file is none that can be one of ours; it was not read.
    #[error("`{path}`: {why}")]
    Unread {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        why: ReadError,
    },
    /// A file that has to be there is not.
    #[error("`{file}` belongs to it and is missing; bring that file back from another backup{otherwise}")]
    Lacks {
        /// Its path below the vault's folder.
        file: String,
        /// What else helps.
        otherwise: &'static str,
    },
    /// More than a backup holds.
    #[error("the vault holds more than the 16 MiB that go into a backup; move what is not the vault's out of `{0}`")]
    TooLarge(PathBuf),
    /// Another command writes there.
    #[error("another command seals into `{0}` right now; try again when it is done")]
    Busy(PathBuf),
    /// A plugin did not do its part.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// A private key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyLoadError),
    /// A CA certificate cannot be used.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A standing credential cannot be used.
    #[error(transparent)]
    Standing(#[from] StandingError),
    /// Key and certificate belong to different CAs.
    #[error(transparent)]
    Mismatch(#[from] KeyMismatch),
    /// A data key cannot be used.
    #[error(transparent)]
    Data(#[from] SealError),
    /// No random values.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}
