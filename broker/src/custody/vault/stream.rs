//! Files larger than memory, sealed as the vault's files are.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::recipients::Recipients;
use super::{IdentitySource, Plugins, Vault, VaultError, file, identity, sealed};

impl Vault {
    /// Seals what `write` writes into `out`: to `recipients`, or to the vault's own where none are given. Answers whom it is
    /// sealed to, by kind.
    ///
    /// # Errors
    /// When a recipient is none, or `write` or `out` fails.
    pub fn seal_into(
        &self,
        recipients: &[String],
        out: &mut File,
        write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<String, VaultError> {
        let to = self.sealed_to(recipients)?;
        let mut out = BufWriter::new(out);
        to.seal_into(&mut out, write)?;
        out.flush().map_err(|error| VaultError::File { path: "sealing".into(), reason: error.to_string() })?;
        Ok(to.kinds())
    }

    /// The recipients in these lines, or the vault's own where there are none.
    pub(super) fn sealed_to(&self, recipients: &[String]) -> Result<Recipients, VaultError> {
        match recipients {
            [] => Ok(self.sealer.recipients().clone()),
            some => {
                let text = some.join("\n");
                Recipients::parse(&text, &self.plugins)?.ok_or(VaultError::Recipient(text))
            }
        }
    }
}

/// What is sealed in the file at `path`, as it is read; `dir` is the vault's folder, where `source` says that the identity lies
/// there. An end that was cut off is an error of the reader.
///
/// # Errors
/// When there is no such file, or the identity does not open it.
pub fn open_sealed(
    path: &Path,
    source: IdentitySource,
    dir: &Path,
    plugins: &Plugins,
) -> Result<impl Read, VaultError> {
    let sealed = BufReader::new(file::open_outside(path)?);
    let openers = identity::load(dir, source, plugins)?;
    sealed::open_reader(path, sealed, &openers)
}
