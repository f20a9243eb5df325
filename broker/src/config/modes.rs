//! Who else may write what the broker believes, or read what it keeps to itself.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::folder::files;
use super::{Loaded, sink_files};

/// Anybody may write it.
const WRITE: u32 = 0o002;
/// Anybody may read or write it.
const ANY: u32 = 0o007;
/// Of a folder: nobody takes away another's files.
const STICKY: u32 = 0o1000;

/// A sentence for each file and folder of the configuration that every user of this host may write, and for each secret that
/// it names and every user may read; those of the vault are told by the vault. Empty where all is well.
#[must_use]
pub fn too_open(loaded: &Loaded) -> Vec<String> {
    let written = believed(loaded).into_iter().filter_map(|path| {
        let mode = open(&path, WRITE)?;
        Some(format!("`{0}` has mode {mode:o}: everyone may change it; `chmod o-w {0}`", path.display()))
    });
    let read = kept(loaded).into_iter().filter_map(|path| {
        let mode = open(&path, ANY)?;
        Some(format!("`{0}` has mode {mode:o}: it is not the broker's alone; `chmod 600 {0}`", path.display()))
    });
    written.chain(read).collect()
}

/// The mode of what is open in this way. What is not there says so elsewhere.
fn open(path: &Path, bits: u32) -> Option<u32> {
    let found = std::fs::metadata(path).ok()?;
    let mode = found.permissions().mode() & 0o7777;
    (mode & bits != 0 && !(found.is_dir() && mode & STICKY != 0)).then_some(mode)
}

/// What says who gets in.
fn believed(loaded: &Loaded) -> Vec<PathBuf> {
    let (folder, settings) = (&loaded.folder, &loaded.settings);
    let mut paths = vec![folder.root().to_owned(), settings.policies.clone(), settings.clusters.clone()];
    paths.extend(sink_files(folder, &loaded.file));
    // who is in which group, and whose word it is
    let providers = loaded.file.provider.iter().flat_map(|it| [&it.groups_file, &it.ca_file]);
    let servers = loaded.file.openbao.iter().map(|it| &it.ca_file);
    paths.extend(providers.chain(servers).flatten().map(|path| folder.at(path)));
    for (dir, ending) in [(&settings.policies, "cedar"), (&settings.clusters, "toml")] {
        paths.extend(files(dir, ending).unwrap_or_default());
    }
    if settings.postgres.is_none() {
        paths.extend(settings.database.parent().map(Path::to_owned));
        paths.push(settings.database.clone());
    }
    paths.dedup();
    paths
}

/// What nobody else is to know.
fn kept(loaded: &Loaded) -> Vec<PathBuf> {
    let (folder, file) = (&loaded.folder, &loaded.file);
    let named = [&file.server.tls_key, &file.audit.tile_token_file, &file.store.url_file, &file.store.key];
    let providers = file.provider.iter().map(|it| &it.client_secret_file);
    let vaults = file.openbao.iter().flat_map(|it| [&it.secret_file, &it.key]);
    let sinks = file.notify.iter().flat_map(|it| [&it.url_file, &it.secret_file, &it.password_file]);
    let forwards = file.forward.iter().map(|it| &it.token_file);
    let all = named.into_iter().chain(providers).chain(vaults).chain(sinks).chain(forwards);
    all.flatten().map(|path| folder.at(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};

    use super::*;
    use crate::config::Folder;

    #[test]
    fn what_everyone_may_change_or_read_is_named() -> anyhow::Result<()> {
        let room = tempfile::tempdir()?;
        for dir in ["policies", "clusters", "data", "vault"] {
            std::fs::create_dir(room.path().join(dir))?;
        }
        let config = "[server]\npublic_url = \"https://127.0.0.1:9\"\nlisten = \"127.0.0.1:9\"\ntls_certificate = \"key.pem\"\ntls_key = \"key.pem\"\n";
        let provider = "[[provider]]\nalias = \"a\"\nissuer = \"https://127.0.0.1:9\"\nclient_id = \"ichor\"\n\
                        groups_file = \"groups.toml\"\nca_file = \"provider.pem\"\n";
        let server = "[[openbao]]\nname = \"main\"\naddress = \"https://127.0.0.1:9\"\nauth = \"token\"\n\
                      secret_file = \"none\"\nca_file = \"bao.pem\"\n";
        std::fs::write(room.path().join("config.toml"), format!("{config}{provider}{server}"))?;
        for name in ["key.pem", "policies/team.cedar", "groups.toml", "provider.pem", "bao.pem"] {
            std::fs::write(room.path().join(name), "")?;
        }
        let mode = |name: &str, mode| set_permissions(room.path().join(name), Permissions::from_mode(mode));
        mode("key.pem", 0o640)?;
        // others' files cannot be taken away there
        mode("clusters", 0o1777)?;
        let loaded = Folder::new(room.path()).load()?;
        assert_eq!(too_open(&loaded), Vec::<String>::new());

        for (name, bits, says) in [
            ("policies", 0o777, "everyone may change it"),
            ("policies/team.cedar", 0o666, "everyone may change it"),
            ("config.toml", 0o602, "everyone may change it"),
            ("data", 0o703, "everyone may change it"),
            ("groups.toml", 0o646, "everyone may change it"),
            ("provider.pem", 0o666, "everyone may change it"),
            ("bao.pem", 0o666, "everyone may change it"),
            ("key.pem", 0o644, "not the broker's alone"),
        ] {
            let before = std::fs::metadata(room.path().join(name))?.permissions();
            mode(name, bits)?;
            let said = too_open(&loaded);
            assert!(said.len() == 1 && said[0].contains(name) && said[0].contains(says), "{name}: {said:?}");
            set_permissions(room.path().join(name), before)?;
        }
        Ok(())
    }
}
