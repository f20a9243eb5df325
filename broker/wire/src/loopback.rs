//! Which hosts are this machine, so that what else must go over TLS may go in the clear.

use url::{Host, Url};

/// Whether the URL's host is [loopback by its form](is_loopback_host); `false` where it has none.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    url.host().is_some_and(|host| is_loopback_host(&host))
}

/// Whether the host is loopback by its form: `localhost`, `127.0.0.0/8` or `::1`. No name is looked up: a resolver, or whoever
/// answers for it, could say anything.
#[must_use]
pub fn is_loopback_host<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => name.as_ref() == "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_this_machine_by_its_form_is_loopback() {
        for here in ["localhost", "LOCALHOST", "127.0.0.1", "127.255.0.9", "[::1]", "0x7f.1"] {
            assert!(is_loopback_host(&Host::parse(here).unwrap()), "{here}");
        }
        let elsewhere = ["localhost.", "a.localhost", "localhost.example.com", "128.0.0.1", "0.0.0.0", "[::]", "[::2]"];
        for elsewhere in elsewhere.into_iter().chain(["[::ffff:127.0.0.1]", "127.0.0.1.nip.io"]) {
            assert!(!is_loopback_host(&Host::parse(elsewhere).unwrap()), "{elsewhere}");
        }
    }
}
