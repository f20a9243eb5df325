//! `init`: a working folder.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use url::Url;

use super::{owner, vault_key};
use crate::clock::{Clock, SystemClock};
use crate::config::{ConfigError, Folder};
use crate::regular::folder_of;
use crate::{custody, durable, policy};

/// Make a working folder: commented config, sealed vault, a TLS certificate for localhost unless one is given, default
/// policies. Nothing that exists is overwritten. The vault's identity is sealed with a passphrase, asked for on the terminal
/// or taken from the systemd credential `ichor-passphrase`.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The folder to make.
    dir: PathBuf,
    /// The URL by which clients will reach the broker.
    #[arg(long, value_name = "URL", default_value = "https://localhost:8443")]
    public_url: Url,
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443")]
    listen: std::net::SocketAddr,
    /// A TLS certificate chain to use (PEM), instead of a self-signed one.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The key of `--tls-certificate` (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Which policies to begin with.
    #[arg(long, value_enum, default_value_t = PolicyChoice::SmallTeam)]
    policies: PolicyChoice,
    /// Keep the vault's identity in plain text beside the vault, with no passphrase. For a demo only: whoever reads the
    /// folder has the CA keys.
    #[arg(long)]
    insecure_identity_beside: bool,
}

/// The shipped policy sets.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PolicyChoice {
    /// Readers, operators, admins.
    SmallTeam,
    /// Environments, on-call, auditors.
    Company,
}

impl Init {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        if fs::exists(self.dir.join("config.toml"))? {
            bail!("`{}` has a config.toml already; name another folder, or edit that one", self.dir.display());
        }
        owner::check_folder(&self.dir)?;
        // everything is made in a folder beside and renamed: a failure leaves nothing half-made
        let parent = folder_of(&self.dir);
        fs::create_dir_all(parent)?;
        if fs::exists(&self.dir)? && fs::read_dir(&self.dir)?.next().is_some() {
            bail!("`{}` is not empty; name a new folder", self.dir.display());
        }
        let staging = tempfile::Builder::new().prefix(".ichor-init-").tempdir_in(parent)?;
        self.fill(staging.path())?;
        if fs::exists(&self.dir)? {
            fs::remove_dir(&self.dir)?;
        }
        fs::rename(staging.path(), &self.dir)?;
        // what was moved is not there to be removed
        let _ = staging.keep();
        durable::sync_folder(parent)?;
        self.tell(out)?;
        Ok(())
    }

    fn fill(&self, dir: &Path) -> anyhow::Result<()> {
        for folder in ["clusters", "policies", "tls", "data"] {
            fs::DirBuilder::new().mode(0o700).create(dir.join(folder))?;
        }
        let vault = dir.join("vault");
        if self.insecure_identity_beside {
            custody::Vault::create(&vault, custody::Keep::DangerBeside, &[])?;
        } else {
            let passphrase = vault_key::new_passphrase()?;
            custody::Vault::create(&vault, custody::Keep::Passphrase(passphrase), &[])?;
        }
        match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read `{}`", path.display()));
                write(&dir.join("tls/server.crt"), &read(certificate)?, 0o644)?;
                write(&dir.join("tls/server.key"), &read(key)?, 0o600)?;
            }
            _ if self.public_url.scheme() == "https" => self.self_sign(&dir.join("tls"))?,
            _ => {}
        }
        let set = match self.policies {
            PolicyChoice::SmallTeam => policy::SMALL_TEAM,
            PolicyChoice::Company => policy::COMPANY,
        };
        for (name, text) in set {
            write(&dir.join("policies").join(name), text.as_bytes(), 0o644)?;
        }
        write(&dir.join("config.toml"), self.config().as_bytes(), 0o600)?;
        // the folder must load as it is, or a newcomer's first step fails
        Folder::new(dir).load().map_err(by_argument)?;
        Ok(())
    }

    /// A CA of its own and a certificate under it: clients are given the CA, so that the certificate can be renewed.
    fn self_sign(&self, tls: &Path) -> anyhow::Result<()> {
        let host = self.public_url.host_str().unwrap_or("localhost").trim_matches(['[', ']']);
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
        if !names.iter().any(|name| name == host) {
            names.push(host.into());
        }
        let today = SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let day = |days: i32| -> anyhow::Result<_> {
            let date = today.checked_add(jiff::Span::new().days(days))?;
            let part = |part: i8| u8::try_from(part);
            Ok(rcgen::date_time_ymd(date.year().into(), part(date.month())?, part(date.day())?))
        };

        let ca_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut ca = CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        ca.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        ca.distinguished_name = DistinguishedName::new();
        ca.distinguished_name.push(DnType::CommonName, "Ichor broker TLS CA");
        (ca.not_before, ca.not_after) = (day(-1)?, day(10 * 365)?);
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = rcgen::Issuer::new(ca, ca_key);

        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut leaf = CertificateParams::new(names)?;
        leaf.distinguished_name = DistinguishedName::new();
        leaf.distinguished_name.push(DnType::CommonName, host);
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        leaf.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        leaf.use_authority_key_identifier_extension = true;
        // browsers refuse server certificates of more than 825 days
        (leaf.not_before, leaf.not_after) = (day(-1)?, day(800)?);
        let certificate = leaf.signed_by(&key, &issuer)?;
        let chain = format!("{}{}", certificate.pem(), ca_certificate.pem());
        write(&tls.join("server.crt"), chain.as_bytes(), 0o644)?;
        write(&tls.join("server.key"), key.serialize_pem().as_bytes(), 0o600)?;
        write(&tls.join("ca.crt"), ca_certificate.pem().as_bytes(), 0o644)
    }

    fn config(&self) -> String {
        let mut text = include_str!("config.template.toml").to_owned();
        let https = self.public_url.scheme() == "https";
        let identity = if self.insecure_identity_beside { "insecure-beside" } else { "passphrase" };
        let replacements = [
            ("{public_url}", self.public_url.as_str().trim_end_matches('/').to_owned()),
            ("{listen}", self.listen.to_string()),
            ("{tls}", if https { TLS_LINES.into() } else { String::new() }),
            ("{identity}", identity.into()),
        ];
        for (mark, value) in replacements {
            text = text.replace(mark, &value);
        }
        text
    }

    fn tell(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let dir = self.dir.display();
        writeln!(out, "made `{dir}`: config.toml, vault/, tls/, policies/, clusters/, data/")?;
        if self.insecure_identity_beside {
            writeln!(
                out,
                "warning: the vault's identity lies beside the vault in plain text; use this for a demo only"
            )?;
        }
        if nix::unistd::geteuid().is_root() {
            writeln!(
                out,
                "made as root: if another user runs the broker, `chown -R USER: {dir}` gives the folder to them"
            )?;
        }
        if self.tls_certificate.is_none() && self.public_url.scheme() == "https" {
            writeln!(
                out,
                "TLS is self-signed; give clients `{dir}/tls/ca.crt` (`ichor login --ca …`, or `ca_file` in .ichor.toml)"
            )?;
        }
        writeln!(out, "\nnext:")?;
        writeln!(out, "  1. name your OpenID provider in `{dir}/config.toml`, under [[provider]]")?;
        writeln!(
            out,
            "  2. put your provider's groups into `{dir}/policies/` (the first lines there say where), then: ichor-broker policy test --dir {dir}"
        )?;
        writeln!(
            out,
            "  3. ichor-broker cluster add prod --from ~/.talos/config --label env=prod --reason \"first cluster\" --dir {dir}"
        )?;
        writeln!(out, "     (policies go by labels: without `env=prod` the ones about production do not hold for it)")?;
        writeln!(out, "  4. ichor-broker ca create prod --reason \"dedicated client CA\" --dir {dir}")?;
        writeln!(out, "  5. ichor-broker check --dir {dir}")?;
        writeln!(out, "  6. ichor-broker serve --dir {dir}")
    }
}

const TLS_LINES: &str = "tls_certificate = \"tls/server.crt\"\ntls_key = \"tls/server.key\"\n";

/// The error by the argument that it comes from: the folder whose file it names is gone when it is read.
fn by_argument(error: ConfigError) -> anyhow::Error {
    match &error {
        ConfigError::Value { key, why, .. } if key == "server.public_url" => anyhow!("`--public-url`: {why}"),
        ConfigError::Value { key, why, .. } if key == "server.listen" => anyhow!("`--listen`: {why}"),
        _ => error.into(),
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_that_no_broker_can_serve_by_is_named_and_no_folder_made() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("broker");
        for (url, listen, says) in [
            (
                "http://ichor.example.com",
                "127.0.0.1:8443",
                "`--public-url`: plain http is for loopback only; use https",
            ),
            ("https://ichor.example.com/x", "127.0.0.1:8443", "`--public-url`: write the URL without path"),
            ("http://localhost:8443", "0.0.0.0:8443", "`--listen`: plain http listens on loopback only"),
        ] {
            let init = Init {
                dir: dir.clone(),
                public_url: url.parse().unwrap(),
                listen: listen.parse().unwrap(),
                tls_certificate: None,
                tls_key: None,
                policies: PolicyChoice::SmallTeam,
                insecure_identity_beside: true,
            };
            let said = init.run(&mut Vec::new()).unwrap_err().to_string();
            assert!(said.starts_with(says) && !dir.exists(), "{said}");
        }
    }
}
