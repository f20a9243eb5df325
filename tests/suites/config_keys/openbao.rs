//! The keys of `[[openbao]]`: by them a client is made, and it works or does not.

use std::time::Duration;

use ichor_broker::config::{Folder, openbao_clients};
use ichor_broker::openbao::{BaoError, Client, Kind, Retry};
use ichor_standins::authority::Authority;
use ichor_standins::openbao::{Fault, Login, OpenBao, OpenBaoOptions};
use tempfile::TempDir;

/// A folder with the secrets of all ways to log in, and the server's CA.
fn folder(bao: &OpenBao) -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("bao-ca.pem"), bao.ca_pem())?;
    for secret in ["secret-id", "a.b.c", "a token"] {
        std::fs::write(folder.path().join(secret), secret)?;
    }
    Ok(folder)
}

/// The client of a configuration with these lines for its server.
fn client(folder: &TempDir, lines: &str) -> anyhow::Result<Client> {
    let server = "[server]\npublic_url = \"http://127.0.0.1:8080\"\nlisten = \"127.0.0.1:8080\"\n";
    std::fs::write(folder.path().join("config.toml"), format!("{server}[[openbao]]\n{lines}"))?;
    let loaded = Folder::new(folder.path()).load()?;
    let (_, client) = openbao_clients(&loaded.folder, &loaded.file)?.pop_first().unwrap();
    Ok(client)
}

/// Whether the server takes us for someone.
async fn is_known(client: &Client) -> Result<(), BaoError> {
    client.call(http::Method::GET, "auth/token/lookup-self", None, Retry::Safe).await.map(drop)
}

const APPROLE: &str = "auth = \"approle\"\nrole = \"ichor\"\nsecret_file = \"secret-id\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_reached_as_configured() -> anyhow::Result<()> {
    let bao =
        OpenBao::start(OpenBaoOptions { namespace: Some("teams/sre".into()), ..OpenBaoOptions::default() }).await?;
    bao.add_approle("ichor", "secret-id");
    let folder = folder(&bao)?;
    let lines = format!(
        "name = \"main\"\naddress = \"{}\"\nca_file = \"bao-ca.pem\"\nnamespace = \"teams/sre\"\n{APPROLE}",
        bao.url()
    );
    let good = client(&folder, &lines)?;
    assert_eq!(good.name(), "main");
    is_known(&good).await?;
    for key in ["ca_file = \"bao-ca.pem\"\n", "namespace = \"teams/sre\"\n"] {
        let without = client(&folder, &format!("deadline = \"1s\"\n{}", lines.replace(key, "")))?;
        assert!(is_known(&without).await.is_err(), "{key}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_log_in_is_configured() -> anyhow::Result<()> {
    let people = Authority::new("clients")?;
    let bao =
        OpenBao::start(OpenBaoOptions { client_ca: Some(people.certificate()), ..OpenBaoOptions::default() }).await?;
    let folder = folder(&bao)?;
    let certified = bao.client_certificate(&people)?;
    std::fs::write(folder.path().join("me.pem"), &certified.certificate)?;
    std::fs::write(folder.path().join("me.key"), &certified.key)?;
    std::fs::write(folder.path().join("a token"), OpenBao::ROOT_TOKEN)?;
    let login = |role: &str| (role.to_owned(), "a.b.c".to_owned());
    bao.add_login("approle", Login::AppRole { role_id: "ichor".into(), secret_id: "secret-id".into() });
    let (role, jwt) = login("pod");
    bao.add_login("k8s/prod", Login::Kubernetes { role, jwt });
    let (role, jwt) = login("job");
    bao.add_login("jwt", Login::Jwt { role, jwt });
    bao.add_login("cert", Login::Certificate);
    let ways = [
        APPROLE,
        "auth = \"kubernetes\"\nauth_mount = \"k8s/prod\"\nrole = \"pod\"\nsecret_file = \"a.b.c\"\n",
        "auth = \"jwt\"\nrole = \"job\"\nsecret_file = \"a.b.c\"\n",
        "auth = \"cert\"\ncertificate = \"me.pem\"\nkey = \"me.key\"\n",
        "auth = \"token\"\nsecret_file = \"a token\"\n",
    ];
    for way in ways {
        let server = format!("name = \"main\"\naddress = \"{}\"\nca_file = \"bao-ca.pem\"\n", bao.url());
        is_known(&client(&folder, &format!("{server}{way}"))?)
            .await
            .map_err(|error| anyhow::anyhow!("{way}: {error}"))?;
        // each of its keys is needed
        for key in way.lines().filter(|line| !line.starts_with("auth = ")) {
            let without = client(&folder, &format!("{server}{}", way.replace(&format!("{key}\n"), "")));
            let fails = match without {
                Ok(client) => is_known(&client).await.is_err(),
                Err(_) => true,
            };
            assert!(fails, "{way} without {key}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_takes_no_longer_than_configured() -> anyhow::Result<()> {
    let bao = OpenBao::start(OpenBaoOptions::default()).await?;
    bao.add_approle("ichor", "secret-id");
    let folder = folder(&bao)?;
    let server = format!("name = \"main\"\naddress = \"{}\"\nca_file = \"bao-ca.pem\"\n", bao.url());
    let client = client(&folder, &format!("deadline = \"300ms\"\n{server}{APPROLE}"))?;
    bao.set_fault("auth/token/lookup-self", Some(Fault::Stall));
    // the usual deadline is longer than this one, which only ends a failing test
    let error = tokio::time::timeout(Duration::from_secs(4), is_known(&client)).await?.unwrap_err();
    assert_eq!(error.kind(), &Kind::Late);
    Ok(())
}
