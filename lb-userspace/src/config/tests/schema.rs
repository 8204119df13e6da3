//! The schema against the reader: types, ranges and words. [`super::parsed`] holds every valid config of the tests to it.

use serde_json::Value;

use super::docs::{SECTIONS, section, with};
use super::parse;
use crate::config::schema::{Key, Kind, schema};

/// Codes of findings whose first label stands on the line of `key`.
fn codes(text: &str, key: &str) -> Vec<&'static str> {
    let findings = match parse(std::path::Path::new("x"), text) {
        Ok((_, findings)) | Err(findings) => findings,
    };
    let here = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with(&format!("{key} = ")));
    let line = here.last().map_or(0, |(index, _)| index + 1);
    let here = findings.into_iter().filter(|one| one.line == line);
    here.map(|one| one.code).collect()
}

/// What a key is to take, and what not with the code that says so.
fn probes(key: &Key) -> (Vec<String>, Vec<(String, &'static str)>) {
    let quoted = |word: &str| format!("{word:?}");
    let numbers = |low: u32, high: u32| {
        let below = match low {
            0 => "-1".to_owned(),
            low => (low - 1).to_string(),
        };
        let above = (u64::from(high) + 1).to_string();
        let port_zero = if low == 1 && high == 65_535 && key.name != "services" {
            "XLB0202"
        } else {
            "XLB0104"
        };
        (
            vec![low.to_string(), high.to_string()],
            vec![(below, port_zero), (above, "XLB0104"), ("\"1\"".to_owned(), "XLB0103")],
        )
    };
    let text = vec![("1".to_owned(), "XLB0103")];
    match &key.kind {
        Kind::Sought => (vec![quoted("ok")], [text, vec![(quoted(""), "XLB0116")]].concat()),
        Kind::Roots => (
            vec![quoted("system")],
            [text, vec![(quoted("ca.pem"), "XLB0114")]].concat(),
        ),
        Kind::Text | Kind::Path | Kind::Listener | Kind::Code => (vec![], text),
        Kind::Names | Kind::PortRange | Kind::Host | Kind::Addresses => (vec![], text),
        Kind::Bool => (
            vec!["true".to_owned(), "false".to_owned()],
            vec![("1".to_owned(), "XLB0103")],
        ),
        Kind::Word(words) => (
            words.iter().map(|word| quoted(word)).collect(),
            vec![(quoted("zzzzzz"), "XLB0105"), ("1".to_owned(), "XLB0103")],
        ),
        Kind::Number(low, high) | Kind::Numbers(low, high) => numbers(*low, *high),
        // The other end is a key of its own.
        Kind::Duration(low, high) => (
            std::iter::once(low)
                .chain(Some(high).filter(|high| !high.contains('`')))
                .map(|end| quoted(end))
                .collect(),
            vec![
                (quoted("0ms"), "XLB0104"),
                (quoted(if high.contains('`') { "2h" } else { "8d" }), "XLB0104"),
                ("1".to_owned(), "XLB0103"),
            ],
        ),
        Kind::Empty => (vec!["{}".to_owned()], vec![("1".to_owned(), "XLB0103")]),
        Kind::Table(_) | Kind::Tables(_) => (vec![], vec![]),
    }
}

#[test]
fn types_ranges_and_words_are_the_readers() {
    for (heading, place) in SECTIONS {
        for key in section(heading).keys {
            let (good, bad) = probes(key);
            let line = |value: &str| config_with(place, key, value);
            for value in good {
                let text = line(&value);
                let said = codes(&text, key.name);
                let refused = ["XLB0103", "XLB0104", "XLB0105", "XLB0201", "XLB0202"];
                assert!(
                    !said.iter().any(|code| refused.contains(code)),
                    "{heading} {} = {value}: {said:?}",
                    key.name
                );
            }
            for (value, code) in bad {
                let text = line(&value);
                let said = codes(&text, key.name);
                assert!(
                    said.contains(&code),
                    "{heading} {} = {value}: {said:?}, not {code}\n{text}",
                    key.name
                );
            }
        }
    }
}

/// The template with a key set; it has the required ones already.
fn config_with(place: &str, key: &Key, value: &str) -> String {
    let line = format!("{} = {value}", key.name);
    if key.default != "required" {
        return with(place, &line);
    }
    let text = with(place, "");
    let start = text.find(&format!("\n{} = ", key.name)).expect("in the template") + 1;
    let rest = text.get(start..).unwrap_or_default();
    let old = rest.lines().next().unwrap_or_default();
    text.replacen(old, &line, 1)
}

/// What the schema says about a config, as far as it uses these keywords.
pub(super) fn faults(text: &str) -> Vec<String> {
    let table: toml::Table = toml::from_str(text).expect("TOML");
    let document = serde_json::to_value(table).expect("JSON");
    let mut faults = Vec::new();
    judge(
        &serde_json::to_value(schema()).expect("JSON"),
        &document,
        "",
        &mut faults,
    );
    faults
}

fn judge(schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let mut fault = |what: String| faults.push(format!("{at}: {what}"));
    let wanted = schema["type"].as_str();
    let fits = match wanted {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some(other) => panic!("type {other}"),
        None => true,
    };
    if !fits {
        fault(format!("{value} is no {}", wanted.unwrap_or_default()));
        return;
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        fault(format!("{value} is none of {words:?}"));
    }
    if let Some(number) = value.as_u64() {
        let low = schema["minimum"].as_u64().unwrap_or(0);
        let high = schema["maximum"].as_u64().unwrap_or(u64::MAX);
        if !(low..=high).contains(&number) {
            fault(format!("{number} is outside of {low} to {high}"));
        }
    }
    let several = |key: &str| schema[key].as_array().map_or(&[][..], Vec::as_slice);
    let passes = |schema: &Value| {
        let mut inner = Vec::new();
        judge(schema, value, at, &mut inner);
        inner.is_empty()
    };
    let any = several("anyOf");
    if !any.is_empty() && !any.iter().any(passes) {
        fault(format!("{value} fits none of anyOf"));
    }
    let one = several("oneOf");
    if !one.is_empty() && one.iter().filter(|schema| passes(schema)).count() != 1 {
        fault("not exactly one of oneOf".to_owned());
    }
    if let Some(object) = value.as_object() {
        for key in several("required").iter().filter_map(Value::as_str) {
            if !object.contains_key(key) {
                fault(format!("lacks {key}"));
            }
        }
        if schema["maxProperties"] == 0 && !object.is_empty() {
            fault("has keys".to_owned());
        }
        for (key, value) in object {
            match schema["properties"].get(key) {
                Some(schema) => judge(schema, value, &format!("{at}.{key}"), faults),
                None if schema["additionalProperties"] == false => faults.push(format!("{at}: unknown key {key}")),
                None => {}
            }
        }
    }
    if let Some(entries) = value.as_array() {
        if schema["minItems"]
            .as_u64()
            .is_some_and(|least| (entries.len() as u64) < least)
        {
            faults.push(format!("{at}: too few"));
        }
        for (index, entry) in entries.iter().enumerate() {
            if let Some(schema) = schema.get("items") {
                judge(schema, entry, &format!("{at}[{index}]"), faults);
            }
        }
    }
}

#[test]
fn the_schema_refuses_what_an_editor_should_underline() {
    let wrong = [
        (
            "interfaces = [\"eth0\"]",
            "interface = [\"eth0\"]",
            "unknown key interface",
        ),
        ("port = 80", "port = 0", "outside of 1 to 65535"),
        ("port = 80", "prot = 80", "lacks port"),
        ("port = 80", "port = 80\nmode = \"fullnat\"", "is none of"),
        ("port = 80", "port = \"80\"", "no integer"),
        ("port = 80", "port = 80\ncheck = { tcp = {}, http = {} }", "oneOf"),
        (
            "port = 80",
            "port = 80\nsilence = [{ code = \"XLB0101\", reason = \"x\" }]",
            "is none of",
        ),
    ];
    for (from, to, said) in wrong {
        let text = super::SMALL.replacen(from, to, 1);
        let faults = faults(&text);
        assert!(faults.iter().any(|fault| fault.contains(said)), "{to}: {faults:?}");
    }
    assert_eq!(faults(super::SMALL), Vec::<String>::new());
}
