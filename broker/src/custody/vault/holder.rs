//! What one holder alone opens.

use super::recipients::Recipients;
use super::{Plugins, VaultError};

/// Seals `bytes` to one age recipient; to seal to a plugin's runs the plugin, if it is among these. Answers the recipient as it
/// is written, and the age file.
pub(in crate::custody) fn seal_to(
    recipient: &str,
    plugins: &Plugins,
    bytes: &[u8],
) -> Result<(String, Vec<u8>), VaultError> {
    let shown = || VaultError::Recipient("(more than one line)".to_owned());
    let recipients = Recipients::parse(recipient, plugins)?.ok_or_else(|| VaultError::Recipient("(nothing)".into()))?;
    let lines = recipients.lines();
    let [line] = lines.as_slice() else { return Err(shown()) };
    let sealed = recipients.seal(|out| out.write_all(bytes))?;
    Ok((line.clone(), sealed))
}
