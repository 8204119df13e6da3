//! Reads `[[service]]` and `[[service.backend]]`.

use toml::de::DeTable;

use super::codes;
use super::findings::{Finding, Findings, Located, Span};
use super::raw::{RawBackend, RawService};
use super::reader::{self, Section, Value, Where};
use super::words::{self, MAX_NAME_BYTES, NameOf};
use super::{AdminState, Mode, OnMiss, Panic, Protocol, probe, silence};

/// Weight of a backend that names none.
pub const DEFAULT_WEIGHT: u32 = 100;
/// Largest weight.
pub const MAX_WEIGHT: u32 = 1_000;

const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const ON_MISS: &[(&str, OnMiss)] = &[("reset", OnMiss::Reset), ("drop", OnMiss::Drop)];
const PANIC: &[(&str, Panic)] = &[("refuse", Panic::Refuse), ("use_all", Panic::UseAll)];
const STATES: &[(&str, AdminState)] = &[
    ("ready", AdminState::Ready),
    ("drain", AdminState::Drain),
    ("maint", AdminState::Maint),
];
/// `None`: a later release.
const MODES: &[(&str, Option<Mode>)] = &[
    ("full_nat", Some(Mode::FullNat)),
    ("gateway", Some(Mode::Gateway)),
    ("dsr_l2", None),
    ("dsr_ipip", None),
    ("dsr_gue", None),
];

/// Reads one `[[service]]`.
pub(super) fn service(table: &DeTable<'_>, span: Span, found: &mut Findings) -> RawService {
    let mut section = Section::new(table, span, "[[service]]");
    let (mode, dsr) = match section.read("mode", found, mode) {
        Some(Asked::Mode(mode)) => (mode, None),
        Some(Asked::Later(word)) => (Mode::FullNat, Some(word)),
        None => (Mode::FullNat, None),
    };
    let raw = RawService {
        name: section.require("name", "name = \"web\"", found, |value, found| {
            name(value, NameOf::Service, found)
        }),
        vips: section
            .require("vip", "vip = \"203.0.113.10\"", found, |value, found| {
                reader::list(value, found, reader::address)
            })
            .unwrap_or_default(),
        port: section.require("port", "port = 443", found, |value, found| {
            reader::port(value, "the service port", found)
        }),
        protocol: section
            .read("protocol", found, |value, found| reader::word(value, PROTOCOLS, found))
            .unwrap_or(Protocol::Tcp),
        mode,
        dsr,
        internal_port: section.read("internal_port", found, |value, found| {
            reader::port(value, "the internal port", found)
        }),
        check: section.read("check", found, probe::check),
        on_miss: section
            .read("on_miss", found, |value, found| reader::word(value, ON_MISS, found))
            .unwrap_or(OnMiss::Reset),
        panic: section
            .read("panic", found, |value, found| reader::word(value, PANIC, found))
            .unwrap_or(Panic::Refuse),
        backends: section
            .take("backend")
            .map(|value| reader::tables(value, "tables, as in [[service.backend]]", found))
            .unwrap_or_default()
            .into_iter()
            .map(|(table, span)| backend(table, span, found))
            .collect(),
        silences: section.read("silence", found, silence::silences).unwrap_or_default(),
        span: section.span.clone(),
    };
    section.close(found);
    raw
}

fn backend(table: &DeTable<'_>, span: Span, found: &mut Findings) -> RawBackend {
    let mut section = Section::new(table, span, "[[service.backend]]");
    let where_it_is = section.require("address", "address = \"10.0.0.11\"", found, reader::address_or_host);
    let (address, host) = match where_it_is {
        Some(Where::Address(address)) => (Some(address), None),
        Some(Where::Host(host)) => (None, Some(host)),
        None => (None, None),
    };
    let raw = RawBackend {
        name: section.read("name", found, |value, found| name(value, NameOf::Backend, found)),
        address,
        host,
        port: section.read("port", found, |value, found| {
            reader::port(value, "the internal port", found)
        }),
        weight: section
            .read("weight", found, |value, found| {
                reader::number(value, 0..=MAX_WEIGHT, found)
            })
            .unwrap_or(DEFAULT_WEIGHT),
        state: section
            .read("state", found, |value, found| reader::word(value, STATES, found))
            .unwrap_or_default(),
        check: section.read("check", found, probe::check),
        silences: section.read("silence", found, silence::silences).unwrap_or_default(),
        span: section.span.clone(),
    };
    section.close(found);
    raw
}

fn name(value: &Value<'_>, of: NameOf, found: &mut Findings) -> Option<Located<String>> {
    let name = reader::text(value, found)?;
    let problem = if name.value.is_empty() {
        "the name is empty".to_owned()
    } else if name.value.len() > MAX_NAME_BYTES {
        format!("longer than {MAX_NAME_BYTES} bytes")
    } else if let Some(bad) = words::bad_name_char(&name.value, of) {
        format!("a name cannot hold {bad:?}")
    } else if name.value.starts_with('-') {
        "a command would take it for an option".to_owned()
    } else if matches!(name.value.as_str(), "." | "..") {
        "that is a directory in every path".to_owned()
    } else {
        return Some(name);
    };
    let message = format!("{:?} is not a usable name", name.value);
    let finding = Finding::new(&codes::BAD_NAME, message, name.span, problem);
    found.add(finding.help("use 1 to 63 of A-Z a-z 0-9 . _ -, the first of them no -"));
    None
}

/// What `mode` asks for.
enum Asked {
    Mode(Mode),
    /// A mode of a later release, refused.
    Later(Located<String>),
}

fn mode(value: &Value<'_>, found: &mut Findings) -> Option<Asked> {
    if let Some(mode) = reader::word(value, MODES, found)? {
        return Some(Asked::Mode(mode));
    }
    let word = reader::text(value, found)?;
    let message = format!("mode {} is not in this release", word.value);
    let finding = Finding::new(&codes::NOT_IN_RELEASE, message, value.span(), "comes later");
    let use_now = "use \"full_nat\" (no change on the backends) or \"gateway\" (they route through xlb)";
    found.add(finding.help(use_now));
    Some(Asked::Later(word))
}
