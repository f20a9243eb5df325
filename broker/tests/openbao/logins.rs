//! Every way to log in.

use http::Method;
use ichor_broker::openbao::{Auth, Client, Kind, Retry, Settings};
use ichor_standins::authority::Authority;
use ichor_standins::openbao::{Fault, Login, OpenBaoOptions};

use super::{LONG, World, ask};

const REVOKE: &str = "auth/token/revoke-self";

/// A server that knows every way, and each of them.
async fn every() -> (World, Vec<(&'static str, Auth)>) {
    let people = Authority::new("machines").unwrap();
    let options = OpenBaoOptions { client_ca: Some(people.certificate()), ..OpenBaoOptions::default() };
    let world = World::with(options).await;
    let bao = &world.bao;
    bao.add_login("k8s/prod", Login::Kubernetes { role: "ichor".into(), jwt: "a.service.account".into() });
    bao.add_login("jwt", Login::Jwt { role: "ichor".into(), jwt: "a.workload.identity".into() });
    bao.add_login("cert", Login::Certificate);
    let own = bao.client_certificate(&people).unwrap();
    let token = bao.token().unwrap();
    let ways = vec![
        ("approle", world.approle()),
        (
            "k8s/prod",
            Auth::Kubernetes {
                mount: "k8s/prod".into(),
                role: "ichor".into(),
                token: world.write("k8s", "a.service.account"),
            },
        ),
        (
            "jwt",
            Auth::Jwt { mount: "jwt".into(), role: "ichor".into(), token: world.write("jwt", "a.workload.identity\n") },
        ),
        (
            "cert",
            Auth::Certificate {
                mount: "cert".into(),
                role: None,
                certificate: world.write("own.pem", &own.certificate),
                key: world.write("own.key", &own.key),
            },
        ),
        ("token", Auth::Token { file: world.write("token", &token) }),
    ];
    (world, ways)
}

#[tokio::test]
async fn each_way_serves() {
    let (world, ways) = every().await;
    for (name, auth) in ways {
        let (client, before) = (world.with_auth(auth), world.bao.logins());
        ask(&client).await.unwrap();
        ask(&client).await.unwrap();
        let logins = world.bao.logins() - before;
        let expected = if name == "token" { (0, 0) } else { (1, 1) };
        assert_eq!((logins, world.bao.count(&format!("auth/{name}/login"))), (expected.0, expected.1), "{name}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_login_is_said_with_the_next_step() {
    let (world, ways) = every().await;
    for (file, text) in [("secret", "another"), ("k8s", "another"), ("jwt", "another"), ("token", "another")] {
        world.write(file, text);
    }
    let strangers = Authority::new("strangers").unwrap();
    let stranger = world.bao.client_certificate(&strangers).unwrap();
    world.write("own.pem", &stranger.certificate);
    world.write("own.key", "");
    let steps = [
        "invalid role or secret ID; look at `role` and at the secret id in `",
        "permission denied; look at `role` and at the token in `",
        "error validating token: error verifying token signature: no known key successfully validated the token signature; \
         look at `role` and at the token in `",
        "its client certificate and key cannot be used",
        "/token` is not taken; make a new one and write it there",
    ];
    for ((name, auth), step) in ways.into_iter().zip(steps) {
        // also of a client certificate's files: what else the broker serves does not wait for them
        let error = ask(&Client::new(Settings { auth, ..world.settings() }).unwrap()).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Login(why) if why.contains(step)), "{name}: {error}");
        assert!(error.to_string().starts_with("OpenBao `main` did not log us in: "), "{error}");
    }
    let nowhere = Auth::Jwt { mount: "nowhere".into(), role: "ichor".into(), token: world.path("jwt") };
    let error = ask(&world.with_auth(nowhere)).await.unwrap_err().to_string();
    assert!(error.contains("permission denied; look at `role`") && error.contains("and at `auth_mount`"), "{error}");
    let strange = Settings { namespace: Some("nowhere".into()), ..world.settings() };
    let error = ask(&Client::new(strange).unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("it has no login at `auth/") && error.contains("`auth_mount` and `namespace`"), "{error}");
    std::fs::remove_file(world.path("secret")).unwrap();
    let error = ask(&world.client()).await.unwrap_err().to_string();
    assert!(error.contains("secret` cannot be read: there is no such file"), "{error}");
    world.write("secret", "\n");
    assert!(ask(&world.client()).await.unwrap_err().to_string().contains("it is empty"));
    world.write("secret", &"x".repeat(70_000));
    assert!(ask(&world.client()).await.unwrap_err().to_string().contains("it has more than 65536 bytes"));
}

#[tokio::test]
async fn files_are_read_at_each_login() {
    let (world, ways) = every().await;
    let mut clients = Vec::new();
    for (name, auth) in ways {
        let client = world.with_auth(auth);
        ask(&client).await.unwrap();
        clients.push((name, client));
    }
    // everything rotates
    world.bao.revoke_tokens();
    world.bao.add_approle("ichor", "a new secret id");
    world.bao.add_login("k8s/prod", Login::Kubernetes { role: "ichor".into(), jwt: "the.next.account".into() });
    world.bao.add_login("jwt", Login::Jwt { role: "ichor".into(), jwt: "the.next.identity".into() });
    for (file, text) in [("secret", "a new secret id"), ("k8s", "the.next.account"), ("jwt", "the.next.identity")] {
        world.write(file, text);
    }
    world.write("token", &world.bao.token().unwrap());
    world.write("own.pem", "nothing");
    for (name, client) in clients {
        let asked = ask(&client).await;
        if name == "cert" {
            assert!(asked.unwrap_err().to_string().contains("they are not PEM, or differ"));
            continue;
        }
        asked.unwrap();
        let last = world.bao.requests().into_iter().rfind(|request| request.path == format!("auth/{name}/login"));
        let said = last.map(|request| request.body.to_string()).unwrap_or_default();
        assert!(name == "token" || said.contains("new secret") || said.contains("the.next"), "{name}: {said}");
    }
}

#[tokio::test]
async fn everything_is_in_the_namespace() {
    let options = OpenBaoOptions { namespace: Some("teams/sre".into()), tls: false, ..OpenBaoOptions::default() };
    let world = World::with(options).await;
    let inside = Client::new(Settings { namespace: Some("teams/sre".into()), ..world.settings() }).unwrap();
    ask(&inside).await.unwrap();
    for namespace in [None, Some("teams/other".to_owned())] {
        let outside = Client::new(Settings { namespace, ..world.settings() }).unwrap();
        assert!(matches!(ask(&outside).await.unwrap_err().kind(), Kind::Login(_)));
    }
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_spoken_to() {
    let world = World::with(OpenBaoOptions::default()).await;
    ask(&world.client()).await.unwrap();
    let before = world.bao.requests().len();
    let other = Authority::new("another").unwrap().certificate().into_bytes();
    let deadline = std::time::Duration::from_millis(900);
    let client = Client::new(Settings { ca: Some(other), deadline, ..world.settings() }).unwrap();
    let error = client.call(Method::GET, super::SELF, None, Retry::Safe).await.unwrap_err();
    assert!(matches!(error.kind(), Kind::NotConnected(_)), "{error:?}");
    assert!(error.to_string().contains("name the CA that signed its certificate as `ca_file`"), "{error}");
    assert_eq!(world.bao.requests().len(), before, "nothing was sent");
    for ca in ["", "no PEM"] {
        let settings = Settings { ca: Some(ca.into()), ..world.settings() };
        assert!(Client::new(settings).unwrap_err().to_string().contains("CA file"));
    }
}

#[tokio::test]
async fn a_pipe_is_no_secret_and_nobody_waits_for_it() {
    let world = World::new().await;
    std::fs::remove_file(world.path("secret")).unwrap();
    nix::unistd::mkfifo(&world.path("secret"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let asked = tokio::spawn({
        let client = world.client();
        async move { ask(&client).await }
    });
    // nobody ever writes to it: whoever opened it would hold the thread for ever, and this test with it
    let error = tokio::time::timeout(LONG, asked).await.unwrap().unwrap().unwrap_err().to_string();
    assert!(error.contains("it is no regular file but a pipe"), "{error}");
}

#[tokio::test]
async fn a_client_that_ends_leaves_no_token_but_one_that_is_not_its_own() {
    let (world, ways) = every().await;
    for (name, auth) in ways {
        let client = world.with_auth(auth);
        ask(&client).await.unwrap();
        let (live, revoked) = (world.bao.live_tokens(), world.bao.count(REVOKE));
        client.end(LONG).await;
        let ended = usize::from(name != "token");
        assert_eq!((live - world.bao.live_tokens(), world.bao.count(REVOKE) - revoked), (ended, ended), "{name}");
        // who has none ends none
        client.end(LONG).await;
        assert_eq!(world.bao.count(REVOKE) - revoked, ended, "{name}");
    }
    // a server that says nothing holds nobody up
    let client = world.client();
    ask(&client).await.unwrap();
    world.bao.set_fault(REVOKE, Some(Fault::Stall));
    tokio::time::timeout(LONG, client.end(std::time::Duration::from_millis(50))).await.unwrap();
}
