//! Reads `check`: what is probed, how often, and how many results decide.

use std::time::Duration;

use super::codes;
use super::findings::{Finding, Findings, Located, Span};
use super::reader::{self, Section, Value};
use super::words;
use super::{Check, CheckKind};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_RISE: u32 = 2;
const DEFAULT_FALL: u32 = 3;

/// Reads a `check` table.
pub(super) fn check(value: &Value<'_>, found: &mut Findings) -> Option<Located<Check>> {
    let (table, span) = reader::table(value, "a table, such as { tcp = {} }", found)?;
    let mut section = Section::new(table, span.clone(), "check");
    let tcp = section.take("tcp").map(|value| (value.span(), tcp_kind(value, found)));
    let http = section
        .take("http")
        .map(|value| (value.span(), http_kind(value, found)));
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
            kind: one_kind(tcp, http, &span, found)?,
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

/// A kind that was written, and what it means if it could be read.
type Kind = Option<(Span, Option<CheckKind>)>;

fn one_kind(tcp: Kind, http: Kind, span: &Span, found: &mut Findings) -> Option<CheckKind> {
    match (tcp, http) {
        (Some((_, kind)), None) | (None, Some((_, kind))) => kind,
        (Some((first, _)), Some((second, _))) => {
            let finding = Finding::new(
                &codes::CHECK_KIND,
                "check has both tcp and http",
                second,
                "the second kind",
            );
            found.add(
                finding
                    .and(first, "the first kind")
                    .help("keep one; an http check connects over TCP anyway"),
            );
            None
        }
        (None, None) => {
            let finding = Finding::new(
                &codes::CHECK_KIND,
                "check says neither tcp nor http",
                span.clone(),
                "no kind",
            );
            found.add(finding.help("write check = { tcp = {} } or check = { http = { path = \"/healthz\" } }"));
            None
        }
    }
}

fn tcp_kind(value: &Value<'_>, found: &mut Findings) -> Option<CheckKind> {
    let (table, span) = reader::table(value, "a table: tcp = {}", found)?;
    Section::new(table, span, "check.tcp").close(found);
    Some(CheckKind::Tcp)
}

fn http_kind(value: &Value<'_>, found: &mut Findings) -> Option<CheckKind> {
    let (table, span) = reader::table(value, "a table: http = { path = \"/healthz\" }", found)?;
    let mut section = Section::new(table, span, "check.http");
    let path = section.read("path", found, http_path);
    let status = section.read("status", found, |value, found| {
        reader::list(value, found, |value, found| {
            reader::number(value, 100..=599, found).map(|code| code as u16)
        })
    });
    let host = section.read("host", found, http_host);
    section.close(found);
    Some(CheckKind::Http {
        path: path.unwrap_or_else(|| "/".to_owned()),
        status: status.unwrap_or_else(|| vec![200]),
        host,
    })
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
