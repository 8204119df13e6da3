//! Readers of single values: type, grammar and range.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeInteger, DeTable, DeValue};

use super::Value;
use crate::config::codes;
use crate::config::findings::{Finding, Findings, Located, Span};
use crate::config::words;
use crate::config::{HostName, PortRange};

/// Reports a value of another type than wanted.
fn wrong_type(value: &Value<'_>, wanted: &str, found: &mut Findings) {
    let is = kind_of(value.get_ref());
    let message = format!("found {is}, wanted {wanted}");
    found.add(Finding::new(
        &codes::WRONG_TYPE,
        message,
        value.span(),
        format!("wanted {wanted}"),
    ));
}

const fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Text in quotes.
pub(in crate::config) fn text(value: &Value<'_>, found: &mut Findings) -> Option<Located<String>> {
    match value.get_ref() {
        DeValue::String(text) => Some(Located::new(text.to_string(), value.span())),
        _ => {
            wrong_type(value, "text in quotes", found);
            None
        }
    }
}

/// `true` or `false`.
pub(in crate::config) fn boolean(value: &Value<'_>, found: &mut Findings) -> Option<bool> {
    let read = value.get_ref().as_bool();
    if read.is_none() {
        wrong_type(value, "true or false", found);
    }
    read
}

/// A whole number inside `range`.
pub(in crate::config) fn number(value: &Value<'_>, range: RangeInclusive<u32>, found: &mut Findings) -> Option<u32> {
    let DeValue::Integer(integer) = value.get_ref() else {
        wrong_type(value, "a whole number", found);
        return None;
    };
    // What does not even fit is out of range, too.
    let read = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
    let fits = read
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| range.contains(number));
    if fits.is_none() {
        let (low, high) = (range.start(), range.end());
        let message = format!("{} is outside of {low} to {high}", integer.as_str());
        let label = format!("wanted {low} to {high}");
        // What does not even parse is huge, or negative and huge.
        let below = read.map_or(integer.as_str().starts_with('-'), |number| number < i128::from(*low));
        let nearest = if below { low } else { high };
        let finding = Finding::new(&codes::OUT_OF_RANGE, message, value.span(), label);
        found.add(finding.help(format!("the nearest that it takes is {nearest}")));
    }
    fits
}

/// A port, which is never 0.
pub(in crate::config) fn port(value: &Value<'_>, what: &str, found: &mut Findings) -> Option<Located<u16>> {
    if value.get_ref().as_integer().is_some_and(is_zero) {
        let finding = Finding::new(
            &codes::PORT_ZERO,
            format!("{what} is 0"),
            value.span(),
            "wanted 1 to 65535",
        );
        found.add(finding.help("name the port that is really used"));
        return None;
    }
    let number = number(value, 1..=65_535, found)?;
    Some(Located::new(number as u16, value.span()))
}

fn is_zero(integer: &DeInteger<'_>) -> bool {
    i128::from_str_radix(integer.as_str(), integer.radix()) == Ok(0)
}

/// One of a few words.
pub(in crate::config) fn word<T: Copy>(value: &Value<'_>, words: &[(&str, T)], found: &mut Findings) -> Option<T> {
    let text = text(value, found)?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text.value) {
        return Some(*meaning);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let finding = Finding::new(
        &codes::UNKNOWN_WORD,
        format!("unknown word {:?}", text.value),
        text.span,
        format!("wanted one of: {}", known.join(", ")),
    );
    found.add(match words::nearest(&text.value, &known) {
        Some(near) => finding.help(format!("did you mean {near:?}?")),
        None => finding,
    });
    None
}

/// An IP address.
pub(in crate::config) fn address(value: &Value<'_>, found: &mut Findings) -> Option<Located<IpAddr>> {
    let text = text(value, found)?;
    if let Ok(address) = text.value.parse() {
        return Some(Located::new(address, text.span));
    }
    let message = format!("{:?} is not an IP address", text.value);
    let finding = Finding::new(
        &codes::BAD_ADDRESS,
        message,
        text.span,
        "wanted an IPv4 or IPv6 address",
    );
    found.add(finding.help(address_help(
        &text.value,
        "only backends may be given by name; write the address",
    )));
    None
}

/// What stands for a backend's place.
pub(in crate::config) enum Where {
    Address(Located<IpAddr>),
    Host(Located<HostName>),
}

/// An IP address, or the name of a host.
pub(in crate::config) fn address_or_host(value: &Value<'_>, found: &mut Findings) -> Option<Where> {
    let text = text(value, found)?;
    if let Ok(address) = text.value.parse() {
        return Some(Where::Address(Located::new(address, text.span)));
    }
    let why = match text.value.parse() {
        Ok(host) => return Some(Where::Host(Located::new(host, text.span))),
        Err(why) => why,
    };
    let message = format!("{:?} is neither an IP address nor a host's name", text.value);
    let finding = Finding::new(&codes::BAD_ADDRESS, message, text.span, why);
    let host = text
        .value
        .rsplit_once(':')
        .map(|(host, port)| (host.parse::<HostName>(), port.parse::<u16>()));
    found.add(finding.help(match host {
        Some((Ok(host), Ok(port))) => format!("write address = {:?} and port = {port}", host.as_str()),
        _ => address_help(
            &text.value,
            "write the address, or a name such as \"app.internal.example\"",
        ),
    }));
    None
}

fn address_help(text: &str, otherwise: &str) -> String {
    let bare = text.split(['/', '%']).next().unwrap_or_default().trim();
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return format!("write {:?} and the port in its own key", socket.ip().to_string());
    }
    match bare.parse::<IpAddr>() {
        Ok(address) => format!("write {:?}", address.to_string()),
        Err(_) => otherwise.to_owned(),
    }
}

/// A duration inside `range`.
pub(in crate::config) fn duration(
    value: &Value<'_>,
    range: RangeInclusive<Duration>,
    found: &mut Findings,
) -> Option<Located<Duration>> {
    let text = match value.get_ref() {
        DeValue::Integer(_) => {
            wrong_type(value, "a duration in quotes, such as \"10s\"", found);
            return None;
        }
        _ => text(value, found)?,
    };
    let Some(read) = words::duration(&text.value) else {
        let message = format!("{:?} is not a duration", text.value);
        let finding = Finding::new(
            &codes::BAD_DURATION,
            message,
            text.span,
            "wanted a number and ms, s, m, h or d",
        );
        found.add(finding.help("write it like \"500ms\", \"10s\" or \"1h\""));
        return None;
    };
    if !range.contains(&read) {
        let (low, high) = (words::show_duration(*range.start()), words::show_duration(*range.end()));
        let message = format!("{} is outside of {low} to {high}", text.value);
        let label = format!("wanted {low} to {high}");
        let nearest = if read < *range.start() { &low } else { &high };
        let help = format!("the nearest that it takes is {nearest:?}");
        found.add(Finding::new(&codes::OUT_OF_RANGE, message, text.span, label).help(help));
        return None;
    }
    Some(Located::new(read, text.span))
}

/// A port range.
pub(in crate::config) fn port_range(value: &Value<'_>, found: &mut Findings) -> Option<Located<PortRange>> {
    let text = text(value, found)?;
    let Some(range) = words::port_range(&text.value) else {
        let message = format!("{:?} is not a port range", text.value);
        let finding = Finding::new(&codes::BAD_PORT_RANGE, message, text.span, "wanted \"LOW-HIGH\"");
        found.add(finding.help("write it like \"10240-32767\", low end first, from 1 to 65535"));
        return None;
    };
    Some(Located::new(range, text.span))
}

/// A list, or a single value in its place, each entry read on its own. Never empty.
pub(in crate::config) fn list<'a, 't, T>(
    value: &'a Value<'t>,
    found: &mut Findings,
    mut read: impl FnMut(&'a Value<'t>, &mut Findings) -> Option<T>,
) -> Option<Vec<T>> {
    let DeValue::Array(entries) = value.get_ref() else {
        return read(value, found).map(|one| vec![one]);
    };
    if entries.is_empty() {
        let finding = Finding::new(
            &codes::EMPTY_LIST,
            "the list is empty",
            value.span(),
            "wanted at least one entry",
        );
        found.add(finding);
        return None;
    }
    // Entries that could not be read are findings already; the rest is still worth checking.
    Some(entries.iter().filter_map(|entry| read(entry, found)).collect())
}

/// The tables of `[[key]]` or `key = [{...}]`.
pub(in crate::config) fn tables<'a, 't>(
    value: &'a Value<'t>,
    wanted: &str,
    found: &mut Findings,
) -> Vec<(&'a DeTable<'t>, Span)> {
    let DeValue::Array(entries) = value.get_ref() else {
        let is = kind_of(value.get_ref());
        let message = format!("found {is}, wanted {wanted}");
        let finding = Finding::new(&codes::WRONG_TYPE, message, value.span(), "not a list");
        let example = wanted.rsplit_once("as in ").map_or(wanted, |(_, example)| example);
        found.add(finding.help(format!("use {example}")));
        return Vec::new();
    };
    let mut read = Vec::new();
    for entry in entries {
        match entry.get_ref() {
            DeValue::Table(table) => read.push((table, entry.span())),
            _ => wrong_type(entry, wanted, found),
        }
    }
    read
}

/// One table.
pub(in crate::config) fn table<'a, 't>(
    value: &'a Value<'t>,
    wanted: &str,
    found: &mut Findings,
) -> Option<(&'a DeTable<'t>, Span)> {
    match value.get_ref() {
        DeValue::Table(table) => Some((table, value.span())),
        _ => {
            wrong_type(value, wanted, found);
            None
        }
    }
}
