//! The certificate profile.
