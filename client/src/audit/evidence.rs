//! What a broker showed that does not fit: kept, so that someone else can look at it.

use std::path::PathBuf;

use serde_json::Value;

use super::known;
use crate::broker::Broker;
use crate::certificate::short_hash;
use crate::environment::Environment;
use crate::error::Error;
use crate::private_file;

/// Keeps what was shown, in a file named by what is in it: the same is kept once. Nothing removes it.
///
/// # Errors
/// When it cannot be written.
pub fn keep(environment: &Environment, broker: &Broker, shown: &Value) -> Result<PathBuf, Error> {
    let mut json = serde_json::to_string_pretty(shown).map_err(|_| Error::Bug("what was shown is not JSON"))?;
    json.push('\n');
    let file = known::folder(environment, broker)?.join("evidence").join(format!("{}.json", short_hash(&json)));
    private_file::write(&file, json.as_bytes())?;
    Ok(file)
}
