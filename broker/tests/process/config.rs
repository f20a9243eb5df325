//! Keys of the configuration that only a process shows.

use std::path::Path;
use std::process::{Command, Stdio};

use ichor_standins::provider::{Client, Provider, ProviderOptions};

use super::{CLUSTER, Host, run};

/// Runs `ca show`, which opens the vault, with this folder of systemd credentials; answers what it said, or the error.
fn show(dir: &Path, credentials: Option<&Path>) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ichor-broker"));
    command.args(["ca", "show", "--dir"]).arg(dir).stdin(Stdio::null()).env_remove("CREDENTIALS_DIRECTORY");
    if let Some(folder) = credentials {
        command.env("CREDENTIALS_DIRECTORY", folder);
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vault_opens_by_what_is_configured() -> anyhow::Result<()> {
    let host = Host::new().await?;
    let path = host.dir.join("config.toml");
    let beside = std::fs::read_to_string(&path)?;
    let set = |identity: &str| {
        std::fs::write(&path, beside.replace("identity = \"insecure-beside\"", &format!("identity = \"{identity}\"")))
    };
    assert!(show(&host.dir, None).unwrap().contains(CLUSTER));

    set("credential")?;
    let error = show(&host.dir, None).unwrap_err();
    assert!(error.contains("`ichor-identity`"), "{error}");
    let credentials = tempfile::tempdir()?;
    std::fs::copy(host.dir.join("vault/identity.txt"), credentials.path().join("ichor-identity"))?;
    std::fs::remove_file(host.dir.join("vault/identity.txt"))?;
    assert!(show(&host.dir, Some(credentials.path())).unwrap().contains(CLUSTER));

    set("passphrase")?;
    let error = show(&host.dir, Some(credentials.path())).unwrap_err();
    assert!(error.contains("`ichor-passphrase`"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_that_belongs_to_another_issuer_is_named_by_check_and_keeps_the_broker_from_starting()
-> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.start()?;
    host.log_in().await?;
    host.kill();
    let dir = host.dir.to_string_lossy().into_owned();
    let check = || run(&["check", "--dir", &dir]);
    let path = host.dir.join("config.toml");
    let usual = std::fs::read_to_string(&path)?;
    // another provider, which answers as it should
    let client = Client::public("ichor", [format!("{}oauth/callback/corp", host.url).as_str()]);
    let other = Provider::start(ProviderOptions { clients: vec![client], ..ProviderOptions::default() }).await?;
    let old = host.provider.issuer().to_owned();
    std::fs::write(&path, usual.replace(&old, other.issuer()))?;
    let says = format!("the alias `corp` belongs to the issuer `{old}`; give `{}` an alias of its own", other.issuer());
    let error = check().unwrap_err().to_string();
    assert!(error.contains("FAIL  provider corp") && error.contains(&says), "{error}");
    let error = host.start().unwrap_err().to_string();
    assert!(error.contains(&says), "{error}");

    // an alias of its own is what helps, and so is the old issuer
    let renamed = usual.replace(&old, other.issuer()).replace("alias = \"corp\"", "alias = \"new\"");
    for mended in [renamed, usual] {
        std::fs::write(&path, mended)?;
        host.start()?;
        host.kill();
    }
    let said = check().unwrap_or_else(|error| error.to_string());
    assert!(said.contains("ok    provider corp"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_logged_as_configured() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let path = host.dir.join("config.toml");
    let usual = std::fs::read_to_string(&path)?;
    // the folder has a section of its own, for the suites that read the steps
    let usual = usual.replace("[log]\nformat = \"json\"\nlevel = \"ichor_broker=debug,info\"\n", "");
    let mut said = |section: &str| -> anyhow::Result<String> {
        std::fs::write(&path, format!("{usual}\n[log]\n{section}\n"))?;
        let _ = std::fs::remove_file(host.dir.join("stderr"));
        host.start()?;
        host.kill();
        Ok(std::fs::read_to_string(host.dir.join("stderr"))?)
    };
    // the identity beside the vault is warned of at each start
    let warned = "plain text";
    let json = said("format = \"json\"\nlevel = \"warn\"")?;
    assert!(json.contains(warned), "{json}");
    for line in json.lines() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        assert_eq!(line["level"], "WARN", "{line}");
    }
    let text = said("level = \"warn\"")?;
    assert!(text.contains(warned) && !text.contains("{\""), "{text}");
    assert_eq!(said("level = \"off\"")?, "");
    Ok(())
}

/// Entries before the newest thousand are left to `audit verify`; here the log is short.
#[tokio::test(flavor = "multi_thread")]
async fn case_21_a_log_that_was_touched_keeps_the_broker_from_starting() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.start()?;
    host.kill();
    let newest = host.log().await?.last().map(|entry| entry.index).unwrap_or_default();
    for sql in [
        format!("UPDATE body SET body = zeroblob(40) WHERE idx = {newest}"),
        format!("UPDATE leaf SET cluster = NULL, kind = 1 WHERE idx = {}", newest - 1),
        format!("DELETE FROM leaf WHERE idx = {}", newest - 2),
    ] {
        rusqlite::Connection::open(&host.database)?.execute_batch(&sql)?;
        let error = host.start().unwrap_err().to_string();
        let index = sql.rsplit(' ').next().unwrap_or_default();
        assert!(error.contains(&format!("audit entry {index}: ")), "{sql}: {error}");
        assert!(error.contains("does not start"), "{error}");
    }
    Ok(())
}

/// Which proofs were used is forgotten with the process, so no proof made for it may be of use at the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_does_not_outlive_its_process() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let mut nonces = Vec::new();
    for _ in 0..3 {
        host.start()?;
        let stream = std::net::TcpStream::connect(host.url.socket_addrs(|| None)?.as_slice())?;
        nonces.push(nonce(stream)?);
        host.kill();
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 3, "{nonces:?}");
    Ok(())
}

fn nonce(mut stream: std::net::TcpStream) -> anyhow::Result<String> {
    use std::io::{Read, Write};
    stream.write_all(b"GET /v1/session HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let line = answer.lines().find_map(|line| line.strip_prefix("dpop-nonce: "));
    line.map(String::from).ok_or_else(|| anyhow::anyhow!("no nonce: {answer}"))
}
