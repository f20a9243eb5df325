//! The servers that hold keys, by the names that the configuration gives them.

use std::collections::BTreeMap;

use crate::openbao::Client;

/// The configuration has no server of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no [[openbao]] named `{0}` in config.toml as it was read; name one that is there, or add it and restart the broker: a \
     reload takes up no new one"
)]
pub struct UnknownServer(pub String);

/// The client of a server.
///
/// # Errors
/// When there is none of that name.
pub(super) fn client(servers: &BTreeMap<String, Client>, name: &str) -> Result<Client, UnknownServer> {
    servers.get(name).cloned().ok_or_else(|| UnknownServer(name.to_owned()))
}
