//! What the pages show. Every text of others is escaped by the template engine.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};

use super::spell::{length, role, time};
use super::{Browser, SIGN_OUT, deciding};
use crate::break_glass::{ByPage, Contents, Seen};
use crate::domain::{BreakGlassId, BreakGlassState};
use crate::http::api::Api;
use crate::http::oauth::sentence;
use crate::http::web::page;
use crate::login::PAGE_IDLE;
use crate::policy::Refusal;

#[derive(Template)]
#[template(path = "page_signed_out.html")]
struct SignedOut {
    is_request: bool,
    links: Vec<(String, String)>,
    idle: String,
}

#[derive(Template)]
#[template(path = "page_list.html")]
struct List<'a> {
    name: &'a str,
    provider: &'a str,
    sign_out: String,
    waiting: Vec<Line<'a>>,
    has_more: bool,
}

/// A request in the list.
struct Line<'a> {
    id: BreakGlassId,
    name: &'a str,
    what: String,
    reason: &'a str,
    left: String,
}

#[derive(Template)]
#[template(path = "page_request.html")]
struct Request<'a> {
    name: &'a str,
    provider: &'a str,
    sign_out: String,
    id: BreakGlassId,
    state: &'a str,
    /// Why nothing is made of it any more, where that is not what its state says.
    suspect: Option<&'a str>,
    says: &'a ichor_wire::api::BreakGlassContents,
    roles: Vec<(&'a str, &'static str)>,
    certificates: String,
    life: String,
    asked: String,
    until: String,
    given: Vec<Given<'a>>,
    closing: Option<Given<'a>>,
    sha256: String,
    /// Forms and links, where there is something to do.
    form: Option<String>,
    may_approve: bool,
    sign_in: Option<String>,
    nothing: Option<String>,
}

/// Someone's act.
struct Given<'a> {
    name: &'a str,
    at: String,
    comment: Option<&'a str>,
}

/// How to sign in, leading back to the request or the list. It says nothing of the request, not even whether there is one.
pub(super) fn signed_out(api: &Api, to: Option<BreakGlassId>) -> Response {
    let place = to.map_or_else(|| "list".to_owned(), |id| id.to_string());
    let link = |alias: &str| (format!("/break-glass/sign-in?to={place}&provider={alias}"), alias.to_owned());
    let links = api.login.settings().providers.iter().map(|provider| link(provider.alias().as_str())).collect();
    page(StatusCode::OK, &SignedOut { is_request: to.is_some(), links, idle: length(PAGE_IDLE) }, None)
}

/// The requests that wait for this person.
pub(super) fn list(api: &Api, browser: &Browser, waiting: &[Seen], has_more: bool) -> Response {
    let now = api.clock.now();
    let waiting = waiting.iter().map(|seen| Line {
        id: seen.file.request.id,
        name: &seen.contents.said.name,
        what: what(&seen.contents),
        reason: &seen.contents.said.reason,
        left: left(seen, now),
    });
    let list = List {
        name: browser.identity.name(),
        provider: browser.identity.person().provider.as_str(),
        sign_out: api.login.form_mark(&browser.session, SIGN_OUT),
        waiting: waiting.collect(),
        has_more,
    };
    page(StatusCode::OK, &list, None)
}

/// One request, with all that an approval of it is over.
pub(super) fn request(api: &Api, browser: &Browser, seen: &Seen) -> Response {
    let (says, row) = (&seen.contents.said, &seen.file.request);
    let sha256 = data_encoding::HEXLOWER.encode(&seen.contents.hash);
    let (mut form, mut sign_in, mut nothing) = (None, None, None);
    let mut may_approve = !says.self_service;
    if seen.state == BreakGlassState::Pending {
        match api.break_glass.by_page(&browser.identity, seen) {
            ByPage::Decide { only_deny } => {
                form = Some(api.login.form_mark(&browser.session, &deciding(row.id, &sha256)));
                may_approve = may_approve && only_deny.is_none();
                nothing = only_deny.map(|refusal| refused(&refusal));
            }
            ByPage::SignIn { lacks, .. } => {
                sign_in = Some(format!("/break-glass/{}/sign-in", row.id));
                nothing = lacks.map(|lacks| {
                    let said = sentence(&lacks.sentence);
                    format!(
                        "{said} The sign-in that you just made lacks it; your provider may need a second factor of you."
                    )
                });
            }
            ByPage::Nothing(refusal) => {
                nothing = Some(refused(&refusal));
            }
        }
    }
    let given = seen.file.approvals.iter().map(|row| Given {
        name: &row.name,
        at: time(row.at),
        comment: row.comment.as_deref(),
    });
    let now = api.clock.now();
    let until = match row.good_until.filter(|_| seen.state == BreakGlassState::Approved) {
        Some(until) => format!("the access ends {}", time(until)),
        None => format!("waits for approvals until {}{}", time(says.waits_until), in_words(left(seen, now))),
    };
    let view = Request {
        name: browser.identity.name(),
        provider: browser.identity.person().provider.as_str(),
        sign_out: api.login.form_mark(&browser.session, SIGN_OUT),
        id: row.id,
        state: seen.state.as_str(),
        suspect: seen.suspect.as_deref(),
        says,
        roles: says.roles.iter().map(|one| (one.as_str(), role(*one))).collect(),
        certificates: if says.uses == 1 { "one certificate".into() } else { format!("{} certificates", says.uses) },
        life: length(seconds(says.ttl)),
        asked: time(says.created_at),
        until,
        given: given.collect(),
        closing: row.closing.as_ref().map(|closing| Given {
            name: &closing.by,
            at: time(closing.at),
            comment: closing.comment.as_deref(),
        }),
        sha256,
        form,
        may_approve,
        sign_in,
        nothing,
    };
    page(StatusCode::OK, &view, None)
}

fn refused(refusal: &Refusal) -> String {
    let help = refusal.help.first().map(|help| sentence(help)).unwrap_or_default();
    format!("{} {help}", sentence(&refusal.sentence))
}

fn what(contents: &Contents) -> String {
    let roles: Vec<_> = contents.said.roles.iter().map(|role| role.as_str()).collect();
    format!("{} on {}", roles.join(", "), contents.said.cluster)
}

fn left(seen: &Seen, now: Timestamp) -> String {
    match seen.state {
        BreakGlassState::Pending => length(seen.contents.said.waits_until.duration_since(now)),
        _ => String::new(),
    }
}

fn in_words(left: String) -> String {
    if left.is_empty() { left } else { format!(", {left} left") }
}

fn seconds(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}
