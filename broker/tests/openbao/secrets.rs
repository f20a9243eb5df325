//! Nothing that is secret comes out of the client, whatever the server says back.

use std::io::Write;
use std::sync::{Arc, Mutex};

use ichor_broker::openbao::{Auth, KeyKind, Kv, TransitEngine};
use ichor_standins::openbao::Fault;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use super::{SELF, World, ask};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_token_no_secret_id_and_no_body_is_told() {
    let log = Log::default();
    // while there is but one, whatever another test's thread comes upon first is asked of that thread, which has none, for good
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new().await;
    let mut said = Vec::new();

    let secret = "the secret id of the broker";
    world.bao.set_fault("auth/approle/login", Some(Fault::Status(400, format!("bad login: {secret}"))));
    let client = world.client();
    let error = ask(&client).await.unwrap_err();
    assert!(error.to_string().contains("withheld"), "{error}");
    said.push(format!("{error} {error:?} {client:?} {:?}", client.state().borrow()));

    let token = world.bao.token().unwrap();
    let client = world.with_auth(Auth::Token { file: world.write("token", &token) });
    let answer = ask(&client).await.unwrap();
    said.push(format!("{answer:?} {:?}", world.settings()));
    for status in [400, 403, 404, 412, 418] {
        world.bao.spoil_next(SELF, Fault::Status(status, format!("no such token: {token}")), 1);
        match ask(&client).await {
            Ok(_) => assert_eq!(status, 412, "tried again"),
            Err(error) => said.push(format!("{error} {error:?}")),
        }
    }
    world.bao.set_fault(SELF, None);

    // an item of a batch has words of its own
    let transit = TransitEngine::new(client.clone(), "transit").unwrap();
    let of_token = json!({"error": format!("what of {token}")});
    let body = json!({"data": {"batch_results": [of_token, of_token]}});
    world.bao.set_fault("transit/sign/k", Some(Fault::Instead(body)));
    let signed = transit.sign("k", 1, KeyKind::Ed25519, &[b"x", b"y"]).await.unwrap();
    said.push(format!("{signed:?}"));

    // what it calls a request's id, or says at another call, may be what we log in with: a secret id is a UUID as well
    let id = "0b4a1bb2-1111-2222-3333-444455556666";
    world.bao.set_fault("auth/approle/login", None);
    world.write("secret", id);
    world.bao.add_approle("ichor", id);
    let client = world.client();
    ask(&client).await.unwrap();
    world.bao.set_fault(SELF, Some(Fault::Instead(json!({ "request_id": id, "data": null }))));
    said.push(format!("{:?}", ask(&client).await.and_then(|answer| answer.data::<u8>()).unwrap_err()));
    world.bao.set_fault(SELF, Some(Fault::Status(400, format!("what of {id}"))));
    said.push(format!("{:?}", ask(&client).await.unwrap_err()));
    world.bao.set_fault(SELF, None);

    // a key on its way into KV
    let key = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpe9WPJf0RVLrYbPYV";
    let kv = Kv::new(client.clone(), "secret").unwrap();
    world.bao.spoil_next("secret/data/x", Fault::Status(400, format!("cannot store {key}")), 1);
    let error = kv.write("x", &json!({ "key": key }), 0).await.unwrap_err();
    said.push(format!("{error} {error:?}"));
    kv.write("x", &json!({ "key": key }), 0).await.unwrap();
    let version = kv.read("x").await.unwrap().unwrap();
    said.push(format!("{version:?} {:?}", version.data::<Vec<u8>>().unwrap_err()));

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    // the HTTP client's and the stand-in's own lines are none of the broker's
    let own = log.lines().filter(|line| line.contains("ichor_broker"));
    let own: Vec<_> = own.collect();
    assert!(own.iter().any(|line| line.contains("no login at OpenBao")), "{log}");
    let all = format!("{}\n{}", said.join("\n"), own.join("\n"));
    for secret in [secret, id, &token, key, &token[..16], &key[..40]] {
        assert!(!all.contains(secret), "{secret} is in: {all}");
    }
}
