//! A break-glass kit from its ceremony to its end: made by the broker's command, drilled, opened by the client with no broker, taken
//! by a node, reported, rotated, revoked.

mod leads;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use aws_lc_rs::signature::Ed25519KeyPair;
use data_encoding::{BASE64, HEXLOWER};
use ichor_client::kit::{Asked, LocallyRecorded, Machine, Opened};
use ichor_client::{Error, kit};
use ichor_standins::node::client::NodeClient;
use ichor_tests::{CLUSTER, Options, Person, World, run_command};
use ichor_wire::api::{KitLabel, KitReportAnswer, KitReportAsk};
use ichor_wire::kit::{Gathered, KitFile, Record, Share, SignedRecord, commitment, prove};
use ichor_wire::log::KitHolder;
use ichor_wire::problem::Code;
use ichor_wire::role::Role;
use ichor_wire::talosconfig::Context as TalosContext;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// A world, and folders for the kit's file and the sheets.
struct Ceremony {
    world: World,
    dir: String,
    output: PathBuf,
    sheets: tempfile::TempDir,
}

impl Ceremony {
    async fn begin() -> anyhow::Result<Self> {
        Self::within(World::start().await?)
    }

    fn within(world: World) -> anyhow::Result<Self> {
        let output = world.scratch().join("kits");
        std::fs::create_dir(&output)?;
        let dir = world.dir.display().to_string();
        Ok(Self { world, dir, output, sheets: tempfile::tempdir_in("/dev/shm")? })
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run_command(&[&["kit"], arguments, &["--dir", &self.dir]].concat()).await
    }

    async fn create(&self, more: &[&str]) -> anyhow::Result<String> {
        self.create_at(&self.world.node.endpoint(), more).await
    }

    /// A kit that leads there.
    async fn create_at(&self, endpoint: &str, more: &[&str]) -> anyhow::Result<String> {
        let (output, sheets) = (self.output.display().to_string(), self.sheets.path().display().to_string());
        let usual = [
            &[
                "create",
                "--cluster",
                CLUSTER,
                "--shares",
                "2-of-3",
                "--paper",
                "ada",
                "--paper",
                "bob",
                "--paper",
                "eve",
            ][..],
            &["--role", "os:admin", "--ttl-cap", "30m", "--reason", "the first kit", "--endpoint", endpoint],
            &["--output", &output, "--paper-dir", &sheets],
        ];
        self.run(&[&usual.concat(), more].concat()).await
    }

    fn kit(&self, number: u16) -> KitFile {
        KitFile::parse(&std::fs::read_to_string(self.output.join(format!("kit-{number}.toml"))).unwrap()).unwrap()
    }

    /// The share as it is typed from its sheet.
    fn share(&self, number: u16, index: u8, holder: &str) -> Share {
        let sheet = self.sheets.path().join(format!("kit-{number}-share-{index}-{holder}.txt"));
        let sheet = std::fs::read_to_string(sheet).unwrap();
        let rows = sheet.lines().skip_while(|line| *line != "ICHOR-KIT1").skip(1).take(6);
        let groups: Vec<&str> = rows.flat_map(str::split_whitespace).filter(|word| word.len() == 5).collect();
        Share::parse(&format!("ICHOR-KIT1-{}", groups.join("-"))).unwrap()
    }

    /// Opens the kit as `ichor kit open` does; answers the record's file and the certificate's context.
    fn open(&self, number: u16, records: &Path) -> (PathBuf, TalosContext) {
        let file = self.kit(number);
        let facts = file.unverified_facts();
        let mut gathered = Gathered::new(facts);
        gathered.take(facts, self.share(number, 3, "eve")).unwrap();
        gathered.take(facts, self.share(number, 1, "ada")).unwrap();
        let now = self.now();
        let opened = Opened::open(&file, &gathered, now).unwrap();
        let asked = Asked { name: "grace".into(), reason: "INC-42 etcd down".into(), ..Asked::default() };
        let grant = opened.grant(&asked, now).unwrap();
        let recorded = LocallyRecorded::record(&opened, grant, &Machine::default(), records).unwrap();
        let record = recorded.path().to_owned();
        let minted = opened.mint(recorded, now).unwrap();
        (record, minted.talosconfig.context(&minted.context).unwrap())
    }

    fn now(&self) -> Timestamp {
        ichor_broker::clock::Clock::now(&*self.world.clock)
    }

    async fn version(&self, context: &TalosContext) -> anyhow::Result<()> {
        let text = |value: &Option<String>| {
            let bytes = BASE64.decode(value.as_deref().unwrap_or_default().as_bytes()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let (ca, crt, key) = (text(&context.ca), text(&context.crt), text(&context.key));
        let mut node = NodeClient::connect(self.world.node.address(), &ca, Some((&crt, &key))).await?;
        node.version(&[]).await.map(drop)
    }

    /// A drill whose holders all prove.
    async fn drill(&self, number: u16, provers: &[(u8, &str)]) -> anyhow::Result<String> {
        let said = self.run(&["drill", &number.to_string()]).await?;
        let challenge = said.split("--challenge ").nth(1).context("a challenge")?.split_whitespace().next();
        let challenge = HEXLOWER.decode(challenge.context("a challenge")?.as_bytes())?;
        let challenge: [u8; 32] = challenge.as_slice().try_into()?;
        let file = self.kit(number);
        let mut proofs = Vec::new();
        for (index, holder) in provers {
            proofs.push(prove(file.unverified_facts(), &self.share(number, *index, holder), &challenge)?);
        }
        let proofs: Vec<&str> = proofs.iter().flat_map(|proof| ["--proof", proof.as_str()]).collect();
        self.run(&[&["drill", &number.to_string()][..], &proofs].concat()).await
    }
}

const ALL: [(u8, &str); 3] = [(1, "ada"), (2, "bob"), (3, "eve")];
const WITNESSES: [&str; 4] = ["--witness", "Ada", "--witness", "Grace"];

#[tokio::test(flavor = "multi_thread")]
async fn a_kit_from_its_ceremony_to_its_end() -> anyhow::Result<()> {
    let ceremony = Ceremony::begin().await?;
    let said = ceremony.create(&WITNESSES).await?;
    let kit_ca = ceremony.kit(1).unverified_facts().kit_ca.clone();
    assert!(said.contains("acceptedCAs") && said.contains(&BASE64.encode(kit_ca.as_bytes())), "{said}");
    assert!(!said.contains("PRIVATE") && !said.contains("ICHOR-KIT1"), "{said}");
    let entries = ceremony.world.entries().await?;
    let made = entries.iter().find(|entry| entry.kind == "kit-made").context("the ceremony is in the log")?;
    assert_eq!(
        (made.detail["witnesses"].as_str(), made.detail["kit_holders"].as_str()),
        ("Ada, Grace", "ada (paper), bob (paper), eve (paper)")
    );
    // the entry is of exactly what lies there
    let file = std::fs::read_to_string(ceremony.output.join("kit-1.toml"))?;
    let facts = ceremony.kit(1).unverified_facts().clone();
    let ca = facts.kit_certificate()?;
    let said_of = |name: &str| made.detail[name].as_str();
    assert_eq!(said_of("kit_file"), HEXLOWER.encode(&Sha256::digest(&file)));
    assert_eq!(said_of("kit_ca"), HEXLOWER.encode(&Sha256::digest(ca.der())));
    assert_eq!(said_of("fingerprint"), HEXLOWER.encode(&ca.fingerprint()));
    assert_eq!(said_of("public_key"), HEXLOWER.encode(&ca.key_fingerprint()));
    let [standing] = &ichor_broker::kit::read(&*ceremony.world.running.store()).await?[..] else { bail!("one kit") };
    assert_eq!((standing.id, standing.until, standing.ca.der()), (facts.id, facts.until, ca.der()));
    assert_eq!(facts.made.subsec_nanosecond(), 0, "people read it");
    let recorded = |holder: &KitHolder| (HEXLOWER.encode(&holder.commitment), HEXLOWER.encode(&holder.proof_key));
    let recorded: Vec<_> = standing.holders.iter().map(recorded).collect();
    let shares: Vec<_> = facts.shares.iter().map(|one| (one.commitment.clone(), one.proof_key.clone())).collect();
    assert_eq!(recorded, shares);
    for ((index, holder), said) in ALL.iter().zip(&facts.shares) {
        let salt = HEXLOWER.decode(said.salt.as_bytes())?.as_slice().try_into()?;
        let of = commitment(&ceremony.share(1, *index, holder), facts.id, &salt)?;
        assert_eq!(of, (said.commitment.clone(), said.proof_key.clone()), "what {holder} has on paper");
    }
    assert!(ceremony.run(&["list"]).await?.contains("kit 1  prod  undrilled  2 of 3  os:admin"));
    let patch = ceremony.run(&["patch", "1"]).await?;
    assert!(patch.starts_with("machine:\n") && said.contains(&patch), "{patch}");
    assert!(ceremony.run(&["patch", "2"]).await.is_err(), "there is no other");

    // no node accepts it yet: neither the drill nor the kit itself does
    let refused = ceremony.drill(1, &ALL).await.unwrap_err().to_string();
    assert!(
        refused.contains("does not accept the kit's CA") && refused.contains("needs a whole drill still"),
        "{refused}"
    );
    let records = ceremony.world.scratch().join("records");
    let (early, context) = ceremony.open(1, &records);
    assert!(ceremony.version(&context).await.is_err());
    std::fs::remove_file(early)?;

    ceremony.world.node.set_accepted_cas(&kit_ca)?;
    let refused = ceremony.drill(1, &ALL[..2]).await.unwrap_err().to_string();
    assert!(refused.contains("share 3 (eve): not proved"), "{refused}");
    assert!(ceremony.run(&["list"]).await?.contains("no whole drill yet"));
    let said = ceremony.drill(1, &ALL).await?;
    assert!(said.contains("accepts the kit's CA") && said.contains("is drilled and recorded"), "{said}");
    let list = ceremony.run(&["list"]).await?;
    assert!(list.contains("kit 1  prod  fresh") && list.contains("  drilled "), "{list}");

    let (record, context) = ceremony.open(1, &records);
    ceremony.version(&context).await?;
    let grant = context.ours().context("ours")?.grant;
    let lines = ceremony.world.node.log_lines();
    assert!(
        lines.iter().any(|line| line.contains(&format!("grant:{grant}")) && line.contains("user:claimed:grace")),
        "{lines:?}"
    );

    let file = record.display().to_string();
    let edited = ceremony.world.scratch().join("edited");
    std::fs::write(&edited, std::fs::read_to_string(&record)?.replacen("grace", "oscar", 1))?;
    let refused = ceremony.run(&["report", &edited.display().to_string(), "--label", "drill"]).await.unwrap_err();
    assert!(refused.to_string().contains("was changed after it was made"), "{refused}");
    let said = ceremony.run(&["report", &file, "--label", "emergency", "--note", "disk was full"]).await?;
    assert!(said.contains("by grace (claimed), emergency") && said.contains("kit rotate 1"), "{said}");
    assert!(ceremony.run(&["report", &file, "--label", "emergency"]).await.is_err(), "once");
    let list = ceremony.run(&["list"]).await?;
    assert!(list.contains("kit 1  prod  used") && list.contains("by grace (emergency): INC-42 etcd down"), "{list}");

    let (output, sheets) = (ceremony.output.display().to_string(), ceremony.sheets.path().display().to_string());
    let endpoint = ceremony.world.node.endpoint();
    let rotate = [
        "rotate",
        "1",
        "--reason",
        "it was opened",
        "--output",
        &output,
        "--paper-dir",
        &sheets,
        "--endpoint",
        &endpoint,
    ];
    let said = ceremony.run(&[&rotate[..], &WITNESSES].concat()).await?;
    assert!(said.contains("Kit 2 of cluster") && said.contains("kit revoke 1"), "{said}");
    let again = ceremony.run(&[&rotate[..], &WITNESSES].concat()).await.unwrap_err().to_string();
    assert!(again.contains("kit 1 was replaced by kit 2 already") && again.contains("kit rotate 2`"), "{again}");
    let said = ceremony.run(&["report", &file, "--label", "drill"]).await?;
    assert!(said.contains("kit 2 is there in its place") && !said.contains("kit rotate"), "{said}");
    let (second, first) = (ceremony.kit(2), ceremony.kit(1));
    let holders =
        |file: &KitFile| file.unverified_facts().shares.iter().map(|share| share.holder.clone()).collect::<Vec<_>>();
    assert_eq!(holders(&second), holders(&first));
    assert_ne!(second.unverified_facts().kit_ca, first.unverified_facts().kit_ca);
    let mut gathered = Gathered::new(second.unverified_facts());
    let foreign = gathered.take(second.unverified_facts(), ceremony.share(1, 1, "ada")).unwrap_err();
    assert!(foreign.to_string().contains("of kit 1, and this is kit 2"), "{foreign}");

    let config = ceremony.world.scratch().join("node.yaml");
    let patch = |pem: &str| format!("    - crt: {}\n", BASE64.encode(pem.as_bytes()));
    let second_ca = &second.unverified_facts().kit_ca;
    std::fs::write(
        &config,
        format!("machine:\n  type: worker\n  acceptedCAs:\n{}{}", patch(&kit_ca), patch(second_ca)),
    )?;
    let config = config.display().to_string();
    let revoke = ["revoke", "1", "--reason", "kit 2 is there", "--machine-config", &config, "--output", &output];
    let said = ceremony.run(&revoke).await?;
    assert!(
        said.contains("1 other CAs stay")
            && said.contains(&format!("--patch @{}", ceremony.output.join("remove-2.yaml").display())),
        "{said}"
    );
    let patches =
        ["remove-1.yaml", "remove-2.yaml"].map(|name| std::fs::read_to_string(ceremony.output.join(name)).unwrap());
    assert!(patches.iter().all(|text| said.contains(text)), "both are printed too: {said}");
    let [_, stays] = patches;
    assert!(stays.contains(patch(second_ca).trim()) && !stays.contains(patch(&kit_ca).trim()));
    // what the node accepts with the patches applied
    ceremony.world.node.set_accepted_cas(second_ca)?;
    assert!(ceremony.version(&context).await.is_err(), "the certificate is worth nothing any more");
    let list = ceremony.run(&["list"]).await?;
    assert!(
        list.contains("kit 1  prod  revoked")
            && list.contains("kit 2  prod  undrilled")
            && list.contains("replaced by kit 2"),
        "{list}"
    );
    assert!(ceremony.drill(1, &ALL).await.unwrap_err().to_string().contains("is revoked"));
    assert!(ceremony.run(&["patch", "1"]).await.unwrap_err().to_string().contains("is revoked"));
    // a node that never accepted it keeps nobody from revoking
    std::fs::write(
        ceremony.world.scratch().join("node.yaml"),
        format!("machine:\n  acceptedCAs:\n{}", patch(&kit_ca)),
    )?;
    let said = ceremony.run(&["revoke", "2", "--reason", "ends too", "--machine-config", &config]).await?;
    assert!(said.contains("Kit 2 is revoked in the log") && said.contains("nothing to take out"), "{said}");
    assert!(ceremony.run(&["list"]).await?.contains("kit 2  prod  revoked"));
    run_command(&["audit", "verify", "--dir", &ceremony.dir]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_kit_from_its_ceremony_to_its_end() -> anyhow::Result<()> {
    let ceremony = Ceremony::begin().await?;
    for wrong in [&["--static", "--valid-for", "366"][..], &["--static", "--days", "30"], &["--valid-for", "30"]] {
        assert!(ceremony.create(&[&WITNESSES, wrong].concat()).await.is_err(), "{wrong:?}");
    }
    let said = ceremony.create(&[&WITNESSES[..], &["--static", "--valid-for", "30"]].concat()).await?;
    let file = ceremony.kit(1);
    let facts = file.unverified_facts();
    let told = ["It is static", "whoever opens it holds os:admin until", "user:kit-1", "and is\nwiped"];
    assert!(told.iter().all(|text| said.contains(text)) && !said.contains("PRIVATE"), "{said}");
    let days = facts.until.duration_since(facts.made).as_hours() / 24;
    assert!((29..=30).contains(&days) && facts.instructions.contains("It lasts as long as the kit"), "{facts:?}");
    assert!(ceremony.run(&["list"]).await?.contains("kit 1  prod  undrilled  2 of 3  os:admin"));
    let entries = ceremony.world.entries().await?;
    let made = entries.iter().find(|entry| entry.kind == "kit-made").context("the ceremony is in the log")?;
    assert_eq!((made.detail["kit_user"].as_str(), made.detail["kit_certificate"].len()), ("kit-1", 64));

    ceremony.world.node.set_accepted_cas(&facts.kit_ca)?;
    assert!(ceremony.drill(1, &ALL).await?.contains("is drilled and recorded"));
    let records = ceremony.world.scratch().join("records");
    let (record, context) = ceremony.open(1, &records);
    ceremony.version(&context).await?;
    let named = format!("grant:kit-1-{}", facts.id);
    let lines = ceremony.world.node.log_lines();
    assert!(lines.iter().any(|line| line.contains(&named) && line.contains("user:kit-1")), "{lines:?}");
    let (_, again) = ceremony.open(1, &ceremony.world.scratch().join("others"));
    assert_eq!(again.crt, context.crt, "whoever opens it holds the same");

    let file = record.display().to_string();
    let edited = ceremony.world.scratch().join("edited");
    std::fs::write(&edited, std::fs::read_to_string(&record)?.replacen("grace", "oscar", 1))?;
    let refused = ceremony.run(&["report", &edited.display().to_string(), "--label", "drill"]).await.unwrap_err();
    assert!(refused.to_string().contains("was changed after it was made"), "{refused}");
    let said = ceremony.run(&["report", &file, "--label", "emergency"]).await?;
    assert!(said.contains("by grace (claimed), emergency"), "{said}");
    let list = ceremony.run(&["list"]).await?;
    assert!(list.contains("kit 1  prod  used") && list.contains("static  drilled"), "{list}");

    let (output, sheets) = (ceremony.output.display().to_string(), ceremony.sheets.path().display().to_string());
    let endpoint = ceremony.world.node.endpoint();
    let rotate = ["rotate", "1", "--reason", "it was opened", "--output", &output, "--paper-dir", &sheets];
    let rotate = [&rotate[..], &WITNESSES, &["--endpoint", &endpoint]].concat();
    let long = ceremony.run(&[&rotate[..], &["--days", "366"]].concat()).await.unwrap_err();
    assert!(long.to_string().contains("at most 365 days"), "{long}");
    assert!(ceremony.run(&rotate).await?.contains("It is static"), "what takes its place is static too");
    ceremony.world.node.set_accepted_cas(&ceremony.kit(2).unverified_facts().kit_ca)?;
    assert!(ceremony.version(&context).await.is_err(), "the certificate is worth nothing any more");
    let (_, context) = ceremony.open(2, &records);
    ceremony.version(&context).await
}

const REPORTERS: &str = r#"
@id("admins-report") permit (principal in Group::"corp/talos-admins", action == Action::"kit:report", resource in Label::"env=prod");
@id("admins-read") permit (principal in Group::"corp/talos-admins", action == Action::"audit:read", resource);
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_is_reported_over_the_api_by_whom_policy_lets() -> anyhow::Result<()> {
    let options = Options { policies: Some(REPORTERS), ..Options::default() };
    let ceremony = Ceremony::within(World::with(options).await?)?;
    ceremony.create(&WITNESSES).await?;
    let (record, context) = ceremony.open(1, &ceremony.world.scratch().join("records"));
    let text = std::fs::read_to_string(record)?;
    let report = async |person: &Person, record: &str, label| -> Result<KitReportAnswer, Code> {
        let ask = KitReportAsk { record: record.into(), label, note: Some("etcd's disk was full".into()) };
        match kit::report(&person.session, &ask).await {
            Ok(answer) => Ok(answer),
            Err(Error::Problem(problem)) => Err(problem.code),
            Err(error) => panic!("{error}"),
        }
    };
    let (alice, root) =
        (Person::log_in(&ceremony.world, "alice").await?, Person::log_in(&ceremony.world, "root").await?);
    assert_eq!(report(&alice, &text, KitLabel::Emergency).await.unwrap_err(), Code::Refused);
    let edited = text.replacen("grace", "oscar", 1);
    assert_eq!(report(&root, &edited, KitLabel::Emergency).await.unwrap_err(), Code::BadRequest);
    assert_eq!(report(&root, "hello", KitLabel::Emergency).await.unwrap_err(), Code::BadRequest);
    let is_told = async || ceremony.world.entries().await.map(|all| all.iter().any(|entry| entry.kind == "kit-opened"));
    assert!(!is_told().await?, "nothing that was refused is in the log");

    let answer = report(&root, &text, KitLabel::Emergency).await.unwrap();
    let grant = context.ours().context("ours")?.grant;
    assert_eq!(
        (answer.kit, answer.cluster.as_str(), answer.grant, answer.claimed.as_str()),
        (1, CLUSTER, grant, "grace")
    );
    assert_eq!(report(&root, &text, KitLabel::Emergency).await.unwrap_err(), Code::Conflict, "once");
    let entries = ceremony.world.entries().await?;
    let entry = entries.iter().find(|entry| entry.kind == "kit-opened").context("it is recorded")?;
    assert_eq!((entry.index, entry.detail["kit_label"].as_str()), (answer.receipt.index, "emergency"));
    assert!(entry.user.as_deref().is_some_and(|user| user.contains("root")), "and who brought it: {entry:?}");
    assert!(ceremony.run(&["list"]).await?.contains("kit 1  prod  used"));
    Ok(())
}

/// Whoever has enough shares signs what they like.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_claims_more_than_its_kit_gives_is_recorded_as_that_and_told() -> anyhow::Result<()> {
    let options = Options { policies: Some(REPORTERS), ..Options::default() };
    let ceremony = Ceremony::within(World::with(options).await?)?;
    ceremony.create(&WITNESSES).await?;
    let file = ceremony.kit(1);
    let mut gathered = Gathered::new(file.unverified_facts());
    for (index, holder) in [(1, "ada"), (2, "bob")] {
        gathered.take(file.unverified_facts(), ceremony.share(1, index, holder)).unwrap();
    }
    let secret = file.open(&gathered).unwrap().1;
    let key = Ed25519KeyPair::from_pkcs8(secret.key()).unwrap();
    let signed = |record: Record| record.signed(|bytes| Some(key.sign(bytes).as_ref().to_vec())).unwrap();
    let (path, _) = ceremony.open(1, &ceremony.world.scratch().join("records"));
    let honest = SignedRecord::unverified_record(&std::fs::read_to_string(path)?).unwrap();
    let beyond =
        Record { roles: vec![Role::Admin, Role::EtcdBackup], name: "oscar\nkit 1  fresh".into(), ..honest.clone() };
    let root = Person::log_in(&ceremony.world, "root").await?;
    let ask =
        |record: Record| KitReportAsk { record: signed(record).text().into(), label: KitLabel::Drill, note: None };
    let answer = kit::report(&root.session, &ask(beyond)).await.unwrap();
    let said = answer.beyond.context("it is told")?;
    assert!(said.contains("the kit does not give os:etcd:backup") && said.contains("opener's name"), "{said}");
    assert_eq!(answer.claimed, "oscar\\nkit 1  fresh");
    assert_eq!(kit::report(&root.session, &ask(honest.clone())).await.unwrap().beyond, None);

    let long = Record { not_after: honest.not_after + SignedDuration::from_secs(1), ..honest };
    let at_the_host = ceremony.world.scratch().join("long.record");
    std::fs::write(&at_the_host, signed(long).text())?;
    let said = ceremony.run(&["report", &at_the_host.display().to_string(), "--label", "emergency"]).await?;
    assert!(said.contains("grace (claimed), beyond-the-kit.") && said.contains("every alarm stays"), "{said}");
    let list = ceremony.run(&["list"]).await?;
    assert!(list.contains("by oscar\\nkit 1  fresh (beyond-the-kit): INC-42"), "{list}");
    assert!(list.contains("by grace (drill)") && list.contains("by grace (beyond-the-kit)"), "{list}");
    assert!(
        list.contains("claims more than the kit gives") && list.contains("`ichor-broker kit revoke 1` now"),
        "{list}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn case_17_a_ceremony_is_begun_on_the_brokers_host_by_two_and_fails_whole() -> anyhow::Result<()> {
    let ceremony = Ceremony::begin().await?;
    let refused = async |more: &[&str]| ceremony.create(more).await.unwrap_err().to_string();
    assert!(refused(&["--witness", "Ada"]).await.contains("two people present"));
    assert!(
        refused(&["--witness", "Ada", "--witness", "ada"]).await.contains("two people present"),
        "one by two names"
    );
    assert!(
        refused(&[&WITNESSES[..], &["--paper", "joe"]].concat()).await.contains("needs 3 holders, and 4 are named")
    );
    assert!(refused(&[&WITNESSES[..], &["--endpoint", "node.example.com"]].concat()).await.contains("is a name"));
    assert!(refused(&[&WITNESSES[..], &["--role", "os:impersonator"]].concat()).await.contains("unknown role"));
    // one name of those that it would write is taken: the last
    let taken = ceremony.sheets.path().join("kit-1-share-3-eve.txt");
    std::fs::write(&taken, "another's")?;
    let said = refused(&WITNESSES).await;
    assert!(said.contains("kit-1-share-3-eve.txt` is there already, and nothing was recorded"), "{said}");
    std::fs::remove_file(&taken)?;
    let kinds: Vec<String> = ceremony.world.entries().await?.into_iter().map(|entry| entry.kind).collect();
    assert!(!kinds.iter().any(|kind| kind.starts_with("kit-")), "{kinds:?}");
    assert_eq!(std::fs::read_dir(&ceremony.output)?.count(), 0, "nothing is left of what was refused");
    assert_eq!(std::fs::read_dir(ceremony.sheets.path())?.count(), 0);

    // and from outside there is no way at all: what was opened can be brought back, by those whom policy lets
    let paths = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json"))?;
    let api: serde_json::Value = serde_json::from_str(&paths)?;
    let about_kits = api["paths"].as_object().context("paths")?.keys().filter(|path| path.contains("kit"));
    assert_eq!(about_kits.collect::<Vec<_>>(), ["/v1/kits/reports"]);
    for path in ["v1/kits", "v1/kit"] {
        let url = ceremony.world.url.join(path)?;
        assert_eq!(ceremony.world.http()?.post(url).send().await?.status(), 404);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ceremonies_at_once_have_numbers_of_their_own_and_end_by_one_patch() -> anyhow::Result<()> {
    let ceremony = Ceremony::begin().await?;
    let make = || ceremony.create(&WITNESSES);
    let (one, two, three) = tokio::join!(make(), make(), make());
    let (made, refused): (Vec<_>, Vec<_>) = [one, two, three].into_iter().partition(Result::is_ok);
    for error in &refused {
        let error = error.as_ref().unwrap_err().to_string();
        assert!(error.contains("meanwhile") && error.contains("run it again"), "{error}");
    }
    let mut expected = made.len();
    while expected < 3 {
        make().await?;
        expected += 1;
    }
    let list = ceremony.run(&["list"]).await?;
    assert!((1..=3).all(|number| list.matches(&format!("kit {number}  ")).count() == 1), "{list}");

    // a node that accepts two of them, and a stranger's CA
    let crt = |pem: &str| format!("    - crt: {}\n", BASE64.encode(pem.as_bytes()));
    let [first, second, third] = [1, 2, 3].map(|number| ceremony.kit(number).unverified_facts().kit_ca.clone());
    let config = ceremony.world.scratch().join("node.yaml");
    std::fs::write(&config, format!("machine:\n  acceptedCAs:\n{}{}{}", crt(&first), crt(&third), crt(&second)))?;
    let (config, output) = (config.display().to_string(), ceremony.output.display().to_string());
    let id = ceremony.kit(2).unverified_facts().id.to_string();
    let usual = ["--reason", "all end", "--machine-config", &config, "--output", &output];
    assert!(ceremony.run(&[&["revoke", "1", "4"], &usual[..]].concat()).await.is_err());
    assert!(!ceremony.run(&["list"]).await?.contains("revoked"), "one that is not there keeps all as they are");
    let said = ceremony.run(&[&["revoke", "1", &id, "2"], &usual[..]].concat()).await?;
    assert!(
        said.contains("Kit 1 is revoked") && said.contains("Kit 2 is revoked") && said.contains("1 other CAs stay"),
        "{said}"
    );
    let stays = std::fs::read_to_string(ceremony.output.join("remove-2.yaml"))?;
    assert_eq!(stays, format!("machine:\n  acceptedCAs:\n{}", crt(&third)));
    let list = ceremony.run(&["list"]).await?;
    let states = ["kit 1  prod  revoked", "kit 2  prod  revoked", "kit 3  prod  undrilled"];
    assert!(states.iter().all(|state| list.contains(state)), "{list}");
    let entries = ceremony.world.entries().await?;
    assert_eq!(entries.iter().filter(|entry| entry.kind == "kit-revoked").count(), 2, "each is recorded, once");
    std::fs::write(ceremony.world.scratch().join("node.yaml"), format!("machine:\n  acceptedCAs:\n{}", crt(&third)))?;
    let said = ceremony.run(&[&["revoke", "3", "1"], &usual[..]].concat()).await?;
    assert!(said.contains("does not accept kit 1") && said.contains("0 other CAs stay"), "{said}");
    Ok(())
}
