//! The approvers' pages: what a phone's browser sees, and every way to a decision that is none.

use anyhow::Context;
use ichor_client::break_glass::{self, Glass, Vote};
use ichor_client::environment::Environment;
use ichor_client::session::{KeptIn, SessionStore};
use ichor_standins::browser::{Browser, Form, Page};
use ichor_tests::{CLUSTER, Options, Person, World};
use ichor_wire::api::{AuditEntry, BreakGlassAsk};
use jiff::SignedDuration;
use reqwest::StatusCode;

/// Operators may be os:admin if two approve, with a fresh login and a second factor.
const TWO: &str = r#"
@id("read") @max_ttl("8h") permit (principal, action == Action::"hold:os:reader", resource);
@id("break") @approvals("2") @max_ttl("30m") @wait("30m")
permit (principal in Group::"corp/talos-operators",
  action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
@id("approve") permit (principal, action == Action::"break-glass:approve", resource)
when { context has acr && context.acr == "mfa" && context has auth_age && context.auth_age < 900 };
"#;

async fn world() -> anyhow::Result<World> {
    World::with(Options { policies: Some(TWO), ..Options::default() }).await
}

fn wish(reason: &str) -> BreakGlassAsk {
    BreakGlassAsk {
        cluster: CLUSTER.into(),
        roles: vec!["os:admin".into()],
        ttl: Some(1800),
        reason: reason.into(),
        nodes: vec!["node-a".into()],
        ticket: Some("https://tickets.example.com/browse/INC-42".into()),
        self_service: false,
    }
}

async fn ask(person: &Person, reason: &str) -> anyhow::Result<Glass> {
    Ok(break_glass::ask(&person.session, &wish(reason)).await?)
}

/// The address of the link on which `text` can be read.
fn link(page: &Page, text: &str) -> anyhow::Result<String> {
    let (before, _) = page.body.split_once(text).with_context(|| format!("no link `{text}`:\n{}", page.body))?;
    let (_, href) = before.rsplit_once("href=\"").context("no address")?;
    let (href, _) = href.split_once('"').context("no end of the address")?;
    Ok(page.url.join(&href.replace("&#38;", "&").replace("&amp;", "&"))?.to_string())
}

/// A phone: a browser that is nobody's yet.
fn phone(world: &World) -> anyhow::Result<Browser> {
    Browser::new(&[&world.tls_ca])
}

fn has(form: &Form, field: &str) -> bool {
    form.fields.iter().any(|known| known.name == field)
}

/// Signs in at the provider, which asks who it is.
async fn at_provider(browser: &Browser, page: &Page, name: &str) -> anyhow::Result<Page> {
    browser.submit(page, |form| has(form, "login"), &[("login", name)]).await
}

async fn open(world: &World, browser: &Browser, glass: &Glass) -> anyhow::Result<Page> {
    browser.open(&world.at(&format!("/break-glass/{}", glass.answer.id))).await
}

/// Opens the request's page as `name`, who has not signed in yet.
async fn look(world: &World, browser: &Browser, glass: &Glass, name: &str) -> anyhow::Result<Page> {
    let page = open(world, browser, glass).await?;
    let page = browser.open(&link(&page, "Sign in through corp")?).await?;
    at_provider(browser, &page, name).await
}

/// From the request's page to the one with the form, by a fresh login.
async fn again(browser: &Browser, page: &Page, name: &str) -> anyhow::Result<Page> {
    let page = browser.open(&link(page, "Sign in again to decide")?).await?;
    at_provider(browser, &page, name).await
}

async fn decide(browser: &Browser, page: &Page, decision: &str) -> anyhow::Result<Page> {
    browser.submit(page, |form| has(form, "decision"), &[("decision", decision), ("comment", "go on")]).await
}

fn form(page: &Page) -> Option<Form> {
    page.forms().into_iter().find(|form| has(form, "decision"))
}

fn field(form: &Form, name: &str) -> String {
    form.fields.iter().find(|field| field.name == name).map(|field| field.value.clone()).unwrap_or_default()
}

async fn approvals(world: &World) -> anyhow::Result<Vec<AuditEntry>> {
    let entries = world.entries().await?;
    Ok(entries.into_iter().filter(|entry| entry.kind == "break-glass-approval").collect())
}

/// A form sent by hand, with the browser's own cookie.
async fn send(world: &World, browser: &Browser, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<StatusCode> {
    let cookie = browser.cookie(&world.url, "__Host-ichor-page").context("no cookie")?;
    let request = world.http()?.post(world.at(path)).header("cookie", format!("__Host-ichor-page={cookie}"));
    Ok(request.form(fields).send().await?.status())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_looks_signs_in_again_and_approves() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-42 <b>etcd</b> down").await?;
    let phone = phone(&world)?;

    let stranger = open(&world, &phone, &glass).await?;
    let nothing = phone.open(&world.at(&format!("/break-glass/{}", uuid::Uuid::nil()))).await?;
    let id = glass.answer.id.to_string();
    let blank = uuid::Uuid::nil().to_string();
    assert_eq!(stranger.body.replace(&id, ""), nothing.body.replace(&blank, ""), "a stranger learns nothing");

    let page = look(&world, &phone, &glass, "alice").await?;
    assert_eq!(page.status, StatusCode::OK);
    for said in [
        "Oscar Example asks for os:admin on prod",
        "oscar@example.test",
        "127.0.0.1",
        "INC-42 &#60;b&#62;etcd&#60;/b&#62; down",
        "https://tickets.example.com/browse/INC-42",
        "node-a",
        "not enforced in direct mode",
        "30 minutes from the last approval on",
        "0 of 2",
        "30 minutes left",
        "one certificate",
        &glass.answer.sha256,
    ] {
        assert!(page.body.contains(said), "{said}:\n{}", page.body);
    }
    assert!(form(&page).is_none(), "nothing can be decided without a login for it");

    let page = again(&phone, &page, "alice").await?;
    let page = decide(&phone, &page, "approve").await?;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("1 of 2") && page.body.contains("go on"), "{}", page.body);
    assert!(page.body.contains("You have approved it") && form(&page).is_none(), "{}", page.body);

    let approvals = approvals(&world).await?;
    let [entry] = approvals.as_slice() else { anyhow::bail!("{approvals:?}") };
    assert_eq!(entry.detail["channel"], "page");
    assert_eq!(entry.detail["acr"], "mfa");
    assert_eq!(entry.detail["contents"], glass.answer.sha256);
    assert_eq!(entry.detail["message"], "go on");
    let at: jiff::Timestamp = entry.detail["auth_time"].parse()?;
    assert!(entry.time.duration_since(at).abs() < SignedDuration::from_secs(2), "{at}");

    let root = Person::log_in_with(&world, "root", |options| {
        (options.fresh, options.acr) = (true, Some("mfa".into()));
    })
    .await?;
    let whole = break_glass::vote(&root.session, &glass, Vote::Approve, None).await?;
    assert_eq!(whole.answer.state, "approved");
    break_glass::certificate(&oscar.session, &glass).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_denied_on_its_page_and_leaves_the_list() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let (one, other) = (ask(&oscar, "INC-1").await?, ask(&oscar, "INC-2").await?);
    let phone = phone(&world)?;
    let page = look(&world, &phone, &one, "alice").await?;
    let list = phone.open(&world.at("/break-glass")).await?;
    assert!(list.body.contains("INC-1") && list.body.contains("INC-2"), "{}", list.body);
    let page = again(&phone, &page, "alice").await?;
    let page = decide(&phone, &page, "deny").await?;
    assert!(page.body.contains("<strong>denied</strong>"), "{}", page.body);
    let list = phone.open(&world.at("/break-glass")).await?;
    assert!(!list.body.contains("INC-1") && list.body.contains("INC-2"), "{}", list.body);
    let denial = world.entries().await?.into_iter().find(|entry| entry.kind == "break-glass-denial").unwrap();
    assert_eq!(denial.detail["channel"], "page");
    let _ = other;
    Ok(())
}

/// Every form that is not the one of this browser's page, and no link at all, decides anything.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_pages_own_form_decides() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let (glass, other) = (ask(&oscar, "INC-1").await?, ask(&oscar, "INC-2").await?);
    let (phone, another) = (phone(&world)?, phone(&world)?);
    let page = look(&world, &phone, &glass, "alice").await?;
    let page = again(&phone, &page, "alice").await?;
    let own = form(&page).context("no form")?;
    let (csrf, sha256) = (field(&own, "csrf"), field(&own, "sha256"));
    let theirs = look(&world, &another, &glass, "root").await?;
    let theirs = again(&another, &theirs, "root").await?;
    let stolen = field(&form(&theirs).context("no form")?, "csrf");
    let signs_out = page.forms().into_iter().find(|form| form.action.ends_with("sign-out")).context("no foot")?;
    let signs_out = field(&signs_out, "csrf");
    let path = format!("/break-glass/{}/decide", glass.answer.id);
    let elsewhere = format!("/break-glass/{}/decide", other.answer.id);
    for (what, path, csrf, sha256) in [
        ("none", &path, "", sha256.as_str()),
        ("made up", &path, "00", &sha256),
        ("another browser's", &path, &stolen, &sha256),
        ("one that does something else", &path, &signs_out, &sha256),
        ("another request's contents", &path, &csrf, &other.answer.sha256),
        ("another request", &elsewhere, &csrf, &other.answer.sha256),
        ("no contents", &path, &csrf, ""),
    ] {
        let fields = [("csrf", csrf), ("sha256", sha256), ("decision", "approve")];
        assert_eq!(send(&world, &phone, path, &fields).await?, StatusCode::FORBIDDEN, "{what}");
    }
    let by_link = phone.open(&format!("{}?csrf={csrf}&sha256={sha256}&decision=approve", world.at(&path))).await?;
    assert_eq!(by_link.status, StatusCode::METHOD_NOT_ALLOWED);
    let undecided = [("csrf", csrf.as_str()), ("sha256", &sha256)];
    assert_eq!(send(&world, &phone, &path, &undecided).await?, StatusCode::BAD_REQUEST);
    assert_eq!(approvals(&world).await?.len(), 0);
    // and the one that is right does
    let fields = [("csrf", csrf.as_str()), ("sha256", &sha256), ("decision", "approve")];
    assert_eq!(send(&world, &phone, &path, &fields).await?, StatusCode::OK);
    assert_eq!(approvals(&world).await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_comes_right_behind_its_login() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let (glass, other) = (ask(&oscar, "INC-1").await?, ask(&oscar, "INC-2").await?);
    let phone = phone(&world)?;
    let page = look(&world, &phone, &glass, "alice").await?;
    let page = again(&phone, &page, "alice").await?;
    let elsewhere = open(&world, &phone, &other).await?;
    assert!(form(&elsewhere).is_none(), "the login was for another request");
    world.clock.advance(SignedDuration::from_mins(5) + SignedDuration::from_secs(1));
    let late = decide(&phone, &page, "approve").await?;
    assert_eq!(late.status, StatusCode::FORBIDDEN);
    assert!(late.body.contains("fresh sign-in"), "{}", late.body);
    assert!(form(&open(&world, &phone, &glass).await?).is_none());
    assert_eq!(approvals(&world).await?.len(), 0);
    let page = again(&phone, &open(&world, &phone, &glass).await?, "alice").await?;
    // the provider tells whole seconds
    world.clock.advance(SignedDuration::from_secs(299));
    assert_eq!(decide(&phone, &page, "approve").await?.status, StatusCode::OK);
    assert_eq!(approvals(&world).await?.len(), 1);
    Ok(())
}

/// Whoever signed in for it without what policy wants is told that, and not just sent round again.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_lacks_what_policy_wants_is_said_to() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    let phone = phone(&world)?;
    let page = look(&world, &phone, &glass, "alice").await?;
    assert!(!page.body.contains("lacks it"));
    world.provider.change_person("alice", |alice| alice.acr = None);
    let page = again(&phone, &page, "alice").await?;
    assert!(form(&page).is_none() && page.body.contains("lacks it"), "{}", page.body);
    link(&page, "Sign in again to decide")?;
    Ok(())
}

/// A login that failed at the provider is over, and counts against its address no longer.
#[tokio::test(flavor = "multi_thread")]
async fn failed_sign_ins_shut_nobody_out() -> anyhow::Result<()> {
    let config = "[limits]\nper_address = 1000\npending_per_address = 2\n".into();
    let world = World::with(Options { policies: Some(TWO), config, ..Options::default() }).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    for _ in 0..4 {
        let phone = phone(&world)?;
        let page = phone.open(&link(&open(&world, &phone, &glass).await?, "Sign in through corp")?).await?;
        let state = page.url.query_pairs().find(|(name, _)| name == "state").context("no state")?.1.into_owned();
        let refused = format!("/oauth/callback/corp?error=access_denied&state={state}&iss={}", world.provider.issuer());
        let refused = phone.open(&world.at(&refused)).await?;
        assert!(refused.status.is_client_error() && refused.body.contains("access_denied"), "{}", refused.body);
    }
    look(&world, &phone(&world)?, &glass, "alice").await?;
    Ok(())
}

/// Case 13: an approval is worth nothing while whoever gave it is locked, as a laptop that was stolen behind an open page.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_by_someone_who_was_locked_since_lets_nobody_in() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    for name in ["alice", "root"] {
        let phone = phone(&world)?;
        let page = again(&phone, &look(&world, &phone, &glass, name).await?, name).await?;
        assert_eq!(decide(&phone, &page, "approve").await?.status, StatusCode::OK);
    }
    let dir = world.dir.display().to_string();
    let lock = ["lock", "user", "alice@example.test", "--reason", "stolen laptop", "--dir", &dir];
    ichor_tests::run_command(&lock).await?;
    let refused = break_glass::certificate(&oscar.session, &glass).await.unwrap_err();
    assert!(refused.to_string().contains("lock"), "{refused}");
    Ok(())
}

/// A provider that lets a person through without asking tells when it last did, and that is not believed for fresh.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_ask_anew_lets_nobody_decide() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    let phone = phone(&world)?;
    let page = look(&world, &phone, &glass, "alice").await?;
    world.clock.advance(SignedDuration::from_mins(3));
    world.provider.set_asks_anew(false);
    let refused = phone.open(&link(&page, "Sign in again to decide")?).await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body.contains("auth_time"), "{}", refused.body);
    assert!(form(&open(&world, &phone, &glass).await?).is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_decides_on_their_own_request_by_its_page() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    let phone = phone(&world)?;
    let page = look(&world, &phone, &glass, "oscar").await?;
    assert!(page.body.contains("Nobody approves or reviews their own request"), "{}", page.body);
    assert!(form(&page).is_none() && link(&page, "Sign in again to decide").is_err());
    let again = phone.open(&world.at(&format!("/break-glass/{}/sign-in", glass.answer.id))).await?;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    let list = phone.open(&world.at("/break-glass")).await?;
    assert!(list.body.contains("None."), "{}", list.body);
    Ok(())
}

/// To whoever may not approve it there is no such request.
#[tokio::test(flavor = "multi_thread")]
async fn case_17_an_outsider_sees_no_request_on_any_page() -> anyhow::Result<()> {
    const ADMINS_APPROVE: &str = r#"
        @id("break") @approvals("1") permit (principal in Group::"corp/talos-operators",
          action in [Action::"break-glass:request", Action::"hold:os:admin"], resource);
        @id("approve") permit (principal in Group::"corp/talos-admins", action == Action::"break-glass:approve", resource);
    "#;
    let world = World::with(Options { policies: Some(ADMINS_APPROVE), ..Options::default() }).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    let phone = phone(&world)?;
    let page = look(&world, &phone, &glass, "carol").await?;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(!page.body.contains("INC-1"));
    let list = phone.open(&world.at("/break-glass")).await?;
    assert!(list.body.contains("None."), "{}", list.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browsers_session_is_short_bound_to_its_cookie_and_ends() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    let phone = phone(&world)?;
    let page = open(&world, &phone, &glass).await?;
    let page = phone.open(&link(&page, "Sign in through corp")?).await?;
    let last = |url: &url::Url| url.path().starts_with("/break-glass/");
    let back = phone.submit_until(&page, |form| has(form, "login"), &[("login", "alice")], last).await?;
    let cookies: Vec<_> = back.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok()).collect();
    let cookie = cookies.iter().find(|cookie| cookie.starts_with("__Host-ichor-page=")).context("no cookie")?;
    let parts: Vec<_> = cookie.split("; ").collect();
    for attribute in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(parts.contains(&attribute), "{attribute}: {cookie}");
    }
    let page = open(&world, &phone, &glass).await?;
    for (header, expected) in [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        ("x-frame-options", "DENY"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(page.headers[header], expected, "{header}");
    }
    assert!(!page.body.contains("<script") && !page.body.contains("style="), "{}", page.body);

    // used, it lasts; unused for a quarter of an hour, it does not
    for _ in 0..2 {
        world.clock.advance(SignedDuration::from_mins(14));
        assert!(open(&world, &phone, &glass).await?.body.contains("INC-1"));
    }
    world.clock.advance(SignedDuration::from_mins(15) + SignedDuration::from_secs(1));
    let page = open(&world, &phone, &glass).await?;
    assert!(!page.body.contains("INC-1") && page.body.contains("Sign in through corp"), "{}", page.body);

    // nor, however much it is used, more than an hour
    let page = phone.open(&link(&page, "Sign in through corp")?).await?;
    let at_once = !page.forms().iter().any(|form| has(form, "login"));
    assert!(at_once, "a look needs no fresh login");
    for _ in 0..5 {
        world.clock.advance(SignedDuration::from_mins(11));
        assert!(phone.open(&world.at("/break-glass")).await?.body.contains("Requests that wait for you"));
    }
    world.clock.advance(SignedDuration::from_mins(5));
    assert!(phone.open(&world.at("/break-glass")).await?.body.contains("Sign in through corp"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_session_at_the_broker() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    let phone = phone(&world)?;
    let page = look(&world, &phone, &glass, "alice").await?;
    let cookie = phone.cookie(&world.url, "__Host-ichor-page").context("no cookie")?;
    assert_eq!(send(&world, &phone, "/break-glass/sign-out", &[("csrf", "00")]).await?, StatusCode::FORBIDDEN);
    assert!(open(&world, &phone, &glass).await?.body.contains("INC-1"), "still signed in");
    let out = phone.press(&page, "Sign out").await?;
    assert!(out.body.contains("You are signed out"), "{}", out.body);
    assert_eq!(phone.cookie(&world.url, "__Host-ichor-page"), None);
    let request = world.http()?.get(world.at("/break-glass")).header("cookie", format!("__Host-ichor-page={cookie}"));
    assert!(request.send().await?.text().await?.contains("Sign in through corp"), "the kept cookie opens nothing");
    let ended = world.entries().await?.into_iter().any(|entry| entry.kind == "session-end");
    assert!(ended);
    Ok(())
}

/// Signing in once more ends the session before, so that a copy of its cookie is worth nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn signing_in_once_more_replaces_the_session() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    let phone = phone(&world)?;
    look(&world, &phone, &glass, "alice").await?;
    let before = phone.cookie(&world.url, "__Host-ichor-page").context("no cookie")?;
    // the provider knows her still, and asks nothing
    phone.open(&world.at(&format!("/break-glass/sign-in?to={}&provider=corp", glass.answer.id))).await?;
    assert_ne!(phone.cookie(&world.url, "__Host-ichor-page").as_ref(), Some(&before));
    let request = world.http()?.get(world.at("/break-glass")).header("cookie", format!("__Host-ichor-page={before}"));
    assert!(request.send().await?.text().await?.contains("Sign in through corp"));
    Ok(())
}

/// A fresh login is a session of its own; the one before it is over, so that its cookie is worth nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_login_replaces_the_session() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    let phone = phone(&world)?;
    let page = look(&world, &phone, &glass, "alice").await?;
    let before = phone.cookie(&world.url, "__Host-ichor-page").context("no cookie")?;
    again(&phone, &page, "alice").await?;
    assert_ne!(phone.cookie(&world.url, "__Host-ichor-page").as_ref(), Some(&before));
    let request = world.http()?.get(world.at("/break-glass")).header("cookie", format!("__Host-ichor-page={before}"));
    assert!(request.send().await?.text().await?.contains("Sign in through corp"));
    Ok(())
}

/// The cookie of a page opens no API, whatever stands beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pages_cookie_is_no_token() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    let phone = phone(&world)?;
    look(&world, &phone, &glass, "alice").await?;
    let cookie = phone.cookie(&world.url, "__Host-ichor-page").context("no cookie")?;
    for scheme in ["DPoP", "Bearer"] {
        let request = world.http()?.get(world.at("/v1/session")).header("authorization", format!("{scheme} {cookie}"));
        let refused = request.send().await?;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        // it is no session there, and not merely one without its proof
        let said = refused.text().await?;
        assert!(!said.contains("header"), "{said}");
    }
    Ok(())
}

/// Nor is a client's token a cookie: without its key it is worth nothing here either.
#[tokio::test(flavor = "multi_thread")]
async fn a_clients_token_is_no_pages_cookie() -> anyhow::Result<()> {
    let world = world().await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    let scratch = tempfile::tempdir_in(world.scratch())?;
    let kept = SessionStore::new(&Environment::isolated(scratch.path()))?.save(&oscar.session)?;
    let KeptIn::File(file) = kept else { anyhow::bail!("the keyring is off") };
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let token = kept["token"].as_str().context("no token")?;
    for path in ["/break-glass".to_owned(), format!("/break-glass/{}", glass.answer.id)] {
        let request = world.http()?.get(world.at(&path)).header("cookie", format!("__Host-ichor-page={token}"));
        let seen = request.send().await?.text().await?;
        assert!(seen.contains("Sign in through corp") && !seen.contains("INC-1"), "{seen}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_signed_in_is_limited_as_a_person() -> anyhow::Result<()> {
    let config = "[limits]\nper_person = 6\nper_address = 1000\n".into();
    let world = World::with(Options { policies: Some(TWO), config, ..Options::default() }).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let glass = ask(&oscar, "INC-1").await?;
    let phone = phone(&world)?;
    look(&world, &phone, &glass, "alice").await?;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(open(&world, &phone, &glass).await?.status);
    }
    assert_eq!(statuses.first(), Some(&StatusCode::OK));
    assert_eq!(statuses.last(), Some(&StatusCode::TOO_MANY_REQUESTS), "{statuses:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_leads_only_to_pages_of_ours() -> anyhow::Result<()> {
    let world = world().await?;
    let phone = phone(&world)?;
    for to in ["", "to=", "to=https://evil.example", "to=//evil.example", "to=list/../../x", "to=list&to=list"] {
        let page = phone.open(&world.at(&format!("/break-glass/sign-in?{to}"))).await?;
        assert!(page.status.is_client_error(), "{to}: {}", page.status);
        assert_eq!(page.url.path(), "/break-glass/sign-in", "{to}");
    }
    Ok(())
}

// === the human behind several accounts ===

/// Everyone at `corp` has an employee's number.
async fn numbered(numbers: &[(&str, Option<&str>)]) -> anyhow::Result<World> {
    let provider = "human_claim = \"employee\"\n".into();
    let world = World::with(Options { policies: Some(TWO), provider, ..Options::default() }).await?;
    for (login, number) in numbers {
        world.provider.change_person(login, |person| {
            if let Some(number) = number {
                person.claims.insert("employee".into(), (*number).into());
            }
        });
    }
    Ok(world)
}

async fn strong(world: &World, name: &str) -> anyhow::Result<Person> {
    Person::log_in_with(world, name, |options| (options.fresh, options.acr) = (true, Some("mfa".into()))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn case_15_two_accounts_of_one_human_are_one_approver() -> anyhow::Result<()> {
    let world = numbered(&[("oscar", Some("E-17")), ("alice", Some("e-17 ")), ("root", Some("E-18"))]).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let (alice, root) = (strong(&world, "alice").await?, strong(&world, "root").await?);
    let glass = ask(&oscar, "INC-1").await?;
    assert!(glass.contents.human_told);
    let own = break_glass::vote(&alice.session, &glass, Vote::Approve, None).await.unwrap_err().to_string();
    assert!(own.contains("nobody approves or reviews their own request"), "{own}");
    break_glass::vote(&root.session, &glass, Vote::Approve, None).await?;
    // and nobody is told apart whose claim is absent
    let carol = strong(&world, "carol").await?;
    let untold = break_glass::vote(&carol.session, &glass, Vote::Approve, None).await.unwrap_err().to_string();
    assert!(untold.contains("which human is behind"), "{untold}");
    let phone = phone(&world)?;
    let page = look(&world, &phone, &glass, "alice").await?;
    assert!(page.body.contains("Nobody approves or reviews their own request"), "{}", page.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_told_apart_cannot_ask() -> anyhow::Result<()> {
    let world = numbered(&[]).await?;
    let oscar = Person::log_in(&world, "oscar").await?;
    let refused = break_glass::ask(&oscar.session, &wish("INC-1")).await.unwrap_err().to_string();
    assert!(refused.contains("which human is behind"), "{refused}");
    Ok(())
}
