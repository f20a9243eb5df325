//! Where an endpoint leads.

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

#[cfg(test)]
mod tests {
    use super::*;

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
