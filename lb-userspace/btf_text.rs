//! Marks the signed byte of the BPF object's BTF as `char`.
//!
//! Rust has no one-byte `char`, and LLVM writes the encoding that bpftool prints as text for C's alone. The ABI uses `i8` for
//! nothing but names (`lb_common::abi::Name`), so its one BTF type is changed: bpftool then shows `"name": "web/a"`
//! instead of 64 numbers. Layout of BTF: Linux Documentation/bpf/btf.rst.

use object::{Object as _, ObjectSection as _};

const BTF_MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const ENCODING_CHAR: u32 = 2;
const BYTE: &[u8] = b"i8";

/// Changes the type in place; the error is a sentence.
pub(crate) fn mark_text(elf: &mut [u8]) -> Result<(), String> {
    let at = byte_type(elf)?;
    let word = u32_at(elf, at)?;
    let marked = (word & 0x00ff_ffff) | (ENCODING_CHAR << 24);
    elf[at..at + 4].copy_from_slice(&marked.to_le_bytes());
    Ok(())
}

/// Offset in the file of the word that describes the type `i8`.
fn byte_type(elf: &[u8]) -> Result<usize, String> {
    let file = object::File::parse(elf).map_err(|error| format!("BPF object: {error}"))?;
    let section = file.section_by_name(".BTF").ok_or("BPF object: no section .BTF")?;
    let (start, _) = section.file_range().ok_or("BPF object: .BTF is empty")?;
    let start = start as usize;
    let header = |offset: usize| u32_at(elf, start + offset).map(|value| value as usize);
    if u32_at(elf, start)? as u16 != BTF_MAGIC {
        return Err("BPF object: .BTF has another magic than 0xeb9f".to_owned());
    }
    let base = start + header(4)?;
    let (mut at, end) = (base + header(8)?, base + header(8)? + header(12)?);
    let strings = base + header(16)?;
    while at < end {
        let (name, info) = (u32_at(elf, at)? as usize, u32_at(elf, at + 4)?);
        let kind = (info >> 24) & 0x1f;
        if kind == KIND_INT && string_at(elf, strings + name) == BYTE {
            return Ok(at + 12);
        }
        at += 12 + extra_bytes(kind, info & 0xffff)?;
    }
    Err("BPF object: .BTF has no type i8; lb_common::abi::Name is made of it".to_owned())
}

/// Bytes that follow a type's common twelve.
fn extra_bytes(kind: u32, members: u32) -> Result<usize, String> {
    let members = members as usize;
    Ok(match kind {
        KIND_INT | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * members,
        6 | 13 => 8 * members,
        2 | 7..=12 | 16 | 18 => 0,
        other => return Err(format!("BPF object: .BTF has a type of unknown kind {other}")),
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    bytes
        .get(at..at + 4)
        .and_then(|word| word.try_into().ok())
        .map(u32::from_le_bytes)
        .ok_or_else(|| format!("BPF object: .BTF ends before byte {at}"))
}

fn string_at(bytes: &[u8], at: usize) -> &[u8] {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.split(|byte| *byte == 0).next().unwrap_or_default()
}
