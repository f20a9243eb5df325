//! The people of the demo. Their groups are those of the shipped policies for a small team.

use ichor_standins::provider::Person;

/// Someone in the demo.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor {
    /// What they sign in as.
    pub(crate) login: &'static str,
    /// Their name.
    pub(crate) name: &'static str,
    /// Their group at the provider.
    pub(crate) group: &'static str,
    /// What the provider vouches for of their sign-in.
    pub(crate) acr: Option<&'static str>,
}

/// May look.
pub(crate) const UMA: Actor = Actor { login: "uma", name: "Uma Reader", group: "talos-users", acr: None };

/// May also reboot.
pub(crate) const OTTO: Actor = Actor { login: "otto", name: "Otto Operator", group: "talos-operators", acr: None };

/// May do everything, a quarter of an hour at a time.
pub(crate) const ADA: Actor = Actor { login: "ada", name: "Ada Admin", group: "talos-admins", acr: Some("mfa") };

/// All of them.
pub(crate) const ALL: [Actor; 3] = [UMA, OTTO, ADA];

// === impl Actor ===

impl Actor {
    /// The person as the provider knows them.
    pub(crate) fn person(self) -> Person {
        let person = Person::new(self.login, self.name, [self.group]);
        match self.acr {
            Some(acr) => person.with_acr(acr),
            None => person,
        }
    }
}
