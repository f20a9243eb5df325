//! The one client of OpenBao, and the custody behind it, against the stand-in: every way to log in, every way to fail, and
//! commands that are ended at every step.

mod bring;
mod keys;
mod kill;
mod logins;
mod renewal;
mod retry;
mod secrets;
mod storm;
mod told_apart;

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use ichor_broker::openbao::{Answer, Auth, BaoError, Client, PACE, Retry, Settings};
use ichor_standins::openbao::{OpenBao, OpenBaoOptions};
use serde_json::Value;
use tempfile::TempDir;

/// What any token may ask.
const SELF: &str = "auth/token/lookup-self";

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// A server on plain loopback, and the files that clients read.
struct World {
    bao: OpenBao,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(OpenBaoOptions { tls: false, ..OpenBaoOptions::default() }).await
    }

    async fn with(options: OpenBaoOptions) -> Self {
        let bao = OpenBao::start(options).await.unwrap();
        bao.add_approle("ichor", "the secret id of the broker");
        let world = Self { bao, folder: tempfile::tempdir().unwrap() };
        world.write("secret", "the secret id of the broker\n");
        world
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn approle(&self) -> Auth {
        Auth::AppRole { mount: "approle".into(), role_id: "ichor".into(), secret_id: self.path("secret") }
    }

    fn settings(&self) -> Settings {
        Settings {
            name: "main".into(),
            address: self.bao.url().parse().unwrap(),
            ca: Some(self.bao.ca_pem().into_bytes()).filter(|pem| !pem.is_empty()),
            namespace: None,
            deadline: LONG,
            pace: PACE,
            auth: self.approle(),
        }
    }

    /// A client with the AppRole.
    fn client(&self) -> Client {
        Client::new(self.settings()).unwrap()
    }

    /// One that gives up so soon.
    fn hasty(&self, deadline: Duration) -> Client {
        Client::new(Settings { deadline, ..self.settings() }).unwrap()
    }

    fn with_auth(&self, auth: Auth) -> Client {
        Client::new(Settings { auth, ..self.settings() }).unwrap()
    }

    /// What its operator does.
    async fn operate(&self, method: &str, path: &str, body: Value) -> Value {
        let file = self.write("root", OpenBao::ROOT_TOKEN);
        let client = self.with_auth(Auth::Token { file });
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let body = (!body.is_null()).then(|| body.to_string().into_bytes().into());
        match client.call(method, path, body, Retry::Safe).await {
            Ok(answer) => answer.data().unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }
}

async fn ask(client: &Client) -> Result<Answer, BaoError> {
    client.call(Method::GET, SELF, None, Retry::Safe).await
}

/// Returns once it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
