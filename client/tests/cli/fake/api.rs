//! The API behind a session: a person, two clusters, certificates of a CA of its own, a short log.

use std::collections::{BTreeMap, HashMap};

use ichor_client::Clock;
use ichor_standins::authority::Leaf;
use ichor_wire::api::*;
use ichor_wire::problem::{Code, Problem};
use ichor_wire::role::Role;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::http::{Asked, Reply};
use super::log;
use super::{Broker, MakesKey, State};

impl Broker {
    pub(super) fn api(&self, path: &[&str], asked: &Asked, query: &HashMap<String, String>) -> Reply {
        let mut state = self.state.lock().unwrap();
        if state.session_ended {
            return Reply::problem(Problem::new(Code::SessionEnded, "the session has ended"));
        }
        match (asked.method.as_str(), path) {
            ("GET", ["session"]) => Reply::json(200, &session(&state.hostile)),
            ("GET", ["clusters"]) => Reply::json(
                200,
                &ClustersAnswer {
                    clusters: ["prod", "staging"].map(|name| cluster(name, name, &state.hostile)).into(),
                },
            ),
            ("GET", ["clusters", name]) => Reply::json(200, &cluster(name, name, &state.hostile)),
            ("POST", ["clusters", name, "certificates"]) => {
                let request: CertificateRequest = serde_json::from_slice(&asked.body).unwrap();
                state.asked.push(request.clone());
                match &state.refuse {
                    Some(problem) => Reply::problem(problem.clone()),
                    None => Reply::json(200, &self.certificate(&state, name, &request)),
                }
            }
            ("GET", ["break-glass"]) if state.requests_behind > 0 => self.requests_behind(&state, query),
            (method, ["break-glass", rest @ ..]) => self.break_glass(&mut state, method, rest, &asked.body),
            ("POST", ["kits", "reports"]) => {
                let ask: KitReportAsk = serde_json::from_slice(&asked.body).unwrap();
                state.reports.push(ask.clone());
                let answer = KitReportAnswer {
                    kit: 7,
                    cluster: "prod".into(),
                    grant: "kit-7-1".into(),
                    claimed: "ada".into(),
                    opened: Timestamp::from_second(1_800_000_000).unwrap(),
                    label: ask.label,
                    beyond: (ask.label == KitLabel::Misuse).then(|| "the kit does not give os:admin".into()),
                    receipt: Receipt::pending(1, &[0; 32]),
                };
                Reply::json(200, &answer)
            }
            ("GET", ["audit", "entries"]) if query.get("kind").is_some_and(|kind| kind == "kit-opened") => {
                Reply::json(200, &AuditAnswer { entries: Vec::new(), next: None })
            }
            ("GET", ["audit", "entries"]) if query.get("cluster").is_some_and(|name| name == "prd") => {
                Reply::json(200, &AuditAnswer { entries: Vec::new(), next: None })
            }
            ("GET", ["audit", "entries"]) => audit(query, &state.hostile),
            ("GET", ["audit", "calls"])
                if state.own_calls_alone && query.get("user").is_none_or(|user| user != "me") =>
            {
                Reply::problem(Problem::new(Code::Refused, "no policy allows this"))
            }
            ("GET", ["audit", "calls"]) if state.taken => {
                let until = Timestamp::from_second(1_800_000_000).unwrap();
                let taken = CallAnswer { calls: Vec::new(), next: None, taken_until: Some(until) };
                Reply::json(200, &taken)
            }
            ("GET", ["audit", "calls"]) if state.node_logs => Reply::json(200, &calls(&state.hostile)),
            ("GET", ["audit", "calls"]) => Reply::json(200, &serde_json::json!({ "calls": [] })),
            ("GET", ["audit", "lines"]) if state.crowded > 0 => {
                state.crowded -= 1;
                let problem = Problem::new(Code::TooManyRequests, "too many requests");
                Reply::problem(Problem { retry_after: Some(1), ..problem })
            }
            ("GET", ["audit", "lines"]) => match &state.refuse {
                Some(problem) => Reply::problem(problem.clone()),
                None => lines(query, &state.hostile),
            },
            ("GET", ["audit", "stories", "17"]) => Reply::json(200, &story_of_an_emergency(&state.hostile)),
            ("GET", ["audit", "stories", "7"]) => Reply::json(200, &story(&state.hostile)),
            ("POST", ["audit", "drops"]) => {
                let ask: DropAsk = serde_json::from_slice(&asked.body).unwrap();
                state.drops.push(ask.clone());
                Reply::json(200, &drop_request(ask.person, ask.before))
            }
            ("GET", ["audit", "drops", _]) => Reply::json(200, &drop_request(Some("bob".into()), None)),
            ("POST", ["audit", "drops", _, "approval"]) => {
                state.approvals += 1;
                let receipts = vec![Receipt::pending(u64::from(state.approvals), &[0; 32])];
                let bodies = if state.approvals == 1 { 20_000 } else { 7 };
                Reply::json(200, &DroppedAnswer { bodies, more: state.approvals == 1, receipts })
            }
            ("GET", ["people"]) => Reply::json(200, &PeopleAnswer { people: people(&query["name"], &state.hostile) }),
            ("GET", ["locks"]) => {
                let everything = lock(22, LockOn::Everything, &state.hostile);
                let locks = vec![everything, lock(21, alice(), &state.hostile)];
                Reply::json(200, &LockList { locks })
            }
            ("POST", ["locks"]) => {
                let ask: LockAsk = serde_json::from_slice(&asked.body).unwrap();
                let lock = LockAnswer { reason: ask.reason.clone(), ..lock(21, ask.on.clone(), &state.hostile) };
                state.locks.push(ask);
                let beyond = vec![format!("one certificate stays good{}", state.hostile)];
                Reply::json(200, &LockSetAnswer { lock, outstanding: Outstanding::default(), beyond })
            }
            ("POST", ["locks", id, "unlock"]) => {
                let ask: UnlockAsk = serde_json::from_slice(&asked.body).unwrap();
                let is_all = *id == Uuid::from_u128(22).to_string();
                let lock = match is_all {
                    true => lock(22, LockOn::Everything, &state.hostile),
                    false => lock(21, alice(), &state.hostile),
                };
                let is_asked = is_all && !ask.confirm;
                state.unlocks.push(((*id).to_owned(), ask));
                Reply::json(
                    200,
                    &LockAnswer {
                        holds: is_asked,
                        asked_by: is_asked.then(|| "alice@example.com".into()),
                        asked_until: is_asked.then(|| Timestamp::from_second(1_800_003_600).unwrap()),
                        ..lock
                    },
                )
            }
            ("GET", ["audit", path @ ..]) => log::answer(&mut state, path, query),
            _ => Reply::problem(Problem::new(Code::NotFound, "no such path")),
        }
    }

    pub(super) fn certificate(&self, state: &State, cluster: &str, request: &CertificateRequest) -> CertificateAnswer {
        let now = Timestamp::from_second(Clock::system().now().as_second()).unwrap();
        let roles: Vec<Role> = match request.roles.as_slice() {
            [] => vec![Role::Reader],
            roles => roles.iter().map(|role| role.parse().unwrap()).collect(),
        };
        let grant_id = Uuid::from_u128(state.asked.len() as u128);
        let mut organization: Vec<String> = roles.iter().map(ToString::to_string).collect();
        if state.makes_key.is_none() {
            organization.extend([format!("grant:{grant_id}"), "user:alice@example.com".into()]);
        }
        let not_before = now - SignedDuration::from_secs(30);
        let life = request.ttl.map_or(state.life, |ttl| i64::try_from(ttl).unwrap());
        let not_after = now + SignedDuration::from_secs(life.min(state.max_life.unwrap_or(i64::MAX)));
        let leaf = Leaf { organization, not_before, not_after, ..Leaf::client([], now) };
        let (_, pem) = x509_parser::pem::parse_x509_pem(request.csr.as_bytes()).unwrap();
        use x509_parser::prelude::FromDer;
        let (_, csr) = x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents).unwrap();
        let key = csr.certification_request_info.subject_pki.subject_public_key.data.to_vec();
        let (certificate, private_key) = match state.makes_key {
            None => (self.ca.issue_for(&leaf, &key).unwrap(), None),
            Some(makes) => {
                let made = self.ca.issue(&leaf).unwrap();
                let key = match makes {
                    MakesKey::Right => made.key,
                    MakesKey::Another => self.ca.issue(&leaf).unwrap().key,
                    MakesKey::Broken => "no key".into(),
                };
                let key = key.replace("PRIVATE KEY", "ED25519 PRIVATE KEY");
                (made.certificate, Some(SecretPem::from(key.as_str())))
            }
        };
        CertificateAnswer {
            cluster: cluster.into(),
            grant_id,
            certificate,
            private_key,
            issuing_ca: state.issuing_ca.clone().unwrap_or_else(|| Some(self.ca.certificate())),
            ca: state.node_ca.clone(),
            endpoints: state.endpoints.clone(),
            nodes: state.nodes.clone(),
            roles,
            not_before,
            not_after: if state.lie { not_after + SignedDuration::from_secs(1) } else { not_after },
            user: "alice@example.com".into(),
            receipt: state.receipt.clone().unwrap_or_else(|| Receipt::pending(7, &[0; 32])),
        }
    }
}

fn session(hostile: &str) -> SessionAnswer {
    let now = Clock::system().now();
    SessionAnswer {
        session_id: Uuid::nil(),
        provider: format!("corp{hostile}"),
        issuer: "https://login.example".into(),
        subject: "42".into(),
        name: format!("Alice Example{hostile}"),
        user: format!("alice@example.com{hostile}"),
        groups: vec![format!("sre{hostile}")],
        groups_at: now,
        acr: None,
        auth_time: None,
        expires_at: now + SignedDuration::from_secs(43_190),
    }
}

fn alice() -> LockOn {
    LockOn::User { issuer: "https://login.example".into(), subject: "42".into() }
}

/// One of a name, two twins, and nobody else.
fn people(name: &str, hostile: &str) -> Vec<PersonAnswer> {
    let subjects = match name {
        "alice@example.com" => &["42"][..],
        "twins" => &["1", "2"],
        _ => &[],
    };
    let person = |subject: &&str| PersonAnswer {
        issuer: "https://login.example".into(),
        subject: (*subject).into(),
        name: format!("Alice Example{hostile}"),
        user: name.into(),
    };
    subjects.iter().map(person).collect()
}

fn lock(number: u128, on: LockOn, hostile: &str) -> LockAnswer {
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    LockAnswer {
        id: Uuid::from_u128(number),
        on,
        by: format!("root@example.com{hostile}"),
        reason: format!("INC-42{hostile}"),
        at,
        until: Some(at + SignedDuration::from_hours(1)),
        holds: true,
        asked_by: None,
        asked_until: None,
        ended_by: None,
        ended_at: None,
    }
}

fn cluster(name: &str, env: &str, hostile: &str) -> ClusterAnswer {
    let yes = |role, max_ttl| RoleAnswer {
        role,
        allowed: true,
        by_request: false,
        max_ttl: Some(max_ttl),
        why: None,
        help: Vec::new(),
        policies: vec!["sre".into()],
    };
    let no = |role, why: &str, help: &str| RoleAnswer {
        role,
        allowed: false,
        by_request: false,
        max_ttl: None,
        why: Some(why.into()),
        help: vec![help.into()],
        policies: Vec::new(),
    };
    let operator = if env == "prod" {
        no(Role::Operator, &format!("no policy permits it{hostile}"), &format!("ask for it with a reason{hostile}"))
    } else {
        yes(Role::Operator, 5400)
    };
    let mut roles = vec![yes(Role::Reader, 28_800), operator];
    if env == "prod" {
        let why = "os:admin on `prod` is permitted by `glass` only with the approval of another person";
        let help = "ask others to approve: `ichor break-glass request prod --role os:admin --reason TEXT`";
        roles.push(RoleAnswer { by_request: true, ..no(Role::Admin, why, help) });
    }
    ClusterAnswer {
        name: format!("{name}{hostile}"),
        labels: BTreeMap::from([("env".into(), format!("{env}{hostile}"))]),
        endpoints: vec!["10.0.0.2".into()],
        nodes: Vec::new(),
        unavailable: None,
        roles,
    }
}

/// Five entries in pages as large as asked for, at most two.
fn audit(query: &HashMap<String, String>, hostile: &str) -> Reply {
    let start: u64 = query.get("cursor").map_or(5, |cursor| cursor.parse().unwrap());
    let limit: u64 = query["limit"].parse().unwrap();
    let indexes: Vec<u64> = (0..start).rev().take(usize::try_from(limit.min(2)).unwrap()).collect();
    let entries = indexes.iter().map(|index| AuditEntry {
        index: *index,
        id: Uuid::from_u128(u128::from(*index)),
        time: Timestamp::from_second(1_800_000_000 + i64::try_from(*index).unwrap()).unwrap(),
        kind: "grant".into(),
        user: Some(format!("alice@example.com{hostile}")),
        issuer: None,
        subject: None,
        cluster: Some("prod".into()),
        grant_id: Some(Uuid::from_u128(u128::from(*index))),
        session_id: None,
        detail: BTreeMap::from([("reason".into(), format!("INC-42\u{1b}[2J{hostile}"))]),
        leaf_hash: "00".into(),
    });
    let next = indexes.last().filter(|last| **last > 0).map(ToString::to_string);
    Reply::json(200, &AuditAnswer { entries: entries.collect(), next })
}

fn entry(index: u64, kind: &str, detail: &[(&str, &str)], hostile: &str) -> AuditEntry {
    let detail = detail.iter().map(|(name, value)| ((*name).to_owned(), format!("{value}{hostile}")));
    let is_grant = ["grant", "issued"].contains(&kind);
    AuditEntry {
        index,
        id: Uuid::from_u128(u128::from(index)),
        time: Timestamp::from_second(1_800_000_000 + i64::try_from(index).unwrap() * 60).unwrap(),
        kind: kind.into(),
        user: Some(format!("alice@example.com{hostile}")),
        issuer: Some("https://login.example".into()),
        subject: Some("42".into()),
        cluster: is_grant.then(|| "prod".into()),
        grant_id: is_grant.then(|| Uuid::from_u128(7)),
        session_id: Some(Uuid::from_u128(9)),
        detail: detail.collect(),
        leaf_hash: "00".into(),
    }
}

fn login(hostile: &str) -> AuditEntry {
    let detail = [("provider", "corp"), ("name", "Alice Example"), ("address", "192.0.2.7")];
    entry(3, "login", &detail, hostile)
}

/// Three lines, and one more for who follows on from there, each answer ended at once; the first time that someone follows,
/// the connection breaks within the second line.
fn lines(query: &HashMap<String, String>, hostile: &str) -> Reply {
    let after = query.get("after").map_or(-1, |after| after.parse::<i64>().unwrap());
    let grant = entry(5, "grant", &[("reason", "=HYPERLINK(\"x\"), INC-42"), ("roles", "os:reader")], hostile);
    let mut entries = vec![login(hostile), grant, entry(8, "session-end", &[], hostile)];
    if after == 8 {
        entries.push(entry(9, "start", &[], hostile));
    }
    let entries = entries.iter().filter(|entry| i64::try_from(entry.index).unwrap() > after);
    let mut body: Vec<u8> =
        entries.flat_map(|entry| [&serde_json::to_vec(entry).unwrap()[..], b"\n"].concat()).collect();
    body.insert(0, b'\n');
    if query.contains_key("follow") && after < 0 {
        let first = body.iter().skip(1).position(|byte| *byte == b'\n').unwrap();
        body.truncate(first + 30);
    }
    Reply { status: 200, headers: vec![("content-type", "application/x-ndjson".into())], body }
}

fn story(hostile: &str) -> StoryAnswer {
    let until = ("not_after", "2027-01-15T09:05:00Z");
    let grant = entry(5, "grant", &[("roles", "os:reader"), ("reason", "INC-42"), ("policies", "sre-read")], hostile);
    let issued = entry(6, "issued", &[("serial", "0a0b"), ("fingerprint", "ff00"), until], "");
    StoryAnswer {
        what: "grant".into(),
        session_id: Some(Uuid::from_u128(9)),
        login: Some(login(hostile)),
        grants: vec![GrantStory {
            grant_id: Uuid::from_u128(7),
            grant: Some(grant),
            outcome: vec![issued],
            ..GrantStory::default()
        }],
        end: Some(entry(8, "session-end", &[("message", "logout")], hostile)),
        hidden: 1,
        ..StoryAnswer::default()
    }
}

/// A grant that another approved, used and reviewed.
fn story_of_an_emergency(hostile: &str) -> StoryAnswer {
    let by = |user: &str, entry: AuditEntry| AuditEntry {
        user: Some(format!("{user}@example.com{hostile}")),
        cluster: Some("prod".into()),
        session_id: None,
        ..entry
    };
    let step = |user, index, kind, detail: &[(&str, &str)]| by(user, entry(index, kind, detail, hostile));
    let asked = [("roles", "os:admin"), ("reason", "INC-42 etcd down"), ("quorum", "1")];
    let approved = [("roles", "os:admin"), ("requester", "alice@example.com"), ("message", "go ahead")];
    let reviewed = [("label", "emergency"), ("message", "etcd restored")];
    let mut story = story(hostile);
    for told in &mut story.grants {
        told.request =
            vec![step("alice", 3, "break-glass-request", &asked), step("bob", 4, "break-glass-approval", &approved)];
        told.afterwards = vec![step("bob", 9, "break-glass-review", &reviewed)];
    }
    story.grants[0].grant.as_mut().unwrap().detail.insert("approvers".into(), "bob@example.com".into());
    story.login = None;
    story.hidden = 0;
    story
}

fn drop_request(person: Option<String>, before: Option<Timestamp>) -> DropAnswer {
    DropAnswer {
        bodies_or_more: false,
        request_id: Uuid::from_u128(11),
        asked_by: "42".into(),
        person,
        before: before.unwrap_or(Timestamp::from_second(1_800_000_000).unwrap()),
        expires_at: Timestamp::from_second(1_800_600_000).unwrap(),
        bodies: Some(20_007),
        done: false,
    }
}

fn calls(hostile: &str) -> serde_json::Value {
    let call = |minute: i64, class: &str, user: Option<String>| {
        serde_json::json!({
            "node": format!("cp-1{hostile}"), "cluster": "prod", "method": "/machine.MachineService/Reboot", "code": "OK",
            "started": Timestamp::from_second(1_800_000_000 + minute * 60).unwrap(),
            "ended": Timestamp::from_second(1_800_000_001 + minute * 60).unwrap(),
            "roles": ["os:operator"], "user": user, "grant_id": user.as_ref().map(|_| Uuid::from_u128(7)),
            "peer": "192.0.2.7", "class": class, "service": "machined", "entry": 12,
        })
    };
    let calls = [call(7, "unexplained", None), call(6, "explained", Some(format!("alice@example.com{hostile}")))];
    serde_json::json!({ "calls": calls })
}
