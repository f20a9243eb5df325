//! The provider's pages: server-rendered, no script.

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};

use super::people::Person;
use super::state::Asked;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5d6b7a;--line:#d9e0e7;--ground:#f3f6f9;--card:#fff;--accent:#1f6f78}\
@media(prefers-color-scheme:dark){:root{--ink:#e8eef4;--soft:#93a3b3;--line:#2d3a47;--ground:#10171e;--card:#18222c;--accent:#5ec2c9}}\
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--ground);color:var(--ink);\
font:16px/1.5 system-ui,sans-serif;padding:1rem}main{width:100%;max-width:25rem;background:var(--card);border:1px solid var(--line);\
border-radius:14px;padding:2rem 1.6rem}h1{font-size:1.25rem;margin:0 0 .3rem}p{margin:0 0 1.2rem;color:var(--soft)}\
button{display:block;width:100%;text-align:left;font:inherit;color:inherit;background:none;border:1px solid var(--line);border-radius:10px;\
padding:.7rem .9rem;margin:0 0 .6rem;cursor:pointer}button:hover,button:focus-visible{border-color:var(--accent);outline:2px solid var(--accent);\
outline-offset:1px}button small{display:block;color:var(--soft)}button.hint{border-color:var(--accent)}\
button.quiet{border:0;text-align:center;color:var(--soft);margin:0}";

/// The page that lists the provider's people as buttons.
pub(super) fn login<'a>(id: &str, asked: &Asked, people: impl Iterator<Item = &'a Person>) -> Response {
    let mut buttons = String::new();
    for person in people.filter(|person| !person.disabled) {
        let class = if asked.login_hint.as_deref() == Some(person.login.as_str()) { " class=\"hint\"" } else { "" };
        let groups = if person.groups.is_empty() { "no groups".to_owned() } else { person.groups.join(", ") };
        buttons.push_str(&format!(
            "<button name=\"login\" value=\"{}\"{class}>{}<small>{}</small></button>",
            escape(&person.login),
            escape(&person.name),
            escape(&groups),
        ));
    }
    let client = escape(&asked.client);
    render(&format!(
        "<h1>Who are you today?</h1><p>A throwaway provider. <b>{client}</b> asks you to sign in; no password is needed.</p>\
         <form method=\"post\" action=\"/login/{}\">{buttons}\
         <button class=\"quiet\" name=\"abort\" value=\"yes\">Nobody: go back</button></form>",
        escape(id)
    ))
}

/// A page that says why nothing happens, with status 400.
pub(super) fn refusal(why: &str) -> Response {
    let mut page = render(&format!("<h1>This cannot go on</h1><p>{}</p>", escape(why)));
    *page.status_mut() = StatusCode::BAD_REQUEST;
    page
}

fn render(body: &str) -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ];
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Sign in</title><style>{STYLE}</style><main>{body}</main></html>"
    );
    (headers, Html(page)).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
