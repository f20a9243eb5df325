//! Which broker: from the command line, the environment, or a file that a team commits.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::{Host, Url};

use crate::environment::Environment;
use crate::error::Error;
use crate::private_file;
use crate::tls::{Pin, Trust};

/// The file that a team commits: public facts only.
pub const PROJECT_FILE: &str = ".ichor.toml";

/// The system's settings.
const SYSTEM_FILE: &str = "/etc/ichor/config.toml";

const KEYS: [&str; 3] = ["broker", "ca_file", "ca_pin"];

/// Which broker, and how its certificate is trusted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker's URL, without a slash at the end.
    pub broker: Url,
    /// What its TLS certificate must lead to.
    pub trust: Trust,
    /// Where the URL came from, for people: `--broker`, `ICHOR_BROKER`, or a file.
    pub source: String,
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
}

// === impl Settings ===

impl Settings {
    /// Finds the broker: `--broker`, `ICHOR_BROKER`, the nearest `.ichor.toml` upward from the working folder, the user's
    /// `config.toml`, `/etc/ichor/config.toml`. The CA settings of a file go with that file's broker only, so a pin of one
    /// team's broker never speaks for another's.
    ///
    /// # Errors
    /// When none names a broker, or a file or URL is not usable.
    pub fn find(environment: &Environment, flags: &BrokerFlags) -> Result<Self, Error> {
        let found = find_file(environment)?;
        let (text, source) = match (&flags.broker, &environment.broker, &found) {
            (Some(url), _, _) => (url.clone(), "--broker".to_owned()),
            (None, Some(url), _) => (url.clone(), "ICHOR_BROKER".to_owned()),
            (None, None, Some((path, SettingsFile { broker: Some(url), .. }))) => {
                (url.clone(), path.display().to_string())
            }
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
        let trust = match (&flags.ca, file) {
            (Some(path), _) => Trust::CaFile(environment.working_dir.join(path)),
            (None, Some((path, file))) => file.trust(&path)?,
            (None, None) => Trust::System { bundle: environment.ssl_cert_file.clone() },
        };
        let trust = match trust {
            Trust::System { .. } => Trust::System { bundle: environment.ssl_cert_file.clone() },
            other => other,
        };
        Ok(Self { broker, trust, source })
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
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return Err("names no host".into()),
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
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

fn find_file(environment: &Environment) -> Result<Option<(PathBuf, SettingsFile)>, Error> {
    let nearest =
        environment.working_dir.ancestors().map(|folder| folder.join(PROJECT_FILE)).find(|path| path.is_file());
    let user = environment.config_dir().map(|folder| folder.join("config.toml"));
    for path in nearest.into_iter().chain(user).chain([PathBuf::from(SYSTEM_FILE)]) {
        if let Some(text) = private_file::read(&path, 64 * 1024)? {
            let file = SettingsFile::parse(&path, &text)?;
            return Ok(Some((path, file)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(file: &str) -> (tempfile::TempDir, Environment) {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(PROJECT_FILE), file).unwrap();
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
