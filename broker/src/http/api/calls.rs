//! `GET /v1/audit/calls`: who touched which node, as the nodes' own logs tell.

use axum::Json;
use axum::extract::State;
use data_encoding::BASE64URL_NOPAD;
use ichor_wire::api::{CallAnswer, CallQuery, NodeCall};
use ichor_wire::log::Kind;
use ichor_wire::problem::{Code, Problem};
use jiff::SignedDuration;

use super::Api;
use super::audit::{may_read, permit, record};
use crate::domain::GrantId;
use crate::http::error::ApiError;
use crate::http::extract::{Fresh, StrictQuery};
use crate::identity::Identity;
use crate::nodelog::code_name;
use crate::store::{CallClass, CallFilter, CallPlace, CallsTaken, EntryFilter, StoredCall};

/// What a cursor begins with: another meaning of the rest gets another number.
const CURSOR: &str = "c1:";

/// Calls at nodes, newest first. Everyone may read those of their own grants; policy (`audit:read`) says who may read
/// others'. Reading others' is itself recorded, and so is a refusal.
#[utoipa::path(get, path = "/v1/audit/calls", tag = "audit", params(CallQuery), responses(
    (status = 200, description = "a page of calls", body = CallAnswer),
    (status = 400, description = "a filter or the cursor cannot be read", body = Problem),
    (status = 401, description = "no valid session or proof", body = Problem),
    (status = 403, description = "policy refuses", body = Problem),
))]
pub async fn list(
    State(api): State<Api>,
    StrictQuery(query): StrictQuery<CallQuery>,
    caller: Fresh,
) -> Result<Json<CallAnswer>, ApiError> {
    // all that can be wrong with the question, before an entry says that it was answered
    let limit = query.limit.unwrap_or(100);
    if !(1..=500).contains(&limit) {
        return Err(ApiError::new(Code::BadRequest, "`limit` is between 1 and 500"));
    }
    let before = query.cursor.as_deref().map(place).transpose()?;
    let mut filter = CallFilter {
        cluster: query.cluster.clone(),
        nodes: query.node.as_deref().map(|node| api.sources.meant(node)).unwrap_or_default(),
        user: query.user.clone(),
        own: None,
        grant: query.grant.map(GrantId),
        entry: query.entry,
        classes: query.class.as_deref().map(classes).transpose()?.unwrap_or_default(),
        method: query.method.clone(),
        since: query.since,
        until: query.until,
    };
    let identity = &caller.identity;
    if query.user.as_deref().is_some_and(|who| who == "me" || who == identity.user()) {
        filter.user = None;
        filter.own = Some(identity.person().clone());
    } else {
        let (cluster, what) = (query.cluster.as_deref(), describe(&query));
        match is_of_own_grant(&api, identity, &query).await? {
            true => may_read(&api, identity, cluster)?,
            false => permit(&api, identity, caller.address, cluster, &what).await?,
        }
        record(&api, identity, caller.address, cluster, what).await?;
    }
    // one more than asked for tells whether there is a next page
    let mut found = api.store.calls(&filter, before, limit.saturating_add(1)).await?;
    let page = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > page;
    found.truncate(page);
    let next = if more { found.last().map(|last| cursor(last.place())) } else { None };
    let of_cluster = |taken: &CallsTaken| query.cluster.as_ref().is_none_or(|cluster| taken.cluster == *cluster);
    let taken = api.store.calls_taken().await?.into_iter().filter(of_cluster);
    let taken_until = taken.map(|taken| taken.youngest).max();
    Ok(Json(CallAnswer { calls: found.into_iter().map(show).collect(), next, taken_until }))
}

/// Whether it is the calls of a grant that are asked for of which the caller's own entries tell. A client that tells someone their own story asks so first, and
/// then for their own calls alone: a refusal of that tells of nobody who looks into what is others'.
async fn is_of_own_grant(api: &Api, identity: &Identity, query: &CallQuery) -> Result<bool, ApiError> {
    let own = EntryFilter { own: Some(identity.person().clone()), ..EntryFilter::default() };
    let (filter, before) = match (query.grant, query.entry) {
        // be it that they locked it, or reported a kit's use
        (Some(grant), _) => (EntryFilter { grant: Some(GrantId(grant)), ..own }, None),
        (None, Some(entry)) => (EntryFilter { kind: Some(Kind::Grant), ..own }, entry.checked_add(1)),
        (None, None) => return Ok(false),
    };
    let newest = api.store.entries(&filter, before, 1).await?;
    Ok(newest.iter().any(|newest| query.grant.is_some() || query.entry == Some(newest.index)))
}

pub(super) fn show(stored: StoredCall) -> NodeCall {
    let call = stored.call;
    let ended = call.started.saturating_add(SignedDuration::from_micros(call.duration));
    NodeCall {
        node: call.node,
        cluster: call.cluster,
        method: call.method,
        code: call.code.map(code_name),
        started: call.started,
        ended: ended.unwrap_or(call.started),
        roles: call.roles.split(' ').filter(|role| !role.is_empty()).map(Into::into).collect(),
        user: call.user,
        grant_id: call.grant.map(|grant| grant.0),
        peer: call.peer,
        class: call.class.as_str().into(),
        why: call.why,
        service: call.service.as_str().into(),
        matched_entry: call.entry,
        entry: stored.batch,
    }
}

fn classes(text: &str) -> Result<Vec<CallClass>, ApiError> {
    if text == "alarming" {
        return Ok(CallClass::ALL.into_iter().filter(|class| *class != CallClass::Explained).collect());
    }
    let mut classes = Vec::new();
    for name in text.split(',') {
        let class = CallClass::named(name).ok_or_else(|| {
            let known: Vec<_> = CallClass::ALL.iter().map(|class| class.as_str()).collect();
            let name: String = name.escape_debug().take(64).collect();
            ApiError::new(
                Code::BadRequest,
                format!("unknown class `{name}`; classes are {}, or `alarming`", known.join(", ")),
            )
        })?;
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    Ok(classes)
}

fn cursor(place: CallPlace) -> String {
    BASE64URL_NOPAD.encode(format!("{CURSOR}{}:{}", place.started, place.id).as_bytes())
}

fn place(cursor: &str) -> Result<CallPlace, ApiError> {
    let read = || {
        let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
        let (started, id) = std::str::from_utf8(&bytes).ok()?.strip_prefix(CURSOR)?.split_once(':')?;
        Some(CallPlace { started: started.parse().ok()?, id: id.parse().ok()? })
    };
    read().ok_or_else(|| ApiError::new(Code::BadRequest, "the cursor is not one of ours; begin again without it"))
}

fn describe(query: &CallQuery) -> String {
    let parts = [
        query.cluster.as_ref().map(|cluster| format!("cluster {cluster}")),
        query.node.as_ref().map(|node| format!("node {node}")),
        query.user.as_ref().map(|user| format!("user {user}")),
        query.grant.map(|grant| format!("grant {grant}")),
        query.entry.map(|entry| format!("entry {entry}")),
        query.class.as_ref().map(|class| format!("class {class}")),
        query.method.as_ref().map(|method| format!("method {method}")),
        query.since.map(|since| format!("since {since}")),
        query.until.map(|until| format!("until {until}")),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let what = if parts.is_empty() { "everything".into() } else { parts.join(", ") };
    format!("calls at nodes: {what}").chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_no_other_is() {
        let there = CallPlace { started: -5, id: 7 };
        assert_eq!(place(&cursor(there)).unwrap(), there);
        for bad in ["", "MTox", "!", &BASE64URL_NOPAD.encode(b"c1:1"), &BASE64URL_NOPAD.encode(b"c1:1:-1")] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn classes_are_named() {
        assert_eq!(classes("suspect,weak,suspect").unwrap(), [CallClass::Suspect, CallClass::Weak]);
        assert!(!classes("alarming").unwrap().contains(&CallClass::Explained));
        assert!(classes("suspects").is_err() && classes("").is_err());
    }
}
