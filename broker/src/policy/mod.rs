//! From an identity and a request to a [`Grant`] or a refusal. Pure: no clock, no store, no files.
//!
//! Policies are Cedar. What is yes or no is a Cedar condition; what is not (`@max_ttl`, `@hint`, …) is an annotation that
//! we check ourselves, because Cedar's validator ignores annotations.

mod grant;

pub use grant::{Grant, Mode};
