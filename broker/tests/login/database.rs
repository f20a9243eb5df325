//! Someone who writes the database, but has not the vault's key, becomes nobody.

use ichor_broker::login::SessionError;
use ichor_broker::store::StoreError;
use ichor_standins::browser::Browser;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::client::Client;
use super::other_flows::{begin_device, enter, with_both};
use super::world::{Session, World};

/// The database, as its writer has it.
fn database(world: &World) -> Connection {
    Connection::open(world.folder.path().join("ichor.db")).unwrap()
}

fn sha256(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

/// The world's newest pending login's state.
fn state(db: &Connection) -> Vec<u8> {
    db.query_row("SELECT state FROM login ORDER BY id DESC LIMIT 1", [], |row| row.get(0)).unwrap()
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

#[tokio::test]
async fn a_written_session_is_no_session() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    let db = database(&world);
    let own = Session { token: "a token of the writer's own making, forty-three".into(), client: Client::new() };

    // a copy of a session, for the writer's own token and key, with the group of their choice
    db.execute(
        "INSERT INTO session SELECT randomblob(16), ?1, ?2, provider, issuer, subject, name, user, '[[\"corp\",\"admins\"]]',
            groups_at, 'phr', auth_time, refresh_sealed, version, created_at, expires_at, used_at, ended_at, NULL, tag, human, page
         FROM session",
        params![sha256(&own.token), own.client.thumbprint()],
    )
    .unwrap();
    assert_eq!(world.call(&own).await.unwrap_err(), SessionError::NotLoggedIn);

    // the writer's own session, with a further group
    let edit = "UPDATE session SET groups = '[[\"corp\",\"admins\"]]' WHERE token_hash = ?1";
    assert_eq!(db.execute(edit, [sha256(&session.token)]).unwrap(), 1);
    assert_eq!(world.call(&session).await.unwrap_err(), SessionError::NotLoggedIn);
}

#[tokio::test]
async fn groups_written_between_two_requests_are_not_believed_either() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    let row = world.call(&session).await.unwrap();
    world.wait_minutes(6);
    let now = world.clock_seconds() * 1_000_000;
    let edit = "UPDATE session SET groups = '[[\"corp\",\"admins\"]]', groups_at = ?1";
    assert_eq!(database(&world).execute(edit, [now]).unwrap(), 1);
    let error = world.login.fresh_identity(&row).await.unwrap_err();
    assert_eq!(error.to_string(), "the session has ended: the session's row was not written by this broker");
}

#[tokio::test]
async fn a_tag_that_is_none_is_damage() {
    let world = World::new().await;
    let session = world.log_in("alice").await;
    database(&world).execute("UPDATE session SET tag = x''", []).unwrap();
    assert!(matches!(world.call(&session).await, Err(SessionError::Store(StoreError::Damaged(_)))));
}

#[tokio::test]
async fn a_login_whose_person_was_written_gives_no_session() {
    let world = World::new().await;
    let (browser, client) = (Browser::new(&[]).unwrap(), Client::new());
    let code = world.code(&browser, &client, "bob").await;
    let db = database(&world);
    let right = state(&db);
    let forged = replaced(&right, r#""user":""#, r#""user":"not-"#);
    db.execute("UPDATE login SET state = ?1", [&forged]).unwrap();
    assert_eq!(world.exchange(&client, &code).await.json["error"], "invalid_grant");

    // the right state, but for another code or a longer life
    db.execute("UPDATE login SET state = ?1, code_hash = ?2", params![right, sha256("mine")]).unwrap();
    assert_eq!(world.exchange(&client, "mine").await.json["error"], "invalid_grant");
    db.execute("UPDATE login SET code_hash = ?1, expires_at = expires_at + 1", [sha256(&code)]).unwrap();
    assert_eq!(world.exchange(&client, &code).await.json["error"], "invalid_grant");

    db.execute("UPDATE login SET expires_at = expires_at - 1", []).unwrap();
    assert_eq!(world.exchange(&client, &code).await.status, 200, "as the broker wrote it, it holds");
}

#[tokio::test]
async fn a_device_whose_code_was_written_is_not_approved() {
    let world = with_both().await;
    let (mine, theirs) = (Client::new(), Client::new());
    let shown = begin_device(&world, &theirs).await.json["user_code"].as_str().unwrap().replace('-', "");
    let _own = begin_device(&world, &mine).await;
    let db = database(&world);
    // the writer's device is put behind the code that someone else reads from their own terminal
    db.execute("DELETE FROM device WHERE user_code = ?1", [&shown]).unwrap();
    assert_eq!(db.execute("UPDATE device SET user_code = ?1", [&shown]).unwrap(), 1);
    let page = enter(&world, &Browser::new(&[]).unwrap(), &shown, "alice").await;
    assert_ne!(page.url.path(), "/oauth/confirm", "{}", page.body);
}
