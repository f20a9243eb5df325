//! Which roles each method takes. `methods.json` has the table as Talos' sources have it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde::Deserialize;

/// One method of the node's API.
#[derive(Deserialize)]
pub(super) struct Method {
    method: String,
    pub(super) server_stream: bool,
    pub(super) roles: BTreeSet<String>,
}

#[derive(Default, Deserialize)]
struct Table {
    fallback_roles: BTreeSet<String>,
    methods: Vec<Method>,
}

/// The table, or an error where the committed file is broken.
fn table() -> &'static (BTreeSet<String>, BTreeMap<String, Method>) {
    static TABLE: OnceLock<(BTreeSet<String>, BTreeMap<String, Method>)> = OnceLock::new();
    TABLE.get_or_init(|| {
        // A broken file leaves an empty table, which lets nobody do anything; the test below tells.
        let table: Table = serde_json::from_str(include_str!("../methods.json")).unwrap_or_default();
        let methods = table.methods.into_iter().map(|method| (method.method.clone(), method)).collect();
        (table.fallback_roles, methods)
    })
}

/// The method of this exact path, if the API has it.
pub(super) fn find(path: &str) -> Option<&'static Method> {
    table().1.get(path)
}

/// Whether one of `roles` may call `path`.
pub(super) fn allowed(path: &str, roles: &BTreeSet<String>) -> bool {
    let wanted = find(path).map_or(&table().0, |method| &method.roles);
    !wanted.is_disjoint(roles)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles<const N: usize>(roles: [&str; N]) -> BTreeSet<String> {
        roles.map(str::to_owned).into()
    }

    #[test]
    fn the_table_is_whole() {
        assert_eq!(table().1.len(), 81);
        for (role, path, expected) in [
            ("os:reader", "/machine.MachineService/Version", true),
            ("os:reader", "/machine.MachineService/Reboot", false),
            ("os:operator", "/machine.MachineService/Reboot", true),
            ("os:operator", "/machine.MachineService/Kubeconfig", false),
            ("os:etcd:backup", "/machine.MachineService/EtcdSnapshot", true),
            ("OS:READER", "/machine.MachineService/Version", false),
            ("os:reader", "/machine.MachineService/NotThere", false),
            ("os:admin", "/machine.MachineService/NotThere", true),
        ] {
            assert_eq!(allowed(path, &roles([role, "user:alice"])), expected, "{role} {path}");
        }
    }
}
