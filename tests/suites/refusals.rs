//! Every problem code has a test that provokes it, through the API. Those that no other suite meets are here.

use std::collections::BTreeSet;

use ichor_client::dpop::{DpopKey, ProofOf};
use ichor_client::environment::Environment;
use ichor_client::session::{KeptIn, SessionStore};
use ichor_client::{Error, Wish};
use ichor_tests::{CLUSTER, Fault, Faults, Options, Person, World};
use ichor_wire::log::Kind;
use ichor_wire::problem::{Code, Problem};
use syn::visit::Visit;

use crate::named;

/// A code, and the test that goes red when nothing is answered with it. The test's own text names the code.
const TESTED: &[(Code, &str)] = &[
    (Code::BadRequest, "tests/suites/certificates.rs::bad_requests_are_named_and_nothing_is_granted"),
    (Code::UnknownField, "tests/suites/certificates.rs::bad_requests_are_named_and_nothing_is_granted"),
    (Code::TooLarge, "tests/suites/http.rs::case_19_a_huge_body_is_refused_before_anyone_looks_into_it"),
    (Code::BadCsr, "tests/suites/certificates.rs::bad_requests_are_named_and_nothing_is_granted"),
    (Code::UnknownRole, "tests/suites/certificates.rs::bad_requests_are_named_and_nothing_is_granted"),
    (Code::NotLoggedIn, "tests/suites/http.rs::every_route_refuses_whoever_may_not_use_it"),
    (Code::SessionEnded, "tests/suites/certificates.rs::promise_5_who_left_gets_nothing_new_within_minutes"),
    (Code::BadProof, "tests/suites/refusals.rs::a_token_is_nothing_without_its_proof"),
    (Code::UseNonce, "tests/suites/refusals.rs::a_token_is_nothing_without_its_proof"),
    (Code::Refused, "tests/suites/certificates.rs::promise_4_nobody_gets_what_no_policy_permits"),
    (Code::PolicyError, "tests/suites/faults/custody.rs::a_policy_that_cannot_be_evaluated_refuses"),
    (Code::UnknownCluster, "tests/suites/certificates.rs::bad_requests_are_named_and_nothing_is_granted"),
    (Code::NotFound, "tests/suites/http.rs::case_08_what_is_not_there_is_a_problem_too"),
    (Code::MethodNotAllowed, "tests/suites/http.rs::case_08_what_is_not_there_is_a_problem_too"),
    (Code::UnknownRequest, "tests/suites/break_glass.rs::case_17_an_outsider_starts_fills_and_cancels_nothing"),
    (Code::WrongState, "tests/suites/break_glass.rs::what_two_others_approve_is_used_once_and_reviewed"),
    (Code::OtherContents, "tests/suites/break_glass.rs::an_approval_is_of_exactly_what_was_looked_at"),
    (Code::Suspect, "tests/suites/break_glass.rs::what_was_revoked_stays_so_whoever_writes_the_database"),
    (Code::Locked, "tests/suites/locks.rs::everything_is_unlocked_by_two_people_and_they_can_get_in"),
    (Code::UnknownLock, "tests/suites/locks.rs::who_may_lock_is_policy_and_a_refusal_is_recorded"),
    (Code::Conflict, "tests/suites/refusals.rs::what_changed_meanwhile_is_a_conflict_and_nothing_is_issued"),
    (Code::ClientTooOld, "tests/suites/http.rs::a_client_that_is_too_old_is_told_which_version_to_get"),
    (Code::TooManyRequests, "tests/suites/http.rs::strangers_are_limited_by_address_and_people_are_not_for_it"),
    (Code::Internal, "tests/suites/refusals.rs::a_panic_is_an_answer_and_the_next_request_works"),
    (Code::ProviderUnavailable, "tests/suites/faults/provider.rs::old_groups_are_never_a_stale_yes"),
    (Code::StoreUnavailable, "tests/suites/faults/store.rs::nothing_leaves_that_could_not_be_recorded"),
    (Code::CertificateMismatch, "tests/suites/pki.rs::an_engine_issues_by_its_roles_and_nothing_it_makes_up_leaves"),
    (Code::CustodyUnavailable, "tests/suites/faults/custody.rs::a_ca_past_its_end_leaves_a_recorded_failure"),
    (Code::AuditUnavailable, "tests/suites/config_keys/audit.rs::the_newest_checkpoint_lies_in_kv_where_configured"),
    (Code::Unavailable, "tests/suites/config_keys/limits.rs::one_request_too_many_is_turned_away"),
    (Code::Timeout, "tests/suites/config_keys/limits.rs::a_request_that_takes_too_long_is_ended"),
];

#[test]
fn every_code_has_a_test_that_provokes_it() {
    let page = std::fs::read_to_string(named::root().join("docs/errors.md")).unwrap();
    let documented: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let listed: Vec<_> = TESTED.iter().map(|(code, _)| code.as_str()).collect();
    for code in &documented {
        assert!(listed.contains(code), "`{code}` has no test that provokes it");
    }
    assert_eq!(listed.len(), documented.len(), "a code is listed twice, or is not in the page");
    for (code, test) in TESTED {
        let text = named::text_of(test);
        assert!(text.contains(&format!("Code :: {code:?}")), "{test} does not name `{code:?}`");
    }
}

/// The same for the codes of RFC 6749, 8628 and 9449 that the authorization server answers with.
const TESTED_OAUTH: &[(&str, &str)] = &[
    ("access_denied", "broker/tests/login/other_flows.rs::a_device_login_can_be_cancelled"),
    ("authorization_pending", "broker/tests/login/other_flows.rs::a_device_logs_in"),
    ("expired_token", "broker/tests/login/other_flows.rs::a_device_code_lives_ten_minutes"),
    ("invalid_client", "broker/tests/login/flow.rs::a_code_needs_its_verifier_redirect_uri_client_and_key"),
    ("invalid_dpop_proof", "broker/tests/login/proofs.rs::the_token_endpoint_asks_for_a_nonce_and_checks_the_proof"),
    ("invalid_grant", "broker/tests/login/flow.rs::a_code_lives_a_minute"),
    ("invalid_request", "broker/tests/login/flow.rs::what_is_asked_is_checked_before_anyone_is_sent_anywhere"),
    ("server_error", "broker/tests/login/provider.rs::an_alias_stays_with_its_issuer"),
    ("slow_down", "broker/tests/login/other_flows.rs::a_device_logs_in"),
    ("temporarily_unavailable", "broker/tests/login/strangers.rs::pending_logins_are_bounded"),
    ("unauthorized_client", "broker/tests/login/other_flows.rs::both_are_off_unless_configured"),
    ("unsupported_grant_type", "broker/tests/login/other_flows.rs::both_are_off_unless_configured"),
    ("use_dpop_nonce", "broker/tests/login/proofs.rs::the_token_endpoint_asks_for_a_nonce_and_checks_the_proof"),
];

#[test]
fn every_oauth_code_has_a_test_that_provokes_it() {
    let mut answered = OauthCodes::default();
    for file in named::sources(&["broker/src/login", "broker/src/http/oauth"]) {
        answered.visit_file(&file);
    }
    let listed: BTreeSet<String> = TESTED_OAUTH.iter().map(|(code, _)| (*code).to_owned()).collect();
    assert_eq!(answered.0, listed);
    for (code, test) in TESTED_OAUTH {
        assert!(named::text_of(test).contains(&format!("\"{code}\"")), "{test} does not name `{code}`");
    }
}

/// The codes in the sources: what errors are made with, and what `code` answers.
#[derive(Default)]
struct OauthCodes(BTreeSet<String>);

impl OauthCodes {
    fn text(&mut self, expression: Option<&syn::Expr>) {
        if let Some(syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. })) = expression {
            self.0.insert(text.value());
        }
    }
}

impl<'ast> Visit<'ast> for OauthCodes {
    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func {
            let path: Vec<_> = function.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            if matches!(
                path.iter().map(String::as_str).collect::<Vec<_>>()[..],
                ["OauthError" | "Self", "new"] | ["error"]
            ) {
                self.text(call.args.first());
            }
        }
        syn::visit::visit_expr_call(self, call);
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if matches!(&field.member, syn::Member::Named(name) if name == "code") {
            self.text(Some(&field.expr));
        }
        syn::visit::visit_field_value(self, field);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if item.sig.ident == "code" {
            let arms = item.block.stmts.iter().filter_map(|statement| match statement {
                syn::Stmt::Expr(syn::Expr::Match(expression), _) => Some(&expression.arms),
                _ => None,
            });
            arms.flatten().for_each(|arm| self.text(Some(&arm.body)));
        }
        syn::visit::visit_impl_item_fn(self, item);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_nothing_without_its_proof() -> anyhow::Result<()> {
    let world = World::start().await?;
    let alice = Person::log_in(&world, "alice").await?;
    let KeptIn::File(file) = SessionStore::new(&Environment::isolated(world.scratch()))?.save(&alice.session)? else {
        anyhow::bail!("the keyring is off")
    };
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let token = kept["token"].as_str().unwrap();
    let own = DpopKey::from_pkcs8(data_encoding::BASE64.decode(kept["key"].as_str().unwrap().as_bytes())?.into())?;

    let url = world.at("/v1/session").parse()?;
    let http = world.http()?;
    let send = async |proof: Option<String>| -> anyhow::Result<(reqwest::StatusCode, Option<String>, Vec<u8>)> {
        let mut request = http.get(world.at("/v1/session")).header("authorization", format!("DPoP {token}"));
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        let answer = request.send().await?;
        let nonce = answer.headers().get("dpop-nonce").map(|nonce| nonce.to_str().unwrap().to_owned());
        Ok((answer.status(), nonce, answer.bytes().await?.to_vec()))
    };
    let now = ichor_broker::clock::Clock::now(&*world.clock);
    let proof = |key: &DpopKey, nonce: Option<&str>| {
        key.proof(ProofOf { method: "GET", url: &url, token: Some(token), nonce, body: None }, now)
    };
    let code = |body: &[u8]| serde_json::from_slice::<Problem>(body).map(|problem| problem.code);

    let (_, nonce, body) = send(None).await?;
    assert_eq!(code(&body)?, Code::BadProof, "no proof");
    let nonce = nonce.unwrap();
    let (_, _, body) = send(Some(proof(&DpopKey::generate()?, Some(&nonce))?)).await?;
    assert_eq!(code(&body)?, Code::BadProof, "another key's");
    let (_, _, body) = send(Some(proof(&own, None)?)).await?;
    assert_eq!(code(&body)?, Code::UseNonce, "right in all but the nonce");
    let (status, _, _) = send(Some(proof(&own, Some(&nonce))?)).await?;
    assert_eq!(status, reqwest::StatusCode::OK);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_meanwhile_is_a_conflict_and_nothing_is_issued() -> anyhow::Result<()> {
    let faults = Faults::none();
    let world = World::with(Options { wrap_store: Some(faults.wrap()), ..Options::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    let wish = || Wish { cluster: CLUSTER.into(), ..Wish::default() };
    faults.at_entry(Kind::Grant, Fault::Stale);
    let Err(Error::Problem(problem)) = alice.certificate(&wish()).await else { anyhow::bail!("no problem") };
    assert_eq!(problem.code, Code::Conflict);
    let entries = world.entries().await?;
    assert_eq!((entries[0].kind.as_str(), entries[0].detail["code"].as_str()), ("refusal", "conflict"));
    assert!(!entries.iter().any(|entry| ["grant", "issued"].contains(&entry.kind.as_str())), "{entries:?}");
    alice.certificate(&wish()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_answer_and_the_next_request_works() -> anyhow::Result<()> {
    let faults = Faults::none();
    let world = World::with(Options { wrap_store: Some(faults.wrap()), ..Options::default() }).await?;
    let alice = Person::log_in(&world, "alice").await?;
    faults.panic_at_session();
    let Err(Error::Problem(problem)) = alice.session.describe().await else { anyhow::bail!("no problem") };
    assert_eq!(problem.code, Code::Internal);
    assert!(!problem.detail.contains("fault") && problem.request_id.is_some(), "{problem:?}");
    alice.session.describe().await?;
    Ok(())
}
