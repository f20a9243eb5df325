//! Sessions of browsers: short, bound to their cookie, good for the pages alone.

use super::*;

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
