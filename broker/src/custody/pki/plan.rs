//! Which roles the engine must have, how they differ now, and how they come to be as they must.

use std::collections::BTreeSet;

use super::{Difference, PkiError, RoleSet, differences, is_person_role, wanted};
use crate::domain::ClusterName;
use crate::openbao::{BaoError, Kind, Pki, Role};

/// A role that the engine must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// The roles that its certificates hold.
    pub set: RoleSet,
    /// What to write.
    pub wanted: Role,
    /// In which fields it differs now; `None` where it is not there.
    pub differences: Option<Vec<Difference>>,
}

/// The roles of one cluster in the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Those that must be there, by name.
    pub roles: Vec<Planned>,
    /// Those that were made for persons; `None` where our token may not list roles.
    pub persons: Option<Vec<String>>,
}

// === impl Planned ===

impl Planned {
    /// Whether it is there and as it must be.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.differences.as_ref().is_some_and(Vec::is_empty)
    }

    /// The role in JSON, by which its entry names it.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(&self.wanted).unwrap_or_default()
    }

    /// Returns once the engine has the role and it was read back as it must be.
    ///
    /// # Errors
    /// When it was not written, or came back different.
    pub async fn write(&self, pki: &Pki, cluster: &ClusterName) -> Result<(), PkiError> {
        pki.write_role(&self.name, &self.wanted).await?;
        let found = pki.role(&self.name).await?;
        let (mount, name) = (pki.mount(), self.name.clone());
        let Some(found) = found else {
            return Err(PkiError::NoRole {
                mount: mount.into(),
                name,
                cluster: cluster.clone(),
                set: self.set.to_string().replace('.', ","),
            });
        };
        match PkiError::differing(format!("{mount}/{name}"), cluster, differences(&found, &self.set, None)) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// The roles for these sets, and for those of the cluster that have one already.
///
/// # Errors
/// When the engine cannot be asked.
pub async fn plan(pki: &Pki, cluster: &ClusterName, sets: &[RoleSet]) -> Result<Plan, BaoError> {
    let mut sets: BTreeSet<RoleSet> = sets.iter().cloned().collect();
    let persons = match pki.roles().await {
        Ok(names) => {
            sets.extend(names.iter().filter_map(|name| RoleSet::of_role_name(cluster, name)));
            Some(names.into_iter().filter(|name| is_person_role(cluster, name)).collect())
        }
        // the broker's own policy need not allow it
        Err(error) if matches!(error.kind(), Kind::Denied(_)) => None,
        Err(error) => return Err(error),
    };
    let mut roles = Vec::new();
    for set in sets {
        let name = set.role_name(cluster);
        let found = pki.role(&name).await?;
        let differences = found.map(|found| differences(&found, &set, None));
        roles.push(Planned { name, wanted: wanted(&set, None), differences, set });
    }
    Ok(Plan { roles, persons })
}
