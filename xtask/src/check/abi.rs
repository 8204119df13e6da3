//! The ABI golden file: every map with the layout of its key and value, as the object's BTF says.
//! A running agent adopts pinned maps by this layout, so a change of it is a change of ABI_VERSION.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lb_common::{abi::ABI_VERSION, names};
use object::{Object, ObjectSection};

use super::btf::{Btf, Type, TypeId};
use super::{Findings, Golden, golden};

const GOLDEN: &str = "tests/golden/abi.txt";
/// How aya writes that a queue has no key.
const NO_KEY: &str = "()";

/// Compares the object's maps with the golden file, and with lb-common's list of names.
pub(super) fn check(root: &Path, object: &[u8], how: Golden, findings: &mut Findings) -> Result<()> {
    let file = object::File::parse(object).context("parse as ELF")?;
    let section = file.section_by_name(".BTF").context("no section .BTF")?;
    let btf = Btf::parse(section.data().context("read .BTF")?)?;
    let maps = btf.variables(".maps")?;
    for (name, _) in &maps {
        if !names::MAPS.contains(name) && !name.starts_with("AYA_") {
            findings
                .errors
                .push(format!("map {name} of the object is not in lb-common/src/names.rs"));
        }
    }
    let lacking: Vec<&str> = names::MAPS
        .iter()
        .copied()
        .filter(|name| !maps.iter().any(|(found, _)| found == name))
        .collect();
    if !lacking.is_empty() {
        findings.errors.push(format!(
            "lb-common/src/names.rs: the object has no map {}",
            lacking.join(", ")
        ));
    }
    check_docs(root, findings);

    let text = describe(&btf, &maps)?;
    let path = root.join(GOLDEN);
    let before = fs::read_to_string(&path).unwrap_or_default();
    if how == Golden::Bless && before != text && before.lines().next() == text.lines().next() {
        println!(
            "note: the layout changed and ABI_VERSION is still {ABI_VERSION}; bump it unless this version was never released"
        );
    }
    golden(&path, &text, how, findings)
}

/// docs/maps.md, once it is there, tells of every map.
fn check_docs(root: &Path, findings: &mut Findings) {
    let Ok(page) = fs::read_to_string(root.join("docs/maps.md")) else {
        return;
    };
    for name in names::MAPS.iter().filter(|name| !page.contains(**name)) {
        findings.errors.push(format!("docs/maps.md: map {name} is missing"));
    }
}

fn describe(btf: &Btf, maps: &[(&str, TypeId)]) -> Result<String> {
    let mut text = format!("abi_version {ABI_VERSION}\n\n");
    let mut structs = BTreeMap::new();
    for (name, id) in maps {
        let map = MapDefinition::find(btf, *id).with_context(|| format!("map {name}"))?;
        write!(text, "map {name} {}", kind_name(map.kind))?;
        for (role, id) in [("key", map.key), ("value", map.value)] {
            let Some(id) = id else { continue };
            let name = type_name(btf, id)?;
            if name != NO_KEY {
                write!(text, " {role} {name}")?;
                collect(btf, id, &mut structs)?;
            }
        }
        text.push('\n');
    }
    for (name, id) in structs {
        let Type::Struct { bytes, members, .. } = btf.get(id)? else {
            continue;
        };
        write!(text, "\nstruct {name} size {bytes}\n")?;
        for member in members {
            writeln!(
                text,
                "  {:>4} {} {}",
                member.offset_bytes,
                member.name,
                type_name(btf, member.of)?
            )?;
        }
    }
    Ok(text)
}

/// What the type of a map's variable says.
#[derive(Default)]
struct MapDefinition {
    kind: u32,
    key: Option<TypeId>,
    value: Option<TypeId>,
}

impl MapDefinition {
    /// aya wraps the definition into cells: unwrap single-member structures until there is a
    /// member `type`.
    fn find(btf: &Btf, id: TypeId) -> Result<Self> {
        let mut id = id;
        for _ in 0..16 {
            let Type::Struct { members, name, .. } = btf.get(id)? else {
                bail!("BTF type {id} is no structure")
            };
            if members.iter().any(|member| member.name == "type") {
                let mut found = Self::default();
                for member in members {
                    let Type::Pointer(target) = btf.get(member.of)? else {
                        continue;
                    };
                    match member.name.as_str() {
                        "type" => {
                            if let Type::Array { count, .. } = btf.get(*target)? {
                                found.kind = *count;
                            }
                        }
                        "key" => found.key = Some(*target),
                        "value" => found.value = Some(*target),
                        _ => {}
                    }
                }
                return Ok(found);
            }
            id = members
                .first()
                .map(|member| member.of)
                .with_context(|| format!("structure {name} has no members"))?;
        }
        bail!("no map definition inside");
    }
}

/// Structures reachable from a key or value, by name.
fn collect(btf: &Btf, id: TypeId, structs: &mut BTreeMap<String, TypeId>) -> Result<()> {
    match btf.get(id)? {
        Type::Struct { name, members, .. } => {
            if structs.insert(name.clone(), id).is_none() {
                for member in members {
                    collect(btf, member.of, structs)?;
                }
            }
            Ok(())
        }
        Type::Array { element, .. } => collect(btf, *element, structs),
        _ => Ok(()),
    }
}

fn type_name(btf: &Btf, id: TypeId) -> Result<String> {
    Ok(match btf.get(id)? {
        Type::Int { name } | Type::Struct { name, .. } => name.clone(),
        // An enumeration has no place in the ABI: shown, so that it is seen in review.
        Type::Enum { name, bytes } => format!("enum {name} of {bytes} bytes"),
        Type::Array { element, count } => format!("{}[{count}]", type_name(btf, *element)?),
        Type::Pointer(_) => "pointer".into(),
        other => bail!("BTF type {id}: {other:?} is not expected in a map"),
    })
}

/// `enum bpf_map_type` in the kernel's include/uapi/linux/bpf.h.
fn kind_name(kind: u32) -> String {
    match kind {
        1 => "hash".into(),
        2 => "array".into(),
        5 => "percpu_hash".into(),
        6 => "percpu_array".into(),
        9 => "lru_hash".into(),
        11 => "lpm_trie".into(),
        12 => "array_of_maps".into(),
        14 => "devmap".into(),
        22 => "queue".into(),
        23 => "stack".into(),
        25 => "devmap_hash".into(),
        27 => "ringbuf".into(),
        other => format!("type_{other}"),
    }
}
