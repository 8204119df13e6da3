//! Typed access to the maps, single entries by aya and ranges by one batch call.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Array, DevMapHash, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use bytemuck::Pod;
use lb_common::abi::{
    AddrKey, AddrRole, Backend, BackendStats, CpuState, Endpoint, EndpointKey, Iface, Name, NameKey, OursBlock,
    ReasonStats, RingSlot, Service, Settings, SnatAddr, TxErrors,
};
use lb_common::names;

use super::error::DataplaneError;
use super::sys;

/// Most entries of one batch read: bounds the buffer where there are many CPUs.
const CHUNK: u32 = 4_096;

/// An ABI value as aya takes it. lb-common cannot implement aya's trait, for it must not name aya.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Raw<T>(pub(super) T);

// SAFETY: `bytemuck::Pod` promises the same: no padding, any bytes are a value; `transparent` keeps the layout.
unsafe impl<T: Pod> aya::Pod for Raw<T> {}

/// Every map the agent reads or writes.
pub(super) struct Maps {
    pub(super) settings: Entries<Settings>,
    pub(super) ours: Entries<OursBlock>,
    pub(super) ifaces: Entries<Iface>,
    pub(super) endpoints: Table<EndpointKey, Endpoint>,
    pub(super) addrs: Table<AddrKey, AddrRole>,
    pub(super) services: Entries<Service>,
    pub(super) backends: Entries<Backend>,
    pub(super) rings: Entries<RingSlot>,
    pub(super) snat: Entries<SnatAddr>,
    pub(super) names: Table<NameKey, Name>,
    pub(super) backend_stats: Counters<BackendStats>,
    pub(super) reason_stats: Counters<ReasonStats>,
    pub(super) cpu: Counters<CpuState>,
    pub(super) tx_ports: DevMapHash<MapData>,
    pub(super) tx_errors: Table<u32, TxErrors>,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(ebpf: &mut aya::Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            settings: Entries::take(ebpf, names::SETTINGS)?,
            ours: Entries::take(ebpf, names::OURS)?,
            ifaces: Entries::take(ebpf, names::IFACES)?,
            endpoints: Table::take(ebpf, names::ENDPOINTS)?,
            addrs: Table::take(ebpf, names::ADDRS)?,
            services: Entries::take(ebpf, names::SERVICES)?,
            backends: Entries::take(ebpf, names::BACKENDS)?,
            rings: Entries::take(ebpf, names::RINGS)?,
            snat: Entries::take(ebpf, names::SNAT)?,
            names: Table::take(ebpf, names::NAMES)?,
            backend_stats: Counters::take(ebpf, names::BACKEND_STATS)?,
            reason_stats: Counters::take(ebpf, names::REASON_STATS)?,
            cpu: Counters::take(ebpf, names::CPU)?,
            tx_ports: typed(ebpf, names::TX_PORTS)?,
            tx_errors: Table::take(ebpf, names::TX_ERRORS)?,
        })
    }
}

/// Takes one map out and gives it its type.
fn typed<M: TryFrom<Map, Error = MapError>>(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<M, DataplaneError> {
    let map = ebpf
        .take_map(name)
        .ok_or(DataplaneError::ObjectLacks { what: "map", name })?;
    M::try_from(map).map_err(failed(name, "open"))
}

/// Wraps an aya error with the map and what was tried.
pub(super) fn failed(map: &'static str, action: &'static str) -> impl Fn(MapError) -> DataplaneError {
    move |source| DataplaneError::Map {
        map,
        action,
        hint: hint(&source),
        source: Box::new(source),
    }
}

fn hint(source: &MapError) -> &'static str {
    match errno(source) {
        Some(libc::E2BIG) => "; the map is full: raise the matching key in [limits]",
        Some(libc::EPERM) => "; the agent needs root or CAP_BPF and CAP_NET_ADMIN",
        _ => "",
    }
}

/// The kernel's errno behind an aya map error.
pub(super) fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => error.raw_os_error(),
        _ => None,
    }
}

/// An array map.
pub(super) struct Entries<V: Pod> {
    name: &'static str,
    array: Array<MapData, Raw<V>>,
    /// aya's array keeps its descriptor to itself; batches need one.
    fd: OwnedFd,
}

impl<V: Pod + PartialEq> Entries<V> {
    fn take(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        let fd = descriptor(ebpf, name, |map| match map {
            Map::Array(data) => Some(data),
            _ => None,
        })?;
        Ok(Self {
            name,
            array: typed(ebpf, name)?,
            fd,
        })
    }

    /// One entry.
    pub(super) fn read(&self, index: u32) -> Result<V, DataplaneError> {
        self.bounds(index, 1)?;
        self.array
            .get(&index, 0)
            .map(|raw| raw.0)
            .map_err(failed(self.name, "read"))
    }

    /// Writes one entry.
    pub(super) fn write(&mut self, index: u32, value: V) -> Result<(), DataplaneError> {
        self.bounds(index, 1)?;
        self.array.set(index, Raw(value), 0).map_err(failed(self.name, "write"))
    }

    /// Entries from `first`.
    pub(super) fn read_range(&self, first: u32, count: u32) -> Result<Vec<V>, DataplaneError> {
        self.bounds(first, count)?;
        let mut values = vec![V::zeroed(); count as usize];
        fill(&self.fd, self.name, first, &mut values, 1)?;
        Ok(values)
    }

    /// Every entry that is not all zero, with its index.
    pub(super) fn used(&self) -> Result<Vec<(u32, V)>, DataplaneError> {
        let values = self.read_range(0, self.array.len())?;
        Ok((0..).zip(values).filter(|(_, value)| *value != V::zeroed()).collect())
    }

    /// Writes entries from `first`, in one call where the kernel can.
    pub(super) fn write_range(&mut self, first: u32, values: &[V]) -> Result<(), DataplaneError> {
        self.bounds(first, values.len() as u32)?;
        if values.is_empty() {
            return Ok(());
        }
        match sys::update_batch(self.fd.as_fd(), first, values) {
            Ok(written) if written as usize == values.len() => Ok(()),
            // Short, or a kernel without batches for arrays (before 5.6): one by one.
            Ok(_) => self.write_singly(first, values),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | NOT_SUPPORTED)) => {
                self.write_singly(first, values)
            }
            Err(error) => Err(failed(self.name, "write")(error.into())),
        }
    }

    fn write_singly(&mut self, first: u32, values: &[V]) -> Result<(), DataplaneError> {
        (first..)
            .zip(values)
            .try_for_each(|(index, value)| self.write(index, *value))
    }

    fn bounds(&self, first: u32, count: u32) -> Result<(), DataplaneError> {
        bounds(self.name, self.array.len(), first, count)
    }
}

/// The kernel's own ENOTSUPP, which is not in libc.
const NOT_SUPPORTED: i32 = 524;

/// A hash map.
pub(super) struct Table<K: Pod, V: Pod> {
    name: &'static str,
    map: HashMap<MapData, Raw<K>, Raw<V>>,
}

impl<K: Pod, V: Pod> Table<K, V> {
    fn take(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        Ok(Self {
            name,
            map: typed(ebpf, name)?,
        })
    }

    /// Writes one entry.
    pub(super) fn insert(&mut self, key: K, value: V) -> Result<(), DataplaneError> {
        self.map
            .insert(Raw(key), Raw(value), 0)
            .map_err(failed(self.name, "write"))
    }

    /// Deletes one entry; none is fine.
    pub(super) fn delete(&mut self, key: K) -> Result<(), DataplaneError> {
        match self.map.remove(&Raw(key)) {
            Err(error) if is_absent(&error) => Ok(()),
            result => result.map_err(failed(self.name, "delete")),
        }
    }

    /// Every entry.
    pub(super) fn all(&self) -> Result<Vec<(K, V)>, DataplaneError> {
        let entries = self.map.iter().map(|entry| entry.map(|(key, value)| (key.0, value.0)));
        entries.collect::<Result<_, _>>().map_err(failed(self.name, "read"))
    }
}

/// Whether a delete failed because there was nothing to delete.
pub(super) fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::KeyNotFound | MapError::ElementNotFound) || errno(error) == Some(libc::ENOENT)
}

/// A per-CPU array map.
pub(super) struct Counters<V: Pod> {
    name: &'static str,
    array: PerCpuArray<MapData, Raw<V>>,
    fd: OwnedFd,
    cpus: usize,
}

impl<V: Pod> Counters<V> {
    /// The kernel rounds a CPU's value up to 8 bytes; ours are whole.
    const WHOLE_WORDS: () = assert!(size_of::<V>().is_multiple_of(8));

    fn take(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        let () = Self::WHOLE_WORDS;
        let fd = descriptor(ebpf, name, |map| match map {
            Map::PerCpuArray(data) => Some(data),
            _ => None,
        })?;
        let cpus = aya::util::nr_cpus().map_err(|(path, source)| DataplaneError::pin_dir("read", path)(source))?;
        Ok(Self {
            name,
            array: typed(ebpf, name)?,
            fd,
            cpus,
        })
    }

    /// Entries.
    pub(super) fn len(&self) -> u32 {
        self.array.len()
    }

    /// Each entry from `first`, as its values on all CPUs, handed to `each` with its index.
    pub(super) fn for_each(
        &self,
        first: u32,
        count: u32,
        mut each: impl FnMut(u32, &[V]),
    ) -> Result<(), DataplaneError> {
        bounds(self.name, self.array.len(), first, count)?;
        let end = first + count;
        let mut values = vec![V::zeroed(); count.min(CHUNK) as usize * self.cpus];
        for start in (first..end).step_by(CHUNK as usize) {
            let entries = (end - start).min(CHUNK) as usize;
            let chunk = values.get_mut(..entries * self.cpus).unwrap_or_default();
            fill(&self.fd, self.name, start, chunk, self.cpus)?;
            (start..)
                .zip(chunk.chunks_exact(self.cpus))
                .for_each(|(index, cpus)| each(index, cpus));
        }
        Ok(())
    }

    /// Sets one entry to zero on every CPU.
    pub(super) fn clear(&mut self, index: u32) -> Result<(), DataplaneError> {
        let zeros = PerCpuValues::try_from(vec![Raw(V::zeroed()); self.cpus])
            .map_err(|error| failed(self.name, "write")(error.into()))?;
        self.array.set(index, zeros, 0).map_err(failed(self.name, "write"))
    }
}

/// Reads whole entries until `values` is full.
fn fill<V: Pod>(
    fd: &OwnedFd,
    name: &'static str,
    first: u32,
    values: &mut [V],
    width: usize,
) -> Result<(), DataplaneError> {
    let (mut index, mut rest) = (first, values);
    while !rest.is_empty() {
        let read = sys::lookup_batch(fd.as_fd(), index, rest, width).map_err(|e| failed(name, "read")(e.into()))?;
        if read == 0 {
            return Err(failed(name, "read")(MapError::ElementNotFound));
        }
        index += read;
        rest = rest.get_mut(read as usize * width..).unwrap_or_default();
    }
    Ok(())
}

fn bounds(map: &'static str, entries: u32, first: u32, count: u32) -> Result<(), DataplaneError> {
    let end = u64::from(first) + u64::from(count);
    if end <= u64::from(entries) {
        Ok(())
    } else {
        Err(DataplaneError::OutOfRange {
            map,
            first,
            end,
            entries,
        })
    }
}

/// A second descriptor of a map that is still inside the object.
fn descriptor(
    ebpf: &aya::Ebpf,
    name: &'static str,
    data: impl Fn(&Map) -> Option<&MapData>,
) -> Result<OwnedFd, DataplaneError> {
    let map = ebpf
        .map(name)
        .and_then(data)
        .ok_or(DataplaneError::ObjectLacks { what: "map", name })?;
    map.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| failed(name, "open")(error.into()))
}

impl<T: fmt::Debug> fmt::Debug for Raw<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
