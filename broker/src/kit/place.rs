//! Where a kit leads, held against where the cluster is now: a kit is sealed with what was declared at its ceremony.

use ichor_wire::profile::pem;
use sha2::{Digest, Sha256};

use super::Standing;
use crate::domain::Cluster;

/// Where a kit leads, as its entry has it. Older entries say nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// SHA-256 of each of the cluster's CAs, one after the other.
    pub cluster_ca: Option<Vec<u8>>,
    /// SHA-256 of the endpoints as the cluster's declaration had them.
    pub endpoints: Option<Vec<u8>>,
}

/// In what a cluster is another than a kit was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Its nodes show a certificate of a CA that the kit does not have: nothing that is opened reaches them.
    Ca,
    /// It was declared with other endpoints.
    Endpoints,
}

// === impl Place ===

impl Place {
    /// Where the cluster is as it is declared.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        let digests = pem::blocks(&cluster.ca).ok();
        let digests = digests.map(|blocks| blocks.iter().flat_map(|block| Sha256::digest(&block.der)).collect());
        let mut endpoints = Sha256::new_with_prefix(b"ichor kit endpoints 1\0");
        for endpoint in cluster.endpoints.iter().collect::<std::collections::BTreeSet<_>>() {
            endpoints.update(u64::try_from(endpoint.len()).unwrap_or(u64::MAX).to_be_bytes());
            endpoints.update(endpoint);
        }
        Self { cluster_ca: digests, endpoints: Some(endpoints.finalize().to_vec()) }
    }

    /// In what the cluster is another than this. What the entry does not tell is held to be as it was.
    fn moved(&self, now: &Self) -> Option<Moved> {
        let certificates = |place: &Self| {
            let digests = place.cluster_ca.as_ref()?;
            Some(digests.chunks(Sha256::output_size()).map(<[u8]>::to_vec).collect::<std::collections::BTreeSet<_>>())
        };
        // a kit that has more than is declared now was made amid a rotation, and serves
        if let (Some(has), Some(needs)) = (certificates(self), certificates(now))
            && !needs.is_subset(&has)
        {
            return Some(Moved::Ca);
        }
        let is_elsewhere = self.endpoints.is_some() && self.endpoints != now.endpoints;
        is_elsewhere.then_some(Moved::Endpoints)
    }
}

// === impl Moved ===

impl Moved {
    /// As a sentence about the kit goes on.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "was made for another CA of the cluster's, so what it opens reaches no node",
            Self::Endpoints => "was made when the cluster was declared with other endpoints",
        }
    }
}

// === impl Standing ===

impl Standing {
    /// The same kit, held against the cluster as it is declared now.
    #[must_use]
    pub fn held_against(self, cluster: Option<&Cluster>) -> Self {
        let moved = cluster.and_then(|cluster| self.place.moved(&Place::of(cluster)));
        Self { moved, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::Room;
    use crate::custody::ca;
    use crate::domain::ClusterName;
    use crate::kit::State;
    use crate::kit::ledger::tests::{made, proved};
    use crate::store::conformance::noon;

    #[tokio::test]
    async fn a_kit_of_another_ca_or_other_endpoints_is_due_however_well_it_drills() {
        let name = || ClusterName::new("prod").unwrap();
        let pem = || {
            let made = ca::create(&name(), noon(), 1).unwrap();
            pem::encode("CERTIFICATE", made.certificate().der()).to_string()
        };
        let (old, new) = (pem(), pem());
        let cluster = |ca: &str, endpoint: &str| Cluster {
            name: name(),
            labels: [].into(),
            ca: ca.into(),
            endpoints: vec![endpoint.into()],
            nodes: Vec::new(),
        };
        let before = cluster(&old, "10.0.0.5");
        let kit = async |place: Place| {
            let room = Room::new([]);
            let Place { cluster_ca, endpoints } = place;
            let kit = ichor_wire::log::Kit { cluster_ca, endpoints, ..made().kit.unwrap() };
            room.sequencer.note(ichor_wire::log::Content { kit: Some(kit), ..made() }, None).await.unwrap();
            room.sequencer.note(proved(&[1, 2], (3, 3)), None).await.unwrap();
            crate::kit::read(&*room.store).await.unwrap().remove(0)
        };
        let state = |kit: Standing, cluster: &Cluster| {
            let held = kit.held_against(Some(cluster));
            (held.state(noon()), held.complaint(noon()).unwrap_or_default())
        };
        let drilled = kit(Place::of(&before)).await;
        assert_eq!(state(drilled.clone(), &before).0, State::Fresh);
        for (now, why) in [(cluster(&new, "10.0.0.5"), "another CA"), (cluster(&old, "10.0.0.6"), "other endpoints")] {
            let (state, said) = state(drilled.clone(), &now);
            assert_eq!(state, State::Due);
            assert!(said.contains(why) && said.contains("kit rotate 7"), "{said}");
        }
        let both = cluster(&format!("{old}{new}"), "10.0.0.5");
        assert_eq!(state(drilled.clone(), &both).0, State::Due, "nodes may show either");
        assert_eq!(state(kit(Place::of(&both)).await, &cluster(&new, "10.0.0.5")).0, State::Fresh);
        // told once a day, as an overdue drill is: it serves no more
        let mut left = drilled.clone().held_against(Some(&cluster(&new, "10.0.0.5")));
        let room = Room::new([]);
        for (hours, count) in [(23, 0), (24, 1)] {
            left.reminded = Some(noon());
            let now = noon() + jiff::SignedDuration::from_hours(hours);
            crate::kit::remind(std::slice::from_ref(&left), 0, &room.sequencer, now).await.unwrap();
            assert_eq!(room.log().await.len(), count, "after {hours} h");
        }
        let replaced = Standing { replaced_by: Some(8), ..drilled };
        assert_eq!(state(replaced, &cluster(&new, "10.0.0.5")).0, State::Fresh);
        assert_eq!(state(kit(Place::default()).await, &before).0, State::Fresh, "of before that was recorded");
    }
}
