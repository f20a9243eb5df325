//! Which file: talosctl's own search order.

use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::error::Error;

/// Where Talos mounts a pod's talosconfig; read only.
const IN_CLUSTER: &str = "/var/run/secrets/talos.dev/config";

/// The file to write: `--talosconfig`, `$TALOSCONFIG`, `$TALOS_HOME/config`, `~/.talos/config`.
///
/// # Errors
/// When there is no home folder and nothing names a file.
pub fn writable(environment: &Environment, flag: Option<&Path>) -> Result<PathBuf, Error> {
    let named = flag.map(Path::to_owned).or_else(|| environment.talosconfig.clone());
    let home = || {
        Some(environment.talos_home.clone().or_else(|| Some(environment.home.as_ref()?.join(".talos")))?.join("config"))
    };
    let path = named.or_else(home);
    let path = path.ok_or_else(|| {
        Error::usage("no talosconfig is named and there is no home folder", "pass `--talosconfig FILE`")
    })?;
    Ok(environment.working_dir.join(path))
}

/// The file to read: as [`writable`], and a pod's own where nothing is named and there is no file at home.
///
/// # Errors
/// As [`writable`].
pub fn readable(environment: &Environment, flag: Option<&Path>) -> Result<PathBuf, Error> {
    let path = writable(environment, flag)?;
    let named = flag.is_some() || environment.talosconfig.is_some();
    let in_cluster = PathBuf::from(IN_CLUSTER);
    Ok(if !named && !path.exists() && in_cluster.exists() { in_cluster } else { path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_talosctls() {
        let mut environment = Environment::isolated(Path::new("/home/alice"));
        let find = |environment: &Environment, flag: Option<&str>| writable(environment, flag.map(Path::new)).unwrap();
        assert_eq!(find(&environment, None), Path::new("/home/alice/.talos/config"));
        environment.talos_home = Some("/talos".into());
        assert_eq!(find(&environment, None), Path::new("/talos/config"));
        environment.talosconfig = Some("team.yaml".into());
        assert_eq!(find(&environment, None), Path::new("/home/alice/team.yaml"));
        assert_eq!(find(&environment, Some("/x/y")), Path::new("/x/y"));
        assert!(writable(&Environment::default(), None).is_err());
    }
}
