//! What an endpoint is, and where it leads.

use std::net::Ipv6Addr;

/// apid's port, where an endpoint names none.
const APID_PORT: u16 = 50000;

/// Host and port of an endpoint as a talosconfig has them: `host`, `host:port`, or `https://host` (then 443).
#[must_use]
pub fn host_and_port(endpoint: &str) -> (String, u16) {
    let (rest, default) = match endpoint.strip_prefix("https://") {
        Some(rest) => (rest.split('/').next().unwrap_or_default(), 443),
        None => (endpoint, APID_PORT),
    };
    if let Some((host, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host.into(), after.strip_prefix(':').and_then(|port| port.parse().ok()).unwrap_or(default));
    }
    match rest.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => match port.parse() {
            Ok(port) => (host.into(), port),
            Err(_) => (rest.into(), default),
        },
        _ => (rest.into(), default),
    }
}

/// Whether a text is an endpoint or node as a talosconfig has them, and nothing more: a name or an address, with or without a port,
/// an IPv6 address in brackets where a port follows, and before all of it perhaps `https://`.
#[must_use]
pub fn is_endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("https://").map_or(text, |rest| rest.strip_suffix('/').unwrap_or(rest));
    let is_port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if let Some((address, behind)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok()
            && (behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port));
    }
    if rest.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let is_host = !host.is_empty()
        && host.len() <= 253
        && !host.starts_with(['-', '.'])
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    is_host && port.is_none_or(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_name_or_an_address_and_nothing_more() {
        for good in [
            "10.0.0.2",
            "node",
            "cp-1.prod_a.example",
            "node:6000",
            "https://gate",
            "https://gate:8443/",
            "fd00::1",
            "[fd00::1]",
            "[fd00::1]:7000",
        ] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in [
            "",
            " ",
            "a b",
            "a\nb",
            "a\u{1b}[2J",
            "a\u{202e}b",
            "ä.example",
            "-x",
            ".x",
            ":50000",
            "node:",
            "node:x",
            "node:+1",
            "node:70000",
            "a:1:2",
            "[fd00::1",
            "[node]:1",
            "[fd00::1]x",
            "https://gate/x",
            "http://gate",
            "a/b",
            "u@host",
            "a,b",
            "https://",
            "\"a\"",
            "{}",
            "a\u{a0}",
        ] {
            assert!(!is_endpoint(bad), "{bad:?}");
        }
    }

    #[test]
    fn endpoints_read_as_talosctl_reads_them() {
        for (endpoint, host, port) in [
            ("10.0.0.2", "10.0.0.2", 50000),
            ("node:6000", "node", 6000),
            ("https://gate", "gate", 443),
            ("https://gate:8443/x", "gate", 8443),
            ("fd00::1", "fd00::1", 50000),
            ("[fd00::1]:7000", "fd00::1", 7000),
        ] {
            assert_eq!(host_and_port(endpoint), (host.into(), port), "{endpoint}");
        }
    }
}
