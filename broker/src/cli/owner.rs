//! Root stays out of other people's folders: what it made there (a sealed CA, a database) the service's user could not read.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};

use crate::config::Loaded;
use crate::http::admin::user_name;
use crate::regular::folder_of;

/// Refuses to write, as root, where the config folder or a folder that is written to belongs to somebody else.
pub(super) fn check(loaded: &Loaded) -> anyhow::Result<()> {
    let settings = &loaded.settings;
    let folders = [loaded.folder.root(), &settings.vault, &settings.clusters, folder_of(&settings.database)];
    folders.into_iter().try_for_each(check_folder)
}

/// The same for one folder; one that is not there yet belongs to nobody.
pub(super) fn check_folder(folder: &Path) -> anyhow::Result<()> {
    let owner = match fs::metadata(folder) {
        Ok(found) => found.uid(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot see whose folder `{}` is", folder.display()));
        }
    };
    if nix::unistd::geteuid().is_root() && owner != 0 {
        let user = match nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(owner)) {
            Ok(Some(user)) => user.name,
            _ => format!("'#{owner}'"),
        };
        bail!(
            "`{}` belongs to {}, who could not read what root makes there; run `sudo -u {user} ichor-broker …`",
            folder.display(),
            user_name(owner)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Cli;
    use super::check_folder;

    /// Somebody who is not root, known to every system (`nobody`) or not; it does not matter.
    const SOMEBODY: u32 = 65_534;

    fn run(arguments: &[&str]) -> anyhow::Result<String> {
        let mut out = Vec::new();
        Cli::try_parse_from([&["ichor-broker"], arguments].concat())?.execute(&mut out)?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn root_makes_nothing_in_a_folder_of_somebody_else() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("broker");
        let text = dir.to_str().unwrap();
        let said = run(&["init", text, "--insecure-identity-beside"]).unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        assert_eq!(said.contains("chown -R"), is_root, "{said}");
        let ca = rcgen_ca();
        let cluster = format!("endpoints = [\"192.0.2.1\"]\nca = \"\"\"\n{ca}\"\"\"\n");
        std::fs::write(dir.join("clusters/prod.toml"), cluster).unwrap();
        let create = ["ca", "create", "prod", "--reason", "tests", "--dir", text];
        if !is_root {
            // nobody else can give a folder away: what is left to see is that one's own is no obstacle
            run(&create).unwrap();
            return;
        }
        for given in ["vault", "data", "clusters", "."] {
            let given = dir.join(given);
            std::os::unix::fs::chown(&given, Some(SOMEBODY), None).unwrap();
            let error = run(&create).unwrap_err().to_string();
            assert!(error.contains("sudo -u") && error.contains("ichor-broker"), "{error}");
            let error = run(&["serve", "--dir", text]).unwrap_err().to_string();
            assert!(error.contains("sudo -u"), "{error}");
            std::os::unix::fs::chown(&given, Some(0), None).unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.join("vault/ca")).unwrap().count(), 0, "a refused command sealed a CA");
        assert_eq!(std::fs::read_dir(dir.join("data")).unwrap().count(), 0, "a refused command made a database");
        let theirs = folder.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::chown(&theirs, Some(SOMEBODY), None).unwrap();
        let error = run(&["init", theirs.to_str().unwrap(), "--insecure-identity-beside"]).unwrap_err().to_string();
        assert!(error.contains("sudo -u"), "{error}");
        run(&create).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_looked_at_is_nobodys_to_write_in() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        check_folder(&folder.path().join("none/yet")).unwrap();
        let said = check_folder(&file.join("vault")).unwrap_err().to_string();
        assert!(said.starts_with("cannot see whose folder `") && said.contains("file/vault"), "{said}");
    }

    fn rcgen_ca() -> String {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }
}
