//! Every flag that `--help` shows has a test of its effect, listed here.

use std::collections::BTreeSet;
use std::process::Command;

use crate::world::World;

/// Command, flag, and the test that goes red when the flag does nothing.
const TESTED: [(&str, &str, &str); 133] = [
    ("", "--broker", "usage::the_broker_is_found_and_said_where"),
    ("", "--ca", "trust::only_the_named_ca_is_believed"),
    ("", "--keyring", "login::the_keyring_is_left_alone_when_off"),
    ("", "--output", "usage::the_version_in_words_and_in_json"),
    ("login", "--provider", "login::what_the_broker_must_know_is_in_the_address"),
    ("login", "--fresh", "login::what_the_broker_must_know_is_in_the_address"),
    ("login", "--acr", "login::what_the_broker_must_know_is_in_the_address"),
    ("login", "--no-browser", "login::without_a_browser_the_code_is_pasted"),
    ("login", "--device", "login::on_a_machine_without_browser_a_device_login_works"),
    ("status", "--talosconfig", "usage::status_in_json_names_the_contexts"),
    ("status", "--verify", "receipts::a_pending_receipt_is_kept_and_completed_later"),
    ("clusters", "--label", "audit::clusters_say_what_and_why_not"),
    ("talosconfig", "--all", "talosconfig::many_clusters_at_once"),
    ("talosconfig", "--label", "talosconfig::many_clusters_at_once"),
    ("talosconfig", "--role", "talosconfig::what_is_asked_reaches_the_broker"),
    ("talosconfig", "--ttl", "talosconfig::what_is_asked_reaches_the_broker"),
    ("talosconfig", "--reason", "talosconfig::what_is_asked_reaches_the_broker"),
    ("talosconfig", "--context", "talosconfig::a_name_a_file_and_the_current_context_can_be_chosen"),
    ("talosconfig", "--talosconfig", "talosconfig::a_name_a_file_and_the_current_context_can_be_chosen"),
    ("talosconfig", "--set-current", "talosconfig::a_name_a_file_and_the_current_context_can_be_chosen"),
    ("talosconfig", "--replace", "talosconfig::somebody_elses_context_is_kept_unless_replaced"),
    ("talosconfig", "--dry-run", "talosconfig::a_dry_run_asks_for_nothing_and_writes_nothing"),
    ("exec", "--role", "exec::a_command_gets_a_talosconfig_of_its_own_that_is_gone_afterwards"),
    ("exec", "--ttl", "exec::a_command_gets_a_talosconfig_of_its_own_that_is_gone_afterwards"),
    ("exec", "--reason", "exec::a_command_gets_a_talosconfig_of_its_own_that_is_gone_afterwards"),
    ("exec", "--talosconfig", "exec::what_cannot_be_meant_is_refused"),
    ("agent", "--once", "agent::what_nears_its_end_is_renewed_and_the_rest_is_left"),
    ("lock", "--issuer", "lock::what_is_locked_is_said_and_what_the_lock_does_not_end"),
    ("lock", "--subject", "lock::what_is_locked_is_said_and_what_the_lock_does_not_end"),
    ("lock", "--for", "lock::what_is_locked_is_said_and_what_the_lock_does_not_end"),
    ("lock", "--reason", "lock::what_is_locked_is_said_and_what_the_lock_does_not_end"),
    ("lock", "--yes", "lock::everything_is_locked_only_by_whoever_is_sure"),
    ("unlock", "--issuer", "lock::locks_are_listed_and_lifted_by_what_they_are_on_or_by_id"),
    ("unlock", "--subject", "lock::locks_are_listed_and_lifted_by_what_they_are_on_or_by_id"),
    ("unlock", "--reason", "lock::locks_are_listed_and_lifted_by_what_they_are_on_or_by_id"),
    ("unlock", "--confirm", "lock::locks_are_listed_and_lifted_by_what_they_are_on_or_by_id"),
    ("locks", "--ended", "lock::locks_are_listed_and_lifted_by_what_they_are_on_or_by_id"),
    ("audit log", "--person", "audit::filters_reach_the_broker"),
    ("audit log", "--cluster", "audit::filters_reach_the_broker"),
    ("audit log", "--kind", "audit::filters_reach_the_broker"),
    ("audit log", "--grant", "audit::filters_reach_the_broker"),
    ("audit log", "--since", "audit::filters_reach_the_broker"),
    ("audit log", "--until", "audit::filters_reach_the_broker"),
    ("audit log", "--limit", "audit::filters_reach_the_broker"),
    ("audit log", "--all", "audit::the_log_is_read_page_by_page"),
    ("audit log", "--follow", "audit::the_log_is_followed_over_a_broken_connection_until_ctrl_c"),
    ("audit log", "--utc", "audit::times_are_shown_in_the_zone_of_this_machine"),
    ("audit who", "--node", "audit::filters_of_calls_reach_the_broker"),
    ("audit who", "--cluster", "audit::filters_of_calls_reach_the_broker"),
    ("audit who", "--since", "audit::filters_of_calls_reach_the_broker"),
    ("audit who", "--until", "audit::filters_of_calls_reach_the_broker"),
    ("audit who", "--method", "audit::filters_of_calls_reach_the_broker"),
    ("audit who", "--limit", "audit::filters_of_calls_reach_the_broker"),
    ("audit who", "--utc", "audit::who_touched_a_node_is_told_by_its_log_and_else_who_could_have"),
    ("audit what", "--user", "audit::all_of_a_person_is_told_in_its_order"),
    ("audit what", "--since", "audit::all_of_a_person_is_told_in_its_order"),
    ("audit what", "--until", "audit::all_of_a_person_is_told_in_its_order"),
    ("audit what", "--limit", "audit::all_of_a_person_is_told_in_its_order"),
    ("audit what", "--utc", "audit::all_of_a_person_is_told_in_its_order"),
    ("audit show", "--utc", "audit::a_story_is_told_as_a_tree"),
    ("audit export", "--format", "audit::entries_are_exported_as_lines"),
    ("audit export", "--to", "audit::entries_are_exported_as_lines"),
    ("audit export", "--since", "audit::entries_are_exported_as_lines"),
    ("audit export", "--person", "audit::entries_are_exported_as_lines"),
    ("audit export", "--cluster", "audit::entries_are_exported_as_lines"),
    ("audit export", "--kind", "audit::entries_are_exported_as_lines"),
    ("audit export", "--grant", "audit::entries_are_exported_as_lines"),
    ("audit export", "--until", "audit::entries_are_exported_as_lines"),
    ("audit drop", "--person", "audit::bodies_are_dropped_by_two"),
    ("audit drop", "--before", "audit::bodies_are_dropped_by_two"),
    ("audit drop", "--reason", "audit::bodies_are_dropped_by_two"),
    ("audit drop", "--approve", "audit::bodies_are_dropped_by_two"),
    ("audit drop", "--show", "audit::bodies_are_dropped_by_two"),
    ("audit drop", "--yes", "audit::bodies_are_dropped_by_two"),
    ("audit drop", "--utc", "audit::bodies_are_dropped_by_two"),
    ("audit verify", "--from", "receipts::a_log_is_verified_without_any_broker"),
    ("audit verify", "--checkpoint", "receipts::a_log_is_verified_without_any_broker"),
    ("audit verify", "--pubkey", "receipts::a_log_is_verified_without_any_broker"),
    ("audit verify", "--token-file", "receipts::a_log_of_tiles_is_verified_from_its_server"),
    ("audit verify", "--keep", "receipts::the_brokers_log_is_verified_and_kept"),
    ("audit prove", "--to", "receipts::a_proof_is_made_for_someone_else_and_checked_by_them"),
    ("audit check-proof", "--pubkey", "receipts::a_proof_is_made_for_someone_else_and_checked_by_them"),
    ("audit check-proof", "--utc", "receipts::a_proof_is_made_for_someone_else_and_checked_by_them"),
    ("audit unexplained", "--cluster", "audit::filters_of_calls_reach_the_broker"),
    ("audit unexplained", "--node", "audit::filters_of_calls_reach_the_broker"),
    ("audit unexplained", "--user", "audit::filters_of_calls_reach_the_broker"),
    ("audit unexplained", "--method", "audit::filters_of_calls_reach_the_broker"),
    ("audit unexplained", "--class", "audit::filters_of_calls_reach_the_broker"),
    ("audit unexplained", "--since", "audit::filters_of_calls_reach_the_broker"),
    ("audit unexplained", "--until", "audit::filters_of_calls_reach_the_broker"),
    ("audit unexplained", "--limit", "audit::filters_of_calls_reach_the_broker"),
    ("audit unexplained", "--utc", "audit::times_are_shown_in_the_zone_of_this_machine"),
    ("break-glass request", "--role", "break_glass::what_is_asked_for_reaches_the_broker"),
    ("break-glass request", "--ttl", "break_glass::what_is_asked_for_reaches_the_broker"),
    ("break-glass request", "--reason", "break_glass::what_is_asked_for_reaches_the_broker"),
    ("break-glass request", "--node", "break_glass::what_is_asked_for_reaches_the_broker"),
    ("break-glass request", "--ticket", "break_glass::what_is_asked_for_reaches_the_broker"),
    ("break-glass request", "--self-service", "break_glass::what_is_asked_for_reaches_the_broker"),
    ("break-glass request", "--wait", "break_glass::what_was_approved_is_written_where_it_was_said"),
    ("break-glass request", "--context", "break_glass::what_was_approved_is_written_where_it_was_said"),
    ("break-glass request", "--talosconfig", "break_glass::what_was_approved_is_written_where_it_was_said"),
    ("break-glass request", "--set-current", "break_glass::what_was_approved_is_written_where_it_was_said"),
    ("break-glass request", "--replace", "break_glass::what_was_approved_is_written_where_it_was_said"),
    ("break-glass list", "--cluster", "break_glass::a_list_is_of_what_was_asked_for"),
    ("break-glass list", "--state", "break_glass::a_list_is_of_what_was_asked_for"),
    ("break-glass list", "--mine", "break_glass::a_list_is_of_what_was_asked_for"),
    ("break-glass list", "--limit", "break_glass::a_list_is_of_what_was_asked_for"),
    ("break-glass approve", "--comment", "break_glass::what_is_said_with_a_decision_goes_with_it"),
    ("break-glass approve", "--yes", "break_glass::nothing_is_approved_that_nobody_looked_at"),
    ("break-glass deny", "--comment", "break_glass::what_is_said_with_a_decision_goes_with_it"),
    ("break-glass deny", "--yes", "break_glass::nothing_is_denied_by_a_slip_of_the_hand"),
    ("break-glass cancel", "--comment", "break_glass::what_is_said_with_a_decision_goes_with_it"),
    ("break-glass revoke", "--comment", "break_glass::what_is_said_with_a_decision_goes_with_it"),
    ("break-glass use", "--context", "break_glass::what_was_approved_is_written_where_it_was_said"),
    ("break-glass use", "--talosconfig", "break_glass::what_was_approved_is_written_where_it_was_said"),
    ("break-glass use", "--set-current", "break_glass::what_was_approved_is_written_where_it_was_said"),
    ("break-glass use", "--replace", "break_glass::what_was_approved_is_written_where_it_was_said"),
    ("break-glass review", "--as", "break_glass::what_is_said_with_a_decision_goes_with_it"),
    ("break-glass review", "--note", "break_glass::what_is_said_with_a_decision_goes_with_it"),
    ("kit open", "--share", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit open", "--identity", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit open", "--name", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit open", "--reason", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit open", "--role", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit open", "--ttl", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit open", "--talosconfig", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit open", "--records", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit prove", "--share", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit prove", "--identity", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit prove", "--challenge", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit report", "--records", "kit::a_sealed_share_is_opened_by_its_holders_key_and_files_go_where_they_are_named"),
    ("kit report", "--label", "kit::a_record_is_brought_to_the_broker_as_what_it_was"),
    ("kit report", "--note", "kit::a_record_is_brought_to_the_broker_as_what_it_was"),
];

/// Every command of the binary.
const COMMANDS: [&str; 43] = [
    "",
    "login",
    "logout",
    "status",
    "clusters",
    "talosconfig",
    "exec",
    "agent",
    "agent install",
    "agent uninstall",
    "doctor",
    "break-glass",
    "break-glass request",
    "break-glass list",
    "break-glass show",
    "break-glass approve",
    "break-glass deny",
    "break-glass use",
    "break-glass cancel",
    "break-glass revoke",
    "break-glass review",
    "break-glass report",
    "lock",
    "unlock",
    "locks",
    "audit",
    "audit log",
    "audit who",
    "audit what",
    "audit show",
    "audit export",
    "audit drop",
    "audit verify",
    "audit prove",
    "audit check-proof",
    "audit unexplained",
    "kit",
    "kit show",
    "kit open",
    "kit prove",
    "kit report",
    "completions",
    "version",
];

#[test]
fn the_list_is_what_help_shows() {
    let world = World::new();
    let mut shown: BTreeSet<(&str, String)> = BTreeSet::new();
    for command in COMMANDS {
        let arguments: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).chain(["--help"]).collect();
        let help = world.ichor(&arguments).ok().out;
        let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let flags = lines.filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")));
        shown.extend(flags.map(|flag| (command, flag.to_owned())));
    }
    let listed = |command: &str, flag: &str| TESTED.iter().any(|(of, name, _)| (*of, *name) == (command, flag));
    for (command, flag) in shown.iter().filter(|(_, flag)| !["--help", "--version"].contains(&flag.as_str())) {
        // `doctor` takes the flags of every request for a certificate, through the very same code as `exec`.
        let shared = *command == "doctor" && listed("exec", flag);
        assert!(listed(command, flag) || listed("", flag) || shared, "`ichor {command} {flag}` has no test");
    }
    for (command, flag, _) in TESTED {
        assert!(shown.contains(&(command, flag.to_owned())), "`ichor {command} {flag}` is listed and not there");
    }
}

#[test]
fn the_commands_are_those_that_help_shows() {
    let world = World::new();
    let mut shown = BTreeSet::from([String::new()]);
    let mut left = vec![String::new()];
    while let Some(command) = left.pop() {
        let arguments: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).chain(["--help"]).collect();
        let help = world.ichor(&arguments).ok().out;
        let Some((_, listed)) = help.split_once("\nCommands:\n") else { continue };
        let names = listed.lines().take_while(|line| !line.is_empty()).filter_map(|line| {
            // what is deeper is a description that goes on
            line.strip_prefix("  ").filter(|name| !name.starts_with(' ')).and_then(|name| name.split(' ').next())
        });
        for name in names.filter(|name| *name != "help") {
            let whole = format!("{command} {name}").trim_start().to_owned();
            shown.insert(whole.clone());
            left.push(whole);
        }
    }
    assert_eq!(shown, COMMANDS.map(str::to_owned).into());
}

#[test]
fn the_tests_in_the_list_exist() {
    // This very binary knows what tests it has.
    let list = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let tests: BTreeSet<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    for (command, flag, test) in TESTED {
        assert!(tests.contains(test), "the test of `ichor {command} {flag}` is gone: {test}");
    }
}
