//! A ceremony in a world of its own: the broker's commands, the files and sheets that they leave, and what holders do with them.

use std::path::{Path, PathBuf};

use anyhow::Context;
use data_encoding::{BASE64, HEXLOWER};
use ichor_client::kit::{Asked, LocallyRecorded, Machine, Opened};
use ichor_standins::node::client::NodeClient;
use ichor_tests::{CLUSTER, World, run_command};
use ichor_wire::kit::{Gathered, KitFile, Share, prove};
use ichor_wire::talosconfig::Context as TalosContext;
use jiff::Timestamp;

/// A world, and folders for the kit's file and the sheets.
pub(super) struct Ceremony {
    pub(super) world: World,
    pub(super) dir: String,
    pub(super) output: PathBuf,
    pub(super) sheets: tempfile::TempDir,
}

impl Ceremony {
    pub(super) async fn begin() -> anyhow::Result<Self> {
        Self::within(World::start().await?)
    }

    pub(super) fn within(world: World) -> anyhow::Result<Self> {
        let output = world.scratch().join("kits");
        std::fs::create_dir(&output)?;
        let dir = world.dir.display().to_string();
        Ok(Self { world, dir, output, sheets: tempfile::tempdir_in("/dev/shm")? })
    }

    pub(super) async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run_command(&[&["kit"], arguments, &["--dir", &self.dir]].concat()).await
    }

    pub(super) async fn create(&self, more: &[&str]) -> anyhow::Result<String> {
        let endpoint = self.world.node.endpoint();
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
            &["--role", "os:admin", "--ttl-cap", "30m", "--reason", "the first kit", "--endpoint", &endpoint],
            &["--output", &output, "--paper-dir", &sheets],
        ];
        self.run(&[&usual.concat(), more].concat()).await
    }

    pub(super) fn kit(&self, number: u16) -> KitFile {
        KitFile::parse(&std::fs::read_to_string(self.output.join(format!("kit-{number}.toml"))).unwrap()).unwrap()
    }

    /// The share as it is typed from its sheet.
    pub(super) fn share(&self, number: u16, index: u8, holder: &str) -> Share {
        let sheet = self.sheets.path().join(format!("kit-{number}-share-{index}-{holder}.txt"));
        let sheet = std::fs::read_to_string(sheet).unwrap();
        let rows = sheet.lines().skip_while(|line| *line != "ICHOR-KIT1").skip(1).take(6);
        let groups: Vec<&str> = rows.flat_map(str::split_whitespace).filter(|word| word.len() == 5).collect();
        Share::parse(&format!("ICHOR-KIT1-{}", groups.join("-"))).unwrap()
    }

    /// Opens the kit as `ichor kit open` does; answers the record's file and the certificate's context.
    pub(super) fn open(&self, number: u16, records: &Path) -> (PathBuf, TalosContext) {
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

    pub(super) fn now(&self) -> Timestamp {
        ichor_broker::clock::Clock::now(&*self.world.clock)
    }

    pub(super) async fn version(&self, context: &TalosContext) -> anyhow::Result<()> {
        let text = |value: &Option<String>| {
            let bytes = BASE64.decode(value.as_deref().unwrap_or_default().as_bytes()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let (ca, crt, key) = (text(&context.ca), text(&context.crt), text(&context.key));
        let mut node = NodeClient::connect(self.world.node.address(), &ca, Some((&crt, &key))).await?;
        node.version(&[]).await.map(drop)
    }

    /// A drill whose holders all prove.
    pub(super) async fn drill(&self, number: u16, provers: &[(u8, &str)]) -> anyhow::Result<String> {
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

pub(super) const ALL: [(u8, &str); 3] = [(1, "ada"), (2, "bob"), (3, "eve")];
pub(super) const WITNESSES: [&str; 4] = ["--witness", "Ada", "--witness", "Grace"];
