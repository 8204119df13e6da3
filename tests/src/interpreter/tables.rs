//! The loaded program's maps, asked through the kernel. What a lookup gives is a copy that lives for the run: what the
//! program writes through the pointer ends with it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use anyhow::{Result, bail};
use aya_obj::generated::bpf_map_type;

/// A map.
pub(super) struct Table {
    /// Its name.
    pub(super) name: String,
    /// Bytes of a key.
    pub(super) key_bytes: usize,
    /// Bytes of a value.
    pub(super) value_bytes: usize,
    /// Bytes that a lookup returns: of every CPU where the map has one value for each.
    answer_bytes: usize,
    fd: RawFd,
}

/// The maps, and the copies of this run.
pub(super) struct Tables<'a> {
    all: &'a BTreeMap<RawFd, Table>,
    copies: BTreeMap<(RawFd, Vec<u8>), Box<[u64]>>,
}

const LOOKUP: libc::c_int = 1;
const UPDATE: libc::c_int = 2;
const DELETE: libc::c_int = 3;

/// The part of `union bpf_attr` that element commands use.
#[repr(C)]
struct Element {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Table {
    pub(super) fn new(name: &str, map: &aya_obj::Map, fd: BorrowedFd<'_>) -> Result<Self> {
        use std::os::fd::AsRawFd as _;
        let value_bytes = map.value_size() as usize;
        let per_cpu = map.map_type() == bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32;
        let answer_bytes = if per_cpu {
            let cpus = aya::util::nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?;
            value_bytes.next_multiple_of(8) * cpus
        } else {
            value_bytes
        };
        Ok(Self {
            name: name.to_owned(),
            key_bytes: map.key_size() as usize,
            value_bytes,
            answer_bytes,
            fd: fd.as_raw_fd(),
        })
    }
}

impl<'a> Tables<'a> {
    pub(super) fn new(all: &'a BTreeMap<RawFd, Table>) -> Self {
        Self {
            all,
            copies: BTreeMap::new(),
        }
    }

    /// The map behind a file descriptor.
    pub(super) fn get(&self, fd: RawFd) -> Result<&'a Table> {
        match self.all.get(&fd) {
            Some(table) => Ok(table),
            None => bail!("map {fd} is none of the object's"),
        }
    }

    /// The value of a key as the program gets it: 0 when there is none.
    pub(super) fn lookup(&mut self, fd: RawFd, key: &[u8]) -> Result<u64> {
        let table = self.get(fd)?;
        let place = (fd, key.to_vec());
        if let Some(copy) = self.copies.get(&place) {
            return Ok(copy.as_ptr().expose_provenance() as u64);
        }
        let mut answer = vec![0_u64; table.answer_bytes.div_ceil(8)].into_boxed_slice();
        let value = answer.as_mut_ptr().expose_provenance() as u64;
        match element(LOOKUP, table.fd, key, value, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => bail!("look up in {}: {error}", table.name),
        }
        self.copies.insert(place, answer);
        Ok(value)
    }

    /// 0, or the negative error number that the program sees.
    pub(super) fn update(&mut self, fd: RawFd, key: &[u8], value: &[u8], flags: u64) -> Result<u64> {
        let table = self.get(fd)?;
        let value = value.as_ptr().expose_provenance() as u64;
        Ok(number(element(UPDATE, table.fd, key, value, flags)))
    }

    /// Likewise.
    pub(super) fn delete(&mut self, fd: RawFd, key: &[u8]) -> Result<u64> {
        let table = self.get(fd)?;
        // What the program holds a pointer to stays readable, as in the kernel; it is not found again.
        if let Some(copy) = self.copies.remove(&(fd, key.to_vec())) {
            self.copies.insert((-1, key.to_vec()), copy);
        }
        Ok(number(element(DELETE, table.fd, key, 0, 0)))
    }

    /// Whether `bytes` at `address` lie in one of the copies.
    pub(super) fn holds(&self, address: u64, bytes: u64) -> bool {
        self.copies.values().any(|copy| {
            let start = copy.as_ptr().addr() as u64;
            address >= start && address + bytes <= start + copy.len() as u64 * 8
        })
    }
}

fn number(result: io::Result<()>) -> u64 {
    match result {
        Ok(()) => 0,
        Err(error) => i64::from(-error.raw_os_error().unwrap_or(libc::EINVAL)) as u64,
    }
}

fn element(command: libc::c_int, fd: RawFd, key: &[u8], value: u64, flags: u64) -> io::Result<()> {
    let attr = Element {
        map_fd: fd as u32,
        reserved: 0,
        // A queue has no keys, and the kernel wants none.
        key: if key.is_empty() {
            0
        } else {
            key.as_ptr().expose_provenance() as u64
        },
        value,
        flags,
    };
    // SAFETY: the attribute is as large as said; key and value have the map's sizes and live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attr, size_of::<Element>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
