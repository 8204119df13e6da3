//! The shape every map must have, and whether pinned maps have it. A pinned map of another shape is not refused by the
//! kernel: its values would be read as garbage, so nothing is loaded before this check.

use std::fmt;
use std::path::{Path, PathBuf};

use aya::maps::{MapInfo, MapType};
use lb_common::abi::{
    AddrKey, AddrRole, Backend, BackendStats, CpuState, Endpoint, EndpointKey, FlowKey4, FlowKey6, FlowValue4,
    FlowValue6, IFACE_SLOTS, Iface, Name, NameKey, OURS_BLOCKS, OursBlock, ReasonStats, RingSlot, Service, Settings,
    SnatAddr, SweepItem4, SweepItem6, TxErrors,
};
use lb_common::limits::{MAX_ADDRESSES, MAX_SNAT_ADDRESSES, MAX_TX_PORTS};
use lb_common::names;
use lb_common::reason::REASON_SLOTS;

use super::window::MAPPABLE;
use crate::config::Limits;

/// Flag the kernel itself sets on every device map (`BPF_F_RDONLY_PROG`).
const READ_ONLY_FOR_PROGRAMS: u32 = 1 << 7;
/// Bytes of a device map's value: `struct bpf_devmap_val`.
const DEVMAP_VALUE_BYTES: u32 = 8;

/// What one map must look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    /// Name in the object, under the pin directory and in bpftool.
    pub(super) name: &'static str,
    /// Kind of map.
    pub(super) kind: MapType,
    /// Bytes of a key.
    pub(super) key_bytes: u32,
    /// Bytes of a value (of one CPU).
    pub(super) value_bytes: u32,
    /// Entries.
    pub(super) entries: u32,
    /// Creation flags.
    pub(super) flags: u32,
    /// Those of `flags` that a pinned map may lack: it works without them, only slower.
    pub(super) dispensable_flags: u32,
    /// The key of `[limits]` that sets `entries`.
    pub(super) limit: Option<&'static str>,
}

/// A pinned map that this build cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeDiffers {
    /// Its pin.
    pub path: PathBuf,
    /// What differs: "type", "key size", "value size", "entries" or "flags".
    pub what: &'static str,
    /// As pinned.
    pub found: String,
    /// As needed.
    pub wanted: String,
}

impl fmt::Display for ShapeDiffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            what,
            found,
            wanted,
        } = self;
        write!(f, "pin {}: {what} {found}, this build needs {wanted}", path.display())
    }
}

/// A pinned map whose size is not what `[limits]` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntriesDiffer {
    /// The map.
    pub map: &'static str,
    /// The key of `[limits]` that sets its size.
    pub limit: &'static str,
    /// Entries as pinned.
    pub found: u32,
    /// Entries that `[limits]` asks for.
    pub wanted: u32,
}

impl fmt::Display for EntriesDiffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            map,
            limit,
            found,
            wanted,
        } = self;
        write!(f, "{map} has {found} entries, '{limit}' in [limits] now needs {wanted}")
    }
}

/// The shape of every map but the program's scratch, in the order of [`names::MAPS`].
pub(super) fn shapes(limits: &Limits) -> Vec<Shape> {
    // Ids start at 1, so arrays by id have one entry more than ids.
    let services = limits.services.saturating_add(1);
    let backends = limits.backends.saturating_add(1);
    let flows = limits.connections.saturating_mul(2);
    let half = limits.half_open.saturating_mul(2);
    // Room for connections that were reclaimed by others and still stand in the queue.
    let sweep = limits.connections.saturating_add(limits.connections / 4);
    let names = limits.services.saturating_add(limits.backends);

    let connections = |shape: Shape| shape.by("connections");
    vec![
        Shape::array::<Settings>(names::SETTINGS, 1),
        Shape::array::<OursBlock>(names::OURS, OURS_BLOCKS),
        Shape::array::<Iface>(names::IFACES, IFACE_SLOTS),
        Shape::hash::<EndpointKey, Endpoint>(names::ENDPOINTS, limits.endpoints).by("endpoints"),
        Shape::hash::<AddrKey, AddrRole>(names::ADDRS, MAX_ADDRESSES),
        Shape::array::<Service>(names::SERVICES, services).by("services"),
        Shape::array::<Backend>(names::BACKENDS, backends).by("backends"),
        Shape {
            // Maps that builds before this flag have pinned are adopted: their rings are written by system calls.
            flags: MAPPABLE,
            dispensable_flags: MAPPABLE,
            ..Shape::array::<RingSlot>(names::RINGS, limits.ring_slots).by("ring_slots")
        },
        Shape::array::<SnatAddr>(names::SNAT, 2 * MAX_SNAT_ADDRESSES),
        connections(Shape::hash::<FlowKey4, FlowValue4>(names::FLOWS4, flows)),
        connections(Shape::hash::<FlowKey6, FlowValue6>(names::FLOWS6, flows)),
        Shape::lru::<FlowKey4, FlowValue4>(names::HALF4, half).by("half_open"),
        Shape::lru::<FlowKey6, FlowValue6>(names::HALF6, half).by("half_open"),
        connections(Shape::queue::<SweepItem4>(names::SWEEP4, sweep)),
        connections(Shape::queue::<SweepItem6>(names::SWEEP6, sweep)),
        Shape::per_cpu::<BackendStats>(names::BACKEND_STATS, backends).by("backends"),
        Shape::per_cpu::<ReasonStats>(names::REASON_STATS, REASON_SLOTS),
        Shape::per_cpu::<CpuState>(names::CPU, 1),
        Shape {
            value_bytes: DEVMAP_VALUE_BYTES,
            flags: READ_ONLY_FOR_PROGRAMS,
            ..Shape::new::<u32, u64>(names::TX_PORTS, MapType::DevMapHash, MAX_TX_PORTS)
        },
        Shape::lru::<u32, TxErrors>(names::TX_ERRORS, MAX_TX_PORTS),
        Shape::hash::<NameKey, Name>(names::NAMES, names).by("services + backends"),
    ]
}

impl Shape {
    fn new<K, V>(name: &'static str, kind: MapType, entries: u32) -> Self {
        let (key_bytes, value_bytes) = (size_of::<K>() as u32, size_of::<V>() as u32);
        Self {
            name,
            kind,
            key_bytes,
            value_bytes,
            entries,
            flags: 0,
            dispensable_flags: 0,
            limit: None,
        }
    }

    fn array<V>(name: &'static str, entries: u32) -> Self {
        Self::new::<u32, V>(name, MapType::Array, entries)
    }

    fn per_cpu<V>(name: &'static str, entries: u32) -> Self {
        Self::new::<u32, V>(name, MapType::PerCpuArray, entries)
    }

    fn hash<K, V>(name: &'static str, entries: u32) -> Self {
        Self::new::<K, V>(name, MapType::Hash, entries)
    }

    fn lru<K, V>(name: &'static str, entries: u32) -> Self {
        Self::new::<K, V>(name, MapType::LruHash, entries)
    }

    fn queue<V>(name: &'static str, entries: u32) -> Self {
        Self {
            key_bytes: 0,
            ..Self::new::<(), V>(name, MapType::Queue, entries)
        }
    }

    fn by(self, limit: &'static str) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }

    /// Compares type, sizes and flags, and the entries where no limit sets them.
    pub(super) fn check(&self, path: &Path, found: &MapInfo) -> Result<(), ShapeDiffers> {
        let differs = |what, found: String, wanted: String| {
            if found == wanted {
                return Ok(());
            }
            Err(ShapeDiffers {
                path: path.to_owned(),
                what,
                found,
                wanted,
            })
        };
        let kind = found
            .map_type()
            .map_or_else(|_| "unknown".to_owned(), |kind| format!("{kind:?}"));
        differs("type", kind, format!("{:?}", self.kind))?;
        differs("key size", found.key_size().to_string(), self.key_bytes.to_string())?;
        differs(
            "value size",
            found.value_size().to_string(),
            self.value_bytes.to_string(),
        )?;
        if (found.map_flags() ^ self.flags) & !self.dispensable_flags != 0 {
            differs(
                "flags",
                format!("{:#x}", found.map_flags()),
                format!("{:#x}", self.flags),
            )?;
        }
        if self.limit.is_none() {
            differs("entries", found.max_entries().to_string(), self.entries.to_string())?;
        }
        Ok(())
    }

    /// Compares the entries where a limit sets them.
    pub(super) fn check_limit(&self, found: &MapInfo) -> Option<EntriesDiffer> {
        let limit = self.limit?;
        let (found, wanted) = (found.max_entries(), self.entries);
        (found != wanted).then_some(EntriesDiffer {
            map: self.name,
            limit,
            found,
            wanted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::limits;

    fn defaults() -> Limits {
        Limits {
            connections: limits::DEFAULT_CONNECTIONS,
            half_open: limits::DEFAULT_HALF_OPEN,
            services: limits::DEFAULT_SERVICES,
            backends: limits::DEFAULT_BACKENDS,
            ring_slots: limits::DEFAULT_RING_SLOTS,
            endpoints: limits::DEFAULT_ENDPOINTS,
        }
    }

    #[test]
    fn every_map_but_scratch_has_a_shape_and_no_other() {
        let shapes: Vec<&str> = shapes(&defaults()).iter().map(|shape| shape.name).collect();
        let scratch = [names::WORK4, names::WORK6];
        let lasting: Vec<&str> = names::MAPS
            .iter()
            .copied()
            .filter(|map| !scratch.contains(map))
            .collect();
        assert_eq!(shapes, lasting);
    }

    #[test]
    fn a_connection_takes_two_flow_entries() {
        let limits = Limits {
            connections: 1_000,
            ..defaults()
        };
        let flows4 = shapes(&limits).into_iter().find(|shape| shape.name == names::FLOWS4);
        assert_eq!(flows4.map(|shape| shape.entries), Some(2_000));
    }

    #[test]
    fn the_highest_id_that_limits_allow_fits_its_array() {
        let limits = Limits {
            backends: 7,
            ..defaults()
        };
        let backends = shapes(&limits).into_iter().find(|shape| shape.name == names::BACKENDS);
        assert!(backends.is_some_and(|shape| 7 < shape.entries));
    }

    #[test]
    fn a_size_error_says_found_wanted_and_where() {
        let error = ShapeDiffers {
            path: "/sys/fs/bpf/xlb/xlb_flows4".into(),
            what: "value size",
            found: "16".into(),
            wanted: "24".into(),
        };
        assert_eq!(
            error.to_string(),
            "pin /sys/fs/bpf/xlb/xlb_flows4: value size 16, this build needs 24"
        );
    }
}
