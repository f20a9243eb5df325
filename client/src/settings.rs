//! Which broker: from the command line, the environment, or a file that a team commits.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ichor_wire::log::LogKey;
use ichor_wire::loopback::is_loopback;
use serde::Deserialize;
use url::Url;

use crate::environment::Environment;
use crate::error::Error;
use crate::private_file;
use crate::tls::{Pin, Trust};

/// The file that a team commits: public facts only.
pub const PROJECT_FILE: &str = ".ichor.toml";

/// The system's settings.
const SYSTEM_FILE: &str = "/etc/ichor/config.toml";

const KEYS: [&str; 4] = ["broker", "ca_file", "ca_pin", "audit_key"];

/// Which broker, and how its certificate is trusted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker's URL, without a slash at the end.
    pub broker: Url,
    /// What its TLS certificate must lead to.
    pub trust: Trust,
    /// The key of its audit log, where a file pins it: `audit_key`, as `name+id+base64`.
    pub audit_key: Option<LogKey>,
    /// Who named the broker.
    pub source: Source,
    /// The project's file whose `ca_file` or `ca_pin` says what is trusted, where one does: perhaps a stranger's.
    pub trusting: Option<PathBuf>,
    /// The file whose `ca_pin` says what is trusted, where one does.
    pub pinned: Option<PathBuf>,
}

/// Who named the broker. As text: `--broker`, `ICHOR_BROKER`, or the file's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The person, with `--broker`.
    Flag,
    /// The person, with `ICHOR_BROKER`.
    Environment,
    /// Whoever wrote the `.ichor.toml` of a folder that the person works in: perhaps a stranger whose repository they cloned.
    Project(PathBuf),
    /// The person or this machine's administrator, in a settings file of theirs.
    Settings(PathBuf),
}

/// What the command line says about the broker.
#[derive(Clone, Debug, Default)]
pub struct BrokerFlags {
    /// `--broker`.
    pub broker: Option<String>,
    /// `--ca`: a PEM file of the CA certificates that the broker's certificate must lead to.
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
struct SettingsFile {
    broker: Option<String>,
    ca_file: Option<PathBuf>,
    ca_pin: Option<String>,
    audit_key: Option<String>,
}

// === impl Settings ===

impl Settings {
    /// Finds the broker: `--broker`, `ICHOR_BROKER`, the nearest `.ichor.toml` upward from the working folder, the user's
    /// `config.toml`, `/etc/ichor/config.toml`. The CA settings of a file go with that file's broker only, so a pin of one
    /// team's broker never speaks for another's. A `.ichor.toml` that another user may have written is refused, and left
    /// unread where the command line or the environment names the broker.
    ///
    /// # Errors
    /// When none names a broker, or a file or URL is not usable.
    pub fn find(environment: &Environment, flags: &BrokerFlags) -> Result<Self, Error> {
        let found = match find_file(environment) {
            // A stranger's file in a folder above must not keep anyone from naming their broker.
            Err(Found::Untrusted(_)) if flags.broker.is_some() || environment.broker.is_some() => None,
            found => found?,
        };
        let (text, source) = match (&flags.broker, &environment.broker, &found) {
            (Some(url), _, _) => (url.clone(), Source::Flag),
            (None, Some(url), _) => (url.clone(), Source::Environment),
            (None, None, Some((source, SettingsFile { broker: Some(url), .. }))) => (url.clone(), source.clone()),
            _ => {
                return Err(Error::usage(
                    "no broker is named",
                    format!(
                        "pass `--broker https://…`, set ICHOR_BROKER, or put `broker = \"https://…\"` into {PROJECT_FILE}"
                    ),
                ));
            }
        };
        let broker = broker_url(&text)
            .map_err(|why| Error::usage(format!("`{text}` from {source} {why}"), "name the broker as https://host"))?;
        let file = found.filter(|(_, file)| {
            file.broker.as_deref().is_some_and(|url| broker_url(url).ok().as_ref() == Some(&broker))
        });
        let audit_key = match &file {
            Some((Source::Project(path) | Source::Settings(path), file)) => file.audit_key(path)?,
            _ => None,
        };
        let trusting = match (&flags.ca, &file) {
            (None, Some((Source::Project(path), file))) if file.ca_file.is_some() || file.ca_pin.is_some() => {
                Some(path.clone())
            }
            _ => None,
        };
        let pinned = match (&flags.ca, &file) {
            (None, Some((Source::Project(path) | Source::Settings(path), file))) if file.ca_pin.is_some() => {
                Some(path.clone())
            }
            _ => None,
        };
        let trust = match (&flags.ca, file) {
            (Some(path), _) => Trust::CaFile(environment.working_dir.join(path)),
            (None, Some((Source::Project(path) | Source::Settings(path), file))) => file.trust(&path)?,
            (None, _) => Trust::System { bundle: environment.ssl_cert_file.clone() },
        };
        let trust = match trust {
            Trust::System { .. } => Trust::System { bundle: environment.ssl_cert_file.clone() },
            other => other,
        };
        Ok(Self { broker, trust, audit_key, source, trusting, pinned })
    }

    /// How a server's certificate is trusted that is no broker: by `--ca`, else by the system's roots.
    #[must_use]
    pub fn trust_named(environment: &Environment, flags: &BrokerFlags) -> Trust {
        match &flags.ca {
            Some(path) => Trust::CaFile(environment.working_dir.join(path)),
            None => Trust::System { bundle: environment.ssl_cert_file.clone() },
        }
    }
}

// === impl Source ===

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--broker"),
            Self::Environment => f.write_str("ICHOR_BROKER"),
            Self::Project(path) | Self::Settings(path) => path.display().fmt(f),
        }
    }
}

// === impl SettingsFile ===

impl SettingsFile {
    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let refuse = |message: String| Error::usage(format!("`{}`: {message}", path.display()), "correct the file");
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| refuse(error.to_string().trim_end().to_owned()))?;
        if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let nearest = KEYS.into_iter().min_by_key(|key| strsim::damerau_levenshtein(key, unknown));
            let hint = nearest.filter(|key| strsim::damerau_levenshtein(key, unknown) <= 3);
            let hint =
                hint.map_or_else(|| format!("keys are {}", KEYS.join(", ")), |key| format!("did you mean `{key}`?"));
            return Err(refuse(format!("unknown key `{unknown}`; {hint}")));
        }
        table.try_into().map_err(|error| refuse(error.to_string().trim_end().to_owned()))
    }

    fn audit_key(&self, path: &Path) -> Result<Option<LogKey>, Error> {
        let key = self.audit_key.as_deref().map(str::parse).transpose();
        key.map_err(|error| {
            let next = "copy the line that `ichor-broker audit key` prints";
            Error::usage(format!("`{}`: `audit_key`: {error}", path.display()), next)
        })
    }

    fn trust(self, path: &Path) -> Result<Trust, Error> {
        let refuse = |message: &str| Error::usage(format!("`{}`: {message}", path.display()), "correct the file");
        match (self.ca_file, self.ca_pin) {
            (Some(_), Some(_)) => Err(refuse("`ca_file` and `ca_pin` exclude each other")),
            (Some(file), None) => Ok(Trust::CaFile(path.parent().unwrap_or(Path::new("/")).join(file))),
            (None, Some(pin)) => Ok(Trust::Pin(pin.parse::<Pin>().map_err(|error| refuse(&error.to_string()))?)),
            (None, None) => Ok(Trust::System { bundle: None }),
        }
    }
}

/// The broker's URL in its one form; plain HTTP only to this machine.
///
/// # Errors
/// With a clause that continues "`url` …".
pub fn broker_url(text: &str) -> Result<Url, String> {
    let mut url: Url = text.trim_end_matches('/').parse().map_err(|error| format!("is not a URL: {error}"))?;
    if url.host().is_none() {
        return Err("names no host".into());
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err("is plain HTTP, which only this machine's own addresses may use".into()),
        other => return Err(format!("has the scheme `{other}`")),
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a user, a query or a fragment".into());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Why the search for a file ended without one.
enum Found {
    /// The project's file may be a stranger's.
    Untrusted(Error),
    /// The file cannot be used.
    Unusable(Error),
}

impl From<Found> for Error {
    fn from(found: Found) -> Self {
        match found {
            Found::Untrusted(error) | Found::Unusable(error) => error,
        }
    }
}

fn find_file(environment: &Environment) -> Result<Option<(Source, SettingsFile)>, Found> {
    let nearest =
        environment.working_dir.ancestors().map(|folder| folder.join(PROJECT_FILE)).find(|path| path.is_file());
    let user = environment.config_dir().map(|folder| folder.join("config.toml"));
    if let Some(path) = &nearest {
        check_writers(path)?;
    }
    let settings = user.into_iter().chain([PathBuf::from(SYSTEM_FILE)]).map(Source::Settings);
    for source in nearest.map(Source::Project).into_iter().chain(settings) {
        let (Source::Project(path) | Source::Settings(path)) = &source else { continue };
        if let Some(text) = private_file::read(path, 64 * 1024).map_err(Found::Unusable)? {
            let file = SettingsFile::parse(path, &text).map_err(Found::Unusable)?;
            return Ok(Some((source, file)));
        }
    }
    Ok(None)
}

/// Refuses a project's file that someone else may have written: it says where a person's session goes. Link and target are
/// both looked at.
fn check_writers(path: &Path) -> Result<(), Found> {
    let failed = |source| Found::Unusable(Error::File { what: "read", path: path.into(), source });
    let me = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    for found in [std::fs::symlink_metadata(path), std::fs::metadata(path)] {
        let found = found.map_err(failed)?;
        if let Some((why, next)) = stranger(me, (found.uid(), found.gid()), found.mode(), found.is_symlink()) {
            let name = path.display();
            return Err(Found::Untrusted(Error::usage(
                format!("`{name}` {why}, so it is not believed"),
                format!("{}, or name the broker with `--broker`", next.replace("FILE", &format!("`{name}`"))),
            )));
        }
    }
    Ok(())
}

/// Why a file of this owner and mode may be a stranger's to the user and group `me`, and what to do. A link's mode means
/// nothing. One's own first group may write: where each user has a group of their own, a checkout makes such files.
fn stranger(me: (u32, u32), (owner, group): (u32, u32), mode: u32, is_link: bool) -> Option<(String, &'static str)> {
    if owner != me.0 && owner != 0 {
        return Some((format!("belongs to another user (id {owner})"), "if you know it, make a copy of FILE your own"));
    }
    let others = if group == me.1 { 0o002 } else { 0o022 };
    let writable = !is_link && mode & others != 0;
    writable
        .then(|| ("can be written by others than its owner".to_owned(), "look at FILE, then run `chmod go-w` on it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(file: &str) -> (tempfile::TempDir, Environment) {
        let root = tempfile::tempdir().unwrap();
        private_file::write(&root.path().join(PROJECT_FILE), file.as_bytes()).unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        let environment = Environment { working_dir: deep, ..Environment::isolated(root.path()) };
        (root, environment)
    }

    fn flags(broker: &str) -> BrokerFlags {
        BrokerFlags { broker: Some(broker.into()), ca: None }
    }

    #[test]
    fn the_nearest_file_upward_is_used_and_flag_and_environment_go_before_it() {
        let (_root, mut environment) = with("broker = \"https://file.example/\"\n");
        let find = |environment: &Environment, flags: &BrokerFlags| {
            Settings::find(environment, flags).unwrap().broker.to_string()
        };
        assert_eq!(find(&environment, &BrokerFlags::default()), "https://file.example/");
        environment.broker = Some("https://env.example".into());
        assert_eq!(find(&environment, &BrokerFlags::default()), "https://env.example/");
        assert_eq!(find(&environment, &flags("https://flag.example")), "https://flag.example/");
    }

    #[test]
    fn the_users_file_serves_where_no_project_has_one() {
        let root = tempfile::tempdir().unwrap();
        let environment = Environment::isolated(root.path());
        assert!(Settings::find(&environment, &BrokerFlags::default()).unwrap_err().to_string().contains("no broker"));
        let folder = environment.config_dir().unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.toml"), "broker = \"https://user.example\"").unwrap();
        let settings = Settings::find(&environment, &BrokerFlags::default()).unwrap();
        assert_eq!(settings.broker.host_str(), Some("user.example"));
    }

    #[test]
    fn a_files_pin_goes_with_its_own_broker_only() {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let (_root, environment) = with(&format!("broker = \"https://file.example\"\nca_pin = \"{pin}\"\n"));
        let trust = |flags: &BrokerFlags| Settings::find(&environment, flags).unwrap().trust;
        assert!(matches!(trust(&BrokerFlags::default()), Trust::Pin(_)));
        assert!(matches!(trust(&flags("https://file.example/")), Trust::Pin(_)));
        assert!(matches!(trust(&flags("https://other.example")), Trust::System { .. }));
        let ca = BrokerFlags { ca: Some("ca.pem".into()), ..flags("https://file.example") };
        assert!(matches!(trust(&ca), Trust::CaFile(_)), "--ca goes before the file");
        let trusting = |flags: &BrokerFlags| Settings::find(&environment, flags).unwrap().trusting;
        let file = environment.working_dir.ancestors().nth(2).unwrap().join(PROJECT_FILE);
        assert_eq!(trusting(&BrokerFlags::default()), Some(file.clone()));
        assert_eq!(trusting(&flags("https://file.example/")), Some(file), "also of a broker that the person named");
        assert_eq!((trusting(&flags("https://other.example")), trusting(&ca)), (None, None));
    }

    #[test]
    fn a_project_file_that_a_stranger_may_have_written_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        for (owner, mode, is_link, good) in [
            ((1000, 1000), 0o100_644, false, true),
            ((0, 0), 0o100_644, false, true),
            ((1001, 1000), 0o100_600, false, false),
            ((1000, 1000), 0o100_664, false, true),
            ((1000, 100), 0o100_664, false, false),
            ((1000, 1000), 0o100_646, false, false),
            ((0, 0), 0o100_646, false, false),
            ((1000, 1000), 0o120_777, true, true),
            ((1001, 1001), 0o120_777, true, false),
        ] {
            assert_eq!(stranger((1000, 1000), owner, mode, is_link).is_none(), good, "{owner:?} {mode:o} {is_link}");
        }
        let (root, environment) = with("broker = \"https://file.example\"\n");
        let file = root.path().join(PROJECT_FILE);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o646)).unwrap();
        let error = Settings::find(&environment, &BrokerFlags::default()).unwrap_err();
        assert!(error.to_string().contains("can be written by others"), "{error}");
        assert!(error.next_steps()[0].contains("chmod go-w"), "{error}");
        let named = Settings::find(&environment, &flags("https://flag.example")).unwrap();
        assert_eq!(named.source, Source::Flag, "a stranger's file keeps nobody from their own broker");
        // Root alone can give a file away; elsewhere the table above must do.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
            let error = Settings::find(&environment, &BrokerFlags::default()).unwrap_err();
            assert!(error.to_string().contains("belongs to another user"), "{error}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_name() {
        let (_root, environment) = with("broker = \"https://a\"\nca_pni = \"x\"\n");
        let error = Settings::find(&environment, &BrokerFlags::default()).unwrap_err();
        assert!(error.to_string().contains("unknown key `ca_pni`; did you mean `ca_pin`?"), "{error}");
        assert_eq!(error.exit_code(), crate::error::EXIT_USAGE);
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for good in
            ["https://b.example", "http://127.0.0.1:80", "http://[::1]:8080", "http://localhost:1", "https://b/x/"]
        {
            assert!(broker_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://b.example",
            "http://10.0.0.1",
            "ftp://b",
            "b.example",
            "https://u:p@b",
            "https://b?x=1",
            "http://localhost.evil.example",
        ] {
            assert!(broker_url(bad).is_err(), "{bad}");
        }
    }
}
