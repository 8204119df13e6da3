//! Reads BTF, as far as map definitions and their key and value types need it.
//!
//! Source: the kernel's Documentation/bpf/btf.rst. Little endian only, as our target is.

use anyhow::{Context, Result, bail, ensure};

const MAGIC: u32 = 0xeb9f;
const TYPE_HEADER_BYTES: usize = 12;

/// Index of a type; 0 is void.
pub(super) type TypeId = u32;

/// One type, as much of it as is used here.
#[derive(Debug, Clone)]
pub(super) enum Type {
    /// Integer.
    Int { name: String },
    /// Pointer to a type.
    Pointer(TypeId),
    /// Array of `count` elements.
    Array { element: TypeId, count: u32 },
    /// Structure or union.
    Struct {
        name: String,
        bytes: u32,
        members: Vec<Member>,
    },
    /// A global variable.
    Variable { name: String, of: TypeId },
    /// The variables of one ELF section.
    Section { name: String, variables: Vec<TypeId> },
    /// typedef, const, volatile: another name for a type.
    Alias(TypeId),
    /// Enumeration.
    Enum { name: String, bytes: u32 },
    /// Functions and everything else.
    Other,
}

/// A member of a structure.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) of: TypeId,
    pub(super) offset_bytes: u32,
}

/// All types of an object.
pub(super) struct Btf {
    types: Vec<Type>,
}

impl Btf {
    /// Parses the contents of a .BTF section.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let magic = u32_at(bytes, 0)? & 0xffff;
        ensure!(magic == MAGIC, "BTF magic {magic:#x}, expected {MAGIC:#x}");
        let header_bytes = u32_at(bytes, 4)? as usize;
        let part = |offset_at: usize| -> Result<&[u8]> {
            let start = header_bytes + u32_at(bytes, offset_at)? as usize;
            let length = u32_at(bytes, offset_at + 4)? as usize;
            bytes
                .get(start..start + length)
                .context("BTF part past the end of the section")
        };
        let (type_bytes, strings) = (part(8)?, part(16)?);
        let mut types = vec![Type::Other];
        let mut at = 0;
        while at < type_bytes.len() {
            let (parsed, bytes) = parse_type(type_bytes.get(at..).unwrap_or_default(), strings)
                .with_context(|| format!("BTF type {}", types.len()))?;
            types.push(parsed);
            at += bytes;
        }
        Ok(Self { types })
    }

    /// A type, aliases resolved.
    pub(super) fn get(&self, id: TypeId) -> Result<&Type> {
        let mut id = id;
        // A chain of aliases is short; a longer one is a loop in a broken file.
        for _ in 0..32 {
            match self
                .types
                .get(id as usize)
                .with_context(|| format!("no BTF type {id}"))?
            {
                Type::Alias(of) => id = *of,
                found => return Ok(found),
            }
        }
        bail!("BTF type {id}: aliases in a loop");
    }

    /// Names and types of the variables in an ELF section, sorted by name.
    pub(super) fn variables(&self, section: &str) -> Result<Vec<(&str, TypeId)>> {
        let mut found = Vec::new();
        for candidate in &self.types {
            let Type::Section { name, variables } = candidate else {
                continue;
            };
            if name != section {
                continue;
            }
            for variable in variables {
                if let Type::Variable { name, of } = self.get(*variable)? {
                    found.push((name.as_str(), *of));
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// One type and how many bytes it took.
fn parse_type(bytes: &[u8], strings: &[u8]) -> Result<(Type, usize)> {
    let info = u32_at(bytes, 4)?;
    let size_or_type = u32_at(bytes, 8)?;
    let (kind, count, bitfields) = ((info >> 24) & 0x1f, (info & 0xffff) as usize, info >> 31 == 1);
    let name = || string(strings, u32_at(bytes, 0)?);
    let field = |offset: usize| u32_at(bytes, TYPE_HEADER_BYTES + offset);
    let (parsed, extra_bytes) = match kind {
        1 => (Type::Int { name: name()? }, 4),
        2 => (Type::Pointer(size_or_type), 0),
        3 => (
            Type::Array {
                element: field(0)?,
                count: field(8)?,
            },
            12,
        ),
        4 | 5 => {
            let member = |index: usize| -> Result<Member> {
                let offset_bits = field(index * 12 + 8)?;
                let offset_bits = if bitfields {
                    offset_bits & 0x00ff_ffff
                } else {
                    offset_bits
                };
                let name = string(strings, field(index * 12)?)?;
                Ok(Member {
                    name,
                    of: field(index * 12 + 4)?,
                    offset_bytes: offset_bits / 8,
                })
            };
            let members = (0..count).map(member).collect::<Result<_>>()?;
            (
                Type::Struct {
                    name: name()?,
                    bytes: size_or_type,
                    members,
                },
                count * 12,
            )
        }
        6 => (
            Type::Enum {
                name: name()?,
                bytes: size_or_type,
            },
            count * 8,
        ),
        8..=11 | 18 => (Type::Alias(size_or_type), 0),
        13 => (Type::Other, count * 8),
        14 => (
            Type::Variable {
                name: name()?,
                of: size_or_type,
            },
            4,
        ),
        15 => {
            let variables = (0..count).map(|index| field(index * 12)).collect::<Result<_>>()?;
            (
                Type::Section {
                    name: name()?,
                    variables,
                },
                count * 12,
            )
        }
        17 => (Type::Other, 4),
        19 => (
            Type::Enum {
                name: name()?,
                bytes: size_or_type,
            },
            count * 12,
        ),
        7 | 12 | 16 => (Type::Other, 0),
        _ => bail!("kind {kind} is not known"),
    };
    Ok((parsed, TYPE_HEADER_BYTES + extra_bytes))
}

fn string(strings: &[u8], offset: u32) -> Result<String> {
    let tail = strings
        .get(offset as usize..)
        .context("name past the end of the strings")?;
    let name = tail.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32> {
    let word = bytes
        .get(offset..offset + 4)
        .with_context(|| format!("BTF ends before byte {}", offset + 4))?;
    Ok(word.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A .BTF section of these types (each as words) and these strings.
    fn section(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let type_bytes = types.len() as u32 * 4;
        let header = [0x0001_eb9f, 24, 0, type_bytes, type_bytes, strings.len() as u32];
        let words = header.iter().chain(types).flat_map(|word| word.to_le_bytes());
        words.chain(strings.iter().copied()).collect()
    }

    #[test]
    fn a_structure_keeps_names_and_byte_offsets() {
        // [1] INT u16, [2] STRUCT Pair { a: [1] at bit 0, b: [1] at bit 16 }
        let types = [1, 1 << 24, 2, 16, 5, (4 << 24) | 2, 4, 10, 1, 0, 12, 1, 16];
        let btf = Btf::parse(&section(&types, b"\0u16\0Pair\0a\0b\0")).unwrap();
        let Type::Struct { name, bytes, members } = btf.get(2).unwrap() else {
            panic!("no structure")
        };
        assert_eq!((name.as_str(), *bytes), ("Pair", 4));
        let shown: Vec<_> = members
            .iter()
            .map(|m| (m.name.as_str(), m.of, m.offset_bytes))
            .collect();
        assert_eq!(shown, [("a", 1, 0), ("b", 1, 2)]);
    }

    #[test]
    fn broken_input_is_an_error() {
        assert!(Btf::parse(b"").is_err());
        assert!(Btf::parse(&[0; 24]).is_err());
        // A structure that promises more members than there are bytes.
        assert!(Btf::parse(&section(&[0, (4 << 24) | 9, 4], b"\0")).is_err());
        // A typedef of itself.
        let looped = Btf::parse(&section(&[0, 8 << 24, 1], b"\0")).unwrap();
        assert!(looped.get(1).is_err());
    }
}
