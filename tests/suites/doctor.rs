//! `ichor doctor CLUSTER` against a real broker and a simulated node: what it says of a node that does not know the CA, and
//! that the patch it prints is the cure.

use std::io::Write;
use std::sync::{Arc, Mutex};

use ichor_client::cli::terminal::Terminal;
use ichor_client::cli::{Surroundings, run};
use ichor_client::{Clock as ClientClock, Environment, SessionStore};
use ichor_tests::{CLUSTER, Person, World, run_command};

/// Where the command's results go.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs `ichor doctor prod` as someone who is logged in at this laptop; its exit code and what it printed.
async fn doctor(world: &World, environment: &Environment) -> anyhow::Result<(u8, String)> {
    let ca = world.scratch().join("broker-ca.pem");
    std::fs::write(&ca, &world.tls_ca)?;
    let ca = ca.display().to_string();
    let arguments = ["ichor", "--broker", world.url.as_str(), "--ca", &ca, "doctor", CLUSTER].map(Into::into);
    let (clock, printed) = (Arc::clone(&world.clock), Printed::default());
    let around = Surroundings {
        environment: environment.clone(),
        clock: ClientClock::showing(move || ichor_broker::clock::Clock::now(&*clock)),
        terminal: Terminal::new(Box::new(printed.clone()), Box::new(std::io::sink()), false, false),
        open: Arc::new(|_| ()),
        ask: None,
        host: "laptop".into(),
    };
    // a command runs a runtime of its own
    let code = tokio::task::spawn_blocking(move || run(arguments, around)).await?;
    let out = String::from_utf8(printed.0.lock().unwrap().clone())?;
    Ok((code, out))
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_prints_the_patch_that_cures_the_node() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let environment = Environment::isolated(&world.scratch().join("laptop"));
    SessionStore::new(&environment)?.save(&alice.session)?;

    world.node.set_accepted_cas("")?;
    let (code, out) = doctor(&world, &environment).await?;
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("the certificate's CA is not in acceptedCAs"), "{out}");
    let (_, patch) = out.split_once("accepted-ca.yaml (it is public):\n\n").unwrap();
    let printed = run_command(&["ca", "patch", CLUSTER, "--dir", &world.dir.to_string_lossy()]).await?;
    assert_eq!(patch, printed, "the same patch as the broker's operator gets");

    let crt = patch.lines().find_map(|line| line.trim().strip_prefix("- crt: ")).unwrap();
    let pem = data_encoding::BASE64.decode(crt.as_bytes())?;
    world.node.set_accepted_cas(&String::from_utf8(pem)?)?;
    let (code, out) = doctor(&world, &environment).await?;
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("accepted, Talos v") && !out.contains("acceptedCAs"), "{out}");
    world.running.stop().await;
    Ok(())
}
