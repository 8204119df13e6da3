//! Backends by name: what the DNS said.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// One name in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameView {
    /// The host's name.
    pub name: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// `SERVICE/BACKEND` of each entry that is given by it.
    pub backends: Vec<String>,
    /// Addresses of the last answer; those of the last agent until there is one.
    pub addresses: Vec<IpAddr>,
    /// When that was; absent while it is of the last agent.
    pub answered: Option<Timestamp>,
    /// How long that answer is good for, from then on.
    pub ttl_s: Option<u64>,
    /// Why the newest question failed; absent when it did not.
    pub error: Option<String>,
    /// When the first of the failures in a row was.
    pub error_since: Option<Timestamp>,
    /// Failures in a row.
    pub failures: u32,
    /// When it is asked again after a failure.
    pub next_try: Option<Timestamp>,
}

impl NameView {
    /// Seconds that the last answer is still good for.
    pub fn ttl_left_s(&self, now: Timestamp) -> Option<u64> {
        let (answered, ttl_s) = (self.answered?, self.ttl_s?);
        Some(ttl_s.saturating_sub(answered.age(now).as_secs()))
    }
}
