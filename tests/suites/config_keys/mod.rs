//! Every key of the configuration has a test of its effect: of what it does, not of how it is read. The list is held against
//! the generated reference.

mod audit;
mod certificates;
mod elsewhere;
mod limits;
mod nodelog;
mod openbao;
mod plain;
mod provider;
mod session;
mod witness;

use crate::named;

/// The reference's section, its key, and the test that goes red when the key does nothing.
const TESTED: &[(&str, &str, &str)] = &[
    (
        "[server]",
        "public_url",
        "tests/suites/config_keys/plain.rs::the_broker_is_reached_as_and_where_it_is_configured",
    ),
    ("[server]", "listen", "tests/suites/config_keys/plain.rs::the_broker_is_reached_as_and_where_it_is_configured"),
    ("[server]", "tls_certificate", "tests/suites/config_keys/elsewhere.rs::another_tls_certificate_is_served"),
    ("[server]", "tls_key", "tests/suites/config_keys/elsewhere.rs::another_tls_certificate_is_served"),
    ("[server]", "health_listen", "tests/suites/http.rs::health_and_metrics_have_their_own_listener"),
    ("[server]", "admin_socket", "tests/suites/config_keys/elsewhere.rs::everything_can_lie_elsewhere"),
    ("[server]", "trusted_proxies", "tests/suites/config_keys/plain.rs::a_trusted_proxy_is_believed"),
    ("[server]", "name", "tests/suites/config_keys/elsewhere.rs::everything_can_lie_elsewhere"),
    ("[store]", "path", "tests/suites/config_keys/elsewhere.rs::everything_can_lie_elsewhere"),
    ("[store]", "url_file", "broker/src/config/store.rs::the_database_is_reached_where_its_file_says"),
    (
        "[store]",
        "ca_file",
        "broker/src/config/store.rs::the_server_is_verified_and_shown_the_certificate_as_configured",
    ),
    (
        "[store]",
        "certificate",
        "broker/src/config/store.rs::the_server_is_verified_and_shown_the_certificate_as_configured",
    ),
    ("[store]", "key", "broker/src/config/store.rs::the_server_is_verified_and_shown_the_certificate_as_configured"),
    (
        "[store]",
        "connections",
        "broker/src/store/postgres/connections.rs::no_more_connections_are_made_than_configured",
    ),
    ("[store]", "deadline", "broker/src/config/store.rs::a_call_takes_no_longer_than_configured"),
    ("[audit]", "name", "tests/suites/config_keys/audit.rs::the_log_is_named_and_anchored_as_configured"),
    ("[audit]", "anchor_file", "tests/suites/config_keys/audit.rs::the_log_is_named_and_anchored_as_configured"),
    ("[audit]", "tile_token_file", "tests/suites/config_keys/audit.rs::the_log_is_named_and_anchored_as_configured"),
    ("[audit]", "tile_client_ca_file", "tests/suites/config_keys/audit.rs::a_client_certificate_opens_the_tiles_alone"),
    (
        "[audit]",
        "anchor_openbao",
        "tests/suites/config_keys/audit.rs::the_newest_checkpoint_lies_in_kv_where_configured",
    ),
    ("[audit]", "anchor_mount", "tests/suites/config_keys/audit.rs::the_newest_checkpoint_lies_in_kv_where_configured"),
    ("[audit]", "anchor_path", "tests/suites/config_keys/audit.rs::the_newest_checkpoint_lies_in_kv_where_configured"),
    ("[audit]", "anchor_grace", "tests/suites/config_keys/audit.rs::the_newest_checkpoint_lies_in_kv_where_configured"),
    ("[audit]", "witness", "tests/suites/config_keys/witness.rs::a_witness_cosigns_as_configured"),
    ("[audit]", "witness_key", "tests/suites/config_keys/witness.rs::a_witness_cosigns_as_configured"),
    (
        "[audit]",
        "key_grace",
        "tests/suites/config_keys/audit.rs::without_its_key_the_log_goes_on_as_long_as_configured",
    ),
    ("[audit]", "drop_min_age", "tests/suites/asking/dropping.rs::bodies_go_when_two_agree_and_only_old_ones"),
    ("[[forward]]", "name", "tests/suites/asking/forwarded.rs::the_log_is_forwarded_as_lines"),
    ("[[forward]]", "kind", "tests/suites/asking/forwarded.rs::the_log_is_forwarded_as_lines"),
    ("[[forward]]", "path", "tests/suites/asking/forwarded.rs::the_log_is_forwarded_as_lines"),
    ("[[forward]]", "url", "tests/suites/asking/forwarded.rs::the_log_is_forwarded_to_a_collector_as_configured"),
    ("[[forward]]", "ca_file", "tests/suites/asking/forwarded.rs::the_log_is_forwarded_to_a_collector_as_configured"),
    (
        "[[forward]]",
        "token_file",
        "tests/suites/asking/forwarded.rs::the_log_is_forwarded_to_a_collector_as_configured",
    ),
    (
        "[[notify]]",
        "name",
        "tests/suites/notify.rs::who_lets_themselves_in_waits_until_a_sink_has_accepted_the_notification",
    ),
    (
        "[[notify]]",
        "kind",
        "tests/suites/notify.rs::who_lets_themselves_in_waits_until_a_sink_has_accepted_the_notification",
    ),
    ("[[notify]]", "url", "tests/suites/notify.rs::mail_is_sent_as_configured"),
    (
        "[[notify]]",
        "url_file",
        "tests/suites/notify.rs::who_lets_themselves_in_waits_until_a_sink_has_accepted_the_notification",
    ),
    (
        "[[notify]]",
        "secret_file",
        "tests/suites/notify.rs::who_lets_themselves_in_waits_until_a_sink_has_accepted_the_notification",
    ),
    (
        "[[notify]]",
        "ca_file",
        "tests/suites/notify.rs::who_lets_themselves_in_waits_until_a_sink_has_accepted_the_notification",
    ),
    ("[[notify]]", "events", "broker/src/config/notify.rs::each_kind_is_made_of_what_it_takes"),
    ("[[notify]]", "classes", "broker/src/config/notify.rs::a_sink_can_be_told_of_some_classes_of_calls_alone"),
    ("[[notify]]", "from", "tests/suites/notify.rs::mail_is_sent_as_configured"),
    ("[[notify]]", "to", "tests/suites/notify.rs::mail_is_sent_as_configured"),
    ("[[notify]]", "user", "tests/suites/notify.rs::mail_is_sent_as_configured"),
    ("[[notify]]", "password_file", "tests/suites/notify.rs::mail_is_sent_as_configured"),
    ("[break_glass]", "review_within", "tests/suites/notify.rs::a_review_is_overdue_when_it_is_configured_to_be"),
    ("[custody]", "vault", "tests/suites/config_keys/elsewhere.rs::everything_can_lie_elsewhere"),
    ("[custody]", "plugins", "broker/tests/process/custody.rs::the_plugins_that_are_configured_run_and_no_others"),
    (
        "[custody]",
        "probe_every",
        "tests/suites/acceptance.rs::nodes_are_asked_as_often_as_configured_and_never_where_that_is_off",
    ),
    ("[custody]", "identity", "broker/tests/process/config.rs::the_vault_opens_by_what_is_configured"),
    ("[[openbao]]", "name", "tests/suites/config_keys/openbao.rs::the_server_is_reached_as_configured"),
    ("[[openbao]]", "address", "tests/suites/config_keys/openbao.rs::the_server_is_reached_as_configured"),
    ("[[openbao]]", "ca_file", "tests/suites/config_keys/openbao.rs::the_server_is_reached_as_configured"),
    ("[[openbao]]", "namespace", "tests/suites/config_keys/openbao.rs::the_server_is_reached_as_configured"),
    ("[[openbao]]", "deadline", "tests/suites/config_keys/openbao.rs::a_call_takes_no_longer_than_configured"),
    ("[[openbao]]", "auth", "tests/suites/config_keys/openbao.rs::each_way_to_log_in_is_configured"),
    ("[[openbao]]", "auth_mount", "tests/suites/config_keys/openbao.rs::each_way_to_log_in_is_configured"),
    ("[[openbao]]", "role", "tests/suites/config_keys/openbao.rs::each_way_to_log_in_is_configured"),
    ("[[openbao]]", "secret_file", "tests/suites/config_keys/openbao.rs::each_way_to_log_in_is_configured"),
    ("[[openbao]]", "certificate", "tests/suites/config_keys/openbao.rs::each_way_to_log_in_is_configured"),
    ("[[openbao]]", "key", "tests/suites/config_keys/openbao.rs::each_way_to_log_in_is_configured"),
    ("[session]", "life", "tests/suites/config_keys/session.rs::a_session_lives_as_long_as_configured"),
    ("[session]", "idle", "tests/suites/config_keys/session.rs::an_unused_session_ends"),
    ("[session]", "paste", "tests/suites/config_keys/plain.rs::paste_and_device_are_switched_on"),
    ("[session]", "device", "tests/suites/config_keys/plain.rs::paste_and_device_are_switched_on"),
    ("[session]", "minimum_client", "tests/suites/http.rs::a_client_that_is_too_old_is_told_which_version_to_get"),
    ("[certificates]", "default_ttl", "tests/suites/config_keys/certificates.rs::lives_are_as_configured"),
    ("[certificates]", "max_ttl", "tests/suites/config_keys/certificates.rs::lives_are_as_configured"),
    ("[certificates]", "backdate", "tests/suites/config_keys/certificates.rs::lives_are_as_configured"),
    ("[policies]", "folder", "tests/suites/config_keys/elsewhere.rs::everything_can_lie_elsewhere"),
    ("[clusters]", "folder", "tests/suites/config_keys/elsewhere.rs::everything_can_lie_elsewhere"),
    ("[limits]", "per_person", "tests/suites/http.rs::a_person_is_limited_too"),
    ("[limits]", "per_address", "tests/suites/http.rs::strangers_are_limited_by_address_and_people_are_not_for_it"),
    ("[limits]", "connections", "tests/suites/config_keys/limits.rs::one_connection_too_many_is_closed"),
    ("[limits]", "connections_per_address", "tests/suites/config_keys/limits.rs::one_connection_too_many_is_closed"),
    ("[limits]", "concurrent", "tests/suites/config_keys/limits.rs::one_request_too_many_is_turned_away"),
    ("[limits]", "request_time", "tests/suites/config_keys/limits.rs::a_request_that_takes_too_long_is_ended"),
    (
        "[limits]",
        "pending_per_address",
        "tests/suites/config_keys/limits.rs::one_login_too_many_of_an_address_is_turned_away",
    ),
    ("[limits]", "requests_per_hour", "tests/suites/config_keys/limits.rs::nobody_is_asked_more_often_than_configured"),
    (
        "[limits]",
        "unreviewed_self_service",
        "tests/suites/config_keys/limits.rs::nobody_lets_themselves_in_again_before_a_review_where_that_is_configured",
    ),
    ("[limits]", "pending_logins", "tests/suites/config_keys/limits.rs::one_login_too_many_is_turned_away"),
    ("[nodelog]", "tcp", "tests/suites/config_keys/nodelog.rs::lines_are_taken_where_and_from_whom_it_is_configured"),
    ("[nodelog]", "udp", "tests/suites/config_keys/nodelog.rs::lines_are_taken_where_and_from_whom_it_is_configured"),
    (
        "[nodelog]",
        "connections",
        "tests/suites/config_keys/nodelog.rs::nodes_take_no_more_connections_and_calls_than_configured",
    ),
    (
        "[nodelog]",
        "max_calls",
        "tests/suites/config_keys/nodelog.rs::nodes_take_no_more_connections_and_calls_than_configured",
    ),
    ("[nodelog]", "kept_for", "broker/src/config/nodelog.rs::calls_are_expected_to_be_kept_for_as_long_as_is_written"),
    ("[nodelog]", "heartbeat", "broker/src/config/nodelog.rs::the_heartbeat_is_as_written"),
    (
        "[[nodelog_source]]",
        "cluster",
        "tests/suites/config_keys/nodelog.rs::lines_are_taken_where_and_from_whom_it_is_configured",
    ),
    (
        "[[nodelog_source]]",
        "from",
        "tests/suites/config_keys/nodelog.rs::lines_are_taken_where_and_from_whom_it_is_configured",
    ),
    (
        "[[nodelog_source]]",
        "nodes",
        "tests/suites/config_keys/nodelog.rs::lines_are_taken_where_and_from_whom_it_is_configured",
    ),
    ("[log]", "format", "broker/tests/process/config.rs::lines_are_logged_as_configured"),
    ("[log]", "level", "broker/tests/process/config.rs::lines_are_logged_as_configured"),
    ("[[provider]]", "alias", "tests/suites/config_keys/plain.rs::the_browser_is_sent_as_configured"),
    ("[[provider]]", "issuer", "tests/suites/config_keys/plain.rs::the_browser_is_sent_as_configured"),
    ("[[provider]]", "client_id", "tests/suites/config_keys/plain.rs::the_browser_is_sent_as_configured"),
    ("[[provider]]", "client_secret_file", "tests/suites/config_keys/provider.rs::the_client_secret_is_sent"),
    ("[[provider]]", "ca_file", "tests/suites/config_keys/plain.rs::a_provider_with_a_ca_of_its_own_is_believed"),
    ("[[provider]]", "scopes", "tests/suites/config_keys/plain.rs::the_browser_is_sent_as_configured"),
    ("[[provider]]", "groups_claim", "tests/suites/config_keys/provider.rs::groups_are_found_where_configured"),
    ("[[provider]]", "groups_from", "tests/suites/config_keys/provider.rs::groups_are_found_where_configured"),
    ("[[provider]]", "user_claims", "tests/suites/config_keys/provider.rs::the_user_is_named_by_the_configured_claim"),
    ("[[provider]]", "human_claim", "tests/suites/pages.rs::case_15_two_accounts_of_one_human_are_one_approver"),
    ("[[provider]]", "recheck", "tests/suites/config_keys/provider.rs::groups_are_asked_again_as_configured"),
    ("[[provider]]", "acr_values", "tests/suites/config_keys/plain.rs::the_browser_is_sent_as_configured"),
    ("[[provider]]", "max_age", "tests/suites/config_keys/plain.rs::the_browser_is_sent_as_configured"),
    ("[[provider]]", "authorize_params", "tests/suites/config_keys/plain.rs::the_browser_is_sent_as_configured"),
    ("[[provider]]", "groups_file", "tests/suites/config_keys/provider.rs::groups_come_from_a_file"),
    (
        "clusters/<name>.toml",
        "endpoints",
        "tests/suites/config_keys/certificates.rs::a_clusters_file_says_what_clients_get",
    ),
    (
        "clusters/<name>.toml",
        "nodes",
        "tests/suites/config_keys/certificates.rs::a_clusters_file_says_what_clients_get",
    ),
    ("clusters/<name>.toml", "ca", "tests/suites/config_keys/certificates.rs::a_clusters_file_says_what_clients_get"),
    (
        "clusters/<name>.toml",
        "labels",
        "tests/suites/config_keys/certificates.rs::a_clusters_file_says_what_clients_get",
    ),
];

#[test]
fn every_key_of_the_reference_has_a_test() {
    let page = std::fs::read_to_string(named::root().join("docs/config.md")).unwrap();
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## `") {
            section = heading.trim_end_matches('`').to_owned();
        } else if let Some((key, _)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) {
            keys.push((section.clone(), key.to_owned()));
        }
    }
    assert!(keys.len() > 40, "the reference was not read: {keys:?}");
    let listed: Vec<_> = TESTED.iter().map(|(section, key, _)| ((*section).to_owned(), (*key).to_owned())).collect();
    for (section, key) in &keys {
        assert!(listed.contains(&(section.clone(), key.clone())), "`{key}` of `{section}` has no test of its effect");
    }
    for known in &listed {
        assert!(keys.contains(known), "{known:?} is listed here and is no key");
    }
    named::assert_tests(TESTED.iter().map(|(_, _, test)| *test));
}
