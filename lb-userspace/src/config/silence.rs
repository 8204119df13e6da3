//! `silence`: warnings and hints that an operator has looked at and means to keep, each with a reason. A silence covers
//! the object it stands in; one of a service also covers its backends. It must not hide an error.

use super::check::name_of;
use super::codes::{self, Code};
use super::findings::{Finding, Findings, Located, Span};
use super::raw::RawConfig;
use super::reader::{self, Section, Value};
use super::{About, Severity, words};

/// One entry of `silence`.
#[derive(Clone, Debug)]
pub(super) struct RawSilence {
    code: Located<&'static Code>,
    reason: String,
}

/// Reads `silence`; entries with a fault are findings.
pub(super) fn silences(value: &Value<'_>, found: &mut Findings) -> Option<Vec<RawSilence>> {
    let wanted = "tables, as in silence = [{ code = \"XLB0303\", reason = \"...\" }]";
    let tables = reader::tables(value, wanted, found);
    let read = tables.into_iter().filter_map(|(table, span)| {
        let mut section = Section::new(table, span, "silence");
        let code = section.require("code", "code = \"XLB0303\"", found, code);
        let reason = section.require("reason", "reason = \"why it is meant to be so\"", found, reason);
        section.close(found);
        Some(RawSilence {
            code: code?,
            reason: reason?,
        })
    });
    Some(read.collect())
}

fn code(value: &Value<'_>, found: &mut Findings) -> Option<Located<&'static Code>> {
    let text = reader::text(value, found)?;
    let Some(code) = codes::explain(&text.value) else {
        let message = format!("{:?} is not a code", text.value);
        let finding = Finding::new(&codes::SILENCE_UNKNOWN, message, text.span, "not known here");
        let known: Vec<&str> = codes::CODES.iter().map(|code| code.id).collect();
        found.add(finding.help(match words::nearest(&text.value, &known) {
            Some(near) => format!("did you mean {near}? 'xlb explain' lists every code"),
            None => "'xlb explain' lists every code".to_owned(),
        }));
        return None;
    };
    if code.can_be_silenced() {
        return Some(Located::new(code, text.span));
    }
    let message = format!("{} cannot be silenced: {}", code.id, code.title);
    let label = match code.severity {
        Severity::Error => "an error",
        Severity::Warning | Severity::Hint => "about silence itself",
    };
    let finding = Finding::new(&codes::SILENCE_ERROR, message, text.span, label);
    found.add(finding.help(format!("remove it and see 'xlb explain {}'", code.id)));
    None
}

fn reason(value: &Value<'_>, found: &mut Findings) -> Option<String> {
    let text = reader::text(value, found)?;
    if !text.value.trim().is_empty() {
        return Some(text.value);
    }
    let finding = Finding::new(
        &codes::SILENCE_WITHOUT_REASON,
        "silence without a reason",
        text.span,
        "empty",
    );
    found.add(finding.help("say why it is meant to be so, for whoever reads the file next"));
    None
}

/// A table of the file that may hold a `silence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    Agent,
    Service(usize),
    Backend(usize, usize),
}

impl Object {
    /// Whether a silence here covers a finding about `other`.
    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::Service(own), Self::Backend(of, _)) => own == of,
            _ => self == other,
        }
    }
}

/// Takes silenced findings out, each with its reason, and reports silences that silence nothing.
pub(super) fn apply(raw: &RawConfig, text: &str, found: &mut Findings) -> Vec<(Finding, String)> {
    let places = places(raw, text);
    let mut silences: Vec<(Object, &RawSilence, bool)> = all(raw).map(|(object, one)| (object, one, false)).collect();
    let mut silenced = Vec::new();
    if silences.is_empty() {
        return silenced;
    }
    found.retain(|finding| {
        // A finding that shows two places may be silenced at either.
        let about: Vec<Object> = finding.spans().map(|span| object_at(&places, span.start)).collect();
        let fitting = silences.iter_mut().filter(|(object, silence, _)| {
            silence.code.value == finding.code && about.iter().any(|about| object.covers(*about))
        });
        let mut reasons = fitting.map(|(_, silence, used)| {
            *used = true;
            silence.reason.clone()
        });
        let Some(reason) = reasons.next() else {
            return true;
        };
        reasons.for_each(drop);
        silenced.push((finding.clone(), reason));
        false
    });
    // Beside errors not everything was looked at; and what depends on the host may be true on another.
    if !found.has_errors() {
        let unused = silences.iter().filter(|(_, one, used)| !used && !one.code.value.host);
        for (_, silence, _) in unused {
            let message = format!(
                "nothing here is {}: {}",
                silence.code.value.id, silence.code.value.title
            );
            let span = silence.code.span.clone();
            let finding = Finding::new(&codes::SILENCE_UNUSED, message, span, "silences nothing");
            found.add(finding.help("remove it, or move it to the object that the finding is about"));
        }
    }
    silenced
}

/// Notes of each finding whom it is about.
pub(super) fn name_objects(raw: &RawConfig, text: &str, found: &mut Findings) {
    let places = places(raw, text);
    for finding in found.iter_mut() {
        let objects = finding.spans().map(|span| object_at(&places, span.start));
        finding.about = objects.filter_map(|object| about(raw, object)).collect();
    }
}

fn about(raw: &RawConfig, object: Object) -> Option<About> {
    let (service, backend) = match object {
        Object::Agent => return None,
        Object::Service(service) => (service, None),
        Object::Backend(service, backend) => (service, Some(backend)),
    };
    let service = raw.services.get(service)?;
    let backend = backend.and_then(|backend| name_of(service, service.backends.get(backend)?));
    Some(About {
        service: service.name.as_ref()?.value.clone(),
        backend,
    })
}

fn all(raw: &RawConfig) -> impl Iterator<Item = (Object, &RawSilence)> {
    let agent = raw.agent.silences.iter().map(|one| (Object::Agent, one));
    let services = raw.services.iter().enumerate().flat_map(|(index, service)| {
        let own = service.silences.iter().map(move |one| (Object::Service(index), one));
        let backends = service.backends.iter().enumerate().flat_map(move |(nth, backend)| {
            let object = Object::Backend(index, nth);
            backend.silences.iter().map(move |one| (object, one))
        });
        own.chain(backends)
    });
    agent.chain(services)
}

/// Where each object's table starts, and ends if it is written inline: `[[headers]]` reach to the next one.
fn places(raw: &RawConfig, text: &str) -> Vec<(usize, Option<usize>, Object)> {
    let place = |span: &Span, object| {
        let inline = text.get(span.start..).is_some_and(|rest| rest.starts_with('{'));
        (span.start, inline.then_some(span.end), object)
    };
    let mut places = vec![place(&raw.agent.span, Object::Agent)];
    for (index, service) in raw.services.iter().enumerate() {
        places.push(place(&service.span, Object::Service(index)));
        let backends = service.backends.iter().enumerate();
        places.extend(backends.map(|(nth, backend)| place(&backend.span, Object::Backend(index, nth))));
    }
    places.sort_by_key(|(start, ..)| *start);
    places
}

fn object_at(places: &[(usize, Option<usize>, Object)], at: usize) -> Object {
    let before = places.get(..places.partition_point(|(start, ..)| *start <= at));
    let mut before = before.unwrap_or_default().iter().rev();
    let inside = before.find(|(_, end, _)| end.is_none_or(|end| at < end));
    inside.map_or(Object::Agent, |(.., object)| *object)
}
