use super::cookies::{Jar, Navigation};
use super::*;

const TYPED: Navigation = Navigation { same_site: true, safe: true };
const CROSS_GET: Navigation = Navigation { same_site: false, safe: true };
const CROSS_POST: Navigation = Navigation { same_site: false, safe: false };

fn jar(url: &str, lines: &[&str]) -> (Jar, Url) {
    let url = Url::parse(url).unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(header::SET_COOKIE, line.parse().unwrap());
    }
    let mut jar = Jar::default();
    jar.keep(&url, &headers);
    (jar, url)
}

#[test]
fn same_site_decides_what_goes_along() {
    let (jar, url) = jar(
        "https://b.example/x/y",
        &["s=1; SameSite=Strict", "l=1; SameSite=Lax", "d=1", "n=1; SameSite=None; Secure"],
    );
    assert_eq!(jar.header(&url, TYPED).unwrap(), "s=1; l=1; d=1; n=1");
    assert_eq!(jar.header(&url, CROSS_GET).unwrap(), "l=1; d=1; n=1");
    assert_eq!(jar.header(&url, CROSS_POST).unwrap(), "n=1");
}

#[test]
fn prefixes_and_secure_are_enforced() {
    let lines =
        ["__Host-a=1; Secure; Path=/", "__Host-b=1; Path=/", "__Host-c=1; Secure; Path=/x", "d=1; SameSite=None"];
    let (on_loopback, url) = jar("http://127.0.0.1:8000/", &lines);
    assert_eq!(on_loopback.header(&url, TYPED).unwrap(), "__Host-a=1");
    let (plain, url) = jar("http://b.example/", &lines);
    assert_eq!(plain.header(&url, TYPED), None);
}

#[test]
fn paths_ports_and_ends_are_kept_apart() {
    let (mut jar, url) = jar("https://b.example/x/y", &["a=1", "b=1; Path=/"]);
    assert_eq!(jar.header(&Url::parse("https://b.example/z").unwrap(), TYPED).unwrap(), "b=1");
    assert_eq!(jar.header(&Url::parse("https://b.example:444/x/y").unwrap(), TYPED), None);
    let mut headers = HeaderMap::new();
    headers.append(header::SET_COOKIE, "b=; Path=/; Max-Age=0".parse().unwrap());
    jar.keep(&url, &headers);
    assert_eq!(jar.header(&url, TYPED).unwrap(), "a=1");
}
