//! docs/config.md and examples/xlb.toml say what the parser does.

use std::fmt::Write;

use super::{SMALL, parsed};
use crate::config::{CODES, Config, Severity, parse};

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
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
@service@
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
const SECTIONS: [(&str, &str); 8] = [
    ("## `[agent]`", "@agent@"),
    ("## `[limits]`", "@limits@"),
    ("## `[timeouts]`", "@timeouts@"),
    ("## `[[service]]`", "@service@"),
    ("## `[[service.backend]]`", "@backend@"),
    ("## `check`", "@check@"),
    ("### `check.http`", "@http@"),
    ("### `check.https`", "@https@"),
];

fn with(place: &str, line: &str) -> String {
    let kind = if place == "@https@" { "https" } else { "http" };
    let text = TEMPLATE.replace("@kind@", kind).replace(place, line);
    let blank = |text: String, (_, place): &(&str, &str)| text.replace(place, "");
    SECTIONS.iter().fold(text, blank).replace("@file@", "")
}

/// Rows of the table under a heading: key and default.
fn rows(heading: &str) -> Vec<(String, String)> {
    let section = DOCS
        .split(&format!("{heading}\n"))
        .nth(1)
        .unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n#").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        (cells[0].trim_matches(['|', ' ', '`']).to_owned(), cells[2].to_owned())
    })
    .collect()
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
fn the_docs_and_the_example_have_every_key_and_no_other() {
    for (heading, place) in SECTIONS {
        let mut documented: Vec<String> = rows(heading).into_iter().map(|(key, _)| key).collect();
        let mut known = known_keys(place);
        documented.sort();
        known.sort();
        assert_eq!(documented, known, "{heading}");
        for key in known.iter().filter(|key| *key != "backend" && *key != "host") {
            let written = EXAMPLE.contains(&format!("\n{key} = ")) || EXAMPLE.contains(&format!(" {key} = "));
            assert!(written, "{key} is not in examples/xlb.toml");
        }
    }
}

#[test]
fn a_documented_default_written_out_changes_nothing() {
    let mut tried = 0;
    for (heading, place) in SECTIONS {
        let default: Config = parsed(&with(place, "")).0;
        for (key, default_cell) in rows(heading) {
            let Some(literal) = default_cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) else {
                continue;
            };
            // A description, not a literal.
            if literal == "address:port" {
                continue;
            }
            assert_eq!(
                parsed(&with(place, &format!("{key} = {literal}"))).0,
                default,
                "{heading} {key}"
            );
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
        let severity = match code.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(
            table,
            "| {} | {severity} | {} | {} |",
            code.id, code.title, code.explanation
        )
        .expect("to a string");
    }
    let written = DOCS.split("Every finding has a code:\n\n").nth(1).unwrap_or_default();
    assert_eq!(written, table, "the last section of docs/config.md is not this table");
}
