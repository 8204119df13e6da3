//! Reads `[dns]`.

use std::time::Duration;

use toml::de::DeTable;

use super::codes;
use super::findings::{Finding, Findings, Span};
use super::reader::{self, Section};
use super::{DnsConfig, OnEmpty, words};

const ON_EMPTY: &[(&str, OnEmpty)] = &[("keep", OnEmpty::Keep), ("remove", OnEmpty::Remove)];

/// Reads `[dns]`; absent keys keep their defaults.
pub(super) fn dns(section: Option<(&DeTable<'_>, Span)>, found: &mut Findings) -> DnsConfig {
    let mut dns = DnsConfig::default();
    let Some((table, span)) = section else {
        return dns;
    };
    let mut section = Section::new(table, span, "[dns]");
    if let Some(servers) = section.read("servers", found, |value, found| {
        reader::list(value, found, reader::address)
    }) {
        dns.servers = servers.into_iter().map(|server| server.value).collect();
    }
    let range = |longest_s| Duration::from_secs(1)..=Duration::from_secs(longest_s);
    let min_ttl = section.read("min_ttl", found, |value, found| {
        reader::duration(value, range(3_600), found)
    });
    let max_ttl = section.read("max_ttl", found, |value, found| {
        reader::duration(value, range(604_800), found)
    });
    dns.min_ttl = min_ttl.as_ref().map_or(dns.min_ttl, |ttl| ttl.value);
    dns.max_ttl = max_ttl.as_ref().map_or(dns.max_ttl, |ttl| ttl.value);
    // One of them was written: the defaults are in order.
    if let Some(place) = max_ttl.or(min_ttl).filter(|_| dns.min_ttl > dns.max_ttl) {
        let (min, max) = (words::show_duration(dns.min_ttl), words::show_duration(dns.max_ttl));
        let message = format!("min_ttl {min} is longer than max_ttl {max}");
        let finding = Finding::new(&codes::TTL_ORDER, message, place.span, "no answer fits both");
        found.add(finding.help("set both so that min_ttl is the shorter one"));
    }
    if let Some(number) = section.read("max_addresses", found, |value, found| {
        reader::number(value, 1..=256, found)
    }) {
        dns.max_addresses = number;
    }
    if let Some(word) = section.read("on_empty", found, |value, found| reader::word(value, ON_EMPTY, found)) {
        dns.on_empty = word;
    }
    section.close(found);
    dns
}
