//! Cookies, by RFC 6265bis as far as a login needs it.

use reqwest::header::{HeaderMap, SET_COOKIE};
use url::{Host, Url};

/// The cookies of one browser.
#[derive(Default)]
pub(super) struct Jar {
    cookies: Vec<Cookie>,
}

/// How a request comes about: decides which cookies go along.
#[derive(Clone, Copy)]
pub(super) struct Navigation {
    /// The whole chain stayed on one site, or was typed in.
    pub(super) same_site: bool,
    /// GET.
    pub(super) safe: bool,
}

struct Cookie {
    origin: url::Origin,
    name: String,
    value: String,
    path: String,
    same_site: SameSite,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SameSite {
    Strict,
    Lax,
    None,
}

// === impl Jar ===

impl Jar {
    /// Takes in what an answer from `url` sets. A cookie that a browser would refuse is left out.
    pub(super) fn keep(&mut self, url: &Url, headers: &HeaderMap) {
        for line in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            let Some((cookie, ended)) = Cookie::parse(url, line) else { continue };
            self.cookies.retain(|known| {
                known.origin != cookie.origin || known.name != cookie.name || known.path != cookie.path
            });
            if !ended {
                self.cookies.push(cookie);
            }
        }
    }

    /// The `Cookie` header for a request, or none.
    pub(super) fn header(&self, url: &Url, navigation: Navigation) -> Option<String> {
        let pairs: Vec<String> = self
            .cookies
            .iter()
            .filter(|cookie| cookie.belongs_to(url) && cookie.goes_along(navigation))
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// The value of one cookie.
    pub(super) fn value(&self, url: &Url, name: &str) -> Option<String> {
        self.cookies
            .iter()
            .find(|cookie| cookie.name == name && cookie.belongs_to(url))
            .map(|cookie| cookie.value.clone())
    }
}

// === impl Cookie ===

impl Cookie {
    /// The cookie in a `Set-Cookie` line, and whether the line ends its life.
    fn parse(url: &Url, line: &str) -> Option<(Self, bool)> {
        let mut parts = line.split(';').map(str::trim);
        let (name, value) = parts.next()?.split_once('=')?;
        let (mut path, mut secure, mut domain, mut ended, mut same_site) = (None, false, false, false, SameSite::Lax);
        for attribute in parts {
            let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            match key.to_ascii_lowercase().as_str() {
                "path" => path = Some(value.to_owned()),
                "secure" => secure = true,
                "domain" => domain = true,
                "max-age" => ended = value.parse::<i64>().is_ok_and(|seconds| seconds <= 0),
                "expires" => ended = ended || value.contains(" 1970 "),
                "samesite" => {
                    same_site = match value.to_ascii_lowercase().as_str() {
                        "strict" => SameSite::Strict,
                        "none" => SameSite::None,
                        _ => SameSite::Lax,
                    };
                }
                _ => {}
            }
        }
        let host_only = secure && !domain && path.as_deref() == Some("/");
        let refused = (secure && !trustworthy(url))
            || (name.starts_with("__Host-") && !host_only)
            || (name.starts_with("__Secure-") && !secure)
            || (same_site == SameSite::None && !secure);
        if refused {
            return None;
        }
        let path = path.filter(|path| path.starts_with('/')).unwrap_or_else(|| default_path(url));
        let cookie = Self {
            origin: url.origin(),
            name: name.trim().to_owned(),
            value: value.trim().to_owned(),
            path,
            same_site,
        };
        Some((cookie, ended))
    }

    fn belongs_to(&self, url: &Url) -> bool {
        let below = url.path().strip_prefix(&self.path);
        self.origin == url.origin()
            && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'))
    }

    fn goes_along(&self, navigation: Navigation) -> bool {
        navigation.same_site
            || match self.same_site {
                SameSite::Strict => false,
                SameSite::Lax => navigation.safe,
                SameSite::None => true,
            }
    }
}

/// Browsers take `Secure` cookies over TLS, and over plain HTTP on the machine itself.
fn trustworthy(url: &Url) -> bool {
    url.scheme() == "https"
        || match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        }
}

fn default_path(url: &Url) -> String {
    match url.path().rsplit_once('/') {
        Some(("", _)) | None => "/".into(),
        Some((folder, _)) => folder.into(),
    }
}
