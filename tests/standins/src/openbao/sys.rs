//! `sys/`: health, seal status, what a token may, what is mounted.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::call::{Call, Verb, no_path, no_route};
use super::{Mounted, State};

const VERSION: &str = "2.7.2";

/// The paths that need neither a token nor an unsealed server.
pub(super) fn open(state: &State, call: &Call, now: Timestamp) -> Option<Answer> {
    match (call.path.as_str(), call.verb) {
        ("sys/health", Verb::Read) => Some(health(state, now)),
        ("sys/seal-status", Verb::Read) => Some(seal_status(state)),
        _ => None,
    }
}

/// The paths that need a token.
pub(super) fn answer(state: &State, call: &Call, root: bool) -> Answer {
    match (call.path.as_str(), call.verb) {
        ("sys/capabilities-self", Verb::Write) => capabilities(state, call, root),
        ("sys/internal/ui/resultant-acl", Verb::Read) if root => Answer::data(json!({ "root": true })),
        ("sys/internal/ui/resultant-acl", Verb::Read) => Answer::data(state.policy.resultant()),
        (path, Verb::Read) => {
            let mount = path.strip_prefix("sys/internal/ui/mounts/").or_else(|| path.strip_prefix("sys/mounts/"));
            mount.map_or_else(no_path, |mount| mounted(state, mount))
        }
        _ => no_path(),
    }
}

fn health(state: &State, now: Timestamp) -> Answer {
    let status = match (state.sealed, state.standby) {
        (true, _) => StatusCode::SERVICE_UNAVAILABLE,
        (false, true) => StatusCode::TOO_MANY_REQUESTS,
        (false, false) => StatusCode::OK,
    };
    let body = json!({
        "initialized": true,
        "sealed": state.sealed,
        "standby": state.sealed || state.standby,
        "replication_performance_mode": if state.sealed { "unknown" } else { "disabled" },
        "replication_dr_mode": if state.sealed { "unknown" } else { "disabled" },
        "server_time_utc": now.as_second(),
        "version": VERSION,
    });
    Answer::bare(status, &body)
}

fn seal_status(state: &State) -> Answer {
    let body = json!({
        "type": "shamir", "initialized": true, "sealed": state.sealed, "t": 1, "n": 1, "progress": 0, "nonce": "",
        "recovery_seal": false, "version": VERSION, "migration": false, "storage_type": "inmem",
    });
    Answer::bare(StatusCode::OK, &body)
}

fn capabilities(state: &State, call: &Call, root: bool) -> Answer {
    let listed = |name: &str| match call.body.get(name) {
        Some(Value::Array(paths)) => paths.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(path)) => vec![path.clone()],
        _ => Vec::new(),
    };
    let mut paths: Vec<String> = listed("paths");
    paths.extend(listed("path"));
    if paths.is_empty() {
        return Answer::bad("paths must be supplied");
    }
    let told = |path: &String| if root { json!(["root"]) } else { state.policy.told(path) };
    let mut data: Map<String, Value> = paths.iter().map(|path| (path.clone(), told(path))).collect();
    if let [path] = paths.as_slice() {
        data.insert("capabilities".into(), told(path));
    }
    Answer::system(data)
}

fn mounted(state: &State, path: &str) -> Answer {
    let found = state.mounts.iter().find(|(mount, _)| path == mount.as_str() || path.starts_with(&format!("{mount}/")));
    let Some((mount, mounted)) = found else { return no_route(path) };
    let (kind, options) = match mounted {
        Mounted::Transit(_) => ("transit", Value::Null),
        Mounted::Kv(_) => ("kv", json!({ "version": "2" })),
        Mounted::Pki(_) => ("pki", Value::Null),
    };
    Answer::data(json!({ "type": kind, "options": options, "path": format!("{mount}/") }))
}

/// A duration as the API takes it: seconds as a number, or text as `90`, `10m`, `1h30m`, `2d`.
pub(super) fn duration(value: &Value) -> Option<SignedDuration> {
    if let Some(seconds) = value.as_i64() {
        return Some(SignedDuration::from_secs(seconds));
    }
    let text = value.as_str()?;
    if let Ok(seconds) = text.parse() {
        return Some(SignedDuration::from_secs(seconds));
    }
    let mut total = SignedDuration::ZERO;
    let mut number = String::new();
    for letter in text.chars() {
        let unit = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        let count: i64 = std::mem::take(&mut number).parse().ok()?;
        total = total.checked_add(SignedDuration::from_secs(count.checked_mul(unit)?))?;
    }
    number.is_empty().then_some(total)
}

/// As Go writes a duration: `1h0m0s`, `1m30s`, `30s`.
pub(super) fn go_duration(span: SignedDuration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// As Go writes it, without the units that are zero at its end: `1h`, `1m30s`.
pub(super) fn short_duration(span: SignedDuration) -> String {
    let whole = go_duration(span);
    let whole = whole.strip_suffix("m0s").map_or(whole.clone(), |rest| format!("{rest}m"));
    whole.strip_suffix("h0m").map_or(whole.clone(), |rest| format!("{rest}h"))
}
