//! Reads `check`: what is probed, how often, and how many results decide.

use std::path::Path;
use std::time::Duration;

use super::codes;
use super::findings::{Finding, Findings, Located, Span};
use super::reader::{self, Section, Value};
use super::words;
use super::{Check, CheckKind, HttpCheck, Roots, TlsCheck, Verify};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_RISE: u32 = 2;
const DEFAULT_FALL: u32 = 3;
/// Longest text to look for in a body.
const MAX_BODY_BYTES: usize = 1_024;

/// Reads a `check` table.
pub(super) fn check(value: &Value<'_>, found: &mut Findings) -> Option<Located<Check>> {
    let (table, span) = reader::table(value, "a table, such as { tcp = {} }", found)?;
    let mut section = Section::new(table, span.clone(), "check");
    let kinds: Vec<Written> = KINDS
        .iter()
        .filter_map(|(name, read)| {
            let value = section.take(name)?;
            Some((*name, value.span(), read(value, found)))
        })
        .collect();
    let port = section.read("port", found, |value, found| {
        reader::port(value, "the probed port", found)
    });
    let other_port = section.read("other_port", found, reader::boolean);
    let millis = |low, high_s| Duration::from_millis(low)..=Duration::from_secs(high_s);
    let interval = section.read("interval", found, |value, found| {
        reader::duration(value, millis(100, 3_600), found)
    });
    let timeout = section.read("timeout", found, |value, found| {
        reader::duration(value, millis(10, 3_600), found)
    });
    let mut count = |key, default| {
        let read = section.read(key, found, |value, found| reader::number(value, 1..=100, found));
        read.unwrap_or(default)
    };
    let (rise, fall) = (count("rise", DEFAULT_RISE), count("fall", DEFAULT_FALL));
    section.close(found);

    let interval_value = interval.as_ref().map_or(DEFAULT_INTERVAL, |interval| interval.value);
    if let Some(timeout) = timeout.as_ref().filter(|timeout| timeout.value > interval_value) {
        found.add(timeout_too_long(timeout, interval_value, interval.as_ref()));
    }
    Some(Located::new(
        Check {
            kind: one_kind(kinds, &span, found)?,
            port: port.map(|port| port.value),
            other_port: other_port.unwrap_or(false),
            interval: interval_value,
            timeout: timeout.map_or(DEFAULT_TIMEOUT.min(interval_value), |timeout| timeout.value),
            rise,
            fall,
        },
        span,
    ))
}

fn timeout_too_long(timeout: &Located<Duration>, interval: Duration, place: Option<&Located<Duration>>) -> Finding {
    let (shown, limit) = (words::show_duration(timeout.value), words::show_duration(interval));
    let message = format!("check timeout {shown} is longer than its interval {limit}");
    let finding = Finding::new(
        &codes::TIMEOUT_OVER_INTERVAL,
        message,
        timeout.span.clone(),
        "longer than the interval",
    );
    let finding = match place {
        Some(place) => finding.and(place.span.clone(), "the interval"),
        None => finding,
    };
    finding.help(format!("set timeout to {limit} or less, or raise interval"))
}

/// Reads what stands under one kind's key.
type ReadKind = fn(&Value<'_>, &mut Findings) -> Option<CheckKind>;

const KINDS: &[(&str, ReadKind)] = &[("tcp", tcp_kind), ("http", http_kind), ("https", https_kind)];

/// A kind that was written, where, and what it means if it could be read.
type Written = (&'static str, Span, Option<CheckKind>);

fn one_kind(mut kinds: Vec<Written>, span: &Span, found: &mut Findings) -> Option<CheckKind> {
    if kinds.len() > 1 {
        let names: Vec<&str> = kinds.iter().map(|(name, ..)| *name).collect();
        let mut spans = kinds.into_iter().map(|(_, span, _)| span);
        let (first, second) = (spans.next()?, spans.next()?);
        let message = format!("check has both {}", names.join(" and "));
        let finding = Finding::new(&codes::CHECK_KIND, message, second, "the second kind");
        found.add(
            finding
                .and(first, "the first kind")
                .help("keep one; http and https checks connect over TCP anyway"),
        );
        return None;
    }
    if let Some((_, _, kind)) = kinds.pop() {
        return kind;
    }
    let finding = Finding::new(
        &codes::CHECK_KIND,
        "check says neither tcp nor http nor https",
        span.clone(),
        "no kind",
    );
    found.add(finding.help("write check = { tcp = {} } or check = { http = { path = \"/healthz\" } }"));
    None
}

fn tcp_kind(value: &Value<'_>, found: &mut Findings) -> Option<CheckKind> {
    let (table, span) = reader::table(value, "a table: tcp = {}", found)?;
    Section::new(table, span, "check.tcp").close(found);
    Some(CheckKind::Tcp)
}

fn http_kind(value: &Value<'_>, found: &mut Findings) -> Option<CheckKind> {
    let (table, span) = reader::table(value, "a table: http = { path = \"/healthz\" }", found)?;
    let mut section = Section::new(table, span, "check.http");
    let http = http_check(&mut section, found);
    section.close(found);
    Some(CheckKind::Http(http))
}

fn https_kind(value: &Value<'_>, found: &mut Findings) -> Option<CheckKind> {
    let (table, span) = reader::table(value, "a table: https = { path = \"/healthz\" }", found)?;
    let mut section = Section::new(table, span, "check.https");
    let http = http_check(&mut section, found);
    let sni = section.read("sni", found, host_name);
    let roots = section.take("roots");
    let read_roots = roots.map(|value| (value.span(), roots_of(value, found)));
    let verify = section.read("verify", found, reader::boolean).unwrap_or(true);
    section.close(found);
    let verify = match (verify, read_roots) {
        (true, None) => Verify::Roots(Roots::System),
        (true, Some((_, roots))) => Verify::Roots(roots?),
        (false, None) => Verify::Nothing,
        (false, Some((span, _))) => {
            let message = "roots are set, and verify = false ignores them";
            let finding = Finding::new(&codes::ROOTS_UNVERIFIED, message, span, "would be ignored");
            found.add(finding.help("take roots or verify out"));
            return None;
        }
    };
    Some(CheckKind::Https(http, TlsCheck { sni, verify }))
}

fn http_check(section: &mut Section<'_, '_>, found: &mut Findings) -> HttpCheck {
    let path = section.read("path", found, http_path);
    let status = section.read("status", found, |value, found| {
        reader::list(value, found, |value, found| {
            reader::number(value, 100..=599, found).map(|code| code as u16)
        })
    });
    let host = section.read("host", found, http_host);
    let body = section.read("body", found, body_text);
    HttpCheck {
        path: path.unwrap_or_else(|| "/".to_owned()),
        status: status.unwrap_or_else(|| vec![200]),
        host,
        body,
    }
}

fn body_text(value: &Value<'_>, found: &mut Findings) -> Option<String> {
    let text = reader::text(value, found)?;
    if (1..=MAX_BODY_BYTES).contains(&text.value.len()) {
        return Some(text.value);
    }
    let message = format!("a text of {} bytes cannot be looked for", text.value.len());
    let label = format!("wanted 1 to {MAX_BODY_BYTES} bytes");
    found.add(Finding::new(&codes::BAD_BODY, message, text.span, label));
    None
}

fn roots_of(value: &Value<'_>, found: &mut Findings) -> Option<Roots> {
    let text = reader::text(value, found)?;
    let path = Path::new(&text.value);
    if text.value == "system" {
        return Some(Roots::System);
    }
    if path.is_absolute() && !text.value.contains('\0') {
        return Some(Roots::File(path.to_owned()));
    }
    let message = format!("{:?} cannot be roots", text.value);
    let finding = Finding::new(
        &codes::BAD_ROOTS,
        message,
        text.span,
        "wanted \"system\" or a path from /",
    );
    found.add(finding.help(match text.value.as_str() {
        "none" => "to believe any certificate write verify = false instead",
        _ => "write the absolute path of a PEM file",
    }));
    None
}

/// A DNS name (RFC 1123) without a port; an address is verified without a name.
fn host_name(value: &Value<'_>, found: &mut Findings) -> Option<String> {
    let text = reader::text(value, found)?;
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let numeric = text.value.chars().all(|c| c.is_ascii_digit() || c == '.');
    if text.value.len() <= 253 && !numeric && text.value.split('.').all(label) {
        return Some(text.value);
    }
    let message = format!("{:?} is not a server name", text.value);
    let finding = Finding::new(&codes::BAD_NAME, message, text.span, "wanted a DNS name without a port");
    found.add(finding.help("leave sni out to verify the backend's address"));
    None
}

/// Neither blank nor control: it goes into a request line as it is.
fn goes_into_a_request(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic())
}

fn http_path(value: &Value<'_>, found: &mut Findings) -> Option<String> {
    let text = reader::text(value, found)?;
    if text.value.starts_with('/') && goes_into_a_request(&text.value) {
        return Some(text.value);
    }
    let message = format!("{:?} is not an HTTP path", text.value);
    let finding = Finding::new(
        &codes::BAD_PATH,
        message,
        text.span,
        "wanted a path from /, printable ASCII without blanks",
    );
    found.add(finding.help("percent-encode other characters"));
    None
}

fn http_host(value: &Value<'_>, found: &mut Findings) -> Option<String> {
    let text = reader::text(value, found)?;
    if !text.value.is_empty() && goes_into_a_request(&text.value) && !text.value.contains('/') {
        return Some(text.value);
    }
    let message = format!("{:?} is not a host name", text.value);
    found.add(Finding::new(
        &codes::BAD_NAME,
        message,
        text.span,
        "wanted what goes into the Host header",
    ));
    None
}
