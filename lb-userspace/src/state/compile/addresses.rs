//! VIPs, SNAT addresses and settings.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use lb_common::abi::{ABI_VERSION, AddrKey, Settings, SnatAddr, role};
use lb_common::limits::MAX_SNAT_ADDRESSES;
use lb_common::net::{Addr, unmap_v4};

use crate::config::Mode;
use crate::state::image::Image;

use super::interfaces::configured;
use super::{Inputs, mapped};

/// Longest lifetime in ticks: differences of 32-bit ticks are read as signed.
const MAX_TICKS: u128 = (u32::MAX / 2) as u128;

pub(super) fn compile(inputs: &Inputs<'_>, previous: &Image, image: &mut Image) {
    let snat = snat_addresses(inputs, previous);
    let of_family = |v4: bool| snat.iter().filter(move |address| unmap_v4(address).is_some() == v4);
    for (v4, first) in [(true, 0), (false, MAX_SNAT_ADDRESSES)] {
        for (index, address) in (first..first + MAX_SNAT_ADDRESSES).zip(of_family(v4)) {
            image.snat.insert(index, SnatAddr { address: *address });
            image.addrs.entry(AddrKey { address: *address }).or_default().roles |= role::SNAT;
        }
    }
    for vip in inputs.config.services.iter().flat_map(|service| &service.vips) {
        let address = mapped(*vip);
        image.addrs.entry(AddrKey { address }).or_default().roles |= role::VIP;
    }
    if inputs
        .config
        .services
        .iter()
        .any(|service| service.mode == Mode::Gateway)
    {
        for address in own_nets(inputs, Ipv::Four).iter().chain(&own_nets(inputs, Ipv::Six)) {
            let address = mapped(address.addr());
            image.addrs.entry(AddrKey { address }).or_default().roles |= role::LOCAL;
        }
    }
    let count = |v4: bool| of_family(v4).count().min(MAX_SNAT_ADDRESSES as usize) as u32;
    image.settings = settings(inputs, [count(true), count(false)]);
}

fn settings(inputs: &Inputs<'_>, [snat4_count, snat6_count]: [u32; 2]) -> Settings {
    let (agent, timeouts) = (&inputs.config.agent, &inputs.config.timeouts);
    let ticks = |lifetime| ticks(lifetime, inputs.hz);
    Settings {
        abi_version: ABI_VERSION,
        hash_seed: agent.hash_seed,
        snat4_count,
        snat6_count,
        snat_port_min: agent.snat_ports.min,
        snat_port_max: agent.snat_ports.max,
        half_open_ticks: ticks(timeouts.half_open),
        established_ticks: ticks(timeouts.established),
        closing_ticks: ticks(timeouts.closing),
        udp_ticks: ticks(timeouts.udp),
        udp_answered_ticks: ticks(timeouts.udp_answered),
        rst_per_second: agent.rst_per_second,
        reserved: 0,
    }
}

/// Kernel ticks of a lifetime, rounded up: never shorter than asked for.
fn ticks(lifetime: Duration, hz: u32) -> u32 {
    let ticks = (lifetime.as_millis() * u128::from(hz)).div_ceil(1_000);
    ticks.clamp(1, MAX_TICKS) as u32
}

/// The configured SNAT addresses, or the interfaces' own.
fn snat_addresses(inputs: &Inputs<'_>, previous: &Image) -> Vec<Addr> {
    let configured = &inputs.config.agent.snat_addresses;
    if !configured.is_empty() {
        return configured.iter().map(|address| mapped(*address)).collect();
    }
    if inputs.links.by_name.is_empty() {
        // Nothing is known of the network yet.
        return previous.snat.values().map(|snat| snat.address).collect();
    }
    let mut chosen = own_addresses(inputs, Ipv::Four);
    chosen.extend(own_addresses(inputs, Ipv::Six));
    chosen.into_iter().map(mapped).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ipv {
    Four,
    Six,
}

/// The interfaces' own addresses of one family that backends can answer to, best kind only:
///
/// 1. in the subnet of a backend: its answer comes straight back;
/// 2. any other address with a subnet;
/// 3. host addresses (/32, /128): some clouds give nothing else, but on other nodes these are VIPs of the past.
///
/// VIPs are taken only in the first two kinds and as a last resort: a host address that is a VIP may be announced by
/// other nodes, too, and answers would go there.
fn own_addresses(inputs: &Inputs<'_>, ipv: Ipv) -> Vec<IpAddr> {
    let config = inputs.config;
    let is_vip = |address: IpAddr| config.services.iter().any(|service| service.vips.contains(&address));
    let backends: Vec<IpAddr> = config
        .services
        .iter()
        .flat_map(|service| &service.backends)
        .map(|backend| backend.address)
        .filter(|address| address.is_ipv4() == (ipv == Ipv::Four))
        .collect();
    let own = own_nets(inputs, ipv);
    let is_host = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
    let near = |net: &IpNet| !is_host(net) && backends.iter().any(|backend| net.contains(backend));
    let kinds: [&dyn Fn(&IpNet) -> bool; 4] = [
        &|net| near(net) && !is_vip(net.addr()),
        &|net| !is_host(net) && !is_vip(net.addr()),
        &|net| is_host(net) && !is_vip(net.addr()),
        &|net| !is_host(net) && !serves_in_snat_ports(inputs, net.addr()),
    ];
    let of_kind = |kind: &&dyn Fn(&IpNet) -> bool| -> Vec<IpAddr> {
        own.iter().filter(|net| kind(net)).map(IpNet::addr).collect()
    };
    kinds
        .iter()
        .map(of_kind)
        .find(|chosen| !chosen.is_empty())
        .unwrap_or_default()
}

fn own_nets(inputs: &Inputs<'_>, ipv: Ipv) -> Vec<IpNet> {
    let mut own: Vec<IpNet> = Vec::new();
    for link in configured(inputs) {
        let addresses = inputs
            .links
            .addresses
            .iter()
            .filter(|(ifindex, _)| *ifindex == link.ifindex);
        for (_, net) in addresses {
            let of_family = net.addr().is_ipv4() == (ipv == Ipv::Four);
            if of_family && is_global(net.addr()) && own.iter().all(|other| other.addr() != net.addr()) {
                own.push(*net);
            }
        }
    }
    own
}

fn is_global(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(link_local || address.is_loopback() || address.is_multicast() || address.is_unspecified())
}

/// Whether a service port of this VIP lies among the SNAT ports: replies and requests could not be told apart.
fn serves_in_snat_ports(inputs: &Inputs<'_>, vip: IpAddr) -> bool {
    let of_vip = inputs
        .config
        .services
        .iter()
        .filter(|service| service.vips.contains(&vip));
    of_vip
        .into_iter()
        .any(|service| inputs.config.agent.snat_ports.contains(service.port))
}
