//! Typed handles on the maps of a loaded object, and what tests do with them: install a configuration, read flow
//! tables in one shape for both families, let entries age.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, Queue, xdp::DevMapHash};
use lb_common::abi::{
    AddrKey, AddrRole, Backend, BackendStats, CpuState, Endpoint, EndpointKey, FlowKey4, FlowKey6, FlowValue4,
    FlowValue6, IFACE_SLOTS, Iface, OursBlock, ReasonStats, RingSlot, Service, Settings, SnatAddr, SweepItem4,
    SweepItem6,
};
use lb_common::hash::key_tag;
use lb_common::limits::MAX_SNAT_ADDRESSES;
use lb_common::names;
use lb_common::net::Mac;

use crate::model::{World, mapped};

/// An ABI type as aya's maps take it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Wire<T>(pub T);

// SAFETY: a transparent wrapper of a type that bytemuck has proved to be plain bytes without padding.
unsafe impl<T: bytemuck::Pod> aya::Pod for Wire<T> {}

type HashOf<K, V> = HashMap<MapData, Wire<K>, Wire<V>>;
type ArrayOf<V> = Array<MapData, Wire<V>>;

/// The maps that tests touch.
#[expect(missing_docs, reason = "each is the map of the same name in lb_common::names")]
pub struct Maps {
    pub settings: ArrayOf<Settings>,
    pub ours: ArrayOf<OursBlock>,
    pub ifaces: ArrayOf<Iface>,
    pub endpoints: HashOf<EndpointKey, Endpoint>,
    pub addrs: HashOf<AddrKey, AddrRole>,
    pub services: ArrayOf<Service>,
    pub backends: ArrayOf<Backend>,
    pub rings: ArrayOf<RingSlot>,
    pub snat: ArrayOf<SnatAddr>,
    pub flows4: HashOf<FlowKey4, FlowValue4>,
    pub flows6: HashOf<FlowKey6, FlowValue6>,
    pub half4: HashOf<FlowKey4, FlowValue4>,
    pub half6: HashOf<FlowKey6, FlowValue6>,
    pub sweep4: Queue<MapData, Wire<SweepItem4>>,
    pub sweep6: Queue<MapData, Wire<SweepItem6>>,
    pub backend_stats: PerCpuArray<MapData, Wire<BackendStats>>,
    pub reasons: PerCpuArray<MapData, Wire<ReasonStats>>,
    pub cpu: PerCpuArray<MapData, Wire<CpuState>>,
    pub tx_ports: DevMapHash<MapData>,
    installed: World,
}

/// A flow key of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// 6 or 17.
    pub protocol: u8,
}

impl Key {
    /// As the IPv4 tables hold it.
    #[must_use]
    pub fn to_v4(&self) -> Option<FlowKey4> {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (self.src, self.dst) else {
            return None;
        };
        let (src_port, dst_port, protocol) = (self.src_port, self.dst_port, self.protocol.into());
        Some(FlowKey4 {
            src: src.octets(),
            dst: dst.octets(),
            src_port,
            dst_port,
            protocol,
        })
    }

    /// As the IPv6 tables hold it.
    #[must_use]
    pub fn to_v6(&self) -> Option<FlowKey6> {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (self.src, self.dst) else {
            return None;
        };
        let (src_port, dst_port, protocol) = (self.src_port, self.dst_port, self.protocol.into());
        Some(FlowKey6 {
            src: src.octets(),
            dst: dst.octets(),
            src_port,
            dst_port,
            protocol,
        })
    }
}

/// Which table an entry stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// `xlb_flows4` or `xlb_flows6`.
    Established,
    /// `xlb_half4` or `xlb_half6`.
    HalfOpen,
}

/// A flow entry of either family: the fields of [`FlowValue4`].
#[expect(missing_docs, reason = "each is the field of the same name in FlowValue4")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub conn_id: u64,
    pub new_src: IpAddr,
    pub new_dst: IpAddr,
    pub new_src_port: u16,
    pub new_dst_port: u16,
    pub last_seen: u32,
    pub backend_id: u32,
    pub peer_mac: Mac,
    pub own_mac: Mac,
    pub ifindex: u32,
    pub direction: u8,
    pub tcp_seen: u8,
    pub mode: u8,
    pub flags: u8,
    pub backend_isn: u32,
    pub created: u32,
}

macro_rules! entry_from {
    ($value:ty, $addr:ident) => {
        impl From<$value> for Entry {
            fn from(v: $value) -> Self {
                Self {
                    conn_id: v.conn_id,
                    new_src: $addr::from(v.new_src).into(),
                    new_dst: $addr::from(v.new_dst).into(),
                    new_src_port: v.new_src_port,
                    new_dst_port: v.new_dst_port,
                    last_seen: v.last_seen,
                    backend_id: v.backend_id,
                    peer_mac: v.peer_mac,
                    own_mac: v.own_mac,
                    ifindex: v.ifindex,
                    direction: v.direction,
                    tcp_seen: v.tcp_seen,
                    mode: v.mode,
                    flags: v.flags,
                    backend_isn: v.backend_isn,
                    created: v.created,
                }
            }
        }
    };
}

entry_from!(FlowValue4, Ipv4Addr);
entry_from!(FlowValue6, Ipv6Addr);

macro_rules! key {
    ($key:expr, $addr:ident) => {{
        let k = $key;
        Key {
            src: $addr::from(k.src).into(),
            dst: $addr::from(k.dst).into(),
            src_port: k.src_port,
            dst_port: k.dst_port,
            protocol: k.protocol as u8,
        }
    }};
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub fn take(bpf: &mut Ebpf) -> Result<Self> {
        let maps = Self {
            settings: typed(bpf, names::SETTINGS)?,
            ours: typed(bpf, names::OURS)?,
            ifaces: typed(bpf, names::IFACES)?,
            endpoints: typed(bpf, names::ENDPOINTS)?,
            addrs: typed(bpf, names::ADDRS)?,
            services: typed(bpf, names::SERVICES)?,
            backends: typed(bpf, names::BACKENDS)?,
            rings: typed(bpf, names::RINGS)?,
            snat: typed(bpf, names::SNAT)?,
            flows4: typed(bpf, names::FLOWS4)?,
            flows6: typed(bpf, names::FLOWS6)?,
            half4: typed(bpf, names::HALF4)?,
            half6: typed(bpf, names::HALF6)?,
            sweep4: typed(bpf, names::SWEEP4)?,
            sweep6: typed(bpf, names::SWEEP6)?,
            backend_stats: typed(bpf, names::BACKEND_STATS)?,
            reasons: typed(bpf, names::REASON_STATS)?,
            cpu: typed(bpf, names::CPU)?,
            tx_ports: typed(bpf, names::TX_PORTS)?,
            installed: World::default(),
        };
        Ok(maps)
    }

    /// Makes the maps hold exactly this configuration. Flows and counters stay.
    pub fn install(&mut self, world: &World) -> Result<()> {
        let old = std::mem::replace(&mut self.installed, world.clone());
        self.settings.set(0, Wire(world.settings), 0)?;
        for ifindex in old.ifaces.keys().filter(|index| !world.ifaces.contains_key(index)) {
            self.ifaces.set(ifindex % IFACE_SLOTS, Wire(Iface::default()), 0)?;
        }
        for (ifindex, iface) in &world.ifaces {
            // As the agent writes both.
            let iface = Iface {
                abi_version: world.settings.abi_version,
                ..*iface
            };
            self.ifaces.set(ifindex % IFACE_SLOTS, Wire(iface), 0)?;
        }
        for ifindex in old.tx_ports.difference(&world.tx_ports) {
            // Refused when the kernel was first: it takes the entry out when its interface goes away.
            let _ = self.tx_ports.remove(*ifindex);
        }
        for ifindex in world.tx_ports.difference(&old.tx_ports) {
            self.tx_ports.insert(*ifindex, *ifindex, None, 0)?;
        }
        for block in old.ours.keys().filter(|block| !world.ours.contains_key(block)) {
            self.ours.set(*block, Wire(OursBlock::default()), 0)?;
        }
        for (block, bits) in &world.ours {
            if old.ours.get(block) != Some(bits) {
                self.ours.set(*block, Wire(OursBlock { bits: *bits }), 0)?;
            }
        }
        for key in old.endpoints.keys().filter(|key| !world.endpoints.contains_key(key)) {
            self.endpoints.remove(&Wire(*key))?;
        }
        for (key, endpoint) in &world.endpoints {
            self.endpoints.insert(Wire(*key), Wire(*endpoint), 0)?;
        }
        for address in old.addrs.keys().filter(|address| !world.addrs.contains_key(*address)) {
            self.addrs.remove(&Wire(AddrKey { address: *address }))?;
        }
        for (address, roles) in &world.addrs {
            self.addrs
                .insert(Wire(AddrKey { address: *address }), Wire(AddrRole { roles: *roles }), 0)?;
        }
        self.install_services(&old, world)
    }

    fn install_services(&mut self, old: &World, world: &World) -> Result<()> {
        for id in old.services.keys().chain(world.services.keys()) {
            let service = world.services.get(id).copied().unwrap_or_default();
            self.services.set(*id, Wire(service), 0)?;
        }
        for id in old.backends.keys().chain(world.backends.keys()) {
            let backend = world.backends.get(id).copied().unwrap_or_default();
            self.backends.set(*id, Wire(backend), 0)?;
        }
        for (slot, backend_id) in world.rings.iter().enumerate() {
            self.rings.set(
                slot as u32,
                Wire(RingSlot {
                    backend_id: *backend_id,
                }),
                0,
            )?;
        }
        let addresses = (0_u32..)
            .zip(&world.snat4)
            .chain((MAX_SNAT_ADDRESSES..).zip(&world.snat6));
        for (index, address) in addresses {
            self.snat.set(
                index,
                Wire(SnatAddr {
                    address: mapped(*address),
                }),
                0,
            )?;
        }
        Ok(())
    }

    /// Deletes every flow and empties the sweep queues and all counters.
    pub fn clear(&mut self) -> Result<()> {
        clear(&mut self.flows4)?;
        clear(&mut self.flows6)?;
        clear(&mut self.half4)?;
        clear(&mut self.half6)?;
        while self.sweep4.pop(0).is_ok() {}
        while self.sweep6.pop(0).is_ok() {}
        let cpus = aya::util::nr_cpus().map_err(|(what, error)| anyhow::anyhow!("{what}: {error}"))?;
        let zero = PerCpuValues::try_from(vec![Wire(CpuState::default()); cpus])?;
        self.cpu.set(0, zero, 0)?;
        for index in 0..self.reasons.len() {
            let used = self.reasons.get(&index, 0)?.iter().any(|cpu| cpu.0.packets != 0);
            if used {
                let zero = PerCpuValues::try_from(vec![Wire(ReasonStats::default()); cpus])?;
                self.reasons.set(index, zero, 0)?;
            }
        }
        for id in self.installed.backends.keys() {
            let zero = PerCpuValues::try_from(vec![Wire(BackendStats::default()); cpus])?;
            self.backend_stats.set(*id, zero, 0)?;
        }
        Ok(())
    }

    /// [`wear`]s the tables of connections: so many entries in each of the established and of the half-open ones.
    pub fn wear(&mut self, established: u32, half_open: u32) -> Result<()> {
        for (map, entries) in [(&mut self.flows4, established), (&mut self.half4, half_open)] {
            wear(
                map,
                entries,
                |words: [u64; 2]| Wire(bytemuck::cast(words)),
                Wire(FlowValue4::default()),
            )?;
        }
        for (map, entries) in [(&mut self.flows6, established), (&mut self.half6, half_open)] {
            wear(
                map,
                entries,
                |words: [u64; 5]| Wire(bytemuck::cast(words)),
                Wire(FlowValue6::default()),
            )?;
        }
        Ok(())
    }

    /// Deletes one half-open entry.
    pub fn remove_half_open(&mut self, key: &Key) -> Result<()> {
        if let Some(key) = key.to_v4() {
            self.half4.remove(&Wire(key))?;
        }
        if let Some(key) = key.to_v6() {
            self.half6.remove(&Wire(key))?;
        }
        Ok(())
    }

    /// Writes an established `REPLY` entry that belongs to no connection.
    pub fn plant_established(&mut self, key: &Key) -> Result<()> {
        let (conn_id, direction) = (u64::MAX, lb_common::abi::direction::REPLY);
        if let Some(key) = key.to_v4() {
            let key_tag = key_tag::<2>(bytemuck::cast(key));
            let value = FlowValue4 {
                conn_id,
                direction,
                key_tag,
                ..FlowValue4::default()
            };
            self.flows4.insert(Wire(key), Wire(value), 0)?;
        }
        if let Some(key) = key.to_v6() {
            let key_tag = key_tag::<5>(bytemuck::cast(key));
            let value = FlowValue6 {
                conn_id,
                direction,
                key_tag,
                ..FlowValue6::default()
            };
            self.flows6.insert(Wire(key), Wire(value), 0)?;
        }
        Ok(())
    }

    /// Every flow entry.
    pub fn entries(&self) -> Result<Vec<(Side, Key, Entry)>> {
        let mut all = Vec::new();
        for (side, map) in [(Side::Established, &self.flows4), (Side::HalfOpen, &self.half4)] {
            for item in map {
                let (key, value) = item.context("walk an IPv4 flow table")?;
                all.push((side, key!(key.0, Ipv4Addr), Entry::from(value.0)));
            }
        }
        for (side, map) in [(Side::Established, &self.flows6), (Side::HalfOpen, &self.half6)] {
            for item in map {
                let (key, value) = item.context("walk an IPv6 flow table")?;
                all.push((side, key!(key.0, Ipv6Addr), Entry::from(value.0)));
            }
        }
        Ok(all)
    }

    /// Keys of the half-open entries that `is_wanted` takes.
    pub fn half_open_keys(&self, is_wanted: impl Fn(&Key, &Entry) -> bool) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        for item in &self.half4 {
            let (key, value) = item.context("walk xlb_half4")?;
            let key = key!(key.0, Ipv4Addr);
            keys.extend(is_wanted(&key, &Entry::from(value.0)).then_some(key));
        }
        for item in &self.half6 {
            let (key, value) = item.context("walk xlb_half6")?;
            let key = key!(key.0, Ipv6Addr);
            keys.extend(is_wanted(&key, &Entry::from(value.0)).then_some(key));
        }
        Ok(keys)
    }

    /// Makes every entry and the bucket of resets older by so many ticks, which is what waiting that long would do.
    pub fn age(&mut self, ticks: u32) -> Result<()> {
        macro_rules! age_map {
            ($map:expr) => {
                for key in $map.keys().collect::<Result<Vec<_>, MapError>>()? {
                    // Looked up and written back: nothing else runs meanwhile.
                    let Ok(mut value) = $map.get(&key, 0) else {
                        continue;
                    };
                    value.0.last_seen = value.0.last_seen.wrapping_sub(ticks);
                    value.0.created = value.0.created.wrapping_sub(ticks);
                    $map.insert(key, value, 0)?;
                }
            };
        }
        age_map!(self.flows4);
        age_map!(self.flows6);
        age_map!(self.half4);
        age_map!(self.half6);
        let cpus = self.cpu.get(&0, 0)?;
        let cpus = cpus.iter().map(|cpu| {
            let rst_filled_at = cpu.0.rst_filled_at.wrapping_sub(ticks);
            Wire(CpuState { rst_filled_at, ..cpu.0 })
        });
        self.cpu.set(0, PerCpuValues::try_from(cpus.collect::<Vec<_>>())?, 0)?;
        Ok(())
    }
}

/// Takes a map out of an object.
pub(crate) fn typed<M: TryFrom<Map, Error = MapError>>(bpf: &mut Ebpf, name: &str) -> Result<M> {
    let map = bpf
        .take_map(name)
        .with_context(|| format!("map {name} is not in the object"))?;
    M::try_from(map).with_context(|| format!("map {name} has another type or size than lb-common says"))
}

/// Fills an empty table of this many entries and empties it again, in the order of its buckets: what it gives out next
/// lies anywhere in it, as in a table that has been in use for a while. A new one gives out neighbours.
pub(crate) fn wear<K: aya::Pod, V: aya::Pod, const WORDS: usize>(
    map: &mut HashMap<MapData, K, V>,
    entries: u32,
    key: impl Fn([u64; WORDS]) -> K,
    value: V,
) -> Result<()> {
    for number in 0..u64::from(entries) {
        map.insert(key([number; WORDS]), value, 0)?;
    }
    clear(map)
}

/// Deletes every entry.
pub(crate) fn clear<K: aya::Pod, V: aya::Pod>(map: &mut HashMap<MapData, K, V>) -> Result<()> {
    for key in map.keys().collect::<Result<Vec<_>, MapError>>()? {
        match map.remove(&key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
