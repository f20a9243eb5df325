//! Receipts, proofs, and whole logs: what holds, and what is said of what does not.

use data_encoding::BASE64;
use ichor_wire::api::Receipt;
use ichor_wire::log::{Checkpoint, LogKey};

use crate::fake::Hides;
use crate::fake::log::{TOKEN, receipts, text, vector};
use crate::world::World;

/// What is kept of the broker's log: the one folder.
fn kept(world: &World) -> std::path::PathBuf {
    let folder = world.path(".local/state/ichor/audit");
    std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
}

fn evidence(world: &World) -> Vec<String> {
    let Ok(files) = std::fs::read_dir(kept(world).join("evidence")) else { return Vec::new() };
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

#[test]
fn a_false_receipt_is_said_and_kept_and_keeps_nobody_out() {
    let world = World::logged_in();
    // in the log, and another certificate's
    world.fake.with(|state| state.receipt = Some(receipts().into_iter().find(|receipt| receipt.index == 299).unwrap()));
    let ran = world.ichor(&["talosconfig", "prod"]);
    assert_eq!(ran.code, 1, "{}", ran.transcript());
    assert!(ran.err.contains("is false: the entry that it proves is not this certificate's"), "{}", ran.err);
    assert!(ran.err.contains("the certificate works"), "{}", ran.err);
    assert!(world.talosconfig().context("prod").is_some(), "written all the same");
    let exec = |command: &str| world.ichor(&["exec", "prod", "--reason", "x", "--", "sh", "-c", command]);
    for code in [0, 7] {
        let ran = exec(&format!("exit {code}"));
        assert!(ran.code == code && ran.err.contains("is false"), "the command's own exit code: {}", ran.transcript());
    }

    let faults = || -> usize {
        let files = std::fs::read_dir(kept(&world).join("receipts")).unwrap();
        files
            .filter(|file| !std::fs::read_to_string(file.as_ref().unwrap().path()).unwrap().contains("\"fault\":null"))
            .count()
    };
    assert_eq!(faults(), 3, "known as soon as they came");
    let ran = world.ichor(&["status", "--verify"]);
    assert_eq!(ran.code, 1, "{}", ran.transcript());
    assert_eq!(ran.out.matches("FALSE    the receipt of entry 299 does not hold").count(), 3, "{}", ran.out);
    // what was found false when it came stays so, whatever is shown later
    for file in std::fs::read_dir(kept(&world).join("receipts")).unwrap() {
        let path = file.unwrap().path();
        let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(json["fault"].as_str().is_some_and(|why| why.contains("not this certificate's")), "{json}");
        json["fault"] = "found before".into();
        std::fs::write(&path, json.to_string()).unwrap();
    }
    let json = world.ichor(&["status", "--verify", "-o", "json"]);
    assert_eq!((json.code, json.out.matches("found before").count()), (1, 3), "{}", json.transcript());
    world.fake.assert_kept();
}

/// A receipt that no believed key had signed when it came is looked at again; what it was found to be stays where the keys that are
/// believed now do not say otherwise, whatever name the log in it has.
#[test]
fn a_receipt_of_a_key_that_is_not_believed_stays_false_until_it_is_shown_to_hold() {
    let world = World::logged_in();
    world.fake.with(|state| state.receipt = receipts().into_iter().find(|receipt| receipt.index == 299));
    assert_eq!(world.ichor(&["talosconfig", "prod"]).code, 1);
    let path = std::fs::read_dir(kept(&world).join("receipts")).unwrap().next().unwrap().unwrap().path();
    let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(json["is_of_key"], false, "its key is believed, and it is another certificate's");
    json["is_of_key"] = true.into();
    json["fault"] = "its key is not believed".into();
    let note = json["receipt"]["checkpoint"].as_str().unwrap().to_owned();
    let name = "ichor.example.com/audit";
    assert!(note.starts_with(&format!("{name}\n")), "{note}");
    for origin in [name, "ichor.example.com/audit#2", "other.example"] {
        json["receipt"]["checkpoint"] = note.replacen(name, origin, 1).into();
        std::fs::write(&path, json.to_string()).unwrap();
        let told = world.ichor(&["status"]).ok().out;
        assert!(told.contains("receipts 1 of a log's key that is not believed"), "{told}");
        let ran = world.ichor(&["status", "--verify"]);
        let says = "FALSE    the receipt of entry 299 does not hold: its key is not believed";
        assert!(ran.code == 1 && ran.out.contains(says), "{origin}: {}", ran.transcript());
    }
}

/// How many of the kept receipts were found false.
fn found_false(world: &World) -> u64 {
    world.ichor(&["status", "-o", "json"]).ok().json()["receipts"]["false"].as_u64().unwrap()
}

#[test]
fn the_agent_finds_a_false_receipt() {
    let world = World::logged_in();
    world.fake.with(|state| state.life = 5);
    world.ichor(&["talosconfig", "prod"]).ok();
    let before = world.talosconfig();
    world.fake.with(|state| {
        state.life = 3600;
        state.receipt = receipts().into_iter().find(|receipt| receipt.index == 299);
    });
    assert_eq!(found_false(&world), 0);
    let ran = world.ichor(&["agent", "--once"]);
    assert_eq!(ran.code, 1, "{}", ran.transcript());
    assert!(ran.err.contains("is false: the entry that it proves is not this certificate's"), "{}", ran.err);
    assert_eq!(found_false(&world), 1, "kept as evidence");
    assert_ne!(world.talosconfig().context("prod"), before.context("prod"), "renewed all the same");
}

#[test]
fn a_false_receipt_is_found_under_break_glass() {
    let world = World::logged_in();
    let id = "00000000-0000-0000-0000-0000000000b6";
    world.ichor(&["break-glass", "use", id]).ok();
    world.ichor(&["break-glass", "use", id, "--", "true"]).ok();
    assert_eq!(found_false(&world), 0);
    world.fake.with(|state| state.receipt = receipts().into_iter().find(|receipt| receipt.index == 299));
    for (count, command) in [(1, &[][..]), (2, &["--", "true"])] {
        let ran = world.ichor(&[&["break-glass", "use", id][..], command].concat());
        assert_eq!(ran.code, 1, "{}", ran.transcript());
        assert!(ran.err.contains("is false: the entry that it proves is not this certificate's"), "{}", ran.err);
        assert_eq!(found_false(&world), count, "kept as evidence");
    }
    assert!(world.talosconfig().context("prod-break-glass").is_some(), "in such a night nobody is locked out");
}

#[test]
fn a_receipt_changed_in_one_bit_or_of_another_log_is_false() {
    let good = receipts().into_iter().find(|receipt| receipt.index == 299).unwrap();
    let mut bit = good.clone();
    let first = bit.proof[0].remove(0);
    bit.proof[0].insert(0, if first == 'A' { 'B' } else { 'A' });
    let other = Receipt {
        checkpoint: good.checkpoint.clone().map(|note| note.replace("ichor.example.com", "other.example")),
        ..good
    };
    for changed in [bit, other] {
        let world = World::logged_in();
        world.fake.with(|state| state.receipt = Some(changed.clone()));
        let ran = world.ichor(&["talosconfig", "prod", "-o", "json"]);
        assert_eq!(ran.code, 1, "{}", ran.transcript());
        assert!(ran.err.contains("is false"), "{}", ran.err);
    }
}

#[test]
fn a_pending_receipt_is_kept_and_completed_later() {
    let world = World::logged_in();
    let index = 299;
    let leaf = receipts().into_iter().find(|receipt| receipt.index == index).unwrap().leaf_hash;
    let pending =
        |index, leaf_hash: &str| Receipt { index, leaf_hash: leaf_hash.into(), ..Receipt::pending(index, &[0; 32]) };
    // not signed yet: nobody is kept waiting, and nothing is wrong
    world.fake.with(|state| state.receipt = Some(pending(400, &leaf)));
    world.ichor(&["talosconfig", "prod"]).ok();
    let json = world.ichor(&["status", "--verify", "-o", "json"]).ok().json();
    assert_eq!((json["audit"]["pending"].as_u64(), json["audit"]["verified"].as_u64()), (Some(1), Some(0)));
    let told = world.ichor(&["status"]).ok().out;
    assert!(told.contains("receipts 1 the log had not signed yet: see `ichor status --verify`"), "{told}");
    // signed without it: the log does not have what was promised
    world.fake.with(|state| state.receipt = Some(pending(298, &leaf)));
    world.ichor(&["talosconfig", "prod", "--reason", "x"]).ok();
    let ran = world.ichor(&["status", "--verify"]);
    assert!(ran.code == 1 && ran.out.contains("does not have this one"), "{}", ran.transcript());
    let told = world.ichor(&["status"]).ok().out;
    assert!(told.contains("receipts 2 the log had not signed yet"), "no proof of anything: it is asked again: {told}");
    // another entry in its place
    world.fake.with(|state| state.receipt = Some(pending(index, &"00".repeat(32))));
    world.ichor(&["talosconfig", "prod", "--reason", "x"]).ok();
    let ran = world.ichor(&["status", "--verify"]);
    assert!(ran.code == 1 && ran.out.contains("the log has another entry in its place"), "{}", ran.transcript());
}

/// Else a broker that never shows anything would never be found out.
#[test]
fn a_pending_receipt_that_the_broker_should_show_by_now_is_doubted_until_it_does() {
    let world = World::logged_in();
    let (kept_receipt, _) = keep_a_true_receipt(&world, true);
    for (hides, says) in [
        (Hides::Pending, "the log has 300 signed entries, and it is not proven"),
        (Hides::Refused, "the broker does not show it in this session"),
    ] {
        world.fake.with(|state| state.hides = Some(hides));
        let ran = world.ichor(&["status", "--verify"]);
        assert!(ran.code == 1 && ran.out.contains(says), "{}", ran.transcript());
        let json = world.ichor(&["status", "--verify", "-o", "json"]).json();
        assert_eq!(
            (json["audit"]["pending"].as_u64(), json["audit"]["doubts"].as_array().map(Vec::len)),
            (Some(1), Some(1))
        );
    }
    world.fake.with(|state| state.hides = None);
    let json = world.ichor(&["status", "--verify", "-o", "json"]).ok().json();
    assert_eq!(json["audit"]["verified"], 1, "it is proven once it is shown");
    // one that nobody ever signs, of a certificate that has ended
    let (_, file) = keep_a_true_receipt(&world, true);
    let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    json["receipt"]["index"] = 400.into();
    for (end, code) in [("2999-01-01T00:00:00Z", 0), ("2026-01-01T00:00:00Z", 1)] {
        json["not_after"] = end.into();
        std::fs::write(&file, json.to_string()).unwrap();
        let ran = world.ichor(&["status", "--verify"]);
        assert_eq!(
            (ran.code, ran.out.contains("is not signed yet, and its certificate ended")),
            (code, code == 1),
            "{}",
            ran.transcript()
        );
    }
    let _ = kept_receipt;
}

#[test]
fn a_broker_that_is_behind_another_for_a_moment_has_cut_nothing() {
    let world = World::logged_in();
    keep_a_true_receipt(&world, false);
    // nothing was seen of the log yet but what came with the certificate
    world.fake.with(|state| state.behind = 3);
    let json = world.ichor(&["status", "--verify", "-o", "json"]).ok().json();
    assert_eq!((json["audit"]["size"].as_u64(), json["audit"]["verified"].as_u64()), (Some(300), Some(1)));
    // one that stays behind is doubted, and the receipt is none the worse for it
    let world = World::logged_in();
    keep_a_true_receipt(&world, false);
    world.fake.with(|state| state.head = Some("checkpoint-257"));
    let ran = world.ichor(&["status", "--verify"]);
    assert!(ran.code == 1 && ran.out.contains("the log had 300 entries and has 257 now"), "{}", ran.transcript());
    world.fake.with(|state| state.head = None);
    world.ichor(&["status", "--verify"]).ok();
}

#[test]
fn what_was_shown_of_a_receipt_is_shown_anew_where_what_was_known_of_the_log_is_lost() {
    let world = World::logged_in();
    let (_, file) = keep_a_true_receipt(&world, false);
    world.ichor(&["status", "--verify"]).ok();
    let marked = || std::fs::read_to_string(&file).unwrap().contains("\"agrees_up_to\":300");
    assert!(marked());
    std::fs::remove_file(kept(&world).join("log.json")).unwrap();
    world.fake.with(|state| state.head = Some("checkpoint-257"));
    // at the first look, and once the shorter log is the one that is known
    for _ in 0..2 {
        let ran = world.ichor(&["status", "--verify"]);
        assert!(ran.code == 1 && ran.out.contains("the log had 300 entries and has 257 now"), "{}", ran.transcript());
        assert!(!marked());
    }
    world.fake.with(|state| state.head = None);
    world.ichor(&["status", "--verify"]).ok();
    assert!(marked());
}

/// Keeps a receipt of the published log, as it came with a certificate, or without its proof; where it lies.
fn keep_a_true_receipt(world: &World, is_pending: bool) -> (Receipt, std::path::PathBuf) {
    world.ichor(&["talosconfig", "prod"]).ok();
    let folder = kept(world).join("receipts");
    for file in std::fs::read_dir(&folder).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let is_issued = |receipt: &Receipt| {
        let entry = ichor_wire::log::Entry::decode(&BASE64.decode(receipt.entry.as_deref()?.as_bytes()).ok()?).ok()?;
        let (grant, fingerprint) = (entry.content.grant?, entry.content.fingerprint?);
        (entry.content.kind == ichor_wire::log::Kind::Issued).then_some((grant, fingerprint))
    };
    let (receipt, (grant, fingerprint)) =
        receipts().into_iter().rev().find_map(|receipt| Some((receipt.clone(), is_issued(&receipt)?))).unwrap();
    let grant = uuid::Uuid::from_slice(&grant).unwrap();
    let bare = Receipt { index: receipt.index, leaf_hash: receipt.leaf_hash.clone(), ..Receipt::pending(0, &[0; 32]) };
    let held = serde_json::json!({
        "cluster": "prod", "grant_id": grant, "fingerprint": data_encoding::HEXLOWER.encode(&fingerprint),
        "not_after": "2999-01-01T00:00:00Z", "receipt": if is_pending { &bare } else { &receipt },
    });
    let file = folder.join(format!("{:020}-{grant}.json", receipt.index));
    std::fs::write(&file, held.to_string()).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    (receipt, file)
}

#[test]
fn a_log_that_went_back_or_was_written_anew_is_said_with_the_evidence() {
    let world = World::logged_in();
    insta::assert_snapshot!("status_verify", world.ichor(&["status", "--verify"]).transcript());
    let known = std::fs::read_to_string(kept(&world).join("log.json")).unwrap();
    world.fake.with(|state| state.head = Some("checkpoint-257"));
    let ran = world.ichor(&["status", "--verify"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("the log had 300 entries and has 257 now"), "{}", ran.err);
    assert!(evidence(&world)[0].contains("\\n257\\n") && evidence(&world)[0].contains("\\n300\\n"));
    assert_eq!(std::fs::read_to_string(kept(&world).join("log.json")).unwrap(), known, "it is what was known");
    world.fake.with(|state| state.head = None);
    world.ichor(&["status", "--verify"]).ok();

    // what was seen at 257 was another tree: the broker's proof does not lead from there
    let root = |name: &str| text(name).lines().nth(2).unwrap().to_owned();
    let forked = text("checkpoint-257").replace(&root("checkpoint-257"), &root("checkpoint-256"));
    let mut json: serde_json::Value = serde_json::from_str(&known).unwrap();
    json["checkpoint"] = forked.into();
    std::fs::write(kept(&world).join("log.json"), json.to_string()).unwrap();
    let ran = world.ichor(&["status", "--verify"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("does not continue the one of 257: it was written anew"), "{}", ran.err);
    assert_eq!(evidence(&world).len(), 2);
}

#[test]
fn a_pinned_key_is_believed_alone() {
    let world = World::logged_in();
    let file = |key: &str| format!("broker = \"{}\"\naudit_key = \"{}\"\n", world.fake.url, key.trim());
    world.write(".ichor.toml", &file(&text("key-1")));
    let json = world.ichor(&["status", "--verify", "-o", "json"]).ok().json();
    assert_eq!(
        (json["audit"]["because"].as_str(), json["audit"]["key"].as_str()),
        (Some("pinned"), Some(text("key-2").trim()))
    );
    let other = LogKey::ed25519("ichor.example.com/audit", &[7; 32]).unwrap().to_string();
    world.write(".ichor.toml", &file(&other));
    let ran = world.ichor(&["status", "--verify"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("the key of the broker's audit log has changed"), "{}", ran.err);
    world.write(".ichor.toml", &file("no key"));
    assert_eq!(world.ichor(&["status"]).code, 2);
}

#[test]
fn a_log_is_verified_without_any_broker() {
    let mut world = World::new();
    world.unset("ICHOR_BROKER");
    for name in ["export.cbor", "key-1", "checkpoint-257"] {
        std::fs::copy(vector(name), world.path(name)).unwrap();
    }
    let verify = |from: &str, more: &[&str]| {
        world.ichor(&[&["audit", "verify", "--from", from, "--pubkey", "key-1"], more].concat())
    };
    insta::assert_snapshot!("audit_verify", verify("export.cbor", &[]).transcript());
    assert_eq!(verify("export.cbor", &["-o", "json"]).ok().json()["entries"], 300);
    let second = ["--pubkey", text("key-2").trim()].map(str::to_owned);
    let second = second.each_ref().map(String::as_str);
    world
        .ichor(&[&["audit", "verify", "--from", "export.cbor", "--checkpoint", "checkpoint-257"][..], &second].concat())
        .ok();
    // the export leads from the first key to the one that signed it
    verify("export.cbor", &["--checkpoint", "checkpoint-257"]).ok();
    let stranger: Checkpoint = Checkpoint::parse_unverified(&text("checkpoint-257")).unwrap();
    let own = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[99; 32]).unwrap();
    let key = LogKey::ed25519(stranger.origin(), aws_lc_rs::signature::KeyPair::public_key(&own).as_ref()).unwrap();
    let note = stranger.signed(&key, own.sign(stranger.unsigned_text().as_bytes()).as_ref()).unwrap();
    world.write("stranger", &note);
    let ran = verify("export.cbor", &["--checkpoint", "stranger"]);
    assert!(ran.code == 1 && ran.err.contains("signed by no key that the log leads to"), "{}", ran.transcript());
    // signed by the log's own key, and of another tree: two logs were shown
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let first: LogKey = text("key-1").parse().unwrap();
    let forked = Checkpoint::new(&first, 200, [1; 32]);
    let note = forked.signed(&first, pair.sign(forked.unsigned_text().as_bytes()).as_ref()).unwrap();
    world.write("forked", &note);
    let ran = verify("export.cbor", &["--checkpoint", "forked"]);
    assert!(ran.code == 1 && ran.err.contains("does not fit its checkpoint of 200 entries"), "{}", ran.transcript());
    let folder = vector("").display().to_string();
    world.ichor(&[&["audit", "verify", "--from", &folder][..], &second].concat()).ok();

    let export = std::fs::read(vector("export.cbor")).unwrap();
    let changed = |name: &str, bytes: &[u8], says: &str| {
        std::fs::write(world.path(name), bytes).unwrap();
        let ran = verify(name, &[]);
        assert_eq!(ran.code, 1, "{}", ran.transcript());
        assert!(ran.err.contains(says), "{says}: {}", ran.err);
    };
    changed("cut", &export[..export.len() / 2], "it ends within an item");
    let mut bit = export.clone();
    let at = bit.len() - 40;
    bit[at] ^= 1;
    changed("bit", &bit, "does not fit");
    let ran = world.ichor(&["audit", "verify", "--from", "export.cbor"]);
    assert_eq!(ran.code, 2, "without a key nothing is verified: {}", ran.transcript());
    assert_eq!(verify("export.cbor", &["--checkpoint", "key-1"]).code, 2);
}

#[test]
fn a_log_of_tiles_is_verified_from_its_server() {
    let world = World::new();
    world.write("token", TOKEN);
    let url = format!("{}/log", world.fake.url);
    let key = text("key-2");
    let verify = ["audit", "verify", "--from", &url, "--pubkey", key.trim()];
    assert_ne!(world.ichor(&verify).code, 0);
    let ran = world.ichor(&[&verify[..], &["--token-file", "token", "-o", "json"]].concat()).ok();
    assert_eq!((ran.json()["entries"].as_u64(), ran.json()["hashes_only"].as_u64()), (Some(300), Some(0)));
}

#[test]
fn the_brokers_log_is_verified_and_kept() {
    let world = World::logged_in();
    assert_eq!(world.ichor(&["audit", "verify"]).code, 2, "no key is known");
    world.ichor(&["status", "--verify"]).ok();
    world.ichor(&["audit", "verify", "--keep", "kept"]).ok();
    assert_eq!(std::fs::read(world.path("kept")).unwrap(), std::fs::read(vector("export.cbor")).unwrap());
    assert_eq!(crate::world::mode(&world.path("kept")), 0o600);
    world.ichor(&["audit", "verify", "--from", "kept"]).ok();
    assert_eq!(world.ichor(&["audit", "verify", "--keep", "kept"]).code, 1, "what is there is not written over");
}

#[test]
fn a_proof_is_made_for_someone_else_and_checked_by_them() {
    let world = World::logged_in();
    let id = "00000000-0000-0000-0000-000000000007";
    world.ichor(&["audit", "prove", id, "--to", "proof.json"]).ok();
    assert!(world.ichor(&["audit", "prove", id]).ok().out.contains("ichor-proof/1"));
    let key = text("key-1");
    let check = |file: &str, key: &str| world.ichor(&["audit", "check-proof", file, "--pubkey", key.trim(), "--utc"]);
    insta::assert_snapshot!("audit_check_proof", check("proof.json", &key).transcript());
    let other = LogKey::ed25519("ichor.example.com/audit", &[7; 32]).unwrap().to_string();
    let ran = check("proof.json", &other);
    assert!(ran.code == 1 && ran.err.contains("the proof does not hold"), "{}", ran.transcript());
    let changed = world.text("proof.json").replacen("\"index\": 3", "\"index\": 4", 1);
    world.write("changed.json", &changed);
    assert_eq!(check("changed.json", &key).code, 1);
    world.write("none.json", "{}");
    assert_eq!(check("none.json", &key).code, 2);
}
