//! Reads `[agent]`, `[limits]` and `[timeouts]`.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lb_common::limits;
use toml::de::DeTable;

use super::codes;
use super::findings::{Finding, Findings, Located, Span};
use super::raw::RawAgent;
use super::reader::{self, Section, Value};
use super::{Limits, PortRange, Timeouts, TxChoice, XdpMode, silence};

/// API socket where the config names none.
pub const DEFAULT_SOCKET: &str = "/run/xlb/api.sock";
/// HTTP listener where the config names none.
pub const DEFAULT_HTTP: &str = "127.0.0.1:9180";
/// Pin directory where the config names none.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/xlb";
/// State directory where the config names none.
const DEFAULT_STATE_DIR: &str = "/var/lib/xlb";

/// Bytes of an interface name that the kernel keeps (IFNAMSIZ less the closing zero).
const MAX_INTERFACE_BYTES: usize = 15;
/// Bytes of a Unix socket's path (`sun_path` less the closing zero).
const MAX_SOCKET_BYTES: usize = 107;

const XDP_MODES: &[(&str, XdpMode)] = &[
    ("native", XdpMode::Native),
    ("auto", XdpMode::Auto),
    ("generic", XdpMode::Generic),
];
const TX_CHOICES: &[(&str, TxChoice)] = &[
    ("auto", TxChoice::Auto),
    ("tx", TxChoice::Tx),
    ("redirect", TxChoice::Redirect),
];

/// Reads `[agent]`.
pub(super) fn agent(table: &DeTable<'_>, span: Span, found: &mut Findings) -> RawAgent {
    let mut section = Section::new(table, span, "[agent]");
    let place = |range: Located<PortRange>| (range.value, Some(range.span));
    let raw = RawAgent {
        interfaces: section
            .require("interfaces", "interfaces = [\"eth0\"]", found, |value, found| {
                reader::list(value, found, interface)
            })
            .unwrap_or_default(),
        xdp_mode: section
            .read("xdp_mode", found, |value, found| reader::word(value, XDP_MODES, found))
            .unwrap_or(XdpMode::Native),
        tx: section
            .read("tx", found, |value, found| reader::word(value, TX_CHOICES, found))
            .unwrap_or(TxChoice::Auto),
        snat_addresses: section
            .read("snat_addresses", found, |value, found| {
                reader::list(value, found, reader::address)
            })
            .unwrap_or_default(),
        snat_ports: section
            .read("snat_ports", found, reader::port_range)
            .map_or((DEFAULT_SNAT_PORTS, None), place),
        check_ports: section
            .read("check_ports", found, reader::port_range)
            .map_or((DEFAULT_CHECK_PORTS, None), place),
        manage_vip: section.read("manage_vip", found, reader::boolean).unwrap_or(false),
        hash_seed: section
            .read("hash_seed", found, |value, found| {
                reader::number(value, 0..=u32::MAX, found)
            })
            .unwrap_or(0),
        rst_per_second: section
            .read("rst_per_second", found, |value, found| {
                reader::number(value, 0..=1_000_000, found)
            })
            .unwrap_or(limits::DEFAULT_RST_PER_SECOND),
        socket: section
            .read("socket", found, socket_path)
            .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)),
        socket_group: section.read("socket_group", found, group),
        http: section
            .read("http", found, listener)
            .unwrap_or_else(|| Located::new(DEFAULT_HTTP.parse().ok(), Span::default())),
        pin_dir: section
            .read("pin_dir", found, absolute_path)
            .unwrap_or_else(|| PathBuf::from(DEFAULT_PIN_DIR)),
        state_dir: section
            .read("state_dir", found, absolute_path)
            .unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR)),
        managed_by: section.read("managed_by", found, keeper),
        watch: section.read("watch", found, reader::boolean).unwrap_or(true),
        sandbox: section.read("sandbox", found, reader::boolean).unwrap_or(true),
        silences: section.read("silence", found, silence::silences).unwrap_or_default(),
        span: section.span.clone(),
    };
    section.close(found);
    raw
}

/// Empty text names nobody and does not say so.
fn keeper(value: &Value<'_>, found: &mut Findings) -> Option<String> {
    let text = reader::text(value, found)?;
    if !text.value.trim().is_empty() {
        return Some(text.value);
    }
    let finding = Finding::new(&codes::BAD_KEEPER, "managed_by is empty", text.span, "names nobody");
    found.add(finding.help("name the program that writes this file, or write managed_by = \"none\""));
    None
}

const DEFAULT_SNAT_PORTS: PortRange = PortRange {
    min: limits::DEFAULT_SNAT_PORT_MIN,
    max: limits::DEFAULT_SNAT_PORT_MAX,
};
const DEFAULT_CHECK_PORTS: PortRange = PortRange {
    min: limits::DEFAULT_CHECK_PORT_MIN,
    max: limits::DEFAULT_CHECK_PORT_MAX,
};

/// Reads `[limits]`; absent keys keep their defaults.
pub(super) fn limits(section: Option<(&DeTable<'_>, Span)>, found: &mut Findings) -> Limits {
    let mut limits = Limits::default();
    let Some((table, span)) = section else {
        return limits;
    };
    let mut section = Section::new(table, span, "[limits]");
    let mut read = |key: &'static str, range: RangeInclusive<u32>, slot: &mut u32| {
        if let Some(number) = section.read(key, found, |value, found| reader::number(value, range, found)) {
            *slot = number;
        }
    };
    read("connections", 64..=67_108_864, &mut limits.connections);
    read("half_open", 64..=16_777_216, &mut limits.half_open);
    read("services", 1..=65_535, &mut limits.services);
    read("backends", 1..=1_048_576, &mut limits.backends);
    read("ring_slots", 256..=67_108_864, &mut limits.ring_slots);
    read("endpoints", 1..=1_048_576, &mut limits.endpoints);
    section.close(found);
    limits
}

/// Reads `[timeouts]`; absent keys keep their defaults.
pub(super) fn timeouts(section: Option<(&DeTable<'_>, Span)>, found: &mut Findings) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some((table, span)) = section else {
        return timeouts;
    };
    let mut section = Section::new(table, span, "[timeouts]");
    // A week in ticks of 1,000 Hz stays below half of the 32-bit range that tick differences wrap in.
    let second_to = |days_s: u64| Duration::from_secs(1)..=Duration::from_secs(days_s);
    let mut read = |key: &'static str, longest_s: u64, slot: &mut Duration| {
        let range = second_to(longest_s);
        if let Some(read) = section.read(key, found, |value, found| reader::duration(value, range, found)) {
            *slot = read.value;
        }
    };
    read("half_open", 300, &mut timeouts.half_open);
    read("established", 604_800, &mut timeouts.established);
    read("closing", 604_800, &mut timeouts.closing);
    read("udp", 604_800, &mut timeouts.udp);
    read("udp_answered", 604_800, &mut timeouts.udp_answered);
    section.close(found);
    timeouts
}

fn interface(value: &Value<'_>, found: &mut Findings) -> Option<Located<String>> {
    let name = reader::text(value, found)?;
    let text = name.value.as_str();
    let problem = if text.is_empty() || text == "." || text == ".." {
        "the kernel has no such name"
    } else if text.len() > MAX_INTERFACE_BYTES {
        "longer than the kernel's 15 bytes"
    } else if text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        "interface names hold no slash, colon or blank"
    } else {
        return Some(name);
    };
    let message = format!("{text:?} is not an interface name");
    found.add(Finding::new(&codes::BAD_NAME, message, name.span, problem).help("'ip link' lists the interfaces"));
    None
}

fn absolute_path(value: &Value<'_>, found: &mut Findings) -> Option<PathBuf> {
    let text = reader::text(value, found)?;
    let path = Path::new(&text.value);
    if path.is_absolute() && !text.value.contains('\0') {
        return Some(path.to_path_buf());
    }
    let message = format!("{:?} is not an absolute path", text.value);
    found.add(Finding::new(
        &codes::BAD_PATH,
        message,
        text.span,
        "wanted a path from /",
    ));
    None
}

fn socket_path(value: &Value<'_>, found: &mut Findings) -> Option<PathBuf> {
    let path = absolute_path(value, found)?;
    if path.as_os_str().len() > MAX_SOCKET_BYTES {
        let message = format!("the socket's path has {} bytes", path.as_os_str().len());
        let label = format!("the kernel takes at most {MAX_SOCKET_BYTES}");
        found.add(Finding::new(&codes::BAD_PATH, message, value.span(), label));
        return None;
    }
    Some(path)
}

/// Whether there is such a group is for the host that runs the agent to say, at start.
fn group(value: &Value<'_>, found: &mut Findings) -> Option<String> {
    let text = reader::text(value, found)?;
    let name = text.value.as_str();
    if !name.is_empty() && !name.contains(|c: char| c == ':' || c == '/' || c.is_whitespace() || c.is_control()) {
        return Some(text.value);
    }
    let message = format!("{name:?} is not a group");
    let finding = Finding::new(&codes::BAD_GROUP, message, text.span, "wanted a group's name or number");
    found.add(finding.help("'getent group' lists the groups of this host"));
    None
}

fn listener(value: &Value<'_>, found: &mut Findings) -> Option<Located<Option<std::net::SocketAddr>>> {
    let text = reader::text(value, found)?;
    if text.value == "off" {
        return Some(Located::new(None, text.span));
    }
    match text.value.parse::<std::net::SocketAddr>() {
        Ok(listener) if listener.port() != 0 => Some(Located::new(Some(listener), text.span)),
        _ => {
            let message = format!("{:?} is not a listener address", text.value);
            let finding = Finding::new(
                &codes::BAD_LISTENER,
                message,
                text.span,
                "wanted ADDRESS:PORT or \"off\"",
            );
            found.add(finding.help("write it like \"127.0.0.1:9180\" or \"[::1]:9180\""));
            None
        }
    }
}
