//! How names are looked up.

use std::net::IpAddr;
use std::time::Duration;

/// `[dns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Who is asked; empty: hosts file and resolv.conf of the host.
    pub servers: Vec<IpAddr>,
    /// An answer is good for at least this long; `min_ttl <= max_ttl`.
    pub min_ttl: Duration,
    /// And for at most this long.
    pub max_ttl: Duration,
    /// Backends that one name makes in one service.
    pub max_addresses: u32,
    /// What an answer without addresses does.
    pub on_empty: OnEmpty,
}

/// What an answer without addresses does to those of the answer before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEmpty {
    /// They stay.
    Keep,
    /// They are removed.
    Remove,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            min_ttl: Duration::from_secs(5),
            max_ttl: Duration::from_mins(5),
            max_addresses: 32,
            on_empty: OnEmpty::Keep,
        }
    }
}
