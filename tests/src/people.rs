//! People: each with a browser and a laptop of their own.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};
use ichor_client::{Broker, Event, Held, LoginOptions, Session, Way, Wish, certificate, login};
use ichor_standins::browser::{Browser, Page};
use ichor_standins::node::client::NodeClient;
use url::Url;

use crate::World;

/// Someone who is logged in.
pub struct Person {
    /// The session on their laptop.
    pub session: Session,
    /// Their browser, with its cookies.
    pub browser: Arc<Browser>,
}

impl Person {
    /// Logs in as `name` with a browser of their own; see [`log_in`].
    pub async fn log_in(world: &World, name: &str) -> anyhow::Result<Self> {
        Self::log_in_with(world, name, |_| {}).await
    }

    /// The same, with options changed.
    pub async fn log_in_with(
        world: &World,
        name: &str,
        change: impl FnOnce(&mut LoginOptions),
    ) -> anyhow::Result<Self> {
        let browser = Arc::new(Browser::new(&[&world.tls_ca])?);
        let session = log_in(&world.broker(), &browser, name, change).await?;
        Ok(Self { session, browser })
    }

    /// A certificate for the world's cluster.
    pub async fn certificate(&self, wish: &Wish) -> Result<Held, ichor_client::Error> {
        certificate(&self.session, wish).await
    }

    /// A connection to the world's node with what was issued.
    pub async fn connect(world: &World, held: &Held) -> anyhow::Result<NodeClient> {
        let identity = Some((held.answer.certificate.as_str(), held.key.as_str()));
        NodeClient::connect(world.node.address(), &held.answer.ca, identity).await
    }
}

/// Logs in as `name`: the client's own login, with a browser that signs in at the provider, compares the numbers and confirms.
pub async fn log_in(
    broker: &Broker,
    browser: &Browser,
    name: &str,
    change: impl FnOnce(&mut LoginOptions),
) -> anyhow::Result<Session> {
    let number = Arc::new(Mutex::new(String::new()));
    let (opened, mut opening) = tokio::sync::mpsc::unbounded_channel::<Url>();
    let heard = Arc::clone(&number);
    let mut options = LoginOptions {
        way: Way::Browser,
        provider: None,
        fresh: false,
        acr: None,
        host: "laptop".into(),
        open: Arc::new(move |url| drop(opened.send(url.clone()))),
        on: Arc::new(move |event| {
            if let Event::Number(number) = event {
                *heard.lock().unwrap_or_else(PoisonError::into_inner) = number;
            }
        }),
    };
    change(&mut options);
    let visit = async {
        let url = opening.recv().await.context("no browser was opened")?;
        let page = sign_in(browser, &url, name).await?;
        let number = number.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ensure!(page.body.contains(&number), "the page does not show the terminal's number {number}:\n{}", page.body);
        let page = confirm(browser, &page).await?;
        // without this a login that failed in the browser would be waited for in the terminal
        ensure!(page.status.is_success(), "the login ended at {}: {}", page.status, page.body);
        Ok(page)
    };
    let (session, _) = tokio::try_join!(async { Ok(login(broker, &options).await?) }, visit)?;
    Ok(session)
}

/// Opens a login's URL and signs in at the provider; answers the broker's confirmation page.
pub async fn sign_in(browser: &Browser, url: &Url, name: &str) -> anyhow::Result<Page> {
    let mut page = browser.open(url.as_str()).await?;
    // a browser that is signed in already goes straight to the confirmation
    if page.forms().iter().any(|form| form.fields.iter().any(|field| field.name == "login")) {
        let pick = |form: &ichor_standins::browser::Form| form.fields.iter().any(|field| field.name == "login");
        page = browser.submit(&page, pick, &[("login", name)]).await?;
    }
    Ok(page)
}

/// Presses Continue on the confirmation page; answers the page at the end.
pub async fn confirm(browser: &Browser, page: &Page) -> anyhow::Result<Page> {
    let pick = |form: &ichor_standins::browser::Form| {
        form.fields.iter().any(|field| field.name == "decision" && field.value == "continue")
    };
    browser.submit(page, pick, &[("decision", "continue")]).await
}
