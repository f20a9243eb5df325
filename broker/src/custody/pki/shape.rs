//! What a role of the engine has to be, so that nothing but a client certificate of exactly its roles comes of it.

use ichor_wire::profile::{CLOCK_SLACK, MAX_BACKDATE, MAX_TTL};
use serde_json::{Value, json};

use super::RoleSet;
use crate::openbao::Role;

/// A field of a role that is not what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field, as the engine calls it.
    pub field: &'static str,
    /// What it is, as JSON.
    pub found: String,
    /// What it has to be, as JSON.
    pub right: String,
}

/// What a field has to be.
enum Right {
    /// Exactly this.
    Is(Value),
    /// Exactly this, or not there: not every release has it.
    IsOrAbsent(Value),
    /// One of these; the first is what we write.
    OneOf(&'static [&'static str]),
    /// This list, in any order.
    These(Vec<String>),
    /// Seconds from the first to the second; the third is what we write.
    Within(u64, u64, u64),
    /// Either; this is what we write. Certificates are good with both.
    Any(Value),
    /// A list without this word.
    Without(&'static str),
}

/// What we write for a start in the past, in seconds; the engine's own default.
const BACKDATE: u64 = 30;

/// The least of it, in seconds: the engine's clock may be so far ahead of ours, and its certificates begin no later than now all the same.
const LEAST_BACKDATE: u64 = CLOCK_SLACK.as_secs().unsigned_abs();

/// Every field that decides what becomes of a certificate, whether it is written or only compared.
fn rules(set: &RoleSet, user: Option<&str>) -> Vec<(&'static str, bool, Right)> {
    let longest = MAX_TTL.as_secs().unsigned_abs();
    let no = || Right::Is(json!(false));
    let none = || Right::IsOrAbsent(json!([]));
    vec![
        // what it gives
        ("organization", true, Right::These(set.organization(user))),
        ("client_flag", true, Right::Is(json!(true))),
        ("server_flag", true, no()),
        ("code_signing_flag", true, no()),
        ("email_protection_flag", true, no()),
        ("ext_key_usage", true, Right::Is(json!([]))),
        ("ext_key_usage_oids", true, Right::Is(json!([]))),
        ("key_usage", true, Right::These(vec!["DigitalSignature".into()])),
        ("basic_constraints_valid_for_non_ca", true, Right::Any(json!(true))),
        ("policy_identifiers", false, none()),
        // no name of any kind, whoever asks for it
        ("require_cn", true, no()),
        ("use_csr_common_name", true, no()),
        ("use_csr_sans", true, no()),
        ("allow_any_name", true, no()),
        ("allow_localhost", true, no()),
        ("allow_ip_sans", true, no()),
        ("allow_wildcard_certificates", true, no()),
        ("allow_bare_domains", false, no()),
        ("allow_glob_domains", false, no()),
        ("allow_subdomains", false, no()),
        ("allow_token_displayname", false, no()),
        ("enforce_hostnames", true, Right::Is(json!(true))),
        ("cn_validations", false, Right::Without("disabled")),
        ("allowed_domains", false, Right::Is(json!([]))),
        ("allowed_domains_template", false, no()),
        ("allow_globs_in_identity_templates", false, Right::IsOrAbsent(json!(false))),
        ("allowed_uri_sans", false, Right::Is(json!([]))),
        ("allowed_uri_sans_template", false, Right::IsOrAbsent(json!(false))),
        ("allowed_other_sans", false, none()),
        ("allowed_user_ids", false, none()),
        ("allowed_serial_numbers", false, none()),
        ("ou", false, none()),
        ("country", false, none()),
        ("locality", false, none()),
        ("province", false, none()),
        ("street_address", false, none()),
        ("postal_code", false, none()),
        // no longer than it may be, whoever asks for it
        ("max_ttl", true, Right::Within(60, longest, longest)),
        ("ttl", true, Right::Within(0, longest, 3_600)),
        ("not_after_bound", true, Right::OneOf(&["forbid", "ttl-limited"])),
        ("not_before_bound", true, Right::OneOf(&["forbid"])),
        ("not_after", false, Right::IsOrAbsent(json!(""))),
        ("not_before", false, Right::IsOrAbsent(json!(""))),
        ("not_before_duration", true, Right::Within(LEAST_BACKDATE, MAX_BACKDATE.as_secs().unsigned_abs(), BACKDATE)),
        // who signs, for which keys, and that the engine remembers it
        ("issuer_ref", true, Right::OneOf(&["default"])),
        ("key_type", true, Right::OneOf(&["any", "ed25519"])),
        ("key_bits", true, Right::Any(json!(0))),
        ("signature_bits", true, Right::Is(json!(0))),
        ("use_pss", false, Right::IsOrAbsent(json!(false))),
        ("no_store", true, no()),
        ("generate_lease", true, no()),
    ]
}

/// The role to write for this set, and for this person where it is one's own. What it does not name has the engine's default,
/// which is compared all the same.
pub(super) fn wanted(set: &RoleSet, user: Option<&str>) -> Role {
    let written = rules(set, user).into_iter().filter(|(_, is_written, _)| *is_written);
    written.map(|(field, _, right)| (field.to_owned(), right.written())).collect()
}

/// Every field in which the role is not what it has to be.
pub(super) fn differences(role: &Role, set: &RoleSet, user: Option<&str>) -> Vec<Difference> {
    let rules = rules(set, user).into_iter().filter(|(field, _, right)| !right.fits(role.get(*field)));
    let told = |value: &Value| value.to_string().chars().filter(|c| !c.is_control()).take(120).collect();
    rules
        .map(|(field, _, right)| Difference {
            field,
            found: role.get(field).map_or_else(|| "absent".into(), told),
            right: right.said(),
        })
        .collect()
}

// === impl Right ===

impl Right {
    fn fits(&self, found: Option<&Value>) -> bool {
        let Some(found) = found else { return matches!(self, Self::IsOrAbsent(_) | Self::Without(_) | Self::Any(_)) };
        match self {
            Self::Is(right) => found == right,
            // lists that were never set are null in some releases
            Self::IsOrAbsent(right) => found == right || found.is_null(),
            Self::OneOf(right) => found.as_str().is_some_and(|found| right.contains(&found)),
            Self::These(right) => {
                let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
                found.len() == right.len()
                    && right.iter().all(|right| found.iter().any(|found| found.as_str() == Some(right)))
            }
            Self::Within(least, most, _) => found.as_u64().is_some_and(|found| (*least..=*most).contains(&found)),
            Self::Any(_) => true,
            Self::Without(word) => {
                found.as_array().is_some_and(|found| found.iter().all(|found| found.as_str() != Some(*word)))
            }
        }
    }

    fn written(&self) -> Value {
        match self {
            Self::Is(right) | Self::IsOrAbsent(right) | Self::Any(right) => right.clone(),
            Self::OneOf(right) => json!(right.first()),
            Self::These(right) => json!(right),
            Self::Within(_, _, right) => json!(right),
            Self::Without(_) => Value::Null,
        }
    }

    fn said(&self) -> String {
        match self {
            Self::Within(least, most, _) => format!("{least} to {most} seconds"),
            Self::Without(word) => format!("a list without \"{word}\""),
            right => right.written().to_string(),
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is {}, and has to be {}", self.field, self.found, self.right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> RoleSet {
        "operator,reader".parse().unwrap()
    }

    #[test]
    fn what_is_written_is_right_and_every_other_value_is_found() {
        let good = wanted(&set(), Some("ada"));
        let unwritten = |found: Vec<Difference>| found.into_iter().filter(|d| good.contains_key(d.field)).count();
        assert_eq!(unwritten(differences(&good, &set(), Some("ada"))), 0);
        for field in
            good.keys().filter(|field| !["basic_constraints_valid_for_non_ca", "key_bits"].contains(&field.as_str()))
        {
            for wrong in [json!("x"), json!(["x"]), json!(999_999_999), json!(null)] {
                let mut bent = good.clone();
                bent.insert(field.clone(), wrong.clone());
                let found = differences(&bent, &set(), Some("ada"));
                assert!(found.iter().any(|d| d.field == field), "{field} = {wrong}");
            }
            let mut bent = good.clone();
            bent.remove(field);
            assert!(differences(&bent, &set(), Some("ada")).iter().any(|d| d.field == field), "{field} is not there");
        }
    }

    #[test]
    fn a_wider_role_is_told_by_field_and_right_value() {
        let mut role = wanted(&set(), None);
        let find = |role: &Role, field: &str| {
            let all = differences(role, &set(), None);
            all.into_iter().find(|d| d.field == field).map(|d| d.to_string())
        };
        role.insert("organization".into(), json!(["os:reader", "os:operator", "os:admin"]));
        role.insert("server_flag".into(), json!(true));
        role.insert("not_before_duration".into(), json!(9));
        role.insert("max_ttl".into(), json!(86_401));
        role.insert("country".into(), json!(["NL"]));
        role.insert("cn_validations".into(), json!(["disabled"]));
        role.insert("not_after_bound".into(), json!("permit"));
        let organization =
            r#"`organization` is ["os:reader","os:operator","os:admin"], and has to be ["os:operator","os:reader"]"#;
        assert_eq!(find(&role, "organization").unwrap(), organization);
        assert_eq!(find(&role, "server_flag").unwrap(), "`server_flag` is true, and has to be false");
        assert_eq!(find(&role, "max_ttl").unwrap(), "`max_ttl` is 86401, and has to be 60 to 86400 seconds");
        let backdate = "`not_before_duration` is 9, and has to be 10 to 600 seconds";
        assert_eq!(find(&role, "not_before_duration").unwrap(), backdate);
        assert_eq!(find(&role, "country").unwrap(), r#"`country` is ["NL"], and has to be []"#);
        assert!(find(&role, "cn_validations").is_some());
        assert_eq!(find(&role, "not_after_bound").unwrap(), r#"`not_after_bound` is "permit", and has to be "forbid""#);
        role.insert("organization".into(), json!(["os:reader", "os:operator"]));
        role.insert("not_after_bound".into(), json!("ttl-limited"));
        assert_eq!(
            (find(&role, "organization"), find(&role, "not_after_bound")),
            (None, None),
            "order and the lesser bound"
        );
    }
}
