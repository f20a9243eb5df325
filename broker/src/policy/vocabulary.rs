//! What policies speak of: the schema, and the names of people, groups, clusters and actions as Cedar knows them.
//!
//! Cedar names an entity by one text, while a person is three values and a group two. The encodings are injective: no two
//! persons, groups or labels ever share a text, whatever a provider or a config file puts into theirs. (Groups are looked up by
//! value: the index takes the names in policies apart.)

use std::collections::HashSet;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, Schema};

use crate::domain::{ClusterName, Person, ProviderAlias, Role};

/// The schema, as `policies/ichor.cedarschema` has it.
pub const SCHEMA: &str = include_str!("../../../policies/ichor.cedarschema");

/// What a person may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Action {
    /// Hold a certificate with this role.
    Hold(Role),
    /// Read audit entries.
    AuditRead,
    /// Ask for access that others must approve.
    BreakGlassRequest,
    /// Approve what someone else asks for.
    BreakGlassApprove,
    /// Ask for bodies of audit entries to be dropped, or approve that.
    AuditDrop,
    /// Lock a user, a session, a grant, a cluster or everything.
    Lock,
    /// Lift such a lock.
    Unlock,
    /// To bring back what was recorded when a break-glass kit was opened.
    KitReport,
}

/// The kinds of things that policies are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Person,
    Group,
    Label,
    Cluster,
    Node,
    Ichor,
    Action,
}

/// The schema and the entity types, parsed once per policy set.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub(super) schema: Schema,
    person: EntityTypeName,
    label: EntityTypeName,
    cluster: EntityTypeName,
    ichor: EntityTypeName,
    action: EntityTypeName,
}

/// A label's key has `=` in it, so that two labels could share a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the label key `{0}` contains `=`; correct it in the cluster's file")]
pub(super) struct BadLabel(String);

// === impl Action ===

impl Action {
    /// Every action.
    pub(super) const ALL: [Self; 13] = [
        Self::Hold(Role::Admin),
        Self::Hold(Role::Operator),
        Self::Hold(Role::Reader),
        Self::Hold(Role::EtcdBackup),
        Self::Hold(Role::ImageVerifier),
        Self::Hold(Role::MetaWriter),
        Self::AuditRead,
        Self::BreakGlassRequest,
        Self::BreakGlassApprove,
        Self::AuditDrop,
        Self::Lock,
        Self::Unlock,
        Self::KitReport,
    ];

    /// The group of all `hold:` actions.
    const HOLD: &'static str = "hold";

    /// The action's id in policies.
    pub(super) fn id(self) -> String {
        match self {
            Self::Hold(role) => format!("hold:{role}"),
            Self::AuditRead => "audit:read".into(),
            Self::BreakGlassRequest => "break-glass:request".into(),
            Self::BreakGlassApprove => "break-glass:approve".into(),
            Self::AuditDrop => "audit:drop".into(),
            Self::Lock => "lock".into(),
            Self::Unlock => "unlock".into(),
            Self::KitReport => "kit:report".into(),
        }
    }

    /// The actions that an action's or action group's id stands for; none when the id is unknown.
    pub(super) fn named(id: &str) -> Vec<Self> {
        let within = |action: &Self| action.id() == id || (id == Self::HOLD && action.is_hold());
        Self::ALL.into_iter().filter(within).collect()
    }

    /// Whether it is about holding a certificate.
    pub(super) const fn is_hold(self) -> bool {
        matches!(self, Self::Hold(_))
    }
}

// === impl Kind ===

impl Kind {
    /// The kind of an entity, by its type's name.
    pub(super) fn of(uid: &EntityUid) -> Option<Self> {
        Self::named(uid.type_name().to_string().as_str())
    }

    /// The kind with this type name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "Person" => Self::Person,
            "Group" => Self::Group,
            "Label" => Self::Label,
            "Cluster" => Self::Cluster,
            "Node" => Self::Node,
            "Ichor" => Self::Ichor,
            "Action" => Self::Action,
            _ => return None,
        })
    }
}

// === impl Vocabulary ===

impl Vocabulary {
    /// Parses the schema.
    ///
    /// # Errors
    /// When the schema that was built in does not parse: a bug, in words.
    pub(super) fn new() -> Result<Self, String> {
        let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| error.to_string())?;
        let kind = |name: &str| name.parse::<EntityTypeName>().map_err(|error| error.to_string());
        Ok(Self {
            schema,
            person: kind("Person")?,
            label: kind("Label")?,
            cluster: kind("Cluster")?,
            ichor: kind("Ichor")?,
            action: kind("Action")?,
        })
    }

    /// `alias/issuer#subject`. The alias has no `/`, and in the issuer `%` and `#` are escaped, so each part's end is certain.
    pub(super) fn person(&self, person: &Person) -> EntityUid {
        let issuer = person.issuer.replace('%', "%25").replace('#', "%23");
        uid(&self.person, &format!("{}/{issuer}#{}", person.provider, person.subject))
    }

    /// `key=value`.
    ///
    /// # Errors
    /// When the key has `=` in it. A label left out could loosen a `forbid`, so the caller must refuse.
    pub(super) fn label(&self, key: &str, value: &str) -> Result<EntityUid, BadLabel> {
        if key.contains('=') {
            return Err(BadLabel(key.into()));
        }
        Ok(uid(&self.label, &format!("{key}={value}")))
    }

    /// A cluster, by its name.
    pub(super) fn cluster(&self, name: &ClusterName) -> EntityUid {
        uid(&self.cluster, name.as_str())
    }

    /// Ichor itself.
    pub(super) fn ichor(&self) -> EntityUid {
        uid(&self.ichor, "broker")
    }

    /// An action.
    pub(super) fn action(&self, action: Action) -> EntityUid {
        uid(&self.action, &action.id())
    }

    /// An action with the group that it is in.
    pub(super) fn action_entity(&self, action: Action) -> Entity {
        let parents = if action.is_hold() { HashSet::from([uid(&self.action, Action::HOLD)]) } else { HashSet::new() };
        Entity::new_no_attrs(self.action(action), parents)
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// Why an entity that a policy names can never match anything, and how to write it. A misspelt name in a `forbid` would
/// loosen the set without a word.
pub(super) fn misnamed(uid: &EntityUid) -> Option<&'static str> {
    let id = uid.id().unescaped();
    let alias_first =
        |id: &str| id.split_once('/').filter(|(alias, rest)| good_alias(alias) && !rest.is_empty()).is_some();
    match Kind::of(uid)? {
        Kind::Group => (!alias_first(id)).then_some("write a group as `Group::\"alias/name\"`"),
        Kind::Person => {
            let subject = id.split_once('#').is_some_and(|(_, subject)| !subject.is_empty());
            (!alias_first(id) || !subject).then_some("write a person as `Person::\"alias/issuer#subject\"`")
        }
        Kind::Label => {
            let key = id.split_once('=').is_some_and(|(key, _)| !key.is_empty());
            (!key).then_some("write a label as `Label::\"key=value\"`")
        }
        Kind::Cluster => ClusterName::new(id).is_err().then_some("write a cluster as `Cluster::\"name\"`"),
        Kind::Ichor => (id != "broker").then_some("Ichor itself is `Ichor::\"broker\"`"),
        Kind::Node => Some("this build decides about clusters, not about single nodes"),
        // Cedar's own validation knows the schema's actions, and there are no others
        Kind::Action => None,
    }
}

fn good_alias(text: &str) -> bool {
    ProviderAlias::new(text).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static WORDS: LazyLock<Vocabulary> = LazyLock::new(|| Vocabulary::new().unwrap());

    fn person(alias: &str, issuer: &str, subject: &str) -> Person {
        Person { provider: ProviderAlias::new(alias).unwrap(), issuer: issuer.into(), subject: subject.into() }
    }

    proptest! {
        #[test]
        fn two_persons_never_share_a_name(
            a in ("[ab]{1,2}", "[a/#%25]{0,4}", "[a/#%25]{0,4}"),
            b in ("[ab]{1,2}", "[a/#%25]{0,4}", "[a/#%25]{0,4}"),
        ) {
            let one = person(&a.0, &a.1, &a.2);
            let other = person(&b.0, &b.1, &b.2);
            prop_assert_eq!(one == other, WORDS.person(&one) == WORDS.person(&other));
        }
    }

    #[test]
    fn a_label_key_with_an_equals_sign_is_an_error() {
        let words = Vocabulary::new().unwrap();
        assert!(words.label("a=b", "c").is_err());
        assert_eq!(words.label("a", "b=c").unwrap().id().unescaped(), "a=b=c");
    }

    #[test]
    fn actions_of_the_schema_and_of_the_build_are_the_same() {
        let words = Vocabulary::new().unwrap();
        let mut here: Vec<_> = Action::ALL.iter().map(|action| words.action(*action).to_string()).collect();
        let mut there: Vec<_> = words.schema.actions().map(ToString::to_string).collect();
        there.retain(|name| name != r#"Action::"hold""#);
        here.sort();
        there.sort();
        assert_eq!(here, there);
        assert_eq!(Role::ALL.len(), Action::named("hold").len());
        assert!(!SCHEMA.contains("hold:os:impersonator"));
    }
}
