//! docs/config.md and examples/xlb.toml say what the parser does.

use std::fmt::Write;
use std::fs;

use super::{SMALL, parsed};
use crate::config::schema::{self, Key, Kind, Section};
use crate::config::{CODES, Config, parse};

/// The page on disk, which `XLB_BLESS=1` rewrites.
const DOCS_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config.md");
const DOCS: &str = include_str!("../../../../docs/config.md");
const EXAMPLE: &str = include_str!("../../../../examples/xlb.toml");

/// A config whose every section has room for one more line at `@name@`.
const TEMPLATE: &str = r#"
@file@
[agent]
interfaces = ["eth0"]
@agent@
[limits]
@limits@
[timeouts]
@timeouts@
[dns]
@dns@
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
@service@
[[service.silence]]
code = "XLB0303"
reason = "template"
@silence@
[[service.backend]]
address = "10.0.0.11"
@backend@
[service.backend.check]
@check@
[service.backend.check.@kind@]
@http@
@https@
"#;

/// Heading in the docs and place in the template.
pub(super) const SECTIONS: [(&str, &str); 10] = [
    ("## `[agent]`", "@agent@"),
    ("## `[limits]`", "@limits@"),
    ("## `[timeouts]`", "@timeouts@"),
    ("## `[dns]`", "@dns@"),
    ("## `[[service]]`", "@service@"),
    ("## `[[service.backend]]`", "@backend@"),
    ("## `check`", "@check@"),
    ("### `check.http`", "@http@"),
    ("### `check.https`", "@https@"),
    ("## `silence`", "@silence@"),
];

pub(super) fn with(place: &str, line: &str) -> String {
    let kind = if place == "@https@" { "https" } else { "http" };
    let text = TEMPLATE.replace("@kind@", kind).replace(place, line);
    let blank = |text: String, (_, place): &(&str, &str)| text.replace(place, "");
    SECTIONS.iter().fold(text, blank).replace("@file@", "")
}

/// The keys of a section, as [`SECTIONS`] names it.
pub(super) fn section(heading: &str) -> &'static Section {
    let found = schema::SECTIONS.iter().find(|section| section.heading == heading);
    found.unwrap_or_else(|| panic!("no {heading} in schema/keys.rs"))
}

/// The table under a heading of the docs.
fn table(section: &Section) -> String {
    let mut table = String::from("| key | type | default | meaning |\n|---|---|---|---|\n");
    for key in section.keys {
        let Key {
            name,
            kind,
            default,
            meaning,
        } = key;
        let kind = type_of(kind);
        writeln!(table, "| `{name}` | {kind} | {default} | {meaning} |").expect("to a string");
    }
    table
}

fn type_of(kind: &Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Sought => "text, 1 to 1024 bytes".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Roots => "`\"system\"` or path".to_owned(),
        Kind::Names => "list of names".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::Word(words) => words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(" or "),
        Kind::Number(low, high) => format!("number, {low} to {high}"),
        Kind::Numbers(low, high) => format!("list of numbers, {low} to {high}"),
        Kind::Duration(low, high) => format!("duration, {low} to {high}"),
        Kind::PortRange => "port range".to_owned(),
        Kind::Host => "address or host's name".to_owned(),
        Kind::Addresses => "list of addresses".to_owned(),
        Kind::Listener => "address:port or `\"off\"`".to_owned(),
        Kind::Code => "code".to_owned(),
        Kind::Empty => "table without keys".to_owned(),
        Kind::Table(_) => "table".to_owned(),
        Kind::Tables(_) => "tables".to_owned(),
    }
}

/// Compares a part of the page with what it should be, or rewrites it under `XLB_BLESS`.
fn hold(part: &str, wanted: &str) {
    if part == wanted {
        return;
    }
    assert!(
        std::env::var_os("XLB_BLESS").is_some(),
        "docs/config.md differs; XLB_BLESS=1 rewrites it. It should say:\n{wanted}"
    );
    let page = fs::read_to_string(DOCS_PATH).expect("docs/config.md");
    fs::write(DOCS_PATH, page.replacen(part, wanted, 1)).expect("write docs/config.md");
}

#[test]
fn the_tables_of_the_docs_are_the_schemas_keys() {
    for (heading, _) in SECTIONS {
        let part = DOCS.split(&format!("{heading}\n")).nth(1);
        let part = part.unwrap_or_else(|| panic!("docs/config.md has no {heading}"));
        let start = part.find("| key |").expect("a table");
        let rows = part.get(start..).unwrap_or_default();
        let end = rows.find("\n\n").map_or(rows.len(), |end| end + 1);
        hold(rows.get(..end).unwrap_or_default(), &table(section(heading)));
    }
}

/// Keys that the parser knows in a section, from its own answer to an unknown one.
fn known_keys(place: &str) -> Vec<String> {
    let errors = parse(std::path::Path::new("x"), &with(place, "zzzzzzzzzz = 1")).expect_err("unknown key");
    let help = errors
        .into_iter()
        .find(|one| one.code == "XLB0101")
        .and_then(|one| one.help)
        .expect("help");
    let keys = help.strip_prefix("known keys: ").expect("list of keys");
    keys.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_schema_and_the_example_have_every_key_and_no_other() {
    for (heading, place) in SECTIONS {
        let mut listed: Vec<&str> = section(heading).keys.iter().map(|key| key.name).collect();
        let mut known = known_keys(place);
        listed.sort_unstable();
        known.sort();
        assert_eq!(listed, known, "{heading}: schema/keys.rs and the reader");
        for key in known.iter().filter(|key| *key != "backend" && *key != "host") {
            let written = EXAMPLE.contains(&format!("\n{key} = ")) || EXAMPLE.contains(&format!(" {key} = "));
            assert!(written, "{key} is not in examples/xlb.toml");
        }
    }
}

#[test]
fn a_default_written_out_changes_nothing() {
    let mut tried = 0;
    for (heading, place) in SECTIONS {
        let default: Config = parsed(&with(place, "")).0;
        for key in section(heading).keys {
            let Some(literal) = schema::literal(key.default) else {
                continue;
            };
            let text = with(place, &format!("{} = {literal}", key.name));
            assert_eq!(parsed(&text).0, default, "{heading} {}", key.name);
            tried += 1;
        }
    }
    assert!(tried >= 25, "{tried}");
}

#[test]
fn the_smallest_config_of_the_docs_is_the_one_tested() {
    assert!(DOCS.contains(SMALL.trim_start()), "{SMALL}");
}

#[test]
fn the_docs_explain_every_code() {
    let mut table = String::from("| code | severity | what | why, and what to do |\n|---|---|---|---|\n");
    for code in CODES {
        let severity = code.severity.as_str();
        writeln!(
            table,
            "| {} | {severity} | {} | {} |",
            code.id, code.title, code.explanation
        )
        .expect("to a string");
    }
    let written = DOCS.split("Every finding has a code:\n\n").nth(1).unwrap_or_default();
    hold(written, &table);
}
