//! Reads the host facts that a config is checked against. Needs no privilege; what cannot be read is left out.

use std::fs;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nameindex;

use crate::config::{HostFacts, Listener, Protocol, host};

/// The kernel's sysctls show the network namespace of whoever reads them.
const SYSCTLS: &str = "/proc/sys/net/ipv4";
/// Sockets of this process's namespace.
const SOCKETS: &str = "/proc/self/net";

/// What can be known of this process's network namespace.
pub(crate) fn facts() -> HostFacts {
    let sysctl = |name: &str| fs::read_to_string(format!("{SYSCTLS}/{name}")).ok();
    HostFacts {
        ephemeral: sysctl("ip_local_port_range").and_then(|text| host::ephemeral(&text)),
        reserved: sysctl("ip_local_reserved_ports").and_then(|text| host::reserved(&text)),
        listeners: listeners(),
        interfaces: interfaces(),
        addresses: addresses(),
    }
}

/// `None` where not one of the lists can be read; a kernel without IPv6 lacks half of them.
fn listeners() -> Option<Vec<Listener>> {
    let lists = [
        (Protocol::Tcp, "tcp"),
        (Protocol::Tcp, "tcp6"),
        (Protocol::Udp, "udp"),
        (Protocol::Udp, "udp6"),
    ];
    let read = lists.map(|(protocol, name)| {
        let text = fs::read_to_string(format!("{SOCKETS}/{name}")).ok()?;
        Some(host::listeners(protocol, &text))
    });
    let mut read = read.into_iter().flatten().peekable();
    read.peek()?;
    Some(read.flatten().collect())
}

fn interfaces() -> Option<Vec<String>> {
    let all = if_nameindex().ok()?;
    Some(
        all.iter()
            .map(|one| one.name().to_string_lossy().into_owned())
            .collect(),
    )
}

fn addresses() -> Option<Vec<(String, IpAddr)>> {
    let all = getifaddrs().ok()?.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        let v6 = || address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip()));
        Some((one.interface_name, v4.or_else(v6)?))
    });
    Some(all.collect())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_listener_of_this_process_is_among_the_facts_and_a_closed_one_is_not() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
        let udp = UdpSocket::bind("[::1]:0")
            .or_else(|_| UdpSocket::bind("127.0.0.1:0"))
            .expect("bind");
        let at = [
            (Protocol::Tcp, tcp.local_addr().expect("an address")),
            (Protocol::Udp, udp.local_addr().expect("an address")),
        ];
        let wanted = at.map(|(protocol, at)| Listener { protocol, at });
        let before = facts();
        let listeners = before.listeners.expect("readable");
        assert!(
            wanted.iter().all(|one| listeners.contains(one)),
            "{wanted:?} {listeners:?}"
        );
        drop((tcp, udp));
        let listeners = facts().listeners.expect("readable");
        assert!(
            !wanted.iter().any(|one| listeners.contains(one)),
            "{wanted:?} {listeners:?}"
        );
        assert!(before.ephemeral.is_some() && before.reserved.is_some());
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert!(
            before
                .addresses
                .expect("addresses")
                .iter()
                .any(|(_, address)| *address == loopback)
        );
    }
}
