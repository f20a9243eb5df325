//! How long a certificate lives.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::super::answer::Answer;
use super::super::call::Call;
use super::super::sys::{duration, go_duration};
use super::role::Role;

/// What a mount without tuning allows at most: 32 days.
const MOUNT_MAX_TTL: SignedDuration = SignedDuration::from_hours(768);

/// A validity, and what had to be clamped for it.
pub(super) struct Life {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) warnings: Vec<String>,
}

/// The validity: a too long `ttl` is clamped, `not_after` beats `max_ttl` unless the role bounds it, and it all begins
/// `not_before_duration` ago.
pub(super) fn life(role: &Role, call: &Call, now: Timestamp) -> Result<Life, Answer> {
    let mut warnings = Vec::new();
    let max = match role.span("max_ttl") {
        SignedDuration::ZERO => MOUNT_MAX_TTL,
        max => max,
    };
    let asked = call.body.get("ttl").and_then(duration).filter(|ttl| !ttl.is_zero());
    let mut ttl = asked.unwrap_or_else(|| role.span("ttl"));
    if ttl.is_zero() {
        ttl = max;
    }
    if ttl > max {
        warnings.push(format!(
            "TTL \"{}\" is longer than permitted maxTTL \"{}\", so maxTTL is being used",
            go_duration(ttl),
            go_duration(max)
        ));
        ttl = max;
    }
    let mut not_after = now.saturating_add(ttl).unwrap_or(Timestamp::MAX);
    if let Some(fixed) = call.body.get("not_after").and_then(Value::as_str).filter(|fixed| !fixed.is_empty()) {
        let limit = now.saturating_add(max).unwrap_or(Timestamp::MAX);
        let fixed: Timestamp = fixed.parse().map_err(|_| Answer::bad("not_after is no time"))?;
        not_after = match role.text("not_after_bound") {
            "forbid" => return Err(Answer::bad("not_after_bound is set to forbid. not_after cannot be provided.")),
            "ttl-limited" => fixed.min(limit),
            _ => fixed,
        };
    }
    let begins = call.body.get("not_before").and_then(Value::as_str).is_some_and(|begins| !begins.is_empty());
    if begins && role.text("not_before_bound") == "forbid" {
        return Err(Answer::bad("not_before_bound is set to forbid. not_before cannot be provided."));
    }
    let not_before = now.saturating_sub(role.span("not_before_duration")).unwrap_or(now);
    Ok(Life { not_before, not_after, warnings })
}
