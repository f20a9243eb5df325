//! What any [`Store`] must do, as cases over the trait: each backend runs them all.

use std::sync::Arc;

use ichor_wire::log::{Content, Entry, Kind, Leaf, Person as LogPerson, Places, VERSION, leaf_hash};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::*;
use crate::domain::{GrantId, Group, HumanClaim, Person};

mod asking;
mod break_glass;
mod calls;
pub(in crate::store) mod locks;
mod log;
mod logins;
mod sessions;
mod tree;

pub(crate) use asking::*;
pub(crate) use break_glass::*;
pub(crate) use calls::*;
pub(crate) use locks::*;
pub(crate) use log::*;
pub(crate) use logins::*;
pub(crate) use sessions::*;
pub(crate) use tree::*;

/// Names every case once, so that no backend can leave one out: `cases!(run)` hands the list to the macro `run`.
macro_rules! cases {
    ($run:ident) => {
        $run! {
            an_empty_log, indexes_are_contiguous_and_leaves_fit, a_refused_part_leaves_no_trace, a_clock_going_back_is_refused,
            queries_find_what_matches, own_entries_are_matched_by_the_whole_key, a_code_is_used_once_by_fifty,
            a_code_that_expired_or_never_was, a_session_that_exists_is_not_made_again, sessions_read_back_and_end_once,
            a_refresh_needs_its_version, one_refresh_lease_at_a_time, a_grant_needs_a_live_session, touches_are_rare,
            logins_are_bounded_and_expire, logins_advance_by_version, devices_are_bounded_and_expire,
            devices_advance_by_version, a_device_code_begins_a_session, providers_are_pinned,
            sweeping_takes_what_is_over, a_probe_succeeds, the_tree_grows_with_the_log, complete_tiles_are_kept,
            a_batch_proves_its_entries, a_refused_part_is_no_leaf, the_newest_checkpoint_is_kept, a_tree_beyond_the_log_is_none,
            the_log_is_read_forwards_too, certificates_are_found_by_either_name,
            a_forwarding_moves_on_from_what_is_kept_alone, a_dropped_body_is_gone_with_its_names, a_body_stays_unless_every_condition_holds,
            bodies_may_go_while_the_log_is_read, bodies_are_dropped_by_two_humans, no_body_is_dropped_under_a_lock, a_lock_of_everything_is_lifted_by_two_humans, a_browsers_session_reads_back,
            calls_are_kept_with_their_entry,
            calls_that_are_not_recorded_are_not_kept, calls_are_found_newest_first, own_calls_are_matched_by_the_whole_key,
            a_page_of_calls_follows_the_other, the_oldest_calls_beyond_the_quota_are_dropped,
            a_node_that_holds_less_than_its_share_loses_no_call, nodes_are_seen_and_no_time_goes_back,
            a_break_glass_request_reads_back_with_what_became_of_it, case_23_nothing_is_used_without_its_approvals,
            an_approval_counts_for_another_human_and_the_same_contents, case_14_fifty_uses_at_once_have_one_winner,
            case_14_fifty_approvals_of_one_human_count_once, case_14_fifty_approvals_in_one_batch_make_one_quorum,
            case_14_fifty_humans_at_once_make_one_quorum,
            a_use_that_failed_is_given_back_to_its_key_alone, a_use_needs_its_person_session_and_time,
            requests_are_bounded_listed_and_run_out, requests_walk_as_their_model_does,
            nobody_is_let_in_alone_before_someone_was_told, a_first_call_and_an_overdue_review_are_noted_once,
            a_lock_stops_what_it_is_on_and_nothing_else, case_15_a_user_is_locked_by_issuer_and_subject_alone,
            a_locked_session_is_over_and_everything_locked_lets_people_log_in, of_fifty_grants_and_a_lock_each_has_its_place,
            a_lock_of_everything_is_lifted_by_two, a_lock_ends_by_itself_and_not_by_a_clock_that_goes_back,
            locks_are_bounded_and_set_in_live_sessions, a_setters_locks_count_against_their_own_bound_alone,
            what_its_setter_locks_twice_is_one_lock, a_lock_is_changed_by_the_account_that_set_it,
            an_asking_counts_while_whoever_asked_is_logged_in_and_not_locked, an_asking_is_taken_over_where_it_was_looked_at,
            break_glass_stops_under_a_lock,
            of_what_follows_from_one_reading_one_is_recorded, a_human_asks_so_often_an_hour_and_no_more, a_log_that_is_opened_again_ends_what_was_open,
            self_service_waits_for_reviews, a_use_without_an_outcome_is_given_back_or_kept_never_both, a_use_on_its_way_is_neither_reviewed_nor_over,
            what_is_revoked_while_its_last_use_is_on_its_way_stays_so,
            every_call_of_a_grant_is_counted
        }
    };
}
pub(crate) use cases;

/// What tells another human than `[7; 32]` does, by the same claims.
fn another_than_seven() -> [u8; 32] {
    let mut told = [7; 32];
    told[31] = 8;
    told
}

/// The time that every case begins at.
pub(crate) fn noon() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

pub(crate) fn after(seconds: i64) -> Timestamp {
    noon() + SignedDuration::from_secs(seconds)
}

pub(crate) fn person(subject: &str) -> Person {
    Person {
        provider: ProviderAlias::new("corp").unwrap(),
        issuer: "https://id.example.com".into(),
        subject: subject.into(),
    }
}

pub(crate) fn log_person(subject: &str, user: &str) -> LogPerson {
    LogPerson {
        provider: "corp".into(),
        issuer: "https://id.example.com".into(),
        subject: subject.into(),
        name: format!("The {user}"),
        user: user.into(),
    }
}

pub(crate) fn entry(content: Content, at: Timestamp) -> NewEntry {
    let entry = Entry {
        version: VERSION,
        id: vec![7; 16],
        time: at.as_microsecond(),
        salt: vec![9; 16],
        broker: "test".into(),
        content,
    };
    let encoded = entry.encode().unwrap();
    NewEntry { entry, encoded }
}

pub(crate) fn note(kind: Kind, at: Timestamp) -> Append {
    Append { entry: entry(Content::of(kind), at), change: None }
}

pub(crate) fn with(change: Change) -> Append {
    Append { entry: entry(Content::of(Kind::Login), noon()), change: Some(change) }
}

pub(crate) fn session(number: u8) -> SessionRow {
    SessionRow {
        id: SessionId(Uuid::from_bytes([number; 16])),
        token_hash: [number; 32],
        jkt: "thumbprint".into(),
        person: person("subject"),
        name: "Ada".into(),
        user: "ada".into(),
        groups: vec![
            Group { provider: ProviderAlias::new("corp").unwrap(), name: "sre, \"ops\"\u{0}/é".into() },
            Group { provider: ProviderAlias::new("corp").unwrap(), name: String::new() },
        ],
        groups_at: after(-10),
        acr: Some("mfa".into()),
        auth_time: Some(after(-20)),
        refresh_sealed: Some(vec![1, 2, 3]),
        version: 0,
        created_at: noon(),
        expires_at: after(3600),
        used_at: noon(),
        ended_at: None,
        tag: [9; 32],
        human: HumanClaim::NotAsked,
        page: None,
    }
}

/// What a lock on a grant of session 1 would be on.
pub(crate) fn keys() -> Box<LockKeys> {
    Box::new(LockKeys {
        issuer: person("subject").issuer,
        subject: "subject".into(),
        session: Some(session(1).id),
        cluster: Some("prod".into()),
        grant: Some(GrantId(Uuid::from_bytes([6; 16]))),
    })
}

pub(crate) fn login(number: u8, expires_at: Timestamp) -> PendingLogin {
    PendingLogin {
        id: Uuid::from_bytes([number; 16]),
        version: 0,
        cookie_hash: [number; 32],
        code_hash: Some([number + 100; 32]),
        state: vec![number; 40],
        expires_at,
    }
}

fn device(number: u8, expires_at: Timestamp) -> DeviceLogin {
    DeviceLogin {
        id: Uuid::from_bytes([number; 16]),
        version: 0,
        device_hash: [number; 32],
        user_code: format!("CODE-{number}"),
        state: vec![number; 40],
        expires_at,
    }
}

pub(crate) fn create(session: SessionRow, code: u8) -> Append {
    with(Change::SessionCreate { session: Box::new(session), code_hash: [code; 32], now: noon() })
}

/// A live session with this number.
pub(crate) async fn logged_in(store: &dyn Store, number: u8) -> SessionRow {
    assert!(store.begin_login(login(number, after(600)), 1000, noon()).await.unwrap());
    let row = session(number);
    assert!(matches!(one(store, create(row.clone(), number + 100)).await, Appended::Recorded { .. }));
    row
}

pub(crate) async fn one(store: &dyn Store, part: Append) -> Appended {
    let mut answers = append(store, vec![part]).await;
    assert_eq!(answers.len(), 1);
    answers.pop().unwrap()
}

/// Appends a batch, and answers what became of its parts.
pub(crate) async fn append(store: &dyn Store, batch: Vec<Append>) -> Vec<Appended> {
    store.append(batch, None).await.unwrap().parts
}
