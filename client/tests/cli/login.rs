//! `login`, `logout`, `status`.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;

use ichor_client::cli::terminal::Terminal;
use ichor_client::cli::{Surroundings, run};
use ichor_client::tls::Pin;
use ichor_client::{Clock, Environment};
use ichor_standins::authority::Authority;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::fake::{Fake, Tamper};
use crate::world::{World, address, get, mode};

#[test]
fn a_person_logs_in_and_out() {
    let world = World::new();
    let mut ran = world.log_in(&[]).ok();
    let number = ran.err.split_once("number:  ").unwrap().1.split('\n').next().unwrap().to_owned();
    let groups: Vec<&str> = number.split(' ').collect();
    assert!(groups.len() == 4 && groups.iter().all(|group| group.len() == 4), "{number}");
    ran.err = ran.err.replace(&number, "1234 5678 9012 3456");
    let file = ran.out.split_once("kept in ").unwrap().1.split(' ').next().unwrap().to_owned();
    assert_eq!(mode(&world.path(file.strip_prefix("~/").unwrap())), 0o600);
    ran.out = ran.out.replace(&file, "~/.local/state/ichor/sessions/<broker>.json");
    insta::assert_snapshot!("login", ran.transcript());
    insta::assert_snapshot!("status", world.ichor(&["status"]).transcript());
    insta::assert_snapshot!("logout", world.ichor(&["logout"]).transcript());
    assert!(world.fake.with(|state| state.session_ended));
    insta::assert_snapshot!("status_logged_out", world.ichor(&["status"]).transcript());
    insta::assert_snapshot!("logout_again", world.ichor(&["logout"]).transcript());
    world.fake.assert_kept();
}

#[test]
fn a_logout_names_the_contexts_that_outlive_it() {
    let world = World::logged_in();
    world.ichor(&["talosconfig", "prod", "staging"]).ok();
    world.ichor(&["talosconfig", "prod", "--context", "fresh", "--talosconfig", "team.yaml"]).ok();
    world.ichor(&["talosconfig", "prod", "--context", "gone", "--talosconfig", "gone.yaml"]).ok();
    std::fs::remove_file(world.path("gone.yaml")).unwrap();
    insta::assert_snapshot!("logout_outlived", world.ichor(&["logout"]).transcript());
    // It holds however often one logs out.
    let again = world.ichor(&["logout", "-o", "json"]).ok().json();
    assert_eq!(again["ended"], false);
    assert_eq!(again["still_valid"].as_array().unwrap().len(), 3);
    assert_eq!(again["still_valid"][1]["remove"], "talosctl config remove staging");
}

#[test]
fn what_the_broker_must_know_is_in_the_address() {
    let world = World::new();
    let told = world.log_in(&["--provider", "corp", "--fresh", "--acr", "mfa"]).ok().err;
    assert!(told.contains("the provider told no acr") && told.contains("whether the provider knows `mfa`"), "{told}");
    let query = world.fake.with(|state| state.authorizations.remove(0));
    for (name, value) in [("provider", "corp"), ("max_age", "0"), ("acr_values", "mfa")] {
        assert_eq!(query.get(name).map(String::as_str), Some(value));
    }
    assert!(query["redirect_uri"].starts_with("http://127.0.0.1:") && query["redirect_uri"].ends_with("/callback"));
    assert!(query.contains_key("client_host") && query["dpop_jkt"].len() == 43);
    let told = world.log_in(&[]).ok().err;
    assert!(!told.contains("acr"), "none was asked for: {told}");
    let query = world.fake.with(|state| state.authorizations.remove(0));
    for name in ["provider", "max_age", "acr_values"] {
        assert!(!query.contains_key(name), "{name}");
    }
    world.fake.assert_kept();
}

#[test]
fn an_answer_that_is_not_the_brokers_is_refused() {
    for (tamper, says) in [
        (Tamper::WrongIssuer, "does not come from this broker"),
        (Tamper::NoIssuer, "does not come from this broker"),
        (Tamper::Denied, "you said no"),
    ] {
        let world = World::new();
        world.fake.with(|state| state.tamper = Some(tamper));
        let ran = world.log_in(&[]);
        assert_eq!(ran.code, 1, "{tamper:?}");
        assert!(ran.err.contains(says), "{tamper:?}: {}", ran.err);
        assert!(!world.fake.with(|state| state.seen.iter().any(|seen| seen == "POST /token")), "{tamper:?}");
    }
}

#[test]
fn a_stranger_at_the_port_changes_nothing() {
    let world = World::new();
    world.fake.with(|state| state.tamper = Some(Tamper::WrongState));
    let mut child = world.command(&["login"]).spawn().unwrap();
    let (url, _) = address(&mut child);
    // A connection that says nothing, a page that guesses ports, an answer with another state.
    let redirect = get(&url).0.unwrap();
    let port = redirect.split('/').nth(2).unwrap();
    let silent = std::net::TcpStream::connect(port).unwrap();
    assert!(get(&format!("http://{port}/favicon.ico")).1.contains("not the answer"));
    assert!(get(&redirect).1.contains("not the answer"));
    world.fake.with(|state| state.tamper = None);
    assert!(world.browse(&url).contains("close this window"));
    drop(silent);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn without_a_browser_the_code_is_pasted() {
    let world = World::new();
    let refused = world.ichor(&["login", "--no-browser"]);
    assert!(refused.err.contains("does not allow `--no-browser`"), "{}", refused.err);
    assert!(refused.err.contains("`paste = true` under [session]"), "{}", refused.err);
    world.fake.with(|state| state.metadata.insert("ichor_paste_redirect_uri".into(), "/paste".into()));
    let mut child = world.command(&["login", "--no-browser"]).stdin(Stdio::piped()).spawn().unwrap();
    let (url, _) = address(&mut child);
    let back = get(&url).0.unwrap();
    assert!(back.contains("/paste?code=the-code"), "{back}");
    child.stdin.take().unwrap().write_all(b" the-code\n").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    world.fake.assert_kept();
}

#[test]
fn on_a_machine_without_browser_a_device_login_works() {
    let world = World::new();
    let refused = world.ichor(&["login", "--device"]).err;
    assert!(refused.contains("does not allow `--device`") && refused.contains("`device = true` under [session]"));
    world.fake.with(|state| {
        state.metadata.insert("device_authorization_endpoint".into(), "/device".into());
        state.pending = 1;
    });
    let ran = world.ichor(&["login", "--device"]).ok();
    assert!(ran.err.contains("type the code  WXYZ-1234"), "{}", ran.err);
    world.fake.assert_kept();
}

#[test]
fn nobody_is_sent_to_another_host_in_the_brokers_name() {
    let world = World::new();
    world.fake.with(|state| state.metadata.insert("device_authorization_endpoint".into(), "/device".into()).is_none());
    let elsewhere = world.fake.url.replace("127.0.0.1", "127.0.0.2");
    for page in ["file:///etc/passwd", "https://ichor.example/device", "javascript:alert(1)", elsewhere.as_str()] {
        world.fake.with(|state| state.verification_uri = Some(page.into()));
        let ran = world.ichor(&["login", "--device"]);
        assert_eq!(ran.code, 5, "{page}: {}", ran.transcript());
        assert!(ran.err.contains("names another host") && !ran.err.contains("type the code"), "{page}: {}", ran.err);
    }
    for (name, page) in [
        ("authorization_endpoint", "https://ichor.example/authorize"),
        ("authorization_endpoint", "file:///etc/passwd"),
        ("device_authorization_endpoint", "https://ichor.example/device"),
        ("ichor_paste_redirect_uri", "https://ichor.example/paste"),
    ] {
        world.fake.with(|state| {
            state.metadata.insert("ichor_paste_redirect_uri".into(), "/paste".into());
            state.metadata.insert("authorization_endpoint".into(), "/authorize".into());
            state.metadata.insert(name.into(), page.into());
        });
        // It would read a code from nobody, and end.
        let ran = world.ichor(&["login", "--no-browser"]);
        assert!(ran.code == 5 && ran.err.contains("names another host"), "{page}: {}", ran.transcript());
        world.fake.with(|state| state.metadata.remove(name));
    }
}

/// The file may have come with a stranger's repository, and its broker may relay the login of another one.
#[test]
fn a_broker_that_only_a_project_file_names_is_agreed_to_first() {
    let mut world = World::new();
    world.unset("ICHOR_BROKER");
    world.write(".ichor.toml", &format!("broker = \"{}\"\n", world.fake.url));
    insta::assert_snapshot!("login_unknown_project", world.ichor(&["login"]).transcript());
    assert!(world.fake.with(|state| state.seen.is_empty()), "nothing was sent");
    let url = world.fake.url.clone();
    world.log_in(&["--broker", &url]).ok();
    // Known from here on, logged in or not.
    world.ichor(&["logout"]).ok();
    world.log_in(&[]).ok();
    // Another one in its place is not.
    world.write(".ichor.toml", &format!("broker = \"{}\"\n", Fake::start().url));
    assert!(world.ichor(&["login"]).err.contains("never logged in"));
    std::fs::set_permissions(world.path(".ichor.toml"), PermissionsExt::from_mode(0o666)).unwrap();
    let ran = world.ichor(&["login"]);
    assert!(ran.code == 2 && ran.err.contains("can be written by others"), "{}", ran.transcript());
}

/// Such a file would have the session sent to whoever stands between.
#[test]
fn a_project_file_does_not_choose_whom_a_known_broker_is_believed_to_be() {
    let world = World::new();
    let (ours, theirs) = (Authority::new("corp").unwrap(), Authority::new("corp").unwrap());
    for (name, ca) in [("ours.pem", &ours), ("same.pem", &ours), ("theirs.pem", &theirs)] {
        world.write(name, &ca.certificate());
    }
    world.log_in(&["--ca", "ours.pem"]).ok();
    let names = |ca: &str| world.write(".ichor.toml", &format!("broker = \"{}\"\n{ca}\n", world.fake.url));
    world.fake.with(|state| state.seen.clear());
    for ca in [format!("ca_pin = \"sha256:{}\"", "ab".repeat(32)), "ca_file = \"theirs.pem\"".to_owned()] {
        names(&ca);
        for command in [&["clusters"][..], &["status"], &["talosconfig", "prod"], &["audit", "log"]] {
            let ran = world.ichor(command);
            assert_eq!(ran.code, 2, "{}", ran.transcript());
            assert!(ran.err.contains("with which you have never logged in there"), "{}", ran.transcript());
        }
        // Also where the person names the broker: they did not name the CA.
        let url = world.fake.url.clone();
        let ran = world.ichor(&["--broker", &url, "login"]);
        assert!(ran.code == 2 && ran.err.contains("with the CA that"), "{}", ran.transcript());
        assert!(world.fake.with(|state| state.seen.is_empty()), "nothing was sent");
    }
    world.ichor(&["clusters", "--ca", "ours.pem"]).ok();
    names("ca_file = \"same.pem\"");
    world.ichor(&["clusters"]).ok();
    // What the person chose themselves holds, and the older choice stays one.
    world.log_in(&["--ca", "theirs.pem"]).ok();
    for ca in ["ca_file = \"theirs.pem\"", "ca_file = \"same.pem\"", ""] {
        names(ca);
        world.ichor(&["clusters"]).ok();
    }
    // A file that changed is another CA.
    names("ca_file = \"same.pem\"");
    world.write("same.pem", &Authority::new("corp").unwrap().certificate());
    assert_eq!(world.ichor(&["clusters"]).code, 2);
}

/// This world, with someone at the terminal who types this at the question and is told into `told`.
fn seated(world: &World, typed: Option<&'static str>, told: Box<dyn Write + Send>) -> Surroundings {
    Surroundings {
        environment: Environment { working_dir: world.path(""), ..Environment::isolated(&world.path("")) },
        clock: Clock::system(),
        terminal: Terminal::new(Box::new(std::io::sink()), told, true, false),
        open: Arc::new(|_| ()),
        ask: Some(Box::new(move || typed.map(str::to_owned).ok_or(std::io::ErrorKind::UnexpectedEof.into()))),
        host: "here".into(),
    }
}

/// Whether `ichor login` asked for something of the broker after this was typed at the question.
fn went_on(world: &World, typed: Option<&'static str>) -> bool {
    world.fake.with(|state| state.seen.clear());
    // Whoever agrees gets as far as this refusal.
    run(["ichor", "login", "--device"].map(Into::into), seated(world, typed, Box::new(std::io::sink())));
    world.fake.with(|state| !state.seen.is_empty())
}

/// Its operator tells it with openssl, and it is the value of `ca_pin`.
#[test]
fn the_one_ca_that_a_project_names_is_shown_by_its_pin() {
    let world = World::new();
    let ca = Authority::new("corp").unwrap().certificate();
    world.write("ca.pem", &ca);
    world.write(".ichor.toml", &format!("broker = \"{}\"\nca_file = \"ca.pem\"\n", world.fake.url));
    let told = std::fs::File::create(world.path("told")).unwrap();
    run(["ichor", "login"].map(Into::into), seated(&world, Some("n"), Box::new(told)));
    let pin = Pin::of(&CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let told = world.text("told");
    assert!(told.contains(&format!("Compare with whoever runs the broker:  {pin}\n")), "{told}");
}

#[test]
fn who_sits_at_a_terminal_is_asked_before_anything_is_sent() {
    let mut world = World::new();
    world.write(".ichor.toml", &format!("broker = \"{}\"\n", world.fake.url));
    for typed in ["", "y", "Y ", "yes"] {
        assert!(went_on(&world, Some(typed)), "`{typed}`");
    }
    for typed in [Some("n"), Some("what?"), None] {
        assert!(!went_on(&world, typed), "{typed:?}");
    }
    // A known broker that is to be believed for another reason takes more than an Enter.
    let state = world.path("state").display().to_string();
    world.set("XDG_STATE_HOME", &state);
    let url = world.fake.url.clone();
    world.log_in(&["--broker", &url]).ok();
    let pin = "ab".repeat(32);
    world.write(".ichor.toml", &format!("broker = \"{url}\"\nca_pin = \"sha256:{pin}\"\n"));
    assert!(went_on(&world, Some("y")));
    for typed in [Some(""), Some("n"), None] {
        assert!(!went_on(&world, typed), "{typed:?}");
    }
}

#[test]
fn a_provider_is_named_where_there_are_several() {
    let world = World::new();
    world.fake.with(|state| state.metadata.insert("ichor_providers".into(), serde_json::json!(["corp", "guests"])));
    insta::assert_snapshot!("login_which_provider", world.ichor(&["login"]).transcript());
    insta::assert_snapshot!("login_no_such_provider", world.ichor(&["login", "--provider", "corb"]).transcript());
}

#[test]
fn a_broker_that_is_not_the_one_named_is_refused() {
    let world = World::new();
    world.fake.with(|state| state.metadata.insert("issuer".into(), "https://evil.example".into()));
    let ran = world.ichor(&["login"]);
    assert_eq!(ran.code, 5);
    assert!(ran.err.contains("it calls itself `https://evil.example`"), "{}", ran.err);
    world.fake.with(|state| {
        state.metadata.clear();
        state.metadata.insert("token_endpoint".into(), "https://evil.example/token".into());
    });
    assert!(world.ichor(&["login"]).err.contains("names another host"));
    world.fake.with(|state| {
        state.metadata.clear();
        state.metadata.insert("ichor_minimum_client_version".into(), "99.0.0".into());
    });
    assert!(world.ichor(&["login"]).err.contains("install ichor 99.0.0"));
}

#[test]
fn a_session_that_the_broker_ended_says_what_to_do() {
    let world = World::logged_in();
    world.fake.with(|state| state.session_ended = true);
    insta::assert_snapshot!("session_ended", world.ichor(&["clusters"]).transcript());
}

#[test]
fn the_keyring_is_left_alone_when_off() {
    let mut world = World::new();
    world.unset("ICHOR_KEYRING");
    let ran = world.log_in(&["--keyring", "off"]).ok();
    assert!(ran.out.contains("no keyring is used"), "{}", ran.out);
    world.ichor(&["--keyring=off", "status"]).ok();
}

#[test]
fn the_browser_is_the_persons_choice() {
    let mut world = World::new();
    nix::unistd::mkfifo(&world.path("opened"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["xdg-open", "mine"] {
        world.script(name, &format!("echo \"{name} $*\" > \"$HOME/opened\""));
    }
    world.script("fails", "exit 1");
    // A login whose browser never opens must fail the test and not hang it.
    let opened = |world: &World| {
        let (said, heard) = std::sync::mpsc::channel();
        let pipe = world.path("opened");
        std::thread::spawn(move || said.send(std::fs::read_to_string(pipe)));
        let mut child = world.command(&["login"]).spawn().unwrap();
        let (url, _) = address(&mut child);
        let opened = heard.recv_timeout(std::time::Duration::from_secs(10));
        // Not before: a login that is done no longer opens anything.
        world.browse(&url);
        assert!(child.wait_with_output().unwrap().status.success());
        opened.expect("no browser was opened").unwrap()
    };
    let by_default = opened(&world);
    assert!(by_default.starts_with("xdg-open http://"), "{by_default}");
    world.set("BROWSER", "no-such-program:fails:mine --new-window %s:xdg-open");
    let chosen = opened(&world);
    assert!(chosen.starts_with("mine --new-window http://") && chosen.contains("/authorize?"), "{chosen}");
    world.set("BROWSER", "mine");
    assert!(opened(&world).starts_with("mine http://"));
}
