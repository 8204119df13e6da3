//! Where the running kernel keeps a field of its own: read from its BTF (`/sys/kernel/btf/vmlinux`), for the programs on
//! tracepoints, whose arguments are the kernel's structs.
//!
//! Source: the kernel's Documentation/bpf/btf.rst.

use std::fs;
use std::io;
use std::path::Path;

use bytemuck::{Pod, Zeroable};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
/// Anonymous members inside anonymous members; the kernel nests three.
const DEPTH: u32 = 8;

/// Byte offsets of the fields that the tracepoint programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NetOffsets {
    /// `net_device.ifindex`.
    pub(super) ifindex: u32,
    /// `net_device.nd_net`, whose only member is a pointer to `struct net`.
    pub(super) net: u32,
    /// `net.ns.inum`: what `/proc/self/ns/net` shows.
    pub(super) inum: u32,
}

impl NetOffsets {
    /// Of the running kernel.
    pub(super) fn of_this_kernel() -> io::Result<Self> {
        Self::read(Path::new(VMLINUX))
    }

    fn read(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let bytes = fs::read(path).map_err(named)?;
        let wrong = |what: &str| named(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()));
        let btf = Btf::parse(&bytes).ok_or_else(|| wrong("not BTF of this byte order"))?;
        let field = |of: &str, name: &str| {
            btf.byte_offset(of, name)
                .ok_or_else(|| wrong(&format!("no field {name} in struct {of}")))
        };
        Ok(Self {
            ifindex: field("net_device", "ifindex")?,
            net: field("net_device", "nd_net")?,
            inum: field("net", "ns")?.saturating_add(field("ns_common", "inum")?),
        })
    }
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct Header {
    magic: u16,
    version: u8,
    flags: u8,
    header_bytes: u32,
    types_at: u32,
    types_bytes: u32,
    strings_at: u32,
    strings_bytes: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct Type {
    name: u32,
    info: u32,
    size_or_type: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct Member {
    name: u32,
    kind: u32,
    bits: u32,
}

impl Type {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn is_compound(self) -> bool {
        matches!(self.kind(), STRUCT | UNION)
    }

    fn members(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// Bytes after the type itself; `None`: a kind of a later format.
    fn rest_bytes(self) -> Option<usize> {
        let each = match self.kind() {
            // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
            2 | 7..=12 | 16 | 18 => 0,
            // Integer, variable, declaration tag: one word.
            1 | 14 | 17 => return Some(4),
            // Array: one record.
            3 => return Some(12),
            // Enum, function prototype.
            6 | 13 => 8,
            // Struct, union, data section, 64-bit enum.
            STRUCT | UNION | 15 | 19 => 12,
            _ => return None,
        };
        Some(each * self.members())
    }
}

struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where in `types` each type starts; type 1 first.
    starts: Vec<usize>,
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header: Header = read(bytes, 0)?;
        if header.magic != MAGIC {
            return None;
        }
        let part = |at: u32, len: u32| {
            let start = (header.header_bytes as usize).checked_add(at as usize)?;
            bytes.get(start..start.checked_add(len as usize)?)
        };
        let types = part(header.types_at, header.types_bytes)?;
        let strings = part(header.strings_at, header.strings_bytes)?;
        let mut starts = Vec::new();
        let mut at = 0;
        while at < types.len() {
            let found: Type = read(types, at)?;
            starts.push(at);
            at = at.checked_add(size_of::<Type>() + found.rest_bytes()?)?;
        }
        Some(Self { types, strings, starts })
    }

    fn name(&self, at: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(at as usize..)?;
        rest.split(|byte| *byte == 0).next()
    }

    /// Offset of a field in the struct of this name, also of one in an anonymous struct or union inside.
    fn byte_offset(&self, of: &str, field: &str) -> Option<u32> {
        self.starts.iter().find_map(|start| {
            let found: Type = read(self.types, *start)?;
            let wanted = found.kind() == STRUCT && self.name(found.name)? == of.as_bytes();
            wanted.then(|| self.in_type(*start, field.as_bytes(), DEPTH)).flatten()
        })
    }

    fn in_type(&self, start: usize, field: &[u8], depth: u32) -> Option<u32> {
        let compound: Type = read(self.types, start)?;
        if !compound.is_compound() {
            return None;
        }
        let bitfields = compound.info >> 31 != 0;
        (0..compound.members()).find_map(|index| {
            let at = start + size_of::<Type>() + index * size_of::<Member>();
            let member: Member = read(self.types, at)?;
            let bits = if bitfields {
                member.bits & 0xff_ffff
            } else {
                member.bits
            };
            let name = self.name(member.name)?;
            if name == field {
                return Some(bits / 8);
            }
            let inside = *self.starts.get((member.kind as usize).checked_sub(1)?)?;
            let nested = name.is_empty() && depth > 0;
            let deeper = nested.then(|| self.in_type(inside, field, depth - 1)).flatten()?;
            Some(bits / 8 + deeper)
        })
    }
}

fn read<T: Pod>(bytes: &[u8], at: usize) -> Option<T> {
    let found = bytes.get(at..at.checked_add(size_of::<T>())?)?;
    bytemuck::try_pod_read_unaligned(found).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct `net` with an anonymous struct at byte 8 whose second field, at its byte 4, is `ns`.
    fn sample() -> Vec<u8> {
        let strings = b"\0net\0ns\0other\0";
        let member = |name: u32, kind: u32, byte: u32| [name, kind, byte * 8];
        let mut words: Vec<u32> = Vec::new();
        words.extend([0, 1 << 24, 4, 32]); // 1: integer
        words.extend([0, STRUCT << 24 | 2, 8]); // 2: anonymous
        words.extend(member(8, 1, 0));
        words.extend(member(5, 1, 4));
        words.extend([1, STRUCT << 24 | 2, 16]); // 3: net
        words.extend(member(8, 1, 0));
        words.extend(member(0, 2, 8));
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let header = Header {
            magic: MAGIC,
            version: 1,
            flags: 0,
            header_bytes: size_of::<Header>() as u32,
            types_at: 0,
            types_bytes: types.len() as u32,
            strings_at: types.len() as u32,
            strings_bytes: strings.len() as u32,
        };
        [bytemuck::bytes_of(&header), &types[..], strings].concat()
    }

    #[test]
    fn a_field_in_an_anonymous_struct_counts_from_the_outer_one() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).expect("BTF");
        assert_eq!(btf.byte_offset("net", "ns"), Some(12));
        assert_eq!(btf.byte_offset("net", "other"), Some(0));
        assert_eq!(btf.byte_offset("net", "absent"), None);
        assert_eq!(btf.byte_offset("absent", "ns"), None);
    }

    #[test]
    fn cut_or_changed_bytes_are_no_panic() {
        let bytes = sample();
        for end in 0..bytes.len() {
            if let Some(btf) = Btf::parse(&bytes[..end]) {
                btf.byte_offset("net", "ns");
            }
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            if let Some(btf) = Btf::parse(&changed) {
                btf.byte_offset("net", "ns");
            }
        }
    }

    #[test]
    fn a_file_that_is_no_btf_is_an_error_with_its_path() {
        let error = NetOffsets::read(Path::new("/proc/self/status")).expect_err("no BTF");
        assert_eq!(error.to_string(), "/proc/self/status: not BTF of this byte order");
    }
}
