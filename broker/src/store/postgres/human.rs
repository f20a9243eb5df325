//! Who is surely another human, as a condition in SQL: what [`Human::is_surely_another`](crate::domain::Human) says, held within the
//! transaction that depends on it.

use crate::domain::IN_FORCE;

/// What tells a human from others, in SQL: columns of a row, or parameters.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    /// The claim's digest, or NULL.
    pub(super) human: &'a str,
    /// The account.
    pub(super) provider: &'a str,
    pub(super) issuer: &'a str,
    pub(super) subject: &'a str,
}

/// The condition that both are there and are surely two humans.
pub(super) fn surely_another(one: Told<'_>, two: Told<'_>) -> String {
    let same = |a: &str, b: &str| format!("{a} = {b}");
    let place = format!("{} AND {}", same(one.provider, two.provider), same(one.issuer, two.issuer));
    let (a, b) = (one.human, two.human);
    format!(
        "CASE WHEN {a} IS NULL AND {b} IS NULL THEN {place} AND {} <> {}
            ELSE {a} <> {b} AND substr({a}, 1, {IN_FORCE}) = substr({b}, 1, {IN_FORCE}) AND NOT ({place} AND {}) END",
        one.subject,
        two.subject,
        same(one.subject, two.subject)
    )
}
