//! An entry as people are told of it. What anyone typed stands in values alone, never in a title or a label.

use ichor_wire::api::AuditEntry;
use url::Url;
use uuid::Uuid;

use super::event::is_mismatch;
use crate::domain::visible;
use crate::kit::NOT_AS_REPORTED;
use crate::store::CallClass;

/// The longest value, in characters: a message is to be read at a glance.
const LONGEST: usize = 600;

/// What is shown of an entry of a known kind, in this order: the name in the entry's detail, and the label.
const SHOWN: &[(&str, &str)] = &[
    ("requester", "requester"),
    ("roles", "roles"),
    ("reason", "reason"),
    ("life", "how long"),
    ("uses", "certificates"),
    ("nodes", "nodes named"),
    ("node", "node"),
    ("method", "method"),
    ("kit", "kit"),
    ("claimed", "opened by (claimed)"),
    ("kit_label", "said to be"),
    ("code", "class"),
    ("count", "how many"),
    ("label", "reviewed as"),
    ("message", "says"),
    ("quorum", "approvals needed"),
    ("approvers", "approved by"),
    ("told", "told to"),
    ("witnesses", "present"),
    ("locked_until", "until"),
    ("address", "from"),
];

/// What people are told of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// What happened, in our words alone.
    pub(super) title: String,
    /// Labels in our words; values are what was recorded, one line of visible characters each.
    pub(super) lines: Vec<(String, String)>,
    /// The ticket, where it is one that may be followed.
    pub(super) ticket: Option<Url>,
    /// What to do next, in our words and the request's id.
    pub(super) next: Option<String>,
    /// The request's page at the broker, where that is reached over https.
    pub(super) page: Option<Url>,
}

// === impl Message ===

impl Message {
    /// `broker` is the URL that people know the broker by.
    pub(super) fn of(entry: &AuditEntry, broker: &str) -> Self {
        let detail = |name: &str| entry.detail.get(name).map(String::as_str);
        let mut lines = Vec::new();
        let mut line = |label: &str, value: Option<&str>| {
            if let Some(value) = value.map(|value| visible(value, LONGEST)).filter(|value| !value.is_empty()) {
                lines.push((label.to_owned(), value));
            }
        };
        let who = match (detail("name"), entry.user.as_deref()) {
            (Some(name), Some(user)) => Some(format!("{name} ({user})")),
            (None, None) => match (detail("os_user"), detail("host")) {
                (Some(user), Some(host)) => Some(format!("{user}, at the host {host}")),
                (user, _) => user.map(Into::into),
            },
            (name, user) => name.or(user).map(Into::into),
        };
        line("who", who.as_deref());
        line("cluster", entry.cluster.as_deref());
        let title = title(entry);
        if title.is_some() {
            for (name, label) in SHOWN {
                line(label, detail(name));
            }
            let ends = if entry.kind == "break-glass-request" { "waits until" } else { "ends" };
            line(ends, detail("not_after"));
        } else {
            for (name, value) in &entry.detail {
                line(&plain(name).replace('_', " "), Some(value));
            }
        }
        let request = detail("break_glass").and_then(|id| Uuid::try_parse(id).ok());
        line("request", request.map(|id| id.to_string()).as_deref());
        line("grant", entry.grant_id.map(|id| id.to_string()).as_deref());
        line("at", Some(&format!("{:.0}", entry.time)));
        line("entry", Some(&entry.index.to_string()));
        Self {
            title: title.map_or_else(|| format!("Ichor recorded: {}", plain(&entry.kind)), Into::into),
            lines,
            ticket: detail("ticket").and_then(link),
            next: request.and_then(|id| next(entry, id)),
            page: request.and_then(|id| link(&format!("{}/break-glass/{id}", broker.trim_end_matches('/')))),
        }
    }
}

/// What happened; `None` for a kind that these words do not know.
fn title(entry: &AuditEntry) -> Option<&'static str> {
    let is_alone = entry.detail.contains_key("self_service");
    Some(match entry.kind.as_str() {
        "break-glass-request" if is_alone => "BREAK-GLASS WITHOUT APPROVAL: someone lets themselves in",
        "break-glass-request" => "Break-glass: someone asks for access",
        "break-glass-approval" => "Break-glass: someone approved",
        "break-glass-denial" => "Break-glass: someone denied",
        "break-glass-cancelled" => "Break-glass: the request was taken back",
        "break-glass-revoked" => "Break-glass: access was revoked",
        "break-glass-over" => "Break-glass: the time ran out",
        "break-glass-review" => "Break-glass: the use was reviewed",
        "break-glass-touched" if entry.detail.get("code").is_some_and(|code| code == CallClass::Weak.as_str()) => {
            "Break-glass: a node was touched by a certificate that fits, and names no grant"
        }
        "break-glass-touched" if entry.detail.contains_key("code") => {
            "Break-glass: a node was touched, says a line that a caller may have written"
        }
        "break-glass-touched" => "Break-glass: a node was touched",
        "break-glass-overdue" => "Break-glass: A USE WAITS FOR ITS REVIEW",
        "break-glass-told" => "Break-glass without approval: access is open, since a notification was accepted",
        "grant" if is_alone => "BREAK-GLASS WITHOUT APPROVAL: in use",
        "grant" => "Break-glass: in use",
        "refusal" => "BREAK-GLASS: SOMEONE ELSE MAY WRITE THE DATABASE; a request is not what was recorded",
        "issue-failed" if is_mismatch(entry) => {
            "CUSTODY MADE WHAT NOBODY GRANTED: it was thrown away, look at who holds the CA"
        }
        "issue-failed" => "Break-glass: the use led to no certificate and was given back",
        "kit-made" => "Break-glass kit: made",
        "kit-opened" => "Break-glass kit: an opening was reported",
        "kit-drill" => "Break-glass kit: drill",
        "kit-revoked" => "Break-glass kit: revoked",
        "kit-overdue" => "Break-glass kit: A DRILL OR ANOTHER KIT IS DUE",
        "kit-in-use" if entry.detail.get("code").is_some_and(|code| code == NOT_AS_REPORTED) => {
            "A BREAK-GLASS KIT IS IN USE, and not as was reported of its opening"
        }
        "kit-in-use" if entry.detail.get("code").is_some_and(|code| code == CallClass::Suspect.as_str()) => {
            "Break-glass kit: its grant stands in a line that a caller may have written"
        }
        "kit-in-use" => "A BREAK-GLASS KIT IS IN USE and nobody reported it",
        "lock" => "Locked",
        "unlock" => "A lock is gone",
        "unlock-asked" => "A lock of everything is asked to be lifted: another person must confirm",
        "node-alarm" => "Calls at a node want a look",
        "ca" => "A cluster's CA",
        _ => return None,
    })
}

fn next(entry: &AuditEntry, request: Uuid) -> Option<String> {
    Some(match entry.kind.as_str() {
        "break-glass-request" if entry.detail.contains_key("self_service") => {
            format!("ichor break-glass revoke {request}")
        }
        "break-glass-request" => format!("ichor break-glass approve {request}"),
        "break-glass-approval" | "break-glass-touched" | "break-glass-told" => {
            format!("ichor break-glass show {request}")
        }
        "grant" => format!("ichor break-glass report {request}"),
        "break-glass-overdue" => {
            format!("ichor break-glass review {request} --as emergency|drill|misuse --note TEXT")
        }
        _ => return None,
    })
}

/// The URL, if it is one that people may be led to: https, with a host, and no name or password that could pass for one.
fn link(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_fine = url.scheme() == "https" && url.has_host() && url.username().is_empty() && url.password().is_none();
    is_fine.then_some(url)
}

/// A kind's or field's name, which is plain already unless it has a file's name in it.
fn plain(name: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ' ');
    name.chars().filter(is_plain).take(40).collect()
}
