//! Prints how many audit entries a second become durable: `cargo run --release --example append_rate [FOLDER] [ENTRIES]`.
//!
//! The folder names the file system that is measured (a memory file system would flatter). Every entry is one of a grant,
//! with all its fields, recorded through the sequencer by as many waiting writers as the column says.

use std::path::PathBuf;
use std::sync::Arc;

use ichor_broker::audit::{Sequencer, Settings};
use ichor_broker::clock::SystemClock;
use ichor_broker::store::sqlite::{Options, SqliteStore};
use ichor_broker::store::{EntryFilter, Store};
use ichor_wire::log::{Content, Kind, Person};
use tokio::time::Instant;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a measuring program prints its table")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let total: usize = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let folder = tempfile::tempdir_in(parent)?;
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path().join("rate.db"), Options::default())?);

    println!("writers   entries/s   mean wait");
    for writers in [1, 16, 128, 1024] {
        let settings = Settings::named("rate");
        let (sequencer, ended) = Sequencer::start(Arc::clone(&store), Arc::new(SystemClock), settings);
        let each = (total / 4).min(writers * 2_000) / writers;
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..writers {
            let sequencer = sequencer.clone();
            tasks.spawn(async move {
                for turn in 0..each {
                    sequencer.note(content(writer, turn), None).await?;
                }
                anyhow::Ok(())
            });
        }
        for done in tasks.join_all().await {
            done?;
        }
        let took = start.elapsed();
        drop(sequencer);
        ended.await?;
        let rate = (each * writers) as f64 / took.as_secs_f64();
        println!("{writers:>7} {rate:>11.0} {:>9.2} ms", took.as_secs_f64() * 1e3 / each as f64);
    }

    let size = store.head().await?.size;
    println!("\nqueries of 100 over {size} entries");
    let text = |text: &str| Some(text.to_owned());
    let all = EntryFilter::default;
    for (what, filter) in [
        ("newest", all()),
        ("person", EntryFilter { person: text("user7"), ..all() }),
        ("cluster", EntryFilter { cluster: text("cluster3"), ..all() }),
        ("kind", EntryFilter { kind: Some(Kind::Grant), ..all() }),
        ("person and cluster", EntryFilter { person: text("user7"), cluster: text("cluster3"), ..all() }),
    ] {
        store.entries(&filter, None, 100).await?;
        let start = Instant::now();
        let found = store.entries(&filter, Some(size / 2), 100).await?.len();
        println!("{what:>20} {:>9.2} ms, {found} found", start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

fn content(writer: usize, turn: usize) -> Content {
    Content {
        person: Some(Person {
            provider: "corp".into(),
            issuer: "https://id.example.com/realms/corp".into(),
            subject: format!("8d3c1f0a-0000-4000-8000-{:012}", writer % 100),
            name: "Ada Lovelace".into(),
            user: format!("user{}", writer % 100),
        }),
        cluster: Some(format!("cluster{}", turn % 10)),
        // Nearly ascending, as UUIDv7 are.
        grant: Some(((turn as u128) << 64 | writer as u128).to_be_bytes().to_vec()),
        session: Some(vec![7; 16]),
        address: Some("192.0.2.7".into()),
        roles: Some(vec!["os:reader".into()]),
        not_after: Some(1_800_000_000),
        reason: Some("INC-4711: the node does not come back".into()),
        policies: Some(vec!["sre-read-prod".into()]),
        public_key: Some(vec![8; 32]),
        mode: Some("direct".into()),
        policy_digest: Some(vec![9; 32]),
        ..Content::of(Kind::Grant)
    }
}
