//! The cookies: one binds a login to one browser, one is a browser's session at the pages.

use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

/// A cookie of ours. With the prefix `__Host-` a browser takes it only over https, from this very host, for all paths, so that no
/// neighbour host can plant one (RFC 6265bis §4.1.3.2). Over plain http, which is for loopback only, browsers differ in
/// whether they take a Secure cookie at all, so there it has neither prefix nor the attribute.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Cookie {
    secure: &'static str,
    plain: &'static str,
    /// In seconds; else the browser forgets it when it is closed.
    life: Option<u32>,
}

/// Binds a login to the browser for as long as it may take.
pub(in crate::http) const LOGIN: Cookie =
    Cookie { secure: "__Host-ichor-login", plain: "ichor-login", life: Some(600) };

/// A browser's session at the pages; how long it lasts, the broker says.
pub(in crate::http) const PAGE: Cookie = Cookie { secure: "__Host-ichor-page", plain: "ichor-page", life: None };

// === impl Cookie ===

impl Cookie {
    /// The cookie's value in the request; none when there are two.
    pub(in crate::http) fn read(&self, headers: &HeaderMap, https: bool) -> Option<String> {
        let pairs =
            headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
        let mut values =
            pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == self.name(https));
        let (_, value) = values.next()?;
        values.next().is_none().then(|| value.to_owned())
    }

    /// Sets the cookie. `Lax`: it must come along when the provider, or a link in a message, sends the browser here.
    pub(in crate::http) fn set(&self, response: &mut Response, value: &str, https: bool) {
        self.put(response, value, self.life, https);
    }

    /// Takes the cookie away.
    pub(in crate::http) fn clear(&self, response: &mut Response, https: bool) {
        self.put(response, "", Some(0), https);
    }

    fn name(&self, https: bool) -> &'static str {
        if https { self.secure } else { self.plain }
    }

    fn put(&self, response: &mut Response, value: &str, life: Option<u32>, https: bool) {
        let life = life.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
        let secure = if https { "; Secure" } else { "" };
        let text = format!("{}={value}; Path=/{life}; HttpOnly; SameSite=Lax{secure}", self.name(https));
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            response.headers_mut().append(SET_COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn https_cookies_have_the_host_prefix_and_its_attributes() {
        for (cookie, name) in [(LOGIN, "__Host-ichor-login=v"), (PAGE, "__Host-ichor-page=v")] {
            let mut response = ().into_response();
            cookie.set(&mut response, "v", true);
            let text = response.headers()[SET_COOKIE].to_str().unwrap();
            let parts: Vec<_> = text.split("; ").collect();
            for part in [name, "Path=/", "HttpOnly", "SameSite=Lax", "Secure"] {
                assert!(parts.contains(&part), "{part}: {text}");
            }
            assert!(!text.contains("Domain"));
        }
    }

    #[test]
    fn two_cookies_of_one_name_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("x=1; __Host-ichor-login=a"));
        assert_eq!(LOGIN.read(&headers, true).as_deref(), Some("a"));
        assert_eq!(LOGIN.read(&headers, false), None);
        headers.append(COOKIE, HeaderValue::from_static("__Host-ichor-login=b"));
        assert_eq!(LOGIN.read(&headers, true), None);
    }
}
