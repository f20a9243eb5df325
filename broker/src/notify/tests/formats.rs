//! What people typed is shown as they typed it, and does nothing.

use std::collections::BTreeMap;

use ichor_wire::api::AuditEntry;
use uuid::Uuid;

use super::super::message::Message;
use super::super::payload;
use super::*;
use crate::store::conformance::noon;

/// Markup of every format, mentions, links, and what ends a line or a span.
const HOSTILE: &str = "<!channel> @here *b* _i_ `x` ``` [a](https://evil.example) <https://evil.example|tickets> **B** &lt; \
    <at>all</at> https://evil.example/x\r\nBcc: c@evil.example\u{202e}\u{200b}";

/// The broker as people know it.
const BROKER: &str = "https://ichor.example.com/";

/// The page of the request that every entry here names.
const PAGE: &str = "https://ichor.example.com/break-glass/0193533d-9c00-7000-8000-000000000001";

fn entry(kind: &str, ticket: &str) -> AuditEntry {
    let detail = [
        ("name", HOSTILE),
        ("reason", HOSTILE),
        ("message", HOSTILE),
        ("nodes", HOSTILE),
        ("ticket", ticket),
        ("break_glass", "0193533d-9c00-7000-8000-000000000001"),
    ];
    AuditEntry {
        index: 7,
        id: Uuid::from_u128(7),
        time: noon(),
        kind: kind.into(),
        user: Some("*ada*<x>".into()),
        issuer: None,
        subject: None,
        cluster: Some("prod".into()),
        grant_id: None,
        session_id: None,
        detail: BTreeMap::from(detail.map(|(name, value)| (name.to_owned(), value.to_owned()))),
        leaf_hash: String::new(),
    }
}

/// All kinds of entries that people are told of, and one that nobody knows.
const KINDS: &[&str] =
    &["break-glass-request", "grant", "node-alarm", "kit-in-use", "kit-overdue", "lock", "ca", "break-glass-wink"];

#[test]
fn slack_shows_what_was_typed_and_reads_no_markup_in_it() {
    for kind in KINDS {
        let message = Message::of(&entry(kind, "https://tickets.example.com/a|b?x=<1>&y=2"), BROKER);
        let value = payload::slack(&message);
        let text = value["text"].as_str().unwrap();
        assert_eq!(value["unfurl_links"], false);
        let (mut lines, mut typed) = (text.lines(), 0);
        let title = lines.next().unwrap();
        assert!(title.starts_with('*') && title.ends_with('*') && !title[1..title.len() - 1].contains('*'), "{title}");
        for line in lines {
            if let Some(ticket) = line.strip_prefix("ticket: ").filter(|_| !line.contains('`')) {
                assert_eq!(ticket, "<https://tickets.example.com/a%7Cb?x=%3C1%3E&amp;y=2>");
                continue;
            }
            if let Some(page) = line.strip_prefix("page: ").filter(|_| !line.contains('`')) {
                assert_eq!(page, format!("<{PAGE}>"));
                continue;
            }
            // one code span to the line's end, with no mark of a mention or link in it
            let span = line.split_once('`').map(|(_, rest)| rest).unwrap_or_else(|| panic!("{kind}: {line}"));
            assert!(span.ends_with('`') && span.matches('`').count() == 1, "{line}");
            assert!(!span.contains(['<', '>']), "{line}");
            typed += usize::from(span.contains("&lt;!channel&gt; @here *b*"));
        }
        assert!(typed >= 2, "{kind}: it is shown: {text}");
        assert!(!text.contains(['\u{202e}', '\u{200b}', '\r']), "{text}");
    }
}

#[test]
fn teams_gets_what_was_typed_where_no_markdown_is_read() {
    for kind in KINDS {
        let message = Message::of(&entry(kind, "https://tickets.example.com/1"), BROKER);
        let card = payload::teams(&message)["attachments"][0]["content"].clone();
        let mut typed = 0;
        for block in card["body"].as_array().unwrap() {
            match block["type"].as_str().unwrap() {
                "TextBlock" => {
                    let text = block["text"].as_str().unwrap();
                    assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || " :',-.".contains(c)), "{text}");
                }
                "RichTextBlock" => {
                    for run in block["inlines"].as_array().unwrap() {
                        assert_eq!(run["type"], "TextRun");
                        typed += usize::from(run["text"].as_str().unwrap().contains("[a](https://evil.example)"));
                    }
                }
                other => panic!("{other}"),
            }
        }
        assert!(typed >= 2, "{kind}: it is shown");
        let actions = card["actions"].as_array().unwrap();
        let urls: Vec<_> = actions.iter().map(|action| action["url"].as_str().unwrap()).collect();
        assert_eq!(urls, [PAGE, "https://tickets.example.com/1"]);
    }
}

#[test]
fn nobody_is_led_anywhere_but_over_https() {
    for ticket in [
        "http://tickets.example.com/1",
        "javascript:alert(1)",
        "https://user:pw@evil.example/",
        "https://tickets.example.com@evil.example/",
        "data:text/html,x",
        "file:///etc/passwd",
        "tickets/1",
        "",
    ] {
        let message = Message::of(&entry("break-glass-request", ticket), BROKER);
        assert_eq!(message.ticket, None, "{ticket}");
        let card = payload::teams(&message);
        let actions = card["attachments"][0]["content"]["actions"].as_array().unwrap();
        assert!(actions.iter().all(|action| action["url"] == PAGE), "{ticket}");
        assert!(!payload::slack(&message)["text"].as_str().unwrap().contains("ticket: <"), "{ticket}");
    }
    assert!(Message::of(&entry("break-glass-request", "https://tickets.example.com/1"), BROKER).ticket.is_some());
}

#[test]
fn a_line_of_plain_text_is_one_line() {
    let message = Message::of(&entry("break-glass-request", "https://tickets.example.com/1"), BROKER);
    let text = payload::text(&message);
    assert!(text.lines().all(|line| !line.starts_with("Bcc")), "{text}");
    assert_eq!(text.matches("Bcc: c@evil.example").count(), 4, "{text}");
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
}

#[test]
fn a_kind_that_nobody_knows_is_told_plainly() {
    let message = Message::of(&entry("break-glass-wink", ""), BROKER);
    assert_eq!(message.title, "Ichor recorded: break-glass-wink");
    assert!(message.lines.iter().any(|(label, _)| label == "reason"));
    assert_eq!(message.next, None);
}

/// What someone needs who is woken by it: by whom, for how long, and where to look.
#[test]
fn a_message_says_by_whom_how_long_and_where_to_look() {
    let mut asked = entry("break-glass-request", "");
    asked.detail.extend([("life", "30m"), ("uses", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    let message = Message::of(&asked, BROKER);
    for line in [("how long", "30m"), ("certificates", "2")] {
        assert!(message.lines.contains(&(line.0.into(), line.1.into())), "{:?}", message.lines);
    }
    assert!(payload::text(&message).contains(&format!("\r\npage: {PAGE}\r\n")));
    assert_eq!(payload::webhook(&asked, &message, BROKER)["data"]["page"], PAGE);
    assert_eq!(Message::of(&asked, "http://127.0.0.1:8080/").page, None, "nobody is led anywhere but over https");

    let mut locked = entry("lock", "");
    locked.user = None;
    locked.detail = [("os_user", "root"), ("host", "broker-1"), ("locked_until", "2026-11-22T13:00:00Z")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let message = Message::of(&locked, BROKER);
    for line in [("who", "root, at the host broker-1"), ("until", "2026-11-22T13:00:00Z")] {
        assert!(message.lines.contains(&(line.0.into(), line.1.into())), "{:?}", message.lines);
    }
    assert_eq!(message.page, None);
}

#[test]
fn a_long_text_is_cut() {
    let mut long = entry("break-glass-request", "");
    long.detail.insert("reason".into(), "é".repeat(5_000));
    let message = Message::of(&long, BROKER);
    let (_, reason) = message.lines.iter().find(|(label, _)| label == "reason").unwrap();
    assert_eq!(reason.chars().count(), 601);
}

#[test]
fn what_custody_made_and_nobody_granted_is_told_as_the_cas_and_as_the_uses() {
    let mut failed = entry("issue-failed", "");
    failed.detail.insert("code".into(), "certificate-mismatch".into());
    let only = |event| std::collections::BTreeSet::from([event]);
    assert_eq!(Event::of(&failed), Some(Event::Ca));
    assert_eq!(Event::among(&failed, &only(Event::Ca)), Some(Event::Ca));
    assert_eq!(Event::among(&failed, &only(Event::BreakGlass)), Some(Event::BreakGlass));
    assert_eq!(Event::among(&failed, &only(Event::Lock)), None);
    assert!(Message::of(&failed, BROKER).title.starts_with("CUSTODY MADE WHAT NOBODY GRANTED"));
    // whoever it was for
    failed.detail.remove("break_glass");
    assert_eq!(Event::of(&failed), Some(Event::Ca));
    assert_eq!(Event::among(&failed, &only(Event::BreakGlass)), None);
    // an outage is none of these
    failed.detail.insert("code".into(), "custody-unavailable".into());
    assert_eq!(Event::of(&failed), None);
}
