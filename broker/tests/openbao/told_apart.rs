//! Every kind of failure is told apart: in the error, in the state, in the metrics; and the client sees by itself that one
//! is over.

use std::time::Duration;

use http::Method;
use ichor_broker::openbao::{Client, Retry, Settings};
use ichor_standins::openbao::{Fault, OpenBao, Rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{LONG, SELF, World, ask};

/// How a server comes to fail, and what is then said.
type Case = (fn(&OpenBao), &'static str, &'static str);

const CASES: [Case; 6] = [
    (|bao| bao.seal(), "sealed", "is sealed; unseal it"),
    (|bao| bao.set_standby(true), "standby", "is a standby that forwards nothing"),
    (|bao| bao.set_fault(SELF, Some(Fault::Status(501, "x".into()))), "uninitialized", "was never initialised"),
    (|bao| bao.set_fault("*", Some(Fault::Quota)), "limited", "by its rate quota"),
    (|bao| bao.set_fault("*", Some(Fault::Disconnect)), "unreachable", "cannot be reached"),
    (
        |bao| bao.set_fault(SELF, Some(Fault::Status(403, "permission denied".into()))),
        "token",
        "takes our token no more",
    ),
];

#[tokio::test]
async fn each_outage_has_its_name_and_ends_without_a_call() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    for (fail, label, said) in CASES {
        let world = World::new().await;
        let deadline = Duration::from_millis(900);
        let settings = Settings { deadline, pace: Duration::from_millis(20), ..world.settings() };
        let client = Client::new(settings).unwrap();
        ask(&client).await.unwrap();
        assert!(client.state().borrow().ok);
        fail(&world.bao);
        let error = ask(&client).await.unwrap_err();
        assert_eq!(error.kind().label(), label, "{error}");
        assert!(error.to_string().contains(said), "{error}");
        let mut state = client.state();
        let told = state.borrow_and_update().clone();
        assert!(!told.ok && told.detail.as_deref().is_some_and(|detail| detail.contains(said)), "{label}: {told:?}");
        let series = format!("ichor_openbao_calls_total{{server=\"main\",outcome=\"{label}\"}}");
        let page = recorder.handle().render();
        assert!(page.contains(&series), "{series}: {page}");
        // nobody calls, and still it is seen that it is over
        world.bao.unseal();
        world.bao.set_standby(false);
        world.bao.set_fault(SELF, None);
        world.bao.set_fault("*", None);
        let back = state.wait_for(|state| state.ok);
        tokio::time::timeout(LONG, back).await.unwrap_or_else(|_| panic!("{label}: never seen to be back")).unwrap();
        ask(&client).await.unwrap();
    }
}

#[tokio::test]
async fn a_denial_is_one_path_and_no_outage() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let world = World::new().await;
    let client = world.client();
    world.bao.deny("transit/*");
    let error = client.call(Method::GET, "transit/keys/k", None, Retry::Safe).await.unwrap_err();
    assert_eq!(error.kind().label(), "denied");
    assert!(
        error.to_string().contains(
            "does not allow `transit/keys/k` to our token, or has no engine mounted there; give its policy what"
        ),
        "{error}"
    );
    assert!(client.state().borrow().ok);
    assert!(recorder.handle().render().contains("outcome=\"denied\""));
    let told = client.capabilities(&["transit/keys/k", "secret/data/x"]).await.unwrap();
    assert!(!told.may("transit/keys/k", "read") && told.may("secret/data/x", "read") && !told.may("other", "read"));
    assert!(!told.acts("transit/keys/k") && told.acts("secret/data/x") && !told.acts("other"));
    world.bao.allow_only([Rule::new("secret/*", ["read", "list"]), Rule::new("secret/data/y", ["delete"])]);
    let told = client.capabilities(&["secret/data/x", "secret/data/y"]).await.unwrap();
    assert!(!told.acts("secret/data/x") && told.acts("secret/data/y"));
}

#[tokio::test]
async fn a_request_is_named_where_the_answer_names_it() {
    let world = World::new().await;
    let client = world.client();
    world.operate("POST", "secret/data/gone", serde_json::json!({ "data": { "a": "b" } })).await;
    world.operate("DELETE", "secret/data/gone", serde_json::Value::Null).await;
    // the only error that comes as a whole answer; every other has words alone
    let error = client.call(Method::GET, "secret/data/gone", None, Retry::Safe).await.unwrap_err();
    let id = error.request().expect("it has one").to_owned();
    assert_eq!(error.to_string(), format!("OpenBao `main` has no `secret/data/gone` (request {id})"));
    let error = client.call(Method::GET, "secret/data/never", None, Retry::Safe).await.unwrap_err();
    assert_eq!((error.request(), error.to_string().as_str()), (None, "OpenBao `main` has no `secret/data/never`"));
}

#[tokio::test]
async fn no_login_is_an_outage_that_ends_when_the_secret_is_right() {
    let world = World::new().await;
    world.write("secret", "another");
    let settings = Settings { pace: Duration::from_millis(20), ..world.settings() };
    let client = Client::new(settings).unwrap();
    assert_eq!(ask(&client).await.unwrap_err().kind().label(), "login");
    let mut state = client.state();
    assert!(!state.borrow_and_update().ok);
    world.write("secret", "the secret id of the broker");
    tokio::time::timeout(LONG, state.wait_for(|state| state.ok)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_for_tls_is_named_to_who_speaks_without() {
    let world = World::new().await;
    let deadline = Duration::from_millis(900);
    // as Go's server says it, whole, and cut off by the end of the connection; what another one says is not it
    let whole = "Client sent an HTTP request to an HTTPS server.\n";
    let other = "{\"errors\":[\"no\"";
    for (text, length, expected) in
        [(whole, whole.len(), true), ("Client sent", whole.len(), true), ("", whole.len(), true), (other, 100, false)]
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let answer = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {length}\r\n\r\n{text}");
        let serving = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4096];
            assert!(socket.read(&mut asked).await.unwrap() > 0);
            socket.write_all(answer.as_bytes()).await.unwrap();
        });
        let error = ask(&Client::new(Settings { address, deadline, ..world.settings() }).unwrap()).await.unwrap_err();
        let (said, for_tls) =
            (error.to_string(), "did not log us in: it speaks TLS there: write `https://` in `address`");
        assert_eq!(said.contains(for_tls), expected, "{said}");
        assert!(!said.contains("secret id"), "{said}");
        serving.await.unwrap();
    }
}
