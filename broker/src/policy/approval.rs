//! What a permit with `@approvals` or `@self_service` obliges to: how many others must say yes, or that someone outside is told
//! first, and how the request for it lives.

use cedar_policy::Policy;
use jiff::SignedDuration;

use super::rule::shown;
use super::vocabulary::Action;

/// No policy asks for more: who could be found at night?
pub(super) const MOST_APPROVALS: u64 = 10;

/// No request allows more grants.
const MOST_USES: u64 = 10;

/// How long a request waits where its policy does not say.
const WAIT: SignedDuration = SignedDuration::from_hours(1);

/// No request waits longer.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);

/// Nobody lets themselves in for longer.
pub(super) const LONGEST_ALONE: SignedDuration = SignedDuration::from_mins(15);

/// The approval that a permit needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Approval {
    /// How many others must approve, at least one; 0 where it is `self_service`.
    pub(super) others: u64,
    /// Whether nobody approves: then someone outside must have accepted the notification of the request.
    pub(super) self_service: bool,
    /// How long a request waits for them.
    pub(super) wait: SignedDuration,
    /// How many certificates one approved request allows.
    pub(super) uses: u64,
    /// What the ticket's URL must look like, `*` standing for anything; absent, no ticket is needed.
    pub(super) ticket: Option<String>,
}

// === impl Approval ===

impl Approval {
    /// What a permit's annotations say. `None`: it needs no approval.
    ///
    /// # Errors
    /// Every annotation about approvals that is unparsable or out of place, in words.
    pub(super) fn read(policy: &Policy, actions: &[Action]) -> Result<Option<Self>, Vec<String>> {
        let mut problems = Vec::new();
        let (approvals, alone) = (policy.annotation("approvals"), policy.annotation("self_service"));
        if approvals.is_none() && alone.is_none() {
            for key in ["wait", "uses", "ticket"] {
                if policy.annotation(key).is_some() {
                    problems.push(format!("`@{key}` is about requests for approval; add `@approvals`, or remove it"));
                }
            }
            return if problems.is_empty() { Ok(None) } else { Err(problems) };
        }
        if !actions.iter().any(|action| action.is_hold()) {
            let key = if approvals.is_some() { "approvals" } else { "self_service" };
            problems
                .push(format!("`@{key}` is about certificates, but the policy covers no `hold:` action; remove it"));
        }
        let others = match approvals {
            Some(text) => number("approvals", text, MOST_APPROVALS).unwrap_or_else(|problem| {
                problems.push(problem);
                MOST_APPROVALS
            }),
            None => 0,
        };
        match alone {
            Some("true") | None => {}
            Some(text) => problems.push(format!(
                "`@self_service(\"{}\")` is not `@self_service(\"true\")`; write that, or remove it",
                shown(text)
            )),
        }
        if alone.is_some() && approvals.is_some() {
            problems.push("`@self_service` is for where nobody approves; give it a permit without `@approvals`".into());
        }
        if alone.is_some() && policy.annotation("uses").is_some() {
            problems.push("`@self_service` gives one certificate; remove `@uses`".into());
        }
        let uses = policy.annotation("uses").map_or(Ok(1), |text| number("uses", text, MOST_USES));
        let uses = uses.unwrap_or_else(|problem| {
            problems.push(problem);
            1
        });
        let wait = policy.annotation("wait").map_or(Ok(WAIT), wait).unwrap_or_else(|problem| {
            problems.push(problem);
            WAIT
        });
        let ticket = policy.annotation("ticket").map(str::trim);
        if ticket.is_some_and(|pattern| !pattern.starts_with("https://") || pattern.len() > 256) {
            problems.push(
                "`@ticket` is not the pattern of an https URL; write it as `https://tickets.example.com/browse/*`"
                    .into(),
            );
        }
        if problems.is_empty() {
            let ticket = ticket.map(Into::into);
            Ok(Some(Self { others, self_service: alone.is_some(), wait, uses, ticket }))
        } else {
            Err(problems)
        }
    }
}

fn number(key: &str, text: &str, most: u64) -> Result<u64, String> {
    if key == "approvals" && text == "0" {
        return Err(
            "`@approvals(\"0\")` would let someone in alone; name at least one other, or say `@self_service(\"true\")`"
                .into(),
        );
    }
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse()
        .ok()
        .filter(|number| is_plain && (1..=most).contains(number))
        .ok_or_else(|| format!("`@{key}(\"{}\")` is not a number from 1 to {most}", shown(text)))
}

fn wait(text: &str) -> Result<SignedDuration, String> {
    let fits = |wait: &SignedDuration| {
        *wait >= SignedDuration::from_mins(1) && *wait <= LONGEST_WAIT && wait.subsec_nanos() == 0
    };
    text.parse().ok().filter(fits).ok_or_else(|| {
        format!("`@wait(\"{}\")` is not a duration from 1m to 24h; write it as `30m` or `2h`", shown(text))
    })
}

/// Whether `text` is what the pattern says, `*` standing for any characters.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &str) -> Result<Option<Approval>, Vec<String>> {
        let policy = format!("{annotations} permit(principal, action == Action::\"hold:os:admin\", resource);");
        Approval::read(&Policy::parse(None, policy).unwrap(), &[Action::Hold(crate::domain::Role::Admin)])
    }

    #[test]
    fn case_23_a_quorum_of_nobody_is_refused_at_load() {
        for number in ["0", "", "-1", "00", "none", "1.5", "11", "18446744073709551616"] {
            assert!(read(&format!("@approvals(\"{number}\")")).is_err(), "{number}");
        }
        assert!(read("@approvals").is_err());
        assert_eq!(read("").unwrap(), None);
    }

    #[test]
    fn terms_have_defaults_and_bounds() {
        let plain = Approval { others: 2, self_service: false, wait: WAIT, uses: 1, ticket: None };
        assert_eq!(read("@approvals(\"2\")").unwrap(), Some(plain));
        let all =
            read("@approvals(\"1\") @wait(\"30m\") @uses(\"3\") @ticket(\"https://t.example/*\")").unwrap().unwrap();
        assert_eq!((all.wait, all.uses), (SignedDuration::from_mins(30), 3));
        for wrong in [
            "@wait(\"59s\")",
            "@wait(\"25h\")",
            "@wait(\"soon\")",
            "@uses(\"0\")",
            "@uses(\"11\")",
            "@ticket(\"http://x/*\")",
        ] {
            assert!(read(&format!("@approvals(\"1\") {wrong}")).is_err(), "{wrong}");
            assert!(read(wrong).is_err(), "{wrong} without `@approvals`");
        }
        let policy = Policy::parse(None, "@approvals(\"1\") permit(principal, action, resource);").unwrap();
        assert!(Approval::read(&policy, &[Action::AuditRead]).is_err(), "what needs no certificate needs no quorum");
    }

    #[test]
    fn letting_oneself_in_is_said_in_so_many_words() {
        let alone = Approval { others: 0, self_service: true, wait: WAIT, uses: 1, ticket: None };
        assert_eq!(read("@self_service(\"true\")").unwrap(), Some(alone));
        for wrong in ["false", "", "yes", "True", "1", "0"] {
            assert!(read(&format!("@self_service(\"{wrong}\")")).is_err(), "{wrong}");
        }
        for beside in ["@approvals(\"1\")", "@approvals(\"0\")", "@uses(\"1\")"] {
            assert!(read(&format!("@self_service(\"true\") {beside}")).is_err(), "{beside}");
        }
        let policy = Policy::parse(None, "@self_service(\"true\") permit(principal, action, resource);").unwrap();
        assert!(Approval::read(&policy, &[Action::AuditRead]).is_err());
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("https://t/*", "https://t/INC-1", true),
            ("https://t/*", "https://t/", true),
            ("https://t/*", "https://evil/https://t/", false),
            ("https://t/*/x", "https://t/a/b/x", true),
            ("https://t/*/x", "https://t/x", false),
            ("https://t/a", "https://t/a", true),
            ("https://t/a", "https://t/ab", false),
            ("https://t/*b*c", "https://t/abxc", true),
            ("https://t/*b*c", "https://t/acxb", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
