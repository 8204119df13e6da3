//! What a packet costs in instructions and lookups, counted on the object's own instructions and held against
//! `fast_path.golden`: counts, not times. After a change that is worth its price:
//! `XLB_BLESS=1 cargo test -p xlb-tests --test fast_path`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use xlb_tests::interpreter::{Trace, packets};
use xlb_tests::require;

/// In what share of the golden number a count may differ: compilers differ that much.
const SLACK: f64 = 0.05;

fn operations(trace: &Trace) -> String {
    let list = |what: &BTreeMap<String, u32>| {
        let all: Vec<String> = what.iter().map(|(name, times)| format!("{name} {times}")).collect();
        if all.is_empty() { "-".to_owned() } else { all.join(", ") }
    };
    let helpers = trace.helpers.iter().map(|(name, times)| ((*name).to_owned(), *times));
    format!(
        "{} | {} | {}",
        list(&trace.lookups),
        list(&trace.writes),
        list(&helpers.collect())
    )
}

#[test]
fn a_packet_costs_the_instructions_and_lookups_of_the_golden_file() -> Result<()> {
    require!("ip");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fast_path.golden");
    let rows = packets()?;
    if std::env::var_os("XLB_BLESS").is_some() {
        let mut text = String::from("# packet | instructions | lookups | inserts and deletes | other helpers\n");
        for (name, trace) in &rows {
            writeln!(text, "{name} | {} | {}", trace.instructions, operations(trace))?;
        }
        return Ok(fs::write(&path, text)?);
    }
    let golden = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut golden: BTreeMap<&str, (f64, &str)> = golden
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut fields = line.splitn(3, " | ");
            let (name, count, rest) = (fields.next(), fields.next(), fields.next());
            let row = name.zip(count).zip(rest).context("name, count, operations")?;
            let ((name, count), rest) = row;
            Ok((name, (count.parse()?, rest)))
        })
        .collect::<Result<_>>()?;
    let mut faults = String::new();
    for (name, trace) in &rows {
        let Some((wanted, operations_wanted)) = golden.remove(name.as_str()) else {
            writeln!(faults, "{name}: not in the golden file")?;
            continue;
        };
        let found = f64::from(trace.instructions as u32);
        if (found - wanted).abs() > wanted * SLACK {
            writeln!(faults, "{name}: {found} instructions, the golden file has {wanted}")?;
        }
        let found = operations(trace);
        if found != operations_wanted {
            writeln!(faults, "{name}: {found}\n    the golden file has {operations_wanted}")?;
        }
    }
    for name in golden.keys() {
        writeln!(faults, "{name}: no longer measured")?;
    }
    if !faults.is_empty() {
        bail!("{faults}if the change is worth it: XLB_BLESS=1 cargo test -p xlb-tests --test fast_path");
    }
    Ok(())
}
