//! The demo as a newcomer starts it.

use std::process::Command;

#[test]
fn the_whole_story_goes_as_it_is_told() {
    let no_talosctl = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .arg("--once")
        .env_clear()
        .env("PATH", no_talosctl.path())
        .env("TMPDIR", no_talosctl.path())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "there is no talosctl",
        "os:reader for 60 min",
        "os:operator for 60 min",
        "os:admin for 15 min",
        "the grant is in the audit",
        "approved, over the hash of exactly what the page said",
        "os:admin for 30 min",
        "used once, reviewed",
        "its log names who opened the kit",
    ] {
        assert!(told.contains(line), "`{line}` is not in\n{told}");
    }
    assert!(!told.contains('\u{1b}'), "colours in a pipe");
    assert_eq!(std::fs::read_dir(no_talosctl.path()).unwrap().count(), 0, "something was left behind");
}
