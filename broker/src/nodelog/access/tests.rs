use proptest::prelude::*;

use super::*;

/// A line as seen in the log of a real machined behind a real apid (v1.13.9).
const REAL: &str = "machined 2026/11/22 16:01:11 OK [/machine.MachineService/Version] 93.239µs unary Success \
    (:authority=localhost;content-type=application/grpc+proxy>proto;grpc-accept-encoding=gzip;\
    talos-role=grant:0193533d-9c00-7000-8000-000000000001,os:reader,user:alice@example.com;user-agent=grpc-go/1.82.1)";

/// A line as the logging package of v1.14.0 prints it for a call over a Unix socket, with the annotations of its authorizers; the
/// content type is the one with which apid forwards.
const REAL_1_14: &str = "machined 2026/11/28 19:51:12 OK [/machine.MachineService/Version] 26.77µs unary Success \
    {authorized based on PID (2113) match with service \"apid\" (allowed roles [os:admin os:operator os:reader os:etcd:backup]); \
    authorized ([os:admin os:operator os:reader] includes [grant:0193533d-9c00-7000-8000-000000000001 os:reader user:alice@example.com])} \
    (:authority=localhost;content-type=application/grpc+proxy>proto;peer=@;\
    talos-role=grant:0193533d-9c00-7000-8000-000000000001,os:reader,user:alice@example.com;user-agent=grpc-go/1.82.1)";

fn access(message: &str) -> Access {
    match read(NodeService::Machined, message) {
        Message::Call(access) => access,
        other => panic!("not a call: {message}: {other:?}"),
    }
}

fn sign_of(message: &str) -> Option<Sign> {
    access(message).sign
}

#[test]
fn a_real_line() {
    let expected = Access {
        printed: "2026-11-22T16:01:11Z".parse().ok(),
        is_exact: false,
        code: Some(0),
        method: "/machine.MachineService/Version".into(),
        duration: SignedDuration::from_nanos(93_239),
        roles: vec!["os:reader".into()],
        user: Some("alice@example.com".into()),
        grant: Some("0193533d-9c00-7000-8000-000000000001".into()),
        ..Access::default()
    };
    assert_eq!(access(REAL), expected);
    // with the stamp that a node's own log writer puts in front
    let stamped = Access { printed: "2026-11-22T16:01:11.123456Z".parse().ok(), is_exact: true, ..expected };
    assert_eq!(access(&format!("2026/11/22 16:01:11.123456 {REAL}")), stamped);
    let newer = Access {
        printed: "2026-11-28T19:51:12Z".parse().ok(),
        is_exact: false,
        duration: SignedDuration::from_nanos(26_770),
        ..stamped
    };
    assert_eq!(access(REAL_1_14), newer, "the end of a Unix socket is nobody's address");
    let told = access(&REAL_1_14.replace("peer=@", "peer=10.0.0.9:4711"));
    assert_eq!((told.peer.as_deref(), told.sign), (Some("10.0.0.9:4711"), None));
}

#[test]
fn errors_streams_and_durations() {
    let line = |code: &str, duration: &str, message: &str| {
        access(&format!(
            "machined 2026/11/22 16:01:11 {code} [/a.B/C] {duration} stream {message} (talos-role=os:reader)"
        ))
    };
    let denied =
        line("PermissionDenied", "1m2.5s", "rpc error: code = PermissionDenied desc = not authorized (os:reader)");
    assert_eq!((denied.code, denied.duration, denied.sign), (Some(7), SignedDuration::from_millis(62_500), None));
    assert_eq!(denied.roles, ["os:reader"]);
    assert_eq!(line("Code(77)", "0s", "x").code, Some(77));
    assert_eq!(line("OK", "2h0m0.000000001s", "x").duration, SignedDuration::new(7_200, 1));
    assert_eq!(line("OK", "12ms", "x").duration, SignedDuration::from_millis(12));
    for bad in ["", "1", "s", "1.5", "-1s", "1x", "99999999999999h", "1.2.3s"] {
        assert_eq!(go_duration(bad), None, "{bad}");
    }
}

#[test]
fn other_messages_are_no_calls() {
    for other in [
        "machined",
        "[talos] service[kubelet](Running): Health check successful",
        "2026/11/22 16:01:11.123456 [talos] phase boot (1/2): done",
        "machined/authz/authorizer 2026/11/22 16:01:11 permission denied",
        "apid 2026/11/22 16:01:11 OK [/a.B/C] 1ms unary Success (talos-role=)",
        "machined 2026/11/22 16:01:11 listening",
        "machined 2026/13/22 16:01:11 OK [listening]",
        "machined 2026-11-22 16:01:11 OK",
    ] {
        let read = read(NodeService::Machined, other);
        let is_fragment = other.contains("talos-role=");
        assert_eq!(matches!(read, Message::Other), !is_fragment, "{other}: {read:?}");
    }
}

#[test]
fn what_a_caller_can_make_of_a_line_is_a_sign() {
    let with = |extra: &str| REAL.replace(";grpc-accept", &format!(";{extra};grpc-accept"));
    assert_eq!(sign_of(&with("x-note=a")), None);
    // made-up metadata is printed as it is
    assert_eq!(sign_of(&with("g=a;talos-role=user:mallory")), Some(Sign::TwoRoles));
    assert_eq!(sign_of(&REAL.replace("Success", "open /a (talos-role=os:admin): no such file")), Some(Sign::TwoRoles));
    assert_eq!(sign_of(&with("g-bin=abc")), Some(Sign::Binary));
    assert_eq!(sign_of(&with("g=content-type=application/grpc")), Some(Sign::Twice));
    assert_eq!(sign_of(&with("a=ichor-probe=1;b=ichor-probe=2")), Some(Sign::Twice));
    assert_eq!(sign_of(&with("proxyfrom=a;g=proxyfrom=b")), Some(Sign::Twice));
    assert_eq!(sign_of(&with("peer=10.0.0.1:1;g=(peer=10.0.0.2:1")), Some(Sign::Twice));
    assert_eq!(
        sign_of(&with("peer=10.0.0.1:1;speer=x;g=peer=y")),
        None,
        "other keys end like it, and values are anyone's"
    );
    assert_eq!(sign_of(&with("g=\u{1b}[31m")), Some(Sign::Control));
    assert_eq!(sign_of(&with("g=\u{85}")), Some(Sign::Control), "beyond ASCII too");
    assert_eq!(sign_of(&REAL.replace("os:reader", "os:\0reader")), Some(Sign::Control));
    // a value with a newline leaves a beginning and an end
    assert_eq!(
        sign_of("machined 2026/11/22 16:01:11 OK [/a.B/C] 1ms unary Success (:authority=l;g-bin=x"),
        Some(Sign::Cut)
    );
    assert_eq!(sign_of("machined 2026/11/22 16:01:11 OK [/a.B/C] 1m"), Some(Sign::Cut));
    assert_eq!(
        sign_of("machined 2026/11/22 16:01:11 OK [/a.B/C\u{7}] 1ms unary x (talos-role=os:reader)"),
        Some(Sign::Control)
    );
    assert_eq!(sign_of("y;talos-role=os:reader;user-agent=x)"), Some(Sign::Fragment));
    // what a certificate says once
    assert_eq!(sign_of(&REAL.replace("os:reader", "os:reader,user:bob")), Some(Sign::Twice));
    assert_eq!(sign_of(&REAL.replace("os:reader", "grant:x,os:reader")), Some(Sign::Twice));
    assert_eq!(sign_of(&REAL.replace("alice", &"a".repeat(65))), Some(Sign::Twice));
    assert_eq!(sign_of(&REAL.replace("os:reader", &"os:reader,".repeat(30))), Some(Sign::Twice));
}

#[test]
fn what_a_caller_may_have_broken() {
    let broken = |message: &str| (access(message).is_broken, access(message).is_free);
    assert_eq!(broken(REAL), (false, false));
    assert_eq!(broken(REAL_1_14), (false, false));
    // whatever else is wrong with the line
    assert_eq!(broken(&REAL.replace("grpc-accept", "a-bin=x;b=talos-role=y;grpc-accept")), (true, false));
    assert_eq!(broken(REAL.trim_end_matches(')')), (true, false));
    assert_eq!(broken("y;talos-role=os:reader)"), (true, false));
    assert_eq!(broken("machined 2026/11/22 16:01:11 OK [/a.B/C\u{7}] 1ms unary x (a=b)"), (true, false));
    let said = |code: &str, text: &str| {
        broken(&REAL.replace("OK [", &format!("{code} [")).replace("Success", text)) == (false, true)
    };
    for text in ["Success", "context canceled and more", "lstat /x: no such file or directory", "", "Success (a) (b)"] {
        assert!(said("Unknown", text), "{text}");
    }
    for (code, text) in [
        ("PermissionDenied", "rpc error: code = PermissionDenied desc = not authorized"),
        ("Canceled", "rpc error: code = Canceled desc = context canceled"),
        ("DeadlineExceeded", "rpc error: code = DeadlineExceeded desc = context deadline exceeded"),
        ("Unknown", "context canceled"),
        ("Unknown", "context canceled {authorized ([os:reader] includes [os:reader])}"),
    ] {
        assert!(!said(code, text), "{text}");
    }
    assert!(said("OK", "context canceled") && said("OK", "Successful"), "a success says so");
}

#[test]
fn a_kits_grant_is_found_wherever_a_line_that_is_bent_names_it() {
    let name = "kit-7-0193533d-9c00-7000-8000-000000000002";
    let own = format!("grant:{name},os:admin");
    let named = |message: &str| access(message).grant;
    assert_eq!(
        named(&REAL.replace("grpc-accept", &format!("g=a;talos-role={own};grpc-accept"))).as_deref(),
        Some(name)
    );
    assert_eq!(named(&format!("y;talos-role=grant:x,{own};user-agent=x)")).as_deref(), Some(name));
    assert_eq!(named(&format!("machined 2026/11/22 16:01:11 OK [/a.B/C] 1m ({own})")).as_deref(), Some(name));
    assert_eq!(named(&format!("machined 2026/11/22 16:01:11 OK [/a.B/C] 1ms unary x ({own}")).as_deref(), Some(name));
    // a line that is as it should be names what its roles name
    let plain = REAL.replace("grpc-accept", &format!("g={own};grpc-accept"));
    assert_eq!(named(&plain).as_deref(), Some("0193533d-9c00-7000-8000-000000000001"));
    assert_eq!(named("y;talos-role=grant:kit-,grant:kit-7-x,grant:\u{e9};user-agent=x)"), None);
}

#[test]
fn keys_are_read_only_where_they_begin_a_field() {
    let note = access(&REAL.replace("grpc-accept-encoding", "xpeer=10.0.0.1:1;my-proxyfrom=x;a"));
    assert_eq!(note.peer, None);
    assert!(!access(REAL).is_local);
    assert!(access(&REAL.replace("grpc+proxy>proto", "grpc")).is_local);
    assert_eq!(access(&REAL.replace("grpc-accept-encoding=gzip", "ichor-probe=abc")).probe.as_deref(), Some("abc"));
    assert_eq!(PROBE_KEY, "ichor-probe");
}

proptest! {
    #[test]
    fn every_control_character_is_found(text in "(?s)[\u{7f}-\u{a0}\u{b5}a-c\u{105}]{0,4}|.{0,20}") {
        prop_assert_eq!(has_control(&text), text.chars().any(char::is_control));
    }

    #[test]
    fn any_text_is_read(text in "\\PC{0,200}") {
        let _ = read(NodeService::Machined, &text);
        let _ = read(NodeService::Apid, &text);
    }

    #[test]
    fn any_bending_of_a_real_line_is_read(at in 0..REAL.len(), len in 0usize..40, put in "[ -~\n\u{e9}]{0,20}") {
        let chars: Vec<char> = REAL.chars().collect();
        let at = at.min(chars.len());
        let end = (at + len).min(chars.len());
        let bent: String = chars[..at].iter().copied().chain(put.chars()).chain(chars[end..].iter().copied()).collect();
        let _ = read(NodeService::Machined, &bent);
    }

    /// Whatever a caller sends as a value, the line never comes out as another person's without a sign.
    #[test]
    fn no_value_of_a_caller_moves_the_roles(value in "[ -:<-~]{0,40}(;talos-role=os:admin,user:mallory|)[ -~]{0,40}") {
        let line = REAL.replace("gzip", &value);
        let read = access(&line);
        prop_assert!(read.sign.is_some() || read.user.as_deref() == Some("alice@example.com"), "{line}");
    }
}

#[test]
fn apids_lines_begin_with_a_stamp_and_a_place_in_its_source() {
    let line = "2026/11/28 05:11:29.930588 log.go:98: OK [/machine.MachineService/Version] 2.885921ms stream Success \
                (:authority=127.0.0.3:50000;content-length=5;content-type=application/grpc;ichor-probe=78)";
    let Message::Call(access) = read(NodeService::Apid, line) else { panic!("{line}") };
    assert_eq!((access.sign, access.probe.as_deref(), access.is_exact), (None, Some("78"), true));
    assert_eq!(access.printed, "2026-11-28T05:11:29.930588Z".parse().ok());
    // in machined's log it would be someone's text
    assert_eq!(read(NodeService::Machined, line), Message::End);
    for forged in ["log.go:x: ", "Log.go:9: ", "log.go: ", ".go:9: ", ""] {
        assert!(is_piece(NodeService::Apid, &line.replace("log.go:98: ", forged)), "{forged}");
    }
}

/// Whether the message is told to be a piece of another.
fn is_piece(service: NodeService, message: &str) -> bool {
    match read(service, message) {
        Message::End => true,
        Message::Call(access) => access.sign == Some(Sign::Fragment),
        Message::Other => false,
    }
}

#[test]
fn what_ends_a_line_that_a_caller_broke_is_a_piece_in_one_of_the_two_logs() {
    let (mut in_machined, mut in_apid) = (0, 0);
    for begin in [
        "",
        "x",
        ";user-agent=grpc-go/1.82.1",
        "{\"a\":1} ",
        "[talos] phase boot (1/2): 1 tasks(s) ",
        "machined/authz/authorizer 2026/11/22 16:01:11 authorized ",
        "machined 2026/11/22 16:01:11 listening ",
        "machined 2026/11/22 16:01:11 OK [/a.B/C] 1ms unary Success (a=b;user-agent=x",
        "apid 2026/11/22 16:01:11 listening ",
        "apid 2026/11/22 16:01:11 OK [/a.B/C] 1ms unary Success (a=b;user-agent=x",
        "apid/authz/injector/http ",
        "log.go:98: ",
        "log.go:98: OK [/a.B/C] 1ms unary Success (a=b;user-agent=x",
    ] {
        for stamp in ["", "2026/11/22 16:01:11 ", "2026/11/22 16:01:11.123456 "] {
            let last = format!("{stamp}{begin})");
            let found = [NodeService::Machined, NodeService::Apid].map(|service| is_piece(service, &last));
            assert_ne!(found, [false; 2], "{last}");
            in_machined += usize::from(found[0]);
            in_apid += usize::from(found[1]);
        }
    }
    assert!(in_machined > 9 && in_apid > 30, "{in_machined} and {in_apid}");
    // a sender takes a whole line of JSON for fields, and nothing is left to be said
    assert!(is_piece(NodeService::Machined, "") && is_piece(NodeService::Apid, ""));
}

#[test]
fn what_a_service_says_beside_its_calls_is_no_piece() {
    for said in [
        "[talos] reboot sequence: 24 phase(s)",
        "2026/11/22 16:01:11.123456 [talos] reboot sequence: 24 phase(s)",
        "2026/11/22 16:01:11.123456 [talos] phase drain (2/24): 1 tasks(s)",
        "2026/11/22 16:01:11.123456 machined/authz/authorizer 2026/11/22 16:01:11 authorized ([os:admin] includes [os:admin])",
        "machined/authz/unix/authorizer 2026/11/22 16:01:11 authorized based on PID (7) (allowed roles [os:admin])",
    ] {
        assert_eq!(read(NodeService::Machined, said), Message::Other, "{said}");
    }
    for said in
        ["2026/11/28 05:11:29.930588 main.go:40: listening (50000)", "apid/authz/injector/http 2026/11/28 x (y)"]
    {
        assert_eq!(read(NodeService::Apid, said), Message::Other, "{said}");
    }
}
