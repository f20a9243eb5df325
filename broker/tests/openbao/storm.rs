//! Many calls, one login.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ichor_broker::clock::{Clock, SystemClock};
use ichor_broker::custody::{Custody, For, IdentitySource, Keep, KnownCas, Places, Record, Target, Vault};
use ichor_broker::domain::ClusterName;
use ichor_standins::openbao::{Fault, OpenBao};

use super::{World, ask, until};

const LOGIN: &str = "auth/approle/login";

/// 500 calls wait while the server is out; it comes back after it was asked for a login three times.
async fn waits(out: fn(&OpenBao), back: fn(&OpenBao)) {
    let world = Arc::new(World::new().await);
    out(&world.bao);
    let client = world.client();
    let calls: Vec<_> = (0..500)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { ask(&client).await.map(drop) })
        })
        .collect();
    until("three tries to log in", || world.bao.count(LOGIN) >= 3).await;
    back(&world.bao);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(world.bao.logins(), 1);
    assert!(world.bao.count(LOGIN) <= 12, "{} tries to log in", world.bao.count(LOGIN));
}

#[tokio::test]
async fn a_sealed_server_comes_back_to_one_login() {
    waits(|bao| bao.seal(), |bao| bao.unseal()).await;
}

#[tokio::test]
async fn an_unreachable_server_comes_back_to_one_login() {
    waits(|bao| bao.set_fault("*", Some(Fault::Disconnect)), |bao| bao.set_fault("*", None)).await;
}

#[tokio::test]
async fn while_a_server_is_out_few_logins_are_tried_however_many_wait() {
    let world = World::new().await;
    world.bao.seal();
    let client = world.hasty(Duration::from_secs(1));
    let calls = (0..500).map(|_| ask(&client));
    for asked in futures_util::future::join_all(calls).await {
        assert_eq!(asked.unwrap_err().kind().label(), "sealed");
    }
    assert!((2..=12).contains(&world.bao.count(LOGIN)), "{} tries to log in", world.bao.count(LOGIN));
}

#[tokio::test]
async fn five_hundred_calls_at_once_log_in_once_and_after_a_revocation_once_more() {
    let world = World::new().await;
    let client = world.client();
    for logins in 1..=2 {
        let calls: Vec<_> = (0..500)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { ask(&client).await.map(drop) })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!((world.bao.logins(), world.bao.count(LOGIN)), (logins, logins as usize));
        world.bao.revoke_tokens();
    }
}

#[tokio::test]
async fn who_goes_away_takes_no_login_with_it() {
    let world = World::new().await;
    let client = world.client();
    let mut hold = world.bao.hold(LOGIN);
    let first = {
        let client = client.clone();
        tokio::spawn(async move { ask(&client).await.map(drop) })
    };
    hold.arrived(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    let second = tokio::spawn(async move { ask(&client).await.map(drop) });
    tokio::task::yield_now().await;
    hold.release();
    second.await.unwrap().unwrap();
    assert_eq!((world.bao.logins(), world.bao.count(LOGIN)), (1, 1));
}

#[tokio::test]
async fn one_login_serves_any_number_of_clusters() {
    let world = World::new().await;
    let dir = world.path("vault");
    Vault::create(&dir, Keep::DangerBeside, &[]).unwrap();
    let vault = Vault::open(&dir, IdentitySource::DangerBeside).unwrap();
    let servers = BTreeMap::from([("main".to_owned(), world.client())]);
    let clusters: Vec<_> = (0..24).map(|n| ClusterName::new(&format!("c{n}")).unwrap()).collect();
    for (n, cluster) in clusters.iter().enumerate() {
        let places = Places { sealer: vault.sealer(), servers: &servers, known: &KnownCas::default() };
        let target = if n % 2 == 0 {
            Target::Transit { server: "main".into(), mount: "transit".into(), key: None }
        } else {
            Target::Kv { server: "main".into(), mount: "secret".into(), path: None }
        };
        let of = For { cluster, generation: 1, replace: false, awaited: None };
        let settled = places.create(of, &target, SystemClock.now(), 5).await.unwrap();
        Record::first(settled.place).write(&dir, cluster, false).unwrap();
    }
    let before = world.bao.logins();
    let custody = Custody::new(vault, BTreeMap::from([("main".to_owned(), world.client())]));
    let known = KnownCas::default();
    let opened = futures_util::future::join_all(clusters.iter().map(|cluster| custody.open(cluster, &known))).await;
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    assert_eq!(world.bao.logins() - before, 1);
}
