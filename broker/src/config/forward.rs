//! `[[forward]]`: from the file as written to where entries are sent. The comments of the section are the reference, as in
//! [`super::file`].

use std::collections::HashSet;
use std::path::PathBuf;

use ichor_wire::loopback::is_loopback;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::file::File;
use super::{ConfigError, Folder};
use crate::domain::ProviderAlias;
use crate::forward::{Collector, Destination, Settings};

/// The longest token, in bytes.
const LONGEST_TOKEN: usize = 8192;

/// Where the audit log is forwarded to, entry by entry, in order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Its name, `[a-z0-9-]+`. How far it has come is kept under it: a new name begins at the log's first entry.
    pub name: String,
    /// What it is sent as.
    pub kind: ForwardKind,
    /// For `jsonl`: the file or named pipe. A file is made where it is missing (mode 0600), and opened anew when it was moved away.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// For `otlp`: the collector's URL; `/v1/logs` is added where it has no path. Plain `http` only on loopback.
    #[serde(default)]
    pub url: Option<String>,
    /// For `otlp`: a CA certificate (PEM) for the collector's TLS, and then no other.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// For `otlp`: a file with a bearer token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// What the audit log is forwarded as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardKind {
    /// A line of JSON for each entry, into a file or named pipe.
    #[default]
    Jsonl,
    /// OpenTelemetry logs over HTTP, in JSON.
    Otlp,
}

/// Where the log is forwarded to.
///
/// # Errors
/// On the first section that does not fit, or whose files cannot be read.
pub fn forwards(folder: &Folder, file: &File) -> Result<Vec<Settings>, ConfigError> {
    let mut names = HashSet::new();
    file.forward
        .iter()
        .map(|section| {
            let value = |key: &str, why: &str| ConfigError::Value {
                path: folder.config(),
                key: format!("forward.{key}"),
                why: why.into(),
            };
            if !is_name(&section.name) {
                return Err(value("name", "use up to 63 lower-case letters, digits and inner hyphens"));
            }
            if !names.insert(section.name.as_str()) {
                return Err(value("name", "each has a name of its own"));
            }
            let to = match section.kind {
                ForwardKind::Jsonl => {
                    let path = section.path.as_ref().ok_or_else(|| value("path", "name the file or pipe"))?;
                    if section.url.is_some() || section.ca_file.is_some() || section.token_file.is_some() {
                        return Err(value("url", "`jsonl` takes nothing but `path`"));
                    }
                    Destination::Lines(folder.at(path))
                }
                ForwardKind::Otlp if section.path.is_some() => {
                    return Err(value("path", "`otlp` takes a `url`"));
                }
                ForwardKind::Otlp => Destination::Otlp(collector(folder, section, &value)?),
            };
            Ok(Settings { name: section.name.clone(), to })
        })
        .collect()
}

fn collector(
    folder: &Folder,
    section: &Forward,
    value: &impl Fn(&str, &str) -> ConfigError,
) -> Result<Collector, ConfigError> {
    let text =
        section.url.as_deref().ok_or_else(|| value("url", "name the collector, as `https://otel.example.com`"))?;
    let url = sink_url(text).map_err(|why| value("url", why))?;
    let read = |path: &PathBuf| super::folder::read_bytes(&folder.at(path));
    let token = match section.token_file.as_ref().map(read).transpose()? {
        Some(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| value("token_file", "it is not text"))?;
            let text = text.trim();
            if text.is_empty() || text.len() > LONGEST_TOKEN || text.chars().any(|c| !c.is_ascii_graphic()) {
                return Err(value("token_file", "it holds one token of visible ASCII characters"));
            }
            Some(SecretString::from(text))
        }
        None => None,
    };
    Ok(Collector { url, ca: section.ca_file.as_ref().map(read).transpose()?, token })
}

/// Whether it is a name as an alias is.
pub(super) fn is_name(text: &str) -> bool {
    ProviderAlias::new(text).is_ok()
}

/// The URL of whom the broker sends to, if nobody between can read along.
///
/// # Errors
/// When it is none, in words that do not repeat it.
pub(super) fn sink_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "write a URL, as `https://sink.example.com`")?;
    let is_fine = match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(&url),
        _ => false,
    };
    if !is_fine || !url.username().is_empty() || url.password().is_some() {
        return Err("use https without a user name; plain http is for loopback only");
    }
    Ok(url)
}
