//! A configuration as the maps hold it, made from a description of services. What the kernel is filled with and what
//! the model reads is this one value.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::abi::{
    ABI_VERSION, Backend, Endpoint, EndpointKey, Iface, Service, Settings, backend_state, endpoint_kind, hop_flag,
    mode, role,
};
use lb_common::hash::{OursBit, OursSide, ours, ours_address, word4, word6};
use lb_common::net::{Addr, Mac, map_v4};

/// Kernel ticks per second the tests load the program with.
pub const HZ: u32 = 250;

/// Everything the program reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// `xlb_settings`.
    pub settings: Settings,
    /// `xlb_ifaces`, by ifindex.
    pub ifaces: BTreeMap<u32, Iface>,
    /// `xlb_tx_ports`.
    pub tx_ports: BTreeSet<u32>,
    /// `xlb_ours`: non-zero blocks.
    pub ours: BTreeMap<u32, u64>,
    /// `xlb_endpoints`.
    pub endpoints: BTreeMap<EndpointKey, Endpoint>,
    /// `xlb_addrs`: [`role`] bits.
    pub addrs: BTreeMap<Addr, u32>,
    /// `xlb_services`, ids from 1.
    pub services: BTreeMap<u32, Service>,
    /// `xlb_backends`, ids from 1.
    pub backends: BTreeMap<u32, Backend>,
    /// `xlb_rings` from slot 0.
    pub rings: Vec<u32>,
    /// IPv4 SNAT addresses.
    pub snat4: Vec<IpAddr>,
    /// IPv6 SNAT addresses.
    pub snat6: Vec<IpAddr>,
}

/// A service to add.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Virtual addresses.
    pub vips: Vec<IpAddr>,
    /// Port clients dial.
    pub service_port: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// One of [`mode`].
    pub mode: u8,
    /// One of [`lb_common::abi::on_miss`].
    pub on_miss: u8,
    /// Its backends.
    pub backends: Vec<BackendSpec>,
}

/// A backend of a service to add.
#[derive(Clone, Copy, Debug)]
pub struct BackendSpec {
    /// Its address.
    pub address: IpAddr,
    /// Port it listens on.
    pub internal_port: u16,
    /// One of [`backend_state`].
    pub state: u8,
    /// [`hop_flag`] bits.
    pub hop_flags: u8,
    /// Interface towards it.
    pub hop_ifindex: u32,
}

impl BackendSpec {
    /// An active backend with a known next hop on the given interface, reached by redirect.
    #[must_use]
    pub fn active(address: IpAddr, internal_port: u16, hop_ifindex: u32) -> Self {
        Self {
            address,
            internal_port,
            state: backend_state::ACTIVE,
            hop_flags: hop_flag::VALID,
            hop_ifindex,
        }
    }
}

impl World {
    /// An empty configuration with this ABI, lifetimes as by default and no SNAT range.
    #[must_use]
    pub fn new() -> Self {
        use lb_common::limits as l;
        let settings = Settings {
            abi_version: ABI_VERSION,
            hash_seed: 0,
            snat_port_min: l::DEFAULT_SNAT_PORT_MIN,
            snat_port_max: l::DEFAULT_SNAT_PORT_MAX,
            half_open_ticks: l::DEFAULT_HALF_OPEN_S * HZ,
            established_ticks: l::DEFAULT_ESTABLISHED_S * HZ,
            closing_ticks: l::DEFAULT_CLOSING_S * HZ,
            udp_ticks: l::DEFAULT_UDP_S * HZ,
            udp_answered_ticks: l::DEFAULT_UDP_ANSWERED_S * HZ,
            rst_per_second: 1_000_000,
            ..Settings::default()
        };
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Adds an attached interface that packets may also be redirected to.
    pub fn add_iface(&mut self, ifindex: u32, flags: u16) {
        self.ifaces.insert(
            ifindex,
            Iface {
                ifindex,
                mac: iface_mac(ifindex),
                flags,
                abi_version: self.settings.abi_version,
            },
        );
        self.tx_ports.insert(ifindex);
    }

    /// Adds a SNAT address; call after the port range in `settings` is final.
    pub fn add_snat(&mut self, address: IpAddr) {
        let list = if address.is_ipv4() {
            &mut self.snat4
        } else {
            &mut self.snat6
        };
        list.push(address);
        self.settings.snat4_count = self.snat4.len() as u32;
        self.settings.snat6_count = self.snat6.len() as u32;
        *self.addrs.entry(mapped(address)).or_default() |= role::SNAT;
        self.set_ours(ours_address(word(address)));
        for port in self.settings.snat_port_min..=self.settings.snat_port_max {
            self.set_ours(ours(OursSide::Destination, word(address), port));
        }
    }

    /// Adds a service with a ring that gives its active backends of each family equal shares. Returns its id.
    pub fn add_service(&mut self, spec: &ServiceSpec) -> u32 {
        let service_id = self.services.len() as u32 + 1;
        let mut by_family = [Vec::new(), Vec::new()];
        for backend in &spec.backends {
            let id = self.add_backend(service_id, backend);
            if backend.state == backend_state::ACTIVE {
                by_family[usize::from(backend.address.is_ipv6())].push(id);
            }
            if spec.mode == mode::GATEWAY {
                self.set_ours(ours(OursSide::Source, word(backend.address), backend.internal_port));
                let key = endpoint_key(backend.address, backend.internal_port, spec.protocol);
                let kind = endpoint_kind::GATEWAY_BACKEND;
                self.endpoints.entry(key).or_insert(Endpoint { service_id, kind });
            }
        }
        let [(ring4_offset, ring4_size), (ring6_offset, ring6_size)] = by_family.map(|ids| self.add_ring(&ids));
        let service = Service {
            ring4_offset,
            ring4_size,
            ring6_offset,
            ring6_size,
            service_port: spec.service_port,
            protocol: spec.protocol,
            mode: spec.mode,
            on_miss: spec.on_miss,
            generation: 1,
            ..Service::default()
        };
        self.services.insert(service_id, service);
        for vip in &spec.vips {
            *self.addrs.entry(mapped(*vip)).or_default() |= role::VIP;
            self.set_ours(ours_address(word(*vip)));
            self.set_ours(ours(OursSide::Destination, word(*vip), spec.service_port));
            let kind = endpoint_kind::SERVICE;
            let key = endpoint_key(*vip, spec.service_port, spec.protocol);
            self.endpoints.insert(key, Endpoint { service_id, kind });
        }
        service_id
    }

    /// SNAT addresses of a family.
    #[must_use]
    pub fn snat(&self, like: IpAddr) -> &[IpAddr] {
        if like.is_ipv4() { &self.snat4 } else { &self.snat6 }
    }

    fn add_backend(&mut self, service_id: u32, spec: &BackendSpec) -> u32 {
        let id = self.backends.len() as u32 + 1;
        let backend = Backend {
            address: mapped(spec.address),
            hop_dst_mac: [6, 0xbe, 0, 0, (id >> 8) as u8, id as u8],
            hop_src_mac: iface_mac(spec.hop_ifindex),
            hop_ifindex: spec.hop_ifindex,
            service_id,
            internal_port: spec.internal_port,
            state: spec.state,
            hop_flags: spec.hop_flags,
            weight: 100,
            ..Backend::default()
        };
        self.backends.insert(id, backend);
        id
    }

    /// Offset and size of a ring of these backends in turn; the size is a power of two, at least twice their number.
    fn add_ring(&mut self, ids: &[u32]) -> (u32, u32) {
        if ids.is_empty() {
            return (0, 0);
        }
        let (offset, size) = (self.rings.len(), (ids.len() * 2).next_power_of_two());
        self.rings.extend(ids.iter().copied().cycle().take(size));
        (offset as u32, size as u32)
    }

    fn set_ours(&mut self, bit: OursBit) {
        *self.ours.entry(bit.block).or_default() |= bit.mask();
    }
}

/// MAC the tests give an interface of ours.
#[must_use]
pub fn iface_mac(ifindex: u32) -> Mac {
    [2, 0x1b, 0, 0, (ifindex >> 8) as u8, ifindex as u8]
}

/// The mapped form in which maps hold an address.
#[must_use]
pub fn mapped(address: IpAddr) -> Addr {
    match address {
        IpAddr::V4(v4) => map_v4(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The word the shared hashes take.
#[must_use]
pub fn word(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => word4(v4.octets()),
        IpAddr::V6(v6) => word6(v6.octets()),
    }
}

/// Key of `xlb_endpoints`.
#[must_use]
pub fn endpoint_key(address: IpAddr, port: u16, protocol: u8) -> EndpointKey {
    EndpointKey {
        address: mapped(address),
        port,
        protocol,
        reserved: 0,
    }
}
