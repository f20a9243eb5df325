//! `[limits]`. The comments here are the reference, as in [`super::file`].

use serde::Deserialize;

/// Bounds on what strangers and people may send.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// API requests a minute and person.
    #[serde(default = "default_per_person")]
    pub per_person: u32,
    /// Requests a minute and address that carry no valid session: logins begun, codes typed, wrong tokens. An IPv6 network
    /// of 64 bits counts as one address.
    #[serde(default = "default_per_address")]
    pub per_address: u32,
    /// Connections at once; more are closed. Where the process may open fewer files (`LimitNOFILE=`), fewer.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// Connections of one address at once, except trusted proxies; more are closed. An IPv6 network of 64 bits counts as one
    /// address.
    #[serde(default = "default_connections_per_address")]
    pub connections_per_address: usize,
    /// Requests worked on at once; more are refused with 503.
    #[serde(default = "default_concurrent")]
    pub concurrent: usize,
    /// The longest that one request may take.
    #[serde(default = "default_request_time")]
    pub request_time: String,
    /// Logins under way at once.
    #[serde(default = "default_pending_logins")]
    pub pending_logins: u32,
    /// Logins of one address under way at once, so that one address cannot take all places. People behind one NAT share it.
    #[serde(default = "default_pending_per_address")]
    pub pending_per_address: u32,
    /// Break-glass requests that one human may make within an hour, whatever became of them: approvers are not to be flooded. Five may
    /// wait at once.
    #[serde(default = "default_requests_per_hour")]
    pub requests_per_hour: u32,
    /// Break-glass requests that nobody approves (`@self_service`), and that are open or used and not reviewed yet, before the same
    /// human asks to be let in alone again: what is chained without end is no emergency.
    #[serde(default = "default_unreviewed_self_service")]
    pub unreviewed_self_service: u32,
}

fn default_per_person() -> u32 {
    120
}

fn default_per_address() -> u32 {
    120
}

fn default_connections() -> usize {
    4096
}

fn default_connections_per_address() -> usize {
    256
}

fn default_concurrent() -> usize {
    512
}

fn default_request_time() -> String {
    "30s".into()
}

fn default_pending_logins() -> u32 {
    10_000
}

fn default_pending_per_address() -> u32 {
    100
}

fn default_requests_per_hour() -> u32 {
    10
}

fn default_unreviewed_self_service() -> u32 {
    3
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_person: default_per_person(),
            per_address: default_per_address(),
            connections: default_connections(),
            connections_per_address: default_connections_per_address(),
            concurrent: default_concurrent(),
            request_time: default_request_time(),
            pending_logins: default_pending_logins(),
            pending_per_address: default_pending_per_address(),
            requests_per_hour: default_requests_per_hour(),
            unreviewed_self_service: default_unreviewed_self_service(),
        }
    }
}
