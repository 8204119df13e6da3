//! What people see: bpftool's JSON of every pinned map, held against a golden file and docs/maps.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_common::names;
use serde_json::{Value, json};
use xlb_tests::process::run;
use xlb_tests::require;

use super::live::{CLIENT_SIDE, Live, Peers};

const GOLDEN: &str = include_str!("bpftool.golden");
const DOCS: &str = include_str!("../../../docs/maps.md");

/// A map and the index of an entry in use; `None`: a hash map, its first entry.
const MAPS: [(&str, Option<u32>); 18] = [
    (names::SETTINGS, Some(0)),
    (names::OURS, Some(0)),
    (names::IFACES, Some(CLIENT_SIDE % 4_096)),
    (names::ENDPOINTS, None),
    (names::ADDRS, None),
    (names::SERVICES, Some(1)),
    (names::BACKENDS, Some(1)),
    (names::RINGS, Some(0)),
    (names::SNAT, Some(0)),
    (names::FLOWS4, None),
    (names::FLOWS6, None),
    (names::HALF4, None),
    (names::HALF6, None),
    (names::BACKEND_STATS, Some(1)),
    (names::REASON_STATS, Some(96)),
    (names::CPU, Some(0)),
    (names::TX_ERRORS, None),
    (names::NAMES, None),
];

/// A live dataplane with an entry in every map.
fn busy() -> Result<Live> {
    let mut live = Live::start(Peers::Receive)?;
    for vip in Live::vips() {
        live.echo(vip)?;
        live.handshake(vip)?;
        live.syn(vip, 20_001)?;
    }
    live.stage.namespace.ip("link set y0 down")?;
    let [vip, _] = Live::vips();
    live.syn(vip, 20_002)?;
    let counted = || Ok(!live.dataplane.tx_errors()?.is_empty());
    xlb_tests::process::wait_until("the refused redirect", std::time::Duration::from_secs(5), counted)?;
    Ok(live)
}

/// bpftool's entries of a map: one, or all of a hash map.
fn entries(live: &Live, map: &str, index: Option<u32>) -> Result<Vec<Value>> {
    let pin = live.stage.pin_dir().join(map);
    let mut command = Command::new("bpftool");
    command
        .args(["-j", "map", if index.is_some() { "lookup" } else { "dump" }, "pinned"])
        .arg(pin);
    if let Some(index) = index {
        command
            .arg("key")
            .args(index.to_ne_bytes().map(|byte| byte.to_string()));
    }
    let answer: Value =
        serde_json::from_str(&run(&mut command)?).with_context(|| format!("bpftool's JSON of {map}"))?;
    Ok(match answer {
        Value::Array(entries) => entries,
        entry => vec![entry],
    })
}

fn formatted(entry: &Value) -> Result<&Value> {
    entry
        .get("formatted")
        .with_context(|| format!("no field names in {entry}"))
}

/// Field names and kinds without values: `value{mac[6] name:text port}`.
fn outline(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}{}", outline(value)))
                .collect();
            format!("{{{}}}", fields.join(" "))
        }
        // One value a CPU: as many as the machine has, all alike.
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            format!("[{}]", items.first().map(outline).unwrap_or_default())
        }
        Value::Array(items) => format!("[{}]", items.len()),
        Value::String(_) => ":text".to_owned(),
        _ => String::new(),
    }
}

#[test]
fn bpftool_prints_every_map_with_the_golden_field_names() -> Result<()> {
    require!("ip", "ethtool", "bpftool");
    let live = busy()?;
    let mut found = String::new();
    for (map, index) in MAPS {
        let entries = entries(&live, map, index)?;
        let first = entries.first().with_context(|| format!("{map} is empty"))?;
        writeln!(found, "{map} {}", outline(formatted(first)?))?;
    }
    ensure!(
        found == GOLDEN,
        "bpftool.golden differs; a change of layout also bumps ABI_VERSION. Found:\n{found}"
    );
    Ok(())
}

#[test]
fn bpftool_prints_names_as_text_and_ports_as_numbers() -> Result<()> {
    require!("ip", "ethtool", "bpftool");
    let live = busy()?;
    let names: BTreeSet<String> = entries(&live, names::NAMES, None)?
        .iter()
        .map(|entry| formatted(entry).map(ToString::to_string))
        .collect::<Result<_>>()?;
    let named = |kind, id, name| json!({"key": {"kind": kind, "id": id}, "value": {"name": name}}).to_string();
    assert_eq!(
        names,
        BTreeSet::from([named(1, 1, "web"), named(2, 1, "web/a"), named(2, 2, "web/b")])
    );

    let backend = entries(&live, names::BACKENDS, Some(1))?;
    let backend = formatted(backend.first().context("no backend 1")?)?;
    assert_eq!(backend.pointer("/value/internal_port"), Some(&json!(8_080)));
    let address = json!([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 11]);
    assert_eq!(backend.pointer("/value/address"), Some(&address));
    Ok(())
}

#[test]
fn the_docs_have_every_map_and_name_every_field() {
    for map in names::MAPS {
        assert!(
            DOCS.contains(&format!("`{map}`")) || DOCS.contains(&format!("## {map}")),
            "docs/maps.md lacks {map}"
        );
    }
    for line in GOLDEN.lines() {
        let mut words = line
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty());
        let map = words.next().unwrap_or_default();
        // Half-open entries are described with the established ones.
        let described_at = map.replace("xlb_half", "xlb_flows");
        let section = DOCS
            .split("\n## ")
            .find(|section| section.lines().next().unwrap_or_default().contains(&described_at));
        let section = section.unwrap_or_default();
        for word in words.filter(|word| !["key", "value", "values", "cpu", "text"].contains(word)) {
            let number = word.bytes().all(|byte| byte.is_ascii_digit());
            let common = word.starts_with("reserved");
            assert!(
                number || common || section.contains(word),
                "docs/maps.md, section {map}: no word about {word}"
            );
        }
    }
}
