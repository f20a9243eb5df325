//! A browser without a window: follows redirects, keeps cookies by the rules that real browsers have, submits forms.
//!
//! It is stricter than a real one in one point: every origin (scheme, host, port) counts as a site of its own, so that a
//! provider and a broker on two ports of 127.0.0.1 meet the cookie rules that they will meet on two hosts.

mod cookies;
mod form;

#[cfg(test)]
mod tests;

use std::sync::Mutex;

use anyhow::{Context as _, bail, ensure};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use url::Url;

pub use form::{Button, Field, Form};

use crate::lock;
use cookies::{Jar, Navigation};

/// More redirects than any sane login takes.
const MOST_REDIRECTS: usize = 20;

/// A browser with its cookies. Two of them are two people, or one person's two profiles.
pub struct Browser {
    http: reqwest::Client,
    jar: Mutex<Jar>,
}

/// Where a navigation ended.
#[derive(Clone, Debug)]
pub struct Page {
    /// The page's address; of a stopped navigation, the address that was not fetched.
    pub url: Url,
    /// The answer's status; of a stopped navigation, the redirect's.
    pub status: StatusCode,
    /// The answer's headers.
    pub headers: HeaderMap,
    /// The answer's body.
    pub body: String,
    /// The navigation ended at a redirect that the caller wanted to see unfetched.
    pub stopped: bool,
}

/// One request of a navigation.
struct Step {
    method: Method,
    url: Url,
    body: Option<String>,
    origin: Option<String>,
}

// === impl Browser ===

impl Browser {
    /// A browser that trusts the CA certificates in `roots` (PEM, each may hold several) and no other.
    ///
    /// # Errors
    /// When a root is not a certificate.
    pub fn new(roots: &[&str]) -> anyhow::Result<Self> {
        crate::install_tls_provider();
        let mut certificates = Vec::new();
        for root in roots {
            certificates.extend(reqwest::Certificate::from_pem_bundle(root.as_bytes())?);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where the stand-in browser's HTTP client is built"
        )]
        let builder = reqwest::Client::builder();
        let http = builder
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tls_certs_only(certificates)
            .build()
            .context("the HTTP client cannot be built")?;
        Ok(Self { http, jar: Mutex::default() })
    }

    /// Opens `url` as if typed in, and follows redirects to the page at their end.
    ///
    /// # Errors
    /// When a server does not answer, or redirects go on and on.
    pub async fn open(&self, url: &str) -> anyhow::Result<Page> {
        self.open_until(url, |_| false).await
    }

    /// As [`Browser::open`], but does not fetch the first redirect target for which `stop` says true.
    ///
    /// # Errors
    /// As [`Browser::open`].
    pub async fn open_until(&self, url: &str, stop: impl Fn(&Url) -> bool) -> anyhow::Result<Page> {
        let url = Url::parse(url).with_context(|| format!("`{url}` is not a URL"))?;
        self.navigate(Step { method: Method::GET, url, body: None, origin: None }, None, &stop).await
    }

    /// Submits the page's form that `pick` chooses, with `fields` over the form's own values, and follows redirects.
    /// A name in `fields` that the form lacks is an error, unless it is a button's.
    ///
    /// # Errors
    /// When there is no such form or field, and as [`Browser::open`].
    pub async fn submit(
        &self,
        page: &Page,
        pick: impl Fn(&Form) -> bool,
        fields: &[(&str, &str)],
    ) -> anyhow::Result<Page> {
        self.submit_until(page, pick, fields, |_| false).await
    }

    /// As [`Browser::submit`], but does not fetch the first redirect target for which `stop` says true.
    ///
    /// # Errors
    /// As [`Browser::submit`].
    pub async fn submit_until(
        &self,
        page: &Page,
        pick: impl Fn(&Form) -> bool,
        fields: &[(&str, &str)],
        stop: impl Fn(&Url) -> bool,
    ) -> anyhow::Result<Page> {
        let form = page.forms().into_iter().find(|form| pick(form));
        let form = form.with_context(|| format!("no such form on {} ({}):\n{}", page.url, page.status, page.body))?;
        let mut pairs: Vec<(String, String)> = form.successful().collect();
        for (name, value) in fields {
            ensure!(form.fields.iter().any(|field| field.name == *name), "the form has no field `{name}`");
            pairs.retain(|(known, _)| known != name);
            pairs.push(((*name).to_owned(), (*value).to_owned()));
        }
        let encoded = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let mut url = page.url.join(&form.action)?;
        let step = if form.post {
            Step { method: Method::POST, url, body: Some(encoded), origin: Some(page.origin_header()) }
        } else {
            url.set_query(Some(&encoded));
            Step { method: Method::GET, url, body: None, origin: None }
        };
        self.navigate(step, Some(&page.url), &stop).await
    }

    /// Presses the first button on which `text` can be read, whatever form it is in, and follows redirects.
    ///
    /// # Errors
    /// When there is no such button, and as [`Browser::open`].
    pub async fn press(&self, page: &Page, text: &str) -> anyhow::Result<Page> {
        self.press_until(page, text, |_| false).await
    }

    /// As [`Browser::press`], but does not fetch the first redirect target for which `stop` says true.
    ///
    /// # Errors
    /// As [`Browser::press`].
    pub async fn press_until(&self, page: &Page, text: &str, stop: impl Fn(&Url) -> bool) -> anyhow::Result<Page> {
        let forms = page.forms();
        let button = forms.iter().flat_map(|form| &form.buttons).find(|button| button.text.contains(text)).cloned();
        let button =
            button.with_context(|| format!("no button `{text}` on {} ({}):\n{}", page.url, page.status, page.body))?;
        let fields: Vec<(&str, &str)> = button.name.iter().map(|name| (name.as_str(), button.value.as_str())).collect();
        self.submit_until(page, |form| form.buttons.contains(&button), &fields, stop).await
    }

    /// The value of the cookie that the browser would send to `url` under `name`.
    #[must_use]
    pub fn cookie(&self, url: &Url, name: &str) -> Option<String> {
        lock(&self.jar).value(url, name)
    }

    /// Forgets all cookies.
    pub fn forget(&self) {
        *lock(&self.jar) = Jar::default();
    }

    async fn navigate(
        &self,
        mut step: Step,
        initiator: Option<&Url>,
        stop: &impl Fn(&Url) -> bool,
    ) -> anyhow::Result<Page> {
        let mut same_site = initiator.is_none_or(|from| from.origin() == step.url.origin());
        for _ in 0..MOST_REDIRECTS {
            let navigation = Navigation { same_site, safe: step.method == Method::GET };
            let answer = self.send(&step, navigation).await?;
            lock(&self.jar).keep(&step.url, answer.headers());
            let (status, headers) = (answer.status(), answer.headers().clone());
            let target = headers.get(header::LOCATION).filter(|_| status.is_redirection());
            let Some(target) = target else {
                let body = answer.text().await?;
                return Ok(Page { url: step.url, status, headers, body, stopped: false });
            };
            let target = target.to_str().context("a redirect to what is not text")?;
            let next = step.url.join(target).with_context(|| format!("a redirect to `{target}`"))?;
            if stop(&next) {
                return Ok(Page { url: next, status, headers, body: String::new(), stopped: true });
            }
            same_site = same_site && next.origin() == step.url.origin();
            let keeps_method = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            step = if keeps_method {
                let origin = step.origin.map(|_| "null".to_owned());
                Step { method: step.method, url: next, body: step.body, origin }
            } else {
                Step { method: Method::GET, url: next, body: None, origin: None }
            };
        }
        bail!("more than {MOST_REDIRECTS} redirects, the last to {}", step.url)
    }

    async fn send(&self, step: &Step, navigation: Navigation) -> anyhow::Result<reqwest::Response> {
        let cookies = lock(&self.jar).header(&step.url, navigation);
        let mut request = self
            .http
            .request(step.method.clone(), step.url.clone())
            .header(header::ACCEPT, "text/html")
            .header(header::USER_AGENT, "Mozilla/5.0 (stand-in)")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("sec-fetch-site", if navigation.same_site { "same-origin" } else { "cross-site" });
        if let Some(cookies) = cookies {
            request = request.header(header::COOKIE, HeaderValue::from_str(&cookies)?);
        }
        if let Some(origin) = &step.origin {
            request = request.header(header::ORIGIN, origin);
        }
        if let Some(body) = &step.body {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body.clone());
        }
        request.send().await.with_context(|| format!("{} did not answer", step.url))
    }
}

// === impl Page ===

impl Page {
    /// The page's forms, in the page's order.
    #[must_use]
    pub fn forms(&self) -> Vec<Form> {
        form::parse(&self.body)
    }

    /// The value of `name` in the address's query.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        self.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// What the page sends as `Origin` with a form: under the referrer policy `no-referrer` browsers say `null`.
    fn origin_header(&self) -> String {
        let policy = self.headers.get(header::REFERRER_POLICY).and_then(|value| value.to_str().ok());
        if policy == Some("no-referrer") { "null".into() } else { self.url.origin().ascii_serialization() }
    }
}
