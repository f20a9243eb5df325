//! From what a line says of a call, and what the log knows of its grant, to its class. Pure.

use jiff::{SignedDuration, Timestamp};

use super::access::Access;
use crate::domain::{GrantId, Person};
use crate::store::CallClass;

/// How far before its grant a call may seem to begin: a node's clock may be behind, and certificates are backdated.
const BEHIND: SignedDuration = SignedDuration::from_mins(10);

/// How long after its grant's end a call may seem to begin: certificates end at a whole second.
const AHEAD: SignedDuration = SignedDuration::from_secs(1);

/// Methods by which a caller may get more than was granted: a certificate, a kubeconfig, files with keys, the machine's
/// configuration, all of etcd, or code of their own on the node.
const ESCAPES: &[&str] = &[
    "/cosi.resource.State/Create",
    "/cosi.resource.State/Destroy",
    "/cosi.resource.State/Teardown",
    "/cosi.resource.State/TeardownAndDestroy",
    "/cosi.resource.State/Update",
    "/machine.DebugService/ContainerRun",
    "/machine.LifecycleService/Install",
    "/machine.LifecycleService/Upgrade",
    "/machine.MachineService/ApplyConfiguration",
    "/machine.MachineService/Copy",
    "/machine.MachineService/EtcdRecover",
    "/machine.MachineService/EtcdSnapshot",
    "/machine.MachineService/GenerateClientConfiguration",
    "/machine.MachineService/GenerateConfiguration",
    "/machine.MachineService/Kubeconfig",
    "/machine.MachineService/Read",
    "/machine.MachineService/Upgrade",
];

/// Status codes with which a node did nothing: PermissionDenied, Unimplemented, Unauthenticated.
const REFUSED: [u8; 3] = [7, 12, 16];

/// What the log knows of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The cluster it is for.
    pub cluster: String,
    /// Its roles, sorted.
    pub roles: Vec<String>,
    /// Whose; a kit's opener is nobody that a provider vouched for.
    pub owner: Option<Person>,
    /// The `user:` value.
    pub user: String,
    /// When it was recorded.
    pub granted: Timestamp,
    /// When what was granted ends.
    pub not_after: Timestamp,
    /// The index of its entry.
    pub entry: u64,
    /// Its own id, where the log has its entry.
    pub grant: Option<GrantId>,
    /// The break-glass request that it was made of (UUID).
    pub break_glass: Option<[u8; 16]>,
}

/// What the log has for a call's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// The grant that it names.
    Known(&'a Known),
    /// It names a grant that the log does not have.
    NoSuchGrant,
    /// It names a grant that a break-glass kit gave, and nobody has reported that.
    Unreported {
        /// The kit's number.
        kit: u16,
    },
    /// It names none; where the cluster's certificates cannot name theirs, a grant that fits may be known.
    Nameless {
        /// Whether this cluster's certificates cannot name their grants.
        is_expected: bool,
        /// One of the same person, roles and time.
        fits: Option<&'a Known>,
    },
}

/// A class, and why it is that one where there is something to say.
pub(super) type Classed = (CallClass, Option<String>);

/// The class of a call at `cluster` that began at `started`.
#[must_use]
pub(super) fn classify(access: &Access, cluster: &str, started: Timestamp, found: Found<'_>) -> Classed {
    if let Some(sign) = access.sign {
        return (CallClass::Suspect, Some(sign.as_str().into()));
    }
    let unexplained = |why: String| (CallClass::Unexplained, Some(why));
    match found {
        Found::NoSuchGrant => unexplained("the log has no such grant".into()),
        Found::Unreported { kit } => unexplained(format!(
            "a kit is in use: the certificate is kit {kit}'s, and nobody has reported that it was opened"
        )),
        Found::Known(known) => match misfit(known, access, cluster) {
            Some(why) => unexplained(why),
            None if started < known.granted.saturating_sub(BEHIND).unwrap_or(known.granted) => {
                (CallClass::Suspect, Some("times out of order: it began before its grant".into()))
            }
            None if started > known.not_after.saturating_add(AHEAD).unwrap_or(known.not_after) => {
                (CallClass::AfterExpiry, Some(format!("it began after its grant's end at {}", known.not_after)))
            }
            None => escape(access).unwrap_or((CallClass::Explained, refused(access))),
        },
        Found::Nameless { is_expected: true, fits: Some(known) } => escape(access).unwrap_or_else(|| {
            let why =
                format!("its certificate names no grant; grant entry {} fits person, roles and time", known.entry);
            (CallClass::Weak, Some(why))
        }),
        Found::Nameless { is_expected: true, fits: None } => {
            unexplained("its certificate names no grant, and none fits person, roles and time".into())
        }
        Found::Nameless { is_expected: false, .. } => unexplained("its certificate names no grant".into()),
    }
}

/// Why a known grant is not this call's.
fn misfit(known: &Known, access: &Access, cluster: &str) -> Option<String> {
    if known.cluster != cluster {
        return Some(format!("its grant is for cluster `{}`", known.cluster));
    }
    if known.roles != access.roles {
        return Some(format!("its grant is for {}", known.roles.join(" ")));
    }
    if access.user.as_deref() != Some(known.user.as_str()) {
        return Some("its grant is another person's".into());
    }
    None
}

fn escape(access: &Access) -> Option<Classed> {
    let did_something = access.code.is_none_or(|code| !REFUSED.contains(&code));
    (did_something && ESCAPES.contains(&access.method.as_str()))
        .then(|| (CallClass::Escape, Some("by this method its caller may have got more than was granted".into())))
}

fn refused(access: &Access) -> Option<String> {
    access.code.is_some_and(|code| REFUSED.contains(&code)).then(|| "the node refused it".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodelog::access::{Message, Sign, read};
    use crate::store::NodeService;
    use crate::store::conformance::{after, noon, person};

    fn known() -> Known {
        Known {
            cluster: "prod".into(),
            roles: vec!["os:operator".into(), "os:reader".into()],
            owner: Some(person("ada")),
            user: "ada".into(),
            granted: noon(),
            not_after: after(600),
            entry: 7,
            grant: None,
            break_glass: None,
        }
    }

    fn call(method: &str) -> Access {
        let line = format!(
            "machined 2026/11/22 12:00:01 OK [{method}] 1ms unary Success (talos-role=grant:g,os:reader,user:ada,os:operator)"
        );
        match read(NodeService::Machined, &line) {
            Message::Call(access) => access,
            other => panic!("{line}: {other:?}"),
        }
    }

    const REBOOT: &str = "/machine.MachineService/Reboot";
    const READ: &str = "/machine.MachineService/Read";

    fn class(access: &Access, seconds: i64, found: Found<'_>) -> CallClass {
        let (class, why) = classify(access, "prod", after(seconds), found);
        assert!(class == CallClass::Explained || why.is_some(), "each class but explained says why");
        class
    }

    #[test]
    fn the_table_of_classes() {
        use CallClass::{AfterExpiry, Escape, Explained, Suspect, Unexplained, Weak};
        let known = known();
        let fits = Found::Known(&known);
        let plain = call(REBOOT);
        assert_eq!(class(&plain, 1, fits), Explained);
        assert_eq!(class(&plain, 601, fits), Explained, "the last second");
        assert_eq!(class(&plain, 602, fits), AfterExpiry);
        assert_eq!(class(&plain, -600, fits), Explained, "a node's clock may be behind");
        assert_eq!(class(&plain, -601, fits), Suspect);
        assert_eq!(class(&call(READ), 1, fits), Escape, "flagged even when explained");
        assert_eq!(class(&Access { code: Some(7), ..call(READ) }, 1, fits), Explained, "the node refused it");
        assert_eq!(class(&plain, 1, Found::NoSuchGrant), Unexplained);
        assert_eq!(class(&plain, 1, Found::Unreported { kit: 7 }), Unexplained);

        let other = |change: fn(&mut Known)| {
            let mut other = super::tests::known();
            change(&mut other);
            class(&plain, 1, Found::Known(&other))
        };
        assert_eq!(other(|known| known.cluster = "lab".into()), Unexplained, "a grant of another cluster");
        assert_eq!(other(|known| known.roles = vec!["os:reader".into()]), Unexplained, "more roles than granted");
        assert_eq!(other(|known| known.roles.push("os:x".into())), Unexplained, "fewer roles than granted");
        assert_eq!(other(|known| known.user = "bob".into()), Unexplained, "another person's grant");

        let nameless = |is_expected, fits| Found::Nameless { is_expected, fits };
        assert_eq!(class(&plain, 1, nameless(true, Some(&known))), Weak);
        assert_eq!(class(&call(READ), 1, nameless(true, Some(&known))), Escape);
        assert_eq!(class(&plain, 1, nameless(true, None)), Unexplained);
        assert_eq!(class(&plain, 1, nameless(false, Some(&known))), Unexplained, "certificates name grants here");
    }

    #[test]
    fn a_sign_outweighs_every_grant() {
        let known = known();
        for sign in [Sign::TwoRoles, Sign::Twice, Sign::Cut, Sign::Binary, Sign::Control, Sign::Fragment] {
            let access = Access { sign: Some(sign), ..call(REBOOT) };
            assert_eq!(class(&access, 1, Found::Known(&known)), CallClass::Suspect, "{sign:?}");
        }
    }
}
