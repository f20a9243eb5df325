//! What the client believes of a real broker's log: receipts kept and checked, growth shown, an export verified; and what it says
//! when one of them is not what it should be.

use ichor_client::audit::receipts::{Standing, Taken, take};
use ichor_client::audit::{kept, known::Known};
use ichor_client::environment::Environment;
use ichor_client::tls::Trust;
use ichor_client::{Broker, Error, Wish};
use ichor_tests::{CLUSTER, Person, World, run_command};
use ichor_wire::api::{CertificateAnswer, Receipt};
use ichor_wire::log::export::{Item, Reader, write_begin, write_checkpoint, write_dropped, write_entry};
use ichor_wire::log::{Entry, Fault, Leaf, LogKey, verify};

fn wish() -> Wish {
    Wish { cluster: CLUSTER.into(), ..Wish::default() }
}

async fn log_key(world: &World) -> anyhow::Result<LogKey> {
    Ok(run_command(&["audit", "key", "--dir", &world.dir.display().to_string()]).await?.trim().parse()?)
}

fn why(taken: Taken) -> Option<String> {
    match taken.standing {
        Standing::False(error) => Some(error.to_string()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_the_client_keeps_receipts_and_holds_the_broker_to_them() -> anyhow::Result<()> {
    let world = World::start().await?;
    let key = log_key(&world).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let home = tempfile::tempdir()?;
    let environment = Environment::isolated(home.path());

    let first = alice.certificate(&wish()).await?;
    let taken = take(&environment, &alice.session, &first.answer).await;
    assert!(matches!(taken.standing, Standing::Holds), "{taken:?}");
    assert_eq!(taken.first_seen, Some(key.clone()), "the key that the operator has");
    let report = kept::verify(&environment, &alice.session).await?;
    assert_eq!((report.verified, report.pending, report.faults.len()), (1, 0, 0), "{report:?}");
    let seen = Known::load(&environment, alice.session.broker())?.checkpoint().map(|(seen, _)| seen.size());
    assert_eq!(seen, Some(report.size));

    // a pending one is completed; the log has grown, and is shown to continue what was seen
    let second = alice.certificate(&wish()).await?;
    let whole = second.answer.receipt.clone();
    let index = whole.index;
    let pending = Receipt { entry: None, proof: Vec::new(), checkpoint: None, ..whole.clone() };
    let answer = CertificateAnswer { receipt: pending, ..second.answer.clone() };
    let taken = take(&environment, &alice.session, &answer).await;
    assert!(matches!(taken, Taken { first_seen: None, standing: Standing::Pending }), "{taken:?}");
    let grown = kept::verify(&environment, &alice.session).await?;
    assert_eq!((grown.verified, grown.pending, grown.faults.len()), (2, 0, 0), "{grown:?}");
    assert!(grown.size > report.size && grown.size > index);

    // one bit of the proof; the receipt of another certificate
    let third = alice.certificate(&wish()).await?;
    let mut bit = third.answer.clone();
    let at = bit.receipt.proof.first_mut().expect("a tree of more than one");
    let replaced = if at.starts_with('A') { "B" } else { "A" };
    at.replace_range(0..1, replaced);
    assert!(why(take(&environment, &alice.session, &bit).await).is_some());
    let swapped = CertificateAnswer { receipt: whole, ..third.answer.clone() };
    let said = why(take(&environment, &alice.session, &swapped).await);
    assert!(said.as_deref().is_some_and(|said| said.contains("is not this certificate's")), "{said:?}");
    let report = kept::verify(&environment, &alice.session).await?;
    assert_eq!((report.verified, report.faults.len()), (2, 2), "they are kept, and said again: {report:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_another_logs_key_vouches_for_nothing() -> anyhow::Result<()> {
    let world = World::start().await?;
    let key = log_key(&world).await?;
    let home = tempfile::tempdir()?;
    let environment = Environment::isolated(home.path());
    let browser = ichor_standins::browser::Browser::new(&[&world.tls_ca])?;
    for (pinned, holds) in [(key.clone(), true), (LogKey::ed25519(key.name(), &[7; 32])?, false)] {
        let clock = world.broker().clock().clone();
        let broker = Broker::with_audit_key(world.url.clone(), Trust::CaPem(world.tls_ca.clone()), clock, Some(pinned));
        let session = ichor_tests::log_in(&broker, &browser, "alice", |_| {}).await?;
        let held = ichor_client::certificate(&session, &wish()).await?;
        let taken = take(&environment, &session, &held.answer).await;
        assert_eq!(matches!(taken.standing, Standing::Holds), holds, "{taken:?}");
        if !holds {
            let said = why(taken).unwrap_or_default();
            assert!(said.contains("the key of the broker's audit log has changed"), "{said}");
            let refused = kept::verify(&environment, &session).await;
            assert!(matches!(refused, Err(Error::Failed { .. })), "{refused:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_6_a_real_export_that_was_changed_is_found_by_whoever_has_the_key() -> anyhow::Result<()> {
    let world = World::start().await?;
    let key = log_key(&world).await?;
    let (alice, root) = (Person::log_in(&world, "alice").await?, Person::log_in(&world, "root").await?);
    for _ in 0..3 {
        alice.certificate(&wish()).await?;
    }
    let export = root.session.broker().get_bytes(&root.session, &["audit", "export"], &[], 8 * 1024 * 1024).await?;
    let verdict = verify(&export[..], &key, &[])?;
    assert_eq!((verdict.dropped, verdict.uncovered), (0, 0));

    let (mut reader, mut entries, mut note) = (Reader::new(&export[..]), Vec::new(), String::new());
    while let Some(item) = reader.item()? {
        match item {
            Item::Entry { leaf_hash, entry } => entries.push((*leaf_hash, entry.to_vec())),
            Item::Checkpoint(text) => text.clone_into(&mut note),
            Item::Begin { .. } | Item::Dropped { .. } => {}
        }
    }
    assert!(entries.len() > 10, "{}", entries.len());
    let last = entries.len() - 1;
    let written = |entries: &[([u8; 32], Vec<u8>)], bare: Option<usize>| -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        write_begin(&mut out, 0);
        write_checkpoint(&mut out, &note);
        for (index, (hash, entry)) in entries.iter().enumerate() {
            if bare == Some(index) {
                let time = Entry::decode(entry)?.time;
                write_dropped(&mut out, hash, &Leaf::of(u64::try_from(index)?, entry, time).encode()?);
            } else {
                write_entry(&mut out, hash, entry);
            }
        }
        Ok(out)
    };
    let fault = |bytes: Vec<u8>| verify(&bytes[..], &key, &[]).err();
    assert!(fault(written(&entries, None)?).is_none(), "as it was");
    assert!(matches!(fault(written(&entries[..last], None)?), Some(Fault::Cut { .. })), "cut");
    let mut reordered = entries.clone();
    reordered.swap(4, 5);
    assert!(matches!(fault(written(&reordered, None)?), Some(Fault::OtherEntry { index: 4 })), "in another order");
    let mut changed = entries.clone();
    let middle = changed[5].1.len() / 2;
    changed[5].1[middle] ^= 1;
    assert!(fault(written(&changed, None)?).is_some_and(|fault| fault.to_string().contains("entry 5")), "a body");
    assert!(
        matches!(fault(written(&entries, Some(5))?), Some(Fault::NoBody { index: 5 })),
        "a body that nobody said was dropped"
    );
    let other = LogKey::ed25519(key.name(), &[7; 32])?;
    assert!(verify(&export[..], &other, &[]).is_err(), "another log's key");
    Ok(())
}
