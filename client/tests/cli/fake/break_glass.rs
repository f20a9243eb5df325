//! Break-glass requests: every one was approved where nothing else is said, and may be used.

use std::collections::HashMap;

use ichor_client::Clock;
use ichor_wire::api::*;
use ichor_wire::problem::{Code, Problem};
use ichor_wire::role::Role;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::http::Reply;
use super::{Broker, State};

impl Broker {
    pub(super) fn break_glass(&self, state: &mut State, method: &str, path: &[&str], body: &[u8]) -> Reply {
        let id = path.first().and_then(|id| id.parse().ok()).unwrap_or(Uuid::from_u128(5));
        match (method, path) {
            ("GET", []) => Reply::json(200, &BreakGlassList { requests: vec![answer(state, id)], next: None }),
            ("GET", [_]) if state.restarts > 0 => {
                state.restarts -= 1;
                Reply::problem(Problem::new(Code::Unavailable, "the broker starts"))
            }
            ("GET", [_]) => Reply::json(200, &answer(state, id)),
            ("GET", [_, "report"]) => {
                let sums = vec![CallSum {
                    node: "node-b".into(),
                    method: "/machine.MachineService/Reboot".into(),
                    class: "weak".into(),
                    count: 501,
                }];
                let report = BreakGlassReport {
                    request: answer(state, id),
                    entries: Vec::new(),
                    calls: Vec::new(),
                    more: true,
                    sums,
                    other_nodes: vec!["node-b".into()],
                    names_no_grant: true,
                };
                Reply::json(200, &report)
            }
            ("POST", []) => {
                if let Some(wanted) = wants_a_login(state) {
                    return wanted;
                }
                state.requests.push(serde_json::from_slice(body).unwrap());
                Reply::json(200, &answer(state, id))
            }
            ("POST", [_, "certificates"]) => {
                let taken: BreakGlassUse = serde_json::from_slice(body).unwrap();
                let contents = contents(id);
                let request = CertificateRequest {
                    csr: taken.csr,
                    roles: contents.roles.iter().map(ToString::to_string).collect(),
                    ttl: Some(contents.ttl),
                    reason: None,
                };
                state.asked.push(request.clone());
                Reply::json(200, &self.certificate(state, &contents.cluster, &request))
            }
            ("POST", [_, how]) => {
                if let Some(wanted) = ["approve", "deny"].contains(how).then(|| wants_a_login(state)).flatten() {
                    return wanted;
                }
                let said: Value = serde_json::from_slice(body).unwrap();
                state.decided.push(((*how).into(), said));
                Reply::json(200, &answer(state, id))
            }
            _ => Reply::problem(Problem::new(Code::NotFound, "no such path")),
        }
    }
}

impl Broker {
    /// A page that has none, and the last of them the one.
    pub(super) fn requests_behind(&self, state: &State, query: &HashMap<String, String>) -> Reply {
        let page = query.get("cursor").map_or(0, |cursor| Uuid::parse_str(cursor).unwrap().as_u128());
        let is_last = page >= state.requests_behind;
        let requests = if is_last { vec![answer(state, Uuid::from_u128(5))] } else { Vec::new() };
        Reply::json(200, &BreakGlassList { requests, next: (!is_last).then(|| Uuid::from_u128(page + 1)) })
    }
}

/// The refusal that a fresh login would change, unless the last login was one.
fn wants_a_login(state: &State) -> Option<Reply> {
    let wanted = state.step_up.clone()?;
    let is_fresh = state.authorizations.last().is_some_and(|login| {
        login.get("max_age").is_some_and(|age| age == "0") && login.get("acr_values") == wanted.acr_values.as_ref()
    });
    let problem = Problem { step_up: Some(wanted), ..Problem::new(Code::Refused, "policy wants a second factor") };
    (!is_fresh || state.no_login_helps).then(|| Reply::problem(problem))
}

fn contents(id: Uuid) -> BreakGlassContents {
    BreakGlassContents {
        format: CONTENTS_FORMAT.into(),
        id,
        provider: "corp".into(),
        issuer: "https://login.example".into(),
        subject: "42".into(),
        name: "Alice Example".into(),
        user: "alice@example.com".into(),
        address: "192.0.2.7".into(),
        cluster: "prod".into(),
        roles: vec![Role::Operator],
        ttl: 900,
        reason: "INC-42".into(),
        ticket: None,
        nodes: Vec::new(),
        created_at: Timestamp::from_second(1_800_000_000).unwrap(),
        waits_until: Timestamp::from_second(1_800_003_600).unwrap(),
        approvals: 1,
        self_service: false,
        uses: 3,
        policies: vec!["break-glass".into()],
        policy_digest: "00".repeat(32),
        human_told: false,
    }
}

fn answer(state: &State, id: Uuid) -> BreakGlassAnswer {
    let contents = serde_json::to_string(&contents(id)).unwrap();
    BreakGlassAnswer {
        id,
        state: state.request_state.unwrap_or("approved").into(),
        suspect: None,
        sha256: contents_sha256(&contents),
        contents,
        approvals: Vec::new(),
        told: None,
        used: 0,
        good_until: Some(Clock::system().now() + SignedDuration::from_secs(900)),
        closing: None,
        review: None,
        grants: Vec::new(),
        may: vec!["use".into()],
    }
}
