//! Someone at their terminal, with the client's library in the place of `ichor`, and a browser beside it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};
use ichor_client::break_glass::{self, Glass};
use ichor_client::certificate::{CertificateStore, Held};
use ichor_client::talosconfig::{self, Target, Written};
use ichor_client::{Clock, Environment, Event, LoginOptions, Session, SessionStore, Way, Wish, certificate, login};
use ichor_standins::browser::Browser;
use ichor_wire::api::{AuditAnswer, AuditEntry, BreakGlassAsk, BreakGlassLabel, SessionAnswer};
use ichor_wire::role::Role;
use tokio::sync::mpsc;
use url::Url;

use crate::broker::Broker;
use crate::cast::Actor;
use crate::world::CLUSTER;

/// Someone logged in.
pub(crate) struct Person {
    environment: Environment,
    session: Session,
    /// Their talosconfig.
    pub(crate) talosconfig: PathBuf,
    /// Who the broker says they are.
    pub(crate) told: SessionAnswer,
    /// The number that terminal and confirmation page both showed.
    pub(crate) number: String,
}

/// What `ichor talosconfig` wrote.
pub(crate) struct Wrote {
    /// The roles in the certificate.
    pub(crate) roles: Vec<Role>,
    /// Its life from now, in minutes.
    pub(crate) minutes: i64,
    /// The grant.
    pub(crate) grant: String,
}

// === impl Person ===

impl Person {
    /// `ichor login`, with a browser of one's own: sign in at the provider, compare the number, continue.
    pub(crate) async fn log_in(actor: Actor, broker: &Broker, folder: &Path) -> anyhow::Result<Self> {
        let home = folder.join("home").join(actor.login);
        std::fs::create_dir_all(&home)?;
        let environment = Environment::isolated(&home);
        let (opened, opening) = mpsc::unbounded_channel();
        let number = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&number);
        let options = LoginOptions {
            way: Way::Browser,
            provider: None,
            fresh: false,
            acr: None,
            host: format!("{}s-laptop", actor.login),
            open: Arc::new(move |url: &Url| {
                let _ = opened.send(url.clone());
            }),
            on: Arc::new(move |event| {
                if let Event::Number(number) = event {
                    *heard.lock().unwrap_or_else(PoisonError::into_inner) = number;
                }
            }),
        };
        let at = ichor_client::Broker::new(broker.url.clone(), broker.trust.clone(), Clock::system());
        let terminal = async { login(&at, &options).await.map_err(|error| explained(&error)) };
        let (session, ()) = tokio::try_join!(terminal, confirm(actor, broker, opening, &number))?;
        SessionStore::new(&environment)?.save(&session)?;
        let told = session.describe().await.map_err(|error| explained(&error))?;
        let talosconfig = talosconfig::writable(&environment, None)?;
        let number = number.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Self { environment, session, talosconfig, told, number })
    }

    /// `ichor talosconfig demo [--role …] [--reason …]`.
    pub(crate) async fn write_talosconfig(
        &self,
        role: Role,
        reason: Option<&str>,
    ) -> Result<Wrote, ichor_client::Error> {
        let wish = Wish { cluster: CLUSTER.into(), roles: vec![role], ttl: None, reason: reason.map(str::to_owned) };
        let held = certificate(&self.session, &wish).await?;
        let wrote = self.written(&wish, CLUSTER.into(), &held)?;
        CertificateStore::new(&self.environment)?.save(self.session.broker(), &held)?;
        Ok(wrote)
    }

    /// Writes what is held as a context.
    fn written(&self, wish: &Wish, context: String, held: &Held) -> Result<Wrote, ichor_client::Error> {
        let target = Target { path: self.talosconfig.clone(), context, set_current: false, replace: false };
        let now = self.session.broker().clock().now();
        let url = self.session.broker().url();
        Written::update(&self.environment, |records| talosconfig::write(&target, wish, &url, held, records, now))?;
        let answer = &held.answer;
        let minutes = (answer.not_after.as_second() - now.as_second() + 30) / 60;
        Ok(Wrote { roles: answer.roles.clone(), minutes, grant: answer.grant_id.to_string() })
    }

    /// `ichor break-glass request demo --role os:admin --reason …`: the request, and its page's address.
    pub(crate) async fn ask_for_admin(&self, reason: &str) -> anyhow::Result<(Glass, String)> {
        let ask = BreakGlassAsk {
            cluster: CLUSTER.into(),
            roles: vec![Role::Admin.to_string()],
            ttl: None,
            reason: reason.into(),
            nodes: Vec::new(),
            ticket: None,
            self_service: false,
        };
        let glass = break_glass::ask(&self.session, &ask).await.map_err(|error| explained(&error))?;
        let page = glass.page(self.session.broker());
        Ok((glass, page))
    }

    /// `ichor break-glass use ID`: the context's name, and what was written.
    pub(crate) async fn take(&self, glass: &Glass) -> anyhow::Result<(String, Wrote)> {
        let held = break_glass::certificate(&self.session, glass).await.map_err(|error| explained(&error))?;
        let context = format!("{CLUSTER}-break-glass");
        Ok((context.clone(), self.written(&glass.wish(), context, &held)?))
    }

    /// `ichor break-glass review ID --as LABEL --note NOTE`.
    pub(crate) async fn review(&self, glass: &Glass, label: &str, note: &str) -> anyhow::Result<Glass> {
        let label = BreakGlassLabel { label: label.into(), note: note.into() };
        break_glass::review(&self.session, glass.answer.id, &label).await.map_err(|error| explained(&error))
    }

    /// `ichor audit log`: what was recorded, oldest first.
    pub(crate) async fn audit(&self) -> anyhow::Result<Vec<AuditEntry>> {
        let query = [("limit", "100".to_owned())];
        let page: AuditAnswer = self
            .session
            .broker()
            .get(&self.session, &["audit", "entries"], &query)
            .await
            .map_err(|error| explained(&error))?;
        let mut entries = page.entries;
        entries.reverse();
        Ok(entries)
    }
}

/// What the person does in their browser.
async fn confirm(
    actor: Actor,
    broker: &Broker,
    mut opening: mpsc::UnboundedReceiver<Url>,
    number: &Mutex<String>,
) -> anyhow::Result<()> {
    let url = opening.recv().await.context("the client opened no browser")?;
    let root = match &broker.trust {
        ichor_client::tls::Trust::CaPem(pem) => pem.clone(),
        _ => String::new(),
    };
    let browser = Browser::new(&[&root])?;
    let page = browser.open(url.as_str()).await?;
    let page = browser.press(&page, actor.name).await.context("the provider's login page")?;
    ensure!(page.url.origin() == broker.url.origin(), "the provider sent {} to {}", actor.login, page.url);
    let number = number.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if !page.body.contains(&number) {
        bail!("the confirmation page ({}) does not show the number {number}:\n{}", page.status, page.body);
    }
    let end = browser.press(&page, "continue").await.context("the confirmation page")?;
    ensure!(end.status.is_success(), "{} answered {}", end.url, end.status);
    Ok(())
}

/// A client's error as a person reads it: what, and what next.
pub(crate) fn explained(error: &ichor_client::Error) -> anyhow::Error {
    let next = error.next_steps().join("; ");
    anyhow::anyhow!("{error}; {next}")
}
