//! The main job with a CA that stays in a PKI engine: from the plan of its roles to the node's own log.

use std::sync::{Arc, OnceLock};

use ichor_broker::clock::{Clock, FrozenClock, SystemClock};
use ichor_client::{Error, Wish};
use ichor_standins::openbao::{Fault, OpenBao, OpenBaoOptions, Rule};
use ichor_tests::{CLUSTER, Options, Person, World, run_command};
use ichor_wire::problem::Code;
use ichor_wire::role::Role;
use serde_json::json;

use crate::metrics;
use crate::openbao::faults::MISMATCHES;

/// A world beside an engine.
struct Company {
    world: World,
    bao: OpenBao,
}

impl Company {
    async fn start() -> anyhow::Result<Self> {
        // the world's clock, once there is one
        let clock: Arc<OnceLock<Arc<FrozenClock>>> = Arc::default();
        let now = {
            let clock = Arc::clone(&clock);
            Arc::new(move || clock.get().map_or_else(|| SystemClock.now(), |clock| clock.now()))
        };
        let bao = OpenBao::start(OpenBaoOptions { now, tls: false, ..OpenBaoOptions::default() }).await?;
        let token = bao.token()?;
        let config = format!(
            "[[openbao]]\nname = \"main\"\naddress = \"{}\"\nauth = \"token\"\nsecret_file = \"bao-token\"\n",
            bao.url()
        );
        let prepare = move |dir: &std::path::Path| {
            std::fs::write(dir.join("bao-token"), token)?;
            std::fs::write(dir.join("operator-token"), OpenBao::ROOT_TOKEN)?;
            Ok(())
        };
        let edits = vec![("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n")];
        let options = Options { config, edits, prepare: Some(Box::new(prepare)), ..Options::default() };
        let world = World::with(options).await?;
        let _ = clock.set(Arc::clone(&world.clock));
        Ok(Self { world, bao })
    }

    /// The broker's own policy, as deploy/openbao has it.
    fn narrow(&self) {
        let rules = [("pki/sign/ichor-prod-*", "update"), ("pki/roles/ichor-prod-*", "read")];
        self.bao.allow_only(rules.map(|(path, act)| Rule::new(path, [act])));
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let dir = self.world.dir.to_string_lossy().into_owned();
        run_command(&[arguments, &["--dir", &dir]].concat()).await
    }

    /// As an operator, who may write roles.
    async fn apply(&self, more: &[&str]) -> anyhow::Result<String> {
        let token = self.world.dir.join("operator-token").to_string_lossy().into_owned();
        self.run(&[&["custody", "apply", CLUSTER, "--token-file", &token, "--reason", "tests"], more].concat()).await
    }

    async fn import(&self, more: &[&str]) -> anyhow::Result<String> {
        let usual = ["ca", "import", CLUSTER, "--custody", "pki", "--replace", "--reason", "tests"];
        let said = self.run(&[&usual, more].concat()).await?;
        self.world.node.set_accepted_cas(&self.bao.pki_ca())?;
        Ok(said)
    }

    fn record(&self) -> Option<String> {
        std::fs::read_to_string(self.world.dir.join(format!("vault/ca/{CLUSTER}.toml"))).ok()
    }

    /// What the broker says of the CA after a look at everything.
    async fn said(&self) -> String {
        let checks = self.world.running.reload().await;
        let check = checks.into_iter().find(|check| check.name == format!("ca {CLUSTER}"));
        check.and_then(|check| check.detail).unwrap_or_default()
    }

    /// The kinds of the newest entries, newest first.
    async fn kinds(&self, newest: usize) -> anyhow::Result<Vec<String>> {
        Ok(self.world.entries().await?.into_iter().take(newest).map(|entry| entry.kind).collect())
    }
}

fn reads() -> Wish {
    Wish { cluster: CLUSTER.into(), ..Wish::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_issues_by_its_roles_and_nothing_it_makes_up_leaves() -> anyhow::Result<()> {
    let company = Company::start().await?;
    let (world, bao) = (&company.world, &company.bao);
    company.narrow();

    // nothing is taken up before the engine has what it needs, and the CA in force stays
    let plan = company.run(&["custody", "plan", CLUSTER]).await?;
    assert!(
        plan.contains("# os:reader: is not there\nbao write pki/roles/ichor-prod-reader - <<'JSON'\n{\n"),
        "{plan}"
    );
    let before = company.record();
    let said = company.import(&[]).await.unwrap_err().to_string();
    assert!(said.contains("there is no PKI role `ichor-prod-"), "{said}");
    assert_eq!(company.record(), before);
    let entry = world.entries().await?.remove(0);
    assert!(entry.detail["message"].contains("failed, the CA in force is what it was"), "{entry:?}");

    // the broker's own token may not write roles; an operator's does, once
    let said = company.run(&["custody", "apply", CLUSTER, "--reason", "tests"]).await.unwrap_err().to_string();
    assert!(said.contains("does not allow `pki/roles/"), "{said}");
    let sets = ["--roles", "reader", "--roles", "operator,reader"];
    let said = company.apply(&sets).await?;
    assert!(said.contains("ichor-prod-reader: written, and read back as it has to be"), "{said}");
    let entry = world.entries().await?.into_iter().find(|entry| {
        entry.detail.get("message").is_some_and(|message| message.contains("PKI role pki/ichor-prod-reader written"))
    });
    assert!(entry.unwrap().detail.keys().any(|key| key == "digest of role ichor-prod-reader"));
    let again = company.apply(&sets).await?;
    assert!(again.contains("ichor-prod-reader: is right already") && !again.contains("written"), "{again}");

    let said = company.import(&sets).await?;
    assert!(said.contains("its key stays in the PKI engine pki at main"), "{said}");
    // roles that the shipped policies grant, and that were not applied
    for said in [company.said().await, company.run(&["check"]).await.unwrap_or_else(|error| error.to_string())] {
        assert!(said.contains("policies grant a role, and there is no PKI role `ichor-prod-"), "{said}");
    }
    let shown = company.run(&["ca", "show", CLUSTER]).await?;
    assert!(shown.contains("lives in PKI engine pki at main"), "{shown}");

    let alice = Person::log_in(world, "alice").await?;
    let held = alice.certificate(&reads()).await?;
    assert_eq!(held.answer.roles, [Role::Reader]);
    Person::connect(world, &held).await?.version(&[]).await?;
    let lines = world.node.log_lines();
    let line = lines.iter().find(|line| line.contains("/machine.MachineService/Version")).unwrap();
    assert!(line.contains("os:reader") && !line.contains("grant:") && !line.contains("user:"), "{line}");
    assert_eq!(company.kinds(2).await?, ["issued", "grant"]);
    let issued = world.entries().await?.remove(0);
    assert!(issued.detail["message"].contains("does not name its grant"), "{issued:?}");
    assert_eq!(issued.grant_id, Some(held.answer.grant_id));

    // the broker's own certificates come from there too
    let node = world.node.address().to_string();
    let probed = company.run(&["ca", "probe", CLUSTER, "--node", &node]).await?;
    assert!(probed.contains("accepts it"), "{probed}");

    // the engine answers with a certificate that it made before, for another key: nothing leaves
    let lie = json!({ "data": { "certificate": held.answer.certificate, "issuing_ca": bao.pki_ca() } });
    bao.spoil_next("pki/sign/*", Fault::Instead(lie), 1);
    let before = metrics::value(&metrics::scrape(world).await?, MISMATCHES);
    let refused = alice.certificate(&reads()).await.unwrap_err();
    assert!(metrics::value(&metrics::scrape(world).await?, MISMATCHES) > before);
    assert!(matches!(&refused, Error::Problem(problem) if problem.code == Code::CertificateMismatch), "{refused}");
    assert_eq!(company.kinds(2).await?, ["issue-failed", "grant"]);
    let failed = world.entries().await?.remove(0);
    assert_eq!(failed.detail["code"], "certificate-mismatch");
    assert!(failed.detail["message"].contains("differs from the grant: the public key is another"), "{failed:?}");

    // a role that grows is seen at the next look, and a token that grows too
    let said = bao_role(&company, json!({ "organization": ["os:admin"] })).await?;
    assert!(said.contains("in the PKI role `pki/ichor-prod-reader` `organization` is [\"os:admin\"]"), "{said}");
    let check = match company.run(&["check"]).await {
        Ok(said) => said,
        Err(error) => error.to_string(),
    };
    assert!(check.contains("in the PKI role `pki/ichor-prod-reader` `organization` is [\"os:admin\"]"), "{check}");
    company.apply(&[]).await?;
    // and what was opened before is not used either, until the token is narrow again
    let signs = || Rule::new("pki/sign/ichor-prod-*", ["update"]);
    let own = vec![signs(), Rule::new("pki/roles/ichor-prod-*", ["read", "update"])];
    // deploy/openbao/pki-person.hcl beside pki.hcl: the policy of a trial that nobody took back
    let read_all = Rule::new("pki/roles/ichor-prod-*", ["read"]);
    let persons = vec![signs(), read_all, Rule::new("pki/roles/ichor-prod-p-*", ["read", "update"])];
    let too_much = [
        ("our token may use `pki/sign-verbatim`", None),
        ("our token may write `pki/roles/", Some(own)),
        ("our token may write `pki/roles/ichor-prod-p-`", Some(persons)),
    ];
    for (expected, rules) in too_much {
        match rules {
            None => bao.allow_all(),
            Some(rules) => bao.allow_only(rules),
        }
        let said = company.said().await;
        assert!(said.contains(expected), "{said}");
        let refused = alice.certificate(&reads()).await.unwrap_err();
        let is_out = matches!(&refused, Error::Problem(problem) if problem.code == Code::CustodyUnavailable);
        assert!(is_out, "{expected}: {refused}");
        company.narrow();
        world.running.reload().await;
        alice.certificate(&reads()).await?;
    }
    Ok(())
}

/// Writes the readers' role as given, behind everybody's back, and answers what the broker then says of the CA.
async fn bao_role(company: &Company, role: serde_json::Value) -> anyhow::Result<String> {
    let request = company.world.http()?.post(format!("{}/v1/pki/roles/ichor-prod-reader", company.bao.url()));
    let answer = request.header("x-vault-token", OpenBao::ROOT_TOKEN).body(role.to_string()).send().await?;
    anyhow::ensure!(answer.status().is_success(), "{}", answer.status());
    Ok(company.said().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_role_per_person_the_node_names_them() -> anyhow::Result<()> {
    let company = Company::start().await?;
    let world = &company.world;
    company.narrow();
    let said = company.import(&["--role-per-person"]).await.unwrap_err().to_string();
    assert!(said.contains("our token may not use `pki/roles/ichor-prod-p-"), "{said}");
    company.bao.allow_only([
        Rule::new("pki/sign/ichor-prod-p-*", ["update"]),
        Rule::new("pki/roles/ichor-prod-p-*", ["create", "read", "update"]),
    ]);
    let said = company.import(&["--role-per-person"]).await?;
    assert!(said.contains("bounds nothing against an intruder in the broker"), "{said}");

    let alice = Person::log_in(world, "alice").await?;
    let held = alice.certificate(&reads()).await?;
    Person::connect(world, &held).await?.version(&[]).await?;
    let lines = world.node.log_lines();
    let line = lines.iter().find(|line| line.contains("/machine.MachineService/Version")).unwrap();
    assert!(line.contains("user:alice@example.test") && !line.contains("grant:"), "{line}");

    // roles of persons are counted and cleaned by an operator, and made again when they are needed
    let said = company.apply(&["--clean"]).await?;
    assert!(said.contains("1 roles of persons deleted"), "{said}");
    alice.certificate(&reads()).await?;
    Ok(())
}
