//! Query and form parameters, each at most once (RFC 6749 §3.1).

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use url::form_urlencoded;
use zeroize::Zeroizing;

/// The parameters by name. They may be secrets, so they are wiped and not shown.
pub(in crate::http) struct Params(BTreeMap<String, Zeroizing<String>>);

/// A parameter came twice. Which of the two counts would be a guess that someone else may guess differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a parameter is given more than once")]
pub(in crate::http) struct Repeated;

impl Params {
    pub(in crate::http) fn parse(bytes: &[u8]) -> Result<Self, Repeated> {
        let mut params = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(bytes) {
            if params.insert(name.into_owned(), Zeroizing::new(value.into_owned())).is_some() {
                return Err(Repeated);
            }
        }
        Ok(Self(params))
    }

    /// The parameter; an empty one counts as absent (RFC 6749 §3.1).
    pub(in crate::http) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|text| text.as_str()).filter(|text| !text.is_empty())
    }

    pub(in crate::http) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(String::from)
    }
}

/// Whether the body is a form. What a page of another site can send without asking is a form too, so this protects nothing;
/// it makes mistakes plain.
pub(in crate::http) fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_comes_once() {
        assert!(Params::parse(b"a=1&b=2&a=3").is_err());
        let params = Params::parse(b"a=1&b=&c=%20x").unwrap_or_else(|_| panic!("no parameter repeats"));
        assert_eq!((params.text("a"), params.text("b"), params.text("c")), (Some("1"), None, Some(" x")));
    }
}
