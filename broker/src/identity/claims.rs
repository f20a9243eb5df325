//! What verified claims say about a person: name, groups, the value behind `user:`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use ichor_wire::profile::user_value;
use ichor_wire::reason::is_unseen;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Identity, Verified};
use crate::domain::{ClaimsInForce, Group, HumanClaim, Person, ProviderAlias};

/// The most groups a person may have. Beyond it a provider is misconfigured: no policy needs them all.
const MOST_GROUPS: usize = 2_000;

/// The longest group name, in bytes.
const LONGEST_GROUP: usize = 512;

/// The longest name shown, in characters.
const LONGEST_NAME: usize = 128;

/// A set of claims: of a verified ID token, or of the userinfo answer for the same subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

/// Where groups come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupsFrom {
    /// The ID token.
    #[default]
    IdToken,
    /// The userinfo endpoint.
    Userinfo,
}

/// How one provider's claims are read.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The provider's alias.
    pub provider: ProviderAlias,
    /// The claim that lists groups; dots reach into objects, unless a claim has the whole text as its name.
    pub groups_claim: String,
    /// Where that claim is.
    pub groups_from: GroupsFrom,
    /// Claims that may become `user:`, in order.
    pub user_claims: Vec<String>,
    /// Groups from a local file, in addition.
    pub local_groups: LocalGroups,
    /// The claim that tells which human is behind the account; none where each human has one account.
    pub human_claim: Option<String>,
    /// The claims by which all providers tell humans.
    pub claims_in_force: ClaimsInForce,
}

/// Groups by subject, from a local file, for a provider that tells none; by default there is no file. Keyed by subject, never by a name or
/// address. Clones are one: what replaces it in one is in all.
#[derive(Clone, Debug, Default)]
pub struct LocalGroups(Option<Arc<RwLock<BySubject>>>);

/// The groups of each subject.
pub type BySubject = BTreeMap<String, BTreeSet<String>>;

/// Why verified claims are of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimsError {
    /// Entra's "overage": more groups than fit into the token, so a link instead of a list.
    #[error(
        "the provider sent a link instead of the groups, because the person is in too many (Entra's groups overage); \
         let the app registration emit only groups assigned to the application, or app roles with `groups_claim = \"roles\"`"
    )]
    Overage,
    /// The claim is there, but is no list of names.
    #[error("the claim `{0}` is not a list of group names")]
    GroupsForm(String),
    /// More groups, or longer names, than are plausible.
    #[error("the claim `{0}` has more than 2000 groups or a name over 512 bytes")]
    GroupsTooLarge(String),
    /// Userinfo answered for someone else (OpenID Connect Core §5.3.2).
    #[error("userinfo answered for another subject")]
    OtherSubject,
    /// Groups come from userinfo, and userinfo was not asked.
    #[error("the groups come from userinfo, which did not answer")]
    NoUserinfo,
}

// === impl Claims ===

impl Claims {
    pub(super) fn new(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// The claims of a userinfo answer, once its `sub` is the one expected.
    ///
    /// # Errors
    /// When the answer is for someone else, or for nobody.
    pub fn of_userinfo(map: Map<String, Value>, subject: &str) -> Result<Self, ClaimsError> {
        if map.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(ClaimsError::OtherSubject);
        }
        Ok(Self(map))
    }

    /// The claim at `path`: its whole text as a name first, then object by object at each dot.
    fn at(&self, path: &str) -> Option<&Value> {
        find(&self.0, path)
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.at(path).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Whether the claim at `path` is an address that the provider says it has not verified (`email_verified`, OpenID Connect Core
    /// §5.1, beside it): whoever has the account may have typed anybody's. One that says nothing of that says nothing against it.
    fn is_unverified(&self, path: &str) -> bool {
        let Some(parent) = path.strip_suffix("email").filter(|parent| parent.is_empty() || parent.ends_with('.'))
        else {
            return false;
        };
        let told = self.at(&format!("{parent}email_verified"));
        told.is_some_and(|told| told != &Value::Null && told != &Value::Bool(true) && told != "true")
    }

    /// A text, or a whole number as text: employees are often numbered.
    fn scalar(&self, path: &str) -> Option<String> {
        match self.at(path)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) if number.is_u64() => Some(number.to_string()),
            _ => None,
        }
    }

    /// The group names at `path`. `None`: the claim is absent, which is not the same as an empty list.
    fn groups(&self, path: &str) -> Result<Option<BTreeSet<String>>, ClaimsError> {
        let names = match self.at(path) {
            None | Some(Value::Null) if self.has_overage() => return Err(ClaimsError::Overage),
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(one)) => BTreeSet::from([one.clone()]),
            Some(Value::Array(list)) => {
                if list.len() > MOST_GROUPS {
                    return Err(ClaimsError::GroupsTooLarge(path.into()));
                }
                let names: Option<_> = list.iter().map(|item| item.as_str().map(String::from)).collect();
                names.ok_or_else(|| ClaimsError::GroupsForm(path.into()))?
            }
            Some(_) => return Err(ClaimsError::GroupsForm(path.into())),
        };
        if names.iter().any(|name| name.len() > LONGEST_GROUP) {
            return Err(ClaimsError::GroupsTooLarge(path.into()));
        }
        Ok(Some(names))
    }

    /// Whether Entra says that the groups did not fit: `_claim_names` points elsewhere, or `hasgroups` is set.
    fn has_overage(&self) -> bool {
        let pointed =
            self.0.get("_claim_names").and_then(Value::as_object).is_some_and(|names| names.contains_key("groups"));
        let flag = self.0.get("hasgroups").is_some_and(|flag| flag == &Value::Bool(true) || flag == "true");
        pointed || flag
    }

    /// A name to show: what the provider tells, without what could disturb a page or terminal.
    fn name(&self) -> Option<String> {
        let claims = ["name", "preferred_username", "email"].into_iter();
        let told = claims.filter(|claim| !self.is_unverified(claim)).find_map(|claim| self.text(claim))?;
        let shown: String = told.chars().filter(|c| !is_unseen(*c)).take(LONGEST_NAME).collect();
        (!shown.trim().is_empty()).then(|| shown.trim().to_owned())
    }
}

// === impl Mapping ===

impl Mapping {
    /// The identity that a verified token, and userinfo where asked, speak of. A claim of groups that is absent is none.
    ///
    /// # Errors
    /// When the claims are of no use; see [`ClaimsError`].
    pub fn identity(
        &self,
        verified: Verified,
        userinfo: Option<&Claims>,
        now: Timestamp,
    ) -> Result<Identity, ClaimsError> {
        let told = self.told_groups(Some(&verified.claims), userinfo)?.unwrap_or_default();
        let sources = [Some(&verified.claims), userinfo];
        let candidates: Vec<&str> = self
            .user_claims
            .iter()
            .filter(|claim| !sources.into_iter().flatten().any(|source| source.is_unverified(claim)))
            .filter_map(|claim| sources.into_iter().flatten().find_map(|source| source.text(claim)))
            .collect();
        let (user, _) = user_value(&verified.issuer, &verified.subject, &candidates);
        let name = sources.into_iter().flatten().find_map(Claims::name);
        let human = self.human_claim.as_deref().map_or(HumanClaim::NotAsked, |claim| {
            let is_unverified = sources.into_iter().flatten().any(|source| source.is_unverified(claim));
            let told = sources.into_iter().flatten().find_map(|source| source.scalar(claim));
            told.filter(|_| !is_unverified)
                .map_or(HumanClaim::Untold, |told| HumanClaim::of(&told).under(self.claims_in_force))
        });
        Ok(Identity {
            groups: self.groups(&verified.subject, told),
            name: name.unwrap_or_else(|| verified.subject.clone()),
            person: Person { provider: self.provider.clone(), issuer: verified.issuer, subject: verified.subject },
            user,
            groups_at: now,
            acr: verified.acr,
            auth_time: verified.auth_time,
            session: None,
            human,
            page: None,
            has_groups_file: self.local_groups.has_file(),
        })
    }

    /// The group names that the provider tells. `None`: it tells nothing about groups.
    ///
    /// # Errors
    /// When the claim cannot be read, or its source is missing.
    pub fn told_groups(
        &self,
        id_token: Option<&Claims>,
        userinfo: Option<&Claims>,
    ) -> Result<Option<BTreeSet<String>>, ClaimsError> {
        match self.groups_from {
            GroupsFrom::IdToken => id_token.map_or(Ok(None), |claims| claims.groups(&self.groups_claim)),
            GroupsFrom::Userinfo => userinfo.ok_or(ClaimsError::NoUserinfo)?.groups(&self.groups_claim),
        }
    }

    /// The groups told, and those of the local file.
    #[must_use]
    pub fn groups(&self, subject: &str, told: BTreeSet<String>) -> BTreeSet<Group> {
        let local = self.local_groups.of(subject);
        told.into_iter().chain(local).map(|name| Group { provider: self.provider.clone(), name }).collect()
    }
}

// === impl LocalGroups ===

impl LocalGroups {
    /// These groups of a file.
    #[must_use]
    pub fn new(groups: BySubject) -> Self {
        Self(Some(Arc::new(RwLock::new(groups))))
    }

    /// Puts these in the place of those before, for every clone. Where there is no file, nothing is replaced.
    pub fn replace(&self, groups: BySubject) {
        if let Some(held) = &self.0 {
            *held.write().unwrap_or_else(PoisonError::into_inner) = groups;
        }
    }

    /// Whether there is a file, be it without a single group.
    pub(super) fn has_file(&self) -> bool {
        self.0.is_some()
    }

    fn of(&self, subject: &str) -> BTreeSet<String> {
        let Some(held) = &self.0 else { return BTreeSet::new() };
        held.read().unwrap_or_else(PoisonError::into_inner).get(subject).cloned().unwrap_or_default()
    }
}

fn find<'a>(map: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = map.get(path) {
        return Some(value);
    }
    path.match_indices('.').find_map(|(at, _)| {
        let (head, tail) = (path.get(..at)?, path.get(at + 1..)?);
        find(map.get(head)?.as_object()?, tail)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        Claims(value.as_object().cloned().unwrap())
    }

    fn groups(value: Value, path: &str) -> Result<Option<Vec<String>>, ClaimsError> {
        claims(value).groups(path).map(|told| told.map(|set| set.into_iter().collect()))
    }

    #[test]
    fn a_path_is_a_name_first_and_then_objects() {
        let expected = Ok(Some(vec!["a".to_owned()]));
        assert_eq!(groups(json!({"groups": ["a"]}), "groups"), expected);
        assert_eq!(groups(json!({"realm_access": {"roles": ["a"]}}), "realm_access.roles"), expected);
        assert_eq!(groups(json!({"https://x.example/groups": ["a"]}), "https://x.example/groups"), expected);
        assert_eq!(groups(json!({"https://x.example/c": {"groups": ["a"]}}), "https://x.example/c.groups"), expected);
        assert_eq!(groups(json!({"groups": "a"}), "groups"), expected);
        assert_eq!(groups(json!({"groups": {"roles": ["a"]}}), "groups.other"), Ok(None));
    }

    #[test]
    fn absent_empty_wrong_and_too_many_are_four_things() {
        assert_eq!(groups(json!({}), "groups"), Ok(None));
        assert_eq!(groups(json!({"groups": null}), "groups"), Ok(None));
        assert_eq!(groups(json!({"groups": []}), "groups"), Ok(Some(vec![])));
        for wrong in [json!({"groups": 1}), json!({"groups": {}}), json!({"groups": ["a", 1]}), json!({"groups": true})]
        {
            assert_eq!(groups(wrong, "groups"), Err(ClaimsError::GroupsForm("groups".into())));
        }
        let many: Vec<String> = (0..=MOST_GROUPS).map(|n| n.to_string()).collect();
        assert_eq!(groups(json!({"groups": many}), "groups"), Err(ClaimsError::GroupsTooLarge("groups".into())));
        let long = "x".repeat(LONGEST_GROUP + 1);
        assert_eq!(groups(json!({"groups": [long]}), "groups"), Err(ClaimsError::GroupsTooLarge("groups".into())));
        for link in [json!({"_claim_names": {"groups": "src1"}}), json!({"hasgroups": true})] {
            assert_eq!(groups(link, "groups"), Err(ClaimsError::Overage));
        }
    }

    #[test]
    fn a_name_is_shown_without_what_could_disturb() {
        let name = |value: Value| claims(value).name();
        assert_eq!(name(json!({"name": "Al\u{202e}ice\n\u{7}"})).as_deref(), Some("Alice"));
        assert_eq!(name(json!({"name": "", "email": "a@b"})).as_deref(), Some("a@b"));
        assert_eq!(name(json!({"name": " \u{200b} "})), None);
        assert_eq!(name(json!({"name": "x".repeat(1000)})).map(|name| name.len()), Some(LONGEST_NAME));
    }

    /// Else whoever may type an address at the provider has certificates, audit entries and requests in another's name.
    #[test]
    fn an_address_that_the_provider_has_not_verified_is_nobodys_name() {
        let user = |token: Value, userinfo: Option<Value>| {
            let nested = token.get("realm").is_some();
            let mapping = Mapping {
                provider: ProviderAlias::new("corp").unwrap(),
                groups_claim: "groups".into(),
                groups_from: GroupsFrom::IdToken,
                user_claims: ["email", "realm.email", "preferred_username"].map(String::from).to_vec(),
                local_groups: LocalGroups::default(),
                human_claim: Some("email".into()),
                claims_in_force: ClaimsInForce::default(),
            };
            let verified = Verified {
                issuer: "https://idp".into(),
                subject: "s1".into(),
                acr: None,
                auth_time: None,
                claims: claims(token),
            };
            let userinfo = userinfo.map(claims);
            let identity = mapping.identity(verified, userinfo.as_ref(), Timestamp::UNIX_EPOCH).unwrap();
            assert_eq!(
                identity.human == HumanClaim::of("bob@example.com"),
                identity.user == "bob@example.com" && !nested
            );
            (identity.user, identity.name)
        };
        let bob = "bob@example.com";
        for verified in [json!(true), json!("true"), Value::Null] {
            let token = json!({ "email": bob, "email_verified": verified, "preferred_username": "mallory" });
            assert_eq!(user(token, None), (bob.into(), "mallory".into()), "{verified}");
        }
        assert_eq!(user(json!({ "email": bob }), None), (bob.into(), bob.into()), "one that says nothing of it");
        for verified in [json!(false), json!("false"), json!(0), json!("yes")] {
            let token = json!({ "email": bob, "email_verified": verified, "preferred_username": "mallory" });
            assert_eq!(user(token, None), ("mallory".into(), "mallory".into()), "{verified}");
            let token = json!({ "email": bob, "email_verified": verified });
            let (user, name) = user(token, None);
            assert!(user.starts_with('~') && name == "s1", "{user} {name}");
        }
        let denied = json!({ "sub": "s1", "email": bob, "email_verified": false });
        assert_eq!(user(json!({ "email": bob, "preferred_username": "mallory" }), Some(denied)).0, "mallory");
        let nested = json!({ "realm": { "email": bob, "email_verified": false }, "preferred_username": "mallory" });
        assert_eq!(user(nested, None).0, "mallory");
        assert_eq!(user(json!({ "realm": { "email": bob } }), None).0, bob);
    }

    #[test]
    fn userinfo_is_for_the_same_subject() {
        let map = |sub: Value| json!({ "sub": sub }).as_object().cloned().unwrap();
        assert!(Claims::of_userinfo(map(json!("s1")), "s1").is_ok());
        for other in [json!("S1"), json!("s1 "), json!(1), Value::Null] {
            assert_eq!(Claims::of_userinfo(map(other), "s1"), Err(ClaimsError::OtherSubject));
        }
        assert_eq!(Claims::of_userinfo(Map::new(), "s1"), Err(ClaimsError::OtherSubject));
    }
}
