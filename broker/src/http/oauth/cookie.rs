//! The cookie that binds a login to one browser.

use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;

/// With the prefix `__Host-` a browser takes the cookie only over https, from this very host, for all paths, so that no
/// neighbour host can plant one (RFC 6265bis §4.1.3.2). Over plain http, which is for loopback only, browsers differ in
/// whether they take a Secure cookie at all, so there it has neither prefix nor the attribute.
fn name(https: bool) -> &'static str {
    if https { "__Host-ichor-login" } else { "ichor-login" }
}

/// The cookie's value in the request; none when there are two.
pub(super) fn read(headers: &HeaderMap, https: bool) -> Option<String> {
    let pairs =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name(https));
    let (_, value) = values.next()?;
    values.next().is_none().then(|| value.to_owned())
}

/// Sets the cookie for as long as a login may take. `Lax`: it must come along when the provider sends the browser back.
pub(super) fn set(response: &mut Response, value: &str, https: bool) {
    put(response, &format!("{}={value}; Path=/; Max-Age=600; HttpOnly; SameSite=Lax", name(https)), https);
}

/// Takes the cookie away.
pub(super) fn clear(response: &mut Response, https: bool) {
    put(response, &format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax", name(https)), https);
}

fn put(response: &mut Response, cookie: &str, https: bool) {
    let text = if https { format!("{cookie}; Secure") } else { cookie.to_owned() };
    if let Ok(mut value) = HeaderValue::from_str(&text) {
        value.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn https_cookies_have_the_host_prefix_and_its_attributes() {
        let mut response = ().into_response();
        set(&mut response, "v", true);
        let text = response.headers()[SET_COOKIE].to_str().unwrap();
        for part in ["__Host-ichor-login=v", "Path=/", "HttpOnly", "SameSite=Lax", "Secure"] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("Domain"));
    }

    #[test]
    fn two_cookies_of_one_name_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("x=1; __Host-ichor-login=a"));
        assert_eq!(read(&headers, true).as_deref(), Some("a"));
        assert_eq!(read(&headers, false), None);
        headers.append(COOKIE, HeaderValue::from_static("__Host-ichor-login=b"));
        assert_eq!(read(&headers, true), None);
    }
}
